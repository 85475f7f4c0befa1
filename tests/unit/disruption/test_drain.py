"""A drain: what it evicts, what it waits for, how it ends."""

from __future__ import annotations

import json

import pytest

from fixtures.api.requests import RetryPolicy
from fixtures.disruption.blast_radius import Limits, plan_drain
from fixtures.disruption.cordon import ANNOTATION
from fixtures.disruption.drain import drained
from fixtures.lease.holder import Holder
from fixtures.lease.journal import ANNOTATION as JOURNAL
from fixtures.lease.journal import Journal
from fixtures.lease.lease import LeaseLostError, RunLease
from fixtures.outcomes import NoVerdictError
from fixtures.waiting import DeadlinePassedError
from tests.unit.apiserver import Answer, Request
from tests.unit.disruption.conftest import LIMITS, closed, run
from tests.unit.fakecluster import BACKSTAGE, LEASES, PODS, FakeCluster, status
from tests.unit.fakeserver import QUICK, Server


def test_drain_evicts_what_something_replaces_and_nothing_is_left(cluster: FakeCluster, server: Server) -> None:
    """A DaemonSet's pod and a static one stay; the node is open again, the Lease gone."""
    cluster.pod("agent", "node-1", {}, owner="DaemonSet")
    cluster.pod("proxy", "node-1", {}, owner="Node", annotations={"kubernetes.io/config.mirror": "x"})
    cluster.pod("other", "node-1", {})

    drain = run(server.api(), Holder.here())

    assert sorted(pod["metadata"]["name"] for pod in cluster.collections[PODS].values()) == [
        "agent", "backstage-a-x", "backstage-b", "other-x", "proxy",
    ]  # fmt: skip
    assert drain.plan.staying == ("agent (DaemonSet)", "proxy (static)")
    assert [mark.what for mark in drain.marks] == [
        "cordoned", "backstage-a evicted", "other evicted", "drained", "uncordoned",
    ]  # fmt: skip
    assert closed(cluster) == []
    assert cluster.collections[LEASES] == {}


def test_change_is_noted_before_it_is_made(cluster: FakeCluster, server: Server) -> None:
    """Lease, note, cordon, eviction, uncordon, note, Lease: in this order."""
    run(server.api(), Holder.here())

    lease, node = f"{LEASES}/acceptance-backstage", "/api/v1/nodes/node-1"
    assert cluster.changes() == [
        ("POST", LEASES), ("PUT", lease), ("PATCH", node), ("POST", f"{PODS}/backstage-a/eviction"),
        ("PATCH", node), ("PUT", lease), ("DELETE", lease),
    ]  # fmt: skip
    noted, cordoned = [each.body for each in cluster.requests if each.method in ("PUT", "PATCH")][:2]
    [entry] = json.loads(noted["metadata"]["annotations"][JOURNAL])
    assert entry["what"] == "cordon of node-1"
    assert entry["Uncordon"] == {"node": "node-1"}
    assert cordoned["spec"] == {"unschedulable": True}
    note = json.loads(cordoned["metadata"]["annotations"][ANNOTATION])
    assert note["run"] == entry["run"]
    assert note["lease"] == "portal/acceptance-backstage"
    assert note["reason"] == "acceptance: drain of a node while users are served"
    assert note["previous"] is False


def test_node_that_somebody_else_has_closed_stays_closed(cluster: FakeCluster, server: Server) -> None:
    """It is drained all the same, without a note."""
    cluster.put("/api/v1/nodes", {"metadata": {"name": "node-1"}, "spec": {"unschedulable": True}})

    drain = run(server.api(), Holder.here())

    assert drain.cordoned == "closed by somebody else"
    assert cluster.node("node-1")["spec"] == {"unschedulable": True}
    assert "annotations" not in cluster.node("node-1")["metadata"]


def test_nodes_that_may_not_be_patched_are_drained_without_cordon(cluster: FakeCluster, server: Server) -> None:
    """As on Autopilot."""
    cluster.script = lambda request: status(403, "Forbidden") if request.method == "PATCH" else None

    drain = run(server.api(), Holder.here())

    assert drain.cordoned == "forbidden"
    assert [mark.what for mark in drain.marks] == ["forbidden", "backstage-a evicted", "drained"]


def test_refused_eviction_is_asked_again_when_the_budget_has_changed(cluster: FakeCluster, server: Server) -> None:
    """Two pods on one node: the second when the first is replaced, and not more often than something changes."""
    cluster.remove(PODS, "backstage-b")
    cluster.pod("backstage-b", "node-1", BACKSTAGE)

    drain = run(server.api(), Holder.here())

    assert [mark.what for mark in drain.marks][1:-1] == [
        "backstage-a evicted", "backstage-b refused by budget", "backstage-b evicted", "drained",
    ]  # fmt: skip
    assert len([change for change in cluster.changes() if "eviction" in change[1]]) < 10


