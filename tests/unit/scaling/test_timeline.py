"""The timeline of a scaling experiment: one sample per second."""

from __future__ import annotations

from collections import Counter
from typing import cast

from fixtures.scaling.chain import Recording
from fixtures.scaling.timeline import by_second, timeline
from tests.unit.scaling.conftest import BEGAN, MARKS, RESULT, ROWS, recording


def test_state_of_a_second_is_what_was_seen_by_its_end() -> None:
    """Before the first reading the state is unknown."""
    assert by_second([(10.5, "a"), (10.9, "b"), (12.0, "c")], 9.0, 4) == [None, "b", "c", "c"]


def test_time_line_has_a_sample_for_each_second() -> None:
    """A request counts in the second it was sent or ended; everything else is the state at the second's end."""
    drawn = timeline(recording(), ROWS, MARKS)

    samples = cast("list[dict[str, object]]", drawn["samples"])
    assert [each["t"] for each in samples] == list(range(71))
    assert samples[0] == {
        "t": 0,
        "utilisation": {"cpu": 9.0, "memory": 31.0},
        "desired": 2,
        "ready": 2,
        "offered": 2,
        "answered": 1,
        "failed": 0,
    }
    assert samples[30] == {
        "t": 30,
        "utilisation": {"cpu": 138.0, "memory": 36.0},
        "desired": 5,
        "ready": 2,
        "offered": 1,
        "answered": 0,
        "failed": 1,
    }
    assert Counter(each["ready"] for each in samples) == {2: 52, 3: 5, 5: 14}
    assert drawn["begin"] == "2026-11-24T12:38:23.678+00:00"
    assert drawn["marks"] == [
        {"t": 0.0, "what": "load begins"},
        {"t": 67.6, "what": "load ends"},
        {"t": 133.7, "what": "pods gone"},
    ]
    assert RESULT.timeline == drawn


def test_time_line_of_nothing_has_one_empty_second() -> None:
    """Without any reading the timeline has a single sample of zeros."""
    empty = Recording(BEGAN, 2, (), (), (), (), ())

    samples = cast("list[dict[str, object]]", timeline(empty, (), ())["samples"])
    assert samples == [{"t": 0, "utilisation": {}, "desired": 0, "ready": 0, "offered": 0, "answered": 0, "failed": 0}]
