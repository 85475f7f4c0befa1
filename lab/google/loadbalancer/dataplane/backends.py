"""A Service port as Google's backend service: Envoy's cluster with an active health check, and its endpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.google.loadbalancer.configuration.policies import HealthCheck
from lab.google.loadbalancer.dataplane.envoy import TYPE, config_source

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.google.loadbalancer.dataplane.neg import Endpoint
    from lab.google.loadbalancer.objects import Object

MISSING = "missing"
"""A cluster that never exists: what a route sends to a backend that cannot be resolved, answered 500."""
BACKEND_IDLE_SECONDS = 600
"""How long Google's load balancer keeps an idle connection to a backend."""
ANY_STATUS = {"start": 100, "end": 600}
ONLY_OK = {"start": 200, "end": 201}


@dataclass(frozen=True)
class Backend:
    """A port of a Service that a route sends requests to."""

    namespace: str
    service: str
    port: int
    check: HealthCheck = HealthCheck()  # noqa: RUF009 -- frozen

    @property
    def name(self) -> str:
        """Name of its cluster and endpoint group; `_` is in no Kubernetes name."""
        return f"{self.namespace}_{self.service}_{self.port}"

    @classmethod
    def load(cls, fields: Object) -> Backend:
        """The backend whose `dataclasses.asdict` this is."""
        return cls(**{**fields, "check": HealthCheck(**fields["check"])})


def cluster(backend: Backend, xds: Path) -> Object:
    """The backend as Envoy's cluster."""
    return {
        "@type": f"{TYPE}config.cluster.v3.Cluster",
        "name": backend.name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": config_source(xds / f"endpoints/{backend.name}.json")},
        "connect_timeout": "5s",
        # Otherwise a healthy endpoint that was detached would stay.
        "ignore_health_on_host_removal": True,
        # Otherwise requests go to unhealthy endpoints as soon as half of them are.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [_health_check(backend.check)],
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": f"{BACKEND_IDLE_SECONDS}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def load_assignment(backend: Backend, endpoints: Iterable[Endpoint]) -> Object:
    """The endpoints attached to the backend's group."""
    addresses = sorted({(endpoint.address, endpoint.port) for endpoint in endpoints})
    return {
        "@type": f"{TYPE}config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": backend.name,
        "endpoints": [{"lb_endpoints": [_endpoint(backend.check, *each) for each in addresses]}],
    }


def _endpoint(check: HealthCheck, address: str, port: int) -> Object:
    where: Object = {"hostname": check.host or address}
    if check.port:
        where["port_value"] = check.port
    socket = {"address": address, "port_value": port}
    return {"endpoint": {"address": {"socket_address": socket}, "health_check_config": where}}


def _health_check(check: HealthCheck) -> Object:
    common = {
        "interval": f"{check.interval}s",
        # Otherwise an endpoint that had no request yet is asked only every 60 s.
        "no_traffic_interval": f"{check.interval}s",
        "timeout": f"{check.timeout}s",
        "healthy_threshold": check.healthy_threshold,
        "unhealthy_threshold": check.unhealthy_threshold,
        "reuse_connection": False,
    }
    expected = [{"text": check.response.encode().hex()}] if check.response else []
    if check.kind == "TCP":
        return {**common, "tcp_health_check": {"receive": expected}}
    agent = {"key": "user-agent", "value": "GoogleHC/1.0"}
    return {
        **common,
        "http_health_check": {
            "path": check.path,
            "receive": expected,
            "expected_statuses": [ONLY_OK],
            # Otherwise one bad status is enough, whatever the threshold.
            "retriable_statuses": [ANY_STATUS],
            "request_headers_to_add": [{"header": agent, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        },
    }
