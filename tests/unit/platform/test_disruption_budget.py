"""The PodDisruptionBudget as it is read: arithmetic, selectors, coverage."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.api.pods import Pod
from fixtures.objects.manifest import Field, Manifest
from fixtures.platform.disruption_budget import (
    Budget,
    BudgetCoverage,
    DeadlockedBudgetError,
    allows_eviction,
    budget_of,
    coverage,
    selects,
)
from tests.unit.fakecluster import BACKSTAGE

Json = dict[str, Any]

LIVE: Json = {
    "metadata": {"name": "backstage", "namespace": "portal", "generation": 1},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": BACKSTAGE}},
    "status": {
        "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods"}],
        "currentHealthy": 2,
        "desiredHealthy": 1,
        "disruptionsAllowed": 1,
        "expectedPods": 2,
        "observedGeneration": 1,
    },
}


def budget(name: str = "backstage", labels: Json | None = None, **status: object) -> Budget:
    """A PodDisruptionBudget with the given status fields."""
    metadata = {**LIVE["metadata"], "name": name}
    spec = {"selector": {"matchLabels": BACKSTAGE if labels is None else labels}}
    return budget_of(Field({"metadata": metadata, "spec": spec, "status": {**LIVE["status"], **status}}))


def pod(name: str, labels: Json, **metadata: object) -> Pod:
    """A pod in namespace portal."""
    return Pod(Field({"metadata": {"name": name, "namespace": "portal", "uid": name, "labels": labels, **metadata}}))


def test_budget_tells_its_arithmetic() -> None:
    """The text shows healthy, expected and required pods, and how many may be evicted."""
    assert str(budget()) == "portal/backstage: 2 healthy of 2, 1 must stay: 1 may be evicted"
    assert allows_eviction(budget())


def test_budget_with_a_pod_missing_is_waited_for() -> None:
    """A budget that allows no eviction now but can later raises no error."""
    assert not allows_eviction(budget(currentHealthy=1, disruptionsAllowed=0))


def test_budget_that_can_never_allow_one_is_not_waited_for() -> None:
    """A budget that requires every pod raises an error that shows the arithmetic."""
    with pytest.raises(DeadlockedBudgetError) as failed:
        allows_eviction(budget(desiredHealthy=2, disruptionsAllowed=0))

    assert str(failed.value) == (
        "expected: a PodDisruptionBudget that lets maintenance take one pod\n"
        "seen: portal/backstage: 2 healthy of 2, 2 must stay: 0 may be evicted\n"
        "look next: kubectl -n portal describe pdb backstage"
    )


def test_status_of_an_earlier_spec_says_nothing() -> None:
    """A status of an earlier generation or of a failed sync allows no eviction, and raises no error."""
    behind = budget(observedGeneration=0, disruptionsAllowed=0)
    failed = budget(conditions=[{"type": "DisruptionAllowed", "reason": "SyncFailed"}], disruptionsAllowed=0)

    assert not allows_eviction(behind)
    assert str(behind).endswith("0 may be evicted; computed for generation 0 of 1")
    assert str(failed).endswith("0 may be evicted; SyncFailed")


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "backstage"}}, True),
        ({"matchLabels": {"app": "other"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["backstage", "x"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["backstage"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["a"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        (None, False),
    ],
)
def test_selector_selects_as_kubernetes_does(selector: Json | None, *, selected: bool) -> None:
    """All operators work; an empty selector selects everything, an absent one nothing."""
    assert selects(Field(selector), BACKSTAGE) is selected


@pytest.mark.parametrize(
    ("budgets", "seen"),
    [
        ((budget(),), ""),
        ((), "no such budget"),
        ((budget(labels={"app": "none"}),), "not over a, b"),
        ((budget(labels={}),), "also over stranger"),
        (
            (budget(), budget("second")),
            "besides it second, and with two the API refuses every eviction",
        ),
    ],
    ids=["exact", "none", "selector", "too wide", "two"],
)
def test_coverage_says_what_is_wrong(budgets: tuple[Budget, ...], seen: str) -> None:
    """The budget must cover exactly Backstage's pods; terminating pods do not count."""
    backstage = (pod("a", BACKSTAGE), pod("b", BACKSTAGE))
    pods = (*backstage, pod("stranger", {"app": "x"}), pod("old", BACKSTAGE, deletionTimestamp="2026-01-01T00:00:00Z"))
    found = coverage(Manifest(LIVE), budgets, pods, backstage)

    assert str(found) == seen
    assert found.exact is (not seen)
    assert isinstance(found, BudgetCoverage)
