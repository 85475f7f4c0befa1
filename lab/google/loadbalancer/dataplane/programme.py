"""What Envoy shall do for one Gateway: listeners, route tables and certificates as its resources, and the backends."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lab.google.loadbalancer.configuration.policies import HealthCheck
from lab.google.loadbalancer.configuration.routes import backend_refs, resolve
from lab.google.loadbalancer.dataplane.actions import action
from lab.google.loadbalancer.dataplane.backends import Backend
from lab.google.loadbalancer.dataplane.envoy import TYPE, config_source
from lab.google.loadbalancer.objects import Object, Objects, age, namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.google.loadbalancer.configuration.gateways import Certificate, Gateway, Listener
    from lab.google.loadbalancer.configuration.routes import Parent

CLIENT_IDLE_SECONDS = 610
"""How long Google's load balancer keeps an idle connection of a client."""
NOT_FOUND = {
    "match": {"prefix": "/"},
    "direct_response": {"status": 404, "body": {"inline_string": "fault filter abort"}},
}


@dataclass(frozen=True)
class Programme:
    """Plain data, so that the last good one can be kept in a file."""

    listeners: list[Object] = field(default_factory=list)
    routes: dict[str, Object] = field(default_factory=dict)
    secrets: dict[str, Object] = field(default_factory=dict)
    backends: dict[str, Object] = field(default_factory=dict)
    """Fields of each `Backend`."""


def build(
    objects: Objects, gateway: Gateway, parents: list[Parent], checks: dict[str, HealthCheck], xds: Path
) -> Programme:
    """Translate a Gateway without a problem and the routes attached to it."""
    programme = Programme()
    ports: dict[int, list[Listener]] = {}
    for listener in gateway.listeners:
        if listener.usable:
            ports.setdefault(listener.spec["port"], []).append(listener)
    for port, listeners in ports.items():
        name = f"{gateway.key.replace('/', '_')}_{port}"
        certificates = {each.name: each for listener in listeners for each in listener.certificates}
        programme.listeners.append(_listener(gateway, port, name, list(certificates), xds))
        programme.routes[name] = _route_table(objects, gateway, name, port, _served(parents, gateway, listeners))
        programme.secrets.update({each.name: _secret(each) for each in certificates.values()})
    for backend in _backends(objects, parents, gateway, checks):
        programme.backends[backend.name] = asdict(backend)
    return programme


def _served(parents: list[Parent], gateway: Gateway, listeners: list[Listener]) -> dict[str, list[Parent]]:
    """The parents that serve each hostname at these listeners."""
    served: dict[str, list[Parent]] = {}
    for parent in parents:
        if parent.gateway.key != gateway.key:
            continue
        for listener in listeners:
            for hostname in parent.hostnames.get(listener.name, []):
                rivals = served.setdefault(hostname, [])
                if all(each.route is not parent.route for each in rivals):
                    rivals.append(parent)
    return served


def _backends(
    objects: Objects, parents: list[Parent], gateway: Gateway, checks: dict[str, HealthCheck]
) -> Iterator[Backend]:
    for parent in parents:
        if parent.gateway.key != gateway.key or not parent.hostnames:
            continue
        for rule in parent.route["spec"].get("rules", []):
            for ref in backend_refs(rule):
                if resolve(objects, parent.route, ref) is None:
                    where = ref.get("namespace") or namespace(parent.route)
                    yield Backend(where, ref["name"], ref["port"], checks.get(f"{where}/{ref['name']}", HealthCheck()))


