"""Whether the database works for users: what each source says, and which one decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fixtures.database import seen_by_users
from fixtures.database.seen_by_users import Evidence, by_catalog, by_operations, first_conclusive
from fixtures.environment.schema import GoogleTable, PortalTable
from fixtures.google.rest import GoogleApis
from fixtures.metrics.promql import PromQl
from fixtures.objects.manifest import Manifest
from fixtures.outcomes import NotObservableError, NoVerdictError, said
from fixtures.portal import catalog
from fixtures.portal.catalog import CatalogAnswer
from fixtures.portal.client import Portal

METRIC = "db_client_operation_duration_count"
PODMONITORING = Manifest(
    {
        "kind": "PodMonitoring",
        "metadata": {"name": "portal", "namespace": "backstage"},
        "spec": {"endpoints": [{"port": "metrics", "interval": "30s"}]},
    }
)
PORTAL = Portal(
    hostname="portal.example",
    address=None,
    ca_file=None,
    timeout=1.0,
    table=PortalTable.model_validate(
        {"hostname": "portal.example", "tls_minimum": "TLSv1.2", "certificate_days_left": 1, "auth": "none"}
    ),
)


@pytest.mark.parametrize(
    ("answer", "works"),
    [
        (CatalogAnswer(200, ("component:default/aligner",)), True),
        (CatalogAnswer(200, (), "with an empty list"), False),
        (CatalogAnswer(500, (), "Error: connect ECONNREFUSED 127.0.0.1:5432"), False),
        (CatalogAnswer(503, (), 'with "no healthy upstream"', by_backstage=False), None),
    ],
    ids=str,
)
def test_catalog_decides_if_backstage_itself_answers(
    answer: CatalogAnswer, monkeypatch: pytest.MonkeyPatch, *, works: bool | None
) -> None:
    """Only an answer of Backstage itself counts, as a load balancer knows nothing of the database."""
    monkeypatch.setattr(catalog, "query_catalog", lambda _: answer)

    assert by_catalog(PORTAL) == Evidence("a catalog query", works, str(answer))


@pytest.mark.parametrize("kind", [AssertionError, NoVerdictError])
def test_catalog_that_cannot_be_asked_decides_nothing(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """A portal that cannot be reached decides nothing here: promises portal and gateway report it."""

    def unreachable(_: Portal) -> CatalogAnswer:
        raise kind(said("entities", "ConnectError", "curl"))

    monkeypatch.setattr(catalog, "query_catalog", unreachable)

    assert by_catalog(PORTAL) == Evidence("a catalog query", None, "ConnectError")


def promql(status: int, body: dict[str, Any], queries: list[str] | None = None) -> PromQl:
    """A PromQL client of a Cloud Monitoring with one answer; the queries are appended to the list."""

    def answer(request: httpx.Request) -> httpx.Response:
        (queries if queries is not None else []).append(request.url.params["query"])
        return httpx.Response(status, json=body)

    google = GoogleApis(lambda: "token", timeout=1, transport=httpx.MockTransport(answer))
    return PromQl(google, GoogleTable(project="p", location="us-east4", cluster="c"), PODMONITORING)


def vector(**values: str) -> dict[str, Any]:
    """A PromQL answer with one value for each instance."""
    result = [{"metric": {"instance": name}, "value": [1700000000.0, value]} for name, value in values.items()]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@pytest.mark.parametrize(
    ("body", "evidence"),
    [
        (
            vector(one="12.5", two="0"),
            Evidence(f"increase of {METRIC}", works=True, seen="12 successful operations in 150 s"),
        ),
        (
            vector(one="0", two="0"),
            Evidence(f"increase of {METRIC}", works=False, seen="0 successful operations in 150 s"),
        ),
        (vector(), Evidence(f"increase of {METRIC}", None, "no sample in 150 s")),
    ],
    ids=["some", "none", "no sample"],
)
def test_operations_decide_if_there_are_samples(body: dict[str, Any], evidence: Evidence) -> None:
    """No successful operation means that the database does not work; no sample decides nothing."""
    assert by_operations(promql(200, body), METRIC) == evidence


def test_operations_are_the_fresh_and_successful_ones_of_this_deployment() -> None:
    """Failed operations are excluded by their label error_type."""
    queries: list[str] = []
    by_operations(promql(200, vector(), queries), METRIC)

    [query] = queries
    assert query == (
        f'sum by (instance) (increase({{__name__="{METRIC}",location="us-east4",cluster="c",namespace="backstage",'
        'job="portal",error_type=""}[150s]))'
    )


def test_monitoring_that_cannot_be_asked_decides_nothing() -> None:
    """A refusal of Cloud Monitoring decides nothing."""
    refused = promql(403, {"error": {"message": "Permission denied"}})

    assert by_operations(refused, METRIC) == Evidence(f"increase of {METRIC}", None, "403 Permission denied")


def test_first_source_that_can_tell_decides() -> None:
    """The first source with an answer decides, and the sources after it are not asked."""

    def sources() -> Iterator[Evidence]:
        yield Evidence("a catalog query", None, "401 Unauthorized")
        yield Evidence("operations", works=False, seen="0 in 150 s")
        pytest.fail("asked although it was decided")

    assert str(first_conclusive(sources(), "docs")) == "operations: 0 in 150 s"


def test_nothing_that_can_tell_is_not_observable() -> None:
    """If no source decides, the outcome is not observable, and each source's reason is shown."""
    sources = [
        Evidence("a catalog query", None, "401 Unauthorized"),
        Evidence("operations", None, "no sample in 150 s"),
    ]

    with pytest.raises(NotObservableError) as failed:
        first_conclusive(iter(sources), "[portal] auth")

    assert str(failed.value) == (
        "expected: a source that shows the database at work\n"
        "seen: a catalog query: 401 Unauthorized; operations: no sample in 150 s\n"
        "look next: [portal] auth"
    )


def test_error_without_the_three_lines_is_told_whole() -> None:
    """An error that is not in three lines is shown as a whole."""
    assert seen_by_users._seen_line(ValueError("odd")) == "odd"  # noqa: SLF001
