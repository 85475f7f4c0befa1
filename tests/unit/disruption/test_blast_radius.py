"""The blast radius of a drain: how the plan describes it, and what makes planning fail."""

from __future__ import annotations

import pytest

from fixtures.disruption.blast_radius import BlastRadiusError, DrainPlan, Limits, plan_drain, smallest_plan
from fixtures.lease.holder import Holder
from tests.unit.disruption.conftest import LIMITS, pod, run
from tests.unit.fakecluster import FakeCluster, status
from tests.unit.fakeserver import Server


def test_only_own_pods_where_others_may_not_be_listed(cluster: FakeCluster, server: Server) -> None:
    """Without the right to list all pods, the plan names only its own namespace and says so."""
    cluster.script = lambda request: (
        status(403, "Forbidden") if request.path.startswith("/api/v1/pods") else None
    )  # fmt: skip

    drain = run(server.api(), Holder.here())

    assert str(drain.plan) == (
        "1 node, node-1; 1 pods to evict (only namespace portal: this identity may not list the others): "
        "portal/backstage-a; 3 s"
    )


def test_pod_without_an_owner_stops_the_plan(cluster: FakeCluster, server: Server) -> None:
    """No controller would replace it; nothing is changed."""
    cluster.pod("pet", "node-1", {}, owner="")

    with pytest.raises(BlastRadiusError) as refused:
        plan_drain("node-1", namespace="portal", api=server.api(), limits=LIMITS)

    assert str(refused.value) == (
        "expected: only pods on node-1 that something replaces\n"
        "seen: portal/pet without an owner\n"
        "look next: kubectl get pods -A -o wide --field-selector spec.nodeName=node-1"
    )
    assert cluster.changes() == []


def test_node_that_does_not_exist_stops_the_plan(server: Server) -> None:
    """The error is the usual one: expected, seen, look next."""
    with pytest.raises(BlastRadiusError) as refused:
        plan_drain("node-9", namespace="portal", api=server.api(), limits=LIMITS)

    assert str(refused.value) == (
        "expected: a node of the cluster\nseen: no node node-9\nlook next: kubectl get nodes"
    )  # fmt: skip


def test_pod_of_the_suite_itself_stops_the_plan(
    cluster: FakeCluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite would evict itself in the middle of the measurement."""
    monkeypatch.setattr("socket.gethostname", lambda: "suite")
    cluster.pod("suite", "node-1", {})

    with pytest.raises(BlastRadiusError) as refused:
        plan_drain("node-1", namespace="portal", api=server.api(), limits=LIMITS)

    assert str(refused.value) == (
        "expected: the suite to run elsewhere than on node-1\nseen: its own pod suite\n"
        "look next: kubectl get pods -A -o wide --field-selector spec.nodeName=node-1"
    )


def test_too_many_pods_stop_the_plan(cluster: FakeCluster, server: Server) -> None:
    """The error shows the limit and the number of pods."""
    cluster.pod("other", "node-1", {})

    with pytest.raises(BlastRadiusError) as refused:
        plan_drain("node-1", namespace="portal", api=server.api(), limits=Limits(seconds=3, pods=1))

    assert str(refused.value) == (
        "expected: at most 1 pods to evict from node-1\nseen: 2\n"
        "look next: kubectl get pods -A -o wide --field-selector spec.nodeName=node-1"
    )


def test_plan_says_what_will_happen(server: Server) -> None:
    """The plan names the node, the pods and the time limit."""
    plan: DrainPlan = plan_drain("node-1", namespace="portal", api=server.api(), limits=LIMITS)

    assert str(plan) == "1 node, node-1; 1 pods to evict: portal/backstage-a; 3 s"


def test_node_whose_drain_disturbs_the_fewest_pods_is_taken() -> None:
    """The plan with the smallest blast radius wins."""
    small = DrainPlan("node-2", "portal", (pod("a"),), (), 600)

    assert smallest_plan([DrainPlan("node-1", "portal", (pod("b"), pod("c")), (), 600), small]) == small
