"""Objects of the Gateway API as the tests of the load balancer apply and read them, and one request through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import requests

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, Manifest

EXTERNAL = {"namespace": "mcp", "name": "external-gw-01", "sectionName": "http"}
"""The plain listener, which serves any hostname; the certificate of the other is for one hostname only."""


class Answer(NamedTuple):
    """What came back for a request."""

    status: int
    """0 if nothing came back at all."""
    body: str
    """Without a status, the error."""
    location: str = ""


def ask(hostname: str, path: str = "/", *, address: str) -> Answer:
    """One plain request on a connection of its own; a redirect is an answer, and so is none within 10 s."""
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
    """HTTPRoute of one rule; its backend is the Service `web` unless the rule says otherwise."""
    backends = {"backendRefs": [{"name": "web", "port": 80}]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [parent], "hostnames": [hostname], "rules": [backends | rule]},
    }


def gateway(name: str, *listeners: Manifest, **spec: Any) -> Manifest:  # noqa: ANN401 -- a Gateway's fields
    """Gateway of GKE's class."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name},
        "spec": {"gatewayClassName": "gke-l7-global-external-managed", "listeners": list(listeners), **spec},
    }


def plain(**fields: Any) -> Manifest:  # noqa: ANN401 -- a listener's fields
    """Listener `http` on port 80."""
    return {"name": "http", "port": 80, "protocol": "HTTP", **fields}


def service(name: str) -> Manifest:
    """Service whose port 80 is the lab's web server."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def web(name: str, *, replicas: int = 1, seconds_after_sigterm: int = 0) -> Manifest:
    """Deployment of the lab's web server, which serves on for some seconds once it is told to end."""
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
    """What a condition says; Kubernetes' own conditions of a healthy pod give no reason."""

    status: str = "absent"
    reason: str = ""
    message: str = ""


def whole(status: Manifest) -> Manifest:
    """The status itself, where its conditions are its own."""
    return status


def only_parent(status: Manifest) -> Manifest:
    """The part of an HTTPRoute's status that is about its one parent."""
    parents: list[Manifest] = status.get("parents", [])
    return parents[0] if parents else {}


def listener(name: str) -> Callable[[Manifest], Manifest]:
    """The part of a Gateway's status that is about a listener."""
    return lambda status: next((each for each in status.get("listeners", []) if each["name"] == name), {})


def condition(obj: Manifest, kind: str, part: Callable[[Manifest], Manifest] = whole) -> Condition:
    """A condition of the object, or of a part of its status; absent if it is about an earlier generation."""
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
    """The condition of `resource`, which is TYPE/NAME, once it has this status."""
    return wait_for(
        f"{kind} of {namespace}/{resource} to be {status}",
        lambda: condition(kubectl.get("--namespace", namespace, resource), kind, part),
        until=lambda found: found.status == status,
        within=within,
        look_next=f"kubectl -n {namespace} describe {resource}",
    )
