"""The verdict: how the outcomes of checks add up."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fixtures.report.verdict import CheckResult, Outcome, Run, Verdict

RUN = Run("local", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 2, tzinfo=UTC), {"kubernetes": "v1.36.4"})


def check(promise: str, outcome: Outcome, reason: str = "") -> CheckResult:
    """A check of a promise with this outcome."""
    return CheckResult(promise, f"test_{promise}", f"{promise} is kept.", outcome, reason)


def verdict(*checks: CheckResult, required: str = "", problems: tuple[str, ...] = ()) -> Verdict:
    """A verdict on these checks; `required` lists promises, separated by spaces."""
    return Verdict(RUN, checks, frozenset(required.split()), problems)


@pytest.mark.parametrize(
    ("outcomes", "rolled_up"),
    [
        (("kept", "broken", "no verdict"), "broken"),
        (("kept", "no verdict"), "no verdict"),
        (("kept", "not observable", "not permitted"), "kept"),
        (("not observable", "not permitted"), "not observable"),
        (("not permitted",), "not permitted"),
    ],
)
def test_promise_is_what_the_worst_of_its_checks_says(outcomes: tuple[Outcome, ...], rolled_up: Outcome) -> None:
    """One broken check breaks a promise; checks that were left out neither keep nor break it."""
    assert verdict(*(check("https", each) for each in outcomes)).promises == {"https": rolled_up}


def test_accepted_when_all_that_is_required_is_kept() -> None:
    """A promise that is not required and not permitted does not prevent acceptance."""
    found = verdict(check("https", "kept"), check("disruption", "not permitted"), required="https")

    assert (found.word, found.exit_code, found.reasons) == ("accepted", 0, ())


def test_rejected_names_every_reason_broken_first() -> None:
    """A broken promise rejects the run, and the reasons list it before promises without a verdict."""
    found = verdict(
        check("metrics", "no verdict", "expected: x\nseen: y\nlook next: z"),
        check("https", "broken", "expected: a\nseen: b"),
    )

    assert (found.word, found.exit_code) == ("rejected", 1)
    assert found.reasons == ("https: expected: a | seen: b", "metrics: expected: x | seen: y | look next: z")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (verdict(), "nothing was checked"),
        (verdict(problems=("no cluster",)), "no cluster"),
        (verdict(check("https", "not permitted")), "nothing was checked"),
        (verdict(check("https", "kept"), required="https drift"), "drift is required and was not checked"),
        (
            verdict(check("https", "kept"), check("drift", "not observable"), required="drift"),
            "drift is required and not observable",
        ),
        (verdict(check("https", "no verdict", "no route")), "https: no route"),
        (verdict(check("https", "kept"), required="https drift", problems=("stopped",)), "stopped"),
    ],
)
def test_no_verdict_where_something_stays_open(found: Verdict, reason: str) -> None:
    """There is no verdict if nothing was checked, a required promise is open, or a problem stopped the run."""
    assert (found.word, found.exit_code, found.reasons) == ("no verdict", 6, (reason,))


def test_verdict_as_json() -> None:
    """The JSON that a pipeline reads has all fields."""
    measured = CheckResult(
        "https",
        "test_a",
        "Users come by HTTPS.",
        "kept",
        decided_by=("TLS",),
        measured={"days": (30, "d")},
        seconds=1.23456,
    )

    assert verdict(measured, required="https").as_json() == {
        "schema": 1,
        "verdict": "accepted",
        "exit_code": 0,
        "environment": "local",
        "began": "2026-01-01T00:00:00+00:00",
        "ended": "2026-01-01T00:02:00+00:00",
        "reasons": [],
        "tested": {"kubernetes": "v1.36.4"},
        "promises": {"https": "kept"},
        "required": ["https"],
        "checks": [
            {
                "promise": "https",
                "check": "test_a",
                "sentence": "Users come by HTTPS.",
                "outcome": "kept",
                "reason": "",
                "decided_by": ["TLS"],
                "measured": {"days": {"value": 30, "unit": "d"}},
                "seconds": 1.235,
                "evidence": [],
            }
        ],
    }
