"""Alert rules: a Rules object of Managed Prometheus is evaluated, and its alert becomes a series in PromQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, Manifest, PromQl, run

FIRING = 120.0
"""Seconds from the object to the alert, by way of operator, evaluator and two evaluations; 10 were seen."""


def rules(expression: str) -> Manifest:
    """A Rules object with one alert, which fires while the expression has a result."""
    alert = {"alert": "LabTest", "expr": expression, "labels": {"severity": "none"}}
    group = {"name": "test", "interval": "5s", "rules": [alert]}
    return {
        "apiVersion": "monitoring.googleapis.com/v1", "kind": "Rules", "metadata": {"name": "test"},
        "spec": {"groups": [group]},
    }  # fmt: skip


def firing(promql: PromQl, token: str, namespace: str) -> list[str]:
    """Severities of this test's alerts that fire in a namespace."""
    query = f'ALERTS{{alertname="LabTest", alertstate="firing", namespace="{namespace}"}}'
    return [series["metric"]["severity"] for series in promql.series(query, token=token)]


def test_alert_fires_and_goes_with_its_rules(
    kubectl: Kubectl, namespace: str, promql: PromQl, token: Callable[[str], str]
) -> None:
    """A rule whose expression holds fires with the labels of its namespace, until the object is deleted."""

    def read() -> list[str]:
        return firing(promql, token("observer"), namespace)

    kubectl.apply(rules("vector(1)"), namespace=namespace)
    wait_for("the alert to fire", read, until=["none"].__eq__, within=FIRING, look_next="python -m lab logs rules")

    kubectl("delete", "rules/test", "--namespace", namespace)
    wait_for("the alert to go", read, until=[].__eq__, within=FIRING, look_next="python -m lab logs rules")


def test_promtool_is_there(facts: dict[str, Any]) -> None:
    """Rules can be checked and unit-tested with the release of Prometheus that evaluates them."""
    assert "promtool, version" in run([facts["tools"]["promtool"], "--version"])
