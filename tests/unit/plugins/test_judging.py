"""Runs of pytest over a project of checks: outcomes, deselection, output, verdict, exit codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from fixtures.environment.loading import ROOT
from fixtures.outcomes import NoVerdictError
from fixtures.plugins.state import RunState
from tests.unit.plugins.conftest import Project

pytest_plugins = ["pytester"]

PLUGINS = ("options", "run", "judging")
PROMISES = '''
import pytest
from fixtures.outcomes import NotObservableError, NoVerdictError, said

def test_certificate(check):
    """Users trust the certificate."""
    check.decided_by("handshake")
    check.measured("days left", 30, "d")
    check.measured("requests", 1234567, "")
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

@pytest.fixture
def borrowed():
    yield
    raise RuntimeError("it is lost")

def test_left_behind(borrowed):
    """Nothing is left behind."""

@pytest.mark.at_end
def test_late():
    """Nothing went wrong meanwhile."""
    raise NoVerdictError(said("a cluster", "none", "kubectl"))

def test_again():
    """Users are still served."""
    raise NoVerdictError(said("a cluster", "none", "kubectl"))
'''

CHAOS = '''
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
class RunResult:
    """Exit code, output and reports of a run."""

    code: int
    output: str
    verdict: dict[str, Any]
    junit: ET.Element


Run = Callable[..., RunResult]


@pytest.fixture
def run(project: Project) -> Run:
    """Function that runs pytest in a project whose only promise is `https`."""
    project.write(*PLUGINS, https=PROMISES)

    def run_pytest(*arguments: str, required: str = "[]") -> RunResult:
        project.environment("mine", required=required)
        done = project.run(*arguments)
        junit = project.path / "out" / "junit.xml"
        return RunResult(
            int(done.ret),
            "\n".join([*done.outlines, *done.errlines]),
            project.verdict,
            ET.parse(junit).getroot() if junit.exists() else ET.Element("testsuites"),  # noqa: S314 - our own
        )

    return run_pytest


@pytest.mark.parametrize("option", ["--collect-only", "--fixtures", "--fixtures-per-test", "--setup-plan"])
def test_run_that_only_shows_something_has_no_verdict(option: str, run: Run) -> None:
    """Options that only list or plan write no verdict, which would replace the last real run's."""
    result = run(option, required='["https"]')

    assert (result.code, result.verdict) == (0, {})


@pytest.fixture
def result(run: Run) -> RunResult:
    """A run with checks of every outcome."""
    return run()


def test_every_check_has_its_outcome(result: RunResult) -> None:
    """An AssertionError breaks a promise, other exceptions give no verdict, and `at_end` checks run last."""
    outcomes = {check["check"]: check["outcome"] for check in result.verdict["checks"]}

    assert list(outcomes.items()) == [
        ("test_load", "not permitted"),
        ("test_certificate", "kept"),
        ("test_redirect", "broken"),
        ("test_resolver", "not observable"),
        ("test_left_behind", "no verdict"),
        ("test_again", "no verdict"),
        ("test_late", "no verdict"),
    ]
    assert result.code == 1


def test_check_leaves_its_notes(result: RunResult) -> None:
    """The verdict has the deciding method, measurements and evidence that a check recorded."""
    [certificate] = [check for check in result.verdict["checks"] if check["check"] == "test_certificate"]

    assert certificate["sentence"] == "Users trust the certificate."
    assert certificate["decided_by"] == ["handshake"]
    assert certificate["measured"] == {
        "days left": {"value": 30, "unit": "d"},
        "requests": {"value": 1234567, "unit": ""},
    }
    assert certificate["evidence"] == ["chain.txt"]


def test_junit_xml_has_outcome_source_and_figures_of_every_check(result: RunResult) -> None:
    """`junit.xml` is always written; checks that are not permitted are deselected, so it lacks them."""
    cases = {case.get("name"): case for case in result.junit.iter("testcase")}
    properties = {
        name: [(each.get("name"), each.get("value")) for each in case.iter("property")] for name, case in cases.items()
    }

    assert properties == {
        "test_certificate": [
            ("outcome", "kept"),
            ("decided_by", "handshake"),
            ("measured: days left", "30 d"),
            ("measured: requests", "1234567"),
        ],
        "test_redirect": [("outcome", "broken")],
        "test_resolver": [("outcome", "not observable")],
        "test_again": [("outcome", "no verdict")],
        "test_late": [("outcome", "no verdict")],
        "test_left_behind": [("outcome", "no verdict")],
    }
    [failure] = cases["test_redirect"].iter("failure")
    assert str(failure.text) == ("expected: a redirect\nseen: 200\nlook next: curl\nrunbook: docs/runbook.md#https")


