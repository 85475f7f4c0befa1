"""The run's Lease: who gets it, who is told what, how it is kept, when it is lost."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from fixtures.api.requests import Api, RetryPolicy
from fixtures.lease import lease as lease_module
from fixtures.lease.holder import HOLDER, Holder
from fixtures.lease.lease import HeldByAnotherError, LeaseLostError, RunLease
from fixtures.outcomes import NoVerdictError
from fixtures.waiting import wait_for
from tests.unit.apiserver import Answer, Json, Request
from tests.unit.fakecluster import LEASES, FakeCluster, status
from tests.unit.fakeserver import Server

NAME = "acceptance-backstage"
PATH = f"{LEASES}/{NAME}"
HERE = Holder("me", "jane@laptop")
OTHER = Holder("other", "joe@desk", process=7)


def lease_of(api: Api, holder: Holder = HERE, *, renewal: float = 1000, duration: int = 30) -> RunLease:
    """One that is not taken yet."""
    return RunLease(api, "portal", NAME, holder, renewal=renewal, duration=duration)


def live(cluster: FakeCluster) -> Json:
    """The object."""
    return cluster.collections[LEASES][NAME]


def test_lease_tells_who_holds_it_and_is_gone_when_it_is_given_back(cluster: FakeCluster, server: Server) -> None:
    """The holder is the run; who that is stands beside it."""
    lease = lease_of(server.api())

    assert lease.acquire() == {}
    spec = live(cluster)["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("me", 30, 0)
    assert spec["acquireTime"] <= spec["renewTime"]
    assert Holder.from_annotation(live(cluster)["metadata"]["annotations"][HOLDER], "me") == HERE

    lease.release()
    assert cluster.collections[LEASES] == {}


def test_second_run_is_told_who_holds_it_since_when(server: Server) -> None:
    """And with which command to wait; it ends without a verdict."""
    api = server.api()
    first = lease_of(api, OTHER)
    first.acquire()
    since = f"{api.now():%Y-%m-%d %H:%M}"

    with pytest.raises(HeldByAnotherError) as refused:
        lease_of(api).acquire()
    first.release()

    expected, seen, look_next = str(refused.value).splitlines()
    assert expected == f"expected: nobody else to hold Lease portal/{NAME}"
    assert seen.startswith(f"seen: joe@desk (process 7, run other) since {since}")
    assert re.search(r" UTC, renewed \d s ago for 30 s$", seen)
    assert look_next == f"look next: kubectl -n portal wait --for=delete lease/{NAME} --timeout=30m"


def test_lease_that_was_not_renewed_is_taken_over_with_what_is_on_it(cluster: FakeCluster, server: Server) -> None:
    """The journal of the dead run, for one."""
    dead = lease_of(server.api(), OTHER, duration=-2)
    dead.acquire()
    live(cluster)["metadata"]["annotations"]["journal"] = "[]"

    lease = lease_of(server.api())
    left = lease.acquire()

    assert left["journal"] == "[]"
    assert live(cluster)["metadata"]["annotations"]["journal"] == "[]"
    assert live(cluster)["spec"]["leaseTransitions"] == 1
    lease.release()


def test_lease_of_a_dead_process_of_this_host_is_taken_at_once(server: Server) -> None:
    """Its thirty seconds are not waited for; a process id that was given anew does not count."""
    api = server.api()
    lease_of(api, dataclasses.replace(Holder.here(), run="dead", started="1")).acquire()

    lease = lease_of(api)
    lease.acquire()
    lease.release()


def test_lease_of_a_living_process_of_this_host_is_not_taken(server: Server) -> None:
    """This one's."""
    api = server.api()
    first = lease_of(api, Holder.here())
    first.acquire()

    with pytest.raises(HeldByAnotherError, match=f"process {os.getpid()}, run "):
        lease_of(api).acquire()
    first.release()


