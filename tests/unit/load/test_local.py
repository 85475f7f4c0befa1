"""The local process that generates load, with the real Locust."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from fixtures.load.load import Load
from fixtures.load.local import LocalLoadGenerator, generate_load
from fixtures.load.plan import PRESSURE, USERS, LoadPlan, LoadRow
from fixtures.outcomes import NoVerdictError
from fixtures.scaling import experiment
from fixtures.traffic.process import stop
from fixtures.waiting import wait_for
from tests.unit.load.conftest import PLAN


def test_gevent_stays_out_of_this_process() -> None:
    """Gevent patches sockets, threads and time for everything that is already imported."""
    # The module that starts load is imported, so its imports are what is tested here.
    assert experiment.__name__ in sys.modules
    assert "gevent" not in sys.modules
    assert "locust" not in sys.modules


@pytest.fixture
def portal(serve: Callable[[web.Application], str]) -> tuple[str, list[str]]:
    """URL of a portal whose second catalog query has a wrong body, and the requests it got."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.path} {request.headers.get('Authorization')} {request.headers['Host'].split(':')[0]}")
        found = request.path == "/api/catalog/entities/by-query"
        return web.Response(text='[{"metadata": {}}]' if found else "[]", status=503 if "big" in request.path else 200)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    return serve(application), asked


def test_process_sends_what_is_due_and_ends_with_its_input(portal: tuple[str, list[str]], tmp_path: Path) -> None:
    """Requests go to the pinned address and are signed in, each has a row, and rates change while it runs."""
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
    """The kinds of the requests with their outcomes."""
    return {(row.kind, row.outcome) for row in seen}


def test_process_that_does_not_start_leaves_no_verdict(tmp_path: Path) -> None:
    """The error quotes the last line of the process's log."""
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
