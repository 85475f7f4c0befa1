"""The Cloud SQL stand-in, serving, with a fake server in place of PostgreSQL."""

from __future__ import annotations

import signal
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from aiohttp import web

from lab import layout
from lab.google.cloudsql.admin_api import AdminApi
from lab.google.cloudsql.postgres import Postgres
from tests.unit.lab.google.cloudsql.client import Call


class FakePostgres(socketserver.ThreadingTCPServer):
    """Returns the first packet with `hello` in front of it, then waits until the client disconnects."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeBackend)


class FakeBackend(socketserver.BaseRequestHandler):
    """One connection to the fake server."""

    def handle(self) -> None:
        """Answer the first packet and read until the client disconnects."""
        self.request.sendall(b"hello " + self.request.recv(1000))
        self.request.recv(1000)


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePostgres]:
    """The server behind the instance's port."""
    with FakePostgres() as server:
        # The argument is the poll interval, for which shutdown() waits.
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        monkeypatch.setattr(layout, "POSTGRES_PORT", server.server_address[1])
        yield server
        server.shutdown()


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[signal.Signals]:
    """The signals that PostgreSQL is restarted with; each restart succeeds at once."""
    sent: list[signal.Signals] = []

    async def restart(_: Postgres, how: signal.Signals) -> None:
        sent.append(how)

    monkeypatch.setattr(Postgres, "restart", restart)
    return sent


@pytest.fixture
def directory(tmp_path: Path, faults: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """The stand-in's data directory, with loopback addresses for the instance and no delays."""
    # The stand-in binds this port itself, once the socket that found it is closed.
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        monkeypatch.setattr(layout, "DATABASE_PORT", free.getsockname()[1])
    monkeypatch.setattr(layout, "DATABASE_ADDRESSES", ("127.0.0.2", "127.0.0.3"))
    (tmp_path / "cloudsql.json").write_text('{"restart": 0, "failover": 0}')
    return tmp_path


@pytest.fixture
def api(directory: Path, restarts: list[signal.Signals]) -> AdminApi:  # noqa: ARG001
    """The stand-in with a fresh IAM, not serving yet."""
    api = AdminApi(directory)
    api.iam.create()
    return api


@pytest.fixture
def call(api: AdminApi, serve: Callable[[web.Application], str]) -> Iterator[Call]:
    """Sends a request to the served Admin API, by default as the operator."""
    url = serve(api.application())
    with requests.Session() as session:

        def send(
            method: str,
            path: str,
            body: object = None,
            *,
            account: str = layout.OPERATOR_ACCOUNT,
            token: str | None = None,
        ) -> requests.Response:
            headers = {"Authorization": f"Bearer {token or api.iam.mint(account)}"}
            return session.request(method, url + path, json=body, headers=headers, timeout=5)

        yield send


@pytest.fixture
def instance(api: AdminApi, call: Call, postgres: FakePostgres) -> AdminApi:  # noqa: ARG001
    """The stand-in, serving, with the fake server behind its port."""
    return api
