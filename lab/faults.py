"""Faults of Google's side and of the machines: named, injected and healed on command, one file each while active.

What a run may break with its own rights (Backstage's pods and Deployment) needs no help of the lab. metrics-server is
here because the suite has no rights in kube-system.
"""

from __future__ import annotations

import datetime as dt
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import requests

from lab import google_processes, layout
from lab.build.images import image_store
from lab.cluster import nodes
from lab.cluster.kubectl import kubectl
from lab.google.secretmanager import api as secretmanager
from lab.machine import cgroups, network

DROP_DATABASE = f"""
table inet gke-lab-fault
delete table inet gke-lab-fault
table inet gke-lab-fault {{
  chain drop_database {{
    type filter hook input priority filter; policy accept;
    tcp dport {layout.DATABASE_PORT} drop
  }}
}}
"""
DROP_NOTHING = "table inet gke-lab-fault\ndelete table inet gke-lab-fault\n"
REFUSED_WITHIN = 10.0
"""Seconds until Cloud SQL's stand-in has closed its port; it looks five times a second."""


class UnknownFaultError(Exception):
    """No such fault, or not with this target; the text lists what there is."""


def _nothing(_target: str) -> None:
    """For faults that the stand-ins make themselves when they see the fault's file."""


@dataclass(frozen=True)
class Fault:
    """Something that can break."""

    what: str
    """One sentence for whoever chooses."""
    targets: tuple[str, ...] = ()
    """What may be named as its target; empty if it has none."""
    inject: Callable[[str], None] = _nothing
    heal: Callable[[str], None] = _nothing
    passes: bool = False
    """Whether it is over as soon as it has happened, so that there is nothing to heal."""
    target: str = ""
    """What its target is, where the lab cannot list them."""


def _restart_node(node: str) -> None:
    nodes.start(node, image_store().path)


def _database_port(how: str) -> None:
    if how == "dropped":
        network.filter_rules("google", DROP_DATABASE)
    else:
        _wait_until_refused()


def _wait_until_refused() -> None:
    """Return once nobody gets in: unlike for a request, for the open port the stand-in looks only now and then."""
    deadline = time.monotonic() + REFUSED_WITHIN
    while opened := [address for address in layout.DATABASE_ADDRESSES if _accepts(address)]:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"expected: port {layout.DATABASE_PORT} closed within {REFUSED_WITHIN:.0f} s; "
                f"seen: open on {', '.join(opened)}; look next: `python -m lab logs cloud-sql`"
            )
        time.sleep(0.05)


def _accepts(address: str) -> bool:
    try:
        socket.create_connection((address, layout.DATABASE_PORT), timeout=1).close()
    except OSError:
        return False
    return True


def _open_database_port(_how: str) -> None:
    network.filter_rules("google", DROP_NOTHING)


def _stop(daemon: str, _target: str) -> None:
    google_processes.daemon(daemon).stop()


def _start(daemon: str, _target: str) -> None:
    google_processes.daemon(daemon).start()


def _signal(daemon: str, number: signal.Signals, _target: str) -> None:
    google_processes.daemon(daemon).send(number)


def _metadata(how: str) -> None:
    if how == "down":
        google_processes.daemon("metadata").stop()


def _restart(daemon: str, _target: str) -> None:
    google_processes.daemon(daemon).stop()
    google_processes.daemon(daemon).start()


def _operate_instance(verb: str) -> None:
    """Have Cloud SQL restart the instance or fail it over, as its operator."""
    url = f"http://{layout.GOOGLE_ADDRESS}:{layout.SQLADMIN_PORT}/v1/projects/{layout.PROJECT}/instances/{layout.INSTANCE}"
    requests.post(f"{url}/{verb}", headers=_operator(), json={}, timeout=30).raise_for_status()


def _rotate_secret(secret: str) -> None:
    """Give a secret a new version with a new payload."""
    name = f"projects/{layout.PROJECT}/secrets/{secret}"
    url = f"http://{layout.GOOGLE_ADDRESS}:{layout.SECRETMANAGER_PORT}/v1/{name}:addVersion"
    payload = secretmanager.version(f"lab-{dt.datetime.now(dt.UTC).isoformat()}".encode())["data"]
    requests.post(url, headers=_operator(), json={"payload": {"data": payload}}, timeout=10).raise_for_status()


def _operator() -> dict[str, str]:
    return {"Authorization": f"Bearer {(layout.USER / 'tokens' / 'operator').read_text()}"}


