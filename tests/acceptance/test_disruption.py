"""Promise disruption: users do not notice maintenance of nodes. Judged by the budget, by evictions and by a drain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fixtures.api.live import Objects
from fixtures.api.pods import Pod
from fixtures.disruption.blast_radius import DrainPlan, Limits
from fixtures.disruption.brakes import Brakes
from fixtures.disruption.eviction import evict_until_decided
from fixtures.disruption.measured_drain import DrainResult, MeasuredDrain, spent
from fixtures.disruption.steady_state import Maintained, describe_pods
from fixtures.disruption.tenure import Tenure
from fixtures.environment.environment import Environment
from fixtures.environment.timeouts import Timeouts
from fixtures.outcomes import said
from fixtures.platform.disruption_budget import coverage, list_budgets
from fixtures.portal.client import Portal
from fixtures.report.check import Check
from fixtures.traffic.running import Traffic, under_load

RATE = 20.0
"""Requests of users per second during the drain."""


def test_budget_covers_exactly_the_backstage_pods(
    maintained: Maintained, objects: Objects, pods: tuple[Pod, ...]
) -> None:
    """The budget protects all of Backstage's pods, and no others."""
    wanted = maintained.pdb
    there = tuple(map(Pod, objects.list("v1", "Pod", wanted.namespace)))
    found = coverage(wanted, list_budgets(objects, wanted.namespace), there, pods)

    assert found.exact, said(
        f"{wanted} over exactly {', '.join(pod.name for pod in pods)}",
        found,
        f"kubectl -n {wanted.namespace} get pdb,pods --show-labels",
    )


def test_budget_allows_one_disruption(maintained: Maintained, check: Check) -> None:
    """Maintenance can proceed: the budget lets it take one pod at a time."""
    budget = maintained.budget()

    check.measured("disruptions allowed", budget.allowed, "")
    assert budget.allowed, said(f"{maintained.pdb} to allow one disruption", budget, maintained.look_next)


@pytest.fixture
def taken(maintained: Maintained, tenure: Tenure, brakes: Brakes) -> Iterator[tuple[Pod, ...]]:
    """Evicted pods, as many as the budget allows; teardown waits until they are replaced."""
    allowed = maintained.steady().allowed
    ready = maintained.ready_pods()
    brakes()
    # Never the last one, should the budget allow that.
    answers = [evict_until_decided(pod, tenure.api) for pod in ready[: min(allowed, len(ready) - 1)]]
    taken = tuple(answer.pod for answer in answers if answer.decision == "evicted")
    yield taken
    maintained.wait_until_replaced(taken, len(ready))


@pytest.mark.needs("disrupt")
def test_eviction_beyond_the_budget_is_refused(
    maintained: Maintained, tenure: Tenure, taken: tuple[Pod, ...], check: Check
) -> None:
    """Even maintenance of several machines at once never takes the last pod that serves users."""
    last = maintained.ready_pods()[0]

    # A dry run: should the budget be broken, users keep this pod. The decision is the same.
    answer = evict_until_decided(last, tenure.api, dry_run=True)

    check.decided_by("Eviction API: cause DisruptionBudget")
    assert taken, said("the evictions that the budget allows", "all refused", maintained.look_next)
    assert answer.decision == "refused by budget", said(
        f"eviction of {last.name} refused by its budget while {', '.join(pod.name for pod in taken)} is replaced",
        answer,
        maintained.look_next,
    )


@pytest.fixture(scope="module")
def folder(results: Path) -> Path:
    """Folder to which the drain's requests are written."""
    return results / "drain"


@pytest.fixture(scope="module")
def traffic(portal: Portal, timeouts: Timeouts, folder: Path) -> AbstractContextManager[Traffic]:
    """Sends users' requests to the portal, from when it is entered."""
    return under_load(portal, timeouts, rate=RATE, folder=folder)


