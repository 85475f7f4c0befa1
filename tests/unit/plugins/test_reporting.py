"""The report of a run: what it shows, and that it needs and betrays nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fixtures.plugins import reporting
from fixtures.report.verdict import Run, Verdict
from tests.unit.plugins.conftest import NO_OTHERS, Project
from tests.unit.report.conftest import RUN, check, text, verdict

pytest_plugins = ["pytester"]
PNG = b"\x89PNG\r\n\x1a\n"
SCALE_OUT = {"begin": "2026-01-01T00:00:00Z", "samples": [{"t": 0, "ready": 2}, {"t": 9, "ready": 3}], "marks": []}


def test_figures_are_drawn_and_pictures_shown(tmp_path: Path) -> None:
    """The chart is kept beside its figures, for whoever wants it in a ticket."""
    (tmp_path / "scale-out.json").write_text(json.dumps(SCALE_OUT))
    (tmp_path / "portal.png").write_bytes(PNG)
    (tmp_path / "rows.json").write_text("no JSON")
    kept = check("autoscaling", "kept", evidence=("scale-out.json", "portal.png", "rows.json", "gone.png", "evidence"))

    chart, screenshot = reporting.pictures(kept, tmp_path, tmp_path)

    assert (chart.file, screenshot.file) == ("scale-out.png", "portal.png")
    assert chart.png == (tmp_path / "scale-out.png").read_bytes()
    assert screenshot.source == "data:image/png;base64,iVBORw0KGgo="


def test_picture_that_is_too_large_is_only_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is mailed."""
    monkeypatch.setattr(reporting, "LARGEST", 4)
    (tmp_path / "portal.png").write_bytes(PNG)

    assert list(reporting.pictures(check("portal", "kept", evidence=("portal.png",)), tmp_path, tmp_path)) == []


def test_facts_of_a_run_that_could_not_begin() -> None:
    """When it was is known at least."""
    assert list(reporting.facts(verdict(), None)) == [("When", ["2026-01-01 00:00:00 UTC, for 2 min 5 s"])]


def test_facts_tell_what_was_tested() -> None:
    """Versions and digests."""
    tested = {"images": {"backstage:1": ["sha256:0a"]}, "reference": "manifests/x", "kubernetes": "v1.36.4"}
    found = Verdict(Run("staging", RUN.began, RUN.began, tested), (), frozenset())

    assert dict(reporting.facts(found, None)) == {
        "When": ["2026-01-01 00:00:00 UTC, for 0 s"],
        "Kubernetes": ["v1.36.4"],
        "Reference": ["manifests/x"],
        "Images": ["backstage:1 (sha256:0a)"],
    }


PLUGINS = ("options", "run", "judging", "reporting")
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
def results(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a run leaves in which every kind of text had something secret in it."""
    monkeypatch.delenv(NO_OTHERS)  # pytest-html is one
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
