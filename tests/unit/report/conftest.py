"""Checks and verdicts for the tests of reports."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime

from fixtures.report.verdict import CheckResult, Outcome, Run, Verdict

RUN = Run("staging", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 2, 5, tzinfo=UTC))


def check(promise: str, outcome: Outcome, reason: str = "", **more: object) -> CheckResult:
    """A check of a promise with this outcome."""
    return CheckResult(promise, f"test_{promise}", f"The {promise} is good.", outcome, reason, **more)  # type: ignore[arg-type]


def verdict(*checks: CheckResult, required: str = "", problems: tuple[str, ...] = ()) -> Verdict:
    """A verdict on these checks; `required` lists promises, separated by spaces."""
    return Verdict(RUN, checks, frozenset(required.split()), problems)


def text(markup: str) -> str:
    """The text of HTML as a reader sees it, in one line."""
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", markup, flags=re.DOTALL)).split())
