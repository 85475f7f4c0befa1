"""Samples by PromQL: which queries are sent, and which pods the answers cover."""

from __future__ import annotations

import httpx
import pytest

from fixtures.google.rest import GoogleApis
from fixtures.metrics.promql import PromQl, coverage, sum_by_instance
from fixtures.objects.manifest import Manifest
from fixtures.outcomes import NoVerdictError
from tests.unit.metrics.conftest import PODMONITORING, SETTINGS, pods


class Monitoring:
    """A Cloud Monitoring with a single answer; it records the queries."""

    def __init__(self, answer: dict[str, object]) -> None:
        self.answer = answer
        self.queries: list[str] = []

    def promql(self) -> PromQl:
        """A PromQL client of it, as the checks use one."""
        google = GoogleApis(lambda: "token", timeout=1, transport=httpx.MockTransport(self._respond))
        return PromQl(google, SETTINGS, Manifest(PODMONITORING))

    def _respond(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/projects/p/location/global/prometheus/api/v1/query"
        self.queries.append(request.url.params["query"])
        return httpx.Response(200, json=self.answer)


def vector(**values: str) -> dict[str, object]:
    """A PromQL answer with one value for each pod."""
    result = [
        {"metric": {"instance": f"{pod}:metrics"}, "value": [1795521100.5, value]} for pod, value in values.items()
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def test_samples_are_asked_for_by_window_and_instance() -> None:
    """Queries name the metric exactly and select location, cluster, namespace and job."""
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
    """An answer that is no vector says nothing about the pods."""
    with pytest.raises(NoVerdictError) as failed:
        Monitoring(answer).promql().up(20)
    first, second, third = str(failed.value).splitlines()
    assert first.startswith("expected: a vector as the answer to min by (instance)")
    assert (second, third) == (f"seen: {seen}", "look next: Metrics Explorer, PromQL")


def test_missing_metric_is_named_with_its_pods() -> None:
    """A metric is missing for a pod if none of its ports has a value above 0."""
    found = {
        "requests": {"a:metrics": 2.0, "b:metrics": 0.0},
        "entities": {},
        "loop": {"a:metrics": 1.0, "b:9464": 3.0},
    }

    covered = coverage(found, pods("a", "b"), ["metrics", "9464"])

    assert not covered.complete
    assert str(covered) == "no requests of b; no entities of a, b"


def test_coverage_is_complete_only_of_pods() -> None:
    """Without pods the coverage is not complete."""
    assert coverage({"m": {"a:metrics": 1.0}}, pods("a"), ["metrics"]).complete
    nobody = coverage({"m": {}}, [], ["metrics"])
    assert not nobody.complete
    assert str(nobody) == "no Ready pod"
    assert str(coverage({}, pods("a"), ["metrics"])) == "all there"


def test_numbers_of_several_metrics_are_added() -> None:
    """The values of several metrics are added by instance."""
    assert sum_by_instance([{"a": 1.0, "b": 0.0}, {"a": 2.0}]) == {"a": 3.0, "b": 0.0}
