"""An API server on the loopback that answers from a script and records its requests."""

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
"""Answers of the lab's API server to `acceptance-observer`, by situation."""


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Json


@dataclass(frozen=True)
class Answer:
    """Status, body and headers of a response."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


def as_json(body: Json, status: int = 200) -> Answer:
    """A response with a JSON body."""
    return Answer(status, json.dumps(body), {"Content-Type": "application/json"})


def refusal(name: str) -> Answer:
    """A refusal that the lab's API server was recorded to send."""
    return Answer(RECORDED[name]["status"], RECORDED[name]["body"], {"Content-Type": "application/json"})


class Server(ThreadingHTTPServer):
    """Answers with what `script` returns; the script may block to delay the response."""

    daemon_threads = True
    request_queue_size = 64  # the default of 5 is too short for tests that connect from many threads

    def __init__(self, script: Callable[[Request], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.connections = 0
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        """URL of the server, with the port that the system chose."""
        return f"http://127.0.0.1:{self.server_port}"

    def configuration(self) -> Configuration:
        """Configuration for a client of this server, without credentials."""
        configuration = Configuration()
        configuration.host = self.url
        return configuration

    @override
    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connections += 1
        return True


class Connection(BaseHTTPRequestHandler):
    """One connection of a client; subclasses implement `answer`."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: a second one would wait for the client's delayed ACK

    @override
    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def received(self) -> Request:
        """The current request, read from the connection."""
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
    """Records each request and answers by the script."""

    server: Server

    @override
    def answer(self) -> None:
        request = self.received()
        self.server.requests.append(request)
        answer = self.server.script(request)
        # send_response adds a `Date`, which would be a second one beside the script's.
        (self.send_response_only if "Date" in answer.headers else self.send_response)(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body.encode())


Running = TypeVar("Running", bound=ThreadingHTTPServer)


@contextlib.contextmanager
def running(server: Running) -> Iterator[Running]:
    """The server, running in a thread until the context ends."""
    # shutdown() waits for the next poll, which by default comes after half a second.
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
    """A server with this script, running until the context ends."""
    return running(Server(script))
