"""HealthCheckPolicies: which one counts for a Service, and the health check that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.google.loadbalancer.objects import Object, Objects, Problem, namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = {"HTTP": "httpHealthCheck", "TCP": "tcpHealthCheck"}
"""Health check types this load balancer speaks. GKE also has HTTPS, HTTP2 and GRPC."""


@dataclass(frozen=True)
class HealthCheck:
    """What is asked of each endpoint. The defaults are GKE's for a Service without a policy; times in seconds."""

    kind: str = "HTTP"
    path: str = "/"
    host: str = ""
    """The endpoint's own address if empty."""
    response: str = ""
    port: int | None = None
    """The serving port if None."""
    interval: int = 15
    timeout: int = 15
    healthy_threshold: int = 1
    unhealthy_threshold: int = 2


@dataclass(frozen=True)
class Policy:
    """A HealthCheckPolicy and why it is not attached, if it is not."""

    obj: Object
    service: str
    """`namespace/name` of its target."""
    problem: Problem | None


def read(objects: Objects) -> list[Policy]:
    """All policies; of two for one Service the older one is attached."""
    taken: set[str] = set()
    found = []
    for obj in objects.all("HealthCheckPolicy"):
        target = obj["spec"]["targetRef"]
        service = f"{namespace(obj)}/{target['name']}"
        problem = _problem(objects, obj, taken)
        if problem is None:
            taken.add(service)
        found.append(Policy(obj, service, problem))
    return found


def health_checks(policies: list[Policy]) -> dict[str, HealthCheck]:
    """The health check of each Service that has a policy."""
    return {policy.service: _health_check(policy.obj) for policy in policies if policy.problem is None}


def _problem(objects: Objects, obj: Object, taken: set[str]) -> Problem | None:
    target = obj["spec"]["targetRef"]
    service = f"{namespace(obj)}/{target['name']}"
    if (target["group"], target["kind"]) != ("", "Service"):
        return Problem("Invalid", f"Target kind {target['kind']} is not supported.")
    if target.get("namespace", namespace(obj)) != namespace(obj):
        return Problem("Invalid", "The target must be in the policy's namespace.")
    if objects.get("Service", namespace(obj), target["name"]) is None:
        return Problem("TargetNotFound", f"Service {service} not found.")
    if service in taken:
        return Problem("Conflicted", f"An older HealthCheckPolicy is attached to Service {service}.")
    return next(_unsupported(obj), None)


def _unsupported(obj: Object) -> Iterator[Problem]:
    config = obj["spec"].get("default", {}).get("config", {"type": "HTTP"})
    if config["type"] not in FIELDS:
        yield Problem("Invalid", f"Health checks of type {config['type']} are not implemented by this load balancer.")
        return
    check = config.get(FIELDS[config["type"]], {})
    if check.get("portSpecification") == "USE_NAMED_PORT":
        yield Problem("Invalid", "USE_NAMED_PORT is not supported for network endpoint groups.")


def _health_check(obj: Object) -> HealthCheck:
    default = obj["spec"].get("default", {})
    config = default.get("config", {"type": "HTTP"})
    check = config.get(FIELDS[config["type"]], {})
    serving = check.get("portSpecification") == "USE_SERVING_PORT"
    # What a policy leaves open has the Compute API's default, not GKE's for a Service without a policy.
    interval = default.get("checkIntervalSec", 5)
    return HealthCheck(
        kind=config["type"],
        path=check.get("requestPath") or "/",
        host=check.get("host", ""),
        response=check.get("response", ""),
        port=None if serving else check.get("port"),
        interval=interval,
        timeout=default.get("timeoutSec", min(5, interval)),
        healthy_threshold=default.get("healthyThreshold", 2),
        unhealthy_threshold=default.get("unhealthyThreshold", 2),
    )
