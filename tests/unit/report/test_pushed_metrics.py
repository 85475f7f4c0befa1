"""Metrics pushed for alerts: those of the last run, and those that outlast it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prometheus_client import generate_latest
from typing_extensions import override

from fixtures.outcomes import said
from fixtures.report import pushed_metrics
from fixtures.report.verdict import CheckResult, Run, Verdict
from tests.unit.apiserver import running

BEGAN, ENDED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC), datetime(2026, 1, 1, 12, 0, 15, tzinfo=UTC)
BROKEN = CheckResult("database", "test_catalog", "It answers.", "broken", said("entities", "503", "logs"), seconds=1.5)
KEPT = CheckResult("https", "test_days", "It lasts.", "kept", measured={"certificate": (2.0, "days left")}, seconds=0.1)
IN_TWO_DAYS = 1767441615.0
"""2026-01-03 12:00:15 UTC."""


def verdict(*checks: CheckResult, problems: tuple[str, ...] = ()) -> Verdict:
    """A verdict on these checks after a run of 15 s."""
    return Verdict(Run("prod", BEGAN, ENDED), checks, frozenset(), problems)


def samples(text: bytes) -> dict[str, float]:
    """Samples of a Prometheus exposition, without the common prefix of their names."""
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    pairs = (line.rpartition(" ") for line in lines)
    return {name.removeprefix("backstage_acceptance_"): float(value) for name, _, value in pairs}


def test_rejected_run_names_what_is_broken() -> None:
    """A rejected run has series for verdict, promises, checks, durations and the evidence of what is broken."""
    assert samples(generate_latest(pushed_metrics.of_run(verdict(KEPT, BROKEN)))) == {
        'verdict{verdict="accepted"}': 0,
        'verdict{verdict="rejected"}': 1,
        'verdict{verdict="no verdict"}': 0,
        'promise{outcome="kept",promise="https"}': 1,
        'promise{outcome="broken",promise="database"}': 1,
        'check{check="test_days",outcome="kept",promise="https"}': 1,
        'check{check="test_catalog",outcome="broken",promise="database"}': 1,
        'check_seconds{check="test_days",promise="https"}': 0.1,
        'check_seconds{check="test_catalog",promise="database"}': 1.5,
        'broken{check="test_catalog",evidence="503",promise="database"}': 1,
        "run_seconds": 15,
        "last_run_timestamp_seconds": ENDED.timestamp(),
    }


def test_run_without_a_verdict_says_why() -> None:
    """A run without a verdict has a series with its first problem."""
    found = samples(generate_latest(pushed_metrics.of_run(verdict(problems=("expected: a cluster; seen: none",)))))

    assert found['verdict{verdict="no verdict"}'] == 1
    assert found['problem{problem="none"}'] == 1


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (verdict(KEPT), {"last_accepted_timestamp_seconds", "certificate_not_after_timestamp_seconds"}),
        (verdict(KEPT, BROKEN), {"certificate_not_after_timestamp_seconds"}),
        (verdict(BROKEN), set()),
    ],
)
def test_only_what_a_run_knows_replaces_what_was_known(found: Verdict, kept: set[str]) -> None:
    """A run pushes only what it knows, so that a rejected one keeps the time of the last success."""
    assert set(samples(generate_latest(pushed_metrics.lasting(found)))) == kept


def test_end_of_the_certificate_is_a_time() -> None:
    """The days that a certificate is still valid become a timestamp, counted from the end of the run."""
    found = samples(generate_latest(pushed_metrics.lasting(verdict(KEPT))))

    assert found["certificate_not_after_timestamp_seconds"] == IN_TWO_DAYS
    assert found["last_accepted_timestamp_seconds"] == ENDED.timestamp()


class Pushgateway(ThreadingHTTPServer):
    """A Pushgateway that records what is pushed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), PushHandler)
        self.pushed: list[tuple[str, str, dict[str, float]]] = []

    @property
    def url(self) -> str:
        """URL of the server, with the port that the system chose."""
        return f"http://127.0.0.1:{self.server_port}"


class PushHandler(BaseHTTPRequestHandler):
    """Accepts every push."""

    server: Pushgateway

    def do_PUT(self) -> None:
        """Record method, path and samples."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.pushed.append((self.command, self.path, samples(body)))
        self.send_response(200)
        self.end_headers()

    do_POST = do_PUT  # noqa: N815 - the name of http.server

    @override
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def pushgateway() -> Iterator[Pushgateway]:
    """A Pushgateway that accepts every push."""
    with running(Pushgateway()) as server:
        yield server


def test_last_run_replaces_and_what_lasts_is_added(pushgateway: Pushgateway) -> None:
    """The last run's metrics replace their group by PUT; lasting metrics are merged by POST."""
    pushed_metrics.push(verdict(KEPT, BROKEN), pushgateway.url)

    [run, rest] = pushgateway.pushed
    assert run[:2] == ("PUT", "/metrics/job/backstage-acceptance/environment/prod")
    assert "run_seconds" in run[2]
    assert rest[:2] == ("POST", "/metrics/job/backstage-acceptance-lasting/environment/prod")
    assert set(rest[2]) == {"certificate_not_after_timestamp_seconds"}
