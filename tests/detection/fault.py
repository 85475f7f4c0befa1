"""Faults as data: what breaks a deployment on the lab, which check must find it, and with what reason."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fixtures.environment.loading import ROOT

HERE = Path(__file__).parent
PATH = f"{ROOT / '.venv' / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REFERENCE = ROOT / "manifests" / "overlays" / "local"
APPLY = ("kubectl", "apply", "--server-side", "--force-conflicts", "--field-manager=backstage-acceptance")
WITHIN = 180
"""Seconds for one command that injects or undoes a fault."""

Command = tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """One way to break a deployment, and the check that must find it."""

    name: str
    what: str
    """What is wrong, in a sentence for the documentation."""
    inject: tuple[Command, ...]
    undo: tuple[Command, ...]
    """Undoes what applying the reference would not; the reference is applied after it."""
    check: str
    """`test_FILE.py::test_NAME` of `tests/acceptance`."""
    reason: str
    """Part of the text of the failure."""
    environment: str = "environment.toml"
    """Environment file of the check's run, in this folder. The default one may only observe and connect."""


def faults() -> Iterator[Fault]:
    """The faults of all TOML files in this folder, in the order of the files' names."""
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
    """Apply the reference, taking over fields that anybody else has changed."""
    run([(*APPLY, "--kustomize", str(REFERENCE))])
