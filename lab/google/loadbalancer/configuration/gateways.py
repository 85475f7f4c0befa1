"""Reads Gateways as GKE does: which are ours, which address each has, which listeners can serve."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lab import layout
from lab.google.loadbalancer.objects import CONTROLLER, GATEWAY_GROUP, Object, Objects, Problem, key, name, namespace

if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOLS = ("HTTP", "HTTPS")
FIRST = f"{layout.GATEWAY_NAMESPACE}/{layout.GATEWAY}"


@dataclass(frozen=True)
class Certificate:
    """A certificate chain and its key, as PEM."""

    name: str
    chain: str
    private_key: str


@dataclass(frozen=True)
class Listener:
    """A listener and what is wrong with it."""

    spec: Object
    certificates: tuple[Certificate, ...] = ()
    refused: Problem | None = None
    """Accepted is False."""
    conflict: Problem | None = None
    unresolved: Problem | None = None
    """ResolvedRefs is False."""
    takes_routes: bool = True

    @property
    def name(self) -> str:
        """Name, unique in its Gateway."""
        return str(self.spec["name"])

    @property
    def usable(self) -> bool:
        """Whether it can serve."""
        certified = self.spec["protocol"] == "HTTP" or bool(self.certificates)
        return certified and self.refused is None and self.conflict is None


@dataclass(frozen=True)
class Gateway:
    """A Gateway of ours."""

    obj: Object
    address: str | None
    """None if the pool is exhausted."""
    listeners: tuple[Listener, ...]

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return key(self.obj)

    @property
    def problem(self) -> Problem | None:
        """What keeps the Gateway as a whole from being translated; the data plane then keeps what it had."""
        if self.obj["spec"].get("addresses"):
            return Problem("Invalid", "Error GWCER106: addresses are not supported or do not exist.")
        if self.address is None:
            return Problem("AddressNotAssigned", "No address is left in the pool.")
        # One certificate that cannot be resolved stops the plain HTTP listener of its Gateway too.
        certificates = ("InvalidCertificateRef", "RefNotPermitted")
        broken = (one.unresolved for one in self.listeners if one.unresolved and one.unresolved.reason in certificates)
        return next((Problem("Invalid", problem.message) for problem in broken), None)


def read(objects: Objects) -> dict[str, Gateway]:
    """The Gateways of this controller's classes, by key."""
    classes = {name(each) for each in our_classes(objects)}
    ours = [each for each in objects.all("Gateway") if each["spec"]["gatewayClassName"] in classes]
    addresses = assign_addresses(ours)
    return {key(each): Gateway(each, addresses.get(key(each)), _listeners(objects, each)) for each in ours}


def our_classes(objects: Objects) -> list[Object]:
    """The GatewayClasses of GKE's controller."""
    return [each for each in objects.all("GatewayClass") if each["spec"]["controllerName"] == CONTROLLER]


def assign_addresses(gateways: Iterable[Object]) -> dict[str, str]:
    """An address for each Gateway: the one its status names, else the first that is free. No memory of its own."""
    first, *free = layout.GATEWAY_ADDRESSES
    assigned: dict[str, str] = {}
    waiting = []
    for gateway in gateways:
        recorded = [each["value"] for each in gateway.get("status", {}).get("addresses", [])]
        if key(gateway) == FIRST:
            assigned[FIRST] = first
        elif recorded and recorded[0] in free:
            free.remove(recorded[0])
            assigned[key(gateway)] = recorded[0]
        else:
            waiting.append(key(gateway))
    return assigned | dict(zip(waiting, free, strict=False))


def _listeners(objects: Objects, gateway: Object) -> tuple[Listener, ...]:
    specs = gateway["spec"]["listeners"]
    return tuple(_listener(objects, gateway, spec, specs) for spec in specs)