def _scale_metrics_server(replicas: int, _target: str) -> None:
    kubectl("-n", "kube-system", "scale", "deployment/metrics-server", f"--replicas={replicas}")


def _kill_container(container: str) -> None:
    """End every process of a container at once, as a crash does; its kubelet starts it again."""
    group = cgroups.container_group(container)
    if not group:
        raise UnknownFaultError(f"expected: a container that runs on a node of the lab; seen: {container}")
    cgroups.send(signal.SIGKILL, group)


FAULTS = {
    "node-network": Fault("a node loses its network", layout.NODES, network.cut_off, network.reconnect),
    "node-machine": Fault("a node loses power", layout.NODES, nodes.crash, _restart_node),
    "container-killed": Fault(
        "all processes of a container are killed", inject=_kill_container, passes=True,
        target="its id, as in status.containerStatuses[].containerID without `containerd://`",
    ),
    "database-stopped": Fault(
        "PostgreSQL is stopped", (), partial(_stop, "postgres"), partial(_start, "postgres")
    ),
    "database-frozen": Fault(
        "PostgreSQL hangs: connections open, nothing answers", (),
        partial(_signal, "postgres", signal.SIGSTOP), partial(_signal, "postgres", signal.SIGCONT),
    ),
    "database-restarted": Fault(
        "Cloud SQL restarts the instance", (), lambda _target: _operate_instance("restart"), passes=True
    ),
    "database-failed-over": Fault(
        "Cloud SQL fails over: new address, new certificate", (),
        lambda _target: _operate_instance("failover"), passes=True,
    ),
    "database-port": Fault(
        "port 3307 refuses connections, or packets to it are dropped", ("refused", "dropped"),
        _database_port, _open_database_port,
    ),
    "admin-api": Fault("the Cloud SQL Admin API answers an error, or not at all", ("403", "429", "503", "down")),
    "metadata": Fault(
        "the metadata server is down, or refuses tokens", ("down", "refusing"), _metadata, partial(_start, "metadata")
    ),
    "secret-denied": Fault("Secret Manager denies access to a secret", layout.SECRETS),
    "secret-manager": Fault("Secret Manager is unavailable", ("503",)),
    "secret-provider": Fault("the nodes' secret provider is unavailable", ("down",)),
    "secret-rotated": Fault(
        "a secret gets a new version", layout.SECRETS, _rotate_secret, passes=True
    ),
    "gateway-restarted": Fault(
        "the load balancer's data plane is restarted", (), partial(_restart, "envoy"), passes=True
    ),
    "gateway-down": Fault(
        "the load balancer's data plane is down", (), partial(_stop, "envoy"), partial(_start, "envoy")
    ),
    "metrics-server-down": Fault(
        "metrics-server is down", (), partial(_scale_metrics_server, 0), partial(_scale_metrics_server, 1)
    ),
    "prometheus-down": Fault(
        "the central Prometheus is down", (), partial(_stop, "prometheus"), partial(_start, "prometheus")
    ),
    "monitoring": Fault("Cloud Monitoring's API is unavailable", ("503",)),
}  # fmt: skip


def active() -> dict[str, str]:
    """Active faults and their targets."""
    if not layout.FAULTS_DIR.exists():
        return {}
    return {file.name: file.read_text().strip() for file in sorted(layout.FAULTS_DIR.iterdir())}


def inject(name: str, target: str) -> None:
    """Make the fault happen; one that is active with that target already is left as it is."""
    fault = _known(name)
    if fault.targets and target not in fault.targets:
        raise UnknownFaultError(
            f"expected: {name} with one of {', '.join(fault.targets)}; seen: {target or 'no target'}"
        )
    if fault.target and not target:
        raise UnknownFaultError(f"expected: {name} with {fault.target}; seen: no target")
    if target and not (fault.targets or fault.target):
        raise UnknownFaultError(f"expected: {name} without a target; seen: {target}")
    if active().get(name) == target:
        return
    if name in active():
        heal(name)
    if not fault.passes:
        (layout.FAULTS_DIR / name).write_text(target)
    fault.inject(target)


def heal(name: str, target: str = "") -> None:
    """Undo the fault, if it is active; with a target only if it is active there."""
    fault = _known(name)
    if name in active() and target in ("", active()[name]):
        fault.heal(active()[name])
        (layout.FAULTS_DIR / name).unlink()


def _known(name: str) -> Fault:
    if name not in FAULTS:
        raise UnknownFaultError(f"expected: a fault of the lab ({', '.join(FAULTS)}); seen: {name}")
    return FAULTS[name]
