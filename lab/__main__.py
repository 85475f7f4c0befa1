"""Command line of the lab: `python -m lab up | down | status | logs | load-image | facts | inject | heal | ...`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lab import facts, faults, layout, lifecycle
from lab.cluster import nodes
from lab.machine import host
from lab.machine.cgroups import CgroupsUnusableError
from lab.machine.processes import CommandFailedError

EXPECTED = (
    host.UnfitHostError, lifecycle.LabError, faults.UnknownFaultError, CgroupsUnusableError, CommandFailedError,
    nodes.NodeOffError,
)  # fmt: skip
"""What is told in one sentence; anything else is a defect of the lab and shows its traceback."""


def main() -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args()
    try:
        code: int = options.command(options) or 0
    except EXPECTED as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `python -m lab up` goes on from here, `python -m lab down` takes it back", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="A real Kubernetes with Google's surroundings.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    command("up", _up, "bring the lab up, or heal it")
    command("down", _down, "take the lab down; nothing of it remains but its logs")
    command("build", _build, "build what is not in the cache, without starting anything")
    command("status", _status, "every part and whether it is ready; active faults")
    logs = command("logs", _logs, "the logs, or the end of one")
    logs.add_argument("part", nargs="?", help="for example kube-apiserver or node-1/kubelet")
    load_image = command("load-image", _load_image, "import the images of an archive, OCI or Docker, into every node")
    load_image.add_argument("archive", type=Path)
    command("facts", _facts, "addresses, paths and names as JSON")
    inject = command("inject", _inject, "make a fault happen; without a name: list them")
    inject.add_argument("name", nargs="?")
    inject.add_argument("target", nargs="?", default="")
    heal = command("heal", _heal, "undo a fault")
    heal.add_argument("name", help="a fault, or `all`")
    heal.add_argument("target", nargs="?", default="")
    delays = command("delays", _delays, "how long the load balancer takes to attach and detach an endpoint")
    delays.add_argument("--attach", type=float, default=layout.ATTACH_SECONDS, metavar="SECONDS")
    delays.add_argument("--detach", type=float, default=layout.DETACH_SECONDS, metavar="SECONDS")
    return parser


def _up(_options: argparse.Namespace) -> None:
    lifecycle.up(Path.cwd())
    print(facts.how_to_use())


def _down(_options: argparse.Namespace) -> None:
    lifecycle.down()
    link = Path.cwd() / ".lab"
    if link.is_symlink():
        link.unlink()


def _build(_options: argparse.Namespace) -> None:
    with lifecycle.alone():
        lifecycle.build()


def _status(_options: argparse.Namespace) -> int:
    if not lifecycle.record():
        print("no lab on this machine; `python -m lab up` makes one")
        return 1
    parts = lifecycle.status()
    for name, ready in parts.items():
        print(f"{name:<24}{'ready' if ready else 'NOT READY'}")
    for name, target in faults.active().items():
        print(f"fault: {name} {target}".rstrip())
    return 0 if all(parts.values()) else 1


def _logs(options: argparse.Namespace) -> None:
    if options.part is None:
        for file in sorted(layout.LOGS.rglob("*.log")):
            print(f"{file.relative_to(layout.LOGS).with_suffix('')!s:<32}{file.stat().st_size:>12} bytes  {file}")
        return
    file = layout.LOGS / f"{options.part}.log"
    if not file.exists():
        raise lifecycle.LabError(f"expected: a log of the lab; seen: {options.part}; look next: `python -m lab logs`")
    print("\n".join(file.read_text(errors="replace").splitlines()[-200:]))


def _load_image(options: argparse.Namespace) -> None:
    _needs_lab()
    if not options.archive.is_file():
        raise lifecycle.LabError(f"expected: an archive of images; seen: no file {options.archive}")
    for name in layout.NODES:
        nodes.load_image(name, options.archive.resolve())


def _facts(_options: argparse.Namespace) -> int:
    if not lifecycle.record():
        print("no lab on this machine; `python -m lab up` makes one", file=sys.stderr)
        return 1
    print(json.dumps(facts.facts(), indent=2))
    return 0


def _inject(options: argparse.Namespace) -> None:
    if options.name is None:
        for name, fault in faults.FAULTS.items():
            listed = " | ".join(fault.targets) or fault.target
            targets = f" ({listed})" if listed else ""
            print(f"{name:<24}{fault.what}{targets}")
        return
    with lifecycle.alone():
        _needs_lab()
        faults.inject(options.name, options.target)


def _heal(options: argparse.Namespace) -> None:
    with lifecycle.alone():
        _needs_lab()
        for name in list(faults.active()) if options.name == "all" else [options.name]:
            faults.heal(name, options.target)


def _delays(options: argparse.Namespace) -> None:
    _needs_lab()
    facts.set_delays(options.attach, options.detach)


def _needs_lab() -> None:
    if not lifecycle.record():
        raise lifecycle.LabError("expected: a running lab; seen: none; look next: `python -m lab up`")


if __name__ == "__main__":
    sys.exit(main())
