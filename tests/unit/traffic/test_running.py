"""Traffic as a whole: the sending process, the measurement, and the states it refuses to measure."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from aiohttp import web

from fixtures.environment.loading import ROOT
from fixtures.outcomes import NoVerdictError
from fixtures.traffic.outages import TrafficRow, outages
from fixtures.traffic.plan import CONTROL, KINDS, LOG, REQUESTS, Page, TrafficPlan
from fixtures.traffic.prober import ProbeResult
from fixtures.traffic.process import sender_process
from fixtures.traffic.running import Traffic, UnsteadyError, is_steady, steady_traffic
from fixtures.waiting import DeadlinePassedError, wait_for

PLAN = TrafficPlan("http://127.0.0.1", None, None, {}, Page("/", "backstage.io"), rate=100.0, request_limit=1.0)
"""Five times the usual rate, so that a test sees in one second what otherwise takes five."""


class FakePortal:
    """A server that answers 503 during a given window, else with a good page."""

    def __init__(self) -> None:
        self.fails_from = self.fails_until = float("inf")
        self.app = web.Application()
        self.app.router.add_get("/{path:.*}", self._answer)

    def fail(self, after: float, seconds: float) -> None:
        """Answer 503 for so many seconds, starting after a delay in seconds."""
        self.fails_from = time.time() + after
        self.fails_until = self.fails_from + seconds

    async def _answer(self, _request: web.Request) -> web.Response:
        failing = self.fails_from <= time.time() < self.fails_until
        return web.Response(status=503) if failing else web.Response(text='<backstage.io> "metadata"')


def test_outage_is_measured_to_within_a_period_of_each_kind(
    serve: Callable[[web.Application], str], tmp_path: Path
) -> None:
    """The server fails for 0.2 s; longer outages are in benchmarks/traffic_outages.py."""
    portal = FakePortal()
    plan = replace(PLAN, url=serve(portal.app), rate=200.0)

    with steady_traffic(plan, tmp_path / "traffic", steady=10, recovery=10) as traffic:
        portal.fail(after=0.05, seconds=0.2)
        traffic.wait_until_lasted(0.4)

    # traffic.longest_outage() would rightly raise NoVerdictError on a busy machine, so the rows are compared directly.
    # The slowest request is tolerated on top: if the server accepts it late, it answers in its later state.
    for kind in KINDS:
        seen = [outage for outage in outages(traffic.rows) if outage.kind == kind]
        slowest = max(row.ended - row.scheduled for row in traffic.rows if row.kind == kind)
        assert -slowest <= seen[0].begin - portal.fails_from <= plan.period(kind) + slowest
        assert -slowest <= seen[-1].end - portal.fails_until <= plan.period(kind) + slowest


def test_traffic_dies_with_whoever_started_it(serve: Callable[[web.Application], str], tmp_path: Path) -> None:
    """The sending process also ends when its parent is killed by SIGKILL."""
    plan = replace(PLAN, url=serve(FakePortal().app))
    (tmp_path / "plan").write_text(plan.to_json())
    script = (
        "import os, pathlib, signal, sys\n"
        "from fixtures.traffic.plan import parse_plan\n"
        "from fixtures.traffic.process import sender_process\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with sender_process(parse_plan((folder / 'plan').read_text()), folder / 'traffic') as process:\n"
        "    print(process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    parent = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )

    assert parent.returncode == -signal.SIGKILL
    wait_for(
        "the sending process to end",
        lambda: Path("/proc", parent.stdout.strip(), "cmdline"),
        # A zombie still has a folder in /proc, but an empty command line.
        until=lambda path: not path.exists() or not path.read_bytes(),
        within=5,
        look_next="ps",
        every=0.02,
    )


def test_traffic_ends_by_itself_after_its_longest_time(serve: Callable[[web.Application], str], tmp_path: Path) -> None:
    """A measurement that is cut off has no verdict; until then no request is sent before its scheduled time."""
    plan = replace(PLAN, url=serve(FakePortal().app), rate=200.0, longest=0.3)

    folder = tmp_path / "traffic"
    with pytest.raises(NoVerdictError) as ended, steady_traffic(plan, folder, steady=5, recovery=5) as traffic:
        traffic.wait_until_lasted(30)

    late = [json.loads(line)["late"] for line in (folder / REQUESTS).read_text().splitlines()]
    assert min(late) >= 0
    priority = (folder / LOG).read_text().strip()
    assert str(ended.value) == (
        "expected: a process that sends requests\n"
        f"seen: it ended with code 0: {priority}\n"
        f"look next: {tmp_path}/traffic/sender.log"
    )


def test_sending_process_that_cannot_start_is_no_verdict(tmp_path: Path) -> None:
    """The message quotes the last line of the process's log."""
    plan = replace(PLAN, ca_file=str(tmp_path / "none.pem"))

    with pytest.raises(NoVerdictError) as ended, steady_traffic(plan, tmp_path / "traffic", steady=5, recovery=5):
        pytest.fail("nothing was sent")

    assert str(ended.value) == (
        "expected: a process that sends requests\n"
        "seen: it ended with code 1: FileNotFoundError: [Errno 2] No such file or directory\n"
        f"look next: {tmp_path}/traffic/sender.log"
    )