def test_failure_is_three_lines_and_a_page(result: RunResult) -> None:
    """A failure prints its message without a traceback; a later one with the same cause refers to the first."""
    assert "expected: a redirect\nseen: 200\nlook next: curl\nrunbook: docs/runbook.md#https\n" in result.output
    assert result.output.count("expected: a cluster\n") == 1
    assert "as for tests/acceptance/test_https.py::test_again" in result.output
    assert "Traceback" not in result.output


def test_verdict_is_told_at_the_end(result: RunResult) -> None:
    """The summary has the verdict, broken promises, reasons and the path of the report."""
    summary = result.output.split("verdict ===")[1].splitlines()[1:6]

    assert summary == [
        "mine: rejected",
        "  broken:         https",
        "  ? not observable here: https: Users find the address.",
        "  - https: expected: a redirect | seen: 200 | look next: curl",
        "report: out/report.html",
    ]


@pytest.mark.parametrize(
    ("chosen", "required", "code", "reasons"),
    [
        ("certificate", "[]", 0, []),
        ("nothing", "[]", 6, ["nothing was checked"]),
        ("certificate", '["drift"]', 6, ["drift is required and was not checked"]),
    ],
)
def test_exit_code_says_whether_to_promote(run: Run, chosen: str, required: str, code: int, reasons: list[str]) -> None:
    """The exit code is 0 only if checks ran and all required promises were kept."""
    result = run("-k", chosen, required=required)

    assert (result.code, result.verdict["reasons"]) == (code, reasons)


def test_run_that_cannot_be_opened_has_no_verdict(run: Run, project: Project) -> None:
    """If the run cannot be opened, no test runs and the reason is reported once."""

    def fail(_: RunState) -> None:
        raise NoVerdictError("expected: a cluster")

    project.opens(fail)

    result = run()

    assert (result.code, result.verdict["reasons"]) == (6, ["expected: a cluster"])
    assert [check["outcome"] for check in result.verdict["checks"]] == ["not permitted"]


def test_unknown_environment_is_a_usage_error(run: Run) -> None:
    """An unknown environment is pytest's usage error, exit code 4, with a list of the environments."""
    result = run("--env=stagin")

    assert result.code == 4
    assert (
        "expected: an environment of local, local-distributed, prod, smoke, staging, or a path; seen: stagin"
        in result.output
    )


def test_verdict_says_what_the_command_line_has_left_out(project: Project, run: Run, result: RunResult) -> None:
    """The verdict lists permissions that `--only` removed, as the gate accepts only a complete run."""
    project.environment("wide", permissions='["observe", "load", "apply"]')

    narrowed = run("--env=./wide.toml", "--only=observe", "-k", "certificate")

    assert (narrowed.code, narrowed.verdict["tested"]) == (0, {"left_out": ["apply", "load"]})
    assert result.verdict["tested"] == {}


@pytest.fixture
def run_with_chaos(project: Project, run: Run) -> Run:
    """Function that runs pytest in a project that also has tests/chaos."""
    chaos = project.path / "tests" / "chaos"
    chaos.mkdir()
    (chaos / "test_pods.py").write_text(CHAOS)
    return run


def test_chaos_is_refused_where_nothing_may_be_disturbed(run_with_chaos: Run) -> None:
    """Chaos tests without the permission disrupt are a usage error, and nothing runs."""
    result = run_with_chaos("tests/chaos", "--only=observe")

    assert result.code == 4
    assert (
        "expected: an environment that allows disrupt, for tests/chaos; seen: mine, which allows observe; "
        "look next: `permissions` of its file"
    ) in result.output


@pytest.fixture
def only_flood(project: Project) -> str:
    """Option for an environment that allows everything and has a command for `flood` but not for `fire`."""
    environment = project.path / "attack.toml"
    environment.write_text(f'extends = "{ROOT}/environments/local.toml"\n[faults]\ninject = {{flood = ["true"]}}\n')
    return f"--env={environment}"


def test_chaos_is_foretold(run_with_chaos: Run, only_flood: str) -> None:
    """The output announces the faults before the first; a fault without a command is not permitted."""
    result = run_with_chaos(only_flood, "tests/chaos")

    assert (
        "attack is about to be disturbed: 1 faults, one at a time, each undone; about 1 min\n  test_flood"
        in result.output
    )
    assert [(check["check"], check["outcome"], check["reason"]) for check in result.verdict["checks"]] == [
        ("test_fire", "not permitted", "the environment has no command for fault fire"),
        ("test_flood", "kept", ""),
    ]


def test_chaos_runs_only_where_it_is_named(run_with_chaos: Run, only_flood: str) -> None:
    """Chaos tests run only if their folder is named; `tests` does not include them."""
    result = run_with_chaos(only_flood, "tests")

    assert "about to be disturbed" not in result.output
    assert {check["promise"] for check in result.verdict["checks"]} == {"https"}
