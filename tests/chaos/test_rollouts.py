"""Rollouts, good and bad, and an autoscaler without metrics: users notice none of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from fixtures.api.live import Objects
from fixtures.disruption.experiment import ChaosRunner
from fixtures.environment.environment import Environment
from fixtures.objects.manifest import Body, Field
from fixtures.platform.autoscaler import autoscaler_of
from fixtures.reference.apply import read_rollout

pytestmark = pytest.mark.needs("disrupt", "load", "apply")

STUCK_AFTER = 20
"""Progress deadline of the bad rollout, in seconds: short, to save time; what the controller reports is the same."""
WITHOUT_METRICS = 35
"""Seconds for which metrics must be missing: the autoscaler syncs every 15, so at least twice."""
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


def annotated(restarted_at: str | None) -> Body:
    """A patch that replaces all pods of a Deployment, as `kubectl rollout restart` does."""
    return {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: restarted_at}}}}}


def release(containers: Sequence[Body], deadline: int) -> Body:
    """A patch that rolls out these containers, with a progress deadline in seconds."""
    return {"spec": {"progressDeadlineSeconds": deadline, "template": {"spec": {"containers": containers}}}}


def test_rolling_restart_goes_unnoticed(chaos: ChaosRunner, environment: Environment) -> None:
    """While all pods are replaced one after the other, users are served as well as ever."""
    now = datetime.now(UTC).isoformat()
    with chaos.experiment("rolling restart") as experiment:
        old = experiment.ready_pods()
        with experiment.patched(chaos.maintained.deployment, annotated(now), annotated(None)):
            experiment.wait_for_replacements(old, len(old))
        chaos.maintained.steady()  # undoing the patch rolls out once more

    traffic, slo = experiment.traffic, environment.slo
    assert traffic.longest_outage() <= slo.longest_outage, experiment.failure(slo.longest_outage)
    assert traffic.error_ratio <= slo.error_ratio, experiment.failure(slo.longest_outage)


def test_bad_rollout_goes_unnoticed_and_is_reported(chaos: ChaosRunner, environment: Environment) -> None:
    """A release that cannot start reaches no user, and is reported as stuck."""
    objects = Objects(chaos.maintained.client)
    deployment = chaos.maintained.deployment
    live = Field(objects.get(deployment.body))["spec"]
    containers = [each.mapping for each in live["template"]["spec"]["containers"]]
    broken = [{**each, "image": f"{each['image']}-that-does-not-exist"} for each in containers]
    deadline = live["progressDeadlineSeconds"].number or 0
    with chaos.experiment("bad rollout") as experiment:
        with experiment.patched(deployment, release(broken, STUCK_AFTER), release(containers, deadline)):
            experiment.confirm(
                f"{deployment} to be reported as stuck",
                lambda: read_rollout(deployment, objects),
                until=lambda rollout: bool(rollout.stuck),
                within=STUCK_AFTER * 4,
                look_next=f"kubectl -n {deployment.namespace} describe deployment {deployment.name}",
            )
        experiment.wait_for_rollout()

    traffic, slo = experiment.traffic, environment.slo
    assert traffic.longest_outage() <= slo.longest_outage, experiment.failure(slo.longest_outage)
    assert traffic.error_ratio <= slo.error_ratio, experiment.failure(slo.longest_outage)


@pytest.mark.fault("metrics-server-down")
def test_deployment_keeps_its_size_without_metrics(chaos: ChaosRunner, environment: Environment) -> None:
    """While the autoscaler has no figures, it leaves the number of pods alone, and users are served."""
    objects = Objects(chaos.maintained.client)
    hpa = chaos.maintained.reference.the("HorizontalPodAutoscaler")
    look_next = f"kubectl -n {hpa.namespace} describe hpa {hpa.name}"

    def active() -> str:
        conditions = Field(objects.get(hpa.body))["status"]["conditions"]
        return next((each["status"].text for each in conditions if each["type"].text == "ScalingActive"), "absent")

    with chaos.experiment("autoscaler without metrics") as experiment:
        before = autoscaler_of(Field(objects.get(hpa.body))).desired
        with experiment.fault("metrics-server-down"):
            experiment.confirm(
                f"{hpa} to have no figures for {WITHOUT_METRICS} s",
                active,
                until=lambda now: now == "False",
                in_a_row=2 * WITHOUT_METRICS,
                within=180,
                look_next=look_next,
            )
            meanwhile = autoscaler_of(Field(objects.get(hpa.body))).desired
        experiment.wait_for_recovery(
            f"{hpa} to have figures again",
            active,
            until=lambda now: now == "True",
            within=chaos.maintained.timeouts.scaling_active,
            look_next=look_next,
        )

    assert meanwhile == before
    assert experiment.traffic.longest_outage() <= environment.slo.longest_outage, experiment.failure(
        environment.slo.longest_outage
    )
