"""The report of a run: its content, that it works offline, and that it has no secrets."""

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
    """PNG files are embedded; JSON with a chart's data is drawn, and the chart is also written beside it."""
    (tmp_path / "scale-out.json").write_text(json.dumps(SCALE_OUT))
    (tmp_path / "portal.png").write_bytes(PNG)
    (tmp_path / "rows.json").write_text("no JSON")
    kept = check("autoscaling", "kept", evidence=("scale-out.json", "portal.png", "rows.json", "gone.png", "evidence"))

    chart, screenshot = reporting.pictures(kept, tmp_path, tmp_path)

    assert (chart.file, screenshot.file) == ("scale-out.png", "portal.png")
    assert chart.png == (tmp_path / "scale-out.png").read_bytes()
    assert screenshot.source == "data:image/png;base64,iVBORw0KGgo="


def test_picture_that_is_too_large_is_only_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture above the limit is not embedded, as reports are sent by mail."""
    monkeypatch.setattr(reporting, "LARGEST", 4)  # bytes; `PNG` has eight
    (tmp_path / "portal.png").write_bytes(PNG)

    assert list(reporting.pictures(check("portal", "kept", evidence=("portal.png",)), tmp_path, tmp_path)) == []


def test_facts_of_a_run_that_could_not_begin() -> None:
    """A run that never opened its target has only its time."""
    assert list(reporting.facts(verdict(), None)) == [("When", ["2026-01-01 00:00:00 UTC, for 2 min 5 s"])]


def test_facts_tell_what_was_tested() -> None:
    """The facts have the tested images with digests, the reference and the Kubernetes version."""
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
    """Results of a run with a secret in each kind of text: output, reason, traceback and skip."""
    monkeypatch.delenv(NO_OTHERS)  # pytest-html is an installed plugin, and writes the report
    project.write(*PLUGINS, portal=PROMISES)
    result = project.run()
    (project.path / "out" / "terminal.txt").write_text("\n".join([*result.outlines, *result.errlines]))
    return project.path / "out"


def test_report_leads_with_the_verdict(results: Path) -> None:
    """The page and its title begin with the verdict."""
    shown = (results / "report.html").read_text()

    assert text(shown[shown.index("<header") :]).startswith("✗ Rejected: Backstage on mine Backstage breaks 1 promise")
    assert '<title id="head-title">rejected: Backstage on mine</title>' in shown


def test_report_needs_nothing_from_elsewhere(results: Path) -> None:
    """The page loads nothing from the network: pictures are data URLs, styles and scripts are inline."""
    shown = (results / "report.html").read_text()

    assert re.findall(r"""<(?:link|iframe|object)\b|(?:src=|url\(|@import )["']?(?:https?:)?//""", shown) == []
    assert '<img src="data:image/png;base64,iVBORw0KGgo="' in shown


def test_nothing_secret_is_shown(results: Path) -> None:
    """Page, verdict, JUnit XML and terminal output have the secrets redacted."""
    found = {
        path.name: path.read_text() for path in results.iterdir() if path.suffix in (".html", ".json", ".xml", ".txt")
    }

    assert sorted(found) == ["junit.xml", "report.html", "terminal.txt", "verdict.json"]
    assert [name for name, content in found.items() if "pl4nted-in" in content] == []
    assert "postgres://backstage:(redacted)@127.0.0.1" in found["terminal.txt"]
