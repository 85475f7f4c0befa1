"""What is made of a drill, and what stops one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtures.api.pods import Pod
from fixtures.disruption.blast_radius import BlastRadiusError, DrainPlan, Limits, least
from fixtures.disruption.brakes import FREEZE, Brakes, FrozenError
from fixtures.disruption.drain import Drain, Mark
from fixtures.disruption.measured_drain import Drill, Drilling, NodeState, node_state, spent
from fixtures.disruption.ready_history import ReadyHistory
from fixtures.disruption.steady_state import described, replaced, stand_elsewhere
from fixtures.lease.holder import Holder
from fixtures.lease.lease import LeaseLostError, RunLease
from fixtures.objects.manifest import Field
from fixtures.platform.disruption_budget import budget_of
from fixtures.traffic.outages import TrafficRow
from fixtures.traffic.running import Traffic
from tests.unit.fakecluster import LEASES, FakeCluster
from tests.unit.fakeserver import Server, served


def pod(name: str, node: str = "node-1", *, ready: bool = True, message: str = "", **metadata: object) -> Pod:
    """A pod."""
    conditions = [
        {"type": "Ready", "status": str(ready)},
        {"type": "PodScheduled", "status": "False", "message": message},
    ]
    spec = {"nodeName": node} if node else {}
    body = {"metadata": {"name": name, "uid": name, **metadata}, "spec": spec, "status": {"conditions": conditions}}
    return Pod(Field(body))


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
    """Both, not one of them."""
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
    """On any other node than the drained one."""
    assert stand_elsewhere("node-1", 2, pods) is over


def test_pod_without_a_place_says_why() -> None:
    """In the scheduler's own words."""
    pods = (pod("a"), pod("b", "", ready=False, message="0/3 nodes are available"), pod("c", "", ready=False))

    assert described(pods) == (
        "a (Ready) on node-1, b (not Ready) on no node: 0/3 nodes are available, "
        "c (not Ready) on no node: not scheduled yet"
    )


def row(scheduled: float, outcome: str = "good") -> TrafficRow:
    """A request."""
    return TrafficRow(scheduled, 0.0, "new", "/", outcome, 0.01)


def traffic(*rows: TrafficRow) -> Traffic:
    """Requests that were sent."""
    return cast("Traffic", SimpleNamespace(rows=rows))


def test_budget_of_errors_is_spent_when_the_objective_cannot_be_met_any_more() -> None:
    """Not a request earlier."""
    assert spent(traffic(row(1), row(2, "5xx")), allowed=1) == ""
    assert spent(traffic(row(1, "reset"), row(2, "5xx")), allowed=1) == "2 requests failed, 1 may in all"


def test_chart_has_everything_on_one_time_axis() -> None:
    """Seconds since the first request."""
    begin = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    history = ReadyHistory(clock=lambda: begin - 0.5)
    history.take((pod("a").body,))
    plan = DrainPlan("node-1", "portal", (), (), 600)
    drain = Drain(plan, marks=[Mark(datetime.fromtimestamp(begin + 1, UTC), "cordoned")])
    drain.marks.append(Mark(datetime.fromtimestamp(begin + 3.25, UTC), "drained"))
    state = NodeState(unschedulable=False, taints=(), annotations=())
    rows = traffic(row(begin), row(begin + 0.05, "5xx"))
    drill = Drill(plan, drain, rows, history, budget_of(Field({})), state, state, ())

    assert json.loads(drill.chart()) == {
        "begin": "2026-01-01T00:00:00+00:00",
        "plan": "1 node, node-1; 0 pods to evict: ; 600 s",
        "rows": [{"t": 0.0, "outcome": "good"}, {"t": 0.05, "outcome": "5xx"}],
        "ready": [{"t": -0.5, "pods": 1}],
        "marks": [{"t": 1.0, "what": "cordoned"}, {"t": 3.25, "what": "drained"}],
    }
    assert drill.seconds_to("drained") == 2.25


