"""Promise gateway: the platform's load balancer routes the hostname to Backstage, and to nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fixtures.api.client import GuardedClient
from fixtures.api.live import Objects
from fixtures.api.pods import pods_of
from fixtures.environment.environment import Environment
from fixtures.environment.timeouts import Timeouts
from fixtures.google.rest import GoogleApis
from fixtures.objects.manifest import Manifest
from fixtures.outcomes import NotObservableError, said
from fixtures.platform import load_balancer
from fixtures.platform.health_check_policy import read_policy
from fixtures.platform.load_balancer import LoadBalancerBackends
from fixtures.portal.answers import GATEWAY_ERRORS, fetch
from fixtures.portal.client import Portal
from fixtures.reference.reference import Reference
from fixtures.reference.topology import routed_services
from fixtures.report.check import Check
from fixtures.subject.gateway import VERSION, Gateway, programmed, read_gateway
from fixtures.subject.routes import competing_routes, route_of, routes_of
from fixtures.waiting import wait_for


@pytest.fixture
def read(objects: Objects, environment: Environment) -> Callable[[], Gateway]:
    """Reads the live Gateway."""
    return lambda: read_gateway(objects, environment)


@pytest.fixture
def service(deployed: Reference) -> Manifest:
    """The one Service to which the deployment's HTTPRoutes lead."""
    found = routed_services(deployed)
    assert len(found) == 1, said("one Service behind the routes", ", ".join(map(str, found)) or "none", deployed.source)
    return found[0]


def test_gateway_is_programmed(read: Callable[[], Gateway], deadlines: Timeouts, check: Check) -> None:
    """The load balancer runs the current configuration of the Gateway."""
    gateway = read()

    wait_for(
        f"Gateway {gateway.namespace}/{gateway.name} to be Accepted and Programmed as it is now",
        read,
        until=programmed,
        within=deadlines.gateway_programmed,
        look_next=gateway.look_next,
    )

    check.decided_by("conditions of the Gateway")


def test_gateway_listens_for_the_hostname_with_a_certificate(
    read: Callable[[], Gateway], environment: Environment, deadlines: Timeouts
) -> None:
    """The load balancer serves the portal's name over HTTPS, with a certificate."""
    hostname = environment.portal.hostname

    wait_for(
        f"a listener of protocol HTTPS for {hostname} with a certificate, Accepted, Programmed and with ResolvedRefs",
        read,
        until=lambda gateway: any(each.usable and each.certificates for each in gateway.serving(hostname)),
        within=deadlines.gateway_programmed,
        look_next=read().look_next,
        describe=lambda gateway: "; ".join(map(str, gateway.serving(hostname) or gateway.listeners)) or "no listener",
    )


def test_gateway_has_an_address(read: Callable[[], Gateway], deadlines: Timeouts, check: Check) -> None:
    """The load balancer has an address at which it can be reached."""
    gateway = wait_for(
        "an address in the Gateway's status",
        read,
        until=lambda gateway: bool(gateway.addresses),
        within=deadlines.gateway_programmed,
        look_next=read().look_next,
    )

    check.measured("addresses", len(gateway.addresses), "")


def test_routes_are_accepted(
    deployed: Reference, objects: Objects, read: Callable[[], Gateway], deadlines: Timeouts
) -> None:
    """The load balancer accepts Backstage's current routes, and finds everything that they refer to."""
    gateway, wanted = read(), deployed.of_kind("HTTPRoute")
    assert wanted, said("an HTTPRoute in the reference", "none", deployed.source)
    where = f"Gateway {gateway.namespace}/{gateway.name}"
    expected = f"{', '.join(map(str, wanted))} Accepted and with ResolvedRefs at {where} as it is now"
    look_next = f"kubectl -n {wanted[0].namespace} describe httproute {wanted[0].name}"

    found = wait_for(
        expected,
        lambda: routes_of(deployed, objects, gateway),
        until=lambda routes: routes.accepted or routes.unrecoverable,
        within=deadlines.route_accepted,
        look_next=look_next,
    )

    assert found.accepted, said(expected, found, look_next)


