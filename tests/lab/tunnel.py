"""A local TCP port that leads to a port of a pod, whatever happens to single connections.

`kubectl port-forward` ends at the first connection that the pod resets, which is what a fault of the database
does. Here each connection is a stream of its own.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException
from kubernetes.stream import portforward

CHUNK = 65536


class Tunnel:
    """The way to a port of a pod while the context lasts; entering gives the local host and port."""

    def __init__(self, core: client.CoreV1Api, namespace: str, pod: str, port: int) -> None:
        self._configuration = core.api_client.configuration  # type: ignore[attr-defined]
        self._namespace, self._pod, self._port = namespace, pod, port
        self._server = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> tuple[str, int]:
        threading.Thread(target=self._accept, name=f"tunnel to {self._pod}", daemon=True).start()
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
        with near, contextlib.suppress(OSError, ApiException), self._stream() as far:
            while True:
                for end in select.select([near, far], [], [])[0]:
                    data = end.recv(CHUNK)
                    if not data:
                        return
                    (far if end is near else near).sendall(data)

    @contextlib.contextmanager
    def _stream(self) -> Iterator[socket.socket]:
        # A client of its own: while a stream is opened, the client can be used for nothing else.
        core = client.CoreV1Api(client.ApiClient(self._configuration))
        connect = core.connect_get_namespaced_pod_portforward
        stream: Any = portforward(connect, self._pod, self._namespace, ports=str(self._port))
        far = stream.socket(self._port)
        far.settimeout(None)
        try:
            yield far
        finally:
            # The library's thread must be the first to close, and leaves its websocket open if the pod was.
            far.shutdown(socket.SHUT_WR)
            while far.recv(CHUNK):
                pass
            stream.close()
            stream.websocket.shutdown()
