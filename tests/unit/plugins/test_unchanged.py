"""A pytest run in whose middle somebody changes what it judges: what it still says, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import pytest

from fixtures.lease.changed_meanwhile import ChangedMeanwhileError
from fixtures.outcomes import NoVerdictError, said
from fixtures.plugins import judging, unchanged
from tests.unit.plugins.conftest import Project, opened_as

pytest_plugins = ["pytester"]

PLUGINS = ("options", "run", "judging", "unchanged")
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


class Detector:
    """Sees what the checks leave in the current directory."""

    def __init__(self) -> None:
        self.checked_at = monotonic()

    def check(self) -> None:
        """Whether nothing happened."""
        if Path("silent").exists():
            raise NoVerdictError(said("an answer", "none", "kubectl"))
        if Path("changed").exists():
            raise ChangedMeanwhileError(said("nobody", "kubectl-set", "who"))


@pytest.fixture
def watched(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project on whose target somebody keeps an eye all the time; evidence is not what matters here."""
    nothing = dict.fromkeys(("client", "reference", "environment", "started"))
    project.opens(opened_as(SimpleNamespace(change_detector=Detector(), tested={}, **nothing)))
    monkeypatch.setattr(unchanged, "LOOK_EVERY", 0)
    monkeypatch.setattr(judging, "collect", lambda *_: None)
    monkeypatch.setattr(judging, "Objects", lambda _: None)
    return project


def run(watched: Project, **files: str) -> Ended:
    """Run pytest over files of checks, each named after its promise."""
    watched.write(*PLUGINS, **{promise: HEAD + checks for promise, checks in files.items()})
    done = watched.run()
    verdict = watched.verdict
    outcomes = {each["check"]: each["outcome"] for each in verdict["checks"]}
    return Ended(int(done.ret), outcomes, verdict["reasons"], "\n".join([*done.outlines, *done.errlines]))


def test_run_whose_target_stays_as_it_was_is_judged(watched: Project) -> None:
    """Nothing is lost by looking."""
    assert run(watched, workload=KEPT).code == 0


def test_failure_without_a_change_is_a_broken_promise(watched: Project) -> None:
    """As if nobody had looked; the run goes on."""
    ended = run(watched, workload=BROKEN, service=KEPT)

    assert ended.outcomes == {"test_broken": "broken", "test_kept": "kept"}


def test_change_ends_the_run(watched: Project) -> None:
    """Without a verdict, though everything was kept; nothing else runs."""
    ended = run(watched, workload=CHANGING + KEPT, service=BROKEN)

    assert ended.outcomes == {"test_changing": "kept"}
    assert (ended.code, ended.reasons) == (6, [CHANGED])
    assert "!! nobody can tell any more what is judged !!" in ended.output


def test_change_is_seen_at_the_end_at_the_latest(watched: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """However seldom it is looked for."""
    monkeypatch.setattr(unchanged, "LOOK_EVERY", 1000)

    ended = run(watched, workload=CHANGING, service=KEPT)

    assert ended.outcomes == {"test_changing": "kept", "test_kept": "kept"}
    assert (ended.code, ended.reasons) == (6, [CHANGED])


@pytest.mark.parametrize(
    ("checks", "check", "itself"),
    [(FAILING, "failing", "expected: d | seen: e | look next: f"), (UNREADY, "unready", "expected: g")],
    ids=["check", "fixture"],
)
def test_check_that_fails_after_the_change_has_no_verdict(
    watched: Project, checks: str, check: str, itself: str
) -> None:
    """A deployment under way is no broken promise; what failed is told all the same, and nothing else runs."""
    ended = run(watched, workload=checks + KEPT)

    assert ended.outcomes == {f"test_{check}": "no verdict"}
    assert (ended.code, ended.reasons) == (6, [CHANGED, f"workload: {CHANGED} | the check itself: {itself}"])
    assert f"look next: who\nthe check itself: {itself}\nrunbook: docs/runbook.md#workload" in ended.output


def test_promise_that_was_broken_before_the_change_stays_broken(watched: Project) -> None:
    """Whoever repairs it meanwhile does not hide it: rejected, and both are told."""
    ended = run(watched, drift=BROKEN, workload=FAILING)

    assert ended.outcomes == {"test_broken": "broken", "test_failing": "no verdict"}
    assert ended.code == 1
    assert ended.reasons[:2] == ["drift: expected: a | seen: b | look next: c", CHANGED]


def test_failure_stays_broken_where_nobody_can_look(watched: Project) -> None:
    """An API server that is silent excuses nothing; that nobody could look is told, and ends the run."""
    ended = run(watched, workload=SILENT, service=KEPT)

    assert ended.outcomes == {"test_failing": "broken"}
    assert ended.code == 1
    assert ended.reasons[1:] == ["expected: an answer | seen: none | look next: kubectl"]
