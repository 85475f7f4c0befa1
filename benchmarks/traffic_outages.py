"""Is the measure right? A server that fails on command for 0.5 to 30 s, and what traffic at its usual rate says of it.

    python -m benchmarks.traffic_outages

It answers 503, or takes requests and does not answer, or is gone: its port closed, its connections broken. Prints a
table for docs/performance.md; ends with 1 if the outage of any kind of request was measured further off than one
period of that kind. Takes some four minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from fixtures.traffic.outages import outages
from fixtures.traffic.plan import KINDS, Page, TrafficPlan
from fixtures.traffic.running import steady_traffic

WAYS = ("503", "hung", "gone")
LENGTHS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LEAD = 1.0
"""Seconds of good answers before the outage."""
GOOD = b'HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n<backstage.io> "metadata"'
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Server:
    """On a port of the loopback, in a thread of its own; fails in one way."""

    def __init__(self, way: str) -> None:
        self._way = way
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.StreamWriter] = set()
        self.fails_from = self.fails_until = float("inf")
        self._listener = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._listener.sockets[0].getsockname()[1]

    def fail(self, seconds: float) -> None:
        """For so long, some time from now."""
        self.fails_from = time.time() + LEAD
        self.fails_until = self.fails_from + seconds
        if self._way == "gone":
            self._loop.call_soon_threadsafe(self._loop.call_later, LEAD, self._go)
            self._loop.call_soon_threadsafe(self._loop.call_later, LEAD + seconds, self._come_back)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Until the block is left."""
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def _go(self) -> None:
        self.fails_from = time.time()
        self._listener.close()
        for writer in self._connections:
            writer.transport.abort()

    def _come_back(self) -> None:
        self._returned = self._loop.create_task(self._listen())

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.fails_until = time.time()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                failing = self.fails_from <= time.time() < self.fails_until
                if not (failing and self._way == "hung"):
                    writer.write(BAD if failing and self._way == "503" else GOOD)
        self._connections.discard(writer)
        writer.close()


def main() -> int:
    """Every way, every length; told as rows of a table."""
    folder = Path(tempfile.mkdtemp(prefix="traffic-outages-"))
    say("| fails | for, s | " + " | ".join(f"{kind}, s" for kind in KINDS) + " | begin and end off by at most, s |")
    say("|---|---|" + "---|" * (len(KINDS) + 1))
    good = [case(way, length, folder / f"{way}-{length:g}") for way in WAYS for length in LENGTHS]
    say(f"\n{sum(good)} of {len(good)} outages measured to within one period of each kind")
    return 0 if all(good) else 1


def case(way: str, length: float, folder: Path) -> bool:
    """One outage; whether every kind measured it to within its period."""
    server = Server(way)
    url = f"http://127.0.0.1:{server.port}"
    plan = TrafficPlan(url, None, None, {}, Page("/", "backstage.io"))
    with (
        server.running(),
        steady_traffic(plan, folder, steady=20, recovery=20, min_requests=1) as traffic,
    ):
        server.fail(length)
        traffic.wait_until_lasted(LEAD + length + LEAD)
    found = {outage.kind: outage for outage in outages(traffic.rows)}
    measured = " | ".join(f"{found[kind].seconds:.3f}" if kind in found else "none" for kind in KINDS)
    lasted = server.fails_until - server.fails_from
    edges = [(outage.begin - server.fails_from, outage.end - server.fails_until) for outage in found.values()]
    say(f"| {way} | {lasted:.3f} | {measured} | {max(abs(off) for edge in edges for off in edge):.3f} |")
    return traffic.outages() != () and all(
        kind in found and abs(found[kind].seconds - lasted) <= plan.period(kind) for kind in KINDS
    )


def say(text: str) -> None:
    """At once, as somebody watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
