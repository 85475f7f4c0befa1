"""A collection that is watched: what is told, what a gap is, what ends it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from kubernetes.client import ApiException

from fixtures.api.collection import Collection
from fixtures.disruption.ready_history import ReadyHistory
from fixtures.objects.manifest import Field
from fixtures.waiting import wait_for
from tests.unit.apiserver import Answer, Request
from tests.unit.fakecluster import BACKSTAGE, PODS, FakeCluster, status
from tests.unit.fakeserver import Server


class Told:
    """Remembers the names that it was told, state by state."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def __call__(self, objects: tuple[Field, ...]) -> None:
        """One state."""
        names = sorted(each["metadata"]["name"].text.removeprefix("backstage-") for each in objects)
        self.states.append(" ".join(names))


def wait_until(condition: Callable[[], bool]) -> None:
    """The watch is a thread's."""
    wait_for("it", condition, until=bool, within=5, every=0.005, look_next="")


def test_every_state_is_told_in_order(cluster: FakeCluster, server: Server) -> None:
    """Even one that lasts for a moment only."""
    told = Told()
    with Collection(server.api(), PODS, told=told) as pods:
        cluster.pod("backstage-c", "node-3", BACKSTAGE)
        cluster.remove(PODS, "backstage-c")
        cluster.remove(PODS, "backstage-a")
        wait_until(lambda: told.states[-1] == "b")

        assert [each["metadata"]["name"].text for each in pods.objects] == ["backstage-b"]

    assert told.states == ["a b", "a b c", "a b", "b"]
    assert pods.gaps == []


def expired(request: Request) -> Answer | None:
    """What a server says that has forgotten."""
    error = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}
    return Answer(200, json.dumps(error) + "\n") if "watch=true" in request.path else None


def test_server_that_has_forgotten_leaves_a_gap_if_something_happened(cluster: FakeCluster, server: Server) -> None:
    """What is there afterwards is right again; what was in between nobody knows."""
    told = Told()
    cluster.script = expired
    with Collection(server.api(), PODS, told=told) as pods:
        cluster.remove(PODS, "backstage-a")
        wait_until(lambda: told.states[-1] == "b")
        cluster.script = lambda _: None
        cluster.remove(PODS, "backstage-b")
        wait_until(lambda: told.states[-1] == "")

    assert set(pods.gaps) == {f"the watch of {PODS} kept a change to itself, or could not go on"}


def test_server_that_has_forgotten_leaves_no_gap_if_nothing_happened(cluster: FakeCluster, server: Server) -> None:
    """Expired at 410, listed again, the same."""
    seen: list[Request] = []

    def twice(request: Request) -> Answer | None:
        seen.append(request)
        return expired(request) if len(seen) < 5 else None

    cluster.script = twice
    with Collection(server.api(), PODS, told=Told()) as pods:
        wait_until(lambda: len(seen) > 5)

    assert pods.gaps == []


def test_watch_that_was_cut_off_goes_on_where_it_was(cluster: FakeCluster, server: Server) -> None:
    """In the middle of a line, even."""
    told = Told()
    pod = {"type": "ADDED", "object": {"metadata": {"name": "backstage-x", "uid": "x", "resourceVersion": "100"}}}
    sent: list[str] = []

    def cut_off(request: Request) -> Answer | None:
        if "watch=true" not in request.path:
            return None
        sent.append(request.path)
        return Answer(200, json.dumps(pod) + '\n{"type": "ADD') if len(sent) == 1 else None

    cluster.script = cut_off
    with Collection(server.api(), PODS, told=told) as pods:
        wait_until(lambda: len(sent) == 2)

    assert told.states == ["a b", "a b x"]
    assert "resourceVersion=100&" in sent[1]
    assert pods.gaps == []


def test_watch_that_is_refused_ends_what_relies_on_it(cluster: FakeCluster, server: Server) -> None:
    """Rights were taken away: whoever reads is told."""
    cluster.script = lambda request: status(403, "Forbidden") if "watch=true" in request.path else None
    with Collection(server.api(), PODS, told=Told()) as pods, pytest.raises(ApiException, match="403"):
        wait_until(lambda: not pods.objects)


def test_history_has_the_moment_with_the_fewest_ready_pods() -> None:
    """One that is on its way out does not count, as for the budget's controller."""

    def pod(name: str, *, ready: bool = True, **metadata: object) -> Field:
        conditions = [{"type": "Ready", "status": str(ready)}]
        return Field({"metadata": {"name": name, **metadata}, "status": {"conditions": conditions}})

    times = iter([1.0, 2.0, 3.0])
    history = ReadyHistory(clock=lambda: next(times))
    leaving = pod("a", deletionTimestamp="2026-01-01T00:00:00Z")

    history.take((pod("a"), pod("b")))
    history.take((leaving, pod("b"), pod("c", ready=False)))
    history.take((leaving, pod("b"), pod("c", ready=False), pod("d", ready=False)))
    history.take((pod("b"), pod("c")))

    assert str(history) == "2 > 1 > 2 Ready"
    assert (history.least.at, history.least.ready) == (2.0, ("b",))
