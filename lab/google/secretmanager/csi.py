"""GKE's side of the Secrets Store CSI driver, for all nodes in one process: the `gke` provider and the registrar.

The driver is the real one and runs as a pod on each node. For the files of a volume it asks the provider, on a
socket in the node's kubelet directory; the registrar makes it known to the kubelet once it answers. Sockets that
vanish, because a node is rebuilt or the driver restarts, are served anew.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path
from types import ModuleType
from typing import Protocol, Self

import grpc

from lab import layout
from lab.google.iam import Iam
from lab.google.secretmanager.provider import KubernetesCluster, Provider, RpcError
from lab.kubernetes_api import Api

log = logging.getLogger("csi")

DRIVER = "secrets-store-gke.csi.k8s.io"
DRIVER_SOCKET = f"plugins/{DRIVER}/csi.sock"
TURN = 0.5
"""Seconds between looks at the sockets."""


class Message(Protocol):
    """A compiled message."""

    @classmethod
    def FromString(cls, serialized: bytes) -> Self:  # noqa: N802 -- protobuf's name
        """The message of these bytes."""

    def SerializeToString(self) -> bytes:  # noqa: N802 -- protobuf's name
        """Its bytes."""


class MountRequest(Protocol):
    """What is read of the message `v1alpha1.MountRequest`."""

    attributes: str
    """JSON: the class's parameters and what the kubelet says of the pod."""
    permission: str
    """Mode of files that have none of their own, a decimal number."""


class RegistrationStatus(Protocol):
    """What is read of the message `pluginregistration.RegistrationStatus`."""

    plugin_registered: bool
    error: str


class Endpoint:
    """A gRPC service on a Unix socket."""

    def __init__(self, path: Path, name: str, methods: Mapping[str, grpc.RpcMethodHandler]) -> None:
        self._path = path
        self._handler = grpc.method_handlers_generic_handler(name, methods)
        self._server: grpc.Server | None = None

    def open(self) -> None:
        """Serve, unless it does already and the socket is still there."""
        if self._server and self._path.exists():
            return
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        server.add_generic_rpc_handlers((self._handler,))
        server.add_insecure_port(f"unix://{self._path}")
        server.start()
        self._server = server

    def close(self) -> None:
        """Stop serving; the socket goes with it."""
        if self._server:
            self._server.stop(grace=0).wait()
            self._server = None


class Node:
    """The two sockets in a node's kubelet directory, which comes and goes with the node."""

    def __init__(self, kubelet: Path, provider: Mapping[str, grpc.RpcMethodHandler], registration: ModuleType) -> None:
        name = kubelet.parent.name
        self._kubelet = kubelet
        self._provider = Endpoint(kubelet / "plugins/gke-providers/gke.sock", "v1alpha1.CSIDriverProvider", provider)
        self._registration = Endpoint(
            kubelet / f"plugins_registry/{DRIVER}-reg.sock",
            "pluginregistration.Registration",
            registration_methods(registration, name),
        )

    def refresh(self) -> None:
        """Serve what should be served as things are now."""
        if not self._kubelet.is_dir():
            return
        self._provider.open()
        # Registered while the driver answers: when it restarts, the kubelet hears of it anew.
        if answers(self._kubelet / DRIVER_SOCKET):
            self._registration.open()
        else:
            self._registration.close()

    def try_refresh(self) -> None:
        """Refresh; if the node's directory went in the middle of it, the next turn will do."""
        try:
            self.refresh()
        except (OSError, RuntimeError) as error:
            log.info("sockets of %s: %s", self._kubelet.parent.name, error)

    def close(self) -> None:
        """Serve nothing any more."""
        self._registration.close()
        self._provider.close()


def answers(path: Path) -> bool:
    """Whether somebody listens on the socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def provider_methods(messages: ModuleType, provider: Provider) -> dict[str, grpc.RpcMethodHandler]:
    """The service that the driver calls (`service.proto`)."""

    def version(_request: object, _context: grpc.ServicerContext) -> object:
        return messages.VersionResponse(version="v1alpha1", runtime_name="lab-gke-provider", runtime_version="0.1.0")

    def mount(request: MountRequest, context: grpc.ServicerContext) -> object:
        try:
            mounted = provider.mount(request.attributes, request.permission)
        except RpcError as error:
            log.info("refused: %s", error)
            return context.abort(error.code, error.message)
        return messages.MountResponse(
            object_version=[messages.ObjectVersion(id=file.wanted.resource, version=file.version) for file in mounted],
            files=[
                messages.File(
                    path=file.wanted.path or file.wanted.file_name, mode=file.wanted.mode, contents=file.contents
                )
                for file in mounted
            ],
        )

    return {
        "Version": unary(version, messages.VersionRequest, messages.VersionResponse),
        "Mount": unary(mount, messages.MountRequest, messages.MountResponse),
    }


def registration_methods(messages: ModuleType, node: str) -> dict[str, grpc.RpcMethodHandler]:
    """The service that the kubelet calls (`api.proto`)."""

    def get_info(_request: object, _context: grpc.ServicerContext) -> object:
        # The path as the kubelet sees it.
        endpoint = f"/var/lib/kubelet/{DRIVER_SOCKET}"
        return messages.PluginInfo(type="CSIPlugin", name=DRIVER, supported_versions=["1.0.0"], endpoint=endpoint)

    def notify(request: RegistrationStatus, _context: grpc.ServicerContext) -> object:
        log.info("driver %s on %s", "registered" if request.plugin_registered else f"refused: {request.error}", node)
        return messages.RegistrationStatusResponse()

    return {
        "GetInfo": unary(get_info, messages.InfoRequest, messages.PluginInfo),
        "NotifyRegistrationStatus": unary(notify, messages.RegistrationStatus, messages.RegistrationStatusResponse),
    }


def unary(method: Callable[..., object], request: type[Message], response: type[Message]) -> grpc.RpcMethodHandler:
    """A method that takes one message and answers one."""
    return grpc.unary_unary_rpc_method_handler(
        method, request_deserializer=request.FromString, response_serializer=response.SerializeToString
    )


def compile_protos(directories: list[Path]) -> tuple[ModuleType, ModuleType]:
    """The messages of provider and registration, compiled in memory from `service.proto` and `api.proto`."""
    sys.path += [str(directory) for directory in directories]
    return grpc.protos("service.proto"), grpc.protos("api.proto")


def main() -> None:
    """Serve every node until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protos", type=Path, action="append", required=True, help="directory with a .proto file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())

    service, api = compile_protos(arguments.protos)
    url = f"http://{layout.GOOGLE_ADDRESS}:{layout.SECRETMANAGER_PORT}"
    methods = provider_methods(service, Provider(Iam(), KubernetesCluster(Api.from_environment()), url))
    nodes = [Node(layout.NODES_DIR / node / "kubelet", methods, api) for node in layout.NODES]
    while not stopped.wait(TURN):
        for node in nodes:
            node.try_refresh()
    for node in nodes:
        node.close()


if __name__ == "__main__":
    main()
