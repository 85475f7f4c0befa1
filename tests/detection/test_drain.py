"""Whether a drain that costs users something is noticed. Unlike the faults that are data it needs a run that drains."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.detection.fault import ROOT, apply_reference, run

NO_PRE_STOP = '[{"op": "remove", "path": "/spec/template/spec/containers/0/lifecycle"}]'
CHECK = "tests/acceptance/test_disruption.py::test_users_notice_nothing_of_a_drain"
ROLLED_OUT = ("kubectl", "-n", "backstage", "rollout", "status", "deployment/backstage", "--timeout=170s")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The lab drained under load, and not repaired by applying."""
    file = tmp_path / "drain.toml"
    file.write_text(
        f'extends = "{ROOT}/environments/local.toml"\nrequired = []\n'
        'permissions = ["observe", "connect", "load", "disrupt"]\n'
        f'[target]\nready = [["python", "-m", "lab", "facts"]]\n'
        f'[cluster]\nkubeconfig = "{ROOT}/.lab/rbac/disrupter"\n'
    )
    return file


@pytest.fixture
def _without_pre_stop() -> Iterator[None]:
    """Backstage ends as soon as it is told to, while the load balancer still sends requests."""
    patch = ("kubectl", "-n", "backstage", "patch", "deployment", "backstage", "--type=json", "-p", NO_PRE_STOP)
    try:
        run([patch, ROLLED_OUT])
        yield
    finally:
        apply_reference()
        run([ROLLED_OUT])


@pytest.mark.usefixtures("_without_pre_stop")
def test_drain_without_pre_stop_costs_users_something(environment: Path, tmp_path: Path) -> None:
    """The promise is broken by what users felt, request by request."""
    report = tmp_path / "report"
    command = [sys.executable, "-m", "pytest", f"--env={environment}", f"--report={report}", CHECK]

    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)

    [check] = json.loads((report / "verdict.json").read_text())["checks"]
    assert check["outcome"] == "broken", check
    assert "failed" in check["reason"]
