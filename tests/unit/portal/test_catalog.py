"""How responses of the catalog API are parsed and judged, and what a query without a response means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fixtures.environment.schema import PortalTable
from fixtures.outcomes import NoVerdictError
from fixtures.portal import catalog
from fixtures.portal.catalog import CatalogAnswer, conclusive, parse_answer
from fixtures.portal.client import Portal

ENTITIES = [
    {"kind": "Component", "metadata": {"name": "aligner", "namespace": "default"}},
    {"kind": "Group", "metadata": {"name": "Pipelines"}},
]
STOPPED = {
    "error": {"name": "Error", "message": "connect ECONNREFUSED\n127.0.0.1:5432", "code": "ECONNREFUSED"},
    "request": {"method": "GET", "url": "/entities?limit=20"},
    "response": {"statusCode": 500},
}
"""What Backstage 1.55 answers while PostgreSQL is stopped."""
BACKEND_DOWN = "no healthy upstream"

Handler = Callable[[httpx.Request], httpx.Response]


def parsed(status: int, **content: Any) -> CatalogAnswer:  # noqa: ANN401 - as httpx has it
    """The parsed answer for one response."""
    return parse_answer(response_of(lambda _: httpx.Response(status, **content)))


def response_of(handler: Handler) -> httpx.Response:
    """The response of a handler, as an httpx client receives it."""
    with httpx.Client(transport=httpx.MockTransport(handler)) as http:
        return http.get("https://portal.example/api/catalog/entities")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (parsed(200, json=ENTITIES), "200 with 2 entities, component:default/aligner first"),
        (parsed(200, json=[]), "200 with an empty list"),
        (parsed(200, text=""), "200 with an empty body"),
        (parsed(200, text="<!DOCTYPE html>\n<html>"), '200 with "<!DOCTYPE html> <html>"'),
        pytest.param(parsed(200, json={"items": []}), "200 with an empty list", id="no items"),
        (parsed(500, json=STOPPED), "500 Error: connect ECONNREFUSED 127.0.0.1:5432"),
        (parsed(503, text=BACKEND_DOWN), '503 with "no healthy upstream"'),
        (parsed(502, json={"code": 502}), '502 with "{"code":502}"'),
        (parsed(302, headers={"Location": "https://elsewhere.example/"}), "302 Found to https://elsewhere.example/"),
    ],
    ids=str,
)
def test_answer_tells_itself_in_few_words(answer: CatalogAnswer, text: str) -> None:
    """The text is the one that failure messages quote."""
    assert str(answer) == text


def test_answer_names_entities_as_the_catalog_does() -> None:
    """References are lower-case kind, namespace and name, with the default namespace filled in."""
    assert parsed(200, json=ENTITIES).entities == ("component:default/aligner", "group:default/pipelines")


def test_answer_tells_backstage_from_the_load_balancer() -> None:
    """Only Backstage's own errors have its JSON form."""
    assert parsed(500, json=STOPPED).by_backstage
    assert not parsed(503, text=BACKEND_DOWN).by_backstage
    assert not parsed(502, json={"code": 502}).by_backstage


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (parsed(200, json=ENTITIES), True),
        (parsed(500, json=STOPPED), True),
        (parsed(200, json=[]), False),
        (parsed(503, text=BACKEND_DOWN), False),
        (parsed(404, text="default backend - 404"), False),
        (CatalogAnswer(0, problem="ConnectError", by_backstage=False), False),
    ],
    ids=str,
)
def test_only_backstage_itself_ends_the_wait_for_a_new_route(answer: CatalogAnswer, *, expected: bool) -> None:
    """An empty catalog or a load balancer that does not know the route yet may still change, so the wait goes on."""
    assert conclusive(answer) is expected


def test_summary_counts_the_answers_without_entities() -> None:
    """The summary shows that one replica of two fails."""
    good, bad = parsed(200, json=ENTITIES), parsed(500, json=STOPPED)

    assert catalog.summary([good, bad, good]) == "1 of 3 without: 500 Error: connect ECONNREFUSED 127.0.0.1:5432"
    assert catalog.summary([good, good]) == "2 good ones"


