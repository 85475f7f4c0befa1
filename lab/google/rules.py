"""Stand-in for Managed Prometheus' rule evaluator: gives what the operator generates to the central Prometheus.

The real operator turns `Rules`, `ClusterRules` and `GlobalRules` into rule files, scoped as on GKE, and keeps them in
a ConfigMap. Google's evaluator would ask Monarch; here Prometheus itself evaluates them. Nobody is notified: alerts are
the series ALERTS.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import kubernetes.client
import kubernetes.config
import requests
import urllib3
from kubernetes.client import ApiException

from lab import layout

log = logging.getLogger("rules")

NAMESPACE, CONFIG_MAP = "gmp-system", "rules-generated"
TURN = 2.0
"""Seconds between looks at the ConfigMap."""
ANSWER_SECONDS = 5.0


def generated() -> Mapping[str, str]:
    """File name to rules, as the operator wrote them last; none before it has."""
    try:
        found = kubernetes.client.CoreV1Api().read_namespaced_config_map(CONFIG_MAP, NAMESPACE)
    except ApiException as error:
        if error.status == requests.codes.not_found:
            return {}
        raise
    return found.data or {}


def write(rules: Mapping[str, str], directory: Path) -> bool:
    """Make the files of a directory be these; whether any of them changed."""
    there = {file.name: file.read_text() for file in directory.iterdir()}
    if there == rules:
        return False
    for gone in there.keys() - rules.keys():
        (directory / gone).unlink()
    for name, text in rules.items():
        (directory / name).write_text(text)
    return True


def reload(prometheus: str) -> None:
    """Have Prometheus read its files again; HTTPError with its complaint if it refuses them."""
    answer = requests.post(f"{prometheus}/-/reload", timeout=ANSWER_SECONDS)
    if not answer.ok:
        raise requests.HTTPError(answer.text)


def main() -> None:
    """Look again and again, whoever of the two does not answer; ends by any signal."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    kubernetes.config.load_kube_config()
    central = f"http://{layout.GOOGLE_ADDRESS}:{layout.PROMETHEUS_PORT}"
    stale = True
    while True:
        try:
            rules = generated()
            stale = write(rules, layout.RULES) or stale
            if stale:
                reload(central)
                log.info("evaluating %s", ", ".join(sorted(rules)) or "nothing")
                stale = False
        except (ApiException, urllib3.exceptions.HTTPError, requests.RequestException) as error:
            log.info("trying on: %s", error)
        time.sleep(TURN)


if __name__ == "__main__":
    main()
