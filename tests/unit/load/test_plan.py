"""The plan of a load: how it is passed to the process, and when its requests are due."""

from __future__ import annotations

import pytest

from fixtures.load.plan import PRESSURE, USERS, Schedule, Share, Tick, parse_plan, sum_ticks
from tests.unit.load.conftest import PLAN


def test_plan_reaches_the_process_as_it_is() -> None:
    """The plan is one line, and its repr hides the headers that sign requests in."""
    assert parse_plan(PLAN.to_json()) == PLAN
    assert "\n" not in PLAN.to_json()
    assert "secret" not in repr(PLAN)


def test_nothing_is_due_before_a_rate_is_said() -> None:
    """Setting the rate to 0 stops the schedule."""
    schedule = Schedule()
    assert schedule.due(100) == []
    schedule.set_rate(2, 100)
    schedule.set_rate(0, 101)
    assert schedule.due(200) == []


def test_requests_are_due_at_even_distances_however_late_it_is_asked() -> None:
    """Every due time is returned exactly once, even after a delay."""
    schedule = Schedule()
    schedule.set_rate(4, 100)

    assert schedule.due(100.2) == []
    assert schedule.due(100.3) == [100.25]
    assert schedule.due(101.3) == [100.5, 100.75, 101.0, 101.25]
    assert schedule.due(101.3) == []


def test_new_rate_holds_from_now_on() -> None:
    """The next due time counts from the moment the rate changes."""
    schedule = Schedule()
    schedule.set_rate(1, 100)
    schedule.set_rate(10, 100.5)

    assert schedule.due(100.75) == pytest.approx([100.6, 100.7])


def test_shares_of_a_rate_are_together_as_even_as_the_rate() -> None:
    """The workers' shares interleave evenly without any communication between them."""
    shares = [Schedule() for _ in range(3)]
    for turn, each in enumerate(shares, 1):
        each.set_rate(6, 100, Share(turn, 3))

    due = sorted(at for each in shares for at in each.due(101.999))

    assert due == pytest.approx([100 + number / 6 for number in range(1, 12)])


def test_counts_of_several_are_summed() -> None:
    """The counts of each kind are added up."""
    ticks = [
        Tick(1, {USERS: 1, PRESSURE: 10}, {USERS: 1, PRESSURE: 9}),
        Tick(2, {USERS: 2, PRESSURE: 20}, {USERS: 2, PRESSURE: 18}),
    ]

    assert sum_ticks(3, ticks) == Tick(3, {USERS: 3, PRESSURE: 30}, {USERS: 3, PRESSURE: 27})
