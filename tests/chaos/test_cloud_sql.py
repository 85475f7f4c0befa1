"""Faults of the database and of Cloud SQL's API: only what needs the database is interrupted, and not for long."""

from __future__ import annotations

import pytest

from fixtures.disruption.experiment import ChaosRunner, Experiment
from fixtures.outcomes import said

pytestmark = pytest.mark.needs("disrupt", "load")

RESTARTED = 45.0
"""Seconds without the catalog. A guess: a restart of Cloud SQL takes about as long as one of PostgreSQL."""
FAILED_OVER = 90.0
"""Seconds without the catalog: about 60 for a regional instance, as Google says, and one refresh of the proxy."""


@pytest.mark.fault("database-restarted")
def test_restart_of_the_database_costs_users_the_catalog_and_no_more(chaos: ChaosRunner) -> None:
    """While the database restarts the catalog is away for a moment; the portal itself is served throughout."""
    with chaos.experiment("database restarted") as experiment, experiment.fault("database-restarted"):
        wait_for_the_catalog(experiment)

    assert_only_the_catalog_was_away(experiment, RESTARTED)


@pytest.mark.fault("database-failed-over")
def test_failover_of_the_database_costs_users_the_catalog_and_no_more(chaos: ChaosRunner) -> None:
    """While the database moves to its standby the catalog is away for a while; then the proxy finds the new one."""
    with chaos.experiment("database failed over") as experiment, experiment.fault("database-failed-over"):
        wait_for_the_catalog(experiment)

    assert_only_the_catalog_was_away(experiment, FAILED_OVER)


@pytest.mark.fault("admin-api")
@pytest.mark.parametrize("how", ["403", "down"])
def test_running_pods_survive_without_the_admin_api(chaos: ChaosRunner, how: str) -> None:
    """Without Cloud SQL's Admin API users are served as before, though no new pod can reach the database."""
    with chaos.experiment(f"admin api {how}") as experiment:
        enough = len(experiment.ready_pods())
        with experiment.fault("admin-api", how):
            gone = experiment.confirm_no_pod_starts()
        experiment.wait_for_replacements(gone, enough)

    assert experiment.traffic.error_ratio == 0, experiment.failure(0)


def wait_for_the_catalog(experiment: Experiment) -> None:
    """Wait until requests that need the database have failed and succeed again."""
    experiment.confirm(
        "requests to the catalog to fail",
        lambda: [row for row in experiment.traffic.rows if row.kind == "database" and row.failed],
        until=bool,
        within=60,
        look_next=experiment.traffic.look_next,
    )
    experiment.wait_for_recovery(
        "ten requests to the catalog to be good, one after the other",
        lambda: [row for row in experiment.traffic.rows if row.kind == "database"][-10:],
        until=lambda rows: not any(row.failed for row in rows),
        within=FAILED_OVER * 2,
        look_next=experiment.traffic.look_next,
    )


def assert_only_the_catalog_was_away(experiment: Experiment, at_most: float) -> None:
    """Requests to the catalog failed for at most these seconds, and no other request failed."""
    traffic = experiment.traffic
    others = [row for row in traffic.rows if row.kind != "database" and row.failed]
    assert traffic.longest_outage("database") <= at_most, experiment.failure(at_most)
    assert not others, said(
        "no other request than those to the catalog to fail", f"{len(others)}: {others[0]}", traffic.look_next
    )
