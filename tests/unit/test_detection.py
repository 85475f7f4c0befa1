"""The faults of `tests/detection` as data: unique names, existing checks, and the same list in docs/detection.md."""

from __future__ import annotations

import ast

import pytest

from fixtures.environment.loading import ROOT
from tests.detection.fault import Fault, faults

ALL = list(faults())
PAGE = (ROOT / "docs" / "detection.md").read_text()


def test_names_are_unique() -> None:
    """Each fault has its own name, as a fault is selected by name."""
    assert len({fault.name for fault in ALL}) == len(ALL) >= 15


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name)
def test_check_exists(fault: Fault) -> None:
    """Each fault names an existing check, so that a renamed check cannot leave its faults behind."""
    file, _, name = fault.check.partition("::")
    module = ast.parse((ROOT / "tests" / "acceptance" / file).read_text())

    assert name in {each.name for each in module.body if isinstance(each, ast.FunctionDef)}
    assert fault.inject
    assert fault.reason


def test_every_fault_is_documented() -> None:
    """docs/detection.md lists exactly the faults of the code, in the same order."""
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]

    assert [row[1].strip().strip("`") for row in rows] == [fault.name for fault in ALL]
    assert [row[2].strip() for row in rows] == [fault.what for fault in ALL]
