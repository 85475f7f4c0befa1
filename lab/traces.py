"""What the lab could leave behind on a machine: listed, or compared with an earlier list.

python -m lab.traces > before.json
...
python -m lab.traces --since before.json     # exit 1 and one line for each difference
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import psutil

from lab import layout
from lab.machine import cgroups, host
from lab.machine.processes import run

Traces = dict[str, list[str]]
"""Kind of trace to what there is of it, sorted."""


def traces() -> Traces:
    """Everything of the host that a lab changes while it runs."""
    found = {
        "process": _processes(),
        "mount": [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()],
        "network namespace": _names("/run/netns"),
        "interface": _names("/sys/class/net"),
        "route": run("ip", "route", "show", "table", "all").splitlines(),
        "nft rule": run("nft", "list", "ruleset").splitlines() if shutil.which("nft") else [],
        "control group": _control_groups(),
        "file": [str(path) for point in host.MOUNT_POINTS for path in _tree(point)],
        "kernel setting": _kernel_settings(),
    }
    return {kind: sorted(values) for kind, values in found.items()}


def _names(directory: str) -> list[str]:
    return [path.name for path in Path(directory).iterdir()] if Path(directory).exists() else []


def _tree(directory: str) -> list[Path]:
    """The directory and all in it; nothing if it does not exist."""
    return [Path(directory), *Path(directory).rglob("*")] if Path(directory).exists() else []


def _processes() -> list[str]:
    """Processes that run the lab's programs or write its logs; containers' processes among them by their group."""
    found = []
    grouped = cgroups.processes()
    for process in psutil.process_iter(["pid", "exe", "cwd", "name"]):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            places = f"{process.info['exe']} {process.info['cwd']}"
            if process.pid in grouped or str(layout.STATE) in places or f"{layout.CACHE}/platform" in places:
                found.append(f"{process.info['name']} ({process.pid})")
    return found


def _control_groups() -> list[str]:
    found = []
    for hierarchy in cgroups.hierarchies():
        for directory, _, _ in os.walk(hierarchy / cgroups.ROOT):
            found.append(directory)
    return found


def _kernel_settings() -> list[str]:
    names = (*host.SYSCTLS, *host.SYSCTLS_OF_THE_KUBELET, "net.ipv4.ip_forward", "net.netfilter.nf_conntrack_max")
    files = {name: Path("/proc/sys") / name.replace(".", "/") for name in names}
    return [f"{name} = {file.read_text().strip()}" for name, file in files.items() if file.exists()]


def differences(before: Traces, after: Traces) -> list[str]:
    """One line for each thing that came or went."""
    lines = []
    for kind in before:
        lines += [f"left behind: {kind} {value}" for value in _more(after[kind], before[kind])]
        lines += [f"gone: {kind} {value}" for value in _more(before[kind], after[kind])]
    return lines


def _more(these: list[str], those: list[str]) -> list[str]:
    return sorted((Counter(these) - Counter(those)).elements())


def main() -> int:
    """Print the list, or the differences; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", type=Path, help="an earlier list")
    options = parser.parse_args()
    if options.since is None:
        print(json.dumps(traces(), indent=1))
        return 0
    lines = differences(json.loads(options.since.read_text()), traces())
    print("\n".join(lines) or "nothing of the lab is left on this machine")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
