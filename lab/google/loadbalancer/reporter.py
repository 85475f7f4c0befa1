"""Writes statuses, annotations, pod conditions and events to the API server, each only when it says something new."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import requests

from lab.google.loadbalancer.dataplane.neg import READINESS_GATE
from lab.google.loadbalancer.mirror import KINDS
from lab.google.loadbalancer.objects import Object, name, namespace
from lab.kubernetes_api import MERGE, STRATEGIC_MERGE, Api

if TYPE_CHECKING:
    from lab.google.loadbalancer.readiness import Verdict

log = logging.getLogger(__name__)

GATEWAY_CONTROLLER = "sc-gateway-controller"
READINESS_REFLECTOR = "neg-readiness-reflector"


def timestamp() -> str:
    """The time now, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Reporter:
    """The one writer. What the API server does not take is tried again at the next call that says the same."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._said: dict[tuple[str, str], str] = {}
        self.failed = False
        """Whether anything was not taken since this was last set."""

    def status(self, kind: str, obj: Object, status: Object) -> None:
        """Replace these fields of the object's status."""
        before = obj.get("status", {})
        # An empty list is left out of what the API server shows.
        if any((before.get(field) or []) != value for field, value in status.items()):
            # The version makes the write fail if another controller changed the object meanwhile.
            metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            self._patch(f"{_path(kind, obj)}/status", {"metadata": metadata, "status": status})

    def annotations(self, kind: str, obj: Object, annotations: dict[str, str]) -> None:
        """Set annotations."""
        self._patch(_path(kind, obj), {"metadata": {"annotations": annotations}})

    def readiness(self, pod: Object, before: Object, verdict: Verdict) -> None:
        """Write a pod's readiness condition, and the event that goes with it."""
        wanted = {"status": str(verdict.status), "reason": verdict.reason, "message": verdict.message}
        if before.items() >= wanted.items():
            return
        changed = before.get("status") != wanted["status"]
        time = timestamp() if changed else before["lastTransitionTime"]
        entry = {"type": READINESS_GATE, **wanted, "lastTransitionTime": time}
        self._patch(f"{_path('Pod', pod)}/status", {"status": {"conditions": [entry]}}, STRATEGIC_MERGE)
        self.event("Pod", pod, verdict.reason, verdict.message, source=READINESS_REFLECTOR)

    def seen(self, kind: str, obj: Object) -> None:
        """Say that the object is new, or that its spec changed."""
        known = (obj["metadata"]["uid"], "generation") in self._said
        if self._news(obj, "generation", str(obj["metadata"]["generation"])):
            self.event(kind, obj, "UPDATE" if known else "ADD", f"{namespace(obj)}/{name(obj)}")

    def synced(self, kind: str, obj: Object, topic: str, success: str, failure: str | None) -> None:
        """Say how the last SYNC on a topic went, unless that was said last."""
        message = failure or success
        if self._news(obj, topic, message):
            self.event(kind, obj, "SYNC", message, warning=failure is not None)

    def event(
        self,
        kind: str,
        obj: Object,
        reason: str,
        message: str,
        *,
        warning: bool = False,
        source: str = GATEWAY_CONTROLLER,
    ) -> None:
        """Add an event."""
        log.info("%s %s/%s: %s: %s", kind, namespace(obj), name(obj), reason, message)
        collection, _ = KINDS[kind]
        group_and_version = "/".join(collection.split("/")[1:-1])
        now = timestamp()
        event = {
            "metadata": {"name": f"{name(obj)}.{secrets.token_hex(8)}", "namespace": namespace(obj)},
            "involvedObject": {
                "apiVersion": group_and_version, "kind": kind, "namespace": namespace(obj), "name": name(obj),
                "uid": obj["metadata"]["uid"], "resourceVersion": obj["metadata"]["resourceVersion"],
            },
            "type": "Warning" if warning else "Normal", "reason": reason, "message": message[:1024], "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": source}, "reportingComponent": source, "reportingInstance": "",
        }  # fmt: skip
        try:
            self._api.create(f"api/v1/namespaces/{namespace(obj)}/events", event)
        except requests.RequestException as error:
            # An event lost is no harm: Kubernetes promises none.
            log.info("event not taken: %s", error)

    def _news(self, obj: Object, topic: str, text: str) -> bool:
        slot = (obj["metadata"]["uid"], topic)
        if self._said.get(slot) == text:
            return False
        self._said[slot] = text
        return True

    def _patch(self, path: str, body: Object, kind: str = MERGE) -> None:
        try:
            self._api.patch(path, body, kind)
        except requests.RequestException as error:
            self.failed = True
            status = error.response.status_code if error.response is not None else None
            if status not in (requests.codes.conflict, requests.codes.not_found):
                log.info("%s not taken: %s %s", path, error, error.response.text if error.response is not None else "")


def _path(kind: str, obj: Object) -> str:
    collection, _ = KINDS[kind]
    if not namespace(obj):
        return f"{collection}/{name(obj)}"
    prefix, _, plural = collection.rpartition("/")
    return f"{prefix}/namespaces/{namespace(obj)}/{plural}/{name(obj)}"
