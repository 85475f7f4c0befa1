"""The alert rules: checked and unit-tested by promtool, and evaluated in the lab until the alert of silence fires."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.environment.loading import ROOT
from fixtures.report.pushed_metrics import push
from fixtures.report.verdict import CheckResult, Run, Verdict
from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl
from tests.operations.conftest import Query

ALERTS = ROOT / "manifests" / "operations" / "alerts"
SMOKE = ROOT / "manifests" / "operations" / "overlays" / "lab"
NAMESPACE = ("--namespace", "acceptance")
HERE = Path(__file__).parent
FIRING = 180.0
"""Seconds from the object to the alert: operator, evaluator, `for` of the overlay, some evaluations; 40 were seen."""


@pytest.fixture
def rules(kubectl: Kubectl, tmp_path: Path) -> Path:
    """The groups of the Rules objects as a rule file of Prometheus."""
    objects = yaml.safe_load_all(kubectl("kustomize", str(ALERTS)))
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [group for each in objects for group in each["spec"]["groups"]]}))
    return file


def promtool(facts: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    """Run promtool of the release that evaluates the rules; its stdout has both streams."""
    command = [facts["tools"]["promtool"], *words]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)


def test_rules_are_what_prometheus_understands(facts: dict[str, Any], rules: Path) -> None:
    """Promtool accepts all rules, and its linter finds nothing."""
    checked = promtool(facts, "check", "rules", "--lint-fatal", str(rules))

    assert checked.returncode == 0, checked.stdout
    assert "4 rules found" in checked.stdout


def test_rules_fire_when_they_should_and_not_before(facts: dict[str, Any], rules: Path) -> None:
    """Promtool's unit tests in `rules_test.yaml` pass: broken runs, no verdict, silence, expiring certificates."""
    cases = shutil.copy(HERE / "rules_test.yaml", rules.parent)

    tested = promtool(facts, "test", "rules", str(cases))

    assert tested.returncode == 0, tested.stdout


OVERLAY = """
resources: [{alerts}]
patches:
- target: {{kind: Rules, name: no-result}}
  patch: |
    - {{op: replace, path: /spec/groups/0/interval, value: 5s}}
    - {{op: replace, path: /spec/groups/0/rules/0/for, value: 5s}}
    - op: replace
      path: /spec/groups/0/rules/0/expr
      value: >-
        time() - max by (environment) (last_over_time(backstage_acceptance_last_run_timestamp_seconds[1h])) > 40
        or max by (environment)
        (absent_over_time(backstage_acceptance_last_run_timestamp_seconds{{environment="silence"}}[20m]))
"""
"""Patches that shorten the rule's intervals, for an environment `silence` that no other test pushes results of."""


@pytest.fixture
def in_force(kubectl: Kubectl, tmp_path: Path) -> Iterator[None]:
    """The shortened rules and the Pushgateway, applied; the smoke's CronJob is suspended."""
    alerts = os.path.relpath(ALERTS, tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(OVERLAY.format(alerts=alerts))
    try:
        kubectl("apply", "--server-side", f"--kustomize={SMOKE}")
        kubectl("rollout", "status", "deployment/acceptance-pushgateway", *NAMESPACE, "--timeout=120s")
        kubectl("apply", "--server-side", f"--kustomize={tmp_path}")
        yield
    finally:
        kubectl("delete", f"--kustomize={tmp_path}", "--ignore-not-found")
        kubectl("delete", f"--kustomize={SMOKE}", "--ignore-not-found")


@pytest.fixture
def pushgateway(kubectl: Kubectl, facts: dict[str, Any], in_force: None) -> Iterator[str]:  # noqa: ARG001 - it is there
    """URL of the Pushgateway on this machine, by a port-forward."""
    command = [facts["kubectl"], f"--kubeconfig={facts['kubeconfig']}", *NAMESPACE, "port-forward"]
    forward = [*command, "deployment/acceptance-pushgateway", ":9091"]
    with subprocess.Popen(forward, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://{process.stdout.readline().split()[2]}"
        finally:
            process.terminate()


def test_silence_is_told_where_there_was_never_a_result_and_where_no_more_come(
    kubectl: Kubectl, promql: Query, pushgateway: str
) -> None:
    """The alert fires without any result, resolves with one, and fires again when that is too old."""
    query = 'ALERTS{alertname="BackstageSmokeSilent", alertstate="firing", environment="silence"}'

    def wait_until(what: str, severities: list[str]) -> None:
        wait_for(
            f"BackstageSmokeSilent {what}",
            lambda: [series["severity"] for series, _ in promql(query)],
            until=severities.__eq__,
            within=FIRING,
            look_next="kubectl -n acceptance get rules no-result -o yaml; python -m lab logs rules",
        )

    assert kubectl.get("cronjob", "acceptance-smoke", *NAMESPACE)["spec"]["suspend"] is True
    wait_until("to fire where no result has ever come", ["page"])

    leave_result(pushgateway)
    wait_until("to end with a result", [])

    wait_until("to fire when no other result comes", ["page"])


def leave_result(pushgateway: str) -> None:
    """Push the metrics of a run that ends now."""
    now = datetime.now(UTC)
    kept = CheckResult("portal", "test_page", "There is a page.", "kept")
    push(Verdict(Run("silence", now, now), (kept,), frozenset()), pushgateway)
