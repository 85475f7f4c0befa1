"""Port 3307 of the instance, by which connectors reach PostgreSQL.

TLS with the connector's client certificate comes first. The certificate names the principal that the connector
logged in as (`generateEphemeralCert`); the startup packet inside the TLS must ask for that principal's PostgreSQL
user. What follows are PostgreSQL's own bytes.

The fault `database-port` with argument `refused` acts as if the instance were gone: new connections are
refused and established ones cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from lab import layout
from lab.google import faults
from lab.google.authority import Authority, key_pem, new_key, pem, write_private
from lab.google.cloudsql.startup import ProtocolError, Startup, fatal, read_startup

log = logging.getLogger("cloudsql")

LoginRule = Callable[[str, str | None], bool]
"""Whether a PostgreSQL user, named like an IAM principal, may be logged in by a connector of that principal."""
STARTUP_SECONDS = 60.0
"""From the connection to its startup packet; PostgreSQL's `authentication_timeout`."""
FAULT_SECONDS = 0.2
"""Between two looks at the fault."""
CHUNK = 2**17
"""Bytes that are read at once."""


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
            faulty = faults.argument("database-port") == "refused"
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
