"""A project of acceptance checks that pytest runs in this process, and how such a run is opened without a target."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtures.environment.loading import ROOT
from fixtures.plugins.opened import OpenRun
from fixtures.plugins.state import RunState

NO_OTHERS = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"
INI = f"""[pytest]
addopts = --import-mode=importlib --strict-markers -p no:locust -p no:cacheprovider
pythonpath = {ROOT}
"""
OPENED_IN_A_PROCESS = "from fixtures.plugins.state import RunState\nRunState.open = lambda self: None\n"
"""For the conftest.py of a project that pytest runs in another process: opening a run needs no target."""


def opened_as(run: SimpleNamespace) -> Callable[[RunState], None]:
    """A replacement of `RunState.open` that opens this run."""

    def open_run(state: RunState) -> None:
        state.run = cast("OpenRun", run)

    return open_run


@dataclass(frozen=True)
class Project:
    """Checks, and an environment `mine` that allows only observe."""

    pytester: pytest.Pytester
    monkeypatch: pytest.MonkeyPatch

    @property
    def path(self) -> Path:
        """Root of the project, which is the working directory of the test."""
        return self.pytester.path

    def write(self, *plugins: str, **promises: str) -> None:
        """Write a file of checks for each promise, the environment, and a conftest.py with these plugins."""
        folder = self.pytester.mkdir("tests") / "acceptance"
        folder.mkdir()
        for promise, checks in promises.items():
            (folder / f"test_{promise}.py").write_text(checks)
        (self.path / "conftest.py").write_text(f"pytest_plugins = {[f'fixtures.plugins.{name}' for name in plugins]}\n")
        (self.path / "pytest.ini").write_text(INI)
        self.environment("mine")

    def environment(self, name: str, permissions: str = '["observe"]', required: str = "[]") -> None:
        """Write the file of an environment; both lists are in TOML."""
        (self.path / f"{name}.toml").write_text(
            f'extends = "{ROOT}/environments/local.toml"\npermissions = {permissions}\nrequired = {required}\n'
        )

    def opens(self, open_run: Callable[[RunState], None]) -> None:
        """Replace `RunState.open`, which would need a target."""
        self.monkeypatch.setattr(RunState, "open", open_run)

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in this process, with reports in `out`."""
        return self.pytester.runpytest_inprocess("--env=./mine.toml", "--report=out", *arguments)

    @property
    def verdict(self) -> dict[str, Any]:
        """Content of the last run's verdict.json; empty if it wrote none."""
        file = self.path / "out" / "verdict.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose runs need no target."""
    monkeypatch.setenv(NO_OTHERS, "1")  # the search for installed plugins takes longer than a run
    project = Project(pytester, monkeypatch)
    project.opens(lambda _: None)
    return project
