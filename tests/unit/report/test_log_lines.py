"""The structured log lines that a run writes."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from fixtures.outcomes import said
from fixtures.report import log_lines
from fixtures.report.verdict import CheckResult, Outcome, Run, Verdict

NOW = datetime(2026, 1, 1, 12, 2, tzinfo=UTC)
REASON = said("5 answers", "5 of 5 without: 503\nwith nothing", "logs")
BROKEN = CheckResult("database", "test_catalog", "The catalog answers.", "broken", REASON, seconds=1.23456)
KEPT = CheckResult(
    "https", "test_days", "It lasts.", "kept", measured={"certificate": (30.5, "days left")}, seconds=0.1
)


def test_broken_check_is_an_error_that_names_promise_and_evidence() -> None:
    """The message is enough for a reader, and the fields are there to search by."""
    line = log_lines.of_check(BROKEN, "prod", NOW)

    assert line == {
        "severity": "ERROR",
        "time": "2026-01-01T12:02:00.000Z",
        "message": "database broken: The catalog answers.: 5 of 5 without: 503 with nothing",
        "logging.googleapis.com/labels": {
            "suite": "backstage-acceptance",
            "environment": "prod",
            "promise": "database",
            "outcome": "broken",
        },
        "kind": "check",
        "promise": "database",
        "check": "test_catalog",
        "outcome": "broken",
        "seconds": 1.235,
        "expected": "5 answers",
        "seen": "5 of 5 without: 503\nwith nothing",
        "look_next": "logs",
    }


def test_kept_check_tells_its_figures() -> None:
    """A kept check logs what it measured, and has no fields for a reason."""
    line = log_lines.of_check(KEPT, "prod", NOW)

    assert (line["severity"], line["message"]) == ("INFO", "https kept: It lasts.")
    assert line["measured"] == {"certificate": 30.5}
    assert "seen" not in line


@pytest.mark.parametrize(
    ("outcome", "severity"),
    [("no verdict", "ERROR"), ("not observable", "NOTICE"), ("not permitted", "DEBUG")],
)
def test_severity_is_one_that_cloud_logging_knows(outcome: Outcome, severity: str) -> None:
    """Each outcome has a severity of Cloud Logging; a check without a verdict is an ERROR."""
    line = log_lines.of_check(CheckResult("https", "test", "It is.", outcome, "why"), "prod", NOW)

    assert (line["severity"], line["message"]) == (severity, f"https {outcome}: It is.: why")


@pytest.mark.parametrize(
    ("checks", "problems", "severity", "message"),
    [
        ((KEPT,), (), "INFO", "prod accepted"),
        (
            (KEPT, BROKEN),
            (),
            "ERROR",
            "prod rejected: database: expected: 5 answers | seen: 5 of 5 without: 503 | with nothing | look next: logs",
        ),
        ((), ("expected: a file; seen: none",), "ERROR", "prod no verdict: expected: a file; seen: none"),
    ],
)
def test_verdict_is_one_line(
    checks: tuple[CheckResult, ...], problems: tuple[str, ...], severity: str, message: str
) -> None:
    """The message has the verdict and the first reason against it."""
    run = Run("prod", datetime(2026, 1, 1, 12, 0, tzinfo=UTC), NOW, {"kubernetes": "v1.36.4"})

    line = log_lines.of_verdict(Verdict(run, checks, frozenset(), problems))

    assert (line["severity"], line["message"], line["seconds"]) == (severity, message, 120.0)
    assert "\n" not in json.dumps(line)


@pytest.mark.parametrize(
    ("reason", "evidence"),
    [
        ("expected: a; seen: b; c; look next: d", "b; c"),
        ("expected: a | seen: b | look next: d", "b"),
        ("expected: a\nseen: b", "b"),
        ("RuntimeError: something\nelse", "RuntimeError: something else"),
        ("expected: a\nseen: " + "b" * 300, "b" * 199 + "…"),
    ],
)
def test_evidence_is_what_was_seen(reason: str, evidence: str) -> None:
    """The evidence is what was seen, in one line of at most 200 characters."""
    assert log_lines.evidence_line(reason) == evidence
