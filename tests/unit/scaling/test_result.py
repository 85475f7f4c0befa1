"""The result of a scaling experiment: what it cost users."""

from __future__ import annotations

import pytest

from tests.unit.scaling.conftest import RESULT


def test_users_are_judged_apart_from_the_crowd_and_apart_from_what_comes_after_it() -> None:
    """All requests include the load's own; users' requests are counted alone, under load and after it."""
    assert (RESULT.all_under_load.count, RESULT.all_under_load.failed) == (4, 1)
    assert (RESULT.users_under_load.count, RESULT.users_under_load.failed) == (2, 0)
    assert (RESULT.users_after_load.count, RESULT.users_after_load.failed) == (1, 1)
    assert RESULT.offered.rate == pytest.approx(6)
    assert RESULT.scale_in_seconds == pytest.approx(66.1)
    assert RESULT.chain.missing == ()
