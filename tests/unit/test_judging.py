"""A pytest run over promises, in a project of its own: what is left out, what is told, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fixtures.environment_file import ROOT

ENVIRONMENT = 'extends = "{root}/environments/local.toml"\npermissions = ["observe"]\nrequired = {required}\n'
CONFTEST = """
pytest_plugins = ["fixtures.plugin", "fixtures.run", "fixtures.judging"]

def pytest_configure():
    import fixtures.judging
    fixtures.judging.open_run = open_run

def open_run(config):
    from fixtures.outcomes import NoVerdictError
    {opening}
"""
PROMISES = '''
import pytest
from fixtures.outcomes import NotObservableError, NoVerdictError, said

def test_certificate(check):
    """Users trust the certificate."""
    check.decided_by("handshake")
    check.measured("days left", 30, "d")
    check.keep("chain.txt", "chain")

def test_redirect():
    """Users are sent to HTTPS."""
    assert 200 == 301, said("a redirect", "200", "curl")

def test_resolver():
    """Users find the address."""
    raise NotObservableError(said("an answer", "none", "dig"))

@pytest.mark.needs("observe", "load")
def test_load():
    """Many users are served."""
    raise RuntimeError

@pytest.mark.at_end
def test_late():
    """Nothing went wrong meanwhile."""
    raise NoVerdictError(said("a cluster", "none", "kubectl"))

def test_again():
    """Users are still served."""
    raise NoVerdictError(said("a cluster", "none", "kubectl"))
'''

ATTACKS = '''
import pytest

pytestmark = pytest.mark.needs("disrupt")

@pytest.mark.fault("flood")
def test_flood():
    """Users survive a flood."""

@pytest.mark.fault("fire")
def test_fire():
    """Users survive a fire."""
'''


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    output: str
    verdict: dict[str, Any]


def run(project: Path, *arguments: str, opening: str = "pass", required: str = "[]") -> Ended:
    """Run pytest in a project whose only promise is https."""
    folder = project / "tests" / "acceptance"
    folder.mkdir(parents=True)
    (folder / "test_https.py").write_text(PROMISES)
    (project / "conftest.py").write_text(CONFTEST.format(opening=opening))
    (project / "pytest.ini").write_text(
        f"[pytest]\naddopts = --import-mode=importlib --strict-markers -p no:locust\npythonpath = {ROOT}\n"
    )
    (project / "mine.toml").write_text(ENVIRONMENT.format(root=ROOT, required=required))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--env=./mine.toml",
        "--report=out",
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    written = project / "out" / "verdict.json"
    return Ended(
        done.returncode, done.stdout + done.stderr, json.loads(written.read_text()) if written.exists() else {}
    )


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A run in which everything happens."""
    return run(tmp_path_factory.mktemp("project"))


def test_every_check_has_its_outcome(ended: Ended) -> None:
    """An assertion breaks a promise, any other exception says nothing about it, and what is late comes last."""
    outcomes = {check["check"]: check["outcome"] for check in ended.verdict["checks"]}

    assert list(outcomes.items()) == [
        ("test_load", "not permitted"),
        ("test_certificate", "kept"),
        ("test_redirect", "broken"),
        ("test_resolver", "not observable"),
        ("test_again", "no verdict"),
        ("test_late", "no verdict"),
    ]
    assert ended.code == 1


def test_check_leaves_its_notes(ended: Ended) -> None:
    """Who decided, what was measured, what was kept."""
    [certificate] = [check for check in ended.verdict["checks"] if check["check"] == "test_certificate"]

    assert certificate["sentence"] == "Users trust the certificate."
    assert certificate["decided_by"] == ["handshake"]
    assert certificate["measured"] == {"days left": {"value": 30, "unit": "d"}}
    assert certificate["evidence"] == ["chain.txt"]


def test_failure_is_three_lines_and_a_page(ended: Ended) -> None:
    """No traceback; a cause that several checks share is told once."""
    assert "expected: a redirect\nseen: 200\nlook next: curl\nrunbook: docs/runbook.md#https\n" in ended.output
    assert ended.output.count("expected: a cluster\n") == 1
    assert "as for tests/acceptance/test_https.py::test_again" in ended.output
    assert "Traceback" not in ended.output


def test_verdict_is_told_at_the_end(ended: Ended) -> None:
    """The word, the promises, the reasons, the report."""
    told = ended.output.split("verdict ===")[1].splitlines()[1:6]

    assert told == [
        "mine: rejected",
        "  broken:         https",
        "  ? not observable here: https: Users find the address.",
        "  - https: expected: a redirect | seen: 200 | look next: curl",
        "report: out/report.html",
    ]


@pytest.mark.parametrize(
    ("arguments", "setting", "code", "reason"),
    [
        (("-k", "certificate"), {}, 0, None),
        (("-k", "nothing"), {}, 6, "nothing was checked"),
        (("-k", "certificate"), {"required": '["drift"]'}, 6, "drift is required and was not checked"),
        ((), {"opening": 'raise NoVerdictError("expected: a cluster")'}, 6, "expected: a cluster"),
    ],
)  # fmt: skip
def test_exit_code_says_whether_to_promote(
    tmp_path: Path, arguments: tuple[str, ...], setting: dict[str, str], code: int, reason: str | None
) -> None:
    """Only 0 promotes."""
    ended = run(tmp_path, *arguments, **setting)

    assert (ended.code, ended.verdict["reasons"]) == (code, [reason] if reason else [])


def test_unknown_environment_is_a_usage_error(tmp_path: Path) -> None:
    """Pytest's own exit code; the environments that there are."""
    ended = run(tmp_path, "--env=stagin")

    assert ended.code == 4
    assert (
        "expected: an environment of local, local-distributed, prod, smoke, staging, or a path; seen: stagin"
        in ended.output
    )


def attacked(project: Path, *arguments: str) -> Ended:
    """A run in a project that has chaos as well."""
    chaos = project / "tests" / "chaos"
    chaos.mkdir(parents=True)
    (chaos / "test_pods.py").write_text(ATTACKS)
    return run(project, *arguments)


def test_chaos_is_refused_where_nothing_may_be_disturbed(tmp_path: Path) -> None:
    """Asking for it there is a mistake: nothing runs."""
    ended = attacked(tmp_path, "tests/chaos", "--only=observe")

    assert ended.code == 4
    assert (
        "expected: an environment that allows disrupt, for tests/chaos; seen: mine, which allows observe; "
        "look next: `permissions` of its file"
    ) in ended.output


def test_chaos_is_foretold_and_runs_only_where_it_is_named(tmp_path: Path) -> None:
    """What is about to happen stands before it; a fault that the environment cannot do is listed as not permitted."""
    environment = tmp_path / "attack.toml"
    environment.write_text(f'extends = "{ROOT}/environments/local.toml"\n[faults]\ninject = {{flood = ["true"]}}\n')

    ended = attacked(tmp_path, f"--env={environment}", "tests/chaos")
    accident = run(tmp_path / "other", f"--env={environment}", "tests/acceptance", "-k", "certificate")

    assert (
        "attack is about to be disturbed: 1 faults, one at a time, each undone; about 1 min\n  test_flood"
        in ended.output
    )
    assert [(check["check"], check["outcome"], check["reason"]) for check in ended.verdict["checks"]] == [
        ("test_fire", "not permitted", "the environment has no command for fault fire"),
        ("test_flood", "kept", ""),
    ]
    assert "about to be disturbed" not in accident.output
