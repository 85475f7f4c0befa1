"""Our pipelines: what a change to them must not lose. Their syntax is judged by actionlint, in `make check`."""

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
    """Of a workflow; its key `on` is read as YAML 1.1 has it, as true."""
    return dict(yaml.safe_load(file.read_text()))


def workflow(name: str) -> dict[Any, Any]:
    """One of the workflows."""
    return content(FOLDER / "workflows" / f"{name}.yml")


def steps(file: Path) -> Iterator[dict[str, Any]]:
    """All steps of a workflow or of an action."""
    read = content(file)
    for job in read.get("jobs", {"": read.get("runs")}).values():
        yield from job["steps"]


def run_lines(name: str) -> str:
    """What a workflow runs."""
    return "\n".join(step.get("run", "") for step in steps(FOLDER / "workflows" / f"{name}.yml"))


def test_each_use_of_the_suite_has_its_workflow() -> None:
    """On a push, before promotion, on a schedule, on demand."""
    assert {file.stem for file in WORKFLOWS} == KINDS
    assert set(workflow("checks")[True]) == {"push", "pull_request"}
    assert set(workflow("promote")[True]) == {"workflow_call", "workflow_dispatch"}
    assert set(workflow("smoke")[True]) == {"schedule", "workflow_dispatch"}
    assert set(workflow("chaos")[True]) == {"workflow_dispatch"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name + "-" + file.stem)
def test_actions_of_others_are_pinned_by_hash(file: Path) -> None:
    """With the version that it is of, for whoever renews it; ours are taken from the checkout."""
    used = re.findall(r"uses: (.+)", file.read_text())

    assert used
    assert [each for each in used if not each.startswith("./") and not PINNED.fullmatch(each)] == []


def test_an_action_is_pinned_to_one_hash() -> None:
    """Wherever it is used."""
    used = {each for file in FILES for each in re.findall(r"uses: (.+@.+)", file.read_text())}
    names = [each.partition("@")[0] for each in used]

    assert len(names) == len(set(names)) >= 4


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflow_has_no_right_that_its_job_does_not_name(file: Path) -> None:
    """Each job reads the sources, and signs in to Google where it has a target; nothing is written."""
    assert content(file)["permissions"] == {}
    for job in content(file)["jobs"].values():
        assert set(job["permissions"].items()) <= {("contents", "read"), ("id-token", "write")}
        assert ("id-token" in job["permissions"]) == ("environment" in job)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflow_ends_and_waits_its_turn(file: Path) -> None:
    """Each job has a time limit below an hour, what its token lives; two runs never meet."""
    read = content(file)

    assert read["concurrency"]["group"]
    for job in read["jobs"].values():
        assert job["timeout-minutes"] < 60 or "environment" not in job
        assert job["timeout-minutes"] <= 120


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name + "-" + file.stem)
def test_no_text_of_others_becomes_a_command(file: Path) -> None:
    """Values come to the shell as variables; no expression is pasted into a script."""
    assert [step["run"] for step in steps(file) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name + "-" + file.stem)
def test_no_key_is_kept(file: Path) -> None:
    """The identity is federated; the one secret is the portal's token."""
    text = file.read_text()

    assert "credentials_json" not in text
    assert set(re.findall(r"secrets\.(\w+)", text)) <= {"BACKSTAGE_TOKEN"}
    assert all(
        step["with"]["persist-credentials"] is False for step in steps(file) if "checkout" in step.get("uses", "")
    )


@pytest.mark.parametrize("name", sorted(KINDS - {"checks"}))
def test_verdict_report_and_junit_are_kept_however_the_run_ends(name: str) -> None:
    """And the summary is written."""
    [kept] = [step for step in steps(FOLDER / "workflows" / f"{name}.yml") if "upload-artifact" in step.get("uses", "")]
    [told] = [step for step in steps(FOLDER / "workflows" / f"{name}.yml") if step.get("name") == "Summary"]

    assert kept["if"] == told["if"] == "always()"
    assert kept["with"]["path"] == "results/run/"
    assert 'fixtures.summary results/run/verdict.json >> "$GITHUB_STEP_SUMMARY"' in told["run"]
    assert "--report=results/run" in run_lines(name)


def test_gate_accepts_the_candidate_and_then_asks_for_its_verdict() -> None:
    """The same image and the same environment, by a verdict of this very hour."""
    run = run_lines("promote")

    assert 'pytest "--env=$TARGET" "--image=$IMAGE"' in run
    assert run.endswith(
        'fixtures.gate results/run/verdict.json "--image=$IMAGE" "--environment=$TARGET" --max-age=3600'
    )


def test_production_is_looked_at_and_never_attacked() -> None:
    """The smoke's environment allows nothing else; neither gate nor chaos can be given another than staging by hand."""
    assert "pytest --env=prod " in run_lines("smoke")
    for name in ("promote", "chaos"):
        assert workflow(name)[True]["workflow_dispatch"]["inputs"]["env"]["options"] == ["staging"]


def test_every_family_of_faults_can_be_chosen() -> None:
    """One for each file of tests/chaos."""
    families = workflow("chaos")[True]["workflow_dispatch"]["inputs"]["family"]["options"]

    assert sorted(families) == sorted(file.stem.removeprefix("test_") for file in ROOT.glob("tests/chaos/test_*.py"))


def test_gate_and_chaos_take_turns_at_a_target() -> None:
    """One run at a time, and none is thrown out of its undoing."""
    gate, chaos = workflow("promote")["concurrency"], workflow("chaos")["concurrency"]

    assert gate == chaos == {"group": "target-${{ inputs.env }}", "cancel-in-progress": False}


def test_no_pull_request_runs_on_a_machine_of_ours() -> None:
    """A stranger's code would run there as root."""
    lab = workflow("checks")["jobs"]["lab"]

    assert lab["runs-on"] == "${{ vars.LAB_RUNNER }}"
    assert lab["if"] == "vars.LAB_RUNNER != '' && github.event_name == 'push'"
