"""A fake API server with pods that generate load, and the fixtures that connect to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from kubernetes.client import Configuration

from fixtures.api.client import GuardedClient
from fixtures.environment.schema import LoadTable
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import Namespaces
from fixtures.lease.journal import Journal
from fixtures.load.in_cluster import InClusterLoad
from fixtures.load.plan import PRESSURE, USERS, LoadPlan, LoadRow, Tick
from fixtures.load.protocol import format_line
from fixtures.traffic.plan import Page

Json = dict[str, Any]
PODS = "/api/v1/namespaces/acceptance-load/pods"
PLAN = LoadPlan(
    "https://portal.test", None, "PEM", {"Authorization": "Bearer secret"}, Page("/static/big.js", ""), longest=100
)

NAMES = ("load-1f-master", "load-1f-worker-1", "load-1f-worker-2")
SETTINGS = LoadTable(workers=2, image="suite:1")


class FakeApiServer:
    """An API server whose pods run at once; the master's attach stream responds as Locust's master would."""

    def __init__(self) -> None:
        self.pods: dict[str, Json] = {}
        self.received: dict[str, list[str]] = {}
        self.streams: dict[str, web.WebSocketResponse] = {}
        self.state: Json = {"running": {}}
        self.clock = time.time
        self.crashing_pod = ""
        """Name of the pod whose stream ends with an error text when the pressure rate is set; empty for none."""
        self.closes_silently = False
        """Whether the master closes its stream at the end without reporting."""

    def application(self) -> web.Application:
        """The endpoints for pods, with watch and attach."""
        app = web.Application()
        app.router.add_post(PODS, self._create)
        app.router.add_get(PODS, self._list)
        app.router.add_delete(f"{PODS}/{{name}}", self._delete)
        app.router.add_get(f"{PODS}/{{name}}/attach", self._attach)
        return app

    async def _create(self, request: web.Request) -> web.Response:
        pod = await request.json()
        name = pod["metadata"]["name"]
        status = {"podIP": "10.0.0.9", "containerStatuses": [{"name": "load", "state": self.state}]}
        pod["metadata"]["uid"] = name
        self.pods[name] = {**pod, "status": status, "spec": {**pod["spec"], "nodeName": "node-1"}}
        return web.json_response(pod, status=201)

    async def _list(self, request: web.Request) -> web.Response:
        if "watch" in request.query:
            # An empty watch; the delay keeps the client from reconnecting in a busy loop.
            await asyncio.sleep(0.05)
            return web.Response(text="")
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": list(self.pods.values())})

    async def _delete(self, request: web.Request) -> web.Response:
        self.pods.pop(request.match_info["name"])
        return web.json_response({})

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        stream = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await stream.prepare(request)
        self.streams[name] = stream
        received = self.received.setdefault(name, [])
        async for message in stream:
            if message.type is WSMsgType.BINARY:
                # The first byte is the channel: 0 is stdin, 1 stdout, 2 stderr.
                assert message.data[0] == 0
                received.append(message.data[1:].decode().rstrip("\n"))
                if name.endswith("master"):
                    await self._respond_as_master(stream, received[-1])
        return stream

    async def _respond_as_master(self, stream: web.WebSocketResponse, line: str) -> None:
        """Respond as the master does: a tick to the plan, a row to each pressure rate, the last tick to `end`."""
        if line == "end":
            if self.closes_silently:
                await stream.close()
                return
            lines = [format_line(Tick(0, {USERS: 2, PRESSURE: 9}, {USERS: 2, PRESSURE: 9})), "over"]
        elif "plan" in line:
            lines = [format_line(Tick(self.clock(), {USERS: 0, PRESSURE: 0}, {USERS: 0, PRESSURE: 0}))]
        else:
            lines = [format_line(LoadRow(1, PRESSURE, 0.1, "good"))] if PRESSURE in line else []
            if self.crashing_pod:
                await self.streams[self.crashing_pod].send_bytes(b"\2gevent says\nMemoryError\n")
                await self.streams[self.crashing_pod].close()
        text = "".join(f"{each}\n" for each in lines).encode()
        # Output may be split anywhere, also within a line.
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            await stream.send_bytes(b"\1" + piece)


@pytest.fixture
def api_server() -> FakeApiServer:
    """The fake API server, without pods."""
    return FakeApiServer()


@pytest.fixture
def client(api_server: FakeApiServer, serve: Callable[[web.Application], str]) -> GuardedClient:
    """A client of that server, with the permissions to observe and to generate load only."""
    configuration = Configuration()
    configuration.host = serve(api_server.application())
    names = Namespaces("backstage", "backstage", "mcp", load="acceptance-load")
    return GuardedClient(configuration, Guard(frozenset({"observe", "load"}), names))


class FakeLease:
    """Stands in for the run's Lease and keeps what the journal writes to it."""

    run = "me"

    def __init__(self) -> None:
        self.written: list[str] = []

    def annotate(self, _name: str, value: str, /) -> None:
        """Keep the value of the annotation."""
        self.written.append(value)


@pytest.fixture
def lease() -> FakeLease:
    """The Lease of this run."""
    return FakeLease()


@pytest.fixture
def cluster(client: GuardedClient, lease: FakeLease, monkeypatch: pytest.MonkeyPatch) -> InClusterLoad:
    """Load in that cluster; its generated name is `1f`."""
    monkeypatch.setattr("fixtures.load.pods.secrets.token_hex", lambda _: "1f")
    return InClusterLoad(client, Journal(lease), SETTINGS, within=5)
