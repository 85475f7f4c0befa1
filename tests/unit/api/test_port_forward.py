"""The way to a pod's port: bytes both ways, what the kubelet says, who may open it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import closing

import pytest
from aiohttp import WSMsgType, web
from kubernetes.client import Configuration

from fixtures.api.client import GuardedClient
from fixtures.api.port_forward import Tunnel
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import ForbiddenByEnvironmentError, Namespaces
from fixtures.outcomes import NoVerdictError

PATH = "/api/v1/namespaces/backstage/pods/portal-1/portforward"
REFUSED = "error forwarding port 5432 to pod 1f, uid : exit status 1: connection refused"

Pod = Callable[[web.WebSocketResponse], Awaitable[None]]
Serve = Callable[[web.Application], str]


async def echo(stream: web.WebSocketResponse) -> None:
    """A pod that sends back what it gets, in capitals."""
    async for message in stream:
        if message.type is WSMsgType.BINARY:
            await stream.send_bytes(b"\0" + message.data[1:].upper())


async def closed(stream: web.WebSocketResponse) -> None:
    """A pod with nothing behind the port; what the kubelet says of it."""
    await stream.receive()
    await stream.send_bytes(b"\1" + REFUSED.encode())


def kubelet(pod: Pod, status: int = 101) -> web.Application:
    """An API server with one pod, which opens streams unless it answers with another status."""

    async def portforward(request: web.Request) -> web.StreamResponse:
        if status != 101:
            return web.json_response({"message": "pods is forbidden"}, status=status)
        stream = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await stream.prepare(request)
        for channel in (b"\0", b"\1"):
            await stream.send_bytes(channel + struct.pack("<H", int(request.query["ports"])))
        await pod(stream)
        return stream

    app = web.Application()
    app.router.add_get(PATH, portforward)
    return app


def client_of(url: str, *permissions: str) -> GuardedClient:
    """A client of an API server at a URL."""
    configuration = Configuration()
    configuration.host = url
    names = Namespaces("backstage", "backstage", "gateways")
    return GuardedClient(configuration, Guard(frozenset(permissions), names))


def answer_of(tunnel: Tunnel) -> bytes:
    """What comes back for a word; nothing if the connection is closed instead."""
    with closing(socket.create_connection((tunnel.host, tunnel.port), timeout=5)) as near:
        near.sendall(b"select")
        try:
            return near.recv(100)
        except ConnectionResetError:  # how a close looks while something sent was not read
            return b""


def test_tunnel_carries_bytes_both_ways(serve: Serve) -> None:
    """Each connection is a stream of its own to the pod's port."""
    client = client_of(serve(kubelet(echo)), "observe", "connect")

    with Tunnel(client, "backstage", "portal-1", 5432) as tunnel:
        assert [answer_of(tunnel), answer_of(tunnel)] == [b"SELECT", b"SELECT"]
        assert tunnel.refusal == ""
        tunnel.raise_connection_error()


def test_tunnel_keeps_what_the_kubelet_says_of_a_closed_port(serve: Serve) -> None:
    """A connection that the pod does not take is closed, and the reason is known."""
    client = client_of(serve(kubelet(closed)), "observe", "connect")

    with Tunnel(client, "backstage", "portal-1", 5432) as tunnel:
        assert answer_of(tunnel) == b""
        assert tunnel.refusal == REFUSED
        tunnel.raise_connection_error()


def test_tunnel_says_why_the_api_server_opened_nothing(serve: Serve) -> None:
    """Who was cut off because the API server refused learns that it was not the pod."""
    client = client_of(serve(kubelet(echo, status=403)), "observe", "connect")

    with Tunnel(client, "backstage", "portal-1", 5432) as tunnel:
        assert answer_of(tunnel) == b""
        with pytest.raises(NoVerdictError) as failed:
            tunnel.raise_connection_error()

    expected, seen, look_next = str(failed.value).splitlines()
    assert expected == "expected: a port-forward to portal-1"
    assert seen.startswith("seen: Handshake status 403 Forbidden")
    assert look_next == "look next: kubectl -n backstage port-forward pod/portal-1 5432"


def test_tunnel_opens_nothing_without_the_permission(serve: Serve) -> None:
    """The guard stands before the websocket too."""
    client = client_of(serve(kubelet(echo)), "observe")

    with Tunnel(client, "backstage", "portal-1", 5432) as tunnel:
        assert answer_of(tunnel) == b""
        with pytest.raises(ForbiddenByEnvironmentError, match="get pods/portforward in backstage, which needs connect"):
            tunnel.raise_connection_error()


def test_tunnel_ends_with_its_context(serve: Serve) -> None:
    """Afterwards nobody listens."""
    with Tunnel(client_of(serve(kubelet(echo)), "observe", "connect"), "backstage", "portal-1", 5432) as tunnel:
        pass

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((tunnel.host, tunnel.port), timeout=1)
