"""What the statuses of Gateways and HTTPRoutes say."""

from __future__ import annotations

from typing import Any

from lab.google.loadbalancer.configuration import status
from lab.google.loadbalancer.objects import Problem
from tests.unit.lab.google.loadbalancer.world import World, conditions


def of_route(world: World, problem: Problem | None = None) -> list[Any]:
    """The status entries of the route."""
    problems = {"mcp/external-gw-01": problem}
    parents: list[Any] = status.of_route(world.route, world.parents(), problems, "now")["parents"]
    return parents


def test_healthy_gateway_says_so(world: World) -> None:
    """In GKE's three conditions, with the generation they are about."""
    gateway = world.gateways()["mcp/external-gw-01"]
    found = status.of_gateway(gateway, None, world.parents(), addressed=True, now="now")

    assert conditions(found["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("True", "Programmed"),
        "networking.gke.io/GatewayHealthy": ("True", "Healthy"),
    }
    assert {each["observedGeneration"] for each in found["conditions"]} == {3}
    assert found["addresses"] == [{"type": "IPAddress", "value": "172.30.0.80"}]
    assert [(each["name"], each["attachedRoutes"]) for each in found["listeners"]] == [("http", 0), ("https", 1)]


def test_healthy_route_says_so(world: World) -> None:
    """With GKE's own third condition."""
    assert conditions(of_route(world)[0]["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Reconciled": ("True", "ReconciliationSucceeded"),
    }


def test_gateway_that_is_down_is_said_of_route_and_gateway(world: World) -> None:
    """Programmed, GatewayHealthy and Reconciled are False; what was accepted stays so."""
    down = Problem("Pending", "not live")
    gateway = world.gateways()["mcp/external-gw-01"]

    found = conditions(status.of_gateway(gateway, down, [], addressed=True, now="now")["conditions"])
    assert found == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("False", "Pending"),
        "networking.gke.io/GatewayHealthy": ("False", "Error"),
    }
    of_its_route = conditions(of_route(world, down)[0]["conditions"])
    assert of_its_route["Accepted"] == ("True", "Accepted")
    assert of_its_route["Reconciled"] == ("False", "ReconciliationFailed")


def test_transition_time_stays_while_the_status_does(world: World) -> None:
    """Also if the reason changes."""
    del world
    before = [{"type": "Programmed", "status": "False", "reason": "Pending", "lastTransitionTime": "then"}]
    still_false = status.Condition("Programmed", status=False, reason="Invalid")
    now_true = status.Condition("Programmed", status=True, reason="Programmed")

    assert status.merged([still_false], 1, before, "now")[0]["lastTransitionTime"] == "then"
    assert status.merged([now_true], 1, before, "now")[0]["lastTransitionTime"] == "now"


def test_other_controllers_parents_are_kept(world: World) -> None:
    """And our own entry for a parentRef that is gone is dropped."""
    foreign = {"controllerName": "else.where/gateway", "parentRef": {"name": "mesh"}, "conditions": []}
    stale = {"controllerName": "networking.gke.io/gateway", "parentRef": {"name": "gone"}, "conditions": []}
    world.route["status"] = {"parents": [foreign, stale]}

    found = of_route(world)
    assert found[0] == foreign
    assert [each["parentRef"]["name"] for each in found[1:]] == ["external-gw-01"]


def test_missing_certificate_stops_the_whole_gateway(world: World) -> None:
    """The plain HTTP listener as well, as on GKE."""
    del world.kinds["Secret"]
    gateway = world.gateways()["mcp/external-gw-01"]

    assert gateway.problem == Problem("Invalid", "Error GWCER102: Secret mcp/cert not found.")
    listeners = status.of_gateway(gateway, gateway.problem, [], addressed=False, now="now")["listeners"]
    assert conditions(listeners[0]["conditions"])["Programmed"] == ("False", "Invalid")
    assert conditions(listeners[1]["conditions"])["ResolvedRefs"] == ("False", "InvalidCertificateRef")


def test_missing_service_is_named_as_gke_does(world: World) -> None:
    """The message users search for."""
    del world.kinds["Service"]
    (entry,) = of_route(world)

    resolved = entry["conditions"][1]
    assert (resolved["status"], resolved["reason"]) == ("False", "BackendNotFound")
    assert resolved["message"].endswith(
        'Error GWCER104: HTTPRoute "backstage/backstage" is misconfigured, '
        "err: Error GWCER102: services backstage/backstage not found"
    )
    assert world.virtual_host()[0]["route"]["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR"


def test_static_address_is_refused(world: World) -> None:
    """GKE's code for it, on the Gateway and its listeners."""
    world.gateway["spec"]["addresses"] = [{"type": "IPAddress", "value": "192.0.2.1"}]
    gateway = world.gateways()["mcp/external-gw-01"]
    found = status.of_gateway(gateway, gateway.problem, [], addressed=False, now="now")

    assert conditions(found["conditions"])["Accepted"] == ("False", "UnsupportedAddress")
    assert conditions(found["listeners"][0]["conditions"])["Accepted"] == ("False", "UnsupportedAddress")
    assert found["conditions"][1]["message"].startswith("Error GWCER106")


def test_listeners_of_two_protocols_on_a_port_conflict(world: World) -> None:
    """Neither is programmed."""
    world.gateway["spec"]["listeners"][1]["port"] = 80
    gateway = world.gateways()["mcp/external-gw-01"]

    assert [listener.usable for listener in gateway.listeners] == [False, False]
    found = status.of_gateway(gateway, None, [], addressed=True, now="now")["listeners"][0]["conditions"]
    assert conditions(found)["Conflicted"] == ("True", "ProtocolConflict")
