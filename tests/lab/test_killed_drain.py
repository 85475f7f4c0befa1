"""A real run is killed at each step of a drain: the next run undoes all of it, and leaves an admin's cordon alone."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.disruption.cordon import ANNOTATION
from fixtures.environment.loading import ROOT
from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, deploy_reference, run
from tests.lab.killed_drain import STEPS

LEASE = ("-n", "backstage", "lease", "acceptance-backstage")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, backstage: None) -> Path:  # noqa: ARG001 - runs there
    """Environment of the lab with the disrupter's identity."""
    folder = tmp_path_factory.mktemp("killed")
    run([sys.executable, "manifests/rbac/apply.py", "--kubeconfig=.lab/kubeconfig", f"--into={folder}"])
    file = folder / "killed.toml"
    file.write_text(
        f'extends = "{ROOT}/environments/local.toml"\npermissions = ["observe", "disrupt"]\nrequired = []\n'
        f'[target]\nready = [["python", "-m", "lab", "facts"]]\n[cluster]\nkubeconfig = "{folder}/disrupter"\n'
    )
    return file


@pytest.fixture(scope="module")
def backstage(kubectl: Kubectl) -> None:
    """The reference deployment with two Ready pods."""
    deploy_reference(kubectl)
    wait_until_ready(kubectl)


def wait_until_ready(kubectl: Kubectl) -> None:
    """Wait until Backstage has two Ready pods and no terminating one."""
    kubectl("-n", "backstage", "rollout", "status", "deployment/backstage", "--timeout=300s")
    wait_for(
        "two Ready pods of Backstage and no other",
        lambda: [pod["status"]["conditions"] for pod in kubectl.get("-n", "backstage", "pods")["items"]],
        until=lambda pods: (
            len(pods) == 2 and all({"type": "Ready", "status": "True"}.items() <= ready(pod).items() for pod in pods)
        ),
        within=300,
        every=2,
        look_next="kubectl -n backstage get pods",
    )


def ready(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    """The condition Ready; empty if there is none."""
    return next((each for each in conditions if each["type"] == "Ready"), {})


@pytest.fixture
def serving(kubectl: Kubectl) -> set[str]:
    """The nodes with pods of Backstage."""
    wait_until_ready(kubectl)
    return {str(pod["spec"]["nodeName"]) for pod in kubectl.get("-n", "backstage", "pods")["items"]}


@pytest.fixture
def others(kubectl: Kubectl, serving: set[str]) -> set[str]:
    """The nodes without one."""
    return {str(node["metadata"]["name"]) for node in kubectl.get("nodes")["items"]} - serving


@pytest.fixture
def node(serving: set[str], others: set[str], point: tuple[str, str]) -> str:
    """The node to drain."""
    # Only the step of the eviction needs a pod of Backstage; all others spare it, which saves waiting for new pods.
    return min(serving if point[0] == "pod evicted" else others)


@pytest.fixture
def admin_cordoned(kubectl: Kubectl, serving: set[str], others: set[str], node: str) -> Iterator[str]:
    """A node that an admin has cordoned: it has no note."""
    # Where a pod stays: on the empty node the evicted one is replaced, or both would be on one node from then on.
    closed = max(serving - {node} or others - {node})
    kubectl("cordon", closed)
    yield closed
    kubectl("uncordon", closed)


def closed_nodes(kubectl: Kubectl) -> dict[str, bool]:
    """Every node that is cordoned or has a run's note, and whether it has the note."""
    return {
        node["metadata"]["name"]: ANNOTATION in node["metadata"]["annotations"]
        for node in kubectl.get("nodes")["items"]
        if node["spec"].get("unschedulable") or ANNOTATION in node["metadata"]["annotations"]
    }


@pytest.fixture
def left(
    kubectl: Kubectl, environment: Path, node: str, admin_cordoned: str, point: tuple[str, str]
) -> dict[str, bool]:  # fmt: skip
    """Cordoned nodes that the killed run left, without the admin's."""
    doomed = [sys.executable, "-m", "tests.lab.killed_drain", str(environment), node, *point]
    killed = subprocess.run(doomed, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    closed = closed_nodes(kubectl)
    assert closed.pop(admin_cordoned) is False
    return closed


# The points at which the killed run leaves its node cordoned.
CLOSED = {
    ("node cordoned", "after"),
    ("pod evicted", "before"),
    ("pod evicted", "after"),
    ("node uncordoned", "before"),
}


@pytest.mark.parametrize("point", tuple(itertools.product(STEPS, ("before", "after"))), ids=" ".join)
def test_killed_run_leaves_nothing_after_the_next(
    kubectl: Kubectl, environment: Path, admin_cordoned: str, point: tuple[str, str], left: dict[str, bool]
) -> None:
    """The node is uncordoned, note and Lease are gone; the admin's cordon stays."""
    assert list(left.values()) == [True] * (point in CLOSED)

    restored = run([sys.executable, "-m", "pytest", "--restore", f"--env={environment}"])

    assert all(f"put back: cordon of {node} (run " in restored for node in left), restored
    assert closed_nodes(kubectl) == {admin_cordoned: False}
    assert kubectl.get(*LEASE) == {}


def test_second_run_waits_for_nobody_and_says_who_is_at_work(kubectl: Kubectl, environment: Path) -> None:
    """It ends with exit code 6, no verdict."""
    alive = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "acceptance-backstage"},
        "spec": {"holderIdentity": "pipeline-17", "leaseDurationSeconds": 300,
                 "renewTime": "2100-01-01T00:00:00.000000Z", "acquireTime": "2026-01-01T00:00:00.000000Z"},
    }  # fmt: skip
    kubectl("-n", "backstage", "create", "-f", "-", stdin=json.dumps(alive))
    try:
        command = [sys.executable, "-m", "pytest", "--restore", f"--env={environment}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    finally:
        kubectl("-n", "backstage", "delete", "lease", "acceptance-backstage")

    assert done.returncode == 6
    assert "seen: pipeline-17 since 2026-01-01 00:00:00 UTC, renewed 0 s ago for 300 s" in done.stdout
