"""Names of the Google resources that GKE would have made, in GKE's shape; they appear in annotations and messages."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lab import layout
from lab.google.loadbalancer.objects import name, namespace

if TYPE_CHECKING:
    from lab.google.loadbalancer.configuration.gateways import Gateway
    from lab.google.loadbalancer.dataplane.backends import Backend
    from lab.google.loadbalancer.dataplane.programme import Programme


def neg_name(backend: Backend) -> str:
    """Name of the backend's network endpoint group."""
    parts = f"{backend.namespace}-{backend.service}-{backend.port}"
    return f"k8s1-{_digest(layout.CLUSTER, 8)}-{parts}-{_digest(backend.name, 8)}"


def backend_service_name(backend: Backend) -> str:
    """Name of the backend service the group is attached to."""
    return _gateway_resource(backend.namespace, backend.service, str(backend.port))


def resource_annotations(gateway: Gateway, programme: Programme, backends: list[Backend]) -> dict[str, str]:
    """What GKE notes on a Gateway about its resources, apart from the time."""
    mine = _gateway_resource(namespace(gateway.obj), name(gateway.obj))
    services = ", ".join(_path("backendServices", backend_service_name(each)) for each in backends)
    schemes = {"https" if "transport_socket" in each["filter_chains"][0] else "http" for each in programme.listeners}
    certificates = (_gateway_resource(*each.split("_")) for each in programme.secrets)
    values = {
        "addresses": _path("addresses", mine),
        "backend-services": services,
        "firewalls": _path("firewalls", f"gkegw1-{_digest(layout.CLUSTER, 4)}-l7-default-global"),
        "forwarding-rules": _path("forwardingRules", mine),
        "health-checks": services.replace("backendServices", "healthChecks"),
        "ssl-certificates": ", ".join(_path("sslCertificates", each) for each in certificates),
        "target-http-proxies": _path("targetHttpProxies", mine) if "http" in schemes else "",
        "target-https-proxies": _path("targetHttpsProxies", mine) if "https" in schemes else "",
        "url-maps": _path("urlMaps", mine),
    }
    return {f"networking.gke.io/{field}": value for field, value in values.items()}


def _gateway_resource(*parts: str) -> str:
    return f"gkegw1-{_digest(layout.CLUSTER, 4)}-{'-'.join(parts)}-{_digest('/'.join(parts), 12)}"


def _path(collection: str, resource: str) -> str:
    return f"/projects/{layout.PROJECT_NUMBER}/global/{collection}/{resource}"


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
