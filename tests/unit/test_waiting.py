"""The wait: how long, how often, what it says when it gives up."""

from __future__ import annotations

import pytest

from fixtures.waiting import DeadlinePassedError, wait_for


class Clock:
    """A clock that advances only while the wait sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += seconds


class Readings:
    """Returns the values one after the other, then the last one forever; counts the readings."""

    def __init__(self, *values: str) -> None:
        self._values = list(values)
        self.taken = 0

    def __call__(self) -> str:
        """The next value."""
        self.taken += 1
        return self._values.pop(0) if len(self._values) > 1 else self._values[0]


def wait(readings: Readings, clock: Clock, in_a_row: int = 1) -> str:
    """Wait for the reading "Programmed"."""
    return wait_for(
        "Gateway mcp/external-gw-01 to be Programmed",
        readings,
        until=lambda reading: reading == "Programmed",
        within=180,
        look_next="kubectl -n mcp describe gateway external-gw-01",
        every=2,
        in_a_row=in_a_row,
        sleep=clock.sleep,
        clock=clock,
    )


def test_wait_returns_the_reading_that_satisfied_it() -> None:
    """The first good reading ends the wait and is its result."""
    clock, readings = Clock(), Readings("Accepted", "Accepted", "Programmed")

    assert wait(readings, clock) == "Programmed"
    assert (readings.taken, clock.now) == (3, 4)


def test_wait_does_not_sleep_when_the_first_reading_is_good() -> None:
    """A condition that already holds costs no time."""
    clock = Clock()

    wait(Readings("Programmed"), clock)

    assert clock.now == 0


def test_wait_begins_anew_after_a_bad_reading_when_several_are_asked_for() -> None:
    """A bad reading resets the count of good readings in a row."""
    clock, readings = Clock(), Readings("Programmed", "Programmed", "Accepted", "Programmed")

    wait(readings, clock, in_a_row=3)

    assert readings.taken == 6


def test_wait_says_what_it_expected_what_it_saw_and_where_to_look() -> None:
    """The failure names condition, deadline, last reading and the command to run next."""
    clock = Clock()

    with pytest.raises(DeadlinePassedError) as failed:
        wait(Readings("Accepted"), clock)

    assert str(failed.value) == (
        "expected: Gateway mcp/external-gw-01 to be Programmed within 180 s\n"
        "seen: Accepted\n"
        "look next: kubectl -n mcp describe gateway external-gw-01"
    )
    assert clock.now == 180


def test_wait_tells_what_it_waits_for_whenever_that_looks_different() -> None:
    """Each change of the reading is reported with the time that has passed; the last reading is not."""
    messages: list[str] = []
    clock, readings = Clock(), Readings("held by a", "held by a", "held by b", "free")

    wait_for(
        "the Lease", readings, until=lambda reading: reading == "free", within=60, look_next="", every=2,
        on_change=messages.append, sleep=clock.sleep, clock=clock,
    )  # fmt: skip

    assert messages == [
        "waiting, 0 of 60 s; expected: the Lease; seen: held by a",
        "waiting, 4 of 60 s; expected: the Lease; seen: held by b",
    ]


def test_wait_passes_on_the_errors_of_its_reader() -> None:
    """An error that the reader does not take for "not yet" ends the wait at once."""

    def broken() -> str:
        raise PermissionError("gateways is forbidden")

    with pytest.raises(PermissionError, match="gateways is forbidden"):
        wait_for("anything", broken, until=bool, within=1, look_next="")


def test_wait_stops_at_once_when_the_condition_says_that_it_is_hopeless() -> None:
    """A condition ends the wait at once by raising, for a state that never recovers."""
    clock = Clock()

    def until(reading: str) -> bool:
        raise RuntimeError(f"{reading} does not recover")

    with pytest.raises(RuntimeError, match="CrashLoopBackOff does not recover"):
        wait_for(
            "a pod", lambda: "CrashLoopBackOff", until=until, within=60, look_next="", sleep=clock.sleep, clock=clock
        )
    assert clock.now == 0
