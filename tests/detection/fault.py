"""Faults as data: what is done to a deployment on the lab, which check must turn red, and with what reason."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fixtures.environment.file import ROOT

HERE = Path(__file__).parent
PATH = f"{ROOT / '.venv' / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REFERENCE = ROOT / "manifests" / "overlays" / "local"
APPLY = ("kubectl", "apply", "--server-side", "--force-conflicts", "--field-manager=backstage-acceptance")
WITHIN = 180
"""Seconds for one command."""

Command = tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """A deployment that must be refused."""

    name: str
    what: str
    inject: tuple[Command, ...]
    undo: tuple[Command, ...]
    """Before the reference is applied again."""
    check: str
    """`test_FILE.py::test_NAME` of `tests/acceptance`."""
    reason: str
    """Is in the text of the failure."""
    environment: str = "environment.toml"
    """What the check's run may do, beside this file: to look and to connect, unless only a drain can tell."""


def faults() -> Iterator[Fault]:
    """Those of all files, in the order of their promises' names."""
    for file in sorted(HERE.glob("*.toml")):
        for entry in tomllib.loads(file.read_text()).get("fault", ()):
            inject, undo = (tuple(map(tuple, entry.pop(key))) for key in ("inject", "undo"))
            yield Fault(**entry, inject=inject, undo=undo)


def run(commands: Iterable[Command]) -> None:
    """Run commands as the lab's admin, one after the other; CalledProcessError of the first that fails."""
    environment = {"PATH": PATH, "KUBECONFIG": str(ROOT / ".lab" / "kubeconfig"), "HOME": "/root"}
    for command in commands:
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=WITHIN)


def apply_reference() -> None:
    """Put the deployment back to what it should be, whoever changed it."""
    run([(*APPLY, "--kustomize", str(REFERENCE))])
