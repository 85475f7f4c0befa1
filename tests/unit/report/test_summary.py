"""What a reviewer of a pipeline sees."""

from __future__ import annotations

import json
import os
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
    """A check that ended so."""
    reason = "" if outcome == "kept" else f"expected: something else\nseen: {seen}\nlook next: kubectl get it"
    return CheckResult(promise, f"test_{promise}", "It works.", outcome, reason)


def told(
    *checks: CheckResult, required: str = "", problems: tuple[str, ...] = (), tested: dict[str, object] | None = None
) -> str:
    """The summary of a run with these checks."""
    run = Run("staging", BEGAN, BEGAN + timedelta(seconds=229), tested if tested is not None else TESTED)
    written = Verdict(run, checks, frozenset(required.split()), problems).as_json()
    return summary(Field(json.loads(json.dumps(written))))


def test_accepted_run_is_told_in_few_lines() -> None:
    """The word, how many promises, how long, which digest."""
    assert told(check("https", "kept"), check("drift", "kept")) == (
        "## ✓ staging: accepted\n"
        "\n"
        "2 of 2 promises kept, in 3 min 49 s.\n"
        "\n"
        f"- `registry.example/backstage:1` is `{DIGEST}`\n"
    )


def test_broken_promises_come_first_with_what_was_seen() -> None:
    """Before those without a verdict; the first check of each, and where to look."""
    page = told(
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
    """By promise, with the number of checks; what is required and was not checked stands against acceptance."""
    page = told(
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
    """Of chaos, which requires nothing; of an acceptance the report has the figures."""
    measured = {"longest outage": (0.4, "s"), "requests": (806.0, ""), "recovery": (20.25, "s")}
    attack = replace(check("pods", "kept"), check="test_loss_of_a_pod", measured=measured)

    assert "\n\n- test_loss_of_a_pod: longest outage 0.4 s, requests 806, recovery 20.25 s\n" in told(attack)
    assert "outage" not in told(attack, required="pods")


def test_run_that_could_not_begin_says_why() -> None:
    """Nothing was checked, and that is not zero promises kept out of none without a reason."""
    assert "\n- expected: a cluster \\| seen: none\n" in told(problems=("expected: a cluster | seen: none",), tested={})


def test_what_was_seen_is_text_and_short() -> None:
    """No markup of an answer gets into the page, and no wall of text."""
    page = told(check("portal", "broken", "<script>`a|b` " + "x" * 500))

    row = next(line for line in page.splitlines() if line.startswith("| portal"))
    assert "&lt;script>\\`a\\|b\\` xxx" in row
    assert len(row) < 230
    assert row.count("x") < 160


def test_command_prints_it_without_any_package(tmp_path: Path) -> None:
    """A pipeline may ask where the suite's packages are not installed."""
    file = tmp_path / "verdict.json"
    run = Run("staging", BEGAN, BEGAN, TESTED)
    file.write_text(json.dumps(Verdict(run, (check("https", "kept"),), frozenset()).as_json()))
    bare = [sys.executable, "-S", "-m", "fixtures.summary", str(file)]  # -S: no site-packages

    done = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ})

    assert done.stdout.startswith("## ✓ staging: accepted\n")


def test_file_that_is_no_verdict_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was killed leaves none; the summary says so, rather than nothing."""
    assert main([str(tmp_path / "verdict.json")]) == 6
    assert capsys.readouterr().out.startswith("## ? no verdict\n\nexpected: a verdict in ")


def test_without_a_file_it_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error."""
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: python -m fixtures.summary results/latest/verdict.json\n"
