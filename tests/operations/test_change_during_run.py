"""A change of the deployment in the middle of a run: no verdict, and the name of who made it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import Kubectl, deploy_reference
from tests.operations.real_run import Run, environment

NOBODY = '{"spec": {"selector": {"app.kubernetes.io/name": "nobody"}}}'
RELEASE = ("set", "image", "deployment/backstage", "backstage=lab.local/backstage:none")


@pytest.fixture
def smoke(kubectl: Kubectl, tmp_path: Path) -> Iterator[Run]:
    """A run that observes the reference deployment, which is restored afterwards."""
    deploy_reference(kubectl)
    run = Run(environment(tmp_path, "observer", "observe"), "tests/acceptance")
    yield run
    run.exit_code()
    deploy_reference(kubectl)


def test_deployment_in_the_middle_of_a_run_leaves_no_verdict(kubectl: Kubectl, smoke: Run) -> None:
    """The run has no verdict and names the field manager and the field; the stuck rollout breaks no promise."""
    smoke.wait_for_output("test_workload.py ...")
    kubectl("-n", "backstage", *RELEASE, "--field-manager=release-pipeline-17")

    assert smoke.exit_code() == 6, smoke.output
    verdict = smoke.verdict()
    assert verdict["verdict"] == "no verdict"
    assert verdict["reasons"][0].startswith(
        "expected: nobody to change what is judged while it is judged | "
        "seen: Deployment backstage/backstage changed by release-pipeline-17 (Update, 20"
    )
    assert " UTC): spec.template.spec.containers[backstage].image | look next: " in verdict["reasons"][0]
    assert "broken" not in {check["outcome"] for check in verdict["checks"]}
    assert "autoscaling" not in {check["promise"] for check in verdict["checks"] if check["outcome"] == "kept"}


def test_what_fails_after_a_change_is_no_broken_promise(kubectl: Kubectl, smoke: Run) -> None:
    """Failures after somebody has pointed the Service elsewhere are put down to that change."""
    smoke.wait_for_output("test_workload.py ...")
    kubectl("-n", "backstage", "patch", "service", "backstage", "--field-manager=somebody", "-p", NOBODY)

    assert smoke.exit_code() == 6, smoke.output
    verdict = smoke.verdict()
    assert "Service backstage/backstage changed by somebody (Update, 20" in verdict["reasons"][0]
    assert " UTC): spec.selector | look next: " in verdict["reasons"][0]
    assert "broken" not in {check["outcome"] for check in verdict["checks"]}
