"""The budget as it is read: arithmetic, selectors, coverage, and what the eviction API says."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import ApiException

from fixtures.api.pods import Pod
from fixtures.api.requests import RetryPolicy
from fixtures.disruption.eviction import Decision, decided, evict
from fixtures.objects.manifest import Field, Manifest
from fixtures.outcomes import NoVerdictError
from fixtures.platform.disruption_budget import (
    Budget,
    BudgetCoverage,
    DeadlockedBudgetError,
    allows_eviction,
    budget_of,
    coverage,
    selects,
)
from tests.unit.apiserver import Answer
from tests.unit.fakecluster import BACKSTAGE, PODS, FakeCluster, refused_by_budget, status
from tests.unit.fakeserver import served

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
    """A budget with some figures of its own."""
    metadata = {**LIVE["metadata"], "name": name}
    spec = {"selector": {"matchLabels": BACKSTAGE if labels is None else labels}}
    return budget_of(Field({"metadata": metadata, "spec": spec, "status": {**LIVE["status"], **status}}))


def pod(name: str, labels: Json, **metadata: object) -> Pod:
    """A pod."""
    return Pod(Field({"metadata": {"name": name, "namespace": "portal", "uid": name, "labels": labels, **metadata}}))


def test_budget_tells_its_arithmetic() -> None:
    """What is there, what must stay, what may go."""
    assert str(budget()) == "portal/backstage: 2 healthy of 2, 1 must stay: 1 may be evicted"
    assert allows_eviction(budget())


def test_budget_with_a_pod_missing_is_waited_for() -> None:
    """It will allow one again."""
    assert not allows_eviction(budget(currentHealthy=1, disruptionsAllowed=0))


def test_budget_that_can_never_allow_one_is_not_waited_for() -> None:
    """The arithmetic is the message."""
    with pytest.raises(DeadlockedBudgetError) as failed:
        allows_eviction(budget(desiredHealthy=2, disruptionsAllowed=0))

    assert str(failed.value) == (
        "expected: a PodDisruptionBudget that lets maintenance take one pod\n"
        "seen: portal/backstage: 2 healthy of 2, 2 must stay: 0 may be evicted\n"
        "look next: kubectl -n portal describe pdb backstage"
    )


def test_status_of_an_earlier_spec_says_nothing() -> None:
    """Its controller has not computed yet; or could not."""
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
    """All operators; an empty one selects everything, an absent one nothing."""
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
    """A pod on its way out, and one of others, are not to be covered."""
    backstage = (pod("a", BACKSTAGE), pod("b", BACKSTAGE))
    there = (*backstage, pod("stranger", {"app": "x"}), pod("old", BACKSTAGE, deletionTimestamp="2026-01-01T00:00:00Z"))
    found = coverage(Manifest(LIVE), budgets, there, backstage)

    assert str(found) == seen
    assert found.exact is (not seen)
    assert isinstance(found, BudgetCoverage)


@pytest.mark.parametrize(
    ("answer", "decision", "message"),
    [
        (None, "evicted", ""),
        (
            refused_by_budget(),
            "refused by budget",
            "The disruption budget backstage needs 1 healthy pods and has 1 currently",
        ),
        (status(429, "TooManyRequests", "slow down"), "undecided", "429 Too Many Requests"),
        (Answer(429, "<html>a proxy's page</html>"), "undecided", "429 Too Many Requests"),
        (status(404, "NotFound"), "gone", ""),
        (status(403, "Forbidden", "managed namespace"), "forbidden", "managed namespace"),
        (status(409, "Conflict", "the object has been modified"), "undecided", "the object has been modified"),
        (status(504, "Timeout"), "undecided", "504 Gateway Timeout"),
        (
            status(500, "InternalError", "This pod has more than one PodDisruptionBudget, which"),
            "impossible",
            "This pod has more than one PodDisruptionBudget, which",
        ),
    ],
)
def test_answer_to_an_eviction_is_told_apart(answer: Answer | None, decision: Decision, message: str) -> None:
    """Above all the two kinds of 429."""
    cluster = FakeCluster(ends_after=1000, ready_after=1000)
    with served(cluster) as server:
        cluster.script = lambda _: answer
        found = evict(pod("backstage-a", BACKSTAGE, uid="uid-1"), server.api())

    assert (found.decision, found.message) == (decision, message)


def test_dry_run_decides_and_does_nothing() -> None:
    """The pod is asked for by its uid."""
    cluster = FakeCluster()
    with served(cluster) as server:
        found = evict(pod("backstage-a", BACKSTAGE, uid="uid-1"), server.api(), dry_run=True)

    assert found.decision == "evicted"
    assert cluster.requests[0].path.endswith("/backstage-a/eviction?dryRun=All")
    assert cluster.requests[0].body["deleteOptions"] == {"preconditions": {"uid": "uid-1"}, "dryRun": ["All"]}
    assert not any("deletionTimestamp" in each["metadata"] for each in cluster.collections[PODS].values())


def test_throttling_is_waited_out_and_then_is_no_verdict() -> None:
    """It says nothing about the budget."""
    cluster = FakeCluster()
    cluster.script = lambda _: status(429, "TooManyRequests")
    with served(cluster) as server, pytest.raises(NoVerdictError) as failed:
        decided(pod("backstage-a", BACKSTAGE), server.api(RetryPolicy(within=0.05, every=0.01)))

    assert str(failed.value) == (
        "expected: a decision about the eviction of portal/backstage-a within 0.05 s\n"
        "seen: portal/backstage-a undecided: 429 Too Many Requests\n"
        "look next: kubectl get --raw=/readyz?verbose"
    )


def test_eviction_that_is_no_request_at_all_is_an_error() -> None:
    """Nobody else's answer is taken for a decision."""
    cluster = FakeCluster()
    cluster.script = lambda _: status(400, "BadRequest")
    with served(cluster) as server, pytest.raises(ApiException):
        evict(pod("backstage-a", BACKSTAGE), server.api())
