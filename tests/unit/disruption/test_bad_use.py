"""What cannot be done is refused in one sentence, before anything is touched. Chaos in production: test_judging."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fixtures.disruption.experiment import Experiment
from fixtures.disruption.steady_state import Maintained
from fixtures.environment.tables import FaultsTable
from fixtures.environment.timeouts import Timeouts
from fixtures.outcomes import NoVerdictError
from fixtures.platform.disruption_budget import DeadlockedBudgetError
from lab import faults
from tests.unit.apiserver import as_json
from tests.unit.fakecluster import BUDGETS, FakeCluster
from tests.unit.fakeserver import Server
from tests.unit.patched import recorded_reference, with_patch


def experiment(**inject: tuple[str, ...]) -> Experiment:
    """In an environment that has commands for these faults."""
    nothing = cast("Any", None)
    return Experiment("x", nothing, nothing, nothing, nothing, nothing, FaultsTable(inject=inject), pytest.fail)


@pytest.mark.parametrize(
    ("known", "listed"), [({"flood": ("true",), "drought": ("true",)}, "drought, flood"), ({}, "it has none")]
)
def test_unknown_fault_is_refused_with_those_that_there_are(known: dict[str, tuple[str, ...]], listed: str) -> None:
    """Neither the brakes nor the journal are asked."""
    with pytest.raises(NoVerdictError) as refused, experiment(**known).fault("fire", "node-1"):
        pytest.fail("nothing happened")

    assert str(refused.value) == (
        f"expected: a fault of the environment ({listed})\nseen: fire\nlook next: [faults] of the environment file"
    )


@pytest.mark.parametrize(
    ("name", "target", "sentence"),
    [
        ("fire", "", f"expected: a fault of the lab ({', '.join(faults.FAULTS)}); seen: fire"),
        ("node-machine", "node-9", "expected: node-machine with one of node-1, node-2, node-3; seen: node-9"),
        ("node-machine", "", "expected: node-machine with one of node-1, node-2, node-3; seen: no target"),
        ("database-stopped", "node-1", "expected: database-stopped without a target; seen: node-1"),
    ],
)
def test_fault_that_the_lab_does_not_have_is_refused(name: str, target: str, sentence: str) -> None:
    """The faults, or the nodes, that there are."""
    with pytest.raises(faults.UnknownFaultError) as refused:
        faults.inject(name, target)

    assert str(refused.value) == sentence


def test_budget_that_can_never_allow_a_drain_ends_it_with_its_arithmetic(cluster: FakeCluster, server: Server) -> None:
    """At once; nothing but reads reached the API server."""
    [budget] = cluster.collections[BUDGETS].values()
    status = {**budget["status"], "desiredHealthy": 2, "disruptionsAllowed": 0}
    cluster.put(BUDGETS, {**budget, "status": status})
    kinds = {"resources": [{"name": "poddisruptionbudgets", "kind": "PodDisruptionBudget", "namespaced": True}]}
    cluster.script = lambda request: as_json(kinds) if request.path == "/apis/policy/v1" else None
    client = cast("Any", server.api())._client  # noqa: SLF001 - as an environment would make it
    reference = with_patch(recorded_reference(), "PodDisruptionBudget", "/metadata/namespace", "portal")
    deployment = Maintained(reference, client, Timeouts())

    with pytest.raises(DeadlockedBudgetError) as refused:
        deployment.budget()

    assert str(refused.value) == (
        "expected: a PodDisruptionBudget that lets maintenance take one pod\n"
        "seen: portal/backstage: 2 healthy of 2, 2 must stay: 0 may be evicted\n"
        "look next: kubectl -n portal describe pdb backstage"
    )
    assert cluster.requests
    assert cluster.changes() == []
