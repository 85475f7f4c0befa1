"""Load: what is due and when, what the process of its own makes of it, and how what it wrote is judged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from fixtures.load.load import Load, offered, plan_for, served
from fixtures.load.local import LocalLoadGenerator, generate_load
from fixtures.load.plan import CATALOG, PRESSURE, USERS, LoadPlan, LoadRow, Schedule, Share, Tick, parse_plan, sum_ticks
from fixtures.outcomes import NoVerdictError
from fixtures.scaling import experiment
from fixtures.traffic.plan import Page
from fixtures.traffic.process import stop
from fixtures.waiting import DeadlinePassedError, no_verdict_if_late, wait_for

PLAN = LoadPlan("http://portal.test", None, None, {"Authorization": "Bearer secret"}, Page("/static/big.js", ""))


def rows(*outcomes: str, kind: str = USERS) -> list[LoadRow]:
    """Requests of these outcomes; each takes 0.1 s longer than the one before."""
    return [LoadRow(float(place), kind, (place + 1) / 10, outcome) for place, outcome in enumerate(outcomes)]


def test_plan_reaches_the_process_as_it_is() -> None:
    """In one line; what signs a request in is in no text of it that somebody may see."""
    assert parse_plan(PLAN.to_json()) == PLAN
    assert "\n" not in PLAN.to_json()
    assert "secret" not in repr(PLAN)


def test_nothing_is_due_before_a_rate_is_said() -> None:
    """Nor once it is 0."""
    schedule = Schedule()
    assert schedule.due(100) == []
    schedule.set_rate(2, 100)
    schedule.set_rate(0, 101)
    assert schedule.due(200) == []


def test_requests_are_due_at_even_distances_however_late_it_is_asked() -> None:
    """Nobody is left out and nobody is told twice."""
    schedule = Schedule()
    schedule.set_rate(4, 100)

    assert schedule.due(100.2) == []
    assert schedule.due(100.3) == [100.25]
    assert schedule.due(101.3) == [100.5, 100.75, 101.0, 101.25]
    assert schedule.due(101.3) == []


def test_new_rate_holds_from_now_on() -> None:
    """Not for what was due already."""
    schedule = Schedule()
    schedule.set_rate(1, 100)
    schedule.set_rate(10, 100.5)

    assert schedule.due(100.75) == pytest.approx([100.6, 100.7])


def test_shares_of_a_rate_are_together_as_even_as_the_rate() -> None:
    """However many send, and none of them with the others."""
    shares = [Schedule() for _ in range(3)]
    for turn, each in enumerate(shares, 1):
        each.set_rate(6, 100, Share(turn, 3))

    due = sorted(at for each in shares for at in each.due(101.999))

    assert due == pytest.approx([100 + number / 6 for number in range(1, 12)])


def test_counts_of_several_are_summed() -> None:
    """Kind by kind."""
    ticks = [
        Tick(1, {USERS: 1, PRESSURE: 10}, {USERS: 1, PRESSURE: 9}),
        Tick(2, {USERS: 2, PRESSURE: 20}, {USERS: 2, PRESSURE: 18}),
    ]

    assert sum_ticks(3, ticks) == Tick(3, {USERS: 3, PRESSURE: 30}, {USERS: 3, PRESSURE: 27})


def test_what_was_served_is_counted_and_timed() -> None:
    """95 of 100 within: the 19th of 20."""
    seen = served(rows(*["good"] * 17, "503", "503", "wrong body"))

    assert (seen.count, seen.failed, seen.error_ratio, seen.latency) == (20, 3, 0.15, 1.9)
    assert str(seen) == "3 of 20 requests failed (2 503, 1 wrong body), 95 of 100 were over within 1.90 s"
    assert str(served(rows("good"))) == "0 of 1 requests failed, 95 of 100 were over within 0.10 s"


def test_of_no_requests_all_have_failed() -> None:
    """Nothing was shown."""
    assert served([]).error_ratio == 1


def test_offered_load_is_what_was_sent_of_what_was_due() -> None:
    """Between two times, by the process' own count."""
    ticks = [Tick(float(at), {PRESSURE: 10 * at}, {PRESSURE: 10 * at - (5 if at > 2 else 0)}) for at in range(6)]

    seen = offered(ticks, PRESSURE, 1, 4)

    assert (seen.due, seen.sent, seen.seconds) == (30, 25, 3)
    assert seen.share == pytest.approx(25 / 30)
    assert seen.rate == pytest.approx(25 / 3)
    assert str(seen) == "25 of 30 requests that were due within 3 s sent"


@pytest.mark.parametrize("begin", [0, 100])
def test_without_ticks_nothing_was_offered(begin: float) -> None:
    """Neither a share nor a rate."""
    seen = offered([Tick(1, {PRESSURE: 0}, {PRESSURE: 0})], PRESSURE, begin, 200)

    assert (seen.share, seen.rate) == (0, 0)