def _route_table(objects: Objects, gateway: Gateway, name: str, port: int, served: dict[str, list[Parent]]) -> Object:
    nobody: dict[str, list[Parent]] = {"*": []}
    hosts = {hostname: _routes(objects, parents, port) for hostname, parents in (nobody | served).items()}
    forwarded = {"key": "x-forwarded-for", "value": gateway.address}
    return {
        "@type": f"{TYPE}config.route.v3.RouteConfiguration",
        "name": name,
        # A Host header may name the port; Google's matching does not look at it.
        "ignore_port_in_host_matching": True,
        "virtual_hosts": [
            {"name": hostname, "domains": [hostname], "routes": [*routes, NOT_FOUND]}
            for hostname, routes in hosts.items()
        ],
        # Google's load balancer names itself behind the client it saw.
        "request_headers_to_add": [{"header": forwarded, "append_action": "APPEND_IF_EXISTS_OR_ADD"}],
        "request_headers_to_remove": ["x-envoy-external-address"],
    }


def _routes(objects: Objects, parents: list[Parent], port: int) -> list[Object]:
    """The routes of one hostname, in the Gateway API's order of precedence."""
    ranked = []
    for parent in parents:
        for rule_number, rule in enumerate(parent.route["spec"].get("rules", [])):
            for match_number, match in enumerate(rule.get("matches") or [{}]):
                path, headers, params = _parts(match)
                exact, value = path["type"] == "Exact", path["value"]
                rank = (
                    not exact,
                    -len(value),
                    -len(headers),
                    -len(params),
                    age(parent.route),
                    rule_number,
                    match_number,
                )
                prefix = "" if exact else value.rstrip("/")
                route: Object = {
                    "match": _match(path, headers, params),
                    **action(objects, parent.route, rule, prefix, port),
                }
                ranked.append((rank, route))
    return [route for _, route in sorted(ranked, key=lambda each: each[0])]


def _parts(match: Object) -> tuple[Object, list[Object], list[Object]]:
    """Path, headers and query parameters of a match; of several conditions on one name the first counts."""
    path = {"type": "PathPrefix", "value": "/"} | match.get("path", {})
    headers = {each["name"].lower(): each for each in reversed(match.get("headers", []))}
    params = {each["name"]: each for each in reversed(match.get("queryParams", []))}
    return path, list(headers.values()), list(params.values())


def _match(path: Object, headers: list[Object], params: list[Object]) -> Object:
    if path["type"] == "Exact":
        where = {"path": path["value"]}
    else:
        prefix = path["value"].rstrip("/")
        where = {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}
    return {
        **where,
        "headers": [{"name": each["name"], "string_match": {"exact": each["value"]}} for each in headers],
        "query_parameters": [{"name": each["name"], "string_match": {"exact": each["value"]}} for each in params],
    }


def _listener(gateway: Gateway, port: int, name: str, certificates: list[str], xds: Path) -> Object:
    chain: Object = {"filters": [_connection_manager(name, xds)]}
    if certificates:
        chain["transport_socket"] = _tls(certificates, xds)
    return {
        "@type": f"{TYPE}config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": gateway.address, "port_value": port}},
        "filter_chains": [chain],
    }


def _connection_manager(name: str, xds: Path) -> Object:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "rds": {"route_config_name": name, "config_source": config_source(xds / f"routes/{name}.json")},
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": f"{TYPE}extensions.filters.http.router.v3.Router",
                        "suppress_envoy_headers": True,
                    },
                }
            ],
            "use_remote_address": True,
            "generate_request_id": False,
            "via": "1.1 google",
            "server_header_transformation": "PASS_THROUGH",
            "common_http_protocol_options": {"idle_timeout": f"{CLIENT_IDLE_SECONDS}s"},
        },
    }


def _tls(certificates: list[str], xds: Path) -> Object:
    """TLS with every certificate of the port; Envoy picks by server name, the first is the default."""
    sources = [{"name": each, "sds_config": config_source(xds / f"secrets/{each}.json")} for each in certificates]
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPE}extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": sources,
            },
        },
    }


def _secret(certificate: Certificate) -> Object:
    """Inlined: a changed file behind an unchanged name would not be read again."""
    return {
        "@type": f"{TYPE}extensions.transport_sockets.tls.v3.Secret",
        "name": certificate.name,
        "tls_certificate": {
            "certificate_chain": {"inline_string": certificate.chain},
            "private_key": {"inline_string": certificate.private_key},
        },
    }
