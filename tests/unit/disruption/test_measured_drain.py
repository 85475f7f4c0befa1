"""The result of a measured drain, and the choice of the node."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtures.api.pods import Pod
from fixtures.disruption.blast_radius import BlastRadiusError, DrainPlan, Limits
from fixtures.disruption.drain import Drain, Mark
from fixtures.disruption.measured_drain import DrainResult, MeasuredDrain, NodeState, node_state, spent
from fixtures.disruption.ready_history import ReadyHistory
from fixtures.objects.manifest import Field
from fixtures.platform.disruption_budget import budget_of
from fixtures.traffic.outages import TrafficRow
from fixtures.traffic.running import Traffic
from tests.unit.disruption.conftest import pod
from tests.unit.fakecluster import FakeCluster
from tests.unit.fakeserver import Server, served


def row(scheduled: float, outcome: str = "good") -> TrafficRow:
    """One request on a new connection."""
    return TrafficRow(scheduled, 0.0, "new", "/", outcome, 0.01)


def traffic(*rows: TrafficRow) -> Traffic:
    """Traffic with these rows."""
    return cast("Traffic", SimpleNamespace(rows=rows))


def test_budget_of_errors_is_spent_when_the_objective_cannot_be_met_any_more() -> None:
    """The budget is spent by the first failure beyond the allowed number, not before."""
    assert spent(traffic(row(1), row(2, "5xx")), allowed=1) == ""
    assert spent(traffic(row(1, "reset"), row(2, "5xx")), allowed=1) == "2 requests failed, 1 may in all"


def test_chart_has_everything_on_one_time_axis() -> None:
    """Times are in seconds since the first request."""
    begin = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    history = ReadyHistory(clock=lambda: begin - 0.5)
    history.record((pod("a").body,))
    plan = DrainPlan("node-1", "portal", (), (), 600)
    drain = Drain(plan, marks=[Mark(datetime.fromtimestamp(begin + 1, UTC), "cordoned")])
    drain.marks.append(Mark(datetime.fromtimestamp(begin + 3.25, UTC), "drained"))
    state = NodeState(unschedulable=False, taints=(), annotations=())
    rows = traffic(row(begin), row(begin + 0.05, "5xx"))
    drain_result = DrainResult(plan, drain, rows, history, budget_of(Field({})), state, state, ())

    assert json.loads(drain_result.chart()) == {
        "begin": "2026-01-01T00:00:00+00:00",
        "plan": "1 node, node-1; 0 pods to evict: ; 600 s",
        "rows": [{"t": 0.0, "outcome": "good"}, {"t": 0.05, "outcome": "5xx"}],
        "ready": [{"t": -0.5, "pods": 1}],
        "marks": [{"t": 1.0, "what": "cordoned"}, {"t": 3.25, "what": "drained"}],
    }
    assert drain_result.seconds_to("drained") == 2.25


def measured_drain(server: Server, *pods: Pod) -> MeasuredDrain:
    """A measured drain of a deployment in namespace portal with these Ready pods."""
    deployment = SimpleNamespace(namespace="portal")
    maintained = SimpleNamespace(ready_pods=lambda: pods, deployment=deployment)
    return MeasuredDrain(cast("Any", maintained), server.api(), cast("Any", None), "portal/acceptance-backstage")


def test_node_that_may_not_be_drained_is_passed_over() -> None:
    """Another node with a pod of the deployment is taken; if there is none, the first error is raised."""
    cluster = FakeCluster()
    cluster.pod("pet", "node-1", {}, owner="")
    with served(cluster) as server:
        plan = measured_drain(server, pod("backstage-a", "node-1"), pod("backstage-b", "node-2")).plan(
            Limits(seconds=3)
        )
        with pytest.raises(BlastRadiusError, match="seen: portal/pet without an owner"):
            measured_drain(server, pod("backstage-a", "node-1")).plan(Limits(seconds=3))

    assert plan.node == "node-2"


def test_pods_may_stay_on_a_node_that_could_not_be_closed() -> None:
    """Without a cordon, as on Autopilot, pods may return to the node; after one that breaks the promise."""
    plan = DrainPlan("node-1", "portal", (), (), 600)
    state = NodeState(unschedulable=False, taints=(), annotations=())
    pods = (pod("a", "node-1"), pod("b", "node-2"))

    def returned(cordoned: str) -> tuple[Pod, ...]:
        drain = Drain(plan, cordoned)
        return DrainResult(plan, drain, traffic(), ReadyHistory(), budget_of(Field({})), state, state, pods).returned

    assert returned("cordoned") == pods[:1]
    assert returned("forbidden") == ()


def test_state_of_a_node_is_what_a_drain_changes() -> None:
    """The state covers unschedulable, taints and annotations."""
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
