"""A cluster in which load is made."""

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


class Kubelet:
    """A cluster in which pods run as soon as they are made; a master that says it sends what it is told to."""

    def __init__(self) -> None:
        self.pods: dict[str, Json] = {}
        self.heard: dict[str, list[str]] = {}
        self.streams: dict[str, web.WebSocketResponse] = {}
        self.state: Json = {"running": {}}
        self.clock = time.time
        self.lost = ""
        """Whose connection ends when the pressure is turned, with some last words."""
        self.mute = False
        """Whether the master goes without a word at the end."""

    def application(self) -> web.Application:
        """The API server."""
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
        heard = self.heard.setdefault(name, [])
        async for message in stream:
            if message.type is WSMsgType.BINARY:
                assert message.data[0] == 0
                heard.append(message.data[1:].decode().rstrip("\n"))
                if name.endswith("master"):
                    await self._lead(stream, heard[-1])
        return stream

    async def _lead(self, stream: web.WebSocketResponse, line: str) -> None:
        """Answer as the master does: a count at once, a row for each rate, the end of it all at the end."""
        if line == "end":
            if self.mute:
                await stream.close()
                return
            said = [format_line(Tick(0, {USERS: 2, PRESSURE: 9}, {USERS: 2, PRESSURE: 9})), "over"]
        elif "plan" in line:
            said = [format_line(Tick(self.clock(), {USERS: 0, PRESSURE: 0}, {USERS: 0, PRESSURE: 0}))]
        else:
            said = [format_line(LoadRow(1, PRESSURE, 0.1, "good"))] if PRESSURE in line else []
            if self.lost:
                await self.streams[self.lost].send_bytes(b"\2gevent says\nMemoryError\n")
                await self.streams[self.lost].close()
        text = "".join(f"{each}\n" for each in said).encode()
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):  # as lines may come
            await stream.send_bytes(b"\1" + piece)


@pytest.fixture
def kubelet() -> Kubelet:
    """The cluster."""
    return Kubelet()


@pytest.fixture
def client(kubelet: Kubelet, serve: Callable[[web.Application], str]) -> GuardedClient:
    """Of that cluster, with the permission to load and no other."""
    configuration = Configuration()
    configuration.host = serve(kubelet.application())
    names = Namespaces("backstage", "backstage", "mcp", load="acceptance-load")
    return GuardedClient(configuration, Guard(frozenset({"observe", "load"}), names))


class Memory:
    """Keeps a journal."""

    run = "me"

    def __init__(self) -> None:
        self.written: list[str] = []

    def annotate(self, _name: str, value: str, /) -> None:
        """Write."""
        self.written.append(value)


@pytest.fixture
def memory() -> Memory:
    """Of this run."""
    return Memory()


@pytest.fixture
def cluster(client: GuardedClient, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> InClusterLoad:
    """Where load `1f` is made."""
    monkeypatch.setattr("fixtures.load.pods.secrets.token_hex", lambda _: "1f")
    return InClusterLoad(client, Journal(memory), SETTINGS, within=5)
