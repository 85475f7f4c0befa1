"""The steady state: when pods are replaced, when they run elsewhere, and which budget blocks every eviction."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fixtures.api.pods import Pod
from fixtures.disruption.steady_state import Maintained, describe_pods, ready_elsewhere, replaced
from fixtures.environment.timeouts import Timeouts
from fixtures.platform.disruption_budget import DeadlockedBudgetError
from tests.unit.apiserver import as_json
from tests.unit.disruption.conftest import pod
from tests.unit.fakecluster import BUDGETS, FakeCluster
from tests.unit.fakeserver import Server
from tests.unit.patched import recorded_reference, with_patch

LEAVING: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("pods", "over"),
    [
        ((pod("a"), pod("b")), False),
        ((pod("a", **LEAVING), pod("b"), pod("c")), False),
        ((pod("b"), pod("c", ready=False)), False),
        ((pod("b"), pod("c")), True),
    ],
    ids=["not yet gone", "leaving", "not Ready", "replaced"],
)
def test_pod_is_replaced_when_it_is_no_more_and_another_is_ready(pods: tuple[Pod, ...], *, over: bool) -> None:
    """The old pod must be gone and its replacement Ready."""
    assert replaced((pod("a"),), 2, pods) is over


@pytest.mark.parametrize(
    ("pods", "over"),
    [
        ((pod("a", "node-2"), pod("b")), False),
        ((pod("a", "node-2"), pod("b", "node-3", ready=False)), False),
        ((pod("a", "node-2"), pod("b", "node-3"), pod("c", **LEAVING)), False),
        ((pod("a", "node-2"), pod("b", "node-3")), True),
    ],
)
def test_pods_stand_elsewhere_when_none_is_left_and_enough_are_ready(pods: tuple[Pod, ...], *, over: bool) -> None:
    """Any node but the drained one counts."""
    assert ready_elsewhere("node-1", 2, pods) is over


def test_pod_without_a_place_says_why() -> None:
    """The message is the scheduler's own."""
    pods = (pod("a"), pod("b", "", ready=False, message="0/3 nodes are available"), pod("c", "", ready=False))

    assert describe_pods(pods) == (
        "a (Ready) on node-1, b (not Ready) on no node: 0/3 nodes are available, "
        "c (not Ready) on no node: not scheduled yet"
    )


def test_budget_that_can_never_allow_a_drain_ends_it_with_its_arithmetic(cluster: FakeCluster, server: Server) -> None:
    """The error is raised at once, after reads only."""
    [budget] = cluster.collections[BUDGETS].values()
    status = {**budget["status"], "desiredHealthy": 2, "disruptionsAllowed": 0}
    cluster.put(BUDGETS, {**budget, "status": status})
    kinds = {"resources": [{"name": "poddisruptionbudgets", "kind": "PodDisruptionBudget", "namespaced": True}]}
    cluster.script = lambda request: as_json(kinds) if request.path == "/apis/policy/v1" else None
    client = cast("Any", server.api())._client  # noqa: SLF001 - as an environment would make it
    reference = with_patch(recorded_reference(), "PodDisruptionBudget", "/metadata/namespace", "portal")
    deployment = Maintained(reference, client, Timeouts())

    with pytest.raises(DeadlockedBudgetError) as refused:
        deployment.budget()

    assert str(refused.value) == (
        "expected: a PodDisruptionBudget that lets maintenance take one pod\n"
        "seen: portal/backstage: 2 healthy of 2, 2 must stay: 0 may be evicted\n"
        "look next: kubectl -n portal describe pdb backstage"
    )
    assert cluster.requests
    assert cluster.changes() == []
