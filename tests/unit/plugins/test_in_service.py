"""Unattended runs: their JSON lines on standard output, and their exit codes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.unit.plugins.conftest import NO_OTHERS, OPENED_IN_A_PROCESS, Project

pytest_plugins = ["pytester"]

PLUGINS = ("options", "run", "judging", "in_service")
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
UNREACHABLE = "http://127.0.0.1:9"
"""The discard port, on which nothing listens."""


@dataclass(frozen=True)
class RunResult:
    """Exit code, JSON lines and standard error of a run."""

    code: int
    lines: list[dict[str, Any]]
    errors: str


@pytest.fixture
def https(project: Project) -> Project:
    """A project whose only promise is `https`."""
    project.write(*PLUGINS, https=PROMISES)
    return project


def run(https: Project, *arguments: str) -> RunResult:
    """Run pytest with `--log=json`, as the CronJob does."""
    done = https.run("--log=json", *arguments)
    return RunResult(int(done.ret), [json.loads(line) for line in done.outlines], "\n".join(done.errlines))


def test_output_is_a_line_per_check_and_one_for_the_verdict(https: Project) -> None:
    """Standard output has only JSON lines; an unreachable Pushgateway adds one and does not change the exit code."""
    result = run(https, f"--push={UNREACHABLE}", "-k", "kept or broken or load")

    assert [(line["kind"], line.get("check")) for line in result.lines] == [
        ("check", "test_kept"),
        ("check", "test_broken"),
        ("check", "test_load"),
        ("verdict", None),
        ("trouble", None),
    ]
    assert (result.code, result.errors) == (1, "")
    assert result.lines[3]["message"].startswith("mine rejected: https: expected: a redirect | seen: 200")
    assert "Connection refused" in result.lines[4]["message"]


def test_lines_hold_no_secret(https: Project) -> None:
    """Secrets in messages are redacted, as logs have many readers."""
    result = run(https, "-k", "broken")

    assert result.lines[0]["seen"] == "200, and Authorization: (redacted)"
    assert "abcDEF" not in json.dumps(result.lines)


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
def test_run_that_cannot_begin_has_no_verdict(https: Project, arguments: tuple[str, ...], reason: str) -> None:
    """A usage error, or an end before any check, gives one line with `no verdict` and exit code 6."""
    result = run(https, *arguments)

    verdict = result.lines[-1]
    assert (result.code, verdict["severity"], verdict["verdict"], verdict["reasons"]) == (
        6,
        "ERROR",
        "no verdict",
        [reason],
    )
    assert [line["kind"] for line in result.lines] == ["verdict"]
    assert verdict["logging.googleapis.com/labels"]["environment"] in ("mine", "none")


def test_run_that_is_ended_tells_what_it_found(https: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM, which Kubernetes sends to a Job past its deadline, ends the run with the results so far."""
    with (https.path / "conftest.py").open("a") as conftest:
        conftest.write(OPENED_IN_A_PROCESS)
    monkeypatch.delenv(NO_OTHERS)  # a real process, so with all installed plugins, whose output must be silent too

    done = https.pytester.runpytest_subprocess("--env=./mine.toml", "--report=out", "--log=json", "-k", "kept or ended")
    lines = [json.loads(line) for line in done.outlines]

    assert [(line["kind"], line.get("check")) for line in lines] == [("check", "test_kept"), ("verdict", None)]
    assert lines[-1]["reasons"] == ["the run was interrupted"]
    assert (done.ret, done.errlines) == (2, [])
