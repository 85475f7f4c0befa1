"""A pytest run in whose middle somebody changes what it judges: what it still says, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fixtures.environment.file import ROOT

ENVIRONMENT = f'extends = "{ROOT}/environments/local.toml"\npermissions = ["observe"]\nrequired = []\n'
CONFTEST = """
import time
import types
from pathlib import Path

import fixtures.plugins.judging
import fixtures.plugins.unchanged
from fixtures.outcomes import NoVerdictError, said
from fixtures.plugins.state import RunState
from fixtures.lease.changed_meanwhile import ChangedMeanwhileError

pytest_plugins = ["fixtures.plugins." + name for name in ("options", "run", "judging", "unchanged")]


class Detector:
    checked_at = time.monotonic()

    def check(self):
        if Path("silent").exists():
            raise NoVerdictError(said("an answer", "none", "kubectl"))
        if Path("changed").exists():
            raise ChangedMeanwhileError(said("nobody", "kubectl-set", "who"))


def opened(state):
    state.run = types.SimpleNamespace(
        change_detector=Detector(), client=None, reference=None, environment=None, started=None, tested={{}}, secrets=()
    )


def pytest_configure():
    RunState.open = opened
    fixtures.plugins.unchanged.LOOK_EVERY = {look_every}
    fixtures.plugins.judging.collect = lambda *_: None
    fixtures.plugins.judging.Objects = lambda _: None
"""
CHANGED = "expected: nobody | seen: kubectl-set | look next: who"
HEAD = "import pathlib, pytest\ndef happens(what):\n    pathlib.Path(what).touch()\n"
KEPT = 'def test_kept():\n    """It is kept."""\n'
BROKEN = 'def test_broken():\n    """It is broken."""\n    assert False, "expected: a\\nseen: b\\nlook next: c"\n'
CHANGING = 'def test_changing():\n    """It is kept, and meanwhile it happens."""\n    happens("changed")\n'
FAILING = CHANGING.replace("changing", "failing") + '    assert False, "expected: d\\nseen: e\\nlook next: f"\n'
UNREADY = (
    '@pytest.fixture\ndef unready():\n    happens("changed")\n    assert False, "expected: g"\n'
    'def test_unready(unready):\n    """It stands on something."""\n'
)
SILENT = FAILING.replace('happens("changed")', 'happens("silent")')


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    outcomes: dict[str, str]
    reasons: list[str]
    output: str


def run(project: Path, *, look_every: float = 0, **files: str) -> Ended:
    """Run pytest over files of checks, each named after its promise."""
    folder = project / "tests" / "acceptance"
    folder.mkdir(parents=True)
    for promise, checks in files.items():
        (folder / f"test_{promise}.py").write_text(HEAD + checks)
    (project / "conftest.py").write_text(CONFTEST.format(look_every=look_every))
    (project / "pytest.ini").write_text(
        f"[pytest]\naddopts = --import-mode=importlib --strict-markers -p no:locust\npythonpath = {ROOT}\n"
    )
    (project / "mine.toml").write_text(ENVIRONMENT)
    command = [sys.executable, "-m", "pytest", "--env=./mine.toml", "--report=out", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    verdict: dict[str, Any] = json.loads((project / "out" / "verdict.json").read_text())
    outcomes = {each["check"]: each["outcome"] for each in verdict["checks"]}
    return Ended(done.returncode, outcomes, verdict["reasons"], done.stdout + done.stderr)


def test_run_whose_target_stays_as_it_was_is_judged(tmp_path: Path) -> None:
    """Nothing is lost by looking; a failure without a change is a broken promise."""
    assert run(tmp_path / "good", workload=KEPT).code == 0
    assert run(tmp_path / "bad", workload=BROKEN, service=KEPT).outcomes == {
        "test_broken": "broken",
        "test_kept": "kept",
    }


def test_change_ends_the_run(tmp_path: Path) -> None:
    """Without a verdict, though everything was kept; nothing else runs."""
    ended = run(tmp_path, workload=CHANGING + KEPT, service=BROKEN)

    assert ended.outcomes == {"test_changing": "kept"}
    assert (ended.code, ended.reasons) == (6, [CHANGED])
    assert "!! nobody can tell any more what is judged !!" in ended.output


def test_change_is_seen_at_the_end_at_the_latest(tmp_path: Path) -> None:
    """However seldom it is looked for."""
    ended = run(tmp_path, look_every=1000, workload=CHANGING, service=KEPT)

    assert ended.outcomes == {"test_changing": "kept", "test_kept": "kept"}
    assert (ended.code, ended.reasons) == (6, [CHANGED])


@pytest.mark.parametrize(
    ("checks", "check", "itself"),
    [(FAILING, "failing", "expected: d | seen: e | look next: f"), (UNREADY, "unready", "expected: g")],
    ids=["check", "fixture"],
)
def test_check_that_fails_after_the_change_has_no_verdict(tmp_path: Path, checks: str, check: str, itself: str) -> None:
    """A deployment under way is no broken promise; what failed is told all the same, and nothing else runs."""
    ended = run(tmp_path, workload=checks + KEPT)

    assert ended.outcomes == {f"test_{check}": "no verdict"}
    assert (ended.code, ended.reasons) == (6, [CHANGED, f"workload: {CHANGED} | the check itself: {itself}"])
    assert f"look next: who\nthe check itself: {itself}\nrunbook: docs/runbook.md#workload" in ended.output


def test_promise_that_was_broken_before_the_change_stays_broken(tmp_path: Path) -> None:
    """Whoever repairs it meanwhile does not hide it: rejected, and both are told."""
    ended = run(tmp_path, drift=BROKEN, workload=FAILING)

    assert ended.outcomes == {"test_broken": "broken", "test_failing": "no verdict"}
    assert ended.code == 1
    assert ended.reasons[:2] == ["drift: expected: a | seen: b | look next: c", CHANGED]


def test_failure_stays_broken_where_nobody_can_look(tmp_path: Path) -> None:
    """An API server that is silent excuses nothing; that nobody could look is told, and ends the run."""
    ended = run(tmp_path, workload=SILENT, service=KEPT)

    assert ended.outcomes == {"test_failing": "broken"}
    assert ended.code == 1
    assert ended.reasons[1:] == ["expected: an answer | seen: none | look next: kubectl"]
