"""What Envoy is to do for a Gateway: listeners, hosts, the order of the routes."""

from __future__ import annotations

from tests.unit.lab.google.loadbalancer.world import World


def test_reference_is_programmed(world: World) -> None:
    """Both listeners serve, and the route's host goes to the Service."""
    built = world.programme()

    addresses = [each["address"]["socket_address"] for each in built.listeners]
    assert addresses == [{"address": "172.30.0.80", "port_value": port} for port in (80, 443)]
    assert list(built.secrets) == ["mcp_cert"]
    assert list(built.backends) == ["backstage_backstage_80"]
    (route,) = world.virtual_host()
    assert route["match"]["prefix"] == "/"
    assert route["route"]["weighted_clusters"]["clusters"] == [{"name": "backstage_backstage_80", "weight": 1}]


def test_unknown_host_is_not_found(world: World) -> None:
    """Every port answers hosts of no route with 404."""
    for table in world.programme().routes.values():
        (catch_all,) = [each for each in table["virtual_hosts"] if each["domains"] == ["*"]]
        assert [each["direct_response"]["status"] for each in catch_all["routes"]] == [404]


def test_routes_merge_in_the_order_of_precedence(world: World) -> None:
    """Exact before the longest prefix, before most headers, before most parameters, before the older route."""
    world.rule["matches"] = [
        {"path": {"value": "/a"}, "queryParams": [{"name": "q", "value": "1"}]},
        {"path": {"value": "/a"}, "headers": [{"name": "h", "value": "1"}]},
        {"path": {"value": "/a/"}},
        {"path": {"value": "/"}},
    ]
    younger = world.add(
        "{kind: HTTPRoute, metadata: {name: younger, namespace: backstage, creationTimestamp: '2026-02-01T00:00:00Z'},"
        "spec: {parentRefs: [{namespace: mcp, name: external-gw-01}], hostnames: [backstage.lab.test],"
        "rules: [{matches: [{path: {value: /}}, {path: {type: Exact, value: /a}}],"
        "backendRefs: [{name: younger, port: 80}]}]}}"
    )
    assert younger["metadata"]["name"] == "younger"

    order = [
        (next(iter(each["match"].values())), len(each["match"]["headers"]), len(each["match"]["query_parameters"]))
        for each in world.virtual_host()
    ]
    assert order == [("/a", 0, 0), ("/a", 0, 0), ("/a", 1, 0), ("/a", 0, 1), ("/", 0, 0), ("/", 0, 0)]
    exact, trailing_slash, *_, older, _ = world.virtual_host()
    assert "path" in exact["match"]
    assert "path_separated_prefix" in trailing_slash["match"]
    assert older["route"]["weighted_clusters"]["clusters"][0]["name"] == "backstage_backstage_80"
