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

import requests

from lab import layout
from lab.kubernetes_api import Api

log = logging.getLogger("rules")

CONFIG_MAP = "api/v1/namespaces/gmp-system/configmaps/rules-generated"
TURN = 2.0
"""Seconds between looks at the ConfigMap."""
ANSWER_SECONDS = 5.0


def generated(api: Api) -> Mapping[str, str]:
    """File name to rules, as the operator wrote them last; none before it has."""
    try:
        data: dict[str, str] = api.get(CONFIG_MAP).get("data", {})
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code == requests.codes.not_found:
            return {}
        raise
    return data


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
    api = Api.from_environment()
    central = f"http://{layout.GOOGLE_ADDRESS}:{layout.PROMETHEUS_PORT}"
    stale = True
    while True:
        try:
            rules = generated(api)
            stale = write(rules, layout.RULES) or stale
            if stale:
                reload(central)
                log.info("evaluating %s", ", ".join(sorted(rules)) or "nothing")
                stale = False
        except requests.RequestException as error:
            log.info("trying on: %s", error)
        time.sleep(TURN)


if __name__ == "__main__":
    main()
