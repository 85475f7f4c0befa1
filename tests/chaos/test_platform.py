"""What Google runs around the portal: users feel little or nothing when it is away."""

from __future__ import annotations

import pytest

from fixtures.api.live import Objects
from fixtures.disruption.experiment import Chaos
from fixtures.environment.model import Environment
from fixtures.google.rest import GoogleApis
from fixtures.metrics.promql import PromQl
from fixtures.outcomes import RUNBOOK, NoVerdictError
from fixtures.secrets.mounted import Versions, mounted_classes, outdated, read_statuses, read_versions

pytestmark = pytest.mark.needs("disrupt", "load")

GATEWAY_RESTART = 10.0
"""Seconds that the data plane's restart may cost; Google's own never restarts as a whole. A guess."""

GAP = 20
"""Seconds without metrics: two scrape intervals in the lab."""
FRESH = 60.0
"""Seconds that a sample may be old."""


@pytest.mark.parametrize(
    ("fault", "target"),
    [
        pytest.param("metadata", "down", marks=pytest.mark.fault("metadata")),
        pytest.param("secret-provider", "down", marks=pytest.mark.fault("secret-provider")),
    ],
)
def test_running_pods_survive_what_only_a_start_needs(chaos: Chaos, fault: str, target: str) -> None:
    """Without identities or secrets no new pod starts, and users are served by those that run."""
    with chaos.experiment(f"{fault} down") as experiment:
        enough = len(experiment.ready_pods())
        with experiment.fault(fault, target):
            gone = experiment.proved_that_no_pod_starts()
        experiment.recovered_pods(gone, enough)

    assert experiment.traffic.error_ratio == 0, experiment.cost(0)


@pytest.mark.fault("secret-rotated")
def test_rotated_secret_reaches_running_pods(chaos: Chaos, environment: Environment, google: GoogleApis) -> None:
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
            experiment.proved(
                f"a new version of {secret}",
                latest,
                until=lambda now: now != before,
                within=30,
                look_next="Secret Manager",
            )
        experiment.recovered(
            f"the latest version of {secret} in every pod",
            behind,
            until=lambda left: not left,
            within=chaos.maintained.timeouts.secret_mounted,
            look_next="kubectl get secretproviderclasspodstatuses -o yaml",
        )

    assert experiment.traffic.error_ratio == 0, experiment.cost(0)


@pytest.mark.fault("prometheus-down")
def test_users_feel_nothing_of_the_metrics_pipeline(chaos: Chaos, environment: Environment, google: GoogleApis) -> None:
    """While metrics are away users are served as before, and the gap is there to be seen for whoever is on call."""
    promql = PromQl(google, environment.google, chaos.maintained.reference.the("PodMonitoring"))
    metric = environment.metrics.expected[0]

    def answer() -> str:
        try:
            return str(len(promql.fresh(metric, FRESH)))
        except NoVerdictError as error:
            return str(error)

    with chaos.experiment("metrics pipeline down") as experiment:
        with experiment.fault("prometheus-down"):
            experiment.proved(
                f"no answer for {metric} for {GAP} s",
                answer,
                until=lambda seen: not seen.isdigit(),
                in_a_row=2 * GAP,
                within=60,
                look_next=f"{RUNBOOK}#metrics",
            )
        experiment.recovered(
            f"fresh samples of {metric}",
            answer,
            until=lambda seen: seen.isdigit() and int(seen) > 0,
            within=chaos.maintained.timeouts.sample_visible,
            look_next=f"{RUNBOOK}#metrics",
        )

    assert experiment.traffic.error_ratio == 0, experiment.cost(0)


@pytest.mark.fault("gateway-restarted")
def test_restart_of_the_data_plane_is_short(chaos: Chaos) -> None:
    """When the load balancer's data plane restarts, users are served again at once."""
    with chaos.experiment("gateway restarted") as experiment, experiment.fault("gateway-restarted"):
        experiment.recovered_rollout()

    assert experiment.traffic.longest_outage() <= GATEWAY_RESTART, experiment.cost(GATEWAY_RESTART)
