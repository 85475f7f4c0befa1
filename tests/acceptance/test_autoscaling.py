"""Promise autoscaling: when more people come there are more pods to serve them, and fewer again when they have gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from fixtures.api.client import GuardedClient
from fixtures.api.live import Objects
from fixtures.disruption.tenure import Tenure
from fixtures.environment.model import Environment
from fixtures.environment.timeouts import Timeouts
from fixtures.load import local
from fixtures.load.in_cluster import InClusterLoad
from fixtures.load.load import GenerateLoad
from fixtures.objects.manifest import Field
from fixtures.outcomes import NoVerdictError, said
from fixtures.platform.autoscaler import Autoscaler, autoscaler_of, bounds_of, last_warning
from fixtures.portal.client import Portal
from fixtures.reference.reference import Reference
from fixtures.report.check import Check
from fixtures.scaling import experiment
from fixtures.scaling.recorder import Scaled, scaled_of
from fixtures.scaling.result import Visit
from fixtures.waiting import wait_for

ENOUGH = 20
"""Requests of users without which nothing is said of them."""
OFFERED = 0.9
"""Share of the crowd's requests that must have been sent for it to have been one."""


@pytest.fixture(scope="module")
def scaled(deployed: Reference) -> Scaled:
    """What scales, and what is scaled."""
    return scaled_of(deployed)


@pytest.fixture(scope="module")
def read_autoscaler(scaled: Scaled, objects: Objects) -> Callable[[], Autoscaler]:
    """Reads the HPA."""
    return lambda: autoscaler_of(Field(objects.get(scaled.hpa.body)))


@pytest.fixture(scope="module")
def wait_until_active(
    scaled: Scaled,
    read_autoscaler: Callable[[], Autoscaler],
    objects: Objects,
    deadlines: Timeouts,
) -> Callable[[], Autoscaler]:
    """Waits until the HPA works on real numbers."""

    def describe(seen: Autoscaler) -> str:
        warned = last_warning(objects.list("v1", "Event", scaled.hpa.namespace), scaled.hpa)
        return f"{seen}; {warned}" if warned else str(seen)

    return lambda: wait_for(
        f"{scaled.hpa} to be active, with a figure for each of its metrics",
        read_autoscaler,
        until=lambda seen: seen.active,
        within=deadlines.scaling_active,
        look_next=scaled.look_next,
        describe=describe,
        every=1,
    )


@pytest.fixture(scope="module")
def sent(results: Path) -> Path:
    """Folder in which the load writes what it sent."""
    return results / f"load-{datetime.now(UTC):%H%M%S}"


@pytest.fixture(scope="module")
def making(
    environment: Environment, client: GuardedClient, tenure: Tenure, timeouts: Timeouts, sent: Path
) -> GenerateLoad:
    """Makes load: this machine, or pods in the target's cluster."""
    if not environment.load.workers:
        return partial(local.generate_load, folder=sent)
    return partial(
        InClusterLoad(client, tenure.journal, environment.load, timeouts.pod_replaced).generate_load, folder=sent
    )


@pytest.fixture(scope="module")
def bring_crowd(
    scaled: Scaled, client: GuardedClient, portal: Portal, timeouts: Timeouts, making: GenerateLoad
) -> Callable[[], Visit]:
    """Lets a crowd come and go."""
    return partial(experiment.visit, scaled, client, portal, timeouts, making)


@pytest.fixture(scope="module")
def visit(wait_until_active: Callable[[], Autoscaler], bring_crowd: Callable[[], Visit], sent: Path) -> Visit:
    """A crowd that came and went, once for all tests that look at it."""
    wait_until_active()
    seen = bring_crowd()
    if seen.offered.share < OFFERED or seen.users_meanwhile.count < ENOUGH:
        made = f"{seen.offered}; users: {seen.users_meanwhile}"
        expected = f"{OFFERED:.0%} of the load that was due to be sent, and {ENOUGH} requests of users"
        raise NoVerdictError(said(expected, made, str(sent)))
    return seen


