"""A scale-out recorded in the lab."""

from __future__ import annotations

import functools
import json
from typing import Any

from fixtures.api.watch import Change
from fixtures.load.plan import PRESSURE, USERS, LoadRow, Tick
from fixtures.objects.manifest import Field
from fixtures.platform.autoscaler import autoscaler_of
from fixtures.scaling.calibration import Usage
from fixtures.scaling.chain import Recording
from fixtures.scaling.result import BEGINS, ENDS, SHRUNK, ScaleResult
from tests.unit.patched import RECORDED

SEEN: dict[str, Any] = json.loads((RECORDED / "autoscaling" / "scale-out.json").read_text())
BEGAN: float = SEEN["began"]


def changes(what: str) -> tuple[Change, ...]:
    """The recorded changes of one kind of object."""
    return tuple(Change(at, kind, Field(body)) for at, kind, body in SEEN[what])


@functools.cache
def recording() -> Recording:
    """The whole recording."""
    return Recording(
        BEGAN,
        SEEN["before"],
        tuple((each.at, autoscaler_of(each.body)) for each in changes("autoscaler")),
        changes("pods"),
        changes("slices"),
        changes("events"),
        tuple((at, Usage(*usage)) for at, *usage in SEEN["usages"]),
    )


ROWS = (
    LoadRow(BEGAN + 0.2, USERS, 0.1, "good"),
    LoadRow(BEGAN + 0.4, PRESSURE, 1.0, "good"),
    LoadRow(BEGAN + 30.0, PRESSURE, 0.1, "503"),
    LoadRow(BEGAN + 58.5, USERS, 0.3, "good"),
    LoadRow(BEGAN + 70.0, USERS, 0.2, "ConnectionResetError"),
)

MARKS = ((BEGAN, BEGINS), (BEGAN + 67.6, ENDS), (BEGAN + 133.7, SHRUNK))
TICKS = tuple(Tick(BEGAN + at, {PRESSURE: 6 * at}, {PRESSURE: 6 * at}) for at in range(80))
RESULT = ScaleResult(recording(), ROWS, TICKS, MARKS, "", "")
