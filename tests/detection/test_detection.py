"""Whether a broken deployment is refused: each fault must turn its check red, for the right reason."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures.environment.file import ROOT
from fixtures.waiting import wait_for
from tests.detection.fault import HERE, Fault, apply_reference, faults, run
from tests.detection.page import remember

DETECTED_WITHIN = 120.0
"""Seconds; the suite's own promise."""
HEALED_WITHIN = 300.0


@dataclass(frozen=True)
class Found:
    """What one run of a check came to."""

    outcome: str
    reason: str

    def __str__(self) -> str:
        return f"{self.outcome}: {' | '.join(self.reason.splitlines())}"


Ask = Callable[[], Found]


@pytest.fixture(scope="session")
def seen() -> Iterator[dict[str, float]]:
    """By fault, the seconds until it was seen."""
    seconds: dict[str, float] = {}
    yield seconds
    remember(seconds)


@pytest.fixture
def ask(fault: Fault, tmp_path: Path) -> Ask:
    """Runs the check of the acceptance suite in a process of its own, which repairs nothing by applying."""

    def asked() -> Found:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        command = [sys.executable, "-m", "pytest", f"--env={HERE / fault.environment}", f"--report={folder}"]
        where = f"tests/acceptance/{fault.check}"
        verdict = folder / "verdict.json"
        done = subprocess.run([*command, where], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
        if not verdict.exists():
            raise RuntimeError(done.stdout + done.stderr)
        written = json.loads(verdict.read_text())
        named = [each for each in written["checks"] if each["check"] == fault.check.partition("::")[2]]
        return Found(named[0]["outcome"], named[0]["reason"]) if named else Found("not run", str(written["reasons"]))

    return asked


@pytest.fixture
def injected(fault: Fault, ask: Ask) -> Iterator[Fault]:
    """The deployment with the fault, where its check was kept without it, and is so again afterwards."""
    _wait_until_kept(fault, ask)
    try:
        run(fault.inject)
        yield fault
    finally:
        try:
            run(fault.undo)
        finally:
            apply_reference()
    _wait_until_kept(fault, ask)


def _wait_until_kept(fault: Fault, ask: Ask) -> None:
    wait_for(
        f"{fault.check} to be kept without the fault",
        ask,
        until=lambda found: found.outcome == "kept",
        within=HEALED_WITHIN,
        look_next=f"pytest --env=tests/detection/{fault.environment} tests/acceptance/{fault.check}",
    )


@pytest.mark.parametrize("fault", list(faults()), ids=lambda fault: fault.name)
def test_fault_turns_its_check_red(fault: Fault, injected: Fault, ask: Ask, seen: dict[str, float]) -> None:
    """The right promise is broken, for the right reason, soon after the deployment is."""
    assert injected is fault
    began = time.monotonic()
    wait_for(
        f"{fault.check} to be broken, saying {fault.reason!r}",
        ask,
        until=lambda found: found.outcome == "broken" and fault.reason in found.reason,
        within=DETECTED_WITHIN,
        look_next=f"tests/detection, fault {fault.name}",
    )
    seen[fault.name] = time.monotonic() - began
