"""The lab's Gateway and the objects attached to it, recorded; and copies with one field changed."""

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
    """The lab's Gateway, with another value at the JSON pointer if one is given."""
    return gateway_of(patched(GATEWAY, pointer, value) if pointer else GATEWAY, "mcp", "external-gw-01")


def condition(kind: str, status: str, reason: str, generation: int = 1) -> dict[str, object]:
    """A condition as a controller writes it."""
    return {"type": kind, "status": status, "reason": reason, "message": "why", "observedGeneration": generation}


class FakeObjects(Objects):
    """Live objects that a test gives instead of a cluster."""

    def __init__(self, *bodies: Body, events: tuple[Field, ...] = ()) -> None:
        self._bodies = {str(Manifest(body)): body for body in bodies}
        self._events = events

    def get(self, body: Body, /) -> Body | None:
        """The given object of the same kind, namespace and name; None if there is none."""
        return self._bodies.get(str(Manifest(body)))

    def list(self, api_version: str, kind: str, namespace: str = "", label_selector: str = "") -> tuple[Field, ...]:
        """The given events; a list of anything else fails the test."""
        assert (api_version, kind, namespace, label_selector) == ("v1", "Event", "backstage", "")
        return self._events