class FakePortal(Portal):
    """A portal whose requests are answered by a function."""

    def __init__(self, handler: Handler, **settings: str) -> None:
        common = {"hostname": "portal.example", "tls_minimum": "TLSv1.2", "certificate_days_left": 1, "auth": "none"}
        super().__init__("portal.example", None, None, 1.0, PortalTable.model_validate(common | settings))
        # Portal is a frozen dataclass.
        object.__setattr__(self, "handler", handler)

    def anonymous(self, **options: Any) -> httpx.Client:  # noqa: ANN401 - as httpx has it
        """A client whose transport is that function."""
        transport = httpx.MockTransport(self.handler)  # type: ignore[attr-defined]
        return httpx.Client(**{"base_url": self.url(""), "transport": transport, **options})


def refuse(_request: httpx.Request) -> httpx.Response:
    """Fail as a closed port does."""
    raise httpx.ConnectError("[Errno 111] Connection refused")


def test_query_is_limited() -> None:
    """Without a limit, Backstage answers 200 with an empty body while the database is gone."""
    urls: list[str] = []

    def entities(request: httpx.Request) -> httpx.Response:
        urls.append(str(request.url))
        return httpx.Response(200, json=ENTITIES)

    assert catalog.query_catalog(FakePortal(entities)).entities
    assert urls == [
        "https://portal.example/api/catalog/entities?limit=20&fields=kind%2Cmetadata.name%2Cmetadata.namespace"
    ]


def test_query_without_an_answer_is_a_broken_promise() -> None:
    """A refused connection breaks the promise that users can reach the portal."""
    with pytest.raises(AssertionError) as failed:
        catalog.query_catalog(FakePortal(refuse))

    assert str(failed.value) == (
        "expected: entities from https://portal.example/api/catalog/entities\n"
        "seen: ConnectError: [Errno 111] Connection refused\n"
        "look next: curl -v https://portal.example/"
    )


def test_query_again_takes_no_answer_for_an_answer() -> None:
    """While a portal starts, a refused connection is an expected reading rather than a failure."""
    answer = catalog.poll_catalog(FakePortal(refuse))

    assert str(answer) == "ConnectError: [Errno 111] Connection refused"
    assert not conclusive(answer)


@pytest.mark.parametrize(("status", "expected"), [(500, True), (403, True), (404, False), (503, False)])
def test_sign_in_that_backstage_refuses_ends_the_wait(status: int, *, expected: bool) -> None:
    """A refusal by Backstage does not go away by waiting; a route that is missing so far may still appear."""
    answer = catalog.poll_catalog(FakePortal(lambda _: httpx.Response(status), auth="guest"))

    assert str(answer) == f"{status} from guest sign-in"
    assert conclusive(answer) is expected


def test_refused_token_of_the_suite_is_no_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired token says nothing about the portal."""
    monkeypatch.setenv("PORTAL_TOKEN", "out-of-date")
    portal = FakePortal(lambda _: httpx.Response(401), auth="bearer", token_variable="PORTAL_TOKEN")  # noqa: S106

    with pytest.raises(NoVerdictError) as failed:
        catalog.query_catalog(portal)

    assert str(failed.value) == (
        "expected: entities from https://portal.example/api/catalog/entities\n"
        "seen: 401 Unauthorized, signed in by bearer\n"
        "look next: [portal] auth of the environment, docs/permissions.md"
    )


def test_refused_visitor_is_a_broken_promise() -> None:
    """Where the environment declares no sign-in, a 401 is a broken promise."""
    answer = catalog.query_catalog(FakePortal(lambda _: httpx.Response(401, text="Missing credentials")))

    assert str(answer) == '401 with "Missing credentials"'


def test_entity_is_looked_up_by_its_name() -> None:
    """The lookup uses the by-name endpoint, with the reference that the page's links use."""
    paths: list[str] = []

    def entity(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return httpx.Response(404 if "nobody" in request.url.path else 200)

    portal = FakePortal(entity)
    assert catalog.has_entity(portal, "component:default/aligner")
    assert not catalog.has_entity(portal, "user:default/nobody")
    assert paths[0] == "/api/catalog/entities/by-name/component/default/aligner"
