"""The database and the way to it: what depends on it stops for as long as it must, and nothing else does."""

from __future__ import annotations

import pytest

from fixtures.chaos import Chaos, Experiment
from fixtures.outcomes import said

pytestmark = pytest.mark.needs("disrupt", "load")

RESTARTED = 45.0
"""Seconds without the catalog. Cloud SQL's restart itself takes about as long as PostgreSQL's; a guess."""
FAILED_OVER = 90.0
"""Seconds without the catalog. Google: about 60 s for a regional instance; and one refresh of the proxy."""
NOT_READY_FOR = 40
"""Seconds that a new pod is watched not to become Ready; with all in order it takes about 20."""
GRACE = 120.0
"""Seconds for a deleted pod to be gone and its replacement there."""


@pytest.mark.fault("database-restarted")
def test_restart_of_the_database_costs_users_the_catalog_and_no_more(chaos: Chaos) -> None:
    """While the database restarts the catalog is away for a moment; the portal itself is served throughout."""
    with chaos.experiment("database restarted") as experiment, experiment.fault("database-restarted"):
        catalog_is_back(experiment)

    assert_only_the_catalog_was_away(experiment, RESTARTED)


@pytest.mark.fault("database-failed-over")
def test_failover_of_the_database_costs_users_the_catalog_and_no_more(chaos: Chaos) -> None:
    """While the database moves to its standby the catalog is away for a while; then the proxy finds the new one."""
    with chaos.experiment("database failed over") as experiment, experiment.fault("database-failed-over"):
        catalog_is_back(experiment)

    assert_only_the_catalog_was_away(experiment, FAILED_OVER)


@pytest.mark.fault("admin-api")
@pytest.mark.parametrize("how", ["403", "down"])
def test_running_pods_survive_without_the_admin_api(chaos: Chaos, how: str) -> None:
    """Without Cloud SQL's Admin API users are served as before, though no new pod can reach the database."""
    with chaos.experiment(f"admin api {how}") as experiment:
        before = experiment.ready_pods()
        with experiment.fault("admin-api", how):
            experiment.inject(f"{before[0].name} deleted", lambda: delete(chaos, before[0].name))
            experiment.proved(
                f"the replacement of {before[0].name} not to become Ready for {NOT_READY_FOR} s",
                lambda: [pod for pod in experiment.pods() if pod.uid not in {each.uid for each in before}],
                until=lambda new: bool(new) and not any(pod.ready for pod in new),
                in_a_row=2 * NOT_READY_FOR,
                within=GRACE + NOT_READY_FOR,
                look_next=experiment.look_at_pods,
            )
        experiment.recovered_pods(before[:1], len(before))

    assert experiment.traffic.error_ratio == 0, experiment.cost(0)


def delete(chaos: Chaos, pod: str) -> None:
    """As a rollout ends it: with its grace."""
    namespace = chaos.maintained.deployment.namespace
    chaos.api.send("DELETE", f"/api/v1/namespaces/{namespace}/pods/{pod}")


def catalog_is_back(experiment: Experiment) -> None:
    """Wait until requests that need the database failed, and are good again."""
    experiment.proved(
        "requests to the catalog to fail",
        lambda: [row for row in experiment.traffic.rows if row.kind == "database" and row.failed],
        until=bool,
        within=60,
        look_next=experiment.traffic.look_next,
    )
    experiment.recovered(
        "ten requests to the catalog to be good, one after the other",
        lambda: [row for row in experiment.traffic.rows if row.kind == "database"][-10:],
        until=lambda rows: not any(row.failed for row in rows),
        within=FAILED_OVER * 2,
        look_next=experiment.traffic.look_next,
    )


def assert_only_the_catalog_was_away(experiment: Experiment, at_most: float) -> None:
    """The catalog for so long, the rest never."""
    traffic = experiment.traffic
    others = [row for row in traffic.rows if row.kind != "database" and row.failed]
    assert traffic.longest_outage("database") <= at_most, experiment.cost(at_most)
    assert not others, said(
        "no other request than those to the catalog to fail", f"{len(others)}: {others[0]}", traffic.look_next
    )
