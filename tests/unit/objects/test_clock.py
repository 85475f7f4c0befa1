"""Clock skew between this machine and the API server, by the Date header of an answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fixtures.objects import clock
from fixtures.outcomes import NoVerdictError

NOW = datetime(2026, 1, 1, 12, 0, 0, 500000, tzinfo=UTC)
DATE = "Thu, 01 Jan 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("date", "sent", "received", "seconds"),
    [
        (DATE, 0.0, 0.1, 0),
        (DATE, -30.0, 0.1, 0),  # the answer took half a minute, so the Date may be from any time in it
        (DATE, 60.5, 60.6, 60),
        (DATE, -60.6, -60.5, -60),
        ("Thu, 01 Jan 2026 12:00:00 -0000", 60.5, 60.6, 60),
        ("yesterday", 60, 60, 0),
        (None, 60, 60, 0),
    ],
)
def test_difference_is_what_is_certain(date: str | None, sent: float, received: float, seconds: float) -> None:
    """Only a difference beyond the duration of the request and the header's resolution of 1 s counts, in seconds."""
    found = clock.skew(date, NOW + timedelta(seconds=sent), NOW + timedelta(seconds=received))

    assert found == pytest.approx(seconds)


@pytest.mark.parametrize(("seconds", "seen"), [(90.0, "90 s ahead of that of"), (-90.0, "90 s behind that of")])
def test_other_time_ends_the_run_in_one_sentence(seconds: float, seen: str) -> None:
    """A skew above the limit ends the run without a verdict; the message has size, direction and server."""
    moment = NOW + timedelta(seconds=seconds)

    with pytest.raises(NoVerdictError) as failure:
        clock.check(DATE, moment, moment, server="https://10.0.0.1")

    assert str(failure.value) == (
        f"expected: this machine's clock within 10 s of the API server's; seen: {seen} https://10.0.0.1; "
        "look next: time synchronisation of the machine or node that the suite runs on"
    )


def test_small_difference_is_no_matter() -> None:
    """A skew of exactly the limit is accepted, as synchronized clocks differ slightly too."""
    moment = NOW + timedelta(seconds=clock.LARGEST_SKEW)

    clock.check(DATE, moment, moment, server="https://10.0.0.1")
