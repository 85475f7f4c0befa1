"""Nodes that go away: drained, cut off, or powered off."""

from __future__ import annotations

import pytest

from fixtures.api.pods import Pod
from fixtures.disruption.blast_radius import Limits, plan_drain
from fixtures.disruption.drain import drained
from fixtures.disruption.experiment import ChaosRunner, Experiment
from fixtures.disruption.steady_state import ready_elsewhere
from fixtures.environment.environment import Environment

pytestmark = pytest.mark.needs("disrupt", "load")

LOST_NODE = 30.0
"""Seconds for which half of the requests may fail.

A silent node refuses no connection, so each of the two health checks that must fail runs into its timeout. Half as
much again as the 20 s seen in the lab; Kubernetes notices only long after that.
"""
FOUND_LOST = 120.0
"""Seconds until a silent node's Ready is Unknown: more than twice the 40 to 50 of Kubernetes' own grace period."""


@pytest.mark.needs("apply")  # the autoscaler's minimum is raised
def test_drain_during_a_scale_out_goes_unnoticed(chaos: ChaosRunner, environment: Environment) -> None:
    """While the portal grows, a machine can be emptied, and users are served as well as ever."""
    hpa = chaos.maintained.reference.the("HorizontalPodAutoscaler")
    least = hpa["spec"]["minReplicas"].number or 1
    more = least + 1
    with chaos.experiment("drain during scale-out") as experiment:
        node = experiment.ready_pods()[0].node
        plan = plan_drain(
            node,
            namespace=chaos.maintained.deployment.namespace,
            api=chaos.api,
            limits=Limits(seconds=chaos.maintained.timeouts.drain),
        )
        with (
            experiment.patched(hpa, {"spec": {"minReplicas": more}}, {"spec": {"minReplicas": least}}),
            drained(plan, chaos.api, chaos.journal, lease=chaos.lease, abort_check=chaos.abort_check) as drain,
        ):
            experiment.marks.extend(drain.marks)
            experiment.wait_for_recovery(
                f"{more} pods Ready on other nodes than {node}",
                experiment.pods,
                until=lambda pods: ready_elsewhere(node, more, pods),
                within=chaos.maintained.timeouts.pod_replaced,
                look_next=experiment.look_next,
            )
        wait_until_scaled_in(experiment, least)

    traffic, slo = experiment.traffic, environment.slo
    assert traffic.longest_outage() <= slo.longest_outage, experiment.failure(slo.longest_outage)
    assert traffic.error_ratio <= slo.error_ratio, experiment.failure(slo.longest_outage)


def wait_until_scaled_in(experiment: Experiment, least: int) -> None:
    """Wait until the HPA has removed the pods that it had added."""
    experiment.confirm(
        f"{least} pods again",
        experiment.pods,
        until=lambda pods: len(pods) == least,
        within=experiment.maintained.timeouts.scale_in,
        look_next=experiment.look_next,
    )


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("node-network", marks=pytest.mark.fault("node-network")),
        pytest.param("node-machine", marks=pytest.mark.fault("node-machine")),
    ],
)
def test_portal_survives_the_loss_of_a_machine(chaos: ChaosRunner, fault: str) -> None:
    """When a machine or its network dies, users are served from another one, and its pods are replaced."""
    with chaos.experiment(f"{fault} lost") as experiment:
        before = experiment.ready_pods()
        node = before[0].node
        with experiment.fault(fault, node):
            experiment.confirm(
                f"node {node} to be called not Ready",
                lambda: ready_status(chaos, node),
                until=lambda now: now != "True",
                within=FOUND_LOST,
                look_next=f"kubectl describe node {node}",
            )
            experiment.wait_for_recovery(
                f"{len(before)} pods Ready on other nodes than {node}",
                experiment.pods,
                until=lambda pods: serving_elsewhere(pods, node) >= len(before),
                within=chaos.maintained.timeouts.pod_replaced,
                look_next=experiment.look_next,
            )
        experiment.confirm(
            f"node {node} Ready again and rid of the lost pods",
            lambda: (ready_status(chaos, node), experiment.pods()),
            until=lambda now: now[0] == "True" and not any(pod.terminating for pod in now[1]),
            within=chaos.maintained.timeouts.pod_replaced,
            look_next=f"kubectl describe node {node}",
        )

    assert experiment.traffic.longest_outage() <= LOST_NODE, experiment.failure(LOST_NODE)


def serving_elsewhere(pods: tuple[Pod, ...], node: str) -> int:
    """Number of pods that are Ready on other nodes; those on a lost node stay listed until it is back."""
    return sum(pod.serving and pod.node != node for pod in pods)


def ready_status(chaos: ChaosRunner, node: str) -> str:
    """Status of a node's condition Ready: True, False, Unknown, or absent."""
    live = chaos.api.send("GET", f"/api/v1/nodes/{node}")
    conditions = live["status"]["conditions"]
    return next((each["status"].text for each in conditions if each["type"].text == "Ready"), "absent")
