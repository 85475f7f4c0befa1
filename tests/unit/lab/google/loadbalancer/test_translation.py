"""From Gateways and HTTPRoutes to what Envoy does and what the statuses say."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab import layout
from lab.google.loadbalancer.configuration import gateways, policies, routes, status
from lab.google.loadbalancer.configuration.gateways import Gateway
from lab.google.loadbalancer.configuration.policies import HealthCheck
from lab.google.loadbalancer.configuration.routes import Parent, intersection
from lab.google.loadbalancer.dataplane import programme
from lab.google.loadbalancer.dataplane.backends import MISSING, Backend, cluster, load_assignment
from lab.google.loadbalancer.dataplane.neg import Endpoint
from lab.google.loadbalancer.dataplane.programme import Programme
from lab.google.loadbalancer.objects import Object, Objects, Problem, key

OBJECTS = """
kind: GatewayClass
metadata: {name: gke-l7-global-external-managed, generation: 1}
spec: {controllerName: networking.gke.io/gateway}
---
kind: Gateway
metadata: {name: external-gw-01, namespace: mcp, generation: 3, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  gatewayClassName: gke-l7-global-external-managed
  listeners:
  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
  - name: https
    port: 443
    protocol: HTTPS
    tls: {certificateRefs: [{kind: Secret, name: cert}]}
    allowedRoutes: {namespaces: {from: All}}
---
kind: HTTPRoute
metadata: {name: backstage, namespace: backstage, generation: 2, creationTimestamp: "2026-01-02T00:00:00Z"}
spec:
  parentRefs: [{namespace: mcp, name: external-gw-01, sectionName: https}]
  hostnames: [backstage.lab.test]
  rules: [{backendRefs: [{name: backstage, port: 80}]}]
---
kind: Service
metadata: {name: backstage, namespace: backstage}
spec: {selector: {app: backstage}, ports: [{name: http, port: 80}]}
---
kind: Namespace
metadata: {name: backstage, labels: {team: portal}}
"""


def self_signed() -> tuple[str, str]:
    """A certificate and its key, in base64 as a Secret has them."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "backstage.lab.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, private_key.public_key(), 1, now, now + timedelta(days=1))
        .sign(private_key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    pem = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return base64.b64encode(certificate).decode(), base64.b64encode(pem).decode()


CERTIFICATE, KEY = self_signed()


class World:
    """The objects of a cluster, to be changed before they are translated."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, Object]] = {}
        self.add(OBJECTS)
        self.add("{kind: Secret, metadata: {name: cert, namespace: mcp}}")["data"] = {
            "tls.crt": CERTIFICATE,
            "tls.key": KEY,
        }
        self.gateway = self.kinds["Gateway"]["mcp/external-gw-01"]
        self.route = self.kinds["HTTPRoute"]["backstage/backstage"]
        self.rule: Object = self.route["spec"]["rules"][0]

    def add(self, text: str) -> Object:
        """Add objects; returns the last."""
        for each in yaml.safe_load_all(text):
            self.kinds.setdefault(each["kind"], {})[key(each)] = each
        last: Object = each
        return last

    @property
    def objects(self) -> Objects:
        """The objects as the mirror would have them."""
        return Objects(self.kinds)

    def gateways(self) -> dict[str, Gateway]:
        """The Gateways as read."""
        return gateways.read(self.objects)

    def parents(self) -> list[Parent]:
        """The parentRefs as read."""
        return routes.read(self.objects, self.gateways())

    def parent(self) -> Parent:
        """The only parentRef."""
        (parent,) = self.parents()
        return parent

    def programme(self, name: str = "mcp/external-gw-01") -> Programme:
        """What Envoy is to do for a Gateway."""
        checks = policies.health_checks(policies.read(self.objects))
        return programme.build(self.objects, self.gateways()[name], self.parents(), checks, Path("/xds"))

    def virtual_host(self, hostname: str = "backstage.lab.test") -> list[Object]:
        """The routes of a hostname at port 443, without the last, which is for all that matches none."""
        hosts = self.programme().routes["mcp_external-gw-01_443"]["virtual_hosts"]
        (found,) = [each["routes"] for each in hosts if each["domains"] == [hostname]]
        routes_of_host: list[Object] = found[:-1]
        return routes_of_host


@pytest.fixture
def world() -> World:
    """The reference: one Gateway, one route, one Service."""
    return World()


def conditions(found: list[Object]) -> dict[str, tuple[str, str]]:
    """Type to status and reason."""
    return {each["type"]: (each["status"], each["reason"]) for each in found}


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


def test_healthy_gateway_says_so(world: World) -> None:
    """In GKE's three conditions, with the generation they are about."""
    gateway = world.gateways()["mcp/external-gw-01"]
    found = status.of_gateway(gateway, None, world.parents(), addressed=True, now="now")

    assert conditions(found["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("True", "Programmed"),
        "networking.gke.io/GatewayHealthy": ("True", "Healthy"),
    }
    assert {each["observedGeneration"] for each in found["conditions"]} == {3}
    assert found["addresses"] == [{"type": "IPAddress", "value": "172.30.0.80"}]
    assert [(each["name"], each["attachedRoutes"]) for each in found["listeners"]] == [("http", 0), ("https", 1)]


def test_healthy_route_says_so(world: World) -> None:
    """With GKE's own third condition."""
    assert conditions(of_route(world)[0]["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Reconciled": ("True", "ReconciliationSucceeded"),
    }


def of_route(world: World, problem: Problem | None = None) -> list[Any]:
    """The status entries of the route."""
    problems = {"mcp/external-gw-01": problem}
    parents: list[Any] = status.of_route(world.route, world.parents(), problems, "now")["parents"]
    return parents


def test_gateway_that_is_down_is_said_of_route_and_gateway(world: World) -> None:
    """Programmed, GatewayHealthy and Reconciled are False; what was accepted stays so."""
    down = Problem("Pending", "not live")
    gateway = world.gateways()["mcp/external-gw-01"]

    found = conditions(status.of_gateway(gateway, down, [], addressed=True, now="now")["conditions"])
    assert found == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("False", "Pending"),
        "networking.gke.io/GatewayHealthy": ("False", "Error"),
    }
    of_its_route = conditions(of_route(world, down)[0]["conditions"])
    assert of_its_route["Accepted"] == ("True", "Accepted")
    assert of_its_route["Reconciled"] == ("False", "ReconciliationFailed")


def test_transition_time_stays_while_the_status_does(world: World) -> None:
    """Also if the reason changes."""
    del world
    before = [{"type": "Programmed", "status": "False", "reason": "Pending", "lastTransitionTime": "then"}]
    still_false = status.Condition("Programmed", status=False, reason="Invalid")
    now_true = status.Condition("Programmed", status=True, reason="Programmed")

    assert status.merged([still_false], 1, before, "now")[0]["lastTransitionTime"] == "then"
    assert status.merged([now_true], 1, before, "now")[0]["lastTransitionTime"] == "now"


def test_other_controllers_parents_are_kept(world: World) -> None:
    """And our own entry for a parentRef that is gone is dropped."""
    foreign = {"controllerName": "else.where/gateway", "parentRef": {"name": "mesh"}, "conditions": []}
    stale = {"controllerName": "networking.gke.io/gateway", "parentRef": {"name": "gone"}, "conditions": []}
    world.route["status"] = {"parents": [foreign, stale]}

    found = of_route(world)
    assert found[0] == foreign
    assert [each["parentRef"]["name"] for each in found[1:]] == ["external-gw-01"]


def test_missing_certificate_stops_the_whole_gateway(world: World) -> None:
    """The plain HTTP listener as well, as on GKE."""
    del world.kinds["Secret"]
    gateway = world.gateways()["mcp/external-gw-01"]

    assert gateway.problem == Problem("Invalid", "Error GWCER102: Secret mcp/cert not found.")
    listeners = status.of_gateway(gateway, gateway.problem, [], addressed=False, now="now")["listeners"]
    assert conditions(listeners[0]["conditions"])["Programmed"] == ("False", "Invalid")
    assert conditions(listeners[1]["conditions"])["ResolvedRefs"] == ("False", "InvalidCertificateRef")


def test_certificate_with_the_wrong_key_is_refused(world: World) -> None:
    """Envoy would refuse it too, but say so nowhere."""
    world.kinds["Secret"]["mcp/cert"]["data"]["tls.key"] = self_signed()[1]

    problem = world.gateways()["mcp/external-gw-01"].problem
    assert problem == Problem("Invalid", "Error GWCER102: Secret mcp/cert holds no usable certificate.")


def test_certificate_of_another_namespace_needs_a_grant(world: World) -> None:
    """RefNotPermitted without, resolved with."""
    world.kinds["Secret"]["certs/cert"] = world.kinds["Secret"].pop("mcp/cert")
    world.gateway["spec"]["listeners"][1]["tls"]["certificateRefs"][0]["namespace"] = "certs"
    problem = world.gateways()["mcp/external-gw-01"].listeners[1].unresolved
    assert problem is not None
    assert problem.reason == "RefNotPermitted"

    world.add(
        "{kind: ReferenceGrant, metadata: {name: g, namespace: certs}, spec: {"
        "from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: mcp}],"
        "to: [{group: '', kind: Secret, name: cert}]}}"
    )
    assert world.gateways()["mcp/external-gw-01"].problem is None


def test_backend_of_another_namespace_needs_a_grant(world: World) -> None:
    """Without one it is answered 500."""
    world.kinds["Service"]["apps/backstage"] = world.kinds["Service"]["backstage/backstage"]
    world.rule["backendRefs"][0]["namespace"] = "apps"
    assert world.parent().unresolved is not None
    assert world.virtual_host()[0]["route"]["weighted_clusters"]["clusters"][0]["name"] == MISSING

    world.add(
        "{kind: ReferenceGrant, metadata: {name: g, namespace: apps}, spec: {"
        "from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: backstage}],"
        "to: [{group: '', kind: Service}]}}"
    )
    assert world.parent().unresolved is None


def test_missing_service_is_named_as_gke_does(world: World) -> None:
    """The message users search for."""
    del world.kinds["Service"]
    (entry,) = of_route(world)

    resolved = entry["conditions"][1]
    assert (resolved["status"], resolved["reason"]) == ("False", "BackendNotFound")
    assert resolved["message"].endswith(
        'Error GWCER104: HTTPRoute "backstage/backstage" is misconfigured, '
        "err: Error GWCER102: services backstage/backstage not found"
    )
    assert world.virtual_host()[0]["route"]["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR"


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
def test_listener_that_does_not_take_the_route(world: World, change: Object, reason: str) -> None:
    """Each reason of the Gateway API; nothing is attached."""
    world.gateway["spec"]["listeners"][1] |= change
    parent = world.parent()

    assert parent.refused is not None
    assert parent.refused.reason == reason
    assert parent.hostnames == {}


def test_selector_takes_namespaces_with_the_label(world: World) -> None:
    """The listener decides, by the labels of the route's namespace."""
    expression = {"key": "team", "operator": "In", "values": ["portal"]}
    namespaces = {"from": "Selector", "selector": {"matchExpressions": [expression]}}
    world.gateway["spec"]["listeners"][1]["allowedRoutes"] = {"namespaces": namespaces}

    assert world.parent().refused is None


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
def test_what_gke_does_not_implement_is_refused(world: World, rule: Object, message: str) -> None:
    """With GKE's code, so that the search for it leads somewhere; the route is not served."""
    world.rule |= rule

    expected = f'Error GWCER104: HTTPRoute "backstage/backstage" is misconfigured, err: {message}'
    assert world.parent().refused == Problem("UnsupportedValue", expected)
    assert world.programme().backends == {}


def test_port_of_a_parent_reference_is_refused(world: World) -> None:
    """ParentRefPort is not among GKE's features either."""
    world.route["spec"]["parentRefs"][0]["port"] = 443

    refused = world.parent().refused
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
    """A wildcard stands for one label or more, never for none."""
    assert intersection(listener, route) == expected


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


def test_redirect_to_https(world: World) -> None:
    """Scheme and status; path and query are Envoy's to keep."""
    filters = [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]
    world.route["spec"]["rules"] = [{"filters": filters}]

    assert world.virtual_host()[0]["redirect"] == {"response_code": "MOVED_PERMANENTLY", "scheme_redirect": "https"}


@pytest.mark.parametrize(
    ("prefix", "replacement", "expected"),
    [
        ("/old", "/new/", {"prefix_rewrite": "/new"}),
        ("/old", "/", {"regex_rewrite": {"pattern": {"regex": "^/old/*"}, "substitution": "/"}}),
        ("/", "/new", {"regex_rewrite": {"pattern": {"regex": "^/*"}, "substitution": "/new/"}}),
    ],
)
def test_redirect_replaces_a_prefix(world: World, prefix: str, replacement: str, expected: Object) -> None:
    """No slash is lost or doubled."""
    path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": replacement}
    filters = [{"type": "RequestRedirect", "requestRedirect": {"path": path}}]
    world.route["spec"]["rules"] = [{"matches": [{"path": {"value": prefix}}], "filters": filters}]

    assert world.virtual_host()[0]["redirect"] == {"response_code": "FOUND"} | expected


def test_rule_without_a_weight_answers_500(world: World) -> None:
    """Envoy takes no total weight of 0."""
    world.rule["backendRefs"][0]["weight"] = 0

    assert world.virtual_host()[0]["direct_response"] == {"status": 500}


def test_mirror_gets_its_share(world: World) -> None:
    """A percentage, in Envoy's millionths."""
    mirror = {"percent": 20, "backendRef": {"name": "backstage", "port": 80}}
    world.rule["filters"] = [{"type": "RequestMirror", "requestMirror": mirror}]

    (policy,) = world.virtual_host()[0]["route"]["request_mirror_policies"]
    assert policy["runtime_fraction"]["default_value"] == {"numerator": 200_000, "denominator": "MILLION"}


def test_first_gateway_has_the_first_address_and_others_keep_theirs() -> None:
    """Whatever their order; the status is the memory."""

    def gateway(name: str, *addresses: str) -> Object:
        status_now = {"addresses": [{"value": each} for each in addresses]}
        return {"metadata": {"namespace": "mcp", "name": name}, "status": status_now}

    third = layout.GATEWAY_ADDRESSES[2]
    found = gateways.assign_addresses(
        [gateway("new"), gateway("old", third), gateway("external-gw-01"), gateway("newer")]
    )

    assert found == {
        "mcp/external-gw-01": "172.30.0.80",
        "mcp/old": third,
        "mcp/new": "172.30.0.81",
        "mcp/newer": "172.30.0.83",
    }


def test_static_address_is_refused(world: World) -> None:
    """GKE's code for it, on the Gateway and its listeners."""
    world.gateway["spec"]["addresses"] = [{"type": "IPAddress", "value": "192.0.2.1"}]
    gateway = world.gateways()["mcp/external-gw-01"]
    found = status.of_gateway(gateway, gateway.problem, [], addressed=False, now="now")

    assert conditions(found["conditions"])["Accepted"] == ("False", "UnsupportedAddress")
    assert conditions(found["listeners"][0]["conditions"])["Accepted"] == ("False", "UnsupportedAddress")
    assert found["conditions"][1]["message"].startswith("Error GWCER106")


def test_listeners_of_two_protocols_on_a_port_conflict(world: World) -> None:
    """Neither is programmed."""
    world.gateway["spec"]["listeners"][1]["port"] = 80
    gateway = world.gateways()["mcp/external-gw-01"]

    assert [listener.usable for listener in gateway.listeners] == [False, False]
    found = status.of_gateway(gateway, None, [], addressed=True, now="now")["listeners"][0]["conditions"]
    assert conditions(found)["Conflicted"] == ("True", "ProtocolConflict")


POLICY = """
kind: HealthCheckPolicy
metadata: {name: %s, namespace: backstage, generation: 1, creationTimestamp: "2026-01-0%sT00:00:00Z"}
spec:
  targetRef: {group: "", kind: Service, name: backstage}
  default:
    checkIntervalSec: 3
    timeoutSec: 2
    config: {type: HTTP, httpHealthCheck: {requestPath: /ready, port: 9000}}
"""


def test_oldest_policy_is_attached(world: World) -> None:
    """The other says so."""
    world.add(POLICY % ("younger", 2))
    world.add(POLICY % ("older", 1))
    found = {key(each.obj): each for each in policies.read(world.objects)}

    assert found["backstage/older"].problem is None
    younger = status.of_policy(found["backstage/younger"], "now")["conditions"]
    assert conditions(younger) == {"Attached": ("False", "Conflicted")}


def test_policy_becomes_the_health_check(world: World) -> None:
    """What it leaves open has the Compute API's defaults."""
    world.add(POLICY % ("policy", 1))
    backend = Backend.load(world.programme().backends["backstage_backstage_80"])

    assert backend.check == HealthCheck(
        path="/ready", port=9000, interval=3, timeout=2, healthy_threshold=2, unhealthy_threshold=2
    )
    (check,) = cluster(backend, Path("/xds"))["health_checks"]
    assert (check["interval"], check["no_traffic_interval"], check["timeout"]) == ("3s", "3s", "2s")
    endpoints = load_assignment(backend, [Endpoint("10.244.1.2", 7007, "")])["endpoints"][0]["lb_endpoints"]
    assert endpoints[0]["endpoint"]["health_check_config"] == {"hostname": "10.244.1.2", "port_value": 9000}


def test_service_without_policy_is_asked_for_its_root(world: World) -> None:
    """GET / every 15 s, as on GKE; this is why Backstage needs a policy."""
    backend = Backend.load(world.programme().backends["backstage_backstage_80"])

    (check,) = cluster(backend, Path("/xds"))["health_checks"]
    assert check["http_health_check"]["path"] == "/"
    assert check["http_health_check"]["expected_statuses"] == [{"start": 200, "end": 201}]
    assert (check["interval"], check["unhealthy_threshold"]) == ("15s", 2)


def test_policy_for_a_missing_service_is_not_attached(world: World) -> None:
    """And says which Service it misses."""
    del world.kinds["Service"]
    world.add(POLICY % ("policy", 1))

    (policy,) = policies.read(world.objects)
    assert policy.problem == Problem("TargetNotFound", "Service backstage/backstage not found.")
