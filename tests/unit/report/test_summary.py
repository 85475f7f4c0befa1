"""The summary that a reviewer of a pipeline reads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fixtures.environment.loading import ROOT
from fixtures.objects.manifest import Field
from fixtures.report.summary import main, summary
from fixtures.report.verdict import CheckResult, Outcome, Run, Verdict

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = f"sha256:{'a' * 64}"
TESTED = {"images": {"registry.example/backstage:1": [f"registry.example/backstage@{DIGEST}"]}}


def check(promise: str, outcome: Outcome, seen: str = "") -> CheckResult:
    """A check with this outcome."""
    reason = "" if outcome == "kept" else f"expected: something else\nseen: {seen}\nlook next: kubectl get it"
    return CheckResult(promise, f"test_{promise}", "It works.", outcome, reason)


def summary_of(
    *checks: CheckResult, required: str = "", problems: tuple[str, ...] = (), tested: dict[str, object] | None = None
) -> str:
    """The summary of a run with these checks."""
    run = Run("staging", BEGAN, BEGAN + timedelta(seconds=229), tested if tested is not None else TESTED)
    written = Verdict(run, checks, frozenset(required.split()), problems).as_json()
    return summary(Field(json.loads(json.dumps(written))))


def test_accepted_run_is_told_in_few_lines() -> None:
    """An accepted run shows verdict, number of promises, duration and digests."""
    assert summary_of(check("https", "kept"), check("drift", "kept")) == (
        "## ✓ staging: accepted\n"
        "\n"
        "2 of 2 promises kept, in 3 min 49 s.\n"
        "\n"
        f"- `registry.example/backstage:1` is `{DIGEST}`\n"
    )


def test_broken_promises_come_first_with_what_was_seen() -> None:
    """Broken promises come before those without a verdict, each with its first check and where to look next."""
    page = summary_of(
        check("https", "kept"),
        check("portal", "no verdict", "no answer of DNS"),
        check("database", "broken", "FATAL: login refused"),
        check("database", "broken", "another thing"),
        tested={},
    )

    assert page == (
        "## ✗ staging: rejected\n"
        "\n"
        "1 of 3 promises kept, in 3 min 49 s.\n"
        "\n"
        "| Promise | | Seen | Look next |\n"
        "|---|---|---|---|\n"
        "| database | broken | FATAL: login refused | `docs/runbook.md#database` |\n"
        "| portal | no verdict | no answer of DNS | `docs/runbook.md#portal` |\n"
    )


def test_what_was_left_out_is_not_taken_for_kept() -> None:
    """Promises that were left out are listed with their checks, and a required one prevents acceptance."""
    page = summary_of(
        check("https", "kept"),
        check("disruption", "not permitted", "it"),
        check("disruption", "not permitted", "it"),
        check("metrics", "not observable", "no role"),
        required="disruption https",
        tested={},
    )

    assert page == (
        "## ? staging: no verdict\n"
        "\n"
        "1 of 3 promises kept, in 3 min 49 s.\n"
        "\n"
        "- disruption is required and not permitted\n"
        "\n"
        "Not observable: metrics (1).\n"
        "\n"
        "Not permitted: disruption (2).\n"
    )


def test_cost_of_a_fault_is_told() -> None:
    """Measurements are listed for a chaos run only, which requires no promise; others have them in the report."""
    measured = {"longest outage": (0.4, "s"), "requests": (806.0, ""), "recovery": (20.25, "s")}
    attack = replace(check("pods", "kept"), check="test_loss_of_a_pod", measured=measured)

    assert "\n\n- test_loss_of_a_pod: longest outage 0.4 s, requests 806, recovery 20.25 s\n" in summary_of(attack)
    assert "outage" not in summary_of(attack, required="pods")


def test_run_that_could_not_begin_says_why() -> None:
    """A run that could not start shows its problem."""
    assert "\n- expected: a cluster \\| seen: none\n" in summary_of(
        problems=("expected: a cluster | seen: none",), tested={}
    )


def test_what_was_seen_is_text_and_short() -> None:
    """Text from the target is escaped and shortened."""
    page = summary_of(check("portal", "broken", "<script>`a|b` " + "x" * 500))

    row = next(line for line in page.splitlines() if line.startswith("| portal"))
    assert "&lt;script>\\`a\\|b\\` xxx" in row
    assert len(row) < 230
    assert row.count("x") < 160


def test_command_prints_it_without_any_package(tmp_path: Path) -> None:
    """The command needs only the standard library, as a pipeline may run it without the suite's packages."""
    file = tmp_path / "verdict.json"
    run = Run("staging", BEGAN, BEGAN, TESTED)
    file.write_text(json.dumps(Verdict(run, (check("https", "kept"),), frozenset()).as_json()))
    bare = [sys.executable, "-S", "-m", "fixtures.summary", str(file)]  # -S: without site-packages

    done = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("## ✓ staging: accepted\n")


def test_file_that_is_no_verdict_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file, as after a run that was killed, is summarized as no verdict."""
    assert main([str(tmp_path / "verdict.json")]) == 6
    assert capsys.readouterr().out.startswith("## ? no verdict\n\nexpected: a verdict in ")


def test_without_a_file_it_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    """A missing argument is a usage error."""
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: python -m fixtures.summary results/latest/verdict.json\n"
