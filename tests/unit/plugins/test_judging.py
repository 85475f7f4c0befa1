"""A pytest run over promises, in a project of its own: what is left out, what is told, how it ends."""

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
    junit: ET.Element


Run = Callable[..., Ended]


@pytest.fixture
def run(project: Project) -> Run:
    """Runs pytest in a project whose only promise is https."""
    project.write(*PLUGINS, https=PROMISES)

    def ended(*arguments: str, required: str = "[]") -> Ended:
        project.environment("mine", required=required)
        result = project.run(*arguments)
        junit = project.path / "out" / "junit.xml"
        return Ended(
            int(result.ret),
            "\n".join([*result.outlines, *result.errlines]),
            project.verdict,
            ET.parse(junit).getroot() if junit.exists() else ET.Element("testsuites"),  # noqa: S314 - our own
        )

    return ended


@pytest.mark.parametrize("option", ["--collect-only", "--fixtures", "--fixtures-per-test", "--setup-plan"])
def test_run_that_only_shows_something_has_no_verdict(option: str, run: Run) -> None:
    """It would replace the report of the last real run."""
    ended = run(option, required='["https"]')

    assert (ended.code, ended.verdict) == (0, {})


@pytest.fixture
def ended(run: Run) -> Ended:
    """A run in which everything happens."""
    return run()


def test_every_check_has_its_outcome(ended: Ended) -> None:
    """An assertion breaks a promise, any other exception says nothing about it, and what is late comes last."""
    outcomes = {check["check"]: check["outcome"] for check in ended.verdict["checks"]}

    assert list(outcomes.items()) == [
        ("test_load", "not permitted"),
        ("test_certificate", "kept"),
        ("test_redirect", "broken"),
        ("test_resolver", "not observable"),
        ("test_left_behind", "no verdict"),
        ("test_again", "no verdict"),
        ("test_late", "no verdict"),
    ]
    assert ended.code == 1


def test_check_leaves_its_notes(ended: Ended) -> None:
    """Who decided, what was measured, what was kept."""
    [certificate] = [check for check in ended.verdict["checks"] if check["check"] == "test_certificate"]

    assert certificate["sentence"] == "Users trust the certificate."
    assert certificate["decided_by"] == ["handshake"]
    assert certificate["measured"] == {
        "days left": {"value": 30, "unit": "d"},
        "requests": {"value": 1234567, "unit": ""},
    }
    assert certificate["evidence"] == ["chain.txt"]


def test_junit_xml_has_outcome_source_and_figures_of_every_check(ended: Ended) -> None:
    """It lies beside the verdict without being asked for; what is not permitted is in the verdict alone."""
    cases = {case.get("name"): case for case in ended.junit.iter("testcase")}
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
    ("chosen", "required", "code", "reasons"),
    [
        ("certificate", "[]", 0, []),
        ("nothing", "[]", 6, ["nothing was checked"]),
        ("certificate", '["drift"]', 6, ["drift is required and was not checked"]),
    ],
)
def test_exit_code_says_whether_to_promote(run: Run, chosen: str, required: str, code: int, reasons: list[str]) -> None:
    """Only 0 promotes."""
    ended = run("-k", chosen, required=required)

    assert (ended.code, ended.verdict["reasons"]) == (code, reasons)


def test_run_that_cannot_be_opened_has_no_verdict(run: Run, project: Project) -> None:
    """No test runs; the reason is told once."""

    def closed(_: RunState) -> None:
        raise NoVerdictError("expected: a cluster")

    project.opens(closed)

    ended = run()

    assert (ended.code, ended.verdict["reasons"]) == (6, ["expected: a cluster"])
    assert [check["outcome"] for check in ended.verdict["checks"]] == ["not permitted"]


def test_unknown_environment_is_a_usage_error(run: Run) -> None:
    """Pytest's own exit code; the environments that there are."""
    ended = run("--env=stagin")

    assert ended.code == 4
    assert (
        "expected: an environment of local, local-distributed, prod, smoke, staging, or a path; seen: stagin"
        in ended.output
    )


def test_verdict_says_what_the_command_line_has_left_out(project: Project, run: Run, ended: Ended) -> None:
    """A run that `--only` narrows may be accepted; the gate must see that it accepts no candidate."""
    project.environment("wide", permissions='["observe", "load", "apply"]')

    narrowed = run("--env=./wide.toml", "--only=observe", "-k", "certificate")

    assert (narrowed.code, narrowed.verdict["tested"]) == (0, {"left_out": ["apply", "load"]})
    assert ended.verdict["tested"] == {}


@pytest.fixture
def attacked(project: Project, run: Run) -> Run:
    """The same in a project that has chaos as well."""
    chaos = project.path / "tests" / "chaos"
    chaos.mkdir()
    (chaos / "test_pods.py").write_text(ATTACKS)
    return run


def test_chaos_is_refused_where_nothing_may_be_disturbed(attacked: Run) -> None:
    """Asking for it there is a mistake: nothing runs."""
    ended = attacked("tests/chaos", "--only=observe")

    assert ended.code == 4
    assert (
        "expected: an environment that allows disrupt, for tests/chaos; seen: mine, which allows observe; "
        "look next: `permissions` of its file"
    ) in ended.output


@pytest.fixture
def flooded(project: Project) -> str:
    """The option for an environment that allows everything, and has a command for one fault of two."""
    environment = project.path / "attack.toml"
    environment.write_text(f'extends = "{ROOT}/environments/local.toml"\n[faults]\ninject = {{flood = ["true"]}}\n')
    return f"--env={environment}"


def test_chaos_is_foretold(attacked: Run, flooded: str) -> None:
    """What is about to happen stands before it; a fault that the environment cannot do is listed as not permitted."""
    ended = attacked(flooded, "tests/chaos")

    assert (
        "attack is about to be disturbed: 1 faults, one at a time, each undone; about 1 min\n  test_flood"
        in ended.output
    )
    assert [(check["check"], check["outcome"], check["reason"]) for check in ended.verdict["checks"]] == [
        ("test_fire", "not permitted", "the environment has no command for fault fire"),
        ("test_flood", "kept", ""),
    ]


def test_chaos_runs_only_where_it_is_named(attacked: Run, flooded: str) -> None:
    """Asking for all tests does not ask for it."""
    ended = attacked(flooded, "tests")

    assert "about to be disturbed" not in ended.output
    assert {check["promise"] for check in ended.verdict["checks"]} == {"https"}
