"""From request rows to outages, error ratios with their confidence bounds, and latencies."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest

from fixtures.traffic.outages import Outage, TrafficRow, failures, latency, longest, outages, summary, upper_bound

BEGIN = 1_800_000_000.0
"""2027-01-15 08:00:00 UTC, in seconds since the epoch."""


def sent(outcomes: str, kind: str = "new", period: float = 0.5, seconds: float = 0.03) -> list[TrafficRow]:
    """Rows of requests on schedule: `.` is good, `5` a 5xx, `r` a reset, `t` too slow."""
    names = {".": "good", "5": "5xx", "r": "reset", "t": "too slow"}
    return [
        TrafficRow(
            scheduled=BEGIN + number * period,
            late=0.001,
            kind=kind,
            path="/",
            outcome=names[outcome],
            seconds=10.0 if outcome == "t" else seconds,
        )
        for number, outcome in enumerate(outcomes)
    ]


def test_outage_lasts_from_the_first_failed_request_to_the_next_good_one() -> None:
    """The duration counts from scheduled start to scheduled start, whatever time the requests took."""
    [outage] = outages(sent("...5rt5.."))

    assert (outage.begin - BEGIN, outage.end - BEGIN, outage.seconds) == (1.5, 3.5, 2.0)
    assert outage.outcomes == {"5xx": 2, "reset": 1, "too slow": 1}
    assert not outage.open


def test_outage_of_a_single_request_is_one_period() -> None:
    """A single failed request is known only to within one period of its connection kind."""
    assert [outage.seconds for outage in outages(sent("..r..", period=0.125))] == [0.125]


def test_no_failed_request_is_no_outage() -> None:
    """Without a failed request there is no longest outage either."""
    assert outages(sent(".....")) == ()
    assert longest(()) is None


def test_outages_are_told_apart_by_a_good_request_between_them() -> None:
    """A good response ends an outage."""
    assert [outage.seconds for outage in outages(sent("5.55.5."))] == [0.5, 1.0, 0.5]


def test_outages_do_not_depend_on_the_order_in_which_requests_end() -> None:
    """A hanging request is written last, but counts at the time it was scheduled."""
    rows = sent(".tt..")

    assert outages([rows[0], *rows[3:], *rows[1:3]]) == outages(rows)


def test_outages_of_one_kind_are_not_ended_by_good_requests_of_another() -> None:
    """Static pages that are served say nothing about the database."""
    rows = [*sent("........", "new", 0.25), *sent(".55.", "database", 0.5)]

    assert [(outage.kind, outage.seconds) for outage in outages(rows)] == [("database", 1.0)]


def test_outage_without_a_good_request_after_it_is_open() -> None:
    """An open outage lasted at least until the last failed request."""
    [outage] = outages(sent("..555"))

    assert (outage.seconds, outage.open) == (1.0, True)
    assert str(outage) == "at least 1.00 s (new: 5xx 3) from 08:00:01.000000 UTC"


def test_outage_whose_ends_were_sent_late_says_so() -> None:
    """Late requests make the outage's length less exact, and the message says by how much."""
    rows = [replace(row, late=0.2) if row.scheduled == BEGIN + 1.5 else row for row in sent(".55.")]

    assert (
        str(longest(outages(rows))) == "1.00 s (new: 5xx 2, its ends sent up to 0.20 s late) from 08:00:00.500000 UTC"
    )


def test_longest_of_equally_long_outages_is_the_one_without_an_end() -> None:
    """An open outage may have lasted longer than what was measured."""
    closed, unfinished = Outage("new", 0.0, 1.0, {"5xx": 2}), Outage("reused", 5.0, 6.0, {"5xx": 2}, open=True)

    assert longest([unfinished, closed]) == longest([closed, unfinished]) == unfinished


def test_failures_are_counted_by_class_in_the_order_of_a_request() -> None:
    """The order follows the phases of a request, the earliest first."""
    assert list(failures(sent("5.r5t")).items()) == [("reset", 1), ("5xx", 2), ("too slow", 1)]


@pytest.mark.parametrize(
    ("failed", "of", "bound"),
    [(0, 2400, 0.001247), (0, 840, 0.003560), (1, 100, 0.046560), (10, 10, 1.0), (0, 1, 0.95), (9, 10, 0.994884)],
)
def test_upper_bound_is_the_known_one(failed: int, of: int, bound: float) -> None:
    """Known values of the Clopper-Pearson interval; no failure and a single success have closed forms."""
    assert upper_bound(failed, of) == pytest.approx(bound, abs=1e-6)


@pytest.mark.parametrize(("failed", "of", "confidence"), [(3, 50, 0.95), (7, 400, 0.99), (40, 60, 0.5)])
def test_upper_bound_leaves_so_few_failures_just_the_rest_of_the_confidence(
    failed: int, of: int, confidence: float
) -> None:
    """At the bound, so few failures have a probability of 1 - confidence; computed in exact arithmetic."""
    share = Fraction(upper_bound(failed, of, confidence))

    so_few = sum(math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(failed + 1))

    assert float(so_few) == pytest.approx(1 - confidence, rel=1e-9)


def test_upper_bound_of_many_requests_is_found() -> None:
    """The number of requests of an hour does not overflow."""
    assert 0.0100 < upper_bound(1000, 100_000) < 0.0106


def test_latency_is_the_nearest_rank_of_good_answers() -> None:
    """Failed requests do not count: a refused connection is quick, but is no response."""
    rows = [row for number in range(1, 21) for row in sent(".", seconds=number / 10)] + sent("rrrr", seconds=0.001)

    assert (latency(rows, 0.95), latency(rows, 0.5), latency(rows, 1.0)) == (1.9, 1.0, 2.0)
    assert math.isnan(latency(sent("rr"), 0.95))


def test_summary_of_good_requests() -> None:
    """The summary is one line."""
    assert summary(sent("." * 840)) == (
        "840 requests, 0 failed (at most 0.36 % with 95 % confidence); no outage; 95 of 100 good answers within 0.030 s"
    )


def test_summary_of_failed_requests() -> None:
    """The summary shows how the requests failed, and when the longest outage began."""
    assert summary([*sent("." * 90), *sent("..r5.", "reused")]) == (
        "95 requests, 2 failed (at most 6.48 % with 95 % confidence: reset 1, 5xx 1); "
        "longest outage 1.00 s (reused: reset 1, 5xx 1) from 08:00:01.000000 UTC; "
        "95 of 100 good answers within 0.030 s"
    )


def test_summary_without_a_good_answer() -> None:
    """Without a good response no latency is reported."""
    assert summary(sent("rr")) == (
        "2 requests, 2 failed (at most 100.00 % with 95 % confidence: reset 2); "
        "longest outage at least 0.50 s (new: reset 2) from 08:00:00.000000 UTC; no good answer"
    )


def test_summary_of_nothing() -> None:
    """Without requests no figure is reported."""
    assert summary([]) == "no requests"
