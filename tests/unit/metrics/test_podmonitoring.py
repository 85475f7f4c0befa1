"""What is read from a PodMonitoring, on the status that the lab's operator wrote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fixtures.metrics.podmonitoring import (
    by_status,
    by_up,
    ports,
    scrape_interval,
    seconds_of,
    status_of,
    target_status_enabled,
)
from fixtures.objects.manifest import Field, Manifest
from fixtures.waiting import DeadlinePassedError, wait_for
from tests.unit.metrics.conftest import PODMONITORING, pods
from tests.unit.patched import ABSENT, patched

UPDATED = datetime(2026, 11, 24, 11, 52, 0, tzinfo=UTC)
ENDPOINT = "/status/endpointStatuses/0"


def scraping_with(pointer: str, value: object) -> Field:
    """The PodMonitoring with one field changed."""
    return Field(patched(PODMONITORING, pointer, value))


def test_podmonitoring_of_the_lab_is_configured_and_scrapes() -> None:
    """The lab's status shows two targets up, and is fresh for 90 s."""
    scraping = status_of(Field(PODMONITORING))

    assert scraping.configured
    assert (
        str(scraping) == "ConfigurationCreateSuccess=True; PodMonitoring/backstage/backstage/metrics: 2 of 2 targets up"
    )
    assert not scraping.stale(UPDATED + timedelta(seconds=90))
    assert scraping.stale(UPDATED + timedelta(seconds=91))


@pytest.mark.parametrize(
    ("pointer", "value", "seen"),
    [
        ("/status/observedGeneration", 0, "of an earlier generation"),
        ("/status/conditions/0/status", "False", "ConfigurationCreateSuccess=False"),
        ("/status", ABSENT, "no status"),
    ],
)
def test_podmonitoring_that_is_not_configured_says_why(pointer: str, value: object, seen: str) -> None:
    """A stale generation, a failed configuration and a missing status are each reported."""
    scraping = status_of(scraping_with(pointer, value))

    assert not scraping.configured
    assert seen in str(scraping)


def test_absent_podmonitoring_is_not_configured() -> None:
    """An absent PodMonitoring is reported like one without a status."""
    scraping = status_of(Field(None))

    assert not scraping.configured
    assert str(scraping) == "no status"


def test_failed_wait_for_targets_names_what_fails() -> None:
    """The wait that times out shows the last error of the failing target."""
    refused = {"labels": {}, "health": "down", "lastError": "connection refused"}
    status = scraping_with(f"{ENDPOINT}/sampleGroups/0/sampleTargets/0", refused)
    down = status_of(Field(patched(status.mapping, f"{ENDPOINT}/unhealthyTargets", 1)))

    with pytest.raises(DeadlinePassedError) as failed:
        wait_for(
            "each Ready pod of PodMonitoring backstage/backstage to be scraped without error",
            lambda: by_status(down, 2, 1),
            until=lambda seen: seen.all_up,
            within=0.001,
            look_next="kubectl -n backstage get podmonitoring backstage -o yaml",
            every=0.001,
        )
    assert str(failed.value) == (
        "expected: each Ready pod of PodMonitoring backstage/backstage to be scraped without error within 0.001 s\n"
        "seen: 1 of 2 Ready pods scraped, by the status of the PodMonitoring; "
        "PodMonitoring/backstage/backstage/metrics: 1 of 2 targets up; connection refused\n"
        "look next: kubectl -n backstage get podmonitoring backstage -o yaml"
    )


def test_all_targets_are_up_when_they_are_as_many_as_ready_pods() -> None:
    """Every Ready pod and every endpoint must be scraped, and every collector must have reported."""
    scraping = status_of(Field(PODMONITORING))

    assert by_status(scraping, 2, 1).all_up
    assert not by_status(scraping, 3, 1).all_up
    assert not by_status(scraping, 0, 1).all_up
    assert str(by_status(scraping, 2, 2)).endswith("; 1 endpoints scraped of 2")
    partly = status_of(scraping_with(f"{ENDPOINT}/collectorsFraction", "0.5"))
    assert str(by_status(partly, 2, 1)).endswith("2 of 2 targets up, 0.5 of the collectors asked")


@pytest.mark.parametrize(
    ("pointer", "value", "more"),
    [(f"{ENDPOINT}/activeTargets", ABSENT, ""), ("/status/endpointStatuses", [], "; 0 endpoints scraped of 1")],
)
def test_quoted_port_scrapes_nothing(pointer: str, value: object, more: str) -> None:
    """Managed Prometheus leaves out zeros or the whole endpoint; a status without endpoints is not stale."""
    nothing = status_of(scraping_with(pointer, value))

    assert str(by_status(nothing, 2, 1)) == f"0 of 2 Ready pods scraped, by the status of the PodMonitoring{more}"
    assert nothing.stale(UPDATED + timedelta(hours=1)) is not (value == [])


def test_up_decides_where_the_status_does_not() -> None:
    """There is one value per pod and port, and those of deleted pods do not count."""
    values = {"a:metrics": 1.0, "b:metrics": 0.0, "gone:metrics": 0.0}

    assert str(by_up(values, pods("a", "b"), ["metrics"])) == (
        "1 of 2 Ready pods scraped, by the metric `up`; b:metrics is down"
    )
    assert by_up(values, pods("a"), ["metrics"]).all_up
    assert not by_up(values, pods("a", "c"), ["metrics"]).all_up
    assert not by_up(values, [], ["metrics"]).all_up
    assert not by_up(values, pods("a"), []).all_up


@pytest.mark.parametrize(
    ("config", "enabled"),
    [(None, False), ({"features": {}}, False), ({"features": {"targetStatus": {"enabled": True}}}, True)],
)
def test_target_status_is_a_feature(config: dict[str, object] | None, *, enabled: bool) -> None:
    """The target status is off unless the OperatorConfig enables it."""
    assert target_status_enabled(config) is enabled


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("1m", 60), ("1m30s", 90), ("1500ms", 1.5), ("2h", 7200), ("", 60), ("soon", 60)]
)
def test_durations_are_read_as_the_crd_has_them(text: str, seconds: float) -> None:
    """Text that is no duration counts as the default of 60 s."""
    assert seconds_of(text) == seconds


def test_ports_and_interval_are_those_of_the_endpoints() -> None:
    """A numeric port is shown as a number, and the slowest endpoint's interval counts."""
    endpoint = {"port": 9464, "interval": "30s"}
    both = Manifest(patched(PODMONITORING, "/spec/endpoints/-", endpoint))

    assert ports(both) == ("metrics", "9464")
    assert scrape_interval(both) == 30
    assert scrape_interval(Manifest({})) == 60
