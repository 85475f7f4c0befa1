"""Promise workload: Backstage runs as it was deployed."""

from __future__ import annotations

from datetime import datetime

import pytest

from fixtures.api.live import Objects
from fixtures.api.pods import Pod, selector_of
from fixtures.environment.timeouts import Timeouts
from fixtures.objects.manifest import Manifest
from fixtures.outcomes import said
from fixtures.platform import workload
from fixtures.reference.apply import Applied, wait_until_rolled_out
from fixtures.reference.reference import Reference
from fixtures.report.check import Check

pytestmark = pytest.mark.usefixtures("rollout_failure")  # pods are judged after the rollout, even if it failed


@pytest.fixture(scope="module")
def rollout_failure(applied: Applied, objects: Objects, timeouts: Timeouts) -> AssertionError | None:
    """Why Backstage is not rolled out, or None. A pod that is just being replaced gets time to become Ready."""
    if applied.failure:
        return applied.failure
    try:
        wait_until_rolled_out(applied.reference, objects, within=timeouts.settled)
    except AssertionError as failure:
        return failure
    return None


@pytest.fixture
def deployment(deployed: Reference) -> Manifest:
    """Backstage's Deployment, as rendered."""
    return deployed.the("Deployment")


@pytest.fixture
def look_next(deployment: Manifest) -> str:
    """The command with which an investigation of the pods starts."""
    return f"kubectl -n {deployment.namespace} describe pods -l {selector_of(deployment)}"


def test_deployment_is_rolled_out(rollout_failure: AssertionError | None) -> None:
    """All replicas of Backstage run what was last deployed, and are available."""
    assert rollout_failure is None, str(rollout_failure)


def test_every_container_is_ready(deployment: Manifest, pods: tuple[Pod, ...], look_next: str) -> None:
    """In every pod Backstage and its database proxy are ready."""
    found = workload.not_ready(deployment, pods)

    assert not found, said(f"every container of {deployment} ready in each of its pods", ", ".join(found), look_next)


def test_sidecar_starts_first(deployment: Manifest, pods: tuple[Pod, ...], look_next: str) -> None:
    """Backstage's database proxy runs before Backstage starts, and until it has ended."""
    found = workload.late_sidecars(deployment, pods)

    assert workload.native_sidecars(deployment), said(f"a native sidecar in {deployment}", "none", look_next)
    assert not found, said("sidecars that are native and start before what they serve", ", ".join(found), look_next)


def test_image_is_the_rendered_one(deployment: Manifest, pods: tuple[Pod, ...], look_next: str, check: Check) -> None:
    """The release that was deployed is the one that runs, in every pod."""
    check.keep("images.txt", "\n".join([*workload.running_images(pods), ""]))
    found = workload.wrong_images(deployment, pods)

    assert not found, said(f"the images of {deployment} in each of its pods", ", ".join(found), look_next)


def test_containers_do_not_run_as_root(pods: tuple[Pod, ...], look_next: str) -> None:
    """Nothing in Backstage's pods runs as root."""
    found = workload.running_as_root(pods)

    assert not found, said("no container that runs as root", ", ".join(found), look_next)


def test_pods_are_spread_over_nodes(deployment: Manifest, pods: tuple[Pod, ...], look_next: str) -> None:
    """The loss of one node never takes all of Backstage."""
    nodes = workload.pods_per_node(pods)
    seen = ", ".join(f"{count} on {node}" for node, count in sorted(nodes.items()))

    assert len(nodes) > 1, said(f"pods of {deployment} on more than one node", seen or "no pod on any", look_next)


def test_service_account_is_the_named_one(deployment: Manifest, pods: tuple[Pod, ...], look_next: str) -> None:
    """Backstage runs as its own ServiceAccount, to which its rights at Google are bound."""
    found = workload.wrong_service_accounts(deployment, pods)

    assert not found, said(f"pods with the ServiceAccount of {deployment}", ", ".join(found), look_next)


@pytest.mark.at_end
def test_no_container_ended_during_the_run(
    pods: tuple[Pod, ...], run_started: datetime, deployment: Manifest, look_next: str
) -> None:
    """No container of Backstage restarted during this run, or ran out of memory."""
    found = workload.terminations(pods, run_started)

    assert not found, said(
        f"no container of {deployment} restarted since {run_started:%H:%M:%SZ}", ", ".join(found), look_next
    )
