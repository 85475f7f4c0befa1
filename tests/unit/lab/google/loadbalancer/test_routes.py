"""How HTTPRoutes are read: attachment, refusals and backends."""

from __future__ import annotations

import pytest

from lab.google.loadbalancer.configuration.routes import intersection
from lab.google.loadbalancer.dataplane.backends import MISSING
from lab.google.loadbalancer.objects import Object, Problem
from tests.unit.lab.google.loadbalancer.world import ClusterState


def test_backend_of_another_namespace_needs_a_grant(state: ClusterState) -> None:
    """Without a ReferenceGrant, requests get a 500."""
    state.kinds["Service"]["apps/backstage"] = state.kinds["Service"]["backstage/backstage"]
    state.rule["backendRefs"][0]["namespace"] = "apps"
    assert state.parent().unresolved is not None
    assert state.virtual_host()[0]["route"]["weighted_clusters"]["clusters"][0]["name"] == MISSING

    state.add(
        "{kind: ReferenceGrant, metadata: {name: g, namespace: apps}, spec: {"
        "from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: backstage}],"
        "to: [{group: '', kind: Service}]}}"
    )
    assert state.parent().unresolved is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"allowedRoutes": {"namespaces": {"from": "Same"}}}, "NotAllowedByListeners"),
        ({"allowedRoutes": {"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}]}}, "NotAllowedByListeners"),
        (
            {"allowedRoutes": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "other"}}}}},
            "NotAllowedByListeners",
        ),
        ({"hostname": "*.example.com"}, "NoMatchingListenerHostname"),
        ({"name": "tls"}, "NoMatchingParent"),
    ],
)
def test_listener_that_does_not_take_the_route(state: ClusterState, change: Object, reason: str) -> None:
    """The condition has the Gateway API's reason, and nothing is attached."""
    state.gateway["spec"]["listeners"][1] |= change
    parent = state.parent()

    assert parent.refused is not None
    assert parent.refused.reason == reason
    assert parent.hostnames == {}


def test_selector_takes_namespaces_with_the_label(state: ClusterState) -> None:
    """The listener's selector is matched against the labels of the route's namespace."""
    expression = {"key": "team", "operator": "In", "values": ["portal"]}
    namespaces = {"from": "Selector", "selector": {"matchExpressions": [expression]}}
    state.gateway["spec"]["listeners"][1]["allowedRoutes"] = {"namespaces": namespaces}

    assert state.parent().refused is None


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"timeouts": {"request": "10s"}}, "Timeouts are not supported."),
        ({"name": "main"}, "Names of route rules are not supported."),
        ({"matches": [{"method": "GET"}]}, "Method matching is not supported."),
        (
            {"matches": [{"path": {"type": "RegularExpression", "value": "/.*"}}]},
            "Path match type RegularExpression is not supported.",
        ),
        (
            {"matches": [{"headers": [{"name": "a", "value": "b", "type": "RegularExpression"}]}]},
            "Match type RegularExpression of headers is not supported.",
        ),
        ({"filters": [{"type": "CORS", "cors": {}}]}, "Filter type CORS is not supported."),
        (
            {"filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath"}}}]},
            "Path rewrites are not supported.",
        ),
        (
            {"filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 308}}]},
            "Redirect status code 308 is not supported.",
        ),
        (
            {"filters": [{"type": "RequestRedirect", "requestRedirect": {"port": 8443}}]},
            "Port redirects are not supported.",
        ),
        ({"backendRefs": [{"name": "x", "filters": [{}]}]}, "Filters of a backendRef are not supported."),
    ],
)
def test_what_gke_does_not_implement_is_refused(state: ClusterState, rule: Object, message: str) -> None:
    """The message has GKE's error code, so that users can search for it, and the route is not served."""
    state.rule |= rule

    expected = f'Error GWCER104: HTTPRoute "backstage/backstage" is misconfigured, err: {message}'
    assert state.parent().refused == Problem("UnsupportedValue", expected)
    assert state.programme().backends == {}


def test_port_of_a_parent_reference_is_refused(state: ClusterState) -> None:
    """GKE does not support ParentRefPort either."""
    state.route["spec"]["parentRefs"][0]["port"] = 443

    refused = state.parent().refused
    assert refused is not None
    assert refused.reason == "UnsupportedValue"


@pytest.mark.parametrize(
    ("listener", "route", "expected"),
    [
        ("", [], ["*"]),
        ("a.test", [], ["a.test"]),
        ("", ["a.test"], ["a.test"]),
        ("*.a.test", ["x.a.test", "x.y.a.test", "a.test", "b.test"], ["x.a.test", "x.y.a.test"]),
        ("x.a.test", ["*.a.test"], ["x.a.test"]),
        ("*.a.test", ["*.b.a.test"], ["*.b.a.test"]),
        ("*.b.a.test", ["*.a.test"], ["*.b.a.test"]),
        ("a.test", ["b.test"], []),
    ],
)
def test_hostnames_intersect(listener: str, route: list[str], expected: list[str]) -> None:
    """A wildcard stands for one or more labels, never for none."""
    assert intersection(listener, route) == expected
