"""Google's side as processes: which stand-in runs where, on what, and what it must find when it starts."""

from __future__ import annotations

import datetime as dt
import ipaddress
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import requests
import yaml
from cryptography import x509

from lab import layout
from lab.build import materials
from lab.cluster import controlplane
from lab.google.authority import Authority, key_pem, new_key, pem, write_private
from lab.google.iam import Iam
from lab.google.loadbalancer.dataplane.envoy import write_bootstrap
from lab.google.secretmanager import api as secretmanager
from lab.machine.processes import Command, Daemon, run

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
ANSWER_SECONDS = 2.0


def create_state() -> None:
    """What Google would keep: identities, secrets, certificates; and what users of the lab get of them."""
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


def state_created() -> bool:
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


def _stand_in(name: str, module: str, port: int | None = None, *words: str | Path, identity: str = "") -> Daemon:
    """A stand-in as a process; with an identity, it speaks to the API server."""
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    if identity:
        env["KUBECONFIG"] = str(controlplane.kubeconfig_of(identity))
    command = [materials.PYTHON, "-m", f"lab.google.{module}", *words]

    def answers() -> bool:
        return port is None or _answers(f"http://{layout.GOOGLE_ADDRESS}:{port}/")

    netns = "gateway" if module == "loadbalancer" else "google"
    return Daemon(name, command, netns=netns, answers=answers, env=env, cwd=layout.SOURCE)


def _answers(url: str) -> bool:
    """Whether a server answers, with whatever status."""
    try:
        requests.get(url, timeout=ANSWER_SECONDS)
    except requests.RequestException:
        return False
    return True


def _postgres() -> Daemon:
    root = materials.artifacts()["postgres"].path / "root"
    script = layout.SOURCE / "lab" / "google" / "cloudsql" / "postgres.sh"
    command: Command = ["unshare", "--mount", "--ipc", "/bin/sh", script, root]
    running = layout.GOOGLE_DIR / "postgres" / "data" / "postmaster.pid"

    def answers() -> bool:
        return running.exists() and "ready" in running.read_text()

    return Daemon("postgres", command, netns="google", answers=answers, cwd=layout.SOURCE)


def _prometheus() -> Daemon:
    """The central Prometheus: what the collectors write to, as they write to Monarch on GKE."""
    configuration = layout.GOOGLE_DIR / "prometheus.yaml"
    command: Command = [
        "/bin/sh", "-c", f'echo "rule_files: [{layout.RULES}/*]" > {configuration}; exec "$@"', "sh",
        materials.program("prometheus", "managed-prometheus"), f"--config.file={configuration}",
        f"--storage.tsdb.path={layout.GOOGLE_DIR / 'prometheus'}", "--storage.tsdb.retention.time=1d",
        f"--web.listen-address={layout.GOOGLE_ADDRESS}:{layout.PROMETHEUS_PORT}",
        "--web.enable-remote-write-receiver", "--web.enable-lifecycle", "--export.disable",
        # Google's fork insists on them, even if it exports nothing.
        f"--export.label.project-id={layout.PROJECT}", f"--export.label.location={layout.REGION}",
    ]  # fmt: skip
    url = f"http://{layout.GOOGLE_ADDRESS}:{layout.PROMETHEUS_PORT}/-/ready"
    return Daemon("prometheus", command, netns="google", answers=lambda: _answers(url))


def _envoy() -> Daemon:
    """The load balancer's data plane; it keeps serving what it was told last while its controller is away."""
    command: Command = [
        materials.ENVOY, "-c", BALANCER / "bootstrap.json", "--concurrency", "1", "--disable-hot-restart",
        "--drain-time-s", "10", "--log-level", "warn",
    ]  # fmt: skip

    def answers() -> bool:
        url = f"http://127.0.0.1:{layout.ENVOY_ADMIN_PORT}/ready"
        ask = f"import urllib.request; print(urllib.request.urlopen('{url}', timeout={ANSWER_SECONDS}).read())"
        return "LIVE" in run(materials.PYTHON, "-c", ask, netns="gateway")

    return Daemon("envoy", command, netns="gateway", answers=answers)


@cache
def daemons() -> dict[str, tuple[Daemon, tuple[str, ...]]]:
    """Every process of Google's side, and the parts beside its network and state that it needs to start."""
    api = ("rbac",)
    secret_provider = _stand_in(
        "secret-provider", "secretmanager.csi", None, "--protos", PROTOS, identity="lab:secret-provider"
    )
    listed: Iterable[tuple[Daemon, tuple[str, ...]]] = (
        (_postgres(), ()),
        (_stand_in("cloud-sql", "cloudsql.admin_api", layout.SQLADMIN_PORT), ("postgres",)),
        (_stand_in("metadata", "metadata", layout.METADATA_PORT, identity="lab:metadata"), api),
        (_stand_in("secret-manager", "secretmanager.api", layout.SECRETMANAGER_PORT), ()),
        (secret_provider, (*api, *layout.NODES)),
        (_prometheus(), ()),
        (_stand_in("monitoring", "monitoring", layout.MONITORING_PORT), ()),
        (_stand_in("rules", "rules", identity="lab:rules"), ("prometheus", *api)),
        (_envoy(), ()),
        (_stand_in("load-balancer", "loadbalancer", identity="lab:load-balancer"), ("envoy", *api)),
    )
    return {daemon.name: (daemon, needs) for daemon, needs in listed}


def daemon(name: str) -> Daemon:
    """One process of Google's side."""
    return daemons()[name][0]


def operate_instance(verb: str) -> None:
    """Have Cloud SQL restart the instance or fail it over, as its operator."""
    url = f"http://{layout.GOOGLE_ADDRESS}:{layout.SQLADMIN_PORT}/v1/projects/{layout.PROJECT}/instances/{layout.INSTANCE}"
    requests.post(f"{url}/{verb}", headers=_operator(), json={}, timeout=30).raise_for_status()


def rotate_secret(secret: str) -> None:
    """Give a secret a new version with a new payload."""
    name = f"projects/{layout.PROJECT}/secrets/{secret}"
    url = f"http://{layout.GOOGLE_ADDRESS}:{layout.SECRETMANAGER_PORT}/v1/{name}:addVersion"
    payload = secretmanager.version(f"lab-{dt.datetime.now(dt.UTC).isoformat()}".encode())["data"]
    requests.post(url, headers=_operator(), json={"payload": {"data": payload}}, timeout=10).raise_for_status()


def _operator() -> dict[str, str]:
    return {"Authorization": f"Bearer {(layout.USER / 'tokens' / 'operator').read_text()}"}
