"""The informer: changes it records, watches that break or expire, callbacks, gaps, and when it fails."""

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

PATIENT = RetryPolicy(within=5, every=0, watch_idle_timeout=30)
"""No new list within a test: the watch may be idle for longer than any test takes."""
GAP = f"the watch of {PODS} kept a change to itself, or could not go on"


def pod(uid: str, version: str, phase: str = "Running") -> Json:
    """A pod in one of its versions."""
    return {"metadata": {"uid": uid, "resourceVersion": version}, "status": {"phase": phase}}


def listed(version: str, *pods: Json) -> Answer:
    """Response to a list at a resourceVersion."""
    return as_json({"metadata": {"resourceVersion": version}, "items": pods})


def event(kind: str, body: Json) -> str:
    """One line of a watch response."""
    return json.dumps({"type": kind, "object": body}) + "\n"


def stream(*events: str) -> Answer:
    """A watch that the server ends after these events."""
    return Answer(200, "".join(events))


EXPIRED = stream(event("ERROR", {"code": 410, "reason": "Expired", "message": "too old resource version"}))
SILENT = Answer(200, "", {"Content-Length": "1"})
"""A watch that never ends: the head promises a byte that never comes."""
LOST = Answer(0, "")
"""The connection is lost before a response."""


def is_watch(request: Request) -> bool:
    """Whether a request starts a watch."""
    return "watch=true" in request.path


class Script:
    """Answers lists and watches in turn, then with an endless watch; records the resourceVersion of each watch."""

    def __init__(self, lists: list[Answer], streams: list[Answer]) -> None:
        self._lists, self._streams = lists, streams
        self.versions: list[str] = []
        self.exhausted = False

    def __call__(self, request: Request) -> Answer:
        """The next list or watch."""
        if not is_watch(request):
            return self._lists.pop(0)
        self.versions.append(request.path.partition("&resourceVersion=")[2].partition("&")[0])
        self.exhausted = not self._streams
        return SILENT if self.exhausted else self._streams.pop(0)


class StateRecorder:
    """Callback for `on_change` that records the names of the pods, one string per state."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def __call__(self, objects: tuple[Field, ...]) -> None:
        """Record a state."""
        names = sorted(each["metadata"]["name"].text.removeprefix("backstage-") for each in objects)
        self.states.append(" ".join(names))


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for the informer's thread to make a condition true."""
    wait_for("it", condition, until=bool, within=5, every=0.005, look_next="")


def followed(script: Script, cluster: FakeCluster, server: Server) -> list[tuple[str, str, str]]:
    """Changes until the script is exhausted: type, UID, resourceVersion."""
    cluster.script = script
    with Informer(server.api(PATIENT), PODS) as informer:
        wait_until(lambda: script.exhausted)
        changes = informer.changes
    return [(each.type, each.uid, each.body["metadata"]["resourceVersion"].text) for each in changes]


def test_what_was_there_and_what_changes_is_remembered_in_order(cluster: FakeCluster, server: Server) -> None:
    """Objects of the first list count as ADDED; a bookmark advances the resourceVersion and is no change."""
    changes = event("MODIFIED", pod("a", "2")), event("ADDED", pod("b", "3")), event("DELETED", pod("a", "4"))
    script = Script([listed("1", pod("a", "1"))], [stream(*changes, event("BOOKMARK", pod("", "9")))])

    assert followed(script, cluster, server) == [
        ("ADDED", "a", "1"), ("MODIFIED", "a", "2"), ("ADDED", "b", "3"), ("DELETED", "a", "4"),
    ]  # fmt: skip
    assert script.versions == ["1", "9"]


