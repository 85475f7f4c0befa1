"""Attaches HTTPRoutes to listeners and resolves their backends, as the Gateway API says and GKE words it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.google.loadbalancer.configuration.refusals import refusal
from lab.google.loadbalancer.objects import GATEWAY_GROUP, Object, Objects, Problem, key, namespace, selector_matches

if TYPE_CHECKING:
    from lab.google.loadbalancer.configuration.gateways import Gateway, Listener

UNSUPPORTED_PROTOCOLS = {"HTTPS", "HTTP2", "GRPC", "kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss"}
"""Values of a Service port's appProtocol that this load balancer does not speak to a backend."""


@dataclass(frozen=True)
class Parent:
    """One parentRef of a route that names a Gateway of ours."""

    route: Object
    ref: Object
    gateway: Gateway
    hostnames: dict[str, list[str]]
    """For each listener the route is attached to, the hostnames it serves there."""
    refused: Problem | None
    """Accepted is False."""
    unresolved: Problem | None
    """ResolvedRefs is False."""

    @property
    def described(self) -> str:
        """The parentRef as GKE's controller prints it."""
        fields = {
            "Group": "group",
            "Kind": "kind",
            "Namespace": "namespace",
            "Name": "name",
            "SectionName": "sectionName",
        }
        values = {"group": GATEWAY_GROUP, "kind": "Gateway", **self.ref}
        shown = [
            f'{title}: "{values[field]}"' if field in values else f"{title}: nil" for title, field in fields.items()
        ]
        return f"ParentRef {{{', '.join(shown)}, Port: {values.get('port', 'nil')}}}"


def read(objects: Objects, gateways: dict[str, Gateway]) -> list[Parent]:
    """Every parentRef to one of the Gateways, routes from the oldest on."""
    return [
        _parent(objects, route, ref, gateways[wanted])
        for route in objects.all("HTTPRoute")
        for ref in route["spec"].get("parentRefs", [])
        if (wanted := parent_key(route, ref)) in gateways
    ]


def parent_key(route: Object, ref: Object) -> str | None:
    """`namespace/name` of the Gateway a parentRef means, None if it means something else."""
    if (ref.get("group", GATEWAY_GROUP), ref.get("kind", "Gateway")) != (GATEWAY_GROUP, "Gateway"):
        return None
    return f"{ref.get('namespace') or namespace(route)}/{ref['name']}"


def intersection(listener: str, route: list[str]) -> list[str]:
    """The hostnames a route serves at a listener; "" and [] stand for any."""
    found = []
    for hostname in route or ["*"]:
        if covers(listener or "*", hostname):
            found.append(hostname)
        elif covers(hostname, listener):
            found.append(listener)
    return found


def covers(pattern: str, hostname: str) -> bool:
    """Whether a hostname, itself perhaps with a wildcard, lies within the pattern."""
    if pattern in ("*", hostname):
        return True
    return pattern.startswith("*.") and hostname.endswith(pattern[1:])


def resolve(objects: Objects, route: Object, ref: Object) -> Problem | None:
    """What is wrong with a backendRef, if anything."""
    if (ref.get("group", ""), ref.get("kind", "Service")) != ("", "Service"):
        return Problem("InvalidKind", f"backendRef kind {ref['kind']} is not supported.")
    where = ref.get("namespace") or namespace(route)
    if not objects.may_refer("HTTPRoute", namespace(route), "Service", where, ref["name"]):
        return Problem("RefNotPermitted", f"Service {where}/{ref['name']} is not permitted by a ReferenceGrant.")
    service = objects.get("Service", where, ref["name"])
    if service is None:
        return Problem("BackendNotFound", f"Error GWCER102: services {where}/{ref['name']} not found")
    port = next((each for each in service["spec"].get("ports", []) if each["port"] == ref.get("port")), None)
    if port is None:
        return Problem(
            "BackendNotFound", f"Error GWCER104: services {where}/{ref['name']} has no port {ref.get('port')}"
        )
    if port.get("appProtocol") in UNSUPPORTED_PROTOCOLS:
        return Problem("UnsupportedProtocol", f"appProtocol {port['appProtocol']} is not supported.")
    return None


def backend_refs(rule: Object) -> list[Object]:
    """All backends a rule names, those of its mirrors last."""
    mirrors = [each["requestMirror"]["backendRef"] for each in rule.get("filters", []) if "requestMirror" in each]
    return [*rule.get("backendRefs", []), *mirrors]


def _parent(objects: Objects, route: Object, ref: Object, gateway: Gateway) -> Parent:
    hostnames, refused = _attach(objects, route, ref, gateway)
    refs = [each for rule in route["spec"].get("rules", []) for each in backend_refs(rule)]
    problems = (problem for each in refs if (problem := resolve(objects, route, each)))
    return Parent(route, ref, gateway, hostnames, refused, next(problems, None))


def _attach(
    objects: Objects, route: Object, ref: Object, gateway: Gateway
) -> tuple[dict[str, list[str]], Problem | None]:
    unsupported = "parentRef.port is not supported." if ref.get("port") else refusal(route)
    if unsupported:
        message = f'Error GWCER104: HTTPRoute "{key(route)}" is misconfigured, err: {unsupported}'
        return {}, Problem("UnsupportedValue", message)
    section = ref.get("sectionName")
    named = [listener for listener in gateway.listeners if section in (None, "", listener.name)]
    if not named:
        return {}, Problem("NoMatchingParent", f'Gateway "{gateway.key}" has no listener "{section}".')
    allowed = [listener for listener in named if _allows(objects, gateway, listener, route)]
    if not allowed:
        message = f'No listener of Gateway "{gateway.key}" allows routes of namespace "{namespace(route)}".'
        return {}, Problem("NotAllowedByListeners", message)
    hostnames = route["spec"].get("hostnames", [])
    served = {each.name: intersection(each.spec.get("hostname", ""), hostnames) for each in allowed}
    attached = {listener: names for listener, names in served.items() if names}
    if not attached:
        message = f'No listener of Gateway "{gateway.key}" has a hostname that matches {", ".join(hostnames)}.'
        return {}, Problem("NoMatchingListenerHostname", message)
    return attached, None


def _allows(objects: Objects, gateway: Gateway, listener: Listener, route: Object) -> bool:
    namespaces = listener.spec.get("allowedRoutes", {}).get("namespaces", {})
    source = namespaces.get("from", "Same")
    if not listener.takes_routes or source == "None":
        return False
    if source == "Selector":
        home = objects.get("Namespace", "", namespace(route)) or {"metadata": {}}
        return selector_matches(namespaces.get("selector", {}), home["metadata"].get("labels", {}))
    return source == "All" or namespace(route) == namespace(gateway.obj)
