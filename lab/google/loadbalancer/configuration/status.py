"""What the status of each object should say, in GKE's words. Pure: compares nothing, writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lab.google.loadbalancer.objects import CONTROLLER, GATEWAY_GROUP, Object, Problem, key

if TYPE_CHECKING:
    from lab.google.loadbalancer.configuration.gateways import Gateway, Listener
    from lab.google.loadbalancer.configuration.policies import Policy
    from lab.google.loadbalancer.configuration.routes import Parent

SUPPORTED_KINDS = [{"group": GATEWAY_GROUP, "kind": "HTTPRoute"}]


class Condition(NamedTuple):
    """A condition that should hold."""

    type: str
    status: bool
    reason: str
    message: str = ""


def unless(problem: Problem | None, kind: str, good_reason: str = "") -> Condition:
    """True, or False because of the problem."""
    if problem:
        return Condition(kind, status=False, reason=problem.reason, message=problem.message)
    return Condition(kind, status=True, reason=good_reason or kind)


def merged(wanted: list[Condition], generation: int, before: list[Object], now: str) -> list[Object]:
    """The conditions as JSON; one whose status is as before keeps its transition time."""
    times = {(each["type"], each["status"]): each["lastTransitionTime"] for each in before}
    return [
        {
            "type": each.type,
            "status": str(each.status),
            "reason": each.reason,
            "message": each.message,
            "observedGeneration": generation,
            "lastTransitionTime": times.get((each.type, str(each.status)), now),
        }
        for each in wanted
    ]


def of_class(obj: Object, now: str) -> Object:
    """Status of a GatewayClass."""
    before = obj.get("status", {}).get("conditions", [])
    return {"conditions": merged([unless(None, "Accepted")], obj["metadata"]["generation"], before, now)}


def of_gateway(
    gateway: Gateway, problem: Problem | None, parents: list[Parent], *, addressed: bool, now: str
) -> Object:
    """Status of a Gateway.

    Args:
        gateway: Which.
        problem: What keeps it from being programmed, in translation or in the data plane.
        parents: Of all routes.
        addressed: Whether it was ever programmed, so that its address is known.
        now: Time of a transition.
    """
    obj = gateway.obj
    before = obj.get("status", {})
    generation = obj["metadata"]["generation"]
    unsupported = next((each.refused for each in gateway.listeners if each.refused), None)
    address_refused = unsupported if unsupported and unsupported.reason == "UnsupportedAddress" else None
    wanted = [
        unless(address_refused, "Accepted"),
        unless(problem, "Programmed"),
        unless(Problem("Error", problem.message) if problem else None, "networking.gke.io/GatewayHealthy", "Healthy"),
    ]
    listeners_before = {each["name"]: each["conditions"] for each in before.get("listeners", [])}
    return {
        "addresses": [{"type": "IPAddress", "value": gateway.address}] if addressed and gateway.address else [],
        "conditions": merged(wanted, generation, before.get("conditions", []), now),
        "listeners": [
            {
                "name": listener.name,
                "supportedKinds": SUPPORTED_KINDS if listener.takes_routes else [],
                "attachedRoutes": _attached(gateway, listener, parents),
                "conditions": merged(
                    _of_listener(listener, problem), generation, listeners_before.get(listener.name, []), now
                ),
            }
            for listener in gateway.listeners
        ],
    }


def _attached(gateway: Gateway, listener: Listener, parents: list[Parent]) -> int:
    mine = (each for each in parents if each.gateway.key == gateway.key and listener.name in each.hostnames)
    return len({key(each.route) for each in mine})


def _of_listener(listener: Listener, problem: Problem | None) -> list[Condition]:
    own = listener.refused or listener.conflict
    unusable = Problem("Invalid", (own or listener.unresolved or Problem("", "")).message)
    conflicted = Condition("Conflicted", status=False, reason="NoConflicts")
    if listener.conflict:
        conflicted = Condition("Conflicted", True, *_texts(listener.conflict))  # noqa: FBT003
    return [
        unless(own, "Accepted"),
        unless(problem if listener.usable else unusable, "Programmed"),
        unless(listener.unresolved, "ResolvedRefs"),
        conflicted,
    ]


def _texts(problem: Problem) -> tuple[str, str]:
    return problem.reason, problem.message


def of_route(route: Object, parents: list[Parent], problems: dict[str, Problem | None], now: str) -> Object:
    """Status of an HTTPRoute: what other controllers wrote, and one entry for each parent of ours.

    Args:
        route: Which.
        parents: Its own.
        problems: What keeps each Gateway from being programmed.
        now: Time of a transition.
    """
    before = route.get("status", {}).get("parents", [])
    mine = [each for each in before if each["controllerName"] == CONTROLLER]
    entries = [
        {
            "controllerName": CONTROLLER,
            "parentRef": parent.ref,
            "conditions": merged(
                of_parent(parent, problems.get(parent.gateway.key)),
                route["metadata"]["generation"],
                next((each["conditions"] for each in mine if each["parentRef"] == parent.ref), []),
                now,
            ),
        }
        for parent in parents
    ]
    return {"parents": [each for each in before if each["controllerName"] != CONTROLLER] + entries}


def of_parent(parent: Parent, problem: Problem | None) -> list[Condition]:
    """Conditions of a route at one parent, given what keeps the Gateway from being programmed."""
    cause = parent.refused or unresolved(parent) or problem
    failed = Problem("ReconciliationFailed", f"error cause: {cause.message}") if cause else None
    return [
        unless(parent.refused, "Accepted"),
        unless(unresolved(parent), "ResolvedRefs"),
        unless(failed, "Reconciled", "ReconciliationSucceeded"),
    ]


def unresolved(parent: Parent) -> Problem | None:
    """Why references of the route cannot be resolved, in GKE's frame of words."""
    if parent.unresolved is None:
        return None
    cause = f'Error GWCER104: HTTPRoute "{key(parent.route)}" is misconfigured, err: {parent.unresolved.message}'
    frame = f'Object reference of HTTPRoute "{key(parent.route)}" bound to {parent.described} failed to be resolved'
    return Problem(parent.unresolved.reason, f"{frame}: error cause: reference-not-found: {cause}")


def of_policy(policy: Policy, now: str) -> Object:
    """Status of a HealthCheckPolicy."""
    before = policy.obj.get("status", {}).get("conditions", [])
    return {
        "conditions": merged([unless(policy.problem, "Attached")], policy.obj["metadata"]["generation"], before, now)
    }
