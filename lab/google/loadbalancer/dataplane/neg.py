"""Network endpoint groups: which pod addresses get requests, some seconds later than Kubernetes thinks.

A pod joins its group `attach` seconds after it first qualifies and leaves it `detach` seconds after it stops
qualifying; in between it keeps getting requests, whatever has become of it. This delay is what a Deployment
without a wait before its end loses requests by.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from lab import layout
from lab.google.loadbalancer.objects import Object, Objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

READINESS_GATE = "cloud.google.com/load-balancer-neg-ready"


class Delays(NamedTuple):
    """How long an endpoint takes to join its group and to leave it, in seconds."""

    attach: float
    detach: float


class Endpoint(NamedTuple):
    """An address in a group; a pod that took over the address of another is another endpoint."""

    address: str
    port: int
    pod: str
    """`namespace/name` and UID, "" for an address without a pod."""


@dataclass(frozen=True)
class Membership:
    """How far an endpoint is. Times are wall-clock seconds, as they must mean the same after a restart."""

    qualified_at: float
    attached: bool = False
    disqualified_at: float | None = None


Group = dict[Endpoint, Membership]


class EndpointGroups:
    """The members of every group, kept in a file."""

    def __init__(self, path: Path, delays: Callable[[], Delays], clock: Callable[[], float]) -> None:
        self._path = path
        self._delays = delays
        self._clock = clock
        self._groups = _load(path)

    def update(self, qualifying: dict[str, set[Endpoint]]) -> None:
        """Decide anew, given the endpoints of each group that qualify now; a group that is not named ends."""
        now, delays = self._clock(), self._delays()
        groups = {
            name: _decide(self._groups.get(name, {}), endpoints, now, delays) for name, endpoints in qualifying.items()
        }
        if groups != self._groups:
            _save(self._path, groups)
            self._groups = groups

    def attached(self, name: str) -> list[Endpoint]:
        """The endpoints of a group that get requests."""
        return [endpoint for endpoint, member in self._groups.get(name, {}).items() if member.attached]

    def changing(self) -> bool:
        """Whether any endpoint waits to be attached or detached."""
        members = (member for group in self._groups.values() for member in group.values())
        return any(not member.attached or member.disqualified_at is not None for member in members)


def _decide(group: Group, qualifying: set[Endpoint], now: float, delays: Delays) -> Group:
    decided = {}
    for endpoint in sorted(group.keys() | qualifying):
        member = group.get(endpoint, Membership(now))
        if endpoint in qualifying:
            attached = member.attached or now - member.qualified_at >= delays.attach
            decided[endpoint] = replace(member, attached=attached, disqualified_at=None)
        elif member.attached:
            since = now if member.disqualified_at is None else member.disqualified_at
            if now - since < delays.detach:
                decided[endpoint] = replace(member, disqualified_at=since)
    return decided


def _load(path: Path) -> dict[str, Group]:
    if not path.exists():
        return {}
    groups: dict[str, list[Object]] = json.loads(path.read_text())
    return {
        name: {Endpoint(*member["endpoint"]): Membership(**member["membership"]) for member in members}
        for name, members in groups.items()
    }


def _save(path: Path, groups: dict[str, Group]) -> None:
    content = {
        name: [{"endpoint": endpoint, "membership": asdict(member)} for endpoint, member in group.items()]
        for name, group in groups.items()
    }
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1))
    draft.replace(path)


def delays(path: Path) -> Delays:
    """The delays as they are now: those of the file, else the lab's."""
    usual = Delays(layout.ATTACH_SECONDS, layout.DETACH_SECONDS)
    try:
        settings = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return usual
    return Delays(float(settings.get("attach", usual.attach)), float(settings.get("detach", usual.detach)))


def qualifying(objects: Objects, namespace: str, service: str, port: int) -> set[Endpoint]:
    """The endpoints of a Service port that should get requests."""
    home = objects.get("Service", namespace, service)
    port_names = {
        each.get("name", "") for each in (home or {"spec": {}})["spec"].get("ports", []) if each["port"] == port
    }
    found = set()
    for piece in slices(objects, namespace, service):
        numbers = [each["port"] for each in piece.get("ports") or [] if (each.get("name") or "") in port_names]
        for endpoint in piece.get("endpoints") or []:
            pod = _pod(objects, namespace, endpoint)
            if _qualifies(endpoint, pod):
                identity = (
                    f"{pod['metadata']['namespace']}/{pod['metadata']['name']} {pod['metadata']['uid']}" if pod else ""
                )
                found |= {
                    Endpoint(address, number, identity) for number in numbers for address in endpoint["addresses"][:1]
                }
    return found


def slices(objects: Objects, namespace: str, service: str) -> Iterable[Object]:
    """The Service's EndpointSlices with IPv4 addresses."""
    for each in objects.all("EndpointSlice"):
        labels = each["metadata"].get("labels", {})
        mine = each["metadata"]["namespace"] == namespace and labels.get("kubernetes.io/service-name") == service
        if mine and each["addressType"] == "IPv4":
            yield each


def _pod(objects: Objects, namespace: str, endpoint: Object) -> Object | None:
    target = endpoint.get("targetRef") or {}
    return objects.get("Pod", namespace, target["name"]) if target.get("kind") == "Pod" else None


def _qualifies(endpoint: Object, pod: Object | None) -> bool:
    conditions = endpoint.get("conditions", {})
    if conditions.get("terminating") or (pod and pod["metadata"].get("deletionTimestamp")):
        return False
    # An absent `ready` means ready.
    return conditions.get("ready") is not False or (pod is not None and waits_for_us_only(pod))


def waits_for_us_only(pod: Object) -> bool:
    """Whether all that keeps the pod from being Ready is the readiness gate that the load balancer itself opens."""
    conditions = {each["type"]: each for each in pod.get("status", {}).get("conditions", [])}
    gates = {each["conditionType"] for each in pod["spec"].get("readinessGates", [])}
    others = gates - {READINESS_GATE}
    return (
        READINESS_GATE in gates
        and conditions.get("ContainersReady", {}).get("status") == "True"
        # The node controller takes Ready from a lost node's pods without this reason.
        and conditions.get("Ready", {}).get("reason") == "ReadinessGatesNotReady"
        and all(conditions.get(gate, {}).get("status") == "True" for gate in others)
    )
