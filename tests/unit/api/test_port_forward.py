"""Port-forward to a pod: bytes both ways, errors of the kubelet, refusals of server and guard."""

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
    """A pod that sends back what it receives, in capitals."""
    async for message in stream:
        if message.type is WSMsgType.BINARY:
            await stream.send_bytes(b"\0" + message.data[1:].upper())


async def closed_port(stream: web.WebSocketResponse) -> None:
    """A pod that does not listen on the port; the kubelet reports it on the error channel."""
    await stream.receive()
    await stream.send_bytes(b"\1" + REFUSED.encode())


def api_server(pod: Pod, status: int = 101) -> web.Application:
    """An API server with one pod; it opens no stream if `status` is another than 101."""

    async def portforward(request: web.Request) -> web.StreamResponse:
        if status != 101:
            return web.json_response({"message": "pods is forbidden"}, status=status)
        stream = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await stream.prepare(request)
        # The protocol begins each channel, data and errors, with the port as a little-endian uint16.
        for channel in (b"\0", b"\1"):
            await stream.send_bytes(channel + struct.pack("<H", int(request.query["ports"])))
        await pod(stream)
        return stream

    app = web.Application()
    app.router.add_get(PATH, portforward)
    return app


def client_of(url: str, *permissions: str) -> GuardedClient:
    """Client of an environment that has these permissions."""
    configuration = Configuration()
    configuration.host = url
    names = Namespaces("backstage", "backstage", "gateways")
    return GuardedClient(configuration, Guard(frozenset(permissions), names))


def reply_through(tunnel: Tunnel) -> bytes:
    """Reply of the pod to `select`; empty if the tunnel closes the connection instead."""
    with closing(socket.create_connection((tunnel.host, tunnel.port), timeout=5)) as connection:
        connection.sendall(b"select")
        try:
            return connection.recv(100)
        except ConnectionResetError:  # the peer closed with our bytes unread
            return b""


def test_tunnel_carries_bytes_both_ways(serve: Serve) -> None:
    """Each local connection gets its own stream to the pod's port."""
    client = client_of(serve(api_server(echo)), "observe", "connect")

    with Tunnel(client, "backstage", "portal-1", 5432) as tunnel:
        assert [reply_through(tunnel), reply_through(tunnel)] == [b"SELECT", b"SELECT"]
        assert tunnel.refusal == ""
        tunnel.raise_connection_error()


def test_tunnel_keeps_what_the_kubelet_says_of_a_closed_port(serve: Serve) -> None:
    """A connection to a closed port is closed; the kubelet's reason is kept, and the tunnel itself has no error."""
    client = client_of(serve(api_server(closed_port)), "observe", "connect")

    with Tunnel(client, "backstage", "portal-1", 5432) as tunnel:
        assert reply_through(tunnel) == b""
        assert tunnel.refusal == REFUSED
        tunnel.raise_connection_error()


def test_tunnel_says_why_the_api_server_opened_nothing(serve: Serve) -> None:
    """When the API server refuses the stream, the error says so, as the pod is not to blame."""
    client = client_of(serve(api_server(echo, status=403)), "observe", "connect")

    with Tunnel(client, "backstage", "portal-1", 5432) as tunnel:
        assert reply_through(tunnel) == b""
        with pytest.raises(NoVerdictError) as failed:
            tunnel.raise_connection_error()

    expected, seen, look_next = str(failed.value).splitlines()
    assert expected == "expected: a port-forward to portal-1"
    assert seen.startswith("seen: Handshake status 403 Forbidden")
    assert look_next == "look next: kubectl -n backstage port-forward pod/portal-1 5432"


def test_tunnel_opens_nothing_without_the_permission(serve: Serve) -> None:
    """Without connect the guard refuses the websocket."""
    client = client_of(serve(api_server(echo)), "observe")

    with Tunnel(client, "backstage", "portal-1", 5432) as tunnel:
        assert reply_through(tunnel) == b""
        with pytest.raises(ForbiddenByEnvironmentError, match="get pods/portforward in backstage, which needs connect"):
            tunnel.raise_connection_error()


def test_tunnel_ends_with_its_context(serve: Serve) -> None:
    """After the context nothing listens on the local port."""
    with Tunnel(client_of(serve(api_server(echo)), "observe", "connect"), "backstage", "portal-1", 5432) as tunnel:
        pass

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((tunnel.host, tunnel.port), timeout=1)
