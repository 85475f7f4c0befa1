"""Google's side as processes: which stand-in runs where, under which identity, and what it needs to start."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import requests

from lab import layout
from lab.build import materials
from lab.cluster import controlplane
from lab.google_state import BALANCER, PROTOS
from lab.machine.processes import Command, Daemon, run

ANSWER_SECONDS = 2.0


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
        (_stand_in("rules", "rule_evaluator", identity="lab:rules"), ("prometheus", *api)),
        (_envoy(), ()),
        (_stand_in("load-balancer", "loadbalancer", identity="lab:load-balancer"), ("envoy", *api)),
    )
    return {daemon.name: (daemon, needs) for daemon, needs in listed}


def daemon(name: str) -> Daemon:
    """One process of Google's side."""
    return daemons()[name][0]