def test_lease_is_taken_over_by_one_of_two_at_the_same_time(cluster: FakeCluster, server: Server) -> None:
    """Compare-and-swap: who comes second reads again and sees who was first."""
    lease_of(server.api(), OTHER, duration=-2).acquire()
    quicker = dataclasses.replace(OTHER, run="quicker")

    def overtaken(request: Request) -> Answer | None:
        if request.method == "PUT" and request.body["spec"]["holderIdentity"] == "me":
            cluster.script = lambda _: None
            lease_of(server.api(), quicker).acquire()
        return None

    cluster.script = overtaken

    with pytest.raises(HeldByAnotherError, match="run quicker"):
        lease_of(server.api()).acquire()


def test_answer_that_was_lost_on_its_way_does_not_lose_the_lease(cluster: FakeCluster, server: Server) -> None:
    """It was created; the second attempt sees that it is ours."""

    def lost(request: Request) -> Answer | None:
        if request.method == "POST":
            cluster.script = lambda _: None
            cluster.put(LEASES, request.body)
            return Answer(0, "")
        return None

    cluster.script = lost

    lease = lease_of(server.api())
    lease.acquire()
    lease.check()
    lease.release()


def test_note_of_somebody_else_on_the_lease_is_written_over(cluster: FakeCluster, server: Server) -> None:
    """What is on it is the holder's; somebody's `kubectl annotate` only changes its version."""
    lease = lease_of(server.api())
    lease.acquire()
    cluster.put(LEASES, {**live(cluster), "metadata": {**live(cluster)["metadata"], "labels": {"a": "b"}}})

    lease.annotate("journal", "[1]")

    assert live(cluster)["metadata"]["annotations"]["journal"] == "[1]"
    lease.release()


def wait_until(condition: Callable[[], bool]) -> None:
    """The renewal runs in a thread."""
    wait_for("it", condition, until=bool, within=5, every=0.01, look_next="")


def test_lease_is_renewed_again_and_again(cluster: FakeCluster, server: Server) -> None:
    """Without anybody asking; errors that pass do not stop it."""
    lease = lease_of(server.api(), renewal=0.01)
    lease.acquire()
    cluster.script = lambda _: status(503, "Unavailable")
    wait_until(lambda: len(cluster.requests) > 3)
    cluster.script = lambda _: None
    before = live(cluster)["metadata"]["resourceVersion"]
    wait_until(lambda: live(cluster)["metadata"]["resourceVersion"] != before)

    lease.check()
    lease.release()


@pytest.mark.parametrize(
    ("seen", "disturb"),
    [
        ("it was deleted", lambda cluster: cluster.remove(LEASES, NAME)),
        (
            "other holds it",
            lambda cluster: cluster.put(
                LEASES, {**live(cluster), "spec": {**live(cluster)["spec"], "holderIdentity": "other"}}
            ),
        ),
    ],
)
def test_lease_that_is_somebody_elses_is_lost(
    cluster: FakeCluster, server: Server, seen: str, disturb: Callable[[FakeCluster], object]
) -> None:
    """The renewal notices; whoever asks is told, and it is not written again."""
    lease = lease_of(server.api(), renewal=0.01)
    lease.acquire()
    with lease._lock:  # noqa: SLF001 - no renewal is on its way
        disturb(cluster)
    wait_until(lambda: not lease._thread.is_alive())  # noqa: SLF001 - it has noticed

    with pytest.raises(LeaseLostError) as lost:
        lease.check()

    assert str(lost.value) == (
        f"expected: Lease portal/{NAME} to stay with run me\nseen: {seen}\n"
        f"look next: kubectl -n portal get lease {NAME} -o yaml"
    )
    lease.release()
    assert "me" not in str([each["spec"]["holderIdentity"] for each in cluster.collections[LEASES].values()])


