"""What runs in load pods: Locust's master and two workers, here as local processes.

The slowest of the unit tests, as Locust takes a second to import in each of three processes.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from fixtures.load.plan import PRESSURE, REQUESTS, TICKS, USERS, LoadPlan, Share
from fixtures.load.protocol import ALL_REPORTED, Assignment, parse_line
from fixtures.traffic.plan import Page
from fixtures.waiting import wait_for

POD_MAIN = """
import sys
from fixtures.load import protocol, sender
sender.TICK_INTERVAL = 0.1
protocol.WORKER_TIMEOUT = 0.6
from fixtures.load.pod_main import main
sys.exit(main())
"""
"""`python -m fixtures.load.pod_main` with a shorter tick interval and worker timeout."""


class LocalPods:
    """A master and its workers as local processes, each with a pipe as its stdin."""

    def __init__(self, plan: LoadPlan, workers: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        shares = (Share(turn, workers) for turn in range(1, workers + 1))
        assignments = (
            Assignment(plan, Share(0, workers), port=port),
            *(Assignment(plan, share, "127.0.0.1", port) for share in shares),
        )
        self.processes = [start_pod(each) for each in assignments]
        self.master, *self.workers = self.processes
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.master.stdout
        self.lines.extend(line.rstrip("\n") for line in self.master.stdout)

    def send(self, line: str) -> None:
        """Write a line to the master's stdin."""
        assert self.master.stdin
        self.master.stdin.write(f"{line}\n")
        self.master.stdin.flush()

    def reported(self, file: str) -> list[dict[str, Any]]:
        """The JSON lines that the master has printed so far for this file."""
        found = [parse_line(line) for line in tuple(self.lines)]
        return [json.loads(text) for name, text in found if name == file]


def start_pod(assignment: Assignment) -> subprocess.Popen[str]:
    """Start a process and pass it the assignment of one pod."""
    process = subprocess.Popen(
        [sys.executable, "-c", POD_MAIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    process.stdin.write(f"{assignment.to_json()}\n")
    process.stdin.flush()
    return process


@pytest.fixture
def pods(serve: Callable[[web.Application], str]) -> Iterator[LocalPods]:
    """Two workers whose portal always responds well; ready once the master reports ticks."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text='[{"metadata": {}}]')

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    port = serve(application).rpartition(":")[2]
    plan = LoadPlan(
        f"http://portal.test:{port}", "127.0.0.1", None, {}, Page("/big.js", ""), users_rate=20, most_at_once=3
    )
    pods = LocalPods(plan, 2)
    try:
        wait_for("a count", lambda: pods.reported(TICKS), until=bool, within=30, every=0.02, look_next="")
        yield pods
    finally:
        for process in pods.processes:
            process.kill()
        pods.reader.join()
        # Reaps the processes and closes their pipes, else pytest fails with ResourceWarning.
        for process in pods.processes:
            process.communicate()


def test_workers_send_their_shares_and_the_master_tells_all_of_it(pods: LocalPods) -> None:
    """The master prints every row and the sum of the counts; after `end` all processes exit with 0."""
    pods.send(json.dumps({PRESSURE: 40}))
    wait_for(
        "both kinds",
        lambda: Counter(row["kind"] for row in pods.reported(REQUESTS)),
        until=lambda seen: seen[USERS] > 4 and seen[PRESSURE] > 4,
        within=10,
        every=0.02,
        look_next="",
    )
    pods.send("end")
    codes = [process.wait(timeout=15) for process in (pods.master, *pods.workers)]
    pods.reader.join()

    assert codes == [0, 0, 0]
    assert pods.lines[-1] == ALL_REPORTED
    rows, last = pods.reported(REQUESTS), pods.reported(TICKS)[-1]
    assert Counter(row["kind"] for row in rows) == last["sent"]
    assert {row["outcome"] for row in rows} == {"good"}
    assert all(last["sent"][kind] > 0.7 * last["due"][kind] for kind in (USERS, PRESSURE)), "a worker lacks a kind"


def test_master_that_loses_a_worker_ends_and_says_so(pods: LocalPods) -> None:
    """With a worker lost, the offered load is unknown. SIGKILL looks like the loss of a node: no goodbye message."""
    pods.workers[0].kill()

    code = pods.master.wait(timeout=30)

    assert code == 1
    assert pods.master.stderr
    assert pods.master.stderr.read().strip().endswith(f"no word of {socket.gethostname()} for 0.6 s")
