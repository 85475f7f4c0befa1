"""The alert rules: understood and tested by Prometheus' own tool, and evaluated in the lab until silence is told."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, run_lab

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "manifests" / "operations" / "alerts"
HERE = Path(__file__).parent
FIRING = 180.0
"""Seconds from the object to the alert: operator, evaluator, `for` of the overlay, some evaluations; 40 were seen."""


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    """What `python -m lab facts` says."""
    values: dict[str, Any] = json.loads(run_lab("facts"))
    return values


@pytest.fixture(scope="module")
def kubectl(facts: dict[str, Any]) -> Kubectl:
    """Kubectl as the lab's administrator."""
    return Kubectl(facts["kubectl"], facts["kubeconfig"])


@pytest.fixture
def rules(kubectl: Kubectl, tmp_path: Path) -> Path:
    """The rules as a file of Prometheus."""
    objects = yaml.safe_load_all(kubectl("kustomize", str(ALERTS)))
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [group for each in objects for group in each["spec"]["groups"]]}))
    return file


def promtool(facts: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    """By the release of Prometheus that evaluates the rules; it complains in either stream."""
    command = [facts["tools"]["promtool"], *words]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)


def test_rules_are_what_prometheus_understands(facts: dict[str, Any], rules: Path) -> None:
    """Without anything that only works by luck."""
    checked = promtool(facts, "check", "rules", "--lint-fatal", str(rules))

    assert checked.returncode == 0, checked.stdout
    assert "4 rules found" in checked.stdout


def test_rules_fire_when_they_should_and_not_before(facts: dict[str, Any], rules: Path) -> None:
    """Two broken runs in a row, no verdict, silence of every kind, a certificate that ends: `rules_test.yaml`."""
    cases = shutil.copy(HERE / "rules_test.yaml", rules.parent)

    tested = promtool(facts, "test", "rules", str(cases))

    assert tested.returncode == 0, tested.stdout


OVERLAY = """
namespace: {namespace}
resources: [{alerts}]
patches:
- target: {{kind: Rules, name: no-result}}
  patch: |
    - {{op: replace, path: /spec/groups/0/interval, value: 5s}}
    - {{op: replace, path: /spec/groups/0/rules/0/for, value: 5s}}
    - op: replace
      path: /spec/groups/0/rules/0/expr
      value: >-
        time() - max by (environment) (last_over_time(backstage_acceptance_last_run_timestamp_seconds[1h])) > 1200
        or max by (environment)
        (absent_over_time(backstage_acceptance_last_run_timestamp_seconds{{environment="never-run"}}[20m]))
"""
"""The rules as a hurried user would set them, for an environment that no smoke watches."""


@pytest.fixture
def namespace(kubectl: Kubectl, tmp_path: Path) -> Iterator[str]:
    """A namespace with the rules in it and no smoke."""
    name = "test-alerts"
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    alerts = Path("../" * len(overlay.resolve().parts[1:])) / ALERTS.relative_to("/")
    (overlay / "kustomization.yaml").write_text(OVERLAY.format(namespace=name, alerts=alerts))
    kubectl("create", "namespace", name)
    try:
        kubectl("apply", "--server-side", "-k", str(overlay))
        yield name
    finally:
        kubectl("delete", "namespace", name)


def firing(facts: dict[str, Any], namespace: str) -> list[tuple[str, str]]:
    """Environment and severity of the alerts of silence that fire in a namespace, by Cloud Monitoring's API."""
    query = f'ALERTS{{alertname="BackstageSmokeSilent", alertstate="firing", namespace="{namespace}"}}'
    url = f"{facts['monitoring']['api']}/v1/projects/{facts['project']}/location/global/prometheus/api/v1/query"
    token = Path(facts["tokens"]["observer"]).read_text()
    answer = requests.post(url, data={"query": query}, headers={"Authorization": f"Bearer {token}"}, timeout=40)
    series = [each["metric"] for each in answer.json()["data"]["result"]]
    return [(each["environment"], each["severity"]) for each in series]


def test_smoke_that_never_ran_is_told(facts: dict[str, Any], namespace: str) -> None:
    """The metric is not there, and its absence fires, as the operator scopes the rule."""
    wait_for(
        "the alert BackstageSmokeSilent to fire",
        lambda: firing(facts, namespace),
        until=[("never-run", "page")].__eq__,
        within=FIRING,
        look_next="kubectl -n test-alerts get rules -o yaml; python -m lab logs rules",
    )
