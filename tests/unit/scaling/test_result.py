"""The result of a visit: what it cost whom."""

from __future__ import annotations

import pytest

from tests.unit.scaling.conftest import VISIT


def test_users_are_judged_apart_from_the_crowd_and_apart_from_what_comes_after_it() -> None:
    """The load's own requests count among all, not among those of users."""
    assert (VISIT.all_under_load.count, VISIT.all_under_load.failed) == (4, 1)
    assert (VISIT.users_under_load.count, VISIT.users_under_load.failed) == (2, 0)
    assert (VISIT.users_after_load.count, VISIT.users_after_load.failed) == (1, 1)
    assert VISIT.offered.rate == pytest.approx(6)
    assert VISIT.scale_in_seconds == pytest.approx(66.1)
    assert VISIT.chain.missing == ()
