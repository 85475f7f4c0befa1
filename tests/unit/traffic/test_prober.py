"""What speaks against the prober's figures, and what does not."""

from __future__ import annotations

from fixtures.traffic.outages import TrafficRow
from fixtures.traffic.plan import KINDS, Page, TrafficPlan, parse_plan
from fixtures.traffic.prober import ProbeResult, measurement_problem, prober_faults

PLAN = TrafficPlan(
    "https://backstage.test", None, None, {}, Page("/", "backstage"), connect_limit=5.0, request_limit=10.0
)
SECONDS = 10


def rows(outcome: str = "good", phases: tuple[str, ...] = ("first byte",), seconds: float = 0.03) -> list[TrafficRow]:
    """Ten seconds of requests, of which that of second 5 on a new connection ends so."""
    good = [
        TrafficRow(number * PLAN.period(kind), 0.001, kind, "/", "good", 0.03)
        for kind in KINDS
        for number in range(round(SECONDS / PLAN.period(kind)))
    ]
    bad = TrafficRow(5.0, 0.001, "new", "/", outcome, seconds, dict.fromkeys(phases, 0.0))
    return [bad if (row.kind, row.scheduled) == ("new", 5.0) else row for row in good]


def looks(**at_five: object) -> list[ProbeResult]:
    """Ten seconds of the control probe, of which the look of second 5 is so."""
    fine = [ProbeResult(number / 2, 0.005, 0.001, "good") for number in range(SECONDS * 2)]
    return [ProbeResult(**{**vars(look), **at_five}) if look.scheduled == 5 else look for look in fine]


def judged(sent: list[TrafficRow], seen: list[ProbeResult], least: int = 100) -> tuple[str, str] | None:
    """The prober's own trouble, if any."""
    return measurement_problem(PLAN, sent, seen, seconds=SECONDS, min_requests=least)


def test_failed_requests_count_while_the_prober_is_well() -> None:
    """Nothing excuses the portal."""
    assert judged(rows("connect refused"), looks()) is None
    assert judged(rows("too slow", seconds=10.0), looks()) is None


def test_too_few_requests_are_no_evidence() -> None:
    """Less than the least says nothing, good as it may be."""
    assert judged(rows(), looks(), least=201) == ("at least 201 requests to judge by", "200")


def test_requests_that_were_not_sent_are_no_evidence() -> None:
    """A prober that stood still saw no outage."""
    stood_still = [row for row in rows() if not 3 <= row.scheduled < 4]

    assert judged(stood_still, looks()) == (
        "95 % of 200 requests sent within 0.5 s of being due",
        "180 of 200, the latest 0.00 s late",
    )


def test_requests_that_were_sent_late_are_no_evidence() -> None:
    """What was due in the third second was sent in the fourth."""
    late = [TrafficRow(**{**vars(row), "late": 1.0}) if 3 <= row.scheduled < 4 else row for row in rows()]

    assert judged(late, looks()) == (
        "95 % of 200 requests sent within 0.5 s of being due",
        "180 of 200, the latest 1.00 s late",
    )


def test_control_probe_that_did_not_look_is_no_evidence() -> None:
    """Ten seconds have twenty looks."""
    assert judged(rows(), looks()[:9]) == ("the control probe to have looked 10 times", "9 times")


def test_request_without_an_answer_is_excused_while_the_loopback_server_does_not_answer_either() -> None:
    """The network of the prober's machine failed."""
    assert judged(rows("connect timeout", ("name", "connect")), looks(loopback="connect timeout")) == (
        "a prober that works while requests fail",
        "in 1 of them its loopback server: connect timeout 1",
    )


def test_request_without_an_answer_is_excused_while_the_control_url_does_not_answer_either() -> None:
    """The way from the prober into the world failed."""
    assert judged(rows("reset"), looks(control="name")) == (
        "a prober that works while requests fail",
        "in 1 of them its control_url: name 1",
    )


def test_answer_is_not_excused_by_the_prober() -> None:
    """No trouble of the prober makes a 503 or a page that is not Backstage's."""
    for outcome in ("5xx", "4xx", "wrong body"):
        assert judged(rows(outcome), looks(loopback="connect timeout", lag=9.0)) is None


def test_trouble_of_the_prober_at_another_time_excuses_nothing() -> None:
    """Half a second around the look is what it speaks for."""
    [early] = [row for row in rows("reset") if row.failed]

    assert prober_faults(PLAN, early, [ProbeResult(4.0, 0.4, 0.0, "reset"), ProbeResult(5.6, 0.1, 0.0, "reset")]) == ()
    assert prober_faults(PLAN, early, [ProbeResult(5.5, 0.1, 0.0, "reset")]) == ("its loopback server: reset",)


def test_time_that_ran_out_is_excused_when_the_prober_lost_half_of_it() -> None:
    """Of the 5 s for a connection 2.5 s, of the 10 s for a request 5 s."""
    connecting = rows("connect timeout", ("name", "connect"), 5.0)
    waiting = rows("too slow", ("first byte",), 10.0)

    assert judged(connecting, looks(lag=2.6)) == (
        "a prober that works while requests fail",
        "in 1 of them its event loop held up 1",
    )
    assert judged(waiting, looks(lag=2.6)) is None
    assert judged(waiting, looks(lag=5.1)) is not None


def test_refusal_is_not_excused_by_a_prober_that_was_held_up() -> None:
    """To be late makes nobody refuse a connection."""
    assert judged(rows("connect refused", ("name", "connect")), looks(lag=4.0)) is None


def test_plan_arrives_as_it_was_sent_and_does_not_show_its_headers() -> None:
    """It goes by a pipe as one line; tokens are in it, so it is not for printing."""
    plan = TrafficPlan(
        "https://backstage.test", "192.0.2.1", None, {"Authorization": "Bearer x"}, Page("/", '"'), rate=30.0
    )

    assert parse_plan(plan.to_json()) == plan
    assert "\n" not in plan.to_json()
    assert "Bearer" not in repr(plan)
