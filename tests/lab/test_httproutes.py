"""HTTPRoutes: which ones a Gateway accepts, what GKE refuses, and the conditions that say so."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, Manifest
from tests.lab.gateway_api import (
    Condition,
    ask,
    gateway,
    only_parent,
    plain,
    route,
    service,
    wait_for_condition,
    web,
)

UNSUPPORTED: dict[str, Manifest] = {
    "timeouts": {"timeouts": {"request": "10s"}},
    "method": {"matches": [{"method": "GET"}]},
    "path-expression": {"matches": [{"path": {"type": "RegularExpression", "value": "/a.*"}}]},
    "path-rewrite": {
        "filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/"}}}]
    },
    "redirect-307": {
        "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 307}}],
        "backendRefs": [],
    },
}
"""Rules that the Gateway API allows and GKE refuses, by the name of their route."""

ConditionOf = Callable[..., Condition]


@pytest.fixture(scope="module")
def other_namespace(kubectl: Kubectl) -> Iterator[str]:
    """A second namespace of the module's own, with a Service `web`."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl.apply(service("web"), namespace=name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def applied(kubectl: Kubectl, namespace: str, other_namespace: str) -> str:
    """Namespace with a web server and every HTTPRoute of this module's tests."""
    own = {"name": "own", "namespace": namespace}
    kubectl.apply(
        web("web"),
        service("web"),
        route("served", f"served.{namespace}.test"),
        *(route(name, f"{name}.{namespace}.test", **rule) for name, rule in UNSUPPORTED.items()),
        route("no-backend", f"no-backend.{namespace}.test", backendRefs=[{"name": "no-such-service", "port": 80}]),
        route("far", f"far.{namespace}.test", backendRefs=[{"name": "web", "namespace": other_namespace, "port": 80}]),
        route("no-listener", "a.test", parent={"namespace": "mcp", "name": "external-gw-01", "sectionName": "smtp"}),
        route("wrong-hostname", f"wrong-hostname.{namespace}.test", parent=own),
        gateway("own", plain(hostname="*.own.test")),
        namespace=namespace,
    )
    kubectl.apply(route("not-allowed", "not-allowed.own.test", parent=own), namespace=other_namespace)
    return namespace


@pytest.fixture
def condition_of(kubectl: Kubectl, applied: str) -> ConditionOf:
    """Waits until a route's condition has a status, and returns it: `condition_of(route, kind, status)`."""

    def reached(name: str, kind: str, status: str) -> Condition:
        return wait_for_condition(kubectl, applied, f"httproute/{name}", kind, status, part=only_parent)

    return reached


@pytest.mark.parametrize("kind", ["Accepted", "ResolvedRefs", "Reconciled"])
def test_route_of_another_namespace_is_healthy(condition_of: ConditionOf, kind: str) -> None:
    """A route of any namespace attaches to the platform's Gateway."""
    found = condition_of("served", kind, "True")

    assert found.reason == {"Reconciled": "ReconciliationSucceeded"}.get(kind, kind)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_route_is_refused_when_gke_lacks_the_feature(condition_of: ConditionOf, name: str) -> None:
    """What the Gateway API allows and GKE does not implement is refused in GKE's words."""
    found = condition_of(name, "Accepted", "False")

    assert found.reason == "UnsupportedValue"
    assert found.message.startswith("Error GWCER104: HTTPRoute ")
    assert found.message.endswith(" supported.")
    assert condition_of(name, "Reconciled", "False").reason == "ReconciliationFailed"


def test_refused_route_serves_nothing(condition_of: ConditionOf, applied: str, gateway_address: str) -> None:
    """Requests for a refused route's hostname get the redirect that the listener has for any hostname."""
    condition_of("timeouts", "Accepted", "False")

    assert ask(f"timeouts.{applied}.test", address=gateway_address).status == 301


def test_route_without_its_backend_is_unresolved(condition_of: ConditionOf, applied: str, gateway_address: str) -> None:
    """A Service that does not exist is named in the route's status; requests are answered 500."""
    found = condition_of("no-backend", "ResolvedRefs", "False")

    assert found.reason == "BackendNotFound"
    assert f"Error GWCER102: services {applied}/no-such-service not found" in found.message
    assert condition_of("no-backend", "Accepted", "True").reason == "Accepted"
    wait_for(
        "requests to be answered 500",
        lambda: ask(f"no-backend.{applied}.test", address=gateway_address),
        until=lambda answer: answer.status == 500,
        within=30,
        look_next="python -m lab logs envoy",
    )


def test_backend_of_another_namespace_needs_a_reference_grant(
    kubectl: Kubectl, condition_of: ConditionOf, applied: str, other_namespace: str
) -> None:
    """A Service of another namespace is refused as backend until that namespace grants the reference."""
    refused = condition_of("far", "ResolvedRefs", "False")
    grant = {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "routes"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": applied}],
            "to": [{"group": "", "kind": "Service"}],
        },
    }
    kubectl.apply(grant, namespace=other_namespace)

    assert refused.reason == "RefNotPermitted"
    assert condition_of("far", "ResolvedRefs", "True").reason == "ResolvedRefs"


def test_route_to_an_unknown_listener_has_no_parent(condition_of: ConditionOf) -> None:
    """A sectionName that the Gateway does not have is refused."""
    found = condition_of("no-listener", "Accepted", "False")

    assert found.reason == "NoMatchingParent"


def test_route_of_a_namespace_that_the_listener_excludes_is_refused(
    kubectl: Kubectl, applied: str, other_namespace: str
) -> None:
    """A listener takes routes of its own namespace only, unless it says otherwise."""
    found = wait_for_condition(kubectl, other_namespace, "httproute/not-allowed", "Accepted", "False", part=only_parent)

    assert found.reason == "NotAllowedByListeners"
    assert f'"{applied}/own"' in found.message


def test_route_for_a_hostname_outside_the_listeners_is_refused(condition_of: ConditionOf) -> None:
    """A route attaches only where listener and route have a hostname in common."""
    found = condition_of("wrong-hostname", "Accepted", "False")

    assert found.reason == "NoMatchingListenerHostname"


def test_route_serves_its_backend(applied: str, gateway_address: str) -> None:
    """Requests for the route's hostname are answered by the Service's pod."""
    answer = wait_for(
        "the route to serve",
        lambda: ask(f"served.{applied}.test", "/cgi-bin/name", address=gateway_address),
        until=lambda answer: answer.status == 200,
        in_a_row=3,
        within=120,
        look_next=f"kubectl -n {applied} describe httproute/served",
    )

    assert answer.body.startswith("web-")


def test_events_tell_of_the_route(kubectl: Kubectl, applied: str) -> None:
    """GKE's controller notes in events that it has seen and reconciled a route."""

    def read_events() -> list[tuple[str, str, str]]:
        events = kubectl.get("--namespace", applied, "events", "--field-selector=involvedObject.name=served")["items"]
        return [(event["reason"], event["source"]["component"], event["message"]) for event in events]

    subject = f'Reconciliation of HTTPRoute "{applied}/served" bound to ParentRef '
    events = wait_for(
        "an event about the route's success",
        read_events,
        until=lambda events: any(text.startswith(subject) and text.endswith(" was a success") for *_, text in events),
        within=30,
        look_next=f"kubectl -n {applied} get events",
    )

    assert ("ADD", "sc-gateway-controller", f"{applied}/served") in events
    assert {source for _, source, _ in events} == {"sc-gateway-controller"}
