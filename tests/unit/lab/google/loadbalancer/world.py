"""The reference deployment as Kubernetes objects, and their translation by the load balancer."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab.google.loadbalancer.configuration import gateways, policies, routes
from lab.google.loadbalancer.configuration.gateways import Gateway
from lab.google.loadbalancer.configuration.routes import Parent
from lab.google.loadbalancer.dataplane import programme
from lab.google.loadbalancer.dataplane.programme import Programme
from lab.google.loadbalancer.objects import Object, Objects, key

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
    """A certificate and its key as PEM in base64, as in a Secret."""
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


class ClusterState:
    """The objects of a cluster; a test changes them before they are translated."""

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
        """Add the objects of a YAML text; return the last."""
        for each in yaml.safe_load_all(text):
            self.kinds.setdefault(each["kind"], {})[key(each)] = each
        last: Object = each
        return last

    @property
    def objects(self) -> Objects:
        """The objects as the load balancer's watches would store them."""
        return Objects(self.kinds)

    def gateways(self) -> dict[str, Gateway]:
        """The Gateways as read, by namespace/name."""
        return gateways.read(self.objects)

    def parents(self) -> list[Parent]:
        """The parentRefs of all routes as read."""
        return routes.read(self.objects, self.gateways())

    def parent(self) -> Parent:
        """The parentRef, if there is exactly one."""
        (parent,) = self.parents()
        return parent

    def programme(self, name: str = "mcp/external-gw-01") -> Programme:
        """Envoy's configuration for a Gateway."""
        checks = policies.health_checks(policies.read(self.objects))
        return programme.build(self.objects, self.gateways()[name], self.parents(), checks, Path("/xds"))

    def virtual_host(self, hostname: str = "backstage.lab.test") -> list[Object]:
        """The routes of a hostname on port 443, without the catch-all at the end."""
        hosts = self.programme().routes["mcp_external-gw-01_443"]["virtual_hosts"]
        (found,) = [each["routes"] for each in hosts if each["domains"] == [hostname]]
        routes_of_host: list[Object] = found[:-1]
        return routes_of_host


def conditions(found: list[Object]) -> dict[str, tuple[str, str]]:
    """Condition types with their status and reason."""
    return {each["type"]: (each["status"], each["reason"]) for each in found}
