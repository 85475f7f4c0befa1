"""HTTPRoutes: when the Gateway has accepted one, and which route gets the requests for a hostname."""

from __future__ import annotations

import pytest

from fixtures.objects.manifest import Field
from fixtures.subject.hostname_match import route_specificity
from fixtures.subject.routes import Route, Routes, competing_routes, route_of, routes_of
from tests.unit.patched import ABSENT, patched, recorded_reference
from tests.unit.recorded_gateway import HOSTNAME, ROUTE, FakeObjects, condition, gateway

PARENT = "/status/parents/0"


def route(pointer: str = "", value: object = None) -> Route:
    """The lab's HTTPRoute, optionally with one field changed."""
    return route_of(Field(patched(ROUTE, pointer, value) if pointer else ROUTE), gateway())


def other(name: str, section: str | None = "https", hostnames: list[str] | None = None, **status: object) -> Route:
    """Another team's HTTPRoute at the lab's Gateway."""
    parent = {"namespace": "mcp", "name": "external-gw-01", **({"sectionName": section} if section else {})}
    body = {
        "metadata": {"namespace": "team", "name": name, "generation": 1},
        "spec": {"parentRefs": [parent], "hostnames": hostnames or []},
        "status": {"parents": [{"parentRef": parent, **status}]} if status else {},
    }
    return route_of(Field(body), gateway())


def test_route_of_the_lab_is_accepted() -> None:
    """The lab's recorded route is accepted, including GKE's own condition Reconciled."""
    assert route().accepted


@pytest.mark.parametrize(
    ("pointer", "value", "shown"),
    [
        pytest.param(
            f"{PARENT}/conditions",
            [condition("Accepted", "True", "Accepted"), condition("ResolvedRefs", "False", "BackendNotFound")],
            "at listener https: Accepted=True (Accepted: why), ResolvedRefs=False (BackendNotFound: why)",
            id="backend",
        ),
        pytest.param(
            f"{PARENT}/conditions",
            [
                condition("Accepted", "True", "Accepted"),
                condition("ResolvedRefs", "True", "ResolvedRefs"),
                condition("Reconciled", "False", "ReconciliationFailed"),
            ],
            "at listener https: Accepted=True (Accepted: why), ResolvedRefs=True (ResolvedRefs: why), "
            "Reconciled=False (ReconciliationFailed: why)",
            id="sync",
        ),
        pytest.param("/status", {}, "at listener https: no conditions", id="no status yet"),
        pytest.param(
            f"{PARENT}/parentRef/sectionName", "http", "at listener https: no conditions", id="of another listener"
        ),
        pytest.param("/spec/parentRefs/0/name", "other", "it names another parent", id="another Gateway"),
    ],
)
def test_route_is_not_accepted_while_anything_is_lacking(pointer: str, value: object, shown: str) -> None:
    """A route that lacks a condition is not accepted, and the message shows which."""
    changed = route(pointer, value)

    assert not changed.accepted
    assert not changed.unrecoverable
    assert str(Routes((changed,))) == f"backstage/backstage: {shown}"


def test_route_of_an_earlier_generation_is_not_accepted() -> None:
    """Conditions of an earlier generation do not count: they stay True while the Gateway's sync is stuck."""
    assert not route("/metadata/generation", 7).accepted


def test_route_that_nobody_will_ever_take_is_not_waited_for() -> None:
    """Accepted=False is final only if it is about the current generation."""
    refused = [condition("Accepted", "False", "UnsupportedValue")]

    assert route(f"{PARENT}/conditions", refused).unrecoverable
    assert not route(f"{PARENT}/conditions", [condition("Accepted", "False", "UnsupportedValue", 0)]).unrecoverable


def test_routes_are_those_of_the_reference_as_they_are_live() -> None:
    """The live status is read for each route of the reference; an absent route is still listed."""
    assert routes_of(recorded_reference(), FakeObjects(ROUTE), gateway()).accepted
    absent = routes_of(recorded_reference(), FakeObjects(), gateway())
    assert str(absent) == "backstage/backstage: it names another parent"
    assert not Routes(()).accepted


def test_route_at_a_narrow_listener_claims_what_the_listener_is_for() -> None:
    """A route without hostnames claims those of its listener."""
    assert route_specificity(HOSTNAME, [], HOSTNAME) == route_specificity("", [HOSTNAME], HOSTNAME)
    assert route_specificity("other.test", [], HOSTNAME) == route_specificity("", ["other.test"], HOSTNAME) == 0


@pytest.mark.parametrize(
    ("rival", "found"),
    [
        pytest.param(other("same", hostnames=[HOSTNAME]), True, id="same hostname"),
        pytest.param(other("everywhere", None, [HOSTNAME]), True, id="at all listeners"),
        pytest.param(other("wildcard", hostnames=["*.lab.test"]), False, id="less exact"),
        pytest.param(other("any"), False, id="any hostname"),
        pytest.param(other("redirect", "http", [HOSTNAME]), False, id="at the plain listener"),
        pytest.param(other("another", hostnames=["other.lab.test"]), False, id="another hostname"),
        pytest.param(
            other(
                "refused", hostnames=[HOSTNAME], conditions=[condition("Accepted", "False", "NotAllowedByListeners")]
            ),
            False,
            id="refused",
        ),
    ],
)
def test_rival_means_the_hostname_at_least_as_exactly(rival: Route, *, found: bool) -> None:
    """Another route is a rival only if it can win requests for the portal's hostname."""
    assert bool(competing_routes([route(), rival], ["backstage/backstage"], gateway(), HOSTNAME)) is found


def test_less_exact_route_is_a_rival_if_the_own_is_no_more_exact() -> None:
    """A route without hostnames competes with every other route that has none."""
    own = route("/spec/hostnames", ABSENT)

    assert competing_routes([own, other("any")], ["backstage/backstage"], gateway(), HOSTNAME) == (other("any"),)
