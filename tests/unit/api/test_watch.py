"""Following objects: what is remembered, what a broken or expired stream costs, and when it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from fixtures.api.watch import FAILURES, Watched, lines
from fixtures.outcomes import NoVerdictError
from fixtures.waiting import wait_for


def pod(uid: str, version: str, phase: str = "Running") -> dict[str, object]:
    """A pod in one of its versions."""
    return {"metadata": {"uid": uid, "resourceVersion": version}, "status": {"phase": phase}}


def listed(version: str, *pods: dict[str, object]) -> str:
    """A list as the API server answers it."""
    return json.dumps({"metadata": {"resourceVersion": version}, "items": pods})


def event(kind: str, body: dict[str, object]) -> str:
    """A line of a stream."""
    return json.dumps({"type": kind, "object": body}) + "\n"


EXPIRED = event("ERROR", {"code": 410, "reason": "Expired", "message": "too old resource version"})


class Response:
    """An answer that comes in pieces; after the last one it stays open until it is shut."""

    def __init__(self, text: str, *, stays_open: bool) -> None:
        self._pieces = [text[:10].encode(), text[10:].encode()]
        self._shut = threading.Event()
        self._stays_open = stays_open

    def stream(self, amt: int, *, decode_content: bool) -> Iterator[bytes]:
        """The pieces."""
        assert decode_content
        assert amt
        yield from self._pieces
        if self._stays_open:
            self._shut.wait()

    def shutdown(self) -> None:
        """Let the reader go."""
        self._shut.set()

    def close(self) -> None:
        """Nothing is left to close."""


class Server:
    """Answers lists and streams from a script, the last stream without end; remembers how it was asked."""

    def __init__(self, lists: list[str], streams: list[str | Exception]) -> None:
        self._lists, self._streams = lists, streams
        self.asked: list[object] = []
        self.waiting = threading.Event()
        """Set once the script is over."""

    def __call__(self, **options: object) -> object:
        """The answer to one request."""
        if not options.get("watch"):
            return Response(self._lists.pop(0), stays_open=False)
        self.asked.append(options["resource_version"])
        answer = self._streams.pop(0)
        if not self._streams:
            self.waiting.set()
        if isinstance(answer, Exception):
            raise answer
        return Response(answer, stays_open=not self._streams)


def followed(server: Server) -> list[tuple[str, str, str]]:
    """What was seen until the script was over: kind, object, version."""
    with Watched(server, pause=0) as watched:
        assert server.waiting.wait(5)
        seen = watched.changes()
    return [(each.kind, each.uid, each.body["metadata"]["resourceVersion"].text) for each in seen]


def test_what_was_there_and_what_changes_is_remembered_in_order() -> None:
    """Bookmarks move the place of the stream on and are no changes."""
    stream = event("MODIFIED", pod("a", "2")) + event("ADDED", pod("b", "3")) + event("DELETED", pod("a", "4"))
    server = Server([listed("1", pod("a", "1"))], [stream + event("BOOKMARK", pod("", "9")), ""])

    assert followed(server) == [("ADDED", "a", "1"), ("MODIFIED", "a", "2"), ("ADDED", "b", "3"), ("DELETED", "a", "4")]
    assert server.asked == ["1", "9"]


def test_what_is_present_is_what_was_seen_last() -> None:
    """A deleted object is not."""
    stream = event("DELETED", pod("a", "2")) + event("MODIFIED", pod("b", "3", "Failed"))
    server = Server([listed("1", pod("a", "1"), pod("b", "1"))], [stream, ""])

    with Watched(server, clock=lambda: 12.5) as watched:
        assert server.waiting.wait(5)
        [left] = watched.present()
        assert left["status"]["phase"].text == "Failed"
        assert {each.at for each in watched.changes()} == {12.5}


def test_expired_stream_is_made_up_for_by_a_list() -> None:
    """What went unseen meanwhile is told as changes."""
    server = Server(
        [listed("1", pod("a", "1"), pod("b", "1")), listed("7", pod("b", "5"), pod("c", "6"))], [EXPIRED, ""]
    )

    assert followed(server)[2:] == [("DELETED", "a", "1"), ("MODIFIED", "b", "5"), ("ADDED", "c", "6")]
    assert server.asked == ["1", "7"]


def test_stream_that_breaks_goes_on_where_it_was() -> None:
    """A connection that is lost, or an error that is not said to be an expiry, loses nothing."""
    lost: list[str | Exception] = [
        event("MODIFIED", pod("a", "2")),
        OSError("reset"),
        event("ERROR", {"code": 500, "message": "again"}),
        "",
    ]
    server = Server([listed("1", pod("a", "1"))], lost)

    assert followed(server) == [("ADDED", "a", "1"), ("MODIFIED", "a", "2")]
    assert server.asked == ["1", "2", "2", "2"]


def given_up(watched: Watched) -> bool:
    """Whether it says that something may be missing."""
    try:
        watched.changes()
    except NoVerdictError:
        return True
    return False


def test_watch_that_cannot_be_kept_up_leaves_no_verdict() -> None:
    """Something may have been missed, so nothing is told."""
    refused: list[str | Exception] = [OSError("connection refused")] * FAILURES
    server = Server([listed("1", pod("a", "1"))], refused)

    with Watched(server, pause=0) as watched:
        wait_for("it to give up", lambda: given_up(watched), until=bool, within=5, every=0.001, look_next="")
        with pytest.raises(NoVerdictError) as failed:
            watched.changes()
    assert str(failed.value) == (
        "expected: changes to be watched\nseen: OSError: connection refused\nlook next: kubectl get --watch"
    )


def test_lines_are_put_together_from_pieces() -> None:
    """However the network cut them; what has no end yet is no line."""
    assert list(lines(iter([b"on", b"e\ntw", b"o\n\nthree\nfo", b"ur"]))) == [b"one", b"two", b"three"]
