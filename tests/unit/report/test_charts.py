"""Charts: they show values as measured, gaps as gaps, and every failed request."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from typing import Any

import pytest
from PIL import Image

from fixtures.objects.manifest import Field
from fixtures.report import charts
from fixtures.report.charts import Series, held_until, per_second, series

SCALE_OUT: dict[str, Any] = {
    "begin": "2026-01-01T00:00:00+00:00",
    "samples": [
        {"t": 0, "utilisation": {"cpu": 20, "memory": 40}, "desired": 2, "ready": 2, "offered": 0, "answered": 0},
        {"t": 1.5, "utilisation": {"cpu": None, "memory": 40}, "desired": 3, "ready": 2, "offered": 9, "answered": 9},
        {
            "t": 3,
            "utilisation": {"cpu": 180, "memory": 41},
            "desired": 3,
            "ready": 3,
            "offered": 9,
            "answered": 8,
            "failed": 1,
        },
    ],
    "marks": [{"t": 1, "what": "load begins"}, {"t": 1.5, "what": "desired replicas raised"}],
}
DISRUPTION: dict[str, Any] = {
    "begin": "2026-01-01T00:00:00+00:00",
    "rows": [{"t": each / 20, "outcome": "reset" if each in (30, 31) else "good"} for each in range(100)],
    "ready": [{"t": 0, "pods": 2}, {"t": 1, "pods": 1}, {"t": 4, "pods": 2}],
    "marks": [{"t": 1, "what": "cordon"}],
}


def samples() -> list[Field]:
    """The samples of a scale-out, as a chart reads them."""
    return list(Field(SCALE_OUT)["samples"])


def colours(png: bytes) -> set[tuple[int, ...]]:
    """All colours of a picture, as RGB."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return {
        colour for _, colour in picture.getcolors(picture.width * picture.height) or [] if isinstance(colour, tuple)
    }


def rgb(colour: str) -> tuple[int, int, int]:
    """RGB of a colour such as `#1f77b4`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def test_figure_that_was_not_seen_is_a_gap() -> None:
    """A missing value is a gap in the line, not 0 %."""
    assert series("cpu", samples(), "utilisation", "cpu").points == ((0, 20), (3, 180))
    assert series("failed", samples(), "failed").points == ((3, 1),)


def test_what_is_no_figure_is_not_drawn() -> None:
    """NaN, infinity, text and booleans are not drawn."""
    odd = [Field({"t": t, "ready": value}) for t, value in enumerate([math.nan, math.inf, "2", True, 2])]

    assert series("Ready", odd, "ready").points == ((4, 2),)


def test_seconds_without_a_request_are_counted_as_none() -> None:
    """Seconds without a request count as 0, so that a stalled prober shows."""
    assert per_second([0.1, 0.9, 3.0], 1.0).points == ((0, 2), (1, 0), (2, 0), (3, 1))
    assert per_second([0.1, 0.9, 3.0], 2.0).points == ((0, 1), (2, 0.5))
    assert per_second([], 1.0).points == ()


def test_what_is_noted_at_changes_lasts_until_the_end() -> None:
    """The last value holds until the end, as Ready pods are recorded only when they change."""
    assert held_until(Series("Ready pods", ((0, 2), (1, 1))), 5).points == ((0, 2), (1, 1), (5, 1))
    assert held_until(Series("Ready pods", ()), 5).points == ()


def test_scale_out_shows_all_its_lines() -> None:
    """The chart has lines for utilisation, desired and Ready pods, and offered, answered and failed requests."""
    seen = colours(charts.scale_out(SCALE_OUT))

    assert {rgb(each) for each in (charts.BLUE, charts.ORANGE, charts.GREEN, charts.RED, charts.GREY)} <= seen


def test_disruption_shows_the_failed_requests() -> None:
    """Two failed requests of a hundred are visible, and outcomes that did not occur have no colour."""
    seen = colours(charts.disruption(DISRUPTION))

    assert {rgb(charts.PALE), rgb(charts.BY_OUTCOME["reset"]), rgb(charts.BLUE)} <= seen
    assert rgb(charts.BY_OUTCOME["5xx"]) not in seen


def test_outcome_that_nobody_knows_is_a_failure() -> None:
    """An unknown outcome is drawn as a failure, so that a new class of the prober's does not look good."""
    rows = [{"t": each, "outcome": "something new"} for each in range(3)]

    assert rgb(charts.RED) in colours(charts.disruption({"rows": rows}))


@pytest.mark.parametrize("data", [None, [], {}, {"samples": []}, {"rows": "none"}, {"verdict": "accepted"}])
def test_other_json_is_no_chart(data: object) -> None:
    """Other JSON draws nothing, as a check may keep any JSON as evidence."""
    assert charts.draw(data) is None


@pytest.mark.parametrize(
    "data", [{"samples": [{"t": 1}]}, {"rows": [{"t": "soon"}, {"outcome": "good"}], "marks": [{}]}]
)
def test_incomplete_data_is_drawn_as_far_as_it_goes(data: object) -> None:
    """Incomplete data of a run that was stopped is still drawn."""
    assert (charts.draw(data) or b"").startswith(b"\x89PNG")


def test_many_marks_need_more_lines_and_no_more_width() -> None:
    """The legend of marks wraps within its width."""
    assert charts.wrapped(["1 load begins", "2 load ends", "3 rest"], 30) == ["1 load begins   2 load ends", "3 rest"]


def test_marks_that_are_too_close_share_a_place() -> None:
    """Marks that are too close share one number range, as overlapping numbers are unreadable."""
    assert charts.grouped([0.0, 0.1, 31.1, 31.1, 31.2, 38], 1) == [(0, 1), (2, 4), (5, 5)]
    assert charts.grouped([], 1) == []


def test_importing_it_does_not_import_matplotlib() -> None:
    """Matplotlib is imported only for drawing, so that the smoke does not wait for it."""
    program = "import sys, fixtures.report.charts; print('matplotlib' in sys.modules)"

    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )
