"""Following a list: what is remembered, what a broken or expired watch costs, when it is told, what ends it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from fixtures.api.requests import RetryPolicy
from fixtures.api.watch import Informer, lines
from fixtures.objects.manifest import Field
from fixtures.outcomes import NoVerdictError
from fixtures.waiting import wait_for
from tests.unit.apiserver import Answer, Json, Request, as_json
from tests.unit.fakecluster import BACKSTAGE, PODS, FakeCluster, status
from tests.unit.fakeserver import Server

CALM = RetryPolicy(within=5, every=0, watch_idle_timeout=30)
"""Of one who believes a watch that says nothing for the length of a test."""
GAP = f"the watch of {PODS} kept a change to itself, or could not go on"


def pod(uid: str, version: str, phase: str = "Running") -> Json:
    """A pod in one of its versions."""
    return {"metadata": {"uid": uid, "resourceVersion": version}, "status": {"phase": phase}}


def listed(version: str, *pods: Json) -> Answer:
    """A list as the API server answers it."""
    return as_json({"metadata": {"resourceVersion": version}, "items": pods})


def event(kind: str, body: Json) -> str:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": body}) + "\n"


def stream(*events: str) -> Answer:
    """A watch that the server ends after these."""
    return Answer(200, "".join(events))


EXPIRED = stream(event("ERROR", {"code": 410, "reason": "Expired", "message": "too old resource version"}))
SILENT = Answer(200, "", {"Content-Length": "1"})
"""A watch that has begun, and has no end."""
LOST = Answer(0, "")


def watches(request: Request) -> bool:
    """Whether a request is that of a watch."""
    return "watch=true" in request.path


class Script:
    """Answers lists and watches in turn, then with a watch without end; remembers from where each was to go on."""

    def __init__(self, lists: list[Answer], streams: list[Answer]) -> None:
        self._lists, self._streams = lists, streams
        self.asked: list[str] = []
        self.over = False

    def __call__(self, request: Request) -> Answer:
        """The answer to one request."""
        if not watches(request):
            return self._lists.pop(0)
        self.asked.append(request.path.partition("&resourceVersion=")[2].partition("&")[0])
        self.over = not self._streams
        return SILENT if self.over else self._streams.pop(0)


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


def followed(script: Script, cluster: FakeCluster, server: Server) -> list[tuple[str, str, str]]:
    """What was seen until the script was over: kind, object, version."""
    cluster.script = script
    with Informer(server.api(CALM), PODS) as watched:
        wait_until(lambda: script.over)
        seen = watched.changes
    return [(each.type, each.uid, each.body["metadata"]["resourceVersion"].text) for each in seen]


def test_what_was_there_and_what_changes_is_remembered_in_order(cluster: FakeCluster, server: Server) -> None:
    """Bookmarks move the place of the watch on and are no changes."""
    changes = event("MODIFIED", pod("a", "2")), event("ADDED", pod("b", "3")), event("DELETED", pod("a", "4"))
    script = Script([listed("1", pod("a", "1"))], [stream(*changes, event("BOOKMARK", pod("", "9")))])

    assert followed(script, cluster, server) == [
        ("ADDED", "a", "1"), ("MODIFIED", "a", "2"), ("ADDED", "b", "3"), ("DELETED", "a", "4"),
    ]  # fmt: skip
    assert script.asked == ["1", "9"]


def test_what_is_present_is_what_was_seen_last(cluster: FakeCluster, server: Server) -> None:
    """A deleted object is not."""
    changes = stream(event("DELETED", pod("a", "2")), event("MODIFIED", pod("b", "3", "Failed")))
    cluster.script = script = Script([listed("1", pod("a", "1"), pod("b", "1"))], [changes])

    with Informer(server.api(CALM), PODS, clock=lambda: 12.5) as watched:
        wait_until(lambda: script.over)
        [left] = watched.objects
        assert left["status"]["phase"].text == "Failed"
        assert {each.at for each in watched.changes} == {12.5}


def test_expired_watch_is_made_up_for_by_a_list(cluster: FakeCluster, server: Server) -> None:
    """What went unseen meanwhile is told as changes; what is as it was is none."""
    before = listed("1", pod("a", "1"), pod("b", "1"), pod("d", "1"))
    script = Script([before, listed("7", pod("b", "5"), pod("c", "6"), pod("d", "1"))], [EXPIRED])

    assert followed(script, cluster, server)[3:] == [("DELETED", "a", "1"), ("MODIFIED", "b", "5"), ("ADDED", "c", "6")]
    assert script.asked == ["1", "7"]


def test_watch_that_breaks_goes_on_where_it_was(cluster: FakeCluster, server: Server) -> None:
    """A connection that is lost, or an error that is not said to be an expiry, loses nothing."""
    again = stream(event("ERROR", {"code": 500, "message": "again"}))
    script = Script([listed("1", pod("a", "1"))], [stream(event("MODIFIED", pod("a", "2"))), LOST, again])

    assert followed(script, cluster, server) == [("ADDED", "a", "1"), ("MODIFIED", "a", "2")]
    assert script.asked == ["1", "2", "2", "2"]


def test_watch_that_was_cut_off_goes_on_where_it_was(cluster: FakeCluster, server: Server) -> None:
    """In the middle of a line, even."""
    told = Told()
    added = {"metadata": {"name": "backstage-x", "uid": "x", "resourceVersion": "100"}}
    sent: list[str] = []

    def cut_off(request: Request) -> Answer | None:
        if not watches(request):
            return None
        sent.append(request.path)
        return stream(event("ADDED", added), '{"type": "ADD') if len(sent) == 1 else None

    cluster.script = cut_off
    with Informer(server.api(), PODS, on_change=told) as pods:
        wait_until(lambda: len(sent) == 2)

    assert told.states == ["a b", "a b x"]
    assert "resourceVersion=100&" in sent[1]
    assert pods.gaps == []


def test_every_state_is_told_in_order(cluster: FakeCluster, server: Server) -> None:
    """Even one that lasts for a moment only."""
    told = Told()
    with Informer(server.api(), PODS, on_change=told) as pods:
        cluster.pod("backstage-c", "node-3", BACKSTAGE)
        cluster.remove(PODS, "backstage-c")
        cluster.remove(PODS, "backstage-a")
        wait_until(lambda: told.states[-1] == "b")

        assert [each["metadata"]["name"].text for each in pods.objects] == ["backstage-b"]

    assert told.states == ["a b", "a b c", "a b", "b"]
    assert pods.gaps == []


def test_server_that_has_forgotten_leaves_a_gap_if_something_happened(cluster: FakeCluster, server: Server) -> None:
    """What is there afterwards is right again; what was in between nobody knows."""
    told = Told()
    cluster.script = lambda request: EXPIRED if watches(request) else None
    with Informer(server.api(), PODS, on_change=told) as pods:
        cluster.remove(PODS, "backstage-a")
        wait_until(lambda: told.states[-1] == "b")
        cluster.script = lambda _: None
        cluster.remove(PODS, "backstage-b")
        wait_until(lambda: told.states[-1] == "")

    assert set(pods.gaps) == {GAP}


def test_server_that_has_forgotten_leaves_no_gap_if_nothing_happened(cluster: FakeCluster, server: Server) -> None:
    """Expired at 410, listed again, the same."""
    seen: list[Request] = []

    def twice(request: Request) -> Answer | None:
        seen.append(request)
        return EXPIRED if watches(request) and len(seen) < 5 else None

    cluster.script = twice
    with Informer(server.api(), PODS) as pods:
        wait_until(lambda: len(seen) > 5)

    assert pods.gaps == []


@pytest.mark.parametrize("answer", [None, status(503, "Unavailable"), LOST], ids=["silent", "503", "no answer"])
def test_watch_that_tells_nothing_is_made_up_for_by_lists(
    cluster: FakeCluster, server: Server, answer: Answer | None
) -> None:
    """What is there is never older than the silence that is allowed; that something may be missing is told."""
    cluster.watches_are_silent = True
    cluster.script = lambda request: answer if watches(request) else None
    told = Told()
    with Informer(server.api(RetryPolicy(within=5, every=0.01, watch_idle_timeout=0.05)), PODS, on_change=told) as pods:
        cluster.remove(PODS, "backstage-a")
        wait_until(lambda: told.states[-1] == "b")

    assert [(each.type, each.body["metadata"]["name"].text) for each in pods.changes][2:] == [
        ("DELETED", "backstage-a")
    ]
    assert pods.gaps == [GAP]


def given_up(watched: Informer) -> bool:
    """Whether it says that something may be missing."""
    try:
        _ = watched.changes
    except NoVerdictError:
        return True
    return False


def test_watch_that_cannot_be_kept_up_leaves_no_verdict(cluster: FakeCluster, server: Server) -> None:
    """Neither watches nor lists get through, so something may have been missed."""
    with Informer(server.api(RetryPolicy(within=0.1, every=0.005, watch_idle_timeout=0.02)), PODS) as watched:
        cluster.script = lambda _: status(503, "Unavailable")
        wait_until(lambda: given_up(watched))
        with pytest.raises(NoVerdictError) as failed:
            _ = watched.changes
    assert str(failed.value) == (
        "expected: changes to be watched\nseen: 503 Service Unavailable\nlook next: kubectl get --watch"
    )


def test_watch_goes_on_for_as_long_as_lists_get_through(cluster: FakeCluster, server: Server) -> None:
    """Watches fail for longer than anything is retried; the lists in between know what they have missed."""
    cluster.script = lambda request: status(503, "Unavailable") if watches(request) else None
    policy = RetryPolicy(within=0.05, every=0.005, watch_idle_timeout=0.02)
    began = time.monotonic()

    with Informer(server.api(policy), PODS) as pods:
        wait_until(lambda: time.monotonic() - began > policy.within * 4)
        cluster.remove(PODS, "backstage-a")
        wait_until(lambda: len(pods.objects) == 1)

    assert pods.gaps == [GAP]


def test_watch_that_is_refused_ends_what_relies_on_it(cluster: FakeCluster, server: Server) -> None:
    """Rights were taken away: whoever reads is told, and whoever waits for the next state is woken to read."""
    cluster.script = lambda request: status(403, "Forbidden") if watches(request) else None
    told = Told()
    with (
        Informer(server.api(), PODS, on_change=told) as pods,
        pytest.raises(NoVerdictError, match="seen: 403 Forbidden"),
    ):
        wait_until(lambda: not pods.objects)

    assert told.states == ["a b", "a b"]


def test_lines_are_put_together_from_pieces() -> None:
    """However the network cut them; what has no end yet is no line."""
    assert list(lines(iter([b"on", b"e\ntw", b"o\n\nthree\nfo", b"ur"]))) == [b"one", b"two", b"three"]
