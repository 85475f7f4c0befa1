"""Outages of what Google runs around the portal: users notice little or nothing."""

from __future__ import annotations

import pytest

from fixtures.api.live import Objects
from fixtures.disruption.experiment import ChaosRunner
from fixtures.environment.environment import Environment
from fixtures.google.rest import GoogleApis
from fixtures.metrics.promql import PromQl
from fixtures.outcomes import RUNBOOK, NoVerdictError
from fixtures.secrets.mounted import Versions, mounted_classes, outdated, read_statuses, read_versions

pytestmark = pytest.mark.needs("disrupt", "load")

GATEWAY_RESTART = 10.0
"""Longest outage in seconds by a restart of the data plane. A guess: Google's own never restarts as a whole."""

GAP = 20
"""Seconds for which metrics must be missing: two scrape intervals of the lab."""
FRESH = 60.0
"""Age in seconds up to which a sample counts as fresh."""


@pytest.mark.parametrize(
    ("fault", "target"),
    [
        pytest.param("metadata", "down", marks=pytest.mark.fault("metadata")),
        pytest.param("secret-provider", "down", marks=pytest.mark.fault("secret-provider")),
    ],
)
def test_running_pods_survive_what_only_a_start_needs(chaos: ChaosRunner, fault: str, target: str) -> None:
    """Without identities or secrets no new pod starts, and users are served by those that run."""
    with chaos.experiment(f"{fault} down") as experiment:
        enough = len(experiment.ready_pods())
        with experiment.fault(fault, target):
            gone = experiment.confirm_no_pod_starts()
        experiment.wait_for_replacements(gone, enough)

    assert experiment.traffic.error_ratio == 0, experiment.failure(0)


@pytest.mark.fault("secret-rotated")
def test_rotated_secret_reaches_running_pods(chaos: ChaosRunner, environment: Environment, google: GoogleApis) -> None:
    """A secret's new version is in every pod within its period, without a restart, and users notice nothing."""
    classes = mounted_classes(chaos.maintained.reference)
    secret = environment.secrets.expected[0]

    def latest() -> Versions:
        return read_versions(classes, google, environment.google.secret_manager)

    def behind() -> list[str]:
        found = read_statuses(Objects(chaos.maintained.client), environment.namespaces.deployment)
        pods = chaos.maintained.ready_pods()
        return [each for pod in pods for of_class in classes for each in outdated(pod, of_class, found, latest())]

    with chaos.experiment("secret rotated") as experiment:
        before = latest()
        with experiment.fault("secret-rotated", secret):
            experiment.confirm(
                f"a new version of {secret}",
                latest,
                until=lambda now: now != before,
                within=30,
                look_next="Secret Manager",
            )
        experiment.wait_for_recovery(
            f"the latest version of {secret} in every pod",
            behind,
            until=lambda left: not left,
            within=chaos.maintained.timeouts.secret_mounted,
            look_next="kubectl get secretproviderclasspodstatuses -o yaml",
        )

    assert experiment.traffic.error_ratio == 0, experiment.failure(0)


@pytest.mark.fault("prometheus-down")
def test_users_feel_nothing_of_the_metrics_pipeline(
    chaos: ChaosRunner, environment: Environment, google: GoogleApis
) -> None:
    """While metrics are missing users are served as before, and queries show the gap to the engineer on call."""
    promql = PromQl(google, environment.google, chaos.maintained.reference.the("PodMonitoring"))
    metric = environment.metrics.expected[0]

    def answer() -> str:
        try:
            return str(len(promql.fresh(metric, FRESH)))
        except NoVerdictError as error:
            return str(error)

    with chaos.experiment("metrics pipeline down") as experiment:
        with experiment.fault("prometheus-down"):
            experiment.confirm(
                f"no answer for {metric} for {GAP} s",
                answer,
                until=lambda seen: not seen.isdigit(),
                in_a_row=2 * GAP,  # there are two readings a second
                within=60,
                look_next=f"{RUNBOOK}#metrics",
            )
        experiment.wait_for_recovery(
            f"fresh samples of {metric}",
            answer,
            until=lambda seen: seen.isdigit() and int(seen) > 0,
            within=chaos.maintained.timeouts.sample_visible,
            look_next=f"{RUNBOOK}#metrics",
        )

    assert experiment.traffic.error_ratio == 0, experiment.failure(0)


@pytest.mark.fault("gateway-restarted")
def test_restart_of_the_data_plane_is_short(chaos: ChaosRunner) -> None:
    """When the load balancer's data plane restarts, users are served again at once."""
    with chaos.experiment("gateway restarted") as experiment, experiment.fault("gateway-restarted"):
        experiment.wait_for_rollout()

    assert experiment.traffic.longest_outage() <= GATEWAY_RESTART, experiment.failure(GATEWAY_RESTART)
