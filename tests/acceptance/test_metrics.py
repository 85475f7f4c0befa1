"""Promise metrics: the people who operate the portal see how each of its pods is doing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from fixtures.api.client import GuardedClient
from fixtures.api.live import Objects
from fixtures.api.pods import Pod, serving_pods
from fixtures.environment.environment import Environment
from fixtures.environment.timeouts import Timeouts
from fixtures.google.rest import GoogleApis
from fixtures.metrics.podmonitoring import (
    OPERATOR_CONFIG,
    ScrapedPods,
    by_status,
    by_up,
    ports,
    scrape_interval,
    status_of,
    target_status_enabled,
)
from fixtures.metrics.promql import PromQl, coverage, sum_by_instance
from fixtures.objects.manifest import Field, Manifest
from fixtures.reference.reference import Reference
from fixtures.report.check import Check
from fixtures.waiting import wait_for

MOVED = "value that changed"


@pytest.fixture
def podmonitoring(deployed: Reference) -> Manifest:
    """The reference's PodMonitoring: which pods are scraped, and how."""
    return deployed.the("PodMonitoring")


@pytest.fixture
def promql(google: GoogleApis, environment: Environment, podmonitoring: Manifest) -> PromQl:
    """Queries Cloud Monitoring for samples of Backstage's pods."""
    return PromQl(google, environment.google, podmonitoring)


@pytest.fixture
def read_ready(deployed: Reference, client: GuardedClient) -> Callable[[], tuple[Pod, ...]]:
    """Reads the Ready pods, anew at each call, as pods may be replaced during a wait."""
    return lambda: serving_pods(deployed.the("Deployment"), client)


@pytest.fixture
def read_targets(
    objects: Objects, podmonitoring: Manifest, promql: PromQl, read_ready: Callable[[], tuple[Pod, ...]]
) -> Callable[[], ScrapedPods]:
    """Reads how many Ready pods are scraped: from the PodMonitoring's status while it is current, else from `up`."""
    kept_up = target_status_enabled(objects.get(OPERATOR_CONFIG))

    def read() -> ScrapedPods:
        scraping = status_of(Field(objects.get(podmonitoring.body)))
        if kept_up and not scraping.stale(datetime.now(UTC)):
            return by_status(scraping, len(read_ready()), len(ports(podmonitoring)))
        return by_up(promql.up(2 * scrape_interval(podmonitoring)), read_ready(), ports(podmonitoring))

    return read


def look_at(podmonitoring: Manifest) -> str:
    """The command with which an investigation starts."""
    return f"kubectl -n {podmonitoring.namespace} get podmonitoring {podmonitoring.name} -o yaml"


def test_monitoring_is_configured(objects: Objects, podmonitoring: Manifest, deadlines: Timeouts) -> None:
    """Monitoring has accepted what it should collect."""
    wait_for(
        f"{podmonitoring} to be ConfigurationCreateSuccess at its generation",
        lambda: status_of(Field(objects.get(podmonitoring.body))),
        until=lambda scraping: scraping.configured,
        within=deadlines.scrape_status,
        look_next=look_at(podmonitoring),
    )


def test_every_ready_pod_is_scraped(
    read_targets: Callable[[], ScrapedPods], podmonitoring: Manifest, deadlines: Timeouts, check: Check
) -> None:
    """Monitoring reaches every pod that serves users."""
    targets = wait_for(
        f"each Ready pod of {podmonitoring} to be scraped without error",
        read_targets,
        until=lambda seen: seen.all_up,
        within=deadlines.scrape_status,
        every=2,
        look_next=f"{look_at(podmonitoring)}; kubectl -n gmp-system logs ds/collector -c prometheus",
    )

    check.decided_by(targets.source)
    check.measured("targets up", targets.up, "")


def test_every_metric_has_a_fresh_sample_of_every_pod(
    promql: PromQl,
    environment: Environment,
    read_ready: Callable[[], tuple[Pod, ...]],
    deadlines: Timeouts,
    check: Check,
) -> None:
    """Current requests, catalog and load of every pod are visible."""
    expected, window = environment.metrics.expected, 2 * scrape_interval(promql.podmonitoring)

    covered = wait_for(
        f"a sample of each Ready pod and expected metric, not older than two scrapes ({window:g} s)",
        lambda: coverage(
            {metric: promql.fresh(metric, window) for metric in expected}, read_ready(), ports(promql.podmonitoring)
        ),
        until=lambda seen: seen.complete,
        within=deadlines.sample_visible,
        every=2,
        look_next=f"{look_at(promql.podmonitoring)}; /metrics of a pod by kubectl port-forward",
    )

    check.decided_by("samples in Cloud Monitoring")
    check.measured("pods", covered.pods, "")


def test_values_move_from_scrape_to_scrape(
    promql: PromQl,
    environment: Environment,
    read_ready: Callable[[], tuple[Pod, ...]],
    deadlines: Timeouts,
    check: Check,
) -> None:
    """The values of every pod are measured again and again, not repeated."""
    expected, window = environment.metrics.expected, 4 * scrape_interval(promql.podmonitoring)

    covered = wait_for(
        f"some value of each Ready pod to change within four scrapes ({window:g} s)",
        lambda: coverage(
            {MOVED: sum_by_instance(promql.changes(metric, window) for metric in expected)},
            read_ready(),
            ports(promql.podmonitoring),
        ),
        until=lambda seen: seen.complete,
        within=deadlines.sample_visible,
        every=2,
        look_next=f"{look_at(promql.podmonitoring)}; kubectl -n gmp-system logs ds/collector -c prometheus",
    )

    check.decided_by("samples in Cloud Monitoring")
    check.measured("pods", covered.pods, "")
