"""An unknown fault, or one with a wrong target, is refused."""

from __future__ import annotations

import pytest

from lab import faults


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
    """The message lists the faults, or the nodes, that exist."""
    with pytest.raises(faults.UnknownFaultError) as refused:
        faults.inject(name, target)

    assert str(refused.value) == sentence
