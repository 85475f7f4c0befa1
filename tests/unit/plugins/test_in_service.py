"""A run that nobody watches: what it leaves on standard output, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fixtures.environment.file import ROOT

ENVIRONMENT = 'extends = "{root}/environments/local.toml"\npermissions = ["observe"]\nrequired = []\n'
CONFTEST = """
pytest_plugins = ["fixtures.plugins." + name for name in ("options", "run", "judging", "in_service")]

def pytest_configure():
    from fixtures.plugins.state import RunState
    RunState.open = lambda self: None
"""
PROMISES = '''
import os
import signal

import pytest
from fixtures.outcomes import said

def test_kept():
    """It is as it should be."""
    print("nobody reads this")

def test_broken():
    """Users are sent to HTTPS."""
    assert 200 == 301, said("a redirect", "200, and Authorization: Bearer abcDEF1234567890", "curl")

@pytest.mark.needs("load")
def test_load():
    """Many users are served."""

def test_ended():
    """Somebody ends the run."""
    os.kill(os.getpid(), signal.SIGTERM)

def test_defect():
    """The suite itself is wrong."""
    pytest.exit("no reason", returncode=3)
'''
NOBODY = "http://127.0.0.1:9"
"""Nothing listens at the discard port."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    lines: list[dict[str, Any]]
    errors: str


def run(project: Path, *arguments: str) -> Ended:
    """Run pytest in a project whose only promise is https."""
    folder = project / "tests" / "acceptance"
    folder.mkdir(parents=True)
    (folder / "test_https.py").write_text(PROMISES)
    (project / "conftest.py").write_text(CONFTEST)
    (project / "pytest.ini").write_text(
        f"[pytest]\naddopts = --import-mode=importlib --strict-markers -p no:locust\npythonpath = {ROOT}\n"
    )
    (project / "mine.toml").write_text(ENVIRONMENT.format(root=ROOT))
    options = ["--env=./mine.toml", "--report=out", "-p", "no:cacheprovider", "--log=json"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments], cwd=project, capture_output=True, text=True, check=False
    )
    return Ended(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)


def test_output_is_a_line_per_check_and_one_for_the_verdict(tmp_path: Path) -> None:
    """Nothing else is there, also where monitoring cannot be reached: that is told, and changes nothing."""
    ended = run(tmp_path, f"--push={NOBODY}", "-k", "kept or broken or load")

    assert [(line["kind"], line.get("check")) for line in ended.lines] == [
        ("check", "test_kept"),
        ("check", "test_broken"),
        ("check", "test_load"),
        ("verdict", None),
        ("trouble", None),
    ]
    assert (ended.code, ended.errors) == (1, "")
    assert ended.lines[3]["message"].startswith("mine rejected: https: expected: a redirect | seen: 200")
    assert "Connection refused" in ended.lines[4]["message"]


def test_lines_hold_no_secret(tmp_path: Path) -> None:
    """A log is read by many."""
    ended = run(tmp_path, "-k", "broken")

    assert ended.lines[0]["seen"] == "200, and Authorization: (redacted)"
    assert "abcDEF" not in json.dumps(ended.lines)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--env=./none.toml",), "expected: the file of an environment; seen: no file none.toml"),
        (("--env=./mine.toml", "--only=apply"), "--only: expected: observe, and others of observe; seen: apply"),
        (("tests/acceptance/test_none.py",), "file or directory not found: tests/acceptance/test_none.py"),
        (("-k", "nothing"), "nothing was checked"),
        (("-k", "defect"), "pytest ended with 3, before there was a verdict"),
    ],
)
def test_run_that_cannot_begin_has_no_verdict(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    """One line, and the exit code that says so."""
    ended = run(tmp_path, *arguments)

    verdict = ended.lines[-1]
    assert (ended.code, verdict["severity"], verdict["verdict"], verdict["reasons"]) == (
        6,
        "ERROR",
        "no verdict",
        [reason],
    )
    assert [line["kind"] for line in ended.lines] == ["verdict"]
    assert verdict["logging.googleapis.com/labels"]["environment"] in ("mine", "none")


def test_run_that_is_ended_tells_what_it_found(tmp_path: Path) -> None:
    """A job that takes too long is sent SIGTERM."""
    ended = run(tmp_path, "-k", "kept or ended")

    assert [(line["kind"], line.get("check")) for line in ended.lines] == [("check", "test_kept"), ("verdict", None)]
    assert ended.lines[-1]["reasons"] == ["the run was interrupted"]
    assert ended.code == 2
