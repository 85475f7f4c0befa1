"""An API server on the loopback that answers from a script and remembers what reached it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: the client would be slow to acknowledge the first of two
    server: Server

    @override
    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def answer(self) -> None:
        """Remember the request, answer by the script."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        request = Request(self.command, self.path, dict(self.headers), json.loads(body or b"{}"))
        self.server.requests.append(request)
        answer = self.server.script(request)
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body.encode())

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815 - the names of http.server

    @override
    def log_message(self, format: str, *args: object) -> None: ...


@contextlib.contextmanager
def serving(script: Callable[[Request], Answer] = lambda _: as_json({})) -> Iterator[Server]:
    """A server until the end."""
    server = Server(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
