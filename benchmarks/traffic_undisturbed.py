"""Checks that traffic has no failures of its own, with many runs against a target that nothing disrupts.

    python -m benchmarks.traffic_undisturbed --env local --runs 20 --seconds 15 --busy 2

`--busy` is the number of processes that use up CPU meanwhile. Prints a table for docs/performance.md. Exits with 1 if a
request failed or a run has no verdict.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fixtures.environment import loading, target
from fixtures.environment.environment import Environment
from fixtures.outcomes import NoVerdictError
from fixtures.portal.client import Portal, portal_of
from fixtures.traffic.outages import failures, latency
from fixtures.traffic.running import Traffic, under_load

HEADER = (
    "| run | requests | failed | p95, ms | latest start, ms | loop lag, ms/s | verdict |\n|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Shape:
    """How long one run sends traffic, and how much."""

    seconds: float
    rate: float
    """Requests per second."""


def main() -> int:
    """Run one after the other, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="local")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--busy", type=int, default=0, metavar="PROCESSES")
    options = parser.parse_args()
    environment = environment_of(options.env)
    portal = portal_of(environment.portal, timeout=environment.timeouts.http_request)
    folder = Path(tempfile.mkdtemp(prefix="traffic-undisturbed-"))
    print_now(f"rows: {folder}\n\n{HEADER}")
    with cpu_load(options.busy):
        good = [
            run(str(number), environment, portal, folder, Shape(options.seconds, options.rate))
            for number in range(1, options.runs + 1)
        ]
    print_now(f"\n{sum(good)} of {len(good)} runs without a failed request and with a verdict")
    return 0 if all(good) else 1


def environment_of(name: str) -> Environment:
    """Read an environment whose target is already running; nothing is started."""
    draft = loading.read(name)
    return draft.completed(target.facts(draft.target, within=60)).environment


def run(name: str, environment: Environment, portal: Portal, folder: Path, shape: Shape) -> bool:
    """Run once and print the row; returns whether no request failed and there was a verdict."""
    verdict, traffic = "yes", None
    try:
        with under_load(portal, environment.timeouts, folder=folder / name, rate=shape.rate) as traffic:
            traffic.wait_until_lasted(shape.seconds)
        traffic.outages()
    except (NoVerdictError, AssertionError) as error:
        verdict = " ".join(str(error).split())
    print_now(f"| {name} | {columns(traffic) if traffic else '| | | |'} | {verdict} |")
    return verdict == "yes" and traffic is not None and not failures(traffic.rows)


def columns(traffic: Traffic) -> str:
    """Format the figures of a run as the middle columns of its row."""
    rows, probes = traffic.rows, traffic.probes
    slow = 1000 * latency(rows, 0.95)
    late = 1000 * max((row.late for row in rows), default=0.0)
    lag = 1000 * sum(probe.lag for probe in probes) / max(traffic.seconds, 1)
    return f"{len(rows)} | {failures(rows) or 0} | {slow:.0f} | {late:.0f} | {lag:.1f}"


@contextlib.contextmanager
def cpu_load(number: int) -> Iterator[None]:
    """Run this many processes that each use a CPU fully, while the block lasts."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def print_now(text: str) -> None:
    """Print without buffering, as the table takes minutes to complete."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    begun = time.monotonic()
    code = main()
    print_now(f"{time.monotonic() - begun:.0f} s")
    sys.exit(code)
