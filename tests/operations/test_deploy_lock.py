"""Deploy pipelines and runs exclude each other: the kubectl lines of docs/deploy-lock.md against real runs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures.environment.loading import ROOT
from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, deploy_reference
from tests.operations.real_run import Run, environment

LEASE = ("-n", "backstage", "lease", "acceptance-backstage")
SEEN = r"deployment 17, https://ci\.example\.com/17 since 20[\d-]+ [\d:]+ UTC"
SOME_CHECKS = ("tests/acceptance/test_workload.py", "tests/acceptance/test_gateway.py")

Shell = Callable[[str], "subprocess.CompletedProcess[str]"]


def code_block(beginning: str) -> str:
    """The one code block of docs/deploy-lock.md that begins with a text."""
    page = (ROOT / "docs" / "deploy-lock.md").read_text()
    [found] = [each for each in re.findall(r"```\w+\n(.*?)```", page, re.DOTALL) if each.startswith(beginning)]
    return str(found)


MANIFEST = code_block("apiVersion: coordination.k8s.io/v1\nkind: Lease")
WAIT = code_block("kubectl -n backstage wait")
HOLD, GIVE_BACK = code_block("until kubectl").splitlines()


@pytest.fixture(scope="module")
def kubectl(kubectl: Kubectl) -> Kubectl:
    """Kubectl as the lab's administrator, once the reference is deployed."""
    deploy_reference(kubectl)
    return kubectl


@pytest.fixture(scope="module")
def lab(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - runs there
    """Environment of the lab whose runs hold the Lease."""
    return environment(tmp_path_factory.mktemp("lab"), "disrupter", "observe", "disrupt")


@pytest.fixture
def shell(kubectl: Kubectl, tmp_path: Path) -> Iterator[Shell]:
    """Runs lines of a pipeline's script beside its deploy-lock.yaml; a Lease that they leave is deleted."""
    (tmp_path / "deploy-lock.yaml").write_text(MANIFEST)
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "KUBECONFIG": str(ROOT / ".lab" / "kubeconfig")}

    def run_line(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", text], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=200
        )

    yield run_line
    kubectl(*LEASE[:2], "delete", *LEASE[2:], "--ignore-not-found")


def holder(kubectl: Kubectl) -> str:
    """Identity of the Lease's holder; empty without a Lease or a holder."""
    lease = kubectl.get(*LEASE)
    return str(lease["spec"]["holderIdentity"]) if lease else ""


def run_with_the_lease(kubectl: Kubectl, lab: Path) -> Run:
    """Start a run and wait until it holds the Lease."""
    run = Run(lab, *SOME_CHECKS)
    wait_for("a Lease", lambda: holder(kubectl), until=bool, within=60, every=0.1, look_next=str(lab.parent))
    return run


def test_pipeline_waits_until_a_run_has_ended(kubectl: Kubectl, lab: Path, shell: Shell) -> None:
    """One line of kubectl waits for the end of a run, and returns at once where no run is at work."""
    run = run_with_the_lease(kubectl, lab)

    waited = shell(WAIT)

    assert (waited.returncode, holder(kubectl)) == (0, ""), waited.stderr
    assert run.exit_code() == 0, run.output
    assert shell(WAIT).returncode == 0


def test_pipeline_gets_the_lock_after_a_run(kubectl: Kubectl, lab: Path, shell: Shell) -> None:
    """The pipeline cannot create the Lease while a run holds it, and gets it once the run has ended."""
    run = run_with_the_lease(kubectl, lab)

    held = shell(HOLD)

    assert held.returncode == 0, held.stderr
    assert "AlreadyExists" in held.stderr
    assert holder(kubectl) == "deployment 17, https://ci.example.com/17"
    assert run.exit_code() == 0, run.output


def test_run_that_does_not_wait_says_who_deploys(kubectl: Kubectl, lab: Path, shell: Shell) -> None:
    """It ends with exit code 6, no verdict; once the lock is given back, the next run takes it."""
    assert shell(HOLD).returncode == 0

    refused = Run(lab, *SOME_CHECKS)

    assert refused.exit_code() == 6
    assert re.search(rf"seen: {SEEN}, renewed \d+ s ago for 1800 s\n", refused.output), refused.output
    assert shell(GIVE_BACK).returncode == 0
    assert holder(kubectl) == ""
    assert Run(lab, "--restore").exit_code() == 0


def test_run_waits_until_a_pipeline_has_deployed(lab: Path, shell: Shell) -> None:
    """With `--lease=wait` a run names the pipeline that it waits for, and starts once the lock is given back."""
    shell(HOLD)
    run = Run(lab, "--lease=wait", *SOME_CHECKS)
    run.wait_for_output("\nwaiting, 0 of 3600 s; expected: nobody else to hold Lease backstage/acceptance-backstage")
    assert re.search(rf"; seen: held by {SEEN}\n", run.output), run.output

    shell(GIVE_BACK)

    assert run.exit_code() == 0, run.output


def test_pipeline_gives_back_only_its_own(kubectl: Kubectl, shell: Shell) -> None:
    """A pipeline that took too long does not delete the Lease that a run has taken over since."""
    shell("kubectl -n backstage create -f deploy-lock.yaml && kubectl -n backstage label -f deploy-lock.yaml deploy-")

    assert shell(GIVE_BACK).returncode == 0
    assert holder(kubectl)


def test_lease_that_a_run_left_keeps_pipelines_out(kubectl: Kubectl, shell: Shell) -> None:
    """A Lease without a holder still keeps a journal, so pipelines wait for its deletion and not for its release."""
    shell("sed 's/holderIdentity:.*}/holderIdentity: \"\"}/' deploy-lock.yaml | kubectl -n backstage create -f -")
    assert kubectl.get(*LEASE)["spec"]["holderIdentity"] == ""

    in_vain = shell(WAIT.replace("30m", "1s"))

    assert (in_vain.returncode, "timed out waiting for the condition" in in_vain.stderr) == (1, True)
    # kubectl's `wait` cannot wait for an empty value, which is why the page waits for the deletion.
    empty = shell(WAIT.replace("delete", "jsonpath='{.spec.holderIdentity}'="))
    assert "jsonpath wait has to have a value" in empty.stderr