def test_autoscaler_works_on_real_numbers(wait_until_active: Callable[[], Autoscaler], check: Check) -> None:
    """How many pods serve the portal is decided by what they really use."""
    active = wait_until_active()

    for metric in active.metrics:
        check.measured(metric.name, metric.current or 0, metric.unit)


def test_number_of_pods_lies_within_its_bounds(
    scaled: Scaled, read_autoscaler: Callable[[], Autoscaler], timeouts: Timeouts, check: Check
) -> None:
    """There are never fewer pods than it takes to lose one, nor more than was agreed."""
    agreed = bounds_of(scaled.hpa)

    seen = wait_for(
        f"{scaled.hpa} to keep {agreed} pods",
        read_autoscaler,
        until=lambda seen: agreed.include(seen.current, seen.desired) and seen.bounds == agreed,
        within=timeouts.settled,
        look_next=scaled.look_next,
        every=1,
    )

    check.measured("pods", seen.current, "")


@pytest.mark.needs("load")
@pytest.mark.at_end
def test_more_pods_serve_when_more_people_come(visit: Visit, scaled: Scaled, check: Check) -> None:
    """When many people come at once, more pods serve them within minutes."""
    check.keep("scale-out.json", json.dumps(visit.timeline))
    for link, seconds in visit.chain.links.items():
        check.measured(link, seconds or 0, "s")
    check.measured("requests offered per second", visit.offered.rate, "1/s")

    assert not visit.late_out, visit.late_out
    rescaled = visit.recording.rescaled
    assert "above target" in rescaled, said(
        "event SuccessfulRescale, for load above target", rescaled or "none", scaled.look_next
    )
    check.decided_by(f"event SuccessfulRescale: {rescaled}")


@pytest.mark.needs("load")
@pytest.mark.at_end
def test_number_of_pods_stays_within_its_bounds_under_load(visit: Visit, scaled: Scaled, check: Check) -> None:
    """However many people come, the deployment does not outgrow what was agreed."""
    agreed, sizes = bounds_of(scaled.hpa), visit.recording.sizes

    assert agreed.include(*sizes), said(f"{agreed} pods", f"{sizes[0]} to {sizes[1]}", scaled.look_next)
    check.measured("most pods", sizes[1], "")


@pytest.mark.needs("load")
@pytest.mark.at_end
def test_users_are_served_while_it_scales(visit: Visit, environment: Environment, scaled: Scaled, check: Check) -> None:
    """Whoever uses the portal while the crowd is there notices nothing of it."""
    everybody, users, slo = visit.all_meanwhile, visit.users_meanwhile, environment.slo
    check.measured("requests", everybody.count, "")
    check.measured("failed", everybody.failed, "")
    check.measured("95 of 100 users' requests within", users.latency, "s")

    assert max(everybody.error_ratio, users.error_ratio) <= slo.error_ratio, said(
        f"at most {slo.error_ratio:.2%} of requests to fail", f"all: {everybody}; users: {users}", scaled.look_next
    )
    assert users.latency <= slo.latency, said(
        f"95 of 100 requests of users within {slo.latency:g} s", users, scaled.look_next
    )


@pytest.mark.needs("load")
@pytest.mark.at_end
def test_fewer_pods_serve_when_people_have_gone(visit: Visit, scaled: Scaled, check: Check) -> None:
    """When the crowd has gone the additional pods go too, and nobody who is still there notices."""
    if visit.late_out:
        raise NoVerdictError(
            said("more pods, that can become fewer", "no scale-out; see the test of it", scaled.look_next)
        )
    users = visit.users_afterwards
    check.measured("requests", users.count, "")
    if visit.shrunk is not None:
        check.measured("pods gone", visit.shrunk, "s")

    assert not visit.late_in, visit.late_in
    assert users.count, said("requests of users", users, scaled.look_next)
    assert not users.failed, said("no request to fail while pods leave", users, scaled.look_next)
