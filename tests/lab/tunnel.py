"""A local TCP port that leads to a port of a pod, whatever happens to single connections.

`kubectl port-forward` ends at the first connection that the pod resets, which is what a fault of the database
does. Here each connection is a stream of its own. The official client opens it; its `portforward` would also carry
the bytes, in a thread that dies of an exception, or leaves its socket open, when the pod is the first to close.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Any

from kubernetes import client
from kubernetes.stream import ws_client  # type: ignore[attr-defined]
from websocket import ABNF, WebSocket, WebSocketException

CHUNK = 65536
DATA, ERROR = 0, 1
"""Channels of a stream, the first byte of each frame. The first frame of each tells the port and nothing else."""


class Tunnel:
    """The way to a port of a pod while the context lasts; entering gives the local host and port."""

    def __init__(self, core: client.CoreV1Api, namespace: str, pod: str, port: int) -> None:
        self._configuration = core.api_client.configuration  # type: ignore[attr-defined]
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        self._url = ws_client.get_websocket_url(self._configuration.host + path, [("ports", str(port))])
        self._server = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> tuple[str, int]:
        threading.Thread(target=self._accept, daemon=True).start()
        host, port = self._server.getsockname()
        return host, port

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for connections
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._server.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        """Whole life of one connection; what ends one side ends the other."""
        with near, contextlib.suppress(OSError, WebSocketException):
            far = ws_client.create_websocket(self._configuration, self._url)
            try:
                relay(near, far)
            finally:
                far.shutdown()


def relay(near: socket.socket, far: WebSocket) -> None:
    """Carry bytes both ways until either side ends."""
    connection: Any = far.sock
    begun = set()
    while True:
        ready = [connection] if connection.pending() else select.select([near, connection], [], [])[0]
        if near in ready:
            data = near.recv(CHUNK)
            if not data:
                return
            far.send_binary(bytes([DATA]) + data)
        if connection in ready:
            opcode, frame = far.recv_data()
            if opcode != ABNF.OPCODE_BINARY or (frame[0] == ERROR and ERROR in begun):
                return
            if frame[0] in begun:
                near.sendall(frame[1:])
            begun.add(frame[0])
