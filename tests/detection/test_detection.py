"""A broken deployment must be found: each fault turns its check red, for the right reason."""

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

from fixtures.environment.loading import ROOT
from fixtures.waiting import wait_for
from tests.detection.fault import HERE, Fault, apply_reference, faults, run
from tests.detection.page import save_seconds

DETECTED_WITHIN = 120.0
"""Seconds from the injection to the red check, as docs/detection.md promises."""
HEALED_WITHIN = 300.0
"""Seconds until the check is kept again, which may need a whole rollout."""


@dataclass(frozen=True)
class CheckRun:
    """Outcome of one run of a check."""

    outcome: str
    reason: str

    def __str__(self) -> str:
        return f"{self.outcome}: {' | '.join(self.reason.splitlines())}"


RunCheck = Callable[[], CheckRun]


@pytest.fixture(scope="session")
def seen() -> Iterator[dict[str, float]]:
    """Seconds until each fault was found, saved at the end of the session for docs/detection.md."""
    seconds: dict[str, float] = {}
    yield seconds
    save_seconds(seconds)


@pytest.fixture
def run_check(fault: Fault, tmp_path: Path) -> RunCheck:
    """Runs the fault's check by the real command, with an environment that does not apply the reference."""

    def run_once() -> CheckRun:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        command = [sys.executable, "-m", "pytest", f"--env={HERE / fault.environment}", f"--report={folder}"]
        where = f"tests/acceptance/{fault.check}"
        verdict = folder / "verdict.json"
        done = subprocess.run([*command, where], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
        # Without a verdict the run failed before it began: a defect of the suite, not a reading to wait on.
        if not verdict.exists():
            raise RuntimeError(done.stdout + done.stderr)
        written = json.loads(verdict.read_text())
        named = [each for each in written["checks"] if each["check"] == fault.check.partition("::")[2]]
        return (
            CheckRun(named[0]["outcome"], named[0]["reason"]) if named else CheckRun("not run", str(written["reasons"]))
        )

    return run_once


@pytest.fixture
def injected(fault: Fault, run_check: RunCheck) -> Iterator[Fault]:
    """The fault, injected; its check must be kept before the injection and again after teardown."""
    _wait_until_kept(fault, run_check)
    try:
        run(fault.inject)
        yield fault
    finally:
        try:
            run(fault.undo)
        finally:
            apply_reference()
    _wait_until_kept(fault, run_check)


def _wait_until_kept(fault: Fault, run_check: RunCheck) -> None:
    wait_for(
        f"{fault.check} to be kept without the fault",
        run_check,
        until=lambda seen_run: seen_run.outcome == "kept",
        within=HEALED_WITHIN,
        look_next=f"pytest --env=tests/detection/{fault.environment} tests/acceptance/{fault.check}",
    )


@pytest.mark.parametrize("fault", list(faults()), ids=lambda fault: fault.name)
def test_fault_turns_its_check_red(fault: Fault, injected: Fault, run_check: RunCheck, seen: dict[str, float]) -> None:
    """The right promise is broken, for the right reason, soon after the deployment is."""
    assert injected is fault
    began = time.monotonic()
    wait_for(
        f"{fault.check} to be broken, saying {fault.reason!r}",
        run_check,
        until=lambda seen_run: seen_run.outcome == "broken" and fault.reason in seen_run.reason,
        within=DETECTED_WITHIN,
        look_next=f"tests/detection, fault {fault.name}",
    )
    seen[fault.name] = time.monotonic() - began
