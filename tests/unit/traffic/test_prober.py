"""When the prober itself is at fault, and when it is not."""

from __future__ import annotations

from fixtures.traffic.outages import TrafficRow
from fixtures.traffic.plan import KINDS, Page, TrafficPlan, parse_plan
from fixtures.traffic.prober import ProbeResult, measurement_problem, prober_faults

PLAN = TrafficPlan(
    "https://backstage.test", None, None, {}, Page("/", "backstage"), connect_limit=5.0, request_limit=10.0
)
SECONDS = 10


def rows(outcome: str = "good", phases: tuple[str, ...] = ("first byte",), seconds: float = 0.03) -> list[TrafficRow]:
    """Rows of ten seconds; the request on a new connection at second 5 has this outcome."""
    good = [
        TrafficRow(number * PLAN.period(kind), 0.001, kind, "/", "good", 0.03)
        for kind in KINDS
        for number in range(round(SECONDS / PLAN.period(kind)))
    ]
    bad = TrafficRow(5.0, 0.001, "new", "/", outcome, seconds, dict.fromkeys(phases, 0.0))
    return [bad if (row.kind, row.scheduled) == ("new", 5.0) else row for row in good]


def probe_results(**at_second_5: object) -> list[ProbeResult]:
    """Control probe results of ten seconds; the one at second 5 has these fields."""
    fine = [ProbeResult(number / 2, 0.005, 0.001, "good") for number in range(SECONDS * 2)]
    return [ProbeResult(**{**vars(result), **at_second_5}) if result.scheduled == 5 else result for result in fine]


def problem(sent: list[TrafficRow], seen: list[ProbeResult], minimum: int = 100) -> tuple[str, str] | None:
    """Why the measurement is unusable (expected, seen), or None if it is usable."""
    return measurement_problem(PLAN, sent, seen, seconds=SECONDS, min_requests=minimum)


def test_failed_requests_count_while_the_prober_is_well() -> None:
    """Nothing excuses the portal."""
    assert problem(rows("connect refused"), probe_results()) is None
    assert problem(rows("too slow", seconds=10.0), probe_results()) is None


def test_too_few_requests_are_no_evidence() -> None:
    """Below the minimum there is no verdict, even if every request was good."""
    assert problem(rows(), probe_results(), minimum=201) == ("at least 201 requests to judge by", "200")


def test_requests_that_were_not_sent_are_no_evidence() -> None:
    """A prober that stopped for a second cannot have seen an outage in it."""
    with_gap = [row for row in rows() if not 3 <= row.scheduled < 4]

    assert problem(with_gap, probe_results()) == (
        "95 % of 200 requests sent within 0.5 s of being due",
        "180 of 200, the latest 0.00 s late",
    )


def test_requests_that_were_sent_late_are_no_evidence() -> None:
    """Requests scheduled in one second but sent in the next do not measure that second."""
    late = [TrafficRow(**{**vars(row), "late": 1.0}) if 3 <= row.scheduled < 4 else row for row in rows()]

    assert problem(late, probe_results()) == (
        "95 % of 200 requests sent within 0.5 s of being due",
        "180 of 200, the latest 1.00 s late",
    )


def test_control_probe_that_did_not_look_is_no_evidence() -> None:
    """The control probe runs twice per second, and half of its results are the minimum."""
    assert problem(rows(), probe_results()[:9]) == ("the control probe to have looked 10 times", "9 times")


def test_request_without_an_answer_is_excused_while_the_loopback_server_does_not_answer_either() -> None:
    """The network of the prober's machine failed."""
    assert problem(rows("connect timeout", ("name", "connect")), probe_results(loopback="connect timeout")) == (
        "a prober that works while requests fail",
        "in 1 of them its loopback server: connect timeout 1",
    )


def test_request_without_an_answer_is_excused_while_the_control_url_does_not_answer_either() -> None:
    """The prober's route to the outside failed."""
    assert problem(rows("reset"), probe_results(control="name")) == (
        "a prober that works while requests fail",
        "in 1 of them its control_url: name 1",
    )


def test_answer_is_not_excused_by_the_prober() -> None:
    """A 5xx, a 4xx or a wrong body comes from the portal, whatever the state of the prober."""
    for outcome in ("5xx", "4xx", "wrong body"):
        assert problem(rows(outcome), probe_results(loopback="connect timeout", lag=9.0)) is None


def test_trouble_of_the_prober_at_another_time_excuses_nothing() -> None:
    """A control probe result speaks for half a second around its scheduled time."""
    [failed] = [row for row in rows("reset") if row.failed]

    assert prober_faults(PLAN, failed, [ProbeResult(4.0, 0.4, 0.0, "reset"), ProbeResult(5.6, 0.1, 0.0, "reset")]) == ()
    assert prober_faults(PLAN, failed, [ProbeResult(5.5, 0.1, 0.0, "reset")]) == ("its loopback server: reset",)


def test_time_that_ran_out_is_excused_when_the_prober_lost_half_of_it() -> None:
    """The limits are 5 s for a connection and 10 s for a request; half of either excuses the timeout."""
    connecting = rows("connect timeout", ("name", "connect"), 5.0)
    waiting = rows("too slow", ("first byte",), 10.0)

    assert problem(connecting, probe_results(lag=2.6)) == (
        "a prober that works while requests fail",
        "in 1 of them its event loop held up 1",
    )
    assert problem(waiting, probe_results(lag=2.6)) is None
    assert problem(waiting, probe_results(lag=5.1)) is not None


def test_refusal_is_not_excused_by_a_prober_that_was_held_up() -> None:
    """A slow prober does not cause a refused connection."""
    assert problem(rows("connect refused", ("name", "connect")), probe_results(lag=4.0)) is None


def test_plan_arrives_as_it_was_sent_and_does_not_show_its_headers() -> None:
    """The plan travels through a pipe as one line; it holds tokens, so its repr hides the headers."""
    plan = TrafficPlan(
        "https://backstage.test", "192.0.2.1", None, {"Authorization": "Bearer x"}, Page("/", '"'), rate=30.0
    )

    assert parse_plan(plan.to_json()) == plan
    assert "\n" not in plan.to_json()
    assert "Bearer" not in repr(plan)