@pytest.fixture(scope="module")
def measured_drain(maintained: Maintained, tenure: Tenure) -> MeasuredDrain:
    """Drains nodes of this deployment while users are served."""
    return MeasuredDrain(maintained, tenure.api, tenure.journal, str(tenure.lease))


@pytest.fixture(scope="module")
def plan(say: Callable[[str], None], maintained: Maintained, measured_drain: MeasuredDrain) -> DrainPlan:
    """The blast radius, printed before the drain; a budget that never allows one fails here."""
    maintained.steady()
    plan = measured_drain.plan(Limits(seconds=maintained.timeouts.drain))
    say(f"\nabout to drain {plan}")
    return plan


@pytest.fixture(scope="module")
def drain_result(
    measured_drain: MeasuredDrain,
    plan: DrainPlan,
    environment: Environment,
    brakes: Brakes,
    traffic: AbstractContextManager[Traffic],
) -> DrainResult:
    """The drain of a node with a Backstage pod, measured while users are served."""
    brakes()
    allowed = environment.slo.error_ratio * RATE * plan.seconds
    return measured_drain.run(plan, traffic, lambda users: brakes.with_budget(lambda: spent(users, allowed)))


@pytest.mark.needs("disrupt", "load")
def test_enough_pods_are_ready_at_all_times_of_a_drain(drain_result: DrainResult, check: Check) -> None:
    """While a machine is emptied, never fewer pods serve users than the budget promises."""
    least, budget = drain_result.ready.fewest, drain_result.budget
    check.keep("drain.json", drain_result.chart())
    check.decided_by(f"a watch of the pods: {drain_result.ready}")
    check.measured("fewest Ready pods", len(least.ready), "")

    assert len(least.ready) >= budget.desired, said(
        f"at least {budget.desired} Ready pods at all times, as the budget {budget.name} says",
        f"{len(least.ready)} ({drain_result.ready})",
        f"{check.folder}/drain.json",
    )


@pytest.mark.needs("disrupt", "load")
def test_replacements_are_ready_on_other_nodes(drain_result: DrainResult, maintained: Maintained, check: Check) -> None:
    """Pods of a machine that goes away are replaced on other machines in time."""
    check.measured("node emptied", drain_result.seconds_to("drained"), "s")
    check.measured("all pods Ready elsewhere", drain_result.seconds_to("replaced"), "s")

    check.decided_by(f"node {drain_result.plan.node}: {drain_result.drain.cordoned}; {drain_result.plan}")
    assert drain_result.replaced, said("pods after the drain", "none", maintained.look_next)
    assert not drain_result.returned, said(
        f"every pod on another node than {drain_result.plan.node}",
        describe_pods(drain_result.returned),
        "kubectl get pods -o wide",
    )


@pytest.mark.needs("disrupt", "load")
def test_users_notice_nothing_of_a_drain(drain_result: DrainResult, environment: Environment, check: Check) -> None:
    """While a machine is emptied, users are served as well as the objectives promise."""
    outage, ratio = drain_result.traffic.longest_outage(), drain_result.traffic.error_ratio
    check.decided_by(f"requests to {environment.portal.hostname}: {drain_result.traffic.summary()}")
    check.measured("longest outage", outage, "s")
    check.measured("error ratio", ratio, "")

    assert outage <= environment.slo.longest_outage, said(
        f"no outage longer than {environment.slo.longest_outage:g} s",
        drain_result.traffic.summary(),
        drain_result.traffic.look_next,
    )
    assert ratio <= environment.slo.error_ratio, said(
        f"at most {environment.slo.error_ratio:.2%} of requests failed",
        drain_result.traffic.summary(),
        drain_result.traffic.look_next,
    )


@pytest.mark.needs("disrupt", "load")
def test_drained_node_is_back_as_it_was(drain_result: DrainResult) -> None:
    """After maintenance the machine is used again, just as before."""
    assert drain_result.after == drain_result.before, said(
        f"node {drain_result.plan.node} as it was: {drain_result.before}",
        drain_result.after,
        f"kubectl describe node {drain_result.plan.node}",
    )
