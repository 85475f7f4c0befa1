"""Promise portal: users who open the hostname see the catalog."""

from __future__ import annotations

import pytest

from fixtures.environment.environment import Environment
from fixtures.environment.timeouts import Timeouts
from fixtures.outcomes import said
from fixtures.portal import browser, catalog
from fixtures.portal.browser import RenderedPage
from fixtures.portal.catalog import CatalogAnswer
from fixtures.portal.client import Portal
from fixtures.reference.reference import Reference
from fixtures.report.check import Check
from fixtures.waiting import wait_for

ANSWERS = 5
"""Requests in a row: if one of two replicas fails, all but one run in 32 meet it."""


@pytest.fixture(scope="module")
def logs(deployed: Reference) -> str:
    """The command that shows Backstage's logs."""
    deployment = deployed.the("Deployment")
    return f"kubectl -n {deployment.namespace} logs deployment/{deployment.name} --all-pods --all-containers --tail=50"


@pytest.fixture(scope="module")
def served(portal: Portal, environment: Environment, timeouts: Timeouts, logs: str) -> Portal:
    """The portal; where this run may apply the reference, it first waits for an answer of Backstage."""
    if "apply" in environment.permissions:
        wait_for(
            catalog.expected_entities(portal),
            lambda: catalog.poll_catalog(portal),
            until=catalog.conclusive,
            within=timeouts.first_answer,
            look_next=logs,
        )
    return portal


@pytest.fixture
def answers(served: Portal) -> tuple[CatalogAnswer, ...]:
    """Some answers of the catalog API, each over a connection of its own."""
    return tuple(catalog.query_catalog(served) for _ in range(ANSWERS))


@pytest.fixture
def shown(served: Portal, timeouts: Timeouts, check: Check) -> RenderedPage:
    """What a browser with an empty cache shows; the screenshot is always kept."""
    shown = browser.render_catalog(served, within=timeouts.page_rendered)
    check.keep("portal.png", shown.screenshot)
    return shown


def test_catalog_answers_with_entities(
    answers: tuple[CatalogAnswer, ...], portal: Portal, check: Check, logs: str
) -> None:
    """The catalog answers every request, with its entities."""
    empty = [answer for answer in answers if not answer.entities]

    check.measured("slowest catalog answer", max(answer.seconds for answer in answers), "s")
    assert not empty, said(f"{catalog.expected_entities(portal)}, {ANSWERS} times", catalog.summary(answers), logs)


def test_page_shows_the_catalog(shown: RenderedPage, served: Portal, check: Check, logs: str) -> None:
    """The portal's page renders in a browser without script errors, and shows the catalog to signed-in users."""
    check.measured("page rendered", shown.seconds, "s")

    assert not shown.errors, said(f"no error of a script at {shown.address}", "; ".join(shown.errors), "portal.png")
    assert browser.is_expected(shown, served.table.auth), said(browser.expected_page(served.table.auth), shown, logs)
    check.decided_by("entities on the page" if shown.entities else "the sign-in page, which only a person passes")
    assert all(catalog.has_entity(served, ref) for ref in shown.entities[:1]), said(
        f"{shown.entities[0]} in the catalog, as the page shows it", "the catalog API knows none", logs
    )
