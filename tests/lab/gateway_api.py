"""Builds and reads objects of the Gateway API for the tests of the load balancer, and sends requests through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import requests

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, Manifest

EXTERNAL = {"namespace": "mcp", "name": "external-gw-01", "sectionName": "http"}
"""The HTTP listener of the platform's Gateway: it serves any hostname, while HTTPS has one hostname's certificate."""


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    """HTTP status; 0 if there was no answer."""
    body: str
    """Body without surrounding whitespace; without an answer, the name of the error."""
    location: str = ""


def ask(hostname: str, path: str = "/", *, address: str) -> Answer:
    """Send one HTTP request on a new connection; redirects are not followed, and no answer in 10 s has status 0."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            response = session.get(
                f"http://{address}{path}", headers={"Host": hostname}, allow_redirects=False, timeout=10
            )
        except requests.RequestException as error:
            return Answer(0, type(error).__name__)
    return Answer(response.status_code, response.text.strip(), response.headers.get("Location", ""))


def route(name: str, hostname: str, *, parent: Manifest = EXTERNAL, **rule: Any) -> Manifest:  # noqa: ANN401 -- a rule's fields
    """HTTPRoute with one rule, given by its fields; its backend is the Service `web` unless they say otherwise."""
    backends = {"backendRefs": [{"name": "web", "port": 80}]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [parent], "hostnames": [hostname], "rules": [backends | rule]},
    }


def gateway(name: str, *listeners: Manifest, **spec: Any) -> Manifest:  # noqa: ANN401 -- a Gateway's fields
    """Gateway of GKE's class for global external load balancers, with more fields of its spec if given."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name},
        "spec": {"gatewayClassName": "gke-l7-global-external-managed", "listeners": list(listeners), **spec},
    }


def plain(**fields: Any) -> Manifest:  # noqa: ANN401 -- a listener's fields
    """Listener `http` on port 80, with more fields if given."""
    return {"name": "http", "port": 80, "protocol": "HTTP", **fields}


def service(name: str) -> Manifest:
    """Service whose port 80 leads to the lab's web server of that name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def web(name: str, *, replicas: int = 1, seconds_after_sigterm: int = 0) -> Manifest:
    """Deployment of the lab's web server, which keeps serving for some seconds after SIGTERM."""
    container = {
        "name": "web",
        "image": "lab.local/web:lab",
        "imagePullPolicy": "Never",
        "env": [{"name": "SECONDS_AFTER_SIGTERM", "value": str(seconds_after_sigterm)}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    pod = {"terminationGracePeriodSeconds": 30, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }


class Condition(NamedTuple):
    """A condition of a status; reason and message are empty where it has none."""

    status: str = "absent"
    reason: str = ""
    message: str = ""


def whole(status: Manifest) -> Manifest:
    """The status itself, for objects whose conditions are at its top."""
    return status


def only_parent(status: Manifest) -> Manifest:
    """The part of an HTTPRoute's status about its only parent; empty before a controller has written it."""
    parents: list[Manifest] = status.get("parents", [])
    return parents[0] if parents else {}


def listener(name: str) -> Callable[[Manifest], Manifest]:
    """Selects the part of a Gateway's status about one listener."""
    return lambda status: next((each for each in status.get("listeners", []) if each["name"] == name), {})


def condition(obj: Manifest, kind: str, part: Callable[[Manifest], Manifest] = whole) -> Condition:
    """A condition of an object or of a part of its status; one about an earlier generation counts as absent."""
    generation = obj.get("metadata", {}).get("generation")
    for each in part(obj.get("status", {})).get("conditions", []):
        if each["type"] == kind and each.get("observedGeneration", generation) == generation:
            return Condition(each["status"], each.get("reason", ""), each.get("message", ""))
    return Condition()


def wait_for_condition(
    kubectl: Kubectl,
    namespace: str,
    resource: str,
    kind: str,
    status: str,
    *,
    part: Callable[[Manifest], Manifest] = whole,
    within: float = 30,
) -> Condition:
    """Wait until a condition of `resource`, given as TYPE/NAME, has this status; `within` is in seconds."""
    return wait_for(
        f"{kind} of {namespace}/{resource} to be {status}",
        lambda: condition(kubectl.get("--namespace", namespace, resource), kind, part),
        until=lambda found: found.status == status,
        within=within,
        look_next=f"kubectl -n {namespace} describe {resource}",
    )
