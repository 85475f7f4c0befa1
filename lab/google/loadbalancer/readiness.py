"""The pod condition `cloud.google.com/load-balancer-neg-ready`, in the words of GKE's neg-readiness-reflector."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lab import layout
from lab.google.loadbalancer.dataplane.neg import READINESS_GATE
from lab.google.loadbalancer.objects import Object, Objects, key, namespace, selects
from lab.google.loadbalancer.resource_names import backend_service_name, neg_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.google.loadbalancer.dataplane.backends import Backend
    from lab.google.loadbalancer.dataplane.neg import EndpointGroups

TIMEOUT = timedelta(minutes=10)
"""From a pod's creation, as on GKE."""
MARKING = f'Marking condition "{READINESS_GATE}" to True.'


@dataclass(frozen=True)
class Verdict:
    """The condition a pod should have."""

    status: bool
    reason: str
    message: str


def waiting_pods(objects: Objects) -> list[Object]:
    """Pods whose gate is still closed."""
    return [
        pod
        for pod in objects.all("Pod")
        if has_gate(pod) and not pod["metadata"].get("deletionTimestamp") and condition(pod).get("status") != "True"
    ]


def has_gate(pod: Object) -> bool:
    """Whether the load balancer decides about the pod's readiness."""
    return any(each["conditionType"] == READINESS_GATE for each in pod["spec"].get("readinessGates", []))


def condition(pod: Object) -> Object:
    """The pod's condition as it is, {} if there is none."""
    conditions: list[Object] = pod.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == READINESS_GATE), {})


def selected_by(objects: Objects, backends: Iterable[Backend], pod_namespace: str, pod: Object) -> list[Backend]:
    """The backends whose Service selects a pod."""
    labels = pod["metadata"].get("labels")
    homes = [(backend, objects.get("Service", backend.namespace, backend.service)) for backend in backends]
    return [
        backend
        for backend, service in homes
        if service and backend.namespace == pod_namespace and selects(service["spec"].get("selector"), labels)
    ]


def judge(
    objects: Objects,
    backends: list[Backend],
    groups: EndpointGroups,
    pod: Object,
    *,
    healthy: set[tuple[str, str]],
    now: datetime,
) -> Verdict:
    """The condition for a pod whose gate is closed, given the endpoints whose health check succeeds."""
    mine = selected_by(objects, backends, namespace(pod), pod)
    if not mine:
        return Verdict(True, "LoadBalancerNegReady", f"Pod does not belong to any NEG. {MARKING}")  # noqa: FBT003
    identity = f"{key(pod)} {pod['metadata']['uid']}"
    for backend in mine:
        members = [each for each in groups.attached(backend.name) if each.pod == identity]
        if any((backend.name, f"{each.address}:{each.port}") in healthy for each in members):
            neg = json.dumps(f'Key{{"{neg_name(backend)}", zone: "{layout.REGION}-a"}}')
            service = json.dumps(f'Key{{"{backend_service_name(backend)}"}}')
            message = f"Pod has become Healthy in NEG {neg} attached to BackendService {service}. {MARKING}"
            return Verdict(True, "LoadBalancerNegReady", message)  # noqa: FBT003
    negs = f"[{' '.join(neg_name(backend) for backend in mine)}]"
    if now - datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) > TIMEOUT:
        message = f"Timeout waiting for pod to become healthy in at least one of the NEG(s): {negs}. {MARKING}"
        return Verdict(True, "LoadBalancerNegTimeout", message)  # noqa: FBT003
    message = f"Waiting for pod to become healthy in at least one of the NEG(s): {negs}"
    return Verdict(False, "LoadBalancerNegNotReady", message)  # noqa: FBT003
