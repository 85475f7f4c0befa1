"""An API server on the loopback that answers from a script and remembers what reached it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from kubernetes.client import Configuration
from typing_extensions import override

Json = dict[str, Any]
RECORDED: Json = json.loads(Path("tests/unit/recorded/preflight/answers.json").read_text())
"""What the lab's API server said to `acceptance-observer`, by circumstance."""


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Json


@dataclass(frozen=True)
class Answer:
    """What to answer."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


def as_json(body: Json, status: int = 200) -> Answer:
    """A good answer."""
    return Answer(status, json.dumps(body), {"Content-Type": "application/json"})


def refusal(name: str) -> Answer:
    """A recorded bad answer."""
    return Answer(RECORDED[name]["status"], RECORDED[name]["body"], {"Content-Type": "application/json"})


class Server(ThreadingHTTPServer):
    """Answers by `script`, which may wait."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, script: Callable[[Request], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.connections = 0
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def configuration(self) -> Configuration:
        """Of a client of this server, without identity."""
        configuration = Configuration()
        configuration.host = self.url
        return configuration

    @override
    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connections += 1
        return True


class Connection(BaseHTTPRequestHandler):
    """One connection of a client; whoever inherits it answers."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: the client would be slow to acknowledge the first of two

    @override
    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def received(self) -> Request:
        """What was asked."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        return Request(self.command, self.path, dict(self.headers), json.loads(body or b"{}"))

    def answer(self) -> None:
        """Answer one request."""
        raise NotImplementedError

    def _any(self) -> None:
        self.answer()

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _any  # noqa: N815 - the names of http.server

    @override
    def log_message(self, format: str, *args: object) -> None: ...


class Handler(Connection):
    """Remembers the request, answers by the script."""

    server: Server

    @override
    def answer(self) -> None:
        request = self.received()
        self.server.requests.append(request)
        answer = self.server.script(request)
        # Else a second `Date` would be sent beside the script's.
        (self.send_response_only if "Date" in answer.headers else self.send_response)(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body.encode())


Running = TypeVar("Running", bound=ThreadingHTTPServer)


@contextlib.contextmanager
def running(server: Running) -> Iterator[Running]:
    """A server until the end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.002})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serving(
    script: Callable[[Request], Answer] = lambda _: as_json({}),
) -> contextlib.AbstractContextManager[Server]:
    """A server that answers by a script, until the end."""
    return running(Server(script))
