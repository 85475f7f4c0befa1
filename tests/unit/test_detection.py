"""The faults of `tests/detection` as data: each is complete, names an existing check, and is documented."""

from __future__ import annotations

import ast

import pytest

from fixtures.environment.loading import ROOT
from tests.detection.fault import Fault, faults

ALL = list(faults())
PAGE = (ROOT / "docs" / "detection.md").read_text()


def test_names_are_unique() -> None:
    """Each fault is selected by its name, so no two share one."""
    assert len({fault.name for fault in ALL}) == len(ALL) >= 15


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name)
def test_check_exists(fault: Fault) -> None:
    """The check that must detect a fault exists, also after a check is renamed."""
    file, _, name = fault.check.partition("::")
    module = ast.parse((ROOT / "tests" / "acceptance" / file).read_text())

    assert name in {each.name for each in module.body if isinstance(each, ast.FunctionDef)}
    assert fault.inject
    assert fault.reason


def test_every_fault_is_documented() -> None:
    """`docs/detection.md` lists exactly these faults, in this order."""
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]

    assert [row[1].strip().strip("`") for row in rows] == [fault.name for fault in ALL]
    assert [row[2].strip() for row in rows] == [fault.what for fault in ALL]