def test_node_whose_drain_disturbs_the_fewest_pods_is_taken() -> None:
    """The smallest blast radius."""
    small = DrainPlan("node-2", "portal", (pod("a"),), (), 600)

    assert least([DrainPlan("node-1", "portal", (pod("b"), pod("c")), (), 600), small]) == small


def drilling(server: Server, *pods: Pod) -> Drilling:
    """Of a deployment in namespace portal with these Ready pods."""
    deployment = SimpleNamespace(namespace="portal")
    maintained = SimpleNamespace(ready_pods=lambda: pods, deployment=deployment)
    return Drilling(cast("Any", maintained), server.api(), cast("Any", None), "portal/acceptance-backstage")


def test_node_that_may_not_be_drained_is_passed_over() -> None:
    """Another one with a pod of the deployment serves as well; if there is none, the reason is told."""
    cluster = FakeCluster()
    cluster.pod("pet", "node-1", {}, owner="")
    with served(cluster) as server:
        plan = drilling(server, pod("backstage-a", "node-1"), pod("backstage-b", "node-2")).plan(Limits(seconds=3))
        with pytest.raises(BlastRadiusError, match="seen: portal/pet without an owner"):
            drilling(server, pod("backstage-a", "node-1")).plan(Limits(seconds=3))

    assert plan.node == "node-2"


def test_pods_may_stay_on_a_node_that_could_not_be_closed() -> None:
    """On Autopilot; elsewhere one that comes back breaks the promise."""
    plan = DrainPlan("node-1", "portal", (), (), 600)
    state = NodeState(unschedulable=False, taints=(), annotations=())
    pods = (pod("a", "node-1"), pod("b", "node-2"))

    def returned(cordoned: str) -> tuple[Pod, ...]:
        drain = Drain(plan, cordoned)
        return Drill(plan, drain, traffic(), ReadyHistory(), budget_of(Field({})), state, state, pods).returned

    assert returned("cordoned") == pods[:1]
    assert returned("forbidden") == ()


def test_state_of_a_node_is_what_a_drain_changes() -> None:
    """Closed or not, taints, annotations."""
    cluster = FakeCluster()
    taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    metadata = {"name": "node-1", "annotations": {"a": "b"}}
    cluster.put("/api/v1/nodes", {"metadata": metadata, "spec": {"unschedulable": True, "taints": [taint]}})
    with served(cluster) as server:
        state = node_state(server.api(), "node-1")

    assert str(state) == "closed to new pods; taints node.kubernetes.io/unschedulable:NoSchedule; 1 annotations"
    assert str(NodeState(unschedulable=False, taints=(), annotations=())) == (
        "open to new pods; taints none; 0 annotations"
    )


def test_disturbance_is_given_up_for_three_reasons() -> None:
    """A freeze, users who lost too much, a Lease that is lost; else it goes on."""
    cluster = FakeCluster()
    with served(cluster) as server:
        api = server.api()
        lease = RunLease(api, "portal", "acceptance-backstage", Holder("me", "jane"), renewal=0.01)
        lease.acquire()
        brakes = Brakes(lease, api, "portal")

        brakes()
        with pytest.raises(AssertionError) as failed:
            brakes.with_budget(lambda: "9 requests failed, 8 may in all")()
        cluster.put("/api/v1/namespaces", {"metadata": {"name": "portal", "annotations": {FREEZE: "release"}}})
        with pytest.raises(FrozenError) as frozen:
            brakes()
        lease.release()
        cluster.remove(LEASES, "acceptance-backstage")
        with pytest.raises(LeaseLostError):
            lease.annotate("a", "b")
        with pytest.raises(LeaseLostError):
            brakes()

    assert str(failed.value) == (
        "expected: users to be served while a node is drained\n"
        "seen: 9 requests failed, 8 may in all; given up\nlook next: the requests, in folder drain of the results"
    )
    assert str(frozen.value) == (
        "expected: a deployment that may be disturbed\nseen: backstage-acceptance/freeze: release\n"
        "look next: kubectl annotate namespace portal backstage-acceptance/freeze-, once the reason is gone"
    )
