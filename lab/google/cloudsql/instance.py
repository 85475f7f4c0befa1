"""The Cloud SQL instance itself: its port 3307, what is remembered of it, restart and failover.

On the port, TLS with the connector's client certificate comes first. The certificate names the principal that
the connector logged in as (`generateEphemeralCert`); the startup message inside the TLS must ask for that
principal's PostgreSQL user. What follows are PostgreSQL's own bytes.

The fault `database-port` with argument `refused` acts as if the instance were gone: new connections are
refused and established ones cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import logging
import signal
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import layout
from lab.google.authority import Authority, key_pem, new_key, pem, write_private
from lab.google.cloudsql.postgres import NotRunningError, Postgres, ProtocolError, Startup, fatal, read_startup
from lab.google.service import fault

log = logging.getLogger("cloudsql")

Json = dict[str, Any]
LoginRule = Callable[[str, str | None], bool]
"""Whether a PostgreSQL user, named like an IAM principal, may be logged in by a connector of that principal."""
STARTUP_SECONDS = 60.0
"""From the connection to its startup packet; PostgreSQL's `authentication_timeout`."""
FAULT_SECONDS = 0.2
"""Between two looks at the fault."""
CHUNK = 2**17


class Port:
    """Port 3307 on at most one address at a time, and the connections through it."""

    def __init__(self, directory: Path, may_login: LoginRule) -> None:
        self.server_ca = Authority(directory, "server-ca")
        self.client_ca = Authority(directory, "client-ca")
        self._certificate = directory / "server.pem"
        self._may_login = may_login
        self._address: str | None = None
        self._listening: str | None = None
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self._change = asyncio.Lock()

    async def listen(self, address: str) -> None:
        """Serve on the address, with a new server certificate from the same authority."""
        self._address = address
        await self._reconcile()

    async def refuse(self) -> None:
        """Stop listening; established connections stay."""
        self._address = None
        await self._reconcile()

    async def cut(self) -> None:
        """End all connections without a word, as when the machine behind them is gone."""
        sessions = set(self._sessions)
        for session in sessions:
            session.cancel()
        if sessions:
            await asyncio.wait(sessions, timeout=1)

    @contextlib.asynccontextmanager
    async def obeying_fault(self) -> AsyncIterator[None]:
        """Watch for the fault while the context lasts."""
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(FAULT_SECONDS)
            try:
                await self._reconcile()
            except OSError:
                log.exception("port %s cannot be opened on %s", layout.DATABASE_PORT, self._address)

    async def _reconcile(self) -> None:
        async with self._change:
            faulty = fault("database-port") == "refused"
            wanted = None if faulty else self._address
            if wanted != self._listening:
                await self._listen_only_on(wanted)
            if faulty:
                await self.cut()

    async def _listen_only_on(self, address: str | None) -> None:
        if self._server is not None:
            self._server.close()
            self._server, self._listening = None, None
            log.info("port %s closed", layout.DATABASE_PORT)
        if address is not None:
            self._server = await asyncio.start_server(
                self._accept, address, layout.DATABASE_PORT, ssl=self._tls(), limit=CHUNK, ssl_shutdown_timeout=1
            )
            self._listening = address
            log.info("port %s open on %s", layout.DATABASE_PORT, address)

    def _tls(self) -> ssl.SSLContext:
        key = new_key()
        # Connectors compare the common name with the instance they want.
        subject = f"{layout.PROJECT}:{layout.INSTANCE}"
        certificate = self.server_ca.issue(subject, key.public_key(), dt.timedelta(days=365))
        write_private(self._certificate, key_pem(key) + pem(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self._certificate)
        context.load_verify_locations(cadata=pem(self.client_ca.certificate))
        return context

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whole life of one connection."""
        session = asyncio.current_task()
        if session is None or self._server is None:  # the port was closed during the handshake
            writer.transport.abort()
            return
        self._sessions.add(session)
        try:
            await self._serve(reader, writer)
        except (OSError, ProtocolError, asyncio.IncompleteReadError) as error:
            log.info("connection from %s ended: %r", writer.get_extra_info("peername")[0], error)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._sessions.discard(session)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(STARTUP_SECONDS):
            startup = await read_startup(reader, writer)
        if not startup.cancel and not self._logged_in(startup, writer):
            kind = "service account" if startup.user.endswith(".iam") else "user"
            writer.write(fatal("28000", f'Cloud SQL IAM {kind} authentication failed for user "{startup.user}"'))
            return
        try:
            upstream = await asyncio.open_connection("127.0.0.1", layout.POSTGRES_PORT, limit=CHUNK)
        except OSError:
            writer.write(fatal("57P03", "the database system is not accepting connections"))
            return
        upstream[1].write(startup.packet)
        await relay((reader, upstream[1]), (upstream[0], writer))

    def _logged_in(self, startup: Startup, writer: asyncio.StreamWriter) -> bool:
        """Whether PostgreSQL may see the user; users that are not of IAM it asks for their password itself."""
        principal = dict(writer.get_extra_info("peercert").get("subjectAltName", ())).get("email")
        allowed = "@" not in startup.user or self._may_login(startup.user, principal)
        said = "allowed" if allowed else "refused"
        peer = writer.get_extra_info("peername")[0]
        log.info("login %s user=%s database=%s principal=%s from %s", said, startup.user, startup.database,
                 principal, peer)  # fmt: skip
        return allowed


Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def relay(there: Way, back: Way) -> None:
    """Carry bytes both ways until either side ends."""
    pumps = [asyncio.create_task(_pump(*way)) for way in (there, back)]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        there[1].close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


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

    def __init__(self, directory: Path, settings: Json, addresses: tuple[str, ...]) -> None:
        self._file, self._durations = directory / "cloudsql" / "instance.json", directory / "cloudsql.json"
        self._addresses = addresses
        self._postgres = Postgres(directory)
        self._running: asyncio.Task[None] | None = None
        self.kept: Json = {"primary": 0, "state": "RUNNABLE", "settings": settings, "operations": {}}
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
        operation = {
            "kind": "sql#operation",
            "name": str(uuid.uuid4()),
            "operationType": kind,
            "status": "PENDING",
            "user": user,
            "insertTime": google_time(dt.datetime.now(dt.UTC)),
            "targetId": layout.INSTANCE,
            "targetProject": layout.PROJECT,
        }
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


def google_time(time: dt.datetime) -> str:
    """The time as Google writes it."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _finish(operation: Json, problem: str | None) -> None:
    operation.update(status="DONE", endTime=google_time(dt.datetime.now(dt.UTC)))
    if problem is not None:
        error = {"kind": "sql#operationError", "code": "INTERNAL_ERROR", "message": problem}
        operation["error"] = {"kind": "sql#operationErrors", "errors": [error]}
