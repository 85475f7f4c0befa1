"""The API of a `FakeCluster` on the loopback, watches included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.server import ThreadingHTTPServer
from typing import Any

from kubernetes.client import Configuration
from typing_extensions import override

from fixtures.api.client import GuardedClient
from fixtures.api.requests import Api, RetryPolicy
from fixtures.guard.permissions import PERMISSIONS, Guard
from fixtures.guard.request_attributes import Namespaces
from tests.unit.apiserver import Connection, Json, running
from tests.unit.fakecluster import FakeCluster

NAMESPACES = Namespaces(deployment="portal", route="portal", gateway="mcp")
QUICK = RetryPolicy(within=5, every=0.004, watch_idle_timeout=0.3)


class Handler(Connection):
    """Answers by the cluster's script or rules, and streams watches."""

    server: Server

    @override
    def answer(self) -> None:
        request = self.received()
        cluster = self.server.cluster
        if "watch=true" in request.path and not (scripted := cluster.script(request)):
            self._stream(cluster.watch(request))
            return
        answer = scripted if "watch=true" in request.path and scripted else cluster.answer(request)
        if answer.status == 0:  # no answer at all
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        usual = {"Date": self.date_time_string(), "Content-Length": str(len(answer.body))}
        for name, value in {**usual, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body.encode())

    def _stream(self, events: Iterator[Json]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for event in events:
            line = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    """Serves one cluster."""

    daemon_threads = True
    block_on_close = False  # watches may still be open when a test ends
    request_queue_size = 64

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cluster = cluster

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection early."""

    def api(self, retry_policy: RetryPolicy = QUICK, timeout: float = 2) -> Api:
        """A client with all permissions."""
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{self.server_port}"
        configuration.retries = False
        client = GuardedClient(configuration, Guard(frozenset(PERMISSIONS), NAMESPACES), timeout=timeout)
        return Api(client, retry_policy)


def served(cluster: FakeCluster) -> AbstractContextManager[Server]:
    """A server for the cluster, running until the context ends."""
    return running(Server(cluster))
