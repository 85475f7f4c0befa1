"""Promise autoscaling: more pods serve when more people come, and fewer when they have gone."""

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
from fixtures.environment.environment import Environment
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
from fixtures.scaling.result import ScaleResult
from fixtures.waiting import wait_for

ENOUGH = 20
"""Fewest requests of users during the load; with fewer there is no verdict."""
OFFERED = 0.9
"""Share of the load's requests that must have been sent; with less the load was none."""


@pytest.fixture(scope="module")
def scaled(deployed: Reference) -> Scaled:
    """The deployment with its HPA and Service."""
    return scaled_of(deployed)


@pytest.fixture(scope="module")
def read_autoscaler(scaled: Scaled, objects: Objects) -> Callable[[], Autoscaler]:
    """Reads the HPA's spec and status."""
    return lambda: autoscaler_of(Field(objects.get(scaled.hpa.body)))


@pytest.fixture(scope="module")
def wait_until_active(
    scaled: Scaled,
    read_autoscaler: Callable[[], Autoscaler],
    objects: Objects,
    deadlines: Timeouts,
) -> Callable[[], Autoscaler]:
    """Waits until the HPA is active and has a current value of each of its metrics."""

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
    """Folder to which the load generator writes the requests that it sent."""
    return results / f"load-{datetime.now(UTC):%H%M%S}"


@pytest.fixture(scope="module")
def making(
    environment: Environment, client: GuardedClient, tenure: Tenure, timeouts: Timeouts, sent: Path
) -> GenerateLoad:
    """Generates load, from this machine or from pods in the target's cluster."""
    if not environment.load.workers:
        return partial(local.generate_load, folder=sent)
    return partial(
        InClusterLoad(client, tenure.journal, environment.load, timeouts.pod_replaced).generate_load, folder=sent
    )


@pytest.fixture(scope="module")
def run_experiment(
    scaled: Scaled, client: GuardedClient, portal: Portal, timeouts: Timeouts, making: GenerateLoad
) -> Callable[[], ScaleResult]:
    """Scales the deployment out by load, and in again."""
    return partial(experiment.run, scaled, client, portal, timeouts, making)


@pytest.fixture(scope="module")
def scale_result(
    wait_until_active: Callable[[], Autoscaler], run_experiment: Callable[[], ScaleResult], sent: Path
) -> ScaleResult:
    """One scale-out and scale-in, shared by all tests that look at it."""
    wait_until_active()
    seen = run_experiment()
    if seen.offered.share < OFFERED or seen.users_under_load.count < ENOUGH:
        made = f"{seen.offered}; users: {seen.users_under_load}"
        expected = f"{OFFERED:.0%} of the load that was due to be sent, and {ENOUGH} requests of users"
        raise NoVerdictError(said(expected, made, str(sent)))
    return seen


def test_autoscaler_works_on_real_numbers(wait_until_active: Callable[[], Autoscaler], check: Check) -> None:
    """The number of pods depends on the resources that they really use."""
    active = wait_until_active()

    for metric in active.metrics:
        check.measured(metric.name, metric.current or 0, metric.unit)


def test_number_of_pods_lies_within_its_bounds(
    scaled: Scaled, read_autoscaler: Callable[[], Autoscaler], timeouts: Timeouts, check: Check
) -> None:
    """There are enough pods to lose one, and not more than agreed."""
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
def test_more_pods_serve_when_more_people_come(scale_result: ScaleResult, scaled: Scaled, check: Check) -> None:
    """When many people come at once, more pods serve them within minutes."""
    check.keep("scale-out.json", json.dumps(scale_result.timeline))
    for link, seconds in scale_result.chain.links.items():
        check.measured(link, seconds or 0, "s")
    check.measured("requests offered per second", scale_result.offered.rate, "1/s")

    assert not scale_result.scale_out_failure, scale_result.scale_out_failure
    rescaled = scale_result.recording.rescaled
    assert "above target" in rescaled, said(
        "event SuccessfulRescale, for load above target", rescaled or "none", scaled.look_next
    )
    check.decided_by(f"event SuccessfulRescale: {rescaled}")


@pytest.mark.needs("load")
@pytest.mark.at_end
def test_number_of_pods_stays_within_its_bounds_under_load(
    scale_result: ScaleResult, scaled: Scaled, check: Check
) -> None:
    """However many people come, there are never more pods than agreed."""
    agreed, sizes = bounds_of(scaled.hpa), scale_result.recording.sizes

    assert agreed.include(*sizes), said(f"{agreed} pods", f"{sizes[0]} to {sizes[1]}", scaled.look_next)
    check.measured("most pods", sizes[1], "")


@pytest.mark.needs("load")
@pytest.mark.at_end
def test_users_are_served_while_it_scales(
    scale_result: ScaleResult, environment: Environment, scaled: Scaled, check: Check
) -> None:
    """Users notice nothing while many others use the portal."""
    everybody, users, slo = scale_result.all_under_load, scale_result.users_under_load, environment.slo
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
def test_fewer_pods_serve_when_people_have_gone(scale_result: ScaleResult, scaled: Scaled, check: Check) -> None:
    """When the many people have gone the additional pods go too, and no remaining user notices."""
    if scale_result.scale_out_failure:
        raise NoVerdictError(
            said("more pods, that can become fewer", "no scale-out; see the test of it", scaled.look_next)
        )
    users = scale_result.users_after_load
    check.measured("requests", users.count, "")
    if scale_result.scale_in_seconds is not None:
        check.measured("pods gone", scale_result.scale_in_seconds, "s")

    assert not scale_result.scale_in_failure, scale_result.scale_in_failure
    assert users.count, said("requests of users", users, scaled.look_next)
    assert not users.failed, said("no request to fail while pods leave", users, scaled.look_next)
