"""What is remembered of the instance, and the operations on it: update, restart, failover."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from lab.google.authority import write_private
from lab.google.cloudsql import resources
from lab.google.cloudsql.port import Port
from lab.google.cloudsql.postgres import NotRunningError, Postgres
from lab.google.cloudsql.resources import Json, google_time

log = logging.getLogger("cloudsql")


@dataclass(frozen=True)
class Durations:
    """How long things take, in seconds; `cloudsql.json` of Google's directory may say otherwise."""

    restart: float = 2.0
    """Connections are refused for at least as long."""
    failover: float = 5.0
    """Connections are refused for at least as long."""
    certificate: float = 3600.0
    """Validity of a connector's certificate."""


class OperationInProgressError(Exception):
    """The instance is busy with another operation."""


class Instance:
    """What is remembered of the instance, in a file that survives its stand-in, and the operations on it."""

    def __init__(self, directory: Path, addresses: tuple[str, ...]) -> None:
        self._file, self._durations = directory / "cloudsql" / "instance.json", directory / "cloudsql.json"
        self._addresses = addresses
        self._postgres = Postgres(directory)
        self._running: asyncio.Task[None] | None = None
        self.kept: Json = {"primary": 0, "state": "RUNNABLE", "settings": resources.SETTINGS, "operations": {}}
        if self._file.exists():
            self.kept = json.loads(self._file.read_text())
        for operation in self._unfinished():
            _finish(operation, "The operation was interrupted.")

    @property
    def address(self) -> str:
        """Where the primary serves."""
        address: str = self._addresses[self.kept["primary"]]
        return address

    def durations(self) -> Durations:
        """As the file has them now; TypeError for an unknown name."""
        return Durations(**json.loads(self._durations.read_text())) if self._durations.exists() else Durations()

    async def update(self, settings: Json, state: str) -> None:
        """Show other settings and another state."""
        version = int(self.kept["settings"]["settingsVersion"]) + 1
        self.kept.update(state=state, settings={**settings, "settingsVersion": str(version)})

    async def restart(self, port: Port) -> None:
        """Restart PostgreSQL in order, so that it says goodbye to its clients."""
        at_least = self.durations().restart
        await port.refuse()
        await self._interrupt(port, signal.SIGINT, at_least)

    async def fail_over(self, port: Port) -> None:
        """Lose the primary and all that is connected to it; serve from the other address."""
        at_least = self.durations().failover
        await port.refuse()
        await port.cut()
        # Known at once: a connector that asked too early would ask again only 30 s later.
        self.kept["primary"] = 1 - self.kept["primary"]
        self._save()
        await self._interrupt(port, signal.SIGQUIT, at_least)

    async def _interrupt(self, port: Port, how: signal.Signals, at_least: float) -> None:
        try:
            await asyncio.gather(self._postgres.restart(how), asyncio.sleep(at_least))
        finally:
            await port.cut()
            await port.listen(self.address)

    def begin(self, kind: str, user: str, work: Callable[[], Awaitable[None]]) -> Json:
        """Start an operation; OperationInProgressError while there is another."""
        if self._unfinished():
            raise OperationInProgressError
        operation = resources.operation(kind, user)
        self.kept["operations"][operation["name"]] = operation
        self._save()
        self._running = asyncio.create_task(self._run(operation, work))
        return operation

    async def _run(self, operation: Json, work: Callable[[], Awaitable[None]]) -> None:
        operation.update(status="RUNNING", startTime=google_time(dt.datetime.now(dt.UTC)))
        problem = None
        try:
            await work()
        except (NotRunningError, OSError, TypeError, ValueError) as error:
            problem = str(error)
        _finish(operation, problem)
        self._save()
        log.info("%s by %s: %s", operation["operationType"], operation["user"], problem or "done")

    def _unfinished(self) -> list[Json]:
        return [operation for operation in self.kept["operations"].values() if operation["status"] != "DONE"]

    def _save(self) -> None:
        write_private(self._file, json.dumps(self.kept, indent=1))


def _finish(operation: Json, problem: str | None) -> None:
    operation.update(status="DONE", endTime=google_time(dt.datetime.now(dt.UTC)))
    if problem is not None:
        operation["error"] = resources.operation_error(problem)
