"""Pods as endpoints of the load balancer: readiness gate, health check, and the delay until they are detached."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, Manifest
from tests.lab.gateway_api import (
    Answer,
    condition,
    only_parent,
    route,
    service,
    wait_for_condition,
    web,
)
from tests.lab.traffic import LOOK_NEXT, PER_SECOND, POD_READY, Site, Traffic, unserved

READINESS_GATE = "cloud.google.com/load-balancer-neg-ready"


@contextlib.contextmanager
def failing_health_check(site: Site, pod: str) -> Iterator[None]:
    """Make a pod's health path answer 404 while the `with` block lasts."""
    site.move(pod, "index.html", "elsewhere.html")
    try:
        yield
    finally:
        site.move(pod, "elsewhere.html", "index.html")


@dataclass(frozen=True)
class PodDeletion:
    """The answers to requests before and after the deletion of one pod."""

    pod: str
    before: list[Answer]
    """Answers until the deletion."""
    after: list[Answer]
    """Answers from then until the load balancer had detached the pod."""

    def served_late(self) -> int:
        """Number of requests that the pod served after its deletion."""
        return sum(answer.body == self.pod for answer in self.after)

    def summary(self) -> str:
        """Answers by how often each came, before and after the deletion, for the text of a failure."""
        return f"{self.pod} deleted; before: {Counter(self.before)}; after: {Counter(self.after)}"


def policy(name: str, target: str, path: str) -> Manifest:
    """HealthCheckPolicy that probes every second and acts on a single result."""
    http = {"portSpecification": "USE_SERVING_PORT", "requestPath": path}
    check = {"checkIntervalSec": 1, "timeoutSec": 1, "healthyThreshold": 1, "unhealthyThreshold": 1}
    return {
        "apiVersion": "networking.gke.io/v1",
        "kind": "HealthCheckPolicy",
        "metadata": {"name": name},
        "spec": {
            "targetRef": {"group": "", "kind": "Service", "name": target},
            "default": {**check, "config": {"type": "HTTP", "httpHealthCheck": http}},
        },
    }


@pytest.fixture(scope="module")
def applied(kubectl: Kubectl, namespace: str) -> str:
    """Namespace with the sites of this module."""
    names = ("hasty", "patient", "ailing", "late")
    kubectl.apply(
        *(service(name) for name in names),
        *(route(name, f"{name}.{namespace}.test", backendRefs=[{"name": name, "port": 80}]) for name in names),
        policy("ailing", "ailing", "/index.html"),
        policy("late", "late", "/healthy.html"),
        namespace=namespace,
    )
    for name in names:
        wait_for_condition(kubectl, namespace, f"httproute/{name}", "Reconciled", "True", part=only_parent)
    # Pods come last: GKE adds the readiness gate at their creation, and only if a load balancer uses their Service.
    kubectl.apply(
        web("hasty", replicas=2, seconds_after_sigterm=0),
        web("patient", replicas=2, seconds_after_sigterm=15),
        web("ailing", replicas=2),
        web("late"),
        namespace=namespace,
    )
    wait_for(
        "all pods to be created",
        lambda: len(kubectl.get("--namespace", namespace, "pods")["items"]),
        until=lambda count: count == 7,
        within=60,
        look_next=f"kubectl -n {namespace} describe replicasets",
    )
    return namespace


@pytest.fixture
def late(kubectl: Kubectl, applied: str, gateway_address: str) -> Site:
    """Site of one pod whose health path answers 404 until a test creates the page."""
    return Site(kubectl, applied, "late", gateway_address)


@pytest.fixture
def ailing(kubectl: Kubectl, applied: str, gateway_address: str) -> Site:
    """Site of two pods with a health check that acts on a single result."""
    return Site(kubectl, applied, "ailing", gateway_address)


@pytest.fixture(scope="module")
def deletions(kubectl: Kubectl, applied: str, gateway_address: str) -> dict[str, PodDeletion]:
    """One pod each of two sites, deleted under traffic: `hasty` exits at once, `patient` serves on for 15 s."""
    hasty, patient = (Site(kubectl, applied, name, gateway_address) for name in ("hasty", "patient"))
    hasty_pods, patient_pods = list(hasty.pods()), list(patient.pods())
    hasty.wait_until_served_by(*hasty_pods)
    patient.wait_until_served_by(*patient_pods)

    with Traffic(hasty.ask) as to_hasty, Traffic(patient.ask) as to_patient:
        traffic = {hasty_pods[0]: to_hasty.answers, patient_pods[0]: to_patient.answers}
        wait_for(
            "three seconds of traffic",
            lambda: [len(answers) for answers in traffic.values()],
            until=lambda counts: min(counts) >= 3 * PER_SECOND,
            within=30,
            look_next=LOOK_NEXT,
        )
        before = {pod: list(answers) for pod, answers in traffic.items()}
        kubectl("delete", "--namespace", applied, "pods", *traffic, "--wait=false")
        wait_for(
            "the deleted pods to be gone",
            lambda: traffic.keys() & (hasty.pods() | patient.pods()).keys(),
            until=lambda left: not left,
            within=120,
            look_next=f"kubectl -n {applied} get pods",
        )
        wait_for(
            "three seconds of traffic without a loss after that",
            lambda: [unserved(answers[-3 * PER_SECOND :]) for answers in traffic.values()],
            until=lambda losses: not any(losses),
            within=60,
            look_next=LOOK_NEXT,
        )
    gone = {pod: PodDeletion(pod, before[pod], answers[len(before[pod]) :]) for pod, answers in traffic.items()}
    return {"hasty": gone[hasty_pods[0]], "patient": gone[patient_pods[0]]}


