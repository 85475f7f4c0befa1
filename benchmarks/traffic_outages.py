"""Checks that outages are measured correctly, with a server that fails on command for 0.5 to 30 s.

    python -m benchmarks.traffic_outages

The server answers 503, or accepts requests without answering, or closes its port and resets its connections. Prints a
table for docs/performance.md. Exits with 1 if a kind of request measures an outage that is off by more than one
period of that kind. Takes about four minutes.
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

FAULTS = ("503", "hung", "gone")
DURATIONS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LEAD = 1.0
"""Seconds of good answers before the outage, and of traffic after it."""
GOOD = b'HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n<backstage.io> "metadata"'
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Server:
    """An HTTP server on the loopback interface, in a thread of its own, that can fail in one way."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.StreamWriter] = set()
        self.fails_from = self.fails_until = float("inf")
        self._listener = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._listener.sockets[0].getsockname()[1]

    def fail(self, seconds: float) -> None:
        """Fail for this many seconds, starting in `LEAD` seconds."""
        self.fails_from = time.time() + LEAD
        self.fails_until = self.fails_from + seconds
        if self._fault == "gone":
            self._loop.call_soon_threadsafe(self._loop.call_later, LEAD, self._close)
            self._loop.call_soon_threadsafe(self._loop.call_later, LEAD + seconds, self._reopen)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def _close(self) -> None:
        # The time of the fault as it happens: a timer of a busy loop may be late.
        self.fails_from = time.time()
        self._listener.close()
        for writer in self._connections:
            writer.transport.abort()

    def _reopen(self) -> None:
        self._reopening = self._loop.create_task(self._listen())  # kept, as the loop holds tasks only weakly

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.fails_until = time.time()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                failing = self.fails_from <= time.time() < self.fails_until
                if not (failing and self._fault == "hung"):
                    writer.write(BAD if failing and self._fault == "503" else GOOD)
        self._connections.discard(writer)
        writer.close()


def main() -> int:
    """Measure every fault for every duration, and print a row for each."""
    folder = Path(tempfile.mkdtemp(prefix="traffic-outages-"))
    print_now(
        "| fails | for, s | " + " | ".join(f"{kind}, s" for kind in KINDS) + " | begin and end off by at most, s |"
    )
    print_now("|---|---|" + "---|" * (len(KINDS) + 1))
    good = [measure(fault, length, folder / f"{fault}-{length:g}") for fault in FAULTS for length in DURATIONS]
    print_now(f"\n{sum(good)} of {len(good)} outages measured to within one period of each kind")
    return 0 if all(good) else 1


def measure(fault: str, length: float, folder: Path) -> bool:
    """Cause one outage; returns whether every kind of request measured it to within its period."""
    server = Server(fault)
    url = f"http://127.0.0.1:{server.port}"
    plan = TrafficPlan(url, None, None, {}, Page("/", "backstage.io"))
    with server.running(), steady_traffic(plan, folder, steady=20, recovery=20, min_requests=1) as traffic:
        server.fail(length)
        traffic.wait_until_lasted(LEAD + length + LEAD)
    found = {outage.kind: outage for outage in outages(traffic.rows)}
    measured = " | ".join(f"{found[kind].seconds:.3f}" if kind in found else "none" for kind in KINDS)
    lasted = server.fails_until - server.fails_from
    edges = [(outage.begin - server.fails_from, outage.end - server.fails_until) for outage in found.values()]
    print_now(f"| {fault} | {lasted:.3f} | {measured} | {max(abs(off) for edge in edges for off in edge):.3f} |")
    return traffic.outages() != () and all(
        kind in found and abs(found[kind].seconds - lasted) <= plan.period(kind) for kind in KINDS
    )


def print_now(text: str) -> None:
    """Print without buffering, as the table takes minutes to complete."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
