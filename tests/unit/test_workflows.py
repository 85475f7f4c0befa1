"""The GitHub workflows: what a change to them must keep. Their syntax is checked by actionlint, in `make check`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.environment.loading import ROOT

FOLDER = ROOT / ".github"
WORKFLOWS = sorted(FOLDER.glob("workflows/*.yml"))
FILES = [*WORKFLOWS, *sorted(FOLDER.glob("actions/*/action.yml"))]
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
KINDS = {"checks", "promote", "smoke", "chaos"}


def content(file: Path) -> dict[Any, Any]:
    """A workflow or action; YAML 1.1 reads the key `on` as True."""
    return dict(yaml.safe_load(file.read_text()))


def workflow(name: str) -> dict[Any, Any]:
    """The workflow of this name."""
    return content(FOLDER / "workflows" / f"{name}.yml")


def steps(file: Path) -> Iterator[dict[str, Any]]:
    """All steps of a workflow or of an action."""
    read = content(file)
    for job in read.get("jobs", {"": read.get("runs")}).values():
        yield from job["steps"]


def run_lines(name: str) -> str:
    """All shell commands of a workflow."""
    return "\n".join(step.get("run", "") for step in steps(FOLDER / "workflows" / f"{name}.yml"))


def test_each_use_of_the_suite_has_its_workflow() -> None:
    """The suite runs on a push, before a promotion, on a schedule and on demand."""
    assert {file.stem for file in WORKFLOWS} == KINDS
    assert set(workflow("checks")[True]) == {"push", "pull_request"}
    assert set(workflow("promote")[True]) == {"workflow_call", "workflow_dispatch"}
    assert set(workflow("smoke")[True]) == {"schedule", "workflow_dispatch"}
    assert set(workflow("chaos")[True]) == {"workflow_dispatch"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name + "-" + file.stem)
def test_actions_of_others_are_pinned_by_hash(file: Path) -> None:
    """Third-party actions are pinned by hash, with the version as a comment; ours come from the checkout."""
    used = re.findall(r"uses: (.+)", file.read_text())

    assert used
    assert [each for each in used if not each.startswith("./") and not PINNED.fullmatch(each)] == []


def test_an_action_is_pinned_to_one_hash() -> None:
    """An action has the same hash wherever it is used."""
    used = {each for file in FILES for each in re.findall(r"uses: (.+@.+)", file.read_text())}
    names = [each.partition("@")[0] for each in used]

    assert len(names) == len(set(names)) >= 4


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflow_has_no_right_that_its_job_does_not_name(file: Path) -> None:
    """Each job may read the sources and, only if it has a target, sign in to Google; none may write."""
    assert content(file)["permissions"] == {}
    for job in content(file)["jobs"].values():
        assert set(job["permissions"].items()) <= {("contents", "read"), ("id-token", "write")}
        assert ("id-token" in job["permissions"]) == ("environment" in job)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflow_ends_and_waits_its_turn(file: Path) -> None:
    """A job with a target ends within the hour for which its token is valid; concurrent runs are excluded."""
    read = content(file)

    assert read["concurrency"]["group"]
    for job in read["jobs"].values():
        assert job["timeout-minutes"] < 60 or "environment" not in job
        assert job["timeout-minutes"] <= 120


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name + "-" + file.stem)
def test_no_text_of_others_becomes_a_command(file: Path) -> None:
    """Values reach the shell as variables only, as an expression in a script would allow injection."""
    assert [step["run"] for step in steps(file) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name + "-" + file.stem)
def test_no_key_is_kept(file: Path) -> None:
    """No workflow keeps a key: the identity is federated, and the one secret is the portal's token."""
    text = file.read_text()

    assert "credentials_json" not in text
    assert set(re.findall(r"secrets\.(\w+)", text)) <= {"BACKSTAGE_TOKEN"}
    assert all(
        step["with"]["persist-credentials"] is False for step in steps(file) if "checkout" in step.get("uses", "")
    )


@pytest.mark.parametrize("name", sorted(KINDS - {"checks"}))
def test_verdict_report_and_junit_are_kept_however_the_run_ends(name: str) -> None:
    """Results are uploaded and the summary is written even if the run fails."""
    [kept] = [step for step in steps(FOLDER / "workflows" / f"{name}.yml") if "upload-artifact" in step.get("uses", "")]
    [summary] = [step for step in steps(FOLDER / "workflows" / f"{name}.yml") if step.get("name") == "Summary"]

    assert kept["if"] == summary["if"] == "always()"
    assert kept["with"]["path"] == "results/run/"
    assert 'fixtures.summary results/run/verdict.json >> "$GITHUB_STEP_SUMMARY"' in summary["run"]
    assert "--report=results/run" in run_lines(name)


def test_gate_accepts_the_candidate_and_then_asks_for_its_verdict() -> None:
    """The gate checks the same image and environment, with a verdict that is at most an hour old."""
    run = run_lines("promote")

    assert 'pytest "--env=$TARGET" "--image=$IMAGE"' in run
    assert run.endswith(
        'fixtures.gate results/run/verdict.json "--image=$IMAGE" "--environment=$TARGET" --max-age=3600'
    )


def test_production_is_looked_at_and_never_attacked() -> None:
    """Only the smoke runs in production; gate and chaos can be started by hand for staging only."""
    assert "pytest --env=prod " in run_lines("smoke")
    for name in ("promote", "chaos"):
        assert workflow(name)[True]["workflow_dispatch"]["inputs"]["env"]["options"] == ["staging"]


def test_every_family_of_faults_can_be_chosen() -> None:
    """The chaos workflow offers one choice for each file of tests/chaos."""
    families = workflow("chaos")[True]["workflow_dispatch"]["inputs"]["family"]["options"]

    assert sorted(families) == sorted(file.stem.removeprefix("test_") for file in ROOT.glob("tests/chaos/test_*.py"))


def test_gate_and_chaos_take_turns_at_a_target() -> None:
    """Gate and chaos share a concurrency group, and no run is cancelled before it has undone its changes."""
    gate, chaos = workflow("promote")["concurrency"], workflow("chaos")["concurrency"]

    assert gate == chaos == {"group": "target-${{ inputs.env }}", "cancel-in-progress": False}


def test_no_pull_request_runs_on_a_machine_of_ours() -> None:
    """No pull request runs on our own runner, where a stranger's code would run as root."""
    lab = workflow("checks")["jobs"]["lab"]

    assert lab["runs-on"] == "${{ vars.LAB_RUNNER }}"
    assert lab["if"] == "vars.LAB_RUNNER != '' && github.event_name == 'push'"
