"""What an answer of the catalog API is taken for, and what a query that gets none means."""

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


def answered(status: int, **content: Any) -> CatalogAnswer:  # noqa: ANN401 - as httpx has it
    """What is made of one response."""
    return parse_answer(asked(lambda _: httpx.Response(status, **content)))


def asked(handler: Handler) -> httpx.Response:
    """A response as a client gets it."""
    with httpx.Client(transport=httpx.MockTransport(handler)) as http:
        return http.get("https://portal.example/api/catalog/entities")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (answered(200, json=ENTITIES), "200 with 2 entities, component:default/aligner first"),
        (answered(200, json=[]), "200 with an empty list"),
        (answered(200, text=""), "200 with an empty body"),
        (answered(200, text="<!DOCTYPE html>\n<html>"), '200 with "<!DOCTYPE html> <html>"'),
        pytest.param(answered(200, json={"items": []}), "200 with an empty list", id="no items"),
        (answered(500, json=STOPPED), "500 Error: connect ECONNREFUSED 127.0.0.1:5432"),
        (answered(503, text=BACKEND_DOWN), '503 with "no healthy upstream"'),
        (answered(502, json={"code": 502}), '502 with "{"code":502}"'),
        (answered(302, headers={"Location": "https://elsewhere.example/"}), "302 Found to https://elsewhere.example/"),
    ],
    ids=str,
)
def test_answer_tells_itself_in_few_words(answer: CatalogAnswer, text: str) -> None:
    """What was seen, as messages have it."""
    assert str(answer) == text


def test_answer_names_entities_as_the_catalog_does() -> None:
    """Kind, namespace and name in lower case, the default namespace filled in."""
    assert answered(200, json=ENTITIES).entities == ("component:default/aligner", "group:default/pipelines")


def test_answer_tells_backstage_from_the_load_balancer() -> None:
    """Only Backstage's own errors have its form."""
    assert answered(500, json=STOPPED).by_backstage
    assert not answered(503, text=BACKEND_DOWN).by_backstage
    assert not answered(502, json={"code": 502}).by_backstage


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answered(200, json=ENTITIES), True),
        (answered(500, json=STOPPED), True),
        (answered(200, json=[]), False),
        (answered(503, text=BACKEND_DOWN), False),
        (answered(404, text="default backend - 404"), False),
        (CatalogAnswer(0, problem="ConnectError", by_backstage=False), False),
    ],
    ids=str,
)
def test_only_backstage_itself_ends_the_wait_for_a_new_route(answer: CatalogAnswer, *, expected: bool) -> None:
    """An empty catalog and a load balancer that does not know the route yet are waited for."""
    assert conclusive(answer) is expected


def test_summary_counts_the_answers_without_entities() -> None:
    """One replica of two that fails is seen as what it is."""
    good, bad = answered(200, json=ENTITIES), answered(500, json=STOPPED)

    assert catalog.summary([good, bad, good]) == "1 of 3 without: 500 Error: connect ECONNREFUSED 127.0.0.1:5432"
    assert catalog.summary([good, good]) == "2 good ones"


class Answering(Portal):
    """A portal behind which a function answers."""

    def __init__(self, handler: Handler, **settings: str) -> None:
        common = {"hostname": "portal.example", "tls_minimum": "TLSv1.2", "certificate_days_left": 1, "auth": "none"}
        super().__init__("portal.example", None, None, 1.0, PortalTable.model_validate(common | settings))
        object.__setattr__(self, "handler", handler)

    def anonymous(self, **options: Any) -> httpx.Client:  # noqa: ANN401 - as httpx has it
        """A client of that function."""
        transport = httpx.MockTransport(self.handler)  # type: ignore[attr-defined]
        return httpx.Client(**{"base_url": self.url(""), "transport": transport, **options})


def refuse(_request: httpx.Request) -> httpx.Response:
    """Nobody listens."""
    raise httpx.ConnectError("[Errno 111] Connection refused")


def test_query_is_limited() -> None:
    """Without a limit a query is answered 200 with an empty body while the database is gone."""
    urls: list[str] = []

    def entities(request: httpx.Request) -> httpx.Response:
        urls.append(str(request.url))
        return httpx.Response(200, json=ENTITIES)

    assert catalog.query_catalog(Answering(entities)).entities
    assert urls == [
        "https://portal.example/api/catalog/entities?limit=20&fields=kind%2Cmetadata.name%2Cmetadata.namespace"
    ]


def test_query_without_an_answer_is_a_broken_promise() -> None:
    """The portal is there for users or it is not."""
    with pytest.raises(AssertionError) as failed:
        catalog.query_catalog(Answering(refuse))

    assert str(failed.value) == (
        "expected: entities from https://portal.example/api/catalog/entities\n"
        "seen: ConnectError: [Errno 111] Connection refused\n"
        "look next: curl -v https://portal.example/"
    )


def test_query_again_takes_no_answer_for_an_answer() -> None:
    """While a portal comes up that is nothing special."""
    answer = catalog.poll_catalog(Answering(refuse))

    assert str(answer) == "ConnectError: [Errno 111] Connection refused"
    assert not conclusive(answer)


@pytest.mark.parametrize(("status", "expected"), [(500, True), (403, True), (404, False), (503, False)])
def test_sign_in_that_backstage_refuses_ends_the_wait(status: int, *, expected: bool) -> None:
    """Without its database nobody is signed in, and waiting does not help; a route that is not there yet may come."""
    answer = catalog.poll_catalog(Answering(lambda _: httpx.Response(status), auth="guest"))

    assert str(answer) == f"{status} from guest sign-in"
    assert conclusive(answer) is expected


def test_refused_token_of_the_suite_is_no_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that has expired says nothing of the portal."""
    monkeypatch.setenv("PORTAL_TOKEN", "out-of-date")
    portal = Answering(lambda _: httpx.Response(401), auth="bearer", token_variable="PORTAL_TOKEN")  # noqa: S106

    with pytest.raises(NoVerdictError) as failed:
        catalog.query_catalog(portal)

    assert str(failed.value) == (
        "expected: entities from https://portal.example/api/catalog/entities\n"
        "seen: 401 Unauthorized, signed in by bearer\n"
        "look next: [portal] auth of the environment, docs/permissions.md"
    )


def test_refused_visitor_is_a_broken_promise() -> None:
    """Who needs no sign-in must not be asked for one."""
    answer = catalog.query_catalog(Answering(lambda _: httpx.Response(401, text="Missing credentials")))

    assert str(answer) == '401 with "Missing credentials"'


def test_entity_is_looked_up_by_its_name() -> None:
    """As the page's links name it."""
    paths: list[str] = []

    def entity(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return httpx.Response(404 if "nobody" in request.url.path else 200)

    portal = Answering(entity)
    assert catalog.has_entity(portal, "component:default/aligner")
    assert not catalog.has_entity(portal, "user:default/nobody")
    assert paths[0] == "/api/catalog/entities/by-name/component/default/aligner"