def test_no_other_route_claims_the_hostname(
    deployed: Reference, objects: Objects, read: Callable[[], Gateway], environment: Environment
) -> None:
    """No route of another deployment takes requests for the portal."""
    gateway, hostname = read(), environment.portal.hostname
    routes = [route_of(each, gateway) for each in objects.list(VERSION, "HTTPRoute")]
    own = [f"{each.namespace}/{each.name}" for each in deployed.of_kind("HTTPRoute")]
    claiming = [
        each.key for each in routes if each.key in own and each.specificity(gateway.serving(hostname), hostname)
    ]
    others = [each.key for each in competing_routes(routes, own, gateway, hostname)]

    look_next = "kubectl get httproutes -A"
    assert claiming, said(f"a route of the deployment for {hostname} at an HTTPS listener", "none", look_next)
    assert not others, said(f"only {', '.join(claiming)} for {hostname}", f"also {', '.join(others)}", look_next)


def test_health_check_policy_is_attached(
    deployed: Reference, service: Manifest, objects: Objects, deadlines: Timeouts, check: Check
) -> None:
    """The load balancer checks Backstage's health in the way that the manifests say."""
    wanted = [
        each
        for each in deployed.of_kind("HealthCheckPolicy")
        if (each.namespace, each["spec"]["targetRef"]["name"].text) == (service.namespace, service.name)
    ]
    seen = ", ".join(map(str, wanted)) or "none"
    assert len(wanted) == 1, said(f"one HealthCheckPolicy for {service} in the reference", seen, deployed.source)
    policy = wanted[0]
    expected = f"{policy} attached to {service}"
    look_next = f"kubectl -n {policy.namespace} describe healthcheckpolicy {policy.name}"

    found = wait_for(
        expected,
        lambda: read_policy(policy, objects),
        until=lambda each: each.target == service.name and bool(each.source or each.silent),
        within=deadlines.route_accepted,
        look_next=look_next,
    )

    if found.silent:
        raise NotObservableError(said(expected, found, look_next))
    check.decided_by(found.source)


@pytest.fixture
def read_backends(
    *,
    deployed: Reference,
    service: Manifest,
    environment: Environment,
    objects: Objects,
    client: GuardedClient,
    google: GoogleApis,
    read: Callable[[], Gateway],
) -> Callable[[], LoadBalancerBackends]:
    """Reads from all sources whether the load balancer finds each pod healthy."""
    resources = read().backend_services

    def ask_all() -> LoadBalancerBackends:
        live = Manifest(objects.get(service.body) or {})
        states = load_balancer.endpoint_states_if_allowed(google, environment.google.compute, resources, live)
        return load_balancer.backends_of(pods_of(deployed.the("Deployment"), client), states)

    return ask_all


def test_load_balancer_finds_every_pod_healthy(
    *,
    read_backends: Callable[[], LoadBalancerBackends],
    service: Manifest,
    portal: Portal,
    read: Callable[[], Gateway],
    deadlines: Timeouts,
    check: Check,
) -> None:
    """The load balancer itself finds every Backstage pod healthy, and sends requests to it."""
    expected, look_next = "every pod healthy for the load balancer", f"kubectl -n {service.namespace} get pods -o yaml"

    found = wait_for(
        expected,
        read_backends,
        until=lambda each: not each.unhealthy,
        within=deadlines.endpoint_attached,
        look_next=look_next,
    )

    # A pod's condition is never taken back: an error that users are answered now contradicts it.
    answers = wait_for(
        "requests answered by Backstage, not by an error of the load balancer's own,",
        lambda: tuple(fetch(portal.at(each), "/") for each in read().addresses),
        until=lambda seen: not any(each.status in GATEWAY_ERRORS for each in seen),
        within=deadlines.settled,
        look_next="the HealthCheckPolicy, and what it asks: kubectl get healthcheckpolicies -o yaml",
        describe=lambda seen: "; ".join(map(str, seen)),
    )
    if found.unknown:
        cure = "[google] compute of the environment; kubectl rollout restart, which gives the pods the gate"
        raise NotObservableError(said(expected, found, cure))
    for source in found.sources:
        check.decided_by(source)
    if answers and all(each.status for each in answers):
        check.decided_by(load_balancer.REQUESTS)
