"""Is the traffic itself steady? Many runs against a target that nobody disturbs: any failed request is ours.

    python -m benchmarks.traffic_undisturbed --env local --runs 20 --seconds 15 --busy 2

`--busy` keeps so many processes computing meanwhile. Prints a table for docs/performance.md; ends with 1 if a request
failed or a run had no verdict.
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

from fixtures.environment import file as environment_file
from fixtures.environment import target
from fixtures.environment.model import Environment
from fixtures.outcomes import NoVerdictError
from fixtures.portal.client import Portal, portal_of
from fixtures.traffic.outages import failures, latency
from fixtures.traffic.running import Traffic, under_load

HEADER = (
    "| run | requests | failed | p95, ms | latest start, ms | loop lag, ms/s | verdict |\n|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Load:
    """Of one run."""

    seconds: float
    rate: float


def main() -> int:
    """Run them one after the other."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--env", default="local")
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--seconds", type=float, default=15.0)
    options.add_argument("--rate", type=float, default=20.0)
    options.add_argument("--busy", type=int, default=0, metavar="PROCESSES")
    chosen = options.parse_args()
    environment = environment_of(chosen.env)
    portal = portal_of(environment.portal, timeout=environment.timeouts.http_request)
    folder = Path(tempfile.mkdtemp(prefix="traffic-undisturbed-"))
    say(f"rows: {folder}\n\n{HEADER}")
    with busy(chosen.busy):
        good = [
            run(str(number), environment, portal, folder, Load(chosen.seconds, chosen.rate))
            for number in range(1, chosen.runs + 1)
        ]
    say(f"\n{sum(good)} of {len(good)} runs without a failed request and with a verdict")
    return 0 if all(good) else 1


def environment_of(name: str) -> Environment:
    """An environment whose target is ready already."""
    draft = environment_file.read(name)
    return draft.completed(target.facts(draft.target, within=60)).environment


def run(name: str, environment: Environment, portal: Portal, folder: Path, load: Load) -> bool:
    """One run, told in a row; whether it was good."""
    verdict, traffic = "yes", None
    try:
        with under_load(portal, environment.timeouts, folder=folder / name, rate=load.rate) as traffic:
            traffic.wait_until_lasted(load.seconds)
        traffic.outages()
    except (NoVerdictError, AssertionError) as error:
        verdict = " ".join(str(error).split())
    say(f"| {name} | {figures(traffic) if traffic else '| | | |'} | {verdict} |")
    return verdict == "yes" and traffic is not None and not failures(traffic.rows)


def figures(traffic: Traffic) -> str:
    """The middle of a row."""
    rows, looks = traffic.rows, traffic.looks
    slow = 1000 * latency(rows, 0.95)
    late = 1000 * max((row.late for row in rows), default=0.0)
    lag = 1000 * sum(look.lag for look in looks) / max(traffic.seconds, 1)
    return f"{len(rows)} | {failures(rows) or 0} | {slow:.0f} | {late:.0f} | {lag:.1f}"


@contextlib.contextmanager
def busy(number: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def say(text: str) -> None:
    """At once, as somebody watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    begun = time.monotonic()
    code = main()
    say(f"{time.monotonic() - begun:.0f} s")
    sys.exit(code)
