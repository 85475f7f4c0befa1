"""What is read of a PodMonitoring and of PromQL's answers, on what the lab's operator and Prometheus said."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fixtures.api.pods import Pod
from fixtures.environment.tables import GoogleTable
from fixtures.google.rest import GoogleApis
from fixtures.metrics.podmonitoring import (
    by_status,
    by_up,
    ports,
    scrape_interval,
    seconds_of,
    status_of,
    target_status_enabled,
)
from fixtures.metrics.promql import PromQl, coverage, sum_by_instance
from fixtures.objects.manifest import Field, Manifest
from fixtures.outcomes import NoVerdictError
from fixtures.waiting import DeadlinePassedError, wait_for
from tests.unit.patched import ABSENT, RECORDED, patched

PODMONITORING: dict[str, Any] = json.loads((RECORDED / "metrics" / "podmonitoring.json").read_text())
UPDATED = datetime(2026, 11, 24, 11, 52, 0, tzinfo=UTC)
ENDPOINT = "/status/endpointStatuses/0"
SETTINGS = GoogleTable(project="p", location="us-east4", cluster="lab", monitoring="https://monitoring.test")


def scraping_with(pointer: str, value: object) -> Field:
    """The PodMonitoring with one field changed."""
    return Field(patched(PODMONITORING, pointer, value))


def pods(*names: str) -> list[Pod]:
    """Pods of these names."""
    return [Pod(Field({"metadata": {"name": name}})) for name in names]


def test_podmonitoring_of_the_lab_is_configured_and_scrapes() -> None:
    """Read from its status, which is fresh for a minute and a half."""
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
    """Another generation, a refusal, or nothing yet."""
    scraping = status_of(scraping_with(pointer, value))

    assert not scraping.configured
    assert seen in str(scraping)


def test_absent_podmonitoring_is_not_configured() -> None:
    """As one without a status."""
    scraping = status_of(Field(None))

    assert not scraping.configured
    assert str(scraping) == "no status"


def test_failed_wait_for_targets_names_what_fails() -> None:
    """The text with which the check fails while a target refuses to answer."""
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
    """And as many endpoints as the PodMonitoring has, all asked of all collectors."""
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
    """Managed Prometheus leaves out what is 0: the number, or the whole endpoint, which is not left behind."""
    nothing = status_of(scraping_with(pointer, value))

    assert str(by_status(nothing, 2, 1)) == f"0 of 2 Ready pods scraped, by the status of the PodMonitoring{more}"
    assert nothing.stale(UPDATED + timedelta(hours=1)) is not (value == [])


def test_up_decides_where_the_status_does_not() -> None:
    """One number per pod and port; those of pods that are gone do not count."""
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
    """Off where nobody has switched it on."""
    assert target_status_enabled(config) is enabled


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("1m", 60), ("1m30s", 90), ("1500ms", 1.5), ("2h", 7200), ("", 60), ("soon", 60)]
)
def test_durations_are_read_as_the_crd_has_them(text: str, seconds: float) -> None:
    """What is no duration counts as the default."""
    assert seconds_of(text) == seconds


def test_ports_and_interval_are_those_of_the_endpoints() -> None:
    """A number is named as a number, and the slowest endpoint counts."""
    endpoint = {"port": 9464, "interval": "30s"}
    both = Manifest(patched(PODMONITORING, "/spec/endpoints/-", endpoint))

    assert ports(both) == ("metrics", "9464")
    assert scrape_interval(both) == 30
    assert scrape_interval(Manifest({})) == 60


class Monitoring:
    """Cloud Monitoring that always gives one answer, and remembers what it was asked."""

    def __init__(self, answer: dict[str, object]) -> None:
        self.answer = answer
        self.queries: list[str] = []

    def promql(self) -> PromQl:
        """As the checks ask it."""
        google = GoogleApis(lambda: "token", timeout=1, transport=httpx.MockTransport(self._respond))
        return PromQl(google, SETTINGS, Manifest(PODMONITORING))

    def _respond(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/projects/p/location/global/prometheus/api/v1/query"
        self.queries.append(request.url.params["query"])
        return httpx.Response(200, json=self.answer)


def vector(**values: str) -> dict[str, object]:
    """An answer of Prometheus, by pod."""
    result = [
        {"metric": {"instance": f"{pod}:metrics"}, "value": [1795521100.5, value]} for pod, value in values.items()
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def test_samples_are_asked_for_by_window_and_instance() -> None:
    """In the words that Cloud Monitoring takes: an exact name, and where the samples come from."""
    monitoring = Monitoring(vector(a="2", b="1"))
    promql = monitoring.promql()

    assert promql.fresh("m", 20) == promql.changes("m", 40) == promql.up(20) == {"a:metrics": 2, "b:metrics": 1}
    labels = 'location="us-east4",cluster="lab",namespace="backstage",job="backstage"'
    assert monitoring.queries == [
        f'sum by (instance) (count_over_time({{__name__="m",{labels}}}[20s]))',
        f'sum by (instance) (changes({{__name__="m",{labels}}}[40s]))',
        f'min by (instance) (last_over_time({{__name__="up",{labels}}}[20s]))',
    ]


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ({"status": "error", "error": "PromQL metric(s) are invalid"}, "PromQL metric(s) are invalid"),
        ({"status": "success", "data": {"resultType": "scalar"}}, "success scalar"),
        ({}, "something else"),
    ],
)
def test_answer_that_is_no_vector_leaves_no_verdict(answer: dict[str, object], seen: str) -> None:
    """The pods cannot be blamed for it."""
    with pytest.raises(NoVerdictError) as failed:
        Monitoring(answer).promql().up(20)
    first, second, third = str(failed.value).splitlines()
    assert first.startswith("expected: a vector as the answer to min by (instance)")
    assert (second, third) == (f"seen: {seen}", "look next: Metrics Explorer, PromQL")


def test_missing_metric_is_named_with_its_pods() -> None:
    """Nothing on any of a pod's ports, or 0."""
    found = {
        "requests": {"a:metrics": 2.0, "b:metrics": 0.0},
        "entities": {},
        "loop": {"a:metrics": 1.0, "b:9464": 3.0},
    }

    covered = coverage(found, pods("a", "b"), ["metrics", "9464"])

    assert not covered.complete
    assert str(covered) == "no requests of b; no entities of a, b"


def test_coverage_is_complete_only_of_pods() -> None:
    """Of no pods nothing is shown."""
    assert coverage({"m": {"a:metrics": 1.0}}, pods("a"), ["metrics"]).complete
    nobody = coverage({"m": {}}, [], ["metrics"])
    assert not nobody.complete
    assert str(nobody) == "no Ready pod"
    assert str(coverage({}, pods("a"), ["metrics"])) == "all there"


def test_numbers_of_several_metrics_are_added() -> None:
    """By instance."""
    assert sum_by_instance([{"a": 1.0, "b": 0.0}, {"a": 2.0}]) == {"a": 3.0, "b": 0.0}
