"""The statuses of Gateways and HTTPRoutes."""

from __future__ import annotations

from typing import Any

from lab.google.loadbalancer.configuration import status
from lab.google.loadbalancer.objects import Problem
from tests.unit.lab.google.loadbalancer.world import ClusterState, conditions


def of_route(state: ClusterState, problem: Problem | None = None) -> list[Any]:
    """The entries of the route's status, one for each parent."""
    problems = {"mcp/external-gw-01": problem}
    parents: list[Any] = status.of_route(state.route, state.parents(), problems, "now")["parents"]
    return parents


def test_healthy_gateway_says_so(state: ClusterState) -> None:
    """The status has GKE's three conditions, each with the generation it was observed at."""
    gateway = state.gateways()["mcp/external-gw-01"]
    found = status.of_gateway(gateway, None, state.parents(), addressed=True, now="now")

    assert conditions(found["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("True", "Programmed"),
        "networking.gke.io/GatewayHealthy": ("True", "Healthy"),
    }
    assert {each["observedGeneration"] for each in found["conditions"]} == {3}
    assert found["addresses"] == [{"type": "IPAddress", "value": "172.30.0.80"}]
    assert [(each["name"], each["attachedRoutes"]) for each in found["listeners"]] == [("http", 0), ("https", 1)]


def test_healthy_route_says_so(state: ClusterState) -> None:
    """GKE adds Reconciled to the two conditions of the Gateway API."""
    assert conditions(of_route(state)[0]["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Reconciled": ("True", "ReconciliationSucceeded"),
    }


def test_gateway_that_is_down_is_said_of_route_and_gateway(state: ClusterState) -> None:
    """Programmed, GatewayHealthy and Reconciled turn False; Accepted stays True."""
    down = Problem("Pending", "not live")
    gateway = state.gateways()["mcp/external-gw-01"]

    found = conditions(status.of_gateway(gateway, down, [], addressed=True, now="now")["conditions"])
    assert found == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("False", "Pending"),
        "networking.gke.io/GatewayHealthy": ("False", "Error"),
    }
    of_its_route = conditions(of_route(state, down)[0]["conditions"])
    assert of_its_route["Accepted"] == ("True", "Accepted")
    assert of_its_route["Reconciled"] == ("False", "ReconciliationFailed")


def test_transition_time_stays_while_the_status_does() -> None:
    """A change of the reason alone keeps the time."""
    before = [{"type": "Programmed", "status": "False", "reason": "Pending", "lastTransitionTime": "then"}]
    still_false = status.Condition("Programmed", status=False, reason="Invalid")
    now_true = status.Condition("Programmed", status=True, reason="Programmed")

    assert status.merged([still_false], 1, before, "now")[0]["lastTransitionTime"] == "then"
    assert status.merged([now_true], 1, before, "now")[0]["lastTransitionTime"] == "now"


def test_other_controllers_parents_are_kept(state: ClusterState) -> None:
    """Our own entry for a parentRef that no longer exists is dropped."""
    foreign = {"controllerName": "else.where/gateway", "parentRef": {"name": "mesh"}, "conditions": []}
    stale = {"controllerName": "networking.gke.io/gateway", "parentRef": {"name": "gone"}, "conditions": []}
    state.route["status"] = {"parents": [foreign, stale]}

    found = of_route(state)
    assert found[0] == foreign
    assert [each["parentRef"]["name"] for each in found[1:]] == ["external-gw-01"]


def test_missing_certificate_stops_the_whole_gateway(state: ClusterState) -> None:
    """The plain HTTP listener is not programmed either, as on GKE."""
    del state.kinds["Secret"]
    gateway = state.gateways()["mcp/external-gw-01"]

    assert gateway.problem == Problem("Invalid", "Error GWCER102: Secret mcp/cert not found.")
    listeners = status.of_gateway(gateway, gateway.problem, [], addressed=False, now="now")["listeners"]
    assert conditions(listeners[0]["conditions"])["Programmed"] == ("False", "Invalid")
    assert conditions(listeners[1]["conditions"])["ResolvedRefs"] == ("False", "InvalidCertificateRef")


def test_missing_service_is_named_as_gke_does(state: ClusterState) -> None:
    """The message is the one that users search for."""
    del state.kinds["Service"]
    (entry,) = of_route(state)

    resolved = entry["conditions"][1]
    assert (resolved["status"], resolved["reason"]) == ("False", "BackendNotFound")
    assert resolved["message"].endswith(
        'Error GWCER104: HTTPRoute "backstage/backstage" is misconfigured, '
        "err: Error GWCER102: services backstage/backstage not found"
    )
    assert state.virtual_host()[0]["route"]["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR"


def test_static_address_is_refused(state: ClusterState) -> None:
    """GKE's error code is on the Gateway, and the listeners are not accepted either."""
    state.gateway["spec"]["addresses"] = [{"type": "IPAddress", "value": "192.0.2.1"}]
    gateway = state.gateways()["mcp/external-gw-01"]
    found = status.of_gateway(gateway, gateway.problem, [], addressed=False, now="now")

    assert conditions(found["conditions"])["Accepted"] == ("False", "UnsupportedAddress")
    assert conditions(found["listeners"][0]["conditions"])["Accepted"] == ("False", "UnsupportedAddress")
    assert found["conditions"][1]["message"].startswith("Error GWCER106")


def test_listeners_of_two_protocols_on_a_port_conflict(state: ClusterState) -> None:
    """Neither listener is programmed."""
    state.gateway["spec"]["listeners"][1]["port"] = 80
    gateway = state.gateways()["mcp/external-gw-01"]

    assert [listener.usable for listener in gateway.listeners] == [False, False]
    found = status.of_gateway(gateway, None, [], addressed=True, now="now")["listeners"][0]["conditions"]
    assert conditions(found)["Conflicted"] == ("True", "ProtocolConflict")