def test_gevent_stays_out_of_this_process() -> None:
    """It changes sockets, threads and time for everything that was imported before."""
    assert experiment.__name__ in sys.modules
    assert "gevent" not in sys.modules
    assert "locust" not in sys.modules


@pytest.fixture
def portal(serve: Callable[[web.Application], str]) -> tuple[str, list[str]]:
    """A portal whose second query of the catalog finds nothing, and what it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.path} {request.headers.get('Authorization')} {request.headers['Host'].split(':')[0]}")
        found = request.path == "/api/catalog/entities/by-query"
        return web.Response(text='[{"metadata": {}}]' if found else "[]", status=503 if "big" in request.path else 200)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    return serve(application), asked


def test_process_sends_what_is_due_and_ends_with_its_input(portal: tuple[str, list[str]], tmp_path: Path) -> None:
    """To the pinned address, signed in; a row for each request; rates change while it runs."""
    url, asked = portal
    port = url.rpartition(":")[2]
    plan = LoadPlan(f"http://portal.test:{port}", "127.0.0.1", None, PLAN.headers, PLAN.pressure, users_rate=40)

    with generate_load(plan, tmp_path / "load") as load:
        load.set_rate(pressure=50)
        wait_for("both", load.rows, until=lambda seen: len(kinds(seen)) == 3, within=10, every=0.02, look_next="")
        load.set_rate(pressure=0)

    assert kinds(load.rows()) == {(USERS, "good"), (USERS, "wrong body"), (PRESSURE, "503")}
    assert set(asked) == {
        "/api/catalog/entities/by-query Bearer secret portal.test",
        "/api/catalog/entities Bearer secret portal.test",
        "/static/big.js Bearer secret portal.test",
    }
    last = load.ticks()[-1]
    assert sum(last.sent.values()) == len(load.rows()) == len(asked)
    assert last.due[PRESSURE] >= last.sent[PRESSURE] > 0
    assert not any("secret" in file.read_text() for file in load.folder.iterdir())


def kinds(seen: tuple[LoadRow, ...]) -> set[tuple[str, str]]:
    """Kinds of requests and what became of them."""
    return {(row.kind, row.outcome) for row in seen}


def test_process_that_does_not_start_leaves_no_verdict(tmp_path: Path) -> None:
    """And says why in its log."""
    process = subprocess.Popen(["false"], stdin=subprocess.PIPE, text=True)
    load = Load(LocalLoadGenerator(process, tmp_path / "load.log"), tmp_path)
    (tmp_path / "load.log").write_text("first\nModuleNotFoundError: no locust\n")
    stop(process, grace=10)

    with pytest.raises(NoVerdictError) as failed:
        load.set_rate(pressure=1)
    with pytest.raises(NoVerdictError):
        load.ticks()
    assert str(failed.value) == (
        "expected: a process that makes load\n"
        "seen: it ended with 1: ModuleNotFoundError: no locust\n"
        f"look next: {tmp_path}/load.log"
    )


def test_rows_end_with_the_last_whole_line(tmp_path: Path) -> None:
    """Somebody is still writing."""
    process = subprocess.Popen(["true"], stdin=subprocess.PIPE, text=True)
    (tmp_path / "requests.jsonl").write_text(
        '{"at": 1.0, "kind": "users", "seconds": 0.1, "outcome": "good"}\n{"at": 2.0, "ki'
    )
    load = Load(LocalLoadGenerator(process, tmp_path / "load.log"), tmp_path)
    stop(process, grace=10)

    assert load.rows() == (LoadRow(1.0, USERS, 0.1, "good"),)
    assert load.ticks() == ()


def test_what_nobody_promised_leaves_no_verdict_when_it_is_late() -> None:
    """The text is that of the wait."""
    with pytest.raises(NoVerdictError, match="expected: load"), no_verdict_if_late():
        raise DeadlinePassedError("expected: load")


def test_plan_is_for_the_portal_as_its_users_come_to_it(tmp_path: Path) -> None:
    """Hostname, address, trust and sign-in are those of the portal."""

    class Portal:
        hostname, address, ca_file, timeout = "portal.test", "192.0.2.1", tmp_path / "ca.crt", 7.0
        headers = PLAN.headers

        def url(self, path: str) -> str:
            return f"https://portal.test{path}"

    (tmp_path / "ca.crt").write_text("PEM")
    plan = plan_for(Portal(), PLAN.pressure, longest=60)  # type: ignore[arg-type] # all that is used of one

    assert (plan.url, plan.address, plan.ca, plan.timeout) == ("https://portal.test", "192.0.2.1", "PEM", 7)
    assert (plan.pages, plan.longest) == (CATALOG, 60)
