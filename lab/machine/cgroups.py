"""The lab's control groups, on cgroup v1 (every hierarchy) and v2.

Every process of the lab is born in one of these groups and so is everything it starts, which is how
`kill_all` finds them all, whatever became of their parents.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

ROOT = "gke-lab"
HOST = f"{ROOT}/host"
"""Control plane, load balancer and stand-ins: what runs in no node."""
NODES = f"{ROOT}/nodes"
NODES_WEIGHT = 25
"""CPU weight of all nodes together, in percent of what one process or service of the host has: a prober
on the host must not be starved by the pods it probes."""

CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


class CgroupsUnusableError(Exception):
    """This machine has no control groups that the lab could use."""


def node_group(node: str) -> str:
    """Group of one node; the kubelet puts the pods' groups below it."""
    return f"{NODES}/{node}"


def daemons_group(node: str) -> str:
    """Group of the node's own processes: cgroup v2 allows none in a group that has groups below it."""
    return f"{NODES}/{node}/daemons"


V1, V2 = 1, 2


def version() -> int:
    """1 or 2; a hybrid host, where the controllers are mounted one by one, counts as 1."""
    return V2 if (Path("/sys/fs/cgroup") / "cgroup.controllers").exists() else V1


def hierarchies() -> list[Path]:
    """Mount points of all hierarchies."""
    fields = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    found = [Path(point) for _, point, kind, *_ in fields if kind in ("cgroup", "cgroup2")]
    if not found:
        raise CgroupsUnusableError(
            "expected: control groups mounted under /sys/fs/cgroup; seen: none; look next: `mount | grep cgroup`"
        )
    return found


def create(nodes: tuple[str, ...]) -> None:
    """Make every group of the lab, with the weight that keeps the nodes behind the host's own processes."""
    groups = [ROOT, HOST, NODES]
    for node in nodes:
        groups += [node_group(node), daemons_group(node)]
    for hierarchy in hierarchies():
        for group in groups:
            (hierarchy / group).mkdir(exist_ok=True)
            _inherit(hierarchy, group)
    for hierarchy in hierarchies():
        for file, usual in (("cpu.shares", 1024), ("cpu.weight", 100)):
            if (weight := hierarchy / NODES / file).exists():
                weight.write_text(str(usual * NODES_WEIGHT // 100))


def _inherit(hierarchy: Path, group: str) -> None:
    """What a group below another one needs before a process may enter: cpuset on v1, controllers on v2."""
    path = hierarchy / group
    for file in ("cpuset.cpus", "cpuset.mems"):
        if version() == V1 and (path / file).exists():
            (path / file).write_text((path.parent / file).read_text())
    switch = path.parent / "cgroup.subtree_control"
    if version() == V2 and not group.endswith("daemons"):
        available = (path.parent / "cgroup.controllers").read_text().split()
        switch.write_text(" ".join(f"+{name}" for name in CONTROLLERS if name in available))


def exists(nodes: tuple[str, ...]) -> bool:
    """Whether the groups of all nodes are there, in every hierarchy."""
    return all((hierarchy / daemons_group(node)).is_dir() for hierarchy in hierarchies() for node in nodes)


def entering(group: str, command: list[str]) -> list[str]:
    """The command, run by a shell that first moves itself into the group; its children are born there."""
    files = [str(hierarchy / group / "cgroup.procs") for hierarchy in hierarchies()]
    script = f'for file in {" ".join(files)}; do echo $$ > "$file" || exit 70; done; exec "$@"'
    return ["/bin/sh", "-c", script, "gke-lab", *command]


def container_group(container: str) -> str:
    """Group of a container of some node, by the id that containerd gave it; empty if none has it."""
    root = hierarchies()[0]
    found = (root / NODES).glob(f"*/kubepods/**/{container}") if container.isalnum() else ()
    return next((path.relative_to(root).as_posix() for path in found), "")


def processes(group: str = ROOT) -> set[int]:
    """Ids of all processes in the group and below."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for directory, _, _ in os.walk(hierarchy / group):
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in (Path(directory) / "cgroup.procs").read_text().split()}
    return found - {0}


def send(number: signal.Signals, group: str) -> None:
    """Send a signal to every process of the group."""
    for pid in processes(group):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_all(group: str = ROOT, within: float = 15.0) -> None:
    """End every process of the group by SIGKILL; TimeoutError if one is left after `within` seconds."""
    deadline = time.monotonic() + within
    while left := processes(group):
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected: no process left in {group}; seen: {sorted(left)}; look next: `ps -p PID -f`")
        send(signal.SIGKILL, group)
        time.sleep(0.05)


def remove(group: str = ROOT) -> None:
    """Remove the group and all below it; no process may be left in them."""
    for hierarchy in hierarchies():
        for directory, _, _ in os.walk(hierarchy / group, topdown=False):
            _remove_directory(Path(directory))


def _remove_directory(path: Path) -> None:
    """Remove one group; the kernel may call it busy for a moment after its last process ended."""
    for _ in range(40):
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    path.rmdir()