def test_pod_that_left_is_gone_though_the_answer_to_its_eviction_was_lost(cluster: FakeCluster, server: Server) -> None:
    """The API server evicts it, and every answer is a time-out."""

    def evicting_silently(request: Request) -> Answer | None:
        if not request.path.endswith("/backstage-a/eviction"):
            return None
        if "backstage-a" in cluster.collections[PODS]:
            cluster.remove(PODS, "backstage-a")
        return status(504, "Timeout")

    cluster.script = evicting_silently

    drain = run(server.api(), Holder.here())

    assert [answer.decision for answer in drain.evictions.values()] == ["gone"]


def test_drain_fails_when_a_budget_never_allows_it(cluster: FakeCluster, server: Server) -> None:
    """The promise is broken; the node is open again all the same."""
    cluster.ready_after = 1000
    cluster.remove(PODS, "backstage-b")
    cluster.pod("backstage-b", "node-1", BACKSTAGE)

    with pytest.raises(DeadlinePassedError) as failed:
        run(server.api(), Holder.here(), limits=Limits(seconds=0.3))

    assert str(failed.value) == (
        "expected: 2 pods to leave node node-1 within 0.3 s\n"
        "seen: on node-1 still backstage-b; portal/backstage-b refused by budget: "
        "The disruption budget backstage needs 1 healthy pods and has 1 currently\n"
        "look next: kubectl get pods -A -o wide --field-selector spec.nodeName=node-1; kubectl get pdb -A"
    )
    assert closed(cluster) == []


def test_pod_of_another_namespace_does_not_hold_a_drain_up(cluster: FakeCluster, server: Server) -> None:
    """Its budget, or its namespace's rules, are not this deployment's."""
    refusal = status(403, "Forbidden", "managed namespace")
    cluster.script = lambda request: refusal if "dns/eviction" in request.path else None
    cluster.pod("dns", "node-1", {}, namespace="kube-system")

    drain = run(server.api(), Holder.here())

    left_alone = [str(each) for each in drain.evictions.values() if each.decision not in {"evicted", "gone"}]
    assert left_alone == ["kube-system/dns forbidden: managed namespace"]


def test_pod_that_two_budgets_cover_breaks_the_promise(cluster: FakeCluster, server: Server) -> None:
    """No waiting: the API server never evicts it."""
    message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    refusal = status(500, "InternalError", message)
    cluster.script = lambda request: refusal if "eviction" in request.path else None

    with pytest.raises(AssertionError) as failed:
        run(server.api(), Holder.here())

    assert str(failed.value) == (
        f"expected: pod portal/backstage-a to be evicted\nseen: {message}\nlook next: kubectl -n portal get pdb"
    )


def test_server_that_only_throttles_gives_no_verdict(cluster: FakeCluster, server: Server) -> None:
    """A 429 without a cause says nothing about the budget."""
    cluster.script = lambda request: (
        status(429, "TooManyRequests", "slow down") if "eviction" in request.path else None
    )  # fmt: skip

    with pytest.raises(NoVerdictError) as failed:
        run(server.api(), Holder.here(), limits=Limits(seconds=0.1))

    assert "portal/backstage-a undecided: 429 Too Many Requests" in str(failed.value)


def test_drain_ends_at_once_when_the_lease_is_lost(cluster: FakeCluster, server: Server) -> None:
    """The next turn sees it, and the node is opened."""
    api = server.api()
    lease = RunLease(api, "portal", "acceptance-backstage", Holder.here(), renewal=1000)
    lease.acquire()
    plan = plan_drain("node-1", namespace="portal", api=api, limits=LIMITS)
    turns = iter([None, None])

    def abort_check() -> None:
        if next(turns, "over") == "over":
            raise LeaseLostError("lost")

    with pytest.raises(LeaseLostError), drained(plan, api, Journal(lease), lease=str(lease), abort_check=abort_check):
        pass
    lease.release()

    assert closed(cluster) == []


@pytest.mark.parametrize(
    "trouble",
    [status(500, "InternalError"), status(503, "Unavailable"), status(429, "TooManyRequests"), Answer(0, "")],
    ids=["500", "503", "429", "no answer"],
)
def test_burst_of_trouble_at_every_step_changes_nothing(cluster: FakeCluster, server: Server, trouble: Answer) -> None:
    """Each request fails twice, whichever it is; watches too."""
    asked: dict[tuple[str, str], int] = {}

    def twice(request: Request) -> Answer | None:
        key = (request.method, request.path.partition("&resourceVersion")[0])
        asked[key] = asked.get(key, 0) + 1
        return trouble if asked[key] <= 2 else None

    cluster.script = twice

    drain = run(server.api(), Holder.here())

    assert {each.decision for each in drain.evictions.values()} <= {"evicted", "gone"}
    assert closed(cluster) == []
    assert cluster.collections[LEASES] == {}


def test_watches_that_keep_silent_are_not_believed(cluster: FakeCluster, server: Server) -> None:
    """Everything is listed again after a while."""
    cluster.watches_are_silent = True

    drain = run(server.api(RetryPolicy(QUICK.within, QUICK.every, watch_idle_timeout=0.05)), Holder.here())

    assert {each.decision for each in drain.evictions.values()} <= {"evicted", "gone"}
