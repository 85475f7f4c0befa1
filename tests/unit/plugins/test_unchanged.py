"""A run during which somebody changes the deployment: which outcomes still count, and how the run ends."""

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
class RunResult:
    """Exit code, outcomes, reasons and output of a run."""

    code: int
    outcomes: dict[str, str]
    reasons: list[str]
    output: str


class Detector:
    """Change detector that the checks trigger by files in the working directory."""

    def __init__(self) -> None:
        self.checked_at = monotonic()

    def check(self) -> None:
        """Raise if a check has created `changed`, or `silent` for an API server that does not answer."""
        if Path("silent").exists():
            raise NoVerdictError(said("an answer", "none", "kubectl"))
        if Path("changed").exists():
            raise ChangedMeanwhileError(said("nobody", "kubectl-set", "who"))


@pytest.fixture
def watched(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose target is checked for changes after every test; no evidence is collected."""
    nothing = dict.fromkeys(("client", "reference", "environment", "started"))
    project.opens(opened_as(SimpleNamespace(change_detector=Detector(), tested={}, **nothing)))
    monkeypatch.setattr(unchanged, "LOOK_EVERY", 0)  # seconds: look after every test
    monkeypatch.setattr(judging, "collect", lambda *_: None)
    monkeypatch.setattr(judging, "Objects", lambda _: None)
    return project


def run(watched: Project, **files: str) -> RunResult:
    """Run pytest over these checks, by promise."""
    watched.write(*PLUGINS, **{promise: HEAD + checks for promise, checks in files.items()})
    done = watched.run()
    verdict = watched.verdict
    outcomes = {each["check"]: each["outcome"] for each in verdict["checks"]}
    return RunResult(int(done.ret), outcomes, verdict["reasons"], "\n".join([*done.outlines, *done.errlines]))


def test_run_whose_target_stays_as_it_was_is_judged(watched: Project) -> None:
    """Without a change the run is accepted as usual."""
    assert run(watched, workload=KEPT).code == 0


def test_failure_without_a_change_is_a_broken_promise(watched: Project) -> None:
    """A failure without a change is a broken promise, and the run continues."""
    result = run(watched, workload=BROKEN, service=KEPT)

    assert result.outcomes == {"test_broken": "broken", "test_kept": "kept"}


def test_change_ends_the_run(watched: Project) -> None:
    """A change ends the run without a verdict, even if all checks were kept so far."""
    result = run(watched, workload=CHANGING + KEPT, service=BROKEN)

    assert result.outcomes == {"test_changing": "kept"}
    assert (result.code, result.reasons) == (6, [CHANGED])
    assert "!! nobody can tell any more what is judged !!" in result.output


def test_change_is_seen_at_the_end_at_the_latest(watched: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector is asked after the last test, however long its interval is."""
    monkeypatch.setattr(unchanged, "LOOK_EVERY", 1000)

    result = run(watched, workload=CHANGING, service=KEPT)

    assert result.outcomes == {"test_changing": "kept", "test_kept": "kept"}
    assert (result.code, result.reasons) == (6, [CHANGED])


@pytest.mark.parametrize(
    ("checks", "check", "itself"),
    [(FAILING, "failing", "expected: d | seen: e | look next: f"), (UNREADY, "unready", "expected: g")],
    ids=["check", "fixture"],
)
def test_check_that_fails_after_the_change_has_no_verdict(
    watched: Project, checks: str, check: str, itself: str
) -> None:
    """A rollout in progress may cause the failure, so it breaks no promise; it is reported, and the run ends."""
    result = run(watched, workload=checks + KEPT)

    assert result.outcomes == {f"test_{check}": "no verdict"}
    assert (result.code, result.reasons) == (6, [CHANGED, f"workload: {CHANGED} | the check itself: {itself}"])
    assert f"look next: who\nthe check itself: {itself}\nrunbook: docs/runbook.md#workload" in result.output


def test_promise_that_was_broken_before_the_change_stays_broken(watched: Project) -> None:
    """A promise broken before the change stays broken, so the run is rejected, and reports the change as well."""
    result = run(watched, drift=BROKEN, workload=FAILING)

    assert result.outcomes == {"test_broken": "broken", "test_failing": "no verdict"}
    assert result.code == 1
    assert result.reasons[:2] == ["drift: expected: a | seen: b | look next: c", CHANGED]


def test_failure_stays_broken_where_nobody_can_look(watched: Project) -> None:
    """If the detector gets no answer, the failure still counts; that is reported too, and the run ends."""
    result = run(watched, workload=SILENT, service=KEPT)

    assert result.outcomes == {"test_failing": "broken"}
    assert result.code == 1
    assert result.reasons[1:] == ["expected: an answer | seen: none | look next: kubectl"]
