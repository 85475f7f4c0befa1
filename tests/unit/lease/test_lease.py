"""The run's Lease: acquiring, renewing, losing and releasing it."""

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
    """A Lease that is not acquired yet; with the default `renewal`, in seconds, it is never renewed within a test."""
    return RunLease(api, "portal", NAME, holder, renewal=renewal, duration=duration)


def live(cluster: FakeCluster) -> Json:
    """The Lease object in the cluster."""
    return cluster.collections[LEASES][NAME]


def test_lease_tells_who_holds_it_and_is_gone_when_it_is_given_back(cluster: FakeCluster, server: Server) -> None:
    """The holderIdentity is the run; person and process are in an annotation; release deletes the Lease."""
    lease = lease_of(server.api())

    assert lease.acquire() == {}
    spec = live(cluster)["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("me", 30, 0)
    assert spec["acquireTime"] <= spec["renewTime"]
    assert Holder.from_annotation(live(cluster)["metadata"]["annotations"][HOLDER], "me") == HERE

    lease.release()
    assert cluster.collections[LEASES] == {}


def test_second_run_is_told_who_holds_it_since_when(server: Server) -> None:
    """The refusal names the holder and the command that waits for it; the run ends without a verdict."""
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
    """An expired Lease is taken over with its annotations, among them the journal."""
    dead = lease_of(server.api(), OTHER, duration=-2)  # expired when it is written
    dead.acquire()
    live(cluster)["metadata"]["annotations"]["journal"] = "[]"

    lease = lease_of(server.api())
    left = lease.acquire()

    assert left["journal"] == "[]"
    assert live(cluster)["metadata"]["annotations"]["journal"] == "[]"
    assert live(cluster)["spec"]["leaseTransitions"] == 1
    lease.release()


def test_lease_of_a_dead_process_of_this_host_is_taken_at_once(server: Server) -> None:
    """The expiry is not waited for if the holder's process on this host is gone, also if another has its PID."""
    api = server.api()
    lease_of(api, dataclasses.replace(Holder.here(), run="dead", started="1")).acquire()  # reused PID

    lease = lease_of(api)
    lease.acquire()
    lease.release()


def test_lease_of_a_living_process_of_this_host_is_not_taken(server: Server) -> None:
    """A Lease of a live process on this host, here the test's own, is refused."""
    api = server.api()
    first = lease_of(api, Holder.here())
    first.acquire()

    with pytest.raises(HeldByAnotherError, match=f"process {os.getpid()}, run "):
        lease_of(api).acquire()
    first.release()


def test_lease_is_taken_over_by_one_of_two_at_the_same_time(cluster: FakeCluster, server: Server) -> None:
    """By compare-and-swap only one of two runs takes the expired Lease; the other is refused."""
    lease_of(server.api(), OTHER, duration=-2).acquire()
    quicker = dataclasses.replace(OTHER, run="quicker")

    def overtaken(request: Request) -> Answer | None:
        if request.method == "PUT" and request.body["spec"]["holderIdentity"] == "me":
            cluster.script = lambda _: None  # only once, and not for the requests of the quicker run
            lease_of(server.api(), quicker).acquire()
        return None

    cluster.script = overtaken

    with pytest.raises(HeldByAnotherError, match="run quicker"):
        lease_of(server.api()).acquire()


def test_answer_that_was_lost_on_its_way_does_not_lose_the_lease(cluster: FakeCluster, server: Server) -> None:
    """If the response to the create is lost, the retry finds its own Lease and keeps it."""

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
    """A change by somebody else, such as `kubectl annotate`, changes the resourceVersion but not the holder."""
    lease = lease_of(server.api())
    lease.acquire()
    cluster.put(LEASES, {**live(cluster), "metadata": {**live(cluster)["metadata"], "labels": {"a": "b"}}})

    lease.annotate("journal", "[1]")

    assert live(cluster)["metadata"]["annotations"]["journal"] == "[1]"
    lease.release()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for the renewal's thread to make a condition true."""
    wait_for("it", condition, until=bool, within=5, every=0.01, look_next="")


def test_lease_is_renewed_again_and_again(cluster: FakeCluster, server: Server) -> None:
    """A thread renews the Lease periodically, and continues after transient errors."""
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
    """The renewal notices a deleted or foreign Lease; `check` then raises, and release does not write it."""
    lease = lease_of(server.api(), renewal=0.01)
    lease.acquire()
    with lease._lock:  # noqa: SLF001 - no renewal may be in progress
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
    """Without renewal the Lease is lost 2 s before it expires, so the run stops before another takes over."""
    now = 1000.0
    monkeypatch.setattr(lease_module, "monotonic", lambda: now)
    lease = lease_of(server.api())
    lease.acquire()

    # The duration of 30 s less the margin of 2 s.
    now += 27.9
    lease.check()
    now += 0.2
    with pytest.raises(LeaseLostError, match="seen: it could not be renewed for 30 s"):
        lease.check()


def test_note_that_does_not_get_through_is_no_verdict(cluster: FakeCluster, server: Server) -> None:
    """A journal that cannot be written ends the run, as no change may be made without an entry."""
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
    """Released with `keep`, the Lease stays with its annotations but no holder, so the next run takes it at once."""
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
    """`now` follows the Date of the server's answers: a wrong local clock must not expire a Lease."""
    api = server.api()
    lease = lease_of(api)
    lease.acquire()
    # Any answer sets the clock, here to a date that no machine running this test has.
    cluster.script = lambda _: Answer(200, "{}", {"Date": "Fri, 01 Jan 2100 00:00:00 GMT"})
    api.once("GET", "/version")
    assert f"{api.now():%Y-%m-%d}" == "2100-01-01"
    cluster.script = lambda _: None
    lease.release()


def test_holder_that_is_no_run_is_told_by_its_identity() -> None:
    """A deploy pipeline has no annotation; it is named by its holderIdentity and never counts as dead."""
    assert str(Holder.from_annotation("", "pipeline-17")) == "pipeline-17"
    assert Holder.from_annotation("not JSON", "pipeline-17").dead is False


def create_pipeline_lease(cluster: FakeCluster, made: datetime, **spec: object) -> Json:
    """A Lease of a deploy pipeline, created by kubectl without times; the API server sets creationTimestamp."""
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
    """Its duration counts from renewTime, or else creationTimestamp; without a duration it never expires."""
    api = server.api()
    made = api.now() - timedelta(seconds=60)
    create_pipeline_lease(cluster, made, **spec)

    with pytest.raises(HeldByAnotherError) as refused:
        lease_of(api).acquire()

    assert str(refused.value) == (
        f"expected: nobody else to hold Lease portal/{NAME}\n"
        f"seen: pipeline-17 since {made:%Y-%m-%d %H:%M:%S} UTC, {until}\n"
        f"look next: kubectl -n portal wait --for=delete lease/{NAME} --timeout=30m"
    )


def test_pipeline_that_took_longer_than_it_said_is_not_waited_for(cluster: FakeCluster, server: Server) -> None:
    """An expired Lease is replaced without its labels: the pipeline deletes by label, and must not delete ours."""
    api = server.api()
    pipeline_lease = create_pipeline_lease(cluster, api.now() - timedelta(seconds=60), leaseDurationSeconds=50)
    cluster.put(LEASES, {**pipeline_lease, "metadata": {**pipeline_lease["metadata"], "labels": {"deploy": "17"}}})

    lease = lease_of(api)
    lease.acquire()

    assert live(cluster)["spec"]["holderIdentity"] == "me"
    assert "labels" not in live(cluster)["metadata"]
    lease.release()
