"""The result of a visit: what it cost whom."""

from __future__ import annotations

import pytest

from tests.unit.scaling.conftest import VISIT


def test_users_are_judged_apart_from_the_crowd_and_apart_from_what_comes_after_it() -> None:
    """The crowd's own requests count among all, not among those of users."""
    assert (VISIT.all_meanwhile.count, VISIT.all_meanwhile.failed) == (4, 1)
    assert (VISIT.users_meanwhile.count, VISIT.users_meanwhile.failed) == (2, 0)
    assert (VISIT.users_afterwards.count, VISIT.users_afterwards.failed) == (1, 1)
    assert VISIT.offered.rate == pytest.approx(6)
    assert VISIT.shrunk == pytest.approx(66.1)
    assert VISIT.chain.open == ()
