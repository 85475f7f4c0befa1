"""Fixtures of the chaos tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from fixtures.disruption.brakes import Brakes
from fixtures.disruption.experiment import ChaosRunner
from fixtures.disruption.steady_state import Maintained
from fixtures.disruption.tenure import Tenure
from fixtures.environment.environment import Environment
from fixtures.environment.loading import ROOT
from fixtures.outcomes import NoVerdictError, said
from fixtures.portal.client import Portal
from fixtures.report.check import Check

SMOKE = (sys.executable, "-m", "pytest", "tests/acceptance", "--only=observe,connect", "-m", "not needs")
SMOKE_WITHIN = 600
"""Seconds for one run of the smoke. It takes about 15, and longer while it waits for pods that are being replaced."""


@pytest.fixture
def steady(pytestconfig: pytest.Config, check: Check) -> Callable[[str], None]:
    """Runs the smoke's checks in a process of its own, and raises if one is not kept."""
    chosen = pytestconfig.getoption("--env")

    def ask(when: str) -> None:
        folder = check.folder / f"steady-{when}"
        command = [*SMOKE, f"--env={chosen}", f"--report={folder}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SMOKE_WITHIN)
        if done.returncode == 0:
            return
        reasons = json.loads((folder / "verdict.json").read_text())["reasons"]
        text = said(f"the smoke's checks kept {when} the fault", "; ".join(reasons), f"{folder}/report.html")
        # Before the fault, a broken promise means that there is no steady state to compare with.
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
) -> ChaosRunner:
    """Runs experiments, one at a time, under this run's Lease."""
    return ChaosRunner(
        maintained, tenure.api, tenure.journal, str(tenure.lease), environment.faults, portal, check, brakes, steady
    )
