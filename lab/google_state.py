"""What Google would keep, made once before its side starts: identities, secrets, certificates, tokens of the users."""

from __future__ import annotations

import datetime as dt
import ipaddress
import shutil

import yaml
from cryptography import x509

from lab import layout
from lab.build import materials
from lab.google.authority import Authority, key_pem, new_key, pem, write_private
from lab.google.iam import Iam
from lab.google.loadbalancer.dataplane.envoy import write_bootstrap
from lab.google.secretmanager import api as secretmanager

YEAR = dt.timedelta(days=365)
TOKENS = {
    "acceptance": layout.SUITE_ACCOUNT,
    "observer": layout.OBSERVER_ACCOUNT,
    "operator": layout.OPERATOR_ACCOUNT,
}
"""File under `.lab/tokens/` to the Google account it speaks for."""
BALANCER = layout.GOOGLE_DIR / "loadbalancer"
GATEWAY_CERTIFICATE = layout.GOOGLE_DIR / "gateway.pem"
PROTOS = layout.GOOGLE_DIR / "protos"
"""Of the secret provider: the messages of the CSI driver and of the kubelet."""


def create() -> None:
    """Make all of it; what the lab's users get of it goes to `layout.USER`."""
    for directory in (BALANCER, PROTOS, layout.RULES, layout.USER / "tokens"):
        directory.mkdir(parents=True, exist_ok=True)
    iam = Iam()
    iam.create()
    secretmanager.create()
    for name, account in TOKENS.items():
        write_private(layout.USER / "tokens" / name, iam.mint(account, seconds=YEAR.total_seconds()))
    _create_certificates()
    write_bootstrap(BALANCER)
    for artifact in ("platform", "secrets-store"):
        shutil.copytree(materials.artifacts()[artifact].path / "protos", PROTOS, dirs_exist_ok=True)


def _create_certificates() -> None:
    authority = Authority(layout.GOOGLE_DIR, "lab-ca")
    (layout.USER / "ca.crt").write_text(pem(authority.certificate))
    webhook = x509.IPAddress(ipaddress.ip_address(layout.GATEWAY_ADDRESSES[0]))
    certificate, key = issue(authority, "load-balancer", webhook)
    (BALANCER / "webhook.crt").write_text(certificate)
    write_private(BALANCER / "webhook.key", key)
    certificate, key = issue(authority, layout.HOSTNAME, x509.DNSName(layout.HOSTNAME))
    write_private(GATEWAY_CERTIFICATE, certificate + key)


def issue(authority: Authority, subject: str, name: x509.GeneralName) -> tuple[str, str]:
    """A certificate for a year, and its key, both as PEM."""
    key = new_key()
    return pem(authority.issue(subject, key.public_key(), YEAR, name)), key_pem(key)


def created() -> bool:
    """Whether the last file of the state is there."""
    return (PROTOS / "service.proto").exists()


def ca_bundle() -> str:
    """The lab's own certificate authority, as PEM."""
    return (layout.USER / "ca.crt").read_text()


def gateway_secret() -> str:
    """The Secret that the Gateway's https listener names, as YAML."""
    certificate, _, key = GATEWAY_CERTIFICATE.read_text().partition("-----BEGIN PRIVATE KEY-----")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "backstage-lab-test", "namespace": layout.GATEWAY_NAMESPACE},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate, "tls.key": f"-----BEGIN PRIVATE KEY-----{key}"},
    }
    return yaml.safe_dump(secret)