def test_readiness_gate_is_given_to_pods_of_a_load_balanced_service_only(kubectl: Kubectl, applied: str) -> None:
    """A pod gets the gate when it is created, if a Service that selects it is a backend."""
    run = ("run", "anybody", "--namespace", applied, "--image=lab.local/web:lab", "--dry-run=server", "--output=json")
    backend, other = kubectl(*run, "--labels=app=hasty"), kubectl(*run, "--labels=app=other")

    assert READINESS_GATE in backend
    assert READINESS_GATE not in other


def test_pod_is_ready_once_the_load_balancer_finds_it_healthy(kubectl: Kubectl, applied: str, late: Site) -> None:
    """The condition Ready waits for the load balancer's health check, and the readiness gate says so."""
    (pod,) = late.pods()
    resource = f"pod/{pod}"
    wait_for_condition(kubectl, applied, resource, "ContainersReady", "True", within=POD_READY)
    waiting = wait_for_condition(kubectl, applied, resource, READINESS_GATE, "False", within=POD_READY)
    ready = condition(late.pods()[pod], "Ready")
    late.move(pod, "index.html", "healthy.html")
    healthy = wait_for_condition(kubectl, applied, resource, READINESS_GATE, "True", within=POD_READY)
    wait_for_condition(kubectl, applied, resource, "Ready", "True", within=POD_READY)

    assert waiting.reason == "LoadBalancerNegNotReady"
    assert waiting.message.startswith("Waiting for pod to become healthy in at least one of the NEG(s): [k8s1-")
    assert ready[:2] == ("False", "ReadinessGatesNotReady")
    assert healthy.reason == "LoadBalancerNegReady"
    assert healthy.message.startswith('Pod has become Healthy in NEG "Key{')
    assert "attached to BackendService" in healthy.message


def test_health_check_policy_is_attached(kubectl: Kubectl, applied: str) -> None:
    """A policy says that it is attached to its Service."""
    found = wait_for_condition(kubectl, applied, "healthcheckpolicy/ailing", "Attached", "True")

    assert found.reason == "Attached"


def test_second_health_check_policy_is_refused_until_the_first_is_gone(kubectl: Kubectl, namespace: str) -> None:
    """Of two policies for one Service the older one counts."""
    kubectl.apply(service("wanted"), policy("older", "wanted", "/"), namespace=namespace)
    wait_for_condition(kubectl, namespace, "healthcheckpolicy/older", "Attached", "True")
    kubectl.apply(policy("younger", "wanted", "/"), namespace=namespace)
    refused = wait_for_condition(kubectl, namespace, "healthcheckpolicy/younger", "Attached", "False")
    kubectl("delete", "--namespace", namespace, "healthcheckpolicy/older")
    wait_for_condition(kubectl, namespace, "healthcheckpolicy/younger", "Attached", "True")

    assert refused.reason == "Conflicted"


def test_health_check_policy_without_its_service_is_refused(kubectl: Kubectl, namespace: str) -> None:
    """A policy for a Service that does not exist is not attached."""
    kubectl.apply(policy("lost", "no-such-service", "/"), namespace=namespace)
    found = wait_for_condition(kubectl, namespace, "healthcheckpolicy/lost", "Attached", "False")

    assert found.reason == "TargetNotFound"


def test_unhealthy_pod_is_taken_out_and_comes_back(ailing: Site) -> None:
    """The load balancer follows its own health check, whether or not Kubernetes calls the pod Ready."""
    sick, sound = ailing.pods()
    ailing.wait_until_served_by(sick, sound)

    with failing_health_check(ailing, sick):
        ailing.wait_until_served_by(sound)
        ready = condition(ailing.pods()[sick], "Ready")
    ailing.wait_until_served_by(sick, sound)

    assert ready.status == "True"


def test_pod_that_exits_at_once_loses_requests(deletions: dict[str, PodDeletion]) -> None:
    """The load balancer sends requests to a deleted pod until it is detached; if it is gone by then, they fail."""
    hasty = deletions["hasty"]

    assert unserved(hasty.before) == [], hasty.summary()
    assert unserved(hasty.after), hasty.summary()


def test_pod_that_serves_on_until_it_is_detached_loses_none(deletions: dict[str, PodDeletion]) -> None:
    """A pod that serves for longer than the detach delay answers all requests that it still gets."""
    patient = deletions["patient"]

    assert patient.served_late() > PER_SECOND, patient.summary()
    assert unserved(patient.before + patient.after) == [], patient.summary()
