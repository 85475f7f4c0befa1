"""The report: what it says first, what it shows, and that it needs and betrays nothing."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fixtures.plugins import html_report
from fixtures.report import page as report_page
from fixtures.report.page import Headline, Picture, headline, rows, seen
from fixtures.report.verdict import CheckResult, Outcome, Run, Verdict
from tests.unit.plugins.conftest import Project

pytest_plugins = ["pytester"]

PNG = b"\x89PNG\r\n\x1a\n"
RUN = Run("staging", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 2, 5, tzinfo=UTC))
SCALE_OUT = {"begin": "2026-01-01T00:00:00Z", "samples": [{"t": 0, "ready": 2}, {"t": 9, "ready": 3}], "marks": []}


def check(promise: str, outcome: Outcome, reason: str = "", **more: object) -> CheckResult:
    """A check of a promise."""
    return CheckResult(promise, f"test_{promise}", f"The {promise} is good.", outcome, reason, **more)  # type: ignore[arg-type]


def verdict(*checks: CheckResult, required: str = "", problems: tuple[str, ...] = ()) -> Verdict:
    """What is found with these checks."""
    return Verdict(RUN, checks, frozenset(required.split()), problems)


def page(found: Verdict, *pictures: Picture, links: dict[str, str] | None = None) -> str:
    """The page about it."""
    return report_page.page(found, [("Target", ["https://backstage.test"])], pictures, links or {})


def text(markup: str) -> str:
    """What a reader sees of HTML, in one line."""
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", markup, flags=re.DOTALL)).split())


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
    """Two lines, for somebody who reads no further."""
    assert headline(found) == said


def test_promises_that_need_attention_come_first() -> None:
    """Also one that is required and that nothing was asked of."""
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
    ("reason", "told"),
    [
        ("expected: a\nseen: b\nc\nlook next: d", "b c"),
        ("expected: a; seen: b; look next: c", "b"),
        ("https: expected: a | seen: b | look next: c", "b"),
        ("RuntimeError: boom", "RuntimeError: boom"),
        ("", ""),
    ],
)
def test_what_was_seen_is_found_in_every_form_of_a_reason(reason: str, told: str) -> None:
    """Three lines, one sentence, or no text of ours at all."""
    assert seen(reason) == told


def test_page_tells_all_of_every_check() -> None:
    """Sentence, outcome, source, figures, reason, evidence."""
    measured = check("portal", "kept", decided_by=("browser",), measured={"days left": (30.0, "d")}, seconds=1.25)
    with_evidence = check("gateway", "no verdict", "boom", evidence=("evidence/gateway", "gone.txt"))

    told = text(page(verdict(measured, BROKEN, with_evidence), links={"evidence/gateway": "evidence/gateway"}))

    assert told.startswith(
        "✗ Rejected: Backstage on staging Backstage breaks 1 promise: https. Seen: 404 from 10.0.0.5."
    )
    assert "Target https://backstage.test" in told
    assert "✓ kept The portal is good. test_portal browser days left: 30 d 1.2 s" in told
    assert "seen: 404 from 10.0.0.5 look next: curl -v http://backstage.test" in told
    assert "evidence/gateway" in told
    assert "gone.txt" not in told


def test_what_stopped_the_run_is_told_in_lines() -> None:
    """Nothing else is known then."""
    problem = "expected: an API server; seen: none; look next: kubectl cluster-info"

    assert "expected: an API server\nseen: none\nlook next: kubectl cluster-info</pre>" in page(
        verdict(problems=(problem,))
    )


def test_what_a_target_says_is_no_markup() -> None:
    """A page or an object of the target may contain anything."""
    shown = page(verdict(check("https", "broken", "seen: <script>alert(1)</script>")))

    assert "<script" not in shown


def test_figures_are_drawn_and_pictures_shown(tmp_path: Path) -> None:
    """The chart is kept beside its figures, for whoever wants it in a ticket."""
    (tmp_path / "scale-out.json").write_text(json.dumps(SCALE_OUT))
    (tmp_path / "portal.png").write_bytes(PNG)
    (tmp_path / "rows.json").write_text("no JSON")
    kept = check("autoscaling", "kept", evidence=("scale-out.json", "portal.png", "rows.json", "gone.png", "evidence"))

    chart, screenshot = html_report.pictures(kept, tmp_path, tmp_path)

    assert (chart.file, screenshot.file) == ("scale-out.png", "portal.png")
    assert chart.png == (tmp_path / "scale-out.png").read_bytes()
    assert screenshot.source == "data:image/png;base64,iVBORw0KGgo="


def test_picture_that_is_too_large_is_only_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is mailed."""
    monkeypatch.setattr(html_report, "LARGEST", 4)
    (tmp_path / "portal.png").write_bytes(PNG)

    assert list(html_report.pictures(check("portal", "kept", evidence=("portal.png",)), tmp_path, tmp_path)) == []


