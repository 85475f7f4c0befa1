"""A project whose promises a pytest run of this process judges; all that these tests know of how a run is opened."""

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
"""For the conftest of a project that another process judges: opening a run needs no target."""


def opened_as(run: SimpleNamespace) -> Callable[[RunState], None]:
    """Opens a run as this one."""

    def opened(state: RunState) -> None:
        state.run = cast("OpenRun", run)

    return opened


@dataclass(frozen=True)
class Project:
    """Promises, and an environment `mine` that may be observed."""

    pytester: pytest.Pytester
    monkeypatch: pytest.MonkeyPatch

    @property
    def path(self) -> Path:
        """Its folder, in which the test is."""
        return self.pytester.path

    def write(self, *plugins: str, **promises: str) -> None:
        """Checks by promise, and the plugins that are at work."""
        folder = self.pytester.mkdir("tests") / "acceptance"
        folder.mkdir()
        for promise, checks in promises.items():
            (folder / f"test_{promise}.py").write_text(checks)
        (self.path / "conftest.py").write_text(f"pytest_plugins = {[f'fixtures.plugins.{name}' for name in plugins]}\n")
        (self.path / "pytest.ini").write_text(INI)
        self.environment("mine")

    def environment(self, name: str, permissions: str = '["observe"]', required: str = "[]") -> None:
        """The file of an environment."""
        (self.path / f"{name}.toml").write_text(
            f'extends = "{ROOT}/environments/local.toml"\npermissions = {permissions}\nrequired = {required}\n'
        )

    def opens(self, opened: Callable[[RunState], None]) -> None:
        """Have its runs opened so."""
        self.monkeypatch.setattr(RunState, "open", opened)

    def run(self, *arguments: str) -> pytest.RunResult:
        """Judge it."""
        return self.pytester.runpytest_inprocess("--env=./mine.toml", "--report=out", *arguments)

    @property
    def verdict(self) -> dict[str, Any]:
        """What the last run has written; nothing if it wrote none."""
        file = self.path / "out" / "verdict.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Opening a run there needs no target; what is installed besides is not looked for, which takes longest."""
    monkeypatch.setenv(NO_OTHERS, "1")
    project = Project(pytester, monkeypatch)
    project.opens(lambda _: None)
    return project