def test_rows_of_another_traffic_are_not_written_over(tmp_path: Path) -> None:
    """Earlier rows are evidence, so an existing folder is an error."""
    with pytest.raises(FileExistsError), sender_process(PLAN, tmp_path):
        pytest.fail("nothing was sent")


def rows(
    seconds: float, bad: Callable[[TrafficRow], bool] = lambda _: False, begin: float = 1000.0
) -> list[TrafficRow]:
    """Rows of requests on schedule; those matching `bad` are answered with 503."""
    plan = [
        # Rounded like the rows of the sender, so that scheduled times compare equal.
        TrafficRow(round(begin + number * PLAN.period(kind), 6), 0.0, kind, "/", "good", 0.01)
        for kind in KINDS
        for number in range(round(seconds / PLAN.period(kind)))
    ]
    return [replace(row, outcome="5xx", status=503) if bad(row) else row for row in plan]


@pytest.fixture
def record(tmp_path: Path) -> Callable[[list[TrafficRow]], Traffic]:
    """Appends rows to the files of a running sender and returns the Traffic that reads them."""
    for name in (REQUESTS, CONTROL):
        (tmp_path / name).touch()
    (tmp_path / LOG).write_text("priority raised to niceness -10\n")

    def add(new: list[TrafficRow]) -> Traffic:
        _append(tmp_path / REQUESTS, (asdict(row) for row in new))
        probed_at = sorted({row.scheduled // 0.5 * 0.5 for row in new})
        _append(tmp_path / CONTROL, (asdict(ProbeResult(scheduled, 0.01, 0.0, "good")) for scheduled in probed_at))
        return Traffic(PLAN, tmp_path, lambda: None)

    return add


def _append(path: Path, lines: Iterator[dict[str, object]]) -> None:
    with path.open("a") as file:
        file.writelines(f"{json.dumps(fields)}\n" for fields in lines)


def test_traffic_refuses_to_begin_on_an_unsteady_state(
    record: Callable[[list[TrafficRow]], Traffic], tmp_path: Path
) -> None:
    """Without a steady state the cost of a disturbance cannot be measured."""
    traffic = record(rows(1.0, bad=lambda row: row.kind == "database"))

    with pytest.raises(UnsteadyError) as refused:
        traffic.start_measuring(within=0)

    assert str(refused.value) == (
        "expected: every request good, before anything is disturbed, for 0.4 s within 0 s\n"
        "seen: 100 requests, 10 failed (at most 16.37 % with 95 % confidence: 5xx 10); "
        "longest outage at least 0.90 s (database: 5xx 10) from 00:16:40.000000 UTC; "
        "95 of 100 good answers within 0.010 s\n"
        f"look next: {tmp_path}/requests.jsonl"
    )


def test_traffic_measures_from_the_steady_state_on(record: Callable[[list[TrafficRow]], Traffic]) -> None:
    """Requests sent before the steady state are not judged."""
    traffic = record(rows(1.0, bad=lambda row: row.scheduled < 1000.3))
    traffic.start_measuring(within=0)
    record(rows(3.0, begin=1001.0))

    assert traffic.rows[0].scheduled >= 1001.0
    assert (traffic.error_ratio, traffic.longest_outage(), round(traffic.seconds, 1)) == (0.0, 0.0, 3.0)
    assert traffic.latency(0.95) == 0.01


def test_longest_outage_of_a_kind(record: Callable[[list[TrafficRow]], Traffic]) -> None:
    """Without a kind, the longest outage of all kinds is returned."""
    traffic = record(rows(3.0, bad=lambda row: row.kind == "database" and 1001 <= row.scheduled < 1001.5))
    traffic.start_measuring(within=0)
    record(rows(3.0, bad=lambda row: row.kind == "database" and 1004 <= row.scheduled < 1004.5, begin=1003.0))

    assert traffic.longest_outage("new") == 0.0
    assert traffic.longest_outage("database") == traffic.longest_outage() == pytest.approx(0.5)


def test_state_that_does_not_become_steady_again_is_told_with_its_cost(
    record: Callable[[list[TrafficRow]], Traffic], tmp_path: Path
) -> None:
    """A missing recovery is a broken promise, and the message includes what it cost."""
    traffic = record(rows(2.0, bad=lambda row: row.kind == "new" and row.scheduled >= 1001.0))

    error = traffic.wait_until_recovered(within=0)

    assert isinstance(error, DeadlinePassedError)
    assert str(error) == (
        "expected: every request good again for 0.4 s within 0 s\n"
        "seen: 200 requests, 50 failed (at most 30.55 % with 95 % confidence: 5xx 50); "
        "longest outage at least 0.98 s (new: 5xx 50) from 00:16:41.000000 UTC; "
        "95 of 100 good answers within 0.010 s\n"
        f"look next: {tmp_path}/requests.jsonl"
    )


def test_too_few_requests_have_no_verdict(record: Callable[[list[TrafficRow]], Traffic], tmp_path: Path) -> None:
    """The count is too low even if all are good, and the message includes the prober's priority."""
    with pytest.raises(NoVerdictError) as refused:
        record(rows(0.9)).longest_outage()

    assert str(refused.value) == (
        "expected: at least 100 requests to judge by\n"
        "seen: 90; priority raised to niceness -10\n"
        f"look next: load and network of this machine; {tmp_path}"
    )


def test_traffic_that_does_not_come_has_no_verdict(
    record: Callable[[list[TrafficRow]], Traffic], tmp_path: Path
) -> None:
    """A portal that hangs still produces rows; if there are none, the prober is at fault."""
    record(rows(1.0))
    traffic = Traffic(replace(PLAN, request_limit=0.0), tmp_path, lambda: None)
    traffic.start_measuring(within=0)

    with pytest.raises(NoVerdictError) as waited:
        traffic.wait_until_lasted(0.05)

    assert str(waited.value) == (
        f"expected: traffic for 0.05 s within 0.05 s\nseen: no requests\nlook next: {tmp_path}/sender.log"
    )


def test_line_without_its_end_is_read_when_it_has_come(
    record: Callable[[list[TrafficRow]], Traffic], tmp_path: Path
) -> None:
    """A line may be read while the sending process is still writing it."""
    first, second = rows(0.04)[:2]
    traffic = record([first])
    line = json.dumps(asdict(second))
    with (tmp_path / REQUESTS).open("a") as file:
        file.write(line[:20])
        file.flush()
        before = traffic.rows
        file.write(f"{line[20:]}\n")

    assert (before, traffic.rows) == ((first,), (first, second))


@pytest.mark.parametrize(
    ("seen", "steady"),
    [
        (rows(0.5), True),
        (rows(0.3), False),
        (rows(1.0, bad=lambda row: row.scheduled == 1000.9), False),
        (rows(1.0, bad=lambda row: row.scheduled < 1000.5), True),
        ([row for row in rows(1.0) if row.kind != "database"], False),
        ([row for row in rows(2.0) if row.kind != "database" or row.scheduled < 1001.0], False),
        ([row for row in rows(1.0) if row.kind != "database" or row.scheduled < 1000.8], True),
        ([], False),
    ],
    ids=[
        "good",
        "too short",
        "late failure",
        "early failure",
        "no database",
        "database hangs",
        "database slow",
        "none",
    ],
)
def test_steady_is_when_enough_recent_requests_of_every_kind_were_good(seen: list[TrafficRow], *, steady: bool) -> None:
    """A hanging request has no row, so a missing row of a kind means the state is not steady."""
    assert is_steady(seen, PLAN) is steady