def test_facts_of_a_run_that_could_not_begin() -> None:
    """When it was is known at least."""
    assert list(html_report.facts(verdict(), None)) == [("When", ["2026-01-01 00:00:00 UTC, for 2 min 5 s"])]


def test_facts_tell_what_was_tested() -> None:
    """Versions and digests."""
    tested = {"images": {"backstage:1": ["sha256:0a"]}, "reference": "manifests/x", "kubernetes": "v1.36.4"}
    found = Verdict(Run("staging", RUN.began, RUN.began, tested), (), frozenset())

    assert dict(html_report.facts(found, None)) == {
        "When": ["2026-01-01 00:00:00 UTC, for 0 s"],
        "Kubernetes": ["v1.36.4"],
        "Reference": ["manifests/x"],
        "Images": ["backstage:1 (sha256:0a)"],
    }


PLUGINS = ("options", "run", "judging", "html_report")
PROMISES = '''
from fixtures.outcomes import NotObservableError, said

def test_page(check):
    """The portal opens."""
    check.keep("portal.png", b"\\x89PNG\\r\\n\\x1a\\n")
    print("signed in with token=pl4nted-in-output")

def test_api():
    """The catalog answers."""
    assert False, said("an answer", "401 for Authorization: Bearer pl4nted-in-a-reason", "curl")

def test_error():
    """The catalog is quick."""
    password = "pl4nted-in-a-traceback"
    raise RuntimeError(f"postgres://backstage:{password}@127.0.0.1")

def test_skipped():
    """The catalog is large."""
    raise NotObservableError("expected: x\\nseen: token=pl4nted-in-a-skip\\nlook next: y")
'''


@pytest.fixture
def results(project: Project) -> Path:
    """What a run leaves in which every kind of text had something secret in it."""
    project.write(*PLUGINS, portal=PROMISES)
    result = project.run()
    (project.path / "out" / "terminal.txt").write_text("\n".join([*result.outlines, *result.errlines]))
    return project.path / "out"


def test_report_leads_with_the_verdict(results: Path) -> None:
    """In the page and in its title, which a browser's tab shows."""
    shown = (results / "report.html").read_text()

    assert text(shown[shown.index("<header") :]).startswith("✗ Rejected: Backstage on mine Backstage breaks 1 promise")
    assert '<title id="head-title">rejected: Backstage on mine</title>' in shown


def test_report_needs_nothing_from_elsewhere(results: Path) -> None:
    """Opened offline it looks the same: no picture, style or script has an address."""
    shown = (results / "report.html").read_text()

    assert re.findall(r"""<(?:link|iframe|object)\b|(?:src=|url\(|@import )["']?(?:https?:)?//""", shown) == []
    assert '<img src="data:image/png;base64,iVBORw0KGgo="' in shown


def test_nothing_secret_is_shown(results: Path) -> None:
    """Neither in the page nor in the verdict, JUnit XML or on the terminal; and each of them tells the rest."""
    found = {
        path.name: path.read_text() for path in results.iterdir() if path.suffix in (".html", ".json", ".xml", ".txt")
    }

    assert sorted(found) == ["junit.xml", "report.html", "terminal.txt", "verdict.json"]
    assert [name for name, content in found.items() if "pl4nted-in" in content] == []
    assert "postgres://backstage:(redacted)@127.0.0.1" in found["terminal.txt"]
