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
    """A condition, which is nothing yet if it is absent or of an earlier generation."""

    status: str = "absent"
    reason: str = ""
    message: str = ""


def condition(obj: Manifest, kind: str, *, within: Manifest | None = None) -> Condition:
    """A condition of an object, or of the part of its status that is given."""
    generation = obj.get("metadata", {}).get("generation")
    part = obj.get("status", {}) if within is None else within
    found = [one for one in part.get("conditions", []) if one["type"] == kind]
    current = [one for one in found if one.get("observedGeneration", generation) == generation]
    return Condition(current[0]["status"], current[0]["reason"], current[0].get("message", "")) if current else Condition()


class Watched:
    """Conditions of the objects of a namespace, waited for."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace

    def condition(self, resource: str, kind: str, *, until: Callable[[Condition], bool]) -> Condition:
        """A condition of `resource` (type/name) once it is as wanted."""
        return self._wait(resource, kind, lambda obj: condition(obj, kind), until)

    def at_parent(self, name: str, kind: str, *, until: Callable[[Condition], bool]) -> Condition:
        """A condition of an HTTPRoute at its only parent once it is as wanted."""

        def read(obj: Manifest) -> Condition:
            parents = obj.get("status", {}).get("parents", [])
            return condition(obj, kind, within=parents[0]) if parents else Condition()

        return self._wait(f"httproute/{name}", kind, read, until)

    def at_listener(self, gateway: str, listener: str, kind: str, *, until: Callable[[Condition], bool]) -> Condition:
        """A condition of a Gateway's listener once it is as wanted."""

        def read(obj: Manifest) -> Condition:
            listeners = [one for one in obj.get("status", {}).get("listeners", []) if one["name"] == listener]
            return condition(obj, kind, within=listeners[0]) if listeners else Condition()

        return self._wait(f"gateway/{gateway}", kind, read, until)

    def _wait(
        self, resource: str, kind: str, read: Callable[[Manifest], Condition], until: Callable[[Condition], bool]
    ) -> Condition:
        return wait_for(
            f"{kind} of {resource} to be as it should",
            lambda: read(self._kubectl.get("--namespace", self._namespace, resource)),
            until=until,
            within=30,
            look_next=f"kubectl -n {self._namespace} describe {resource}",
        )


def holds(found: Condition) -> bool:
    """Whether the condition is True."""
    return found.status == "True"


def fails(found: Condition) -> bool:
    """Whether the condition is False."""
    return found.status == "False"
