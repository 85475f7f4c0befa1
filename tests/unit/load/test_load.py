"""How the files that a load generator writes are judged."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fixtures.load.load import Load, offered, plan_for, served
from fixtures.load.local import LocalLoadGenerator
from fixtures.load.plan import CATALOG, PRESSURE, USERS, LoadRow, Tick
from fixtures.outcomes import NoVerdictError
from fixtures.traffic.process import stop
from fixtures.waiting import DeadlinePassedError, no_verdict_if_late
from tests.unit.load.conftest import PLAN


def rows(*outcomes: str, kind: str = USERS) -> list[LoadRow]:
    """Rows with these outcomes; each takes 0.1 s longer than the one before."""
    return [LoadRow(float(place), kind, (place + 1) / 10, outcome) for place, outcome in enumerate(outcomes)]


def test_what_was_served_is_counted_and_timed() -> None:
    """The 95th percentile of 20 requests is the 19th."""
    seen = served(rows(*["good"] * 17, "503", "503", "wrong body"))

    assert (seen.count, seen.failed, seen.error_ratio, seen.latency) == (20, 3, 0.15, 1.9)
    assert str(seen) == "3 of 20 requests failed (2 503, 1 wrong body), 95 of 100 were over within 1.90 s"
    assert str(served(rows("good"))) == "0 of 1 requests failed, 95 of 100 were over within 0.10 s"


def test_of_no_requests_all_have_failed() -> None:
    """Without requests nothing shows that users were served."""
    assert served([]).error_ratio == 1


def test_offered_load_is_what_was_sent_of_what_was_due() -> None:
    """The counts are the differences between two ticks of the generator."""
    ticks = [Tick(float(at), {PRESSURE: 10 * at}, {PRESSURE: 10 * at - (5 if at > 2 else 0)}) for at in range(6)]

    seen = offered(ticks, PRESSURE, 1, 4)

    assert (seen.due, seen.sent, seen.seconds) == (30, 25, 3)
    assert seen.share == pytest.approx(25 / 30)
    assert seen.rate == pytest.approx(25 / 3)
    assert str(seen) == "25 of 30 requests that were due within 3 s sent"


@pytest.mark.parametrize("begin", [0, 100])
def test_without_ticks_nothing_was_offered(begin: float) -> None:
    """Share and rate are 0."""
    seen = offered([Tick(1, {PRESSURE: 0}, {PRESSURE: 0})], PRESSURE, begin, 200)

    assert (seen.share, seen.rate) == (0, 0)


def test_rows_end_with_the_last_whole_line(tmp_path: Path) -> None:
    """The generator may be in the middle of writing the last line."""
    process = subprocess.Popen(["true"], stdin=subprocess.PIPE, text=True)
    (tmp_path / "requests.jsonl").write_text(
        '{"at": 1.0, "kind": "users", "seconds": 0.1, "outcome": "good"}\n{"at": 2.0, "ki'
    )
    load = Load(LocalLoadGenerator(process, tmp_path / "load.log"), tmp_path)
    stop(process, grace=10)

    assert load.rows() == (LoadRow(1.0, USERS, 0.1, "good"),)
    assert load.ticks() == ()


def test_what_nobody_promised_leaves_no_verdict_when_it_is_late() -> None:
    """The text of the deadline is kept."""
    with pytest.raises(NoVerdictError, match="expected: load"), no_verdict_if_late():
        raise DeadlinePassedError("expected: load")


def test_plan_is_for_the_portal_as_its_users_come_to_it(tmp_path: Path) -> None:
    """Hostname, address, CA certificate and sign-in are those of the portal."""

    class FakePortal:
        hostname, address, ca_file, timeout = "portal.test", "192.0.2.1", tmp_path / "ca.crt", 7.0
        headers = PLAN.headers

        def url(self, path: str) -> str:
            return f"https://portal.test{path}"

    (tmp_path / "ca.crt").write_text("PEM")
    plan = plan_for(FakePortal(), PLAN.pressure, longest=60)  # type: ignore[arg-type] # has all that is used

    assert (plan.url, plan.address, plan.ca, plan.timeout) == ("https://portal.test", "192.0.2.1", "PEM", 7)
    assert (plan.pages, plan.longest) == (CATALOG, 60)