def _listener(objects: Objects, gateway: Object, spec: Object, all_specs: list[Object]) -> Listener:
    certificates, unresolved = _certificates(objects, gateway, spec)
    kinds = spec.get("allowedRoutes", {}).get("kinds", [])
    known = [each for each in kinds if (each.get("group", GATEWAY_GROUP), each["kind"]) == (GATEWAY_GROUP, "HTTPRoute")]
    if len(known) < len(kinds):
        unresolved = unresolved or Problem("InvalidRouteKinds", "Only HTTPRoute is supported.")
    return Listener(
        spec,
        certificates=certificates,
        refused=_refusal(gateway, spec),
        conflict=_conflict(spec, all_specs),
        unresolved=unresolved,
        takes_routes=spec["protocol"] in PROTOCOLS and (bool(known) or not kinds),
    )


def _refusal(gateway: Object, spec: Object) -> Problem | None:
    if gateway["spec"].get("addresses"):
        return Problem("UnsupportedAddress", "Error GWCER106: addresses are not supported or do not exist.")
    if spec["protocol"] not in PROTOCOLS:
        return Problem("UnsupportedProtocol", f"Protocol {spec['protocol']} is not supported.")
    if spec.get("tls", {}).get("mode", "Terminate") != "Terminate":
        return Problem("UnsupportedValue", "TLS mode Passthrough is not supported.")
    return None


def _conflict(spec: Object, all_specs: list[Object]) -> Problem | None:
    rivals = [each for each in all_specs if each["port"] == spec["port"]]
    if len({each["protocol"] for each in rivals}) > 1:
        return Problem("ProtocolConflict", f"Port {spec['port']} has listeners of several protocols.")
    hostnames = Counter(each.get("hostname", "") for each in rivals)
    if hostnames[spec.get("hostname", "")] > 1:
        return Problem("HostnameConflict", f"Port {spec['port']} has several listeners for this hostname.")
    return None


def _certificates(objects: Objects, gateway: Object, spec: Object) -> tuple[tuple[Certificate, ...], Problem | None]:
    if spec["protocol"] != "HTTPS":
        return (), None
    refs = spec.get("tls", {}).get("certificateRefs", [])
    found = [_resolve_certificate(objects, namespace(gateway), ref) for ref in refs]
    problems = [each for each in found if isinstance(each, Problem)]
    if not found:
        problems = [Problem("InvalidCertificateRef", "Error GWCER102: certificateRefs names no Secret.")]
    if problems:
        return (), problems[0]
    return tuple(each for each in found if isinstance(each, Certificate)), None


def _resolve_certificate(objects: Objects, home: str, ref: Object) -> Certificate | Problem:
    where = ref.get("namespace") or home
    wanted = f"{where}/{ref['name']}"
    if (ref.get("group", ""), ref.get("kind", "Secret")) != ("", "Secret"):
        return Problem("InvalidCertificateRef", f"Error GWCER102: {ref['kind']} {wanted} is not supported.")
    if not objects.may_refer("Gateway", home, "Secret", where, ref["name"]):
        return Problem("RefNotPermitted", f"Secret {wanted} is not permitted by a ReferenceGrant.")
    secret = objects.get("Secret", where, ref["name"])
    if secret is None:
        return Problem("InvalidCertificateRef", f"Error GWCER102: Secret {wanted} not found.")
    usable = _certificate(secret)
    return usable or Problem("InvalidCertificateRef", f"Error GWCER102: Secret {wanted} holds no usable certificate.")


def _certificate(secret: Object) -> Certificate | None:
    """The Secret's certificate; None if Envoy would refuse it."""
    try:
        data = {each: base64.b64decode(secret["data"][each], validate=True) for each in ("tls.crt", "tls.key")}
        chain = x509.load_pem_x509_certificates(data["tls.crt"])
        private_key = serialization.load_pem_private_key(data["tls.key"], password=None)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
    if chain[0].public_key() != private_key.public_key():
        return None
    return Certificate(f"{namespace(secret)}_{name(secret)}", data["tls.crt"].decode(), data["tls.key"].decode())