def test_what_is_present_is_what_was_seen_last(cluster: FakeCluster, server: Server) -> None:
    """`objects` has the last state of each object, without deleted ones; changes have the time of the clock."""
    changes = stream(event("DELETED", pod("a", "2")), event("MODIFIED", pod("b", "3", "Failed")))
    cluster.script = script = Script([listed("1", pod("a", "1"), pod("b", "1"))], [changes])

    with Informer(server.api(PATIENT), PODS, clock=lambda: 12.5) as informer:
        wait_until(lambda: script.exhausted)
        [left] = informer.objects
        assert left["status"]["phase"].text == "Failed"
        assert {each.at for each in informer.changes} == {12.5}


def test_expired_watch_is_made_up_for_by_a_list(cluster: FakeCluster, server: Server) -> None:
    """After 410 the collection is listed again; objects that differ from the last known state are changes."""
    before = listed("1", pod("a", "1"), pod("b", "1"), pod("d", "1"))
    script = Script([before, listed("7", pod("b", "5"), pod("c", "6"), pod("d", "1"))], [EXPIRED])

    assert followed(script, cluster, server)[3:] == [("DELETED", "a", "1"), ("MODIFIED", "b", "5"), ("ADDED", "c", "6")]
    assert script.versions == ["1", "7"]


def test_watch_that_breaks_goes_on_where_it_was(cluster: FakeCluster, server: Server) -> None:
    """After a lost connection, or an error event other than 410, the watch resumes from its last resourceVersion."""
    again = stream(event("ERROR", {"code": 500, "message": "again"}))
    script = Script([listed("1", pod("a", "1"))], [stream(event("MODIFIED", pod("a", "2"))), LOST, again])

    assert followed(script, cluster, server) == [("ADDED", "a", "1"), ("MODIFIED", "a", "2")]
    assert script.versions == ["1", "2", "2", "2"]


def test_watch_that_was_cut_off_goes_on_where_it_was(cluster: FakeCluster, server: Server) -> None:
    """A response that ends in the middle of a line loses no event."""
    recorder = StateRecorder()
    added = {"metadata": {"name": "backstage-x", "uid": "x", "resourceVersion": "100"}}
    sent: list[str] = []

    def cut_off(request: Request) -> Answer | None:
        if not is_watch(request):
            return None
        sent.append(request.path)
        return stream(event("ADDED", added), '{"type": "ADD') if len(sent) == 1 else None

    cluster.script = cut_off
    with Informer(server.api(), PODS, on_change=recorder) as pods:
        wait_until(lambda: len(sent) == 2)

    assert recorder.states == ["a b", "a b x"]
    assert "resourceVersion=100&" in sent[1]
    assert pods.gaps == []


def test_every_state_is_told_in_order(cluster: FakeCluster, server: Server) -> None:
    """The callback gets every state, also one that lasts only a moment."""
    recorder = StateRecorder()
    with Informer(server.api(), PODS, on_change=recorder) as pods:
        cluster.pod("backstage-c", "node-3", BACKSTAGE)
        cluster.remove(PODS, "backstage-c")
        cluster.remove(PODS, "backstage-a")
        wait_until(lambda: recorder.states[-1] == "b")

        assert [each["metadata"]["name"].text for each in pods.objects] == ["backstage-b"]

    assert recorder.states == ["a b", "a b c", "a b", "b"]
    assert pods.gaps == []


def test_server_that_has_forgotten_leaves_a_gap_if_something_happened(cluster: FakeCluster, server: Server) -> None:
    """If the list after 410 differs, states in between may have been missed: a gap."""
    recorder = StateRecorder()
    cluster.script = lambda request: EXPIRED if is_watch(request) else None
    with Informer(server.api(), PODS, on_change=recorder) as pods:
        cluster.remove(PODS, "backstage-a")
        wait_until(lambda: recorder.states[-1] == "b")
        cluster.script = lambda _: None
        cluster.remove(PODS, "backstage-b")
        wait_until(lambda: recorder.states[-1] == "")

    assert set(pods.gaps) == {GAP}


