"""Injecting faults; an unknown fault is refused before anything is touched."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fixtures.disruption.experiment import Experiment
from fixtures.environment.schema import FaultsTable
from fixtures.outcomes import NoVerdictError


def experiment(**inject: tuple[str, ...]) -> Experiment:
    """An experiment in an environment with these inject commands."""
    nothing = cast("Any", None)
    return Experiment("x", nothing, nothing, nothing, nothing, nothing, FaultsTable(inject=inject), pytest.fail)


@pytest.mark.parametrize(
    ("known", "listed"), [({"flood": ("true",), "drought": ("true",)}, "drought, flood"), ({}, "it has none")]
)
def test_unknown_fault_is_refused_with_those_that_there_are(known: dict[str, tuple[str, ...]], listed: str) -> None:
    """The error lists the known faults; neither brakes nor journal are used."""
    with pytest.raises(NoVerdictError) as refused, experiment(**known).fault("fire", "node-1"):
        pytest.fail("nothing happened")

    assert str(refused.value) == (
        f"expected: a fault of the environment ({listed})\nseen: fire\nlook next: [faults] of the environment file"
    )