def test_lease_that_could_not_be_renewed_in_time_is_lost(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds before another run may take it."""
    now = 1000.0
    monkeypatch.setattr(lease_module, "monotonic", lambda: now)
    lease = lease_of(server.api())
    lease.acquire()

    now += 27.9
    lease.check()
    now += 0.2
    with pytest.raises(LeaseLostError, match="seen: it could not be renewed for 30 s"):
        lease.check()


def test_note_that_does_not_get_through_is_no_verdict(cluster: FakeCluster, server: Server) -> None:
    """Nothing may be changed that could not be noted."""
    api = server.api(RetryPolicy(within=0.05, every=0.01))
    lease = lease_of(api)
    lease.acquire()
    cluster.script = lambda _: status(503, "Unavailable")

    with pytest.raises(NoVerdictError) as failed:
        lease.annotate("journal", "[1]")
    cluster.script = lambda _: None

    assert str(failed.value) == (
        f"expected: a note on Lease portal/{NAME} within 0.05 s\nseen: 503 Service Unavailable\n"
        "look next: kubectl get --raw=/readyz?verbose"
    )
    assert "journal" not in live(cluster)["metadata"]["annotations"]
    lease.release()


def test_lease_with_something_for_the_next_run_stays_without_a_holder(cluster: FakeCluster, server: Server) -> None:
    """The next one need not wait."""
    lease = lease_of(server.api())
    lease.acquire()
    lease.annotate("journal", "[1]")

    lease.release(keep=True)

    assert live(cluster)["spec"]["holderIdentity"] == ""
    assert live(cluster)["metadata"]["annotations"] == {"journal": "[1]"}
    following = lease_of(server.api(), OTHER)
    assert following.acquire() == {"journal": "[1]"}
    following.release()


def test_time_on_the_lease_is_the_servers(cluster: FakeCluster, server: Server) -> None:
    """A machine whose clock is an hour behind neither expires others nor is expired."""
    api = server.api()
    lease = lease_of(api)
    lease.acquire()
    cluster.script = lambda _: Answer(200, "{}", {"Date": "Fri, 01 Jan 2100 00:00:00 GMT"})
    api.once("GET", "/version")
    assert f"{api.now():%Y-%m-%d}" == "2100-01-01"
    cluster.script = lambda _: None
    lease.release()


def test_holder_that_is_no_run_is_told_by_its_identity() -> None:
    """A deploy pipeline that honours the Lease writes its own name."""
    assert str(Holder.from_annotation("", "pipeline-17")) == "pipeline-17"
    assert Holder.from_annotation("not JSON", "pipeline-17").dead is False


def pipelines(cluster: FakeCluster, made: datetime, **spec: object) -> Json:
    """A Lease as `kubectl create` makes it of three lines: it says no time, the API server does."""
    metadata = {"name": NAME, "creationTimestamp": f"{made:%Y-%m-%dT%H:%M:%SZ}"}
    return cluster.put(LEASES, {"metadata": metadata, "spec": {"holderIdentity": "pipeline-17", **spec}})


@pytest.mark.parametrize(
    ("spec", "until"),
    [
        ({"leaseDurationSeconds": 1800}, "renewed 60 s ago for 1800 s"),
        ({}, "until somebody deletes it: it says no leaseDurationSeconds"),
        ({"leaseDurationSeconds": 30, "renewTime": "2100-01-01T00:00:00.000000Z"}, "renewed 0 s ago for 30 s"),
    ],
    ids=["of its creation", "without an end", "renewed"],
)
def test_pipeline_holds_it_for_as_long_as_it_says(cluster: FakeCluster, server: Server, spec: Json, until: str) -> None:
    """Counted from when it was made, where it says no other time; one that says no end has none."""
    api = server.api()
    made = api.now() - timedelta(seconds=60)
    pipelines(cluster, made, **spec)

    with pytest.raises(HeldByAnotherError) as refused:
        lease_of(api).acquire()

    assert str(refused.value) == (
        f"expected: nobody else to hold Lease portal/{NAME}\n"
        f"seen: pipeline-17 since {made:%Y-%m-%d %H:%M:%S} UTC, {until}\n"
        f"look next: kubectl -n portal wait --for=delete lease/{NAME} --timeout=30m"
    )


def test_pipeline_that_took_longer_than_it_said_is_not_waited_for(cluster: FakeCluster, server: Server) -> None:
    """Its label goes with it, by which it would delete its own Lease: this one is another."""
    api = server.api()
    mine = pipelines(cluster, api.now() - timedelta(seconds=60), leaseDurationSeconds=50)
    cluster.put(LEASES, {**mine, "metadata": {**mine["metadata"], "labels": {"deploy": "17"}}})

    lease = lease_of(api)
    lease.acquire()

    assert live(cluster)["spec"]["holderIdentity"] == "me"
    assert "labels" not in live(cluster)["metadata"]
    lease.release()
