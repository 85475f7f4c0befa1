"""The lab's Gateway, route and policy as recorded, and copies with one field changed."""

from __future__ import annotations

from fixtures.api.live import Objects
from fixtures.objects.manifest import Body, Field, Manifest
from fixtures.reference.reference import render
from fixtures.subject.gateway import Gateway, gateway_of
from tests.unit.patched import RECORDED, patched

LIVE = {str(each): each.body for each in render(RECORDED / "gateway" / "objects.yaml").manifests}
GATEWAY = LIVE["Gateway mcp/external-gw-01"]
ROUTE = LIVE["HTTPRoute backstage/backstage"]
POLICY = LIVE["HealthCheckPolicy backstage/backstage"]
HOSTNAME = "backstage.lab.test"


def gateway(pointer: str = "", value: object = None) -> Gateway:
    """The lab's Gateway, optionally with one field changed."""
    return gateway_of(patched(GATEWAY, pointer, value) if pointer else GATEWAY, "mcp", "external-gw-01")


def condition(kind: str, status: str, reason: str, generation: int = 1) -> dict[str, object]:
    """A condition as a controller writes it."""
    return {"type": kind, "status": status, "reason": reason, "message": "why", "observedGeneration": generation}


class FakeObjects(Objects):
    """A reader of live objects that knows only the given ones."""

    def __init__(self, *bodies: Body, events: tuple[Field, ...] = ()) -> None:
        self._bodies = {str(Manifest(body)): body for body in bodies}
        self._events = events

    def get(self, body: Body, /) -> Body | None:
        """The given object of the same kind, namespace and name, if there is one."""
        return self._bodies.get(str(Manifest(body)))

    def list(self, api_version: str, kind: str, namespace: str = "", label_selector: str = "") -> tuple[Field, ...]:
        """The given events; nothing else is ever listed."""
        assert (api_version, kind, namespace, label_selector) == ("v1", "Event", "backstage", "")
        return self._events
