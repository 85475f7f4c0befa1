"""Pods and containers that die without warning: the cost to users, and the recovery."""

from __future__ import annotations

import contextlib

import pytest

from fixtures.api.exec import CommandNotRunError, Container
from fixtures.api.pods import Pod
from fixtures.disruption.experiment import ChaosRunner, Experiment
from fixtures.objects.manifest import Field

pytestmark = pytest.mark.needs("disrupt", "load")

LOST_POD = 15.0
"""Seconds for which half of the requests may fail, until none reaches the dead pod or its container is back.

About twice what was seen in the lab: 7 s for a lost pod, 4 s for a crash, 6 s out of memory.
"""
ALL_LOST = 60.0
"""Longest outage in seconds: until a new pod has started and is attached to the load balancer.

24 s were seen in the lab; on GKE attaching takes longer, up to a minute.
"""
HOG = """
const hogs = []; const { spawn } = require("child_process");
for (let i = 0; i < 8; i++) hogs.push(spawn(process.execPath, ["--max-old-space-size=4096", "-e",
  "const kept = []; setInterval(() => kept.length < 22 && kept.push(Buffer.alloc(8 << 20, 1)), 50);" +
  "setTimeout(() => process.exit(0), 15000)"]));
setTimeout(() => process.exit(0), 16000);
"""
"""A script for Node.js that takes more memory than the container's limit.

It does so in processes that are each smaller than Backstage, because the kernel kills the largest one, which is to be
Backstage. They end by themselves after 15 s.
"""


def failed_for(experiment: Experiment) -> float:
    """Longest outage in seconds, or that of the same failures in a row at half of the requests, if longer.

    With one of two pods dead, failures are spread among good answers, so no single outage shows their whole cost.
    """
    traffic = experiment.traffic
    return max(traffic.longest_outage(), 2 * traffic.error_ratio * traffic.seconds)


def status(pod: Pod, name: str) -> Field:
    """The status of a container, as the kubelet reports it."""
    [found] = [each for each in pod.container_statuses if each["name"].text == name]
    return found


def container(pod: Pod, name: str) -> str:
    """Id of a container in its node's runtime, without the runtime's name."""
    return status(pod, name)["containerID"].text.rpartition("/")[2]


def restarts(pod: Pod, name: str) -> int:
    """Number of restarts of a container."""
    return status(pod, name)["restartCount"].number or 0


def same_pod(pods: tuple[Pod, ...], victim: Pod) -> Pod:
    """The victim as it is in a later reading."""
    return next(pod for pod in pods if pod.uid == victim.uid)


def name_of_app(chaos: ChaosRunner) -> str:
    """Name of the container that serves users."""
    [app] = chaos.maintained.deployment["spec"]["template"]["spec"]["containers"]
    return app["name"].text


def name_of_sidecar(chaos: ChaosRunner) -> str:
    """Name of the sidecar that proxies to the database."""
    [sidecar] = chaos.maintained.deployment["spec"]["template"]["spec"]["initContainers"]
    return sidecar["name"].text


def kill(chaos: ChaosRunner, *pods: Pod) -> None:
    """Delete pods without a grace period, so that neither preStop nor SIGTERM warns them."""
    for pod in pods:
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        chaos.api.send("DELETE", path, body={"gracePeriodSeconds": 0})


def test_portal_survives_the_loss_of_a_pod(chaos: ChaosRunner) -> None:
    """When a pod is killed without warning, the other one serves users."""
    with chaos.experiment("pod killed without grace") as experiment:
        before = experiment.ready_pods()
        experiment.inject(f"{before[0].name} killed", lambda: kill(chaos, before[0]))
        experiment.wait_for_replacements(before[:1], len(before))

    assert failed_for(experiment) <= LOST_POD, experiment.failure(LOST_POD)


def test_portal_is_back_soon_after_all_its_pods_are_lost(chaos: ChaosRunner) -> None:
    """When all pods are killed at once, users are served again as soon as a new pod has started."""
    with chaos.experiment("all pods killed at once") as experiment:
        before = experiment.ready_pods()
        experiment.inject("all pods killed", lambda: kill(chaos, *before))
        experiment.wait_for_replacements(before, len(before))

    assert 0 < experiment.traffic.longest_outage() <= ALL_LOST, experiment.failure(ALL_LOST)


@pytest.mark.fault("container-killed")
def test_portal_survives_a_crash_of_backstage(chaos: ChaosRunner) -> None:
    """When a Backstage process crashes it is restarted, and until then the other pod serves users."""
    with chaos.experiment("backstage process killed") as experiment:
        crash(experiment, name_of_app(chaos))

    assert failed_for(experiment) <= LOST_POD, experiment.failure(LOST_POD)


@pytest.mark.fault("container-killed")
def test_portal_survives_a_crash_of_its_way_to_the_database(chaos: ChaosRunner) -> None:
    """When the proxy to the database crashes, it is back before users miss it for long."""
    with chaos.experiment("proxy killed") as experiment:
        crash(experiment, name_of_sidecar(chaos))

    assert failed_for(experiment) <= LOST_POD, experiment.failure(LOST_POD)


def crash(experiment: Experiment, name: str) -> None:
    """Kill a container of one pod, and wait until it runs again."""
    victim = experiment.ready_pods()[0]
    with experiment.fault("container-killed", container(victim, name)):
        experiment.confirm(
            f"{name} of {victim.name} to be another container",
            lambda: same_pod(experiment.pods(), victim),
            until=lambda now: restarts(now, name) > restarts(victim, name),
            within=60,
            look_next=experiment.look_next,
        )
    wait_until_ready_again(experiment, victim)


def wait_until_ready_again(experiment: Experiment, victim: Pod) -> None:
    """Wait until the pod is Ready again."""
    experiment.wait_for_recovery(
        f"{victim.name} Ready again",
        lambda: same_pod(experiment.pods(), victim),
        until=lambda now: now.ready,
        within=experiment.maintained.timeouts.pod_replaced,
        look_next=experiment.look_next,
    )


@pytest.mark.needs("connect")
def test_portal_survives_a_pod_that_runs_out_of_memory(chaos: ChaosRunner) -> None:
    """When a container exceeds its memory limit it is restarted, and until then the other pod serves users."""
    name = name_of_app(chaos)
    with chaos.experiment("out of memory") as experiment:
        victim = experiment.ready_pods()[0]
        inside = Container(chaos.maintained.client, victim.namespace, victim.name, name, within=30)
        experiment.inject(f"memory of {victim.name} filled", lambda: run_until_killed(inside))
        experiment.confirm(
            f"{name} of {victim.name} to be OOMKilled",
            lambda: same_pod(experiment.pods(), victim),
            until=lambda now: last_termination(now, name) == "OOMKilled",
            within=60,
            look_next=experiment.look_next,
        )
        wait_until_ready_again(experiment, victim)

    assert failed_for(experiment) <= LOST_POD, experiment.failure(LOST_POD)


def run_until_killed(inside: Container) -> None:
    """Run the memory hog; losing its connection is expected, as it ends with the container that it kills."""
    with contextlib.suppress(CommandNotRunError):
        inside.run("node", "-e", HOG)


def last_termination(pod: Pod, name: str) -> str:
    """Reason of a container's last termination; empty if there was none."""
    return status(pod, name)["lastState"]["terminated"]["reason"].text