def test_server_that_has_forgotten_leaves_no_gap_if_nothing_happened(cluster: FakeCluster, server: Server) -> None:
    """If the list after 410 shows no difference, nothing was missed."""
    requests: list[Request] = []

    def expired_at_first(request: Request) -> Answer | None:
        requests.append(request)
        # Lists and watches alternate, so the first two watches expire.
        return EXPIRED if is_watch(request) and len(requests) < 5 else None

    cluster.script = expired_at_first
    with Informer(server.api(), PODS) as pods:
        wait_until(lambda: len(requests) > 5)

    assert pods.gaps == []


@pytest.mark.parametrize("answer", [None, status(503, "Unavailable"), LOST], ids=["silent", "503", "no answer"])
def test_watch_that_tells_nothing_is_made_up_for_by_lists(
    cluster: FakeCluster, server: Server, answer: Answer | None
) -> None:
    """A watch without events is checked by a list after the idle timeout; a difference is a change, and a gap."""
    cluster.watches_silent = True
    cluster.script = lambda request: answer if is_watch(request) else None
    recorder = StateRecorder()
    policy = RetryPolicy(within=5, every=0.01, watch_idle_timeout=0.05)
    with Informer(server.api(policy), PODS, on_change=recorder) as pods:
        cluster.remove(PODS, "backstage-a")
        wait_until(lambda: recorder.states[-1] == "b")

    assert [(each.type, each.body["metadata"]["name"].text) for each in pods.changes][2:] == [
        ("DELETED", "backstage-a")
    ]
    assert pods.gaps == [GAP]


def has_failed(informer: Informer) -> bool:
    """Whether the informer has failed for good, so reading its changes raises."""
    try:
        _ = informer.changes
    except NoVerdictError:
        return True
    return False


def test_watch_that_cannot_be_kept_up_leaves_no_verdict(cluster: FakeCluster, server: Server) -> None:
    """When neither watches nor lists succeed within the retry limit, changes may be missing."""
    with Informer(server.api(RetryPolicy(within=0.1, every=0.005, watch_idle_timeout=0.02)), PODS) as informer:
        cluster.script = lambda _: status(503, "Unavailable")
        wait_until(lambda: has_failed(informer))
        with pytest.raises(NoVerdictError) as failed:
            _ = informer.changes
    assert str(failed.value) == (
        "expected: changes to be watched\nseen: 503 Service Unavailable\nlook next: kubectl get --watch"
    )


def test_watch_goes_on_for_as_long_as_lists_get_through(cluster: FakeCluster, server: Server) -> None:
    """Watches that fail for longer than the retry limit are no failure, as lists keep the objects current."""
    cluster.script = lambda request: status(503, "Unavailable") if is_watch(request) else None
    policy = RetryPolicy(within=0.05, every=0.005, watch_idle_timeout=0.02)
    began = time.monotonic()

    # Four times the limit: the informer would have failed by then if lists did not reset it.
    with Informer(server.api(policy), PODS) as pods:
        wait_until(lambda: time.monotonic() - began > policy.within * 4)
        cluster.remove(PODS, "backstage-a")
        wait_until(lambda: len(pods.objects) == 1)

    assert pods.gaps == [GAP]


def test_watch_that_is_refused_ends_what_relies_on_it(cluster: FakeCluster, server: Server) -> None:
    """On 403 reads raise, and the callback is called once more, so that a waiting reader wakes up and finds out."""
    cluster.script = lambda request: status(403, "Forbidden") if is_watch(request) else None
    recorder = StateRecorder()
    with (
        Informer(server.api(), PODS, on_change=recorder) as pods,
        pytest.raises(NoVerdictError, match="seen: 403 Forbidden"),
    ):
        wait_until(lambda: not pods.objects)

    assert recorder.states == ["a b", "a b"]


def test_lines_are_put_together_from_pieces() -> None:
    """Lines are independent of how the bytes were split; an incomplete last line is left out."""
    assert list(lines(iter([b"on", b"e\ntw", b"o\n\nthree\nfo", b"ur"]))) == [b"one", b"two", b"three"]
