"""The HTML report: its headline, the order of its promises, what it shows of every check."""

from __future__ import annotations

import pytest

from fixtures.report import page as report_page
from fixtures.report.page import Headline, Picture, headline, rows, seen
from fixtures.report.verdict import Verdict
from tests.unit.report.conftest import check, text, verdict


def page(found: Verdict, *pictures: Picture, links: dict[str, str] | None = None) -> str:
    """The page for this verdict."""
    return report_page.page(found, [("Target", ["https://backstage.test"])], pictures, links or {})


BROKEN = check("https", "broken", "expected: 301\nseen: 404 from 10.0.0.5\nlook next: curl -v http://backstage.test")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            verdict(check("https", "kept"), check("portal", "kept")),
            Headline("Backstage keeps 2 promises.", "Nothing stands against promoting it."),
        ),
        (
            verdict(check("https", "kept"), check("disruption", "not permitted"), check("metrics", "not observable")),
            Headline(
                "Backstage keeps 1 promise. Left out of 3 checks: 1 not permitted, 1 not observable.",
                "Nothing stands against promoting it.",
            ),
        ),
        (
            verdict(check("portal", "kept"), BROKEN, check("metrics", "no verdict", "boom")),
            Headline(
                "Backstage breaks 1 promise: https. Seen: 404 from 10.0.0.5.",
                "Do not promote. Look next:",
                ("curl -v http://backstage.test", "docs/runbook.md#https"),
            ),
        ),
        (
            verdict(*(check(promise, "broken", "seen: x") for promise in ("a", "b", "c", "d", "e"))),
            Headline(
                "Backstage breaks 5 promises: a, b, c and 2 more. Seen: x.",
                "Do not promote. Look next:",
                ("docs/runbook.md#a",),
            ),
        ),
        (
            verdict(check("metrics", "no verdict", "RuntimeError: boom")),
            Headline(
                "Nothing shows that Backstage is broken, and not enough that it works. Seen: RuntimeError: boom.",
                "Do not promote. Look next, then run it again:",
                ("docs/runbook.md#metrics",),
            ),
        ),
        (
            verdict(
                problems=("expected: an API server; seen: none; look next: kubectl cluster-info",), required="https"
            ),
            Headline(
                "Nothing shows that Backstage is broken, and not enough that it works. Seen: none.",
                "Do not promote. Look next, then run it again:",
                ("kubectl cluster-info",),
            ),
        ),
        (
            verdict(check("https", "kept"), required="drift"),
            Headline(
                "Nothing shows that Backstage is broken, and not enough that it works. "
                "Seen: drift is required and was not checked.",
                "Do not promote. Look next, then run it again:",
                ("docs/runbook.md",),
            ),
        ),
    ],
)
def test_headline_says_what_happened_and_what_to_do(found: Verdict, said: Headline) -> None:
    """The headline is enough for a reader who stops there."""
    assert headline(found) == said


def test_promises_that_need_attention_come_first() -> None:
    """Broken promises come first, then required ones that no check was made for."""
    kept = check("portal", "kept", measured={"slowest answer": (0.25, "s")})
    found = verdict(
        kept, check("https", "kept"), BROKEN, check("load", "not permitted", "no load"), required="drift portal"
    )

    assert [(row.outcome, row.promise, row.count, row.why, row.figures) for row in rows(found)] == [
        ("broken", "https", "1 broken, 1 kept", "404 from 10.0.0.5", ""),
        ("not checked", "drift", "", "", ""),
        ("kept", "portal", "1 kept", "", "slowest answer 0.25 s"),
        ("not permitted", "load", "1 not permitted", "no load", ""),
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("expected: a\nseen: b\nc\nlook next: d", "b c"),
        ("expected: a; seen: b; look next: c", "b"),
        ("https: expected: a | seen: b | look next: c", "b"),
        ("RuntimeError: boom", "RuntimeError: boom"),
        ("", ""),
    ],
)
def test_what_was_seen_is_found_in_every_form_of_a_reason(reason: str, expected: str) -> None:
    """What was seen is found in three lines, in one sentence, and in text of other origin."""
    assert seen(reason) == expected


def test_page_tells_all_of_every_check() -> None:
    """Each check shows its sentence, outcome, source, measurements, reason and existing evidence."""
    measured = check("portal", "kept", decided_by=("browser",), measured={"days left": (30.0, "d")}, seconds=1.25)
    with_evidence = check("gateway", "no verdict", "boom", evidence=("evidence/gateway", "gone.txt"))

    shown = text(page(verdict(measured, BROKEN, with_evidence), links={"evidence/gateway": "evidence/gateway"}))

    assert shown.startswith(
        "✗ Rejected: Backstage on staging Backstage breaks 1 promise: https. Seen: 404 from 10.0.0.5."
    )
    assert "Target https://backstage.test" in shown
    assert "✓ kept The portal is good. test_portal browser days left: 30 d 1.2 s" in shown
    assert "seen: 404 from 10.0.0.5 look next: curl -v http://backstage.test" in shown
    assert "evidence/gateway" in shown
    assert "gone.txt" not in shown


def test_what_stopped_the_run_is_told_in_lines() -> None:
    """The problem that stopped a run is shown in three lines."""
    problem = "expected: an API server; seen: none; look next: kubectl cluster-info"

    assert "expected: an API server\nseen: none\nlook next: kubectl cluster-info</pre>" in page(
        verdict(problems=(problem,))
    )


def test_what_a_target_says_is_no_markup() -> None:
    """Text from the target is escaped, as it may contain anything."""
    shown = page(verdict(check("https", "broken", "seen: <script>alert(1)</script>")))

    assert "<script" not in shown
