"""Envoy's configuration for a Gateway: listeners, virtual hosts, the order of routes."""

from __future__ import annotations

from tests.unit.lab.google.loadbalancer.world import ClusterState


def test_reference_is_programmed(state: ClusterState) -> None:
    """Both listeners serve, and the route's hostname leads to the Service."""
    built = state.programme()

    addresses = [each["address"]["socket_address"] for each in built.listeners]
    assert addresses == [{"address": "172.30.0.80", "port_value": port} for port in (80, 443)]
    assert list(built.secrets) == ["mcp_cert"]
    assert list(built.backends) == ["backstage_backstage_80"]
    (route,) = state.virtual_host()
    assert route["match"]["prefix"] == "/"
    assert route["route"]["weighted_clusters"]["clusters"] == [{"name": "backstage_backstage_80", "weight": 1}]


def test_unknown_host_is_not_found(state: ClusterState) -> None:
    """On every port, a host without a route is answered 404."""
    for table in state.programme().routes.values():
        (catch_all,) = [each for each in table["virtual_hosts"] if each["domains"] == ["*"]]
        assert [each["direct_response"]["status"] for each in catch_all["routes"]] == [404]


def test_routes_merge_in_the_order_of_precedence(state: ClusterState) -> None:
    """The Gateway API's order: exact path, longest prefix, most headers, most query parameters, oldest route."""
    state.rule["matches"] = [
        {"path": {"value": "/a"}, "queryParams": [{"name": "q", "value": "1"}]},
        {"path": {"value": "/a"}, "headers": [{"name": "h", "value": "1"}]},
        {"path": {"value": "/a/"}},
        {"path": {"value": "/"}},
    ]
    younger = state.add(
        "{kind: HTTPRoute, metadata: {name: younger, namespace: backstage, creationTimestamp: '2026-02-01T00:00:00Z'},"
        "spec: {parentRefs: [{namespace: mcp, name: external-gw-01}], hostnames: [backstage.lab.test],"
        "rules: [{matches: [{path: {value: /}}, {path: {type: Exact, value: /a}}],"
        "backendRefs: [{name: younger, port: 80}]}]}}"
    )
    assert younger["metadata"]["name"] == "younger"

    order = [
        (next(iter(each["match"].values())), len(each["match"]["headers"]), len(each["match"]["query_parameters"]))
        for each in state.virtual_host()
    ]
    assert order == [("/a", 0, 0), ("/a", 0, 0), ("/a", 1, 0), ("/a", 0, 1), ("/", 0, 0), ("/", 0, 0)]
    exact, trailing_slash, *_, older, _ = state.virtual_host()
    assert "path" in exact["match"]
    assert "path_separated_prefix" in trailing_slash["match"]
    assert older["route"]["weighted_clusters"]["clusters"][0]["name"] == "backstage_backstage_80"
