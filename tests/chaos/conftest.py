"""What every chaos test holds in its hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from fixtures.disruption.brakes import Brakes
from fixtures.disruption.experiment import Chaos
from fixtures.disruption.steady_state import Maintained
from fixtures.disruption.tenure import Tenure
from fixtures.environment.file import ROOT
from fixtures.environment.model import Environment
from fixtures.outcomes import NoVerdictError, said
from fixtures.portal.client import Portal
from fixtures.report.check import Check

SMOKE = (sys.executable, "-m", "pytest", "tests/acceptance", "--only=observe,connect", "-m", "not needs")
SMOKE_WITHIN = 600
"""Seconds. It takes 15, and waits in between for what is just being replaced."""


@pytest.fixture
def steady(pytestconfig: pytest.Config, check: Check) -> Callable[[str], None]:
    """Asks in a process of its own whether the smoke's checks are kept; raises if not."""
    chosen = pytestconfig.getoption("--env")

    def ask(when: str) -> None:
        folder = check.folder / f"steady-{when}"
        command = [*SMOKE, f"--env={chosen}", f"--report={folder}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SMOKE_WITHIN)
        if done.returncode == 0:
            return
        reasons = json.loads((folder / "verdict.json").read_text())["reasons"]
        text = said(f"the smoke's checks kept {when} the fault", "; ".join(reasons), f"{folder}/report.html")
        broken = when == "after" and done.returncode == 1
        raise AssertionError(text) if broken else NoVerdictError(text)

    return ask


@pytest.fixture
def chaos(  # noqa: PLR0917 - what an experiment needs is many things
    maintained: Maintained,
    environment: Environment,
    portal: Portal,
    tenure: Tenure,
    check: Check,
    brakes: Brakes,
    steady: Callable[[str], None],
) -> Chaos:
    """One experiment at a time, under this run's Lease."""
    return Chaos(
        maintained, tenure.api, tenure.journal, str(tenure.lease), environment.faults, portal, check, brakes, steady
    )
