"""A local copy of the API objects the load balancer depends on, kept by one list and watch per kind."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import requests

from lab.google.loadbalancer.objects import Object, Objects, key

if TYPE_CHECKING:
    from lab.kubernetes_api import Api

log = logging.getLogger(__name__)

GATEWAY_API = "apis/gateway.networking.k8s.io/v1"
KINDS = {
    "GatewayClass": (f"{GATEWAY_API}/gatewayclasses", ""),
    "Gateway": (f"{GATEWAY_API}/gateways", ""),
    "HTTPRoute": (f"{GATEWAY_API}/httproutes", ""),
    "ReferenceGrant": (f"{GATEWAY_API}/referencegrants", ""),
    "HealthCheckPolicy": ("apis/networking.gke.io/v1/healthcheckpolicies", ""),
    "EndpointSlice": ("apis/discovery.k8s.io/v1/endpointslices", ""),
    "Service": ("api/v1/services", ""),
    "Pod": ("api/v1/pods", ""),
    "Namespace": ("api/v1/namespaces", ""),
    "Secret": ("api/v1/secrets", "type=kubernetes.io/tls"),
}
"""Kind -> collection and field selector."""
RETRY_SECONDS = 1.0


class GoneError(Exception):
    """The API server no longer has the version asked for."""


class Mirror:
    """Copies of all objects of `KINDS`. Outlives the API server: until it answers again, the last copy stands."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._copies: dict[str, dict[str, Object]] = {}
        self._changed = threading.Condition()
        self._version = 0

    def start(self) -> None:
        """Begin to follow every kind."""
        for kind in KINDS:
            threading.Thread(target=self._follow, args=(kind,), name=kind, daemon=True).start()

    def wait(self, seen: int, seconds: float) -> int:
        """Wait until something is newer than version `seen`, at most so long; returns the version now."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != seen, timeout=seconds)
            return self._version

    def objects(self) -> Objects | None:
        """All objects as they are now; None until each kind was listed once."""
        with self._changed:
            if self._copies.keys() != KINDS.keys():
                return None
            return Objects({kind: dict(copies) for kind, copies in self._copies.items()})

    def _follow(self, kind: str) -> None:
        complaint = ""
        while True:
            try:
                version = self._list(kind)
                complaint = ""
                while True:
                    version = self._watch(kind, version)
            except (GoneError, requests.RequestException, ValueError) as error:
                if str(type(error)) != complaint:
                    log.info("%s: cannot be read, trying on: %s", kind, error)
                    complaint = str(type(error))
                time.sleep(RETRY_SECONDS)

    def _list(self, kind: str) -> str:
        items, version = self._api.list(*KINDS[kind])
        with self._changed:
            self._copies[kind] = {key(item): item for item in items}
            self._tell()
        return version

    def _watch(self, kind: str, version: str) -> str:
        for event in self._api.watch(*KINDS[kind], version):
            if event["type"] == "ERROR":
                raise GoneError
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._apply(kind, event)
        return version

    def _apply(self, kind: str, event: Object) -> None:
        obj = event["object"]
        with self._changed:
            if event["type"] == "DELETED":
                self._copies[kind].pop(key(obj), None)
            else:
                self._copies[kind][key(obj)] = obj
            self._tell()

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()
