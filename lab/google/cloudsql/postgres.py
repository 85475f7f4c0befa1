"""PostgreSQL as Cloud SQL handles it: the first packet of a connection, what is in the server, its restart.

The server itself is kept running by `postgres.sh`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg

from lab import layout

CANCEL_REQUEST, SSL_REQUEST, GSSENC_REQUEST = 80877102, 80877103, 80877104
"""Codes in the place of the protocol version."""
LONGEST_STARTUP = 10_000
"""Of a startup packet, in bytes; PostgreSQL's own limit."""
QUERY_SECONDS = 5.0
RESTART_SECONDS = 30.0


class ProtocolError(Exception):
    """The client does not speak PostgreSQL."""


class NotRunningError(Exception):
    """PostgreSQL does not answer, or did not come back in time."""


@dataclass(frozen=True)
class Startup:
    """First packet of a connection that means something: a login, or a request to cancel a query."""

    packet: bytes
    cancel: bool
    user: str = ""
    database: str = ""


async def read_startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Startup:
    """The first packet after those that ask for encryption, which is refused: the connection has it already."""
    while True:
        header = await reader.readexactly(8)
        size, code = struct.unpack("!ii", header)
        if not len(header) <= size <= LONGEST_STARTUP:
            raise ProtocolError(f"a startup packet of {size} bytes")
        packet = header + await reader.readexactly(size - len(header))
        if code == CANCEL_REQUEST:
            return Startup(packet, cancel=True)
        if code not in (SSL_REQUEST, GSSENC_REQUEST):
            words = packet[8:].decode(errors="replace").split("\0")
            options = dict(zip(words[::2], words[1::2], strict=False))
            user = options.get("user", "")
            return Startup(packet, cancel=False, user=user, database=options.get("database") or user)
        writer.write(b"N")


def fatal(sqlstate: str, message: str) -> bytes:
    """PostgreSQL's ErrorResponse that ends a connection."""
    fields = "".join(f"{field}\0" for field in ("SFATAL", "VFATAL", f"C{sqlstate}", f"M{message}")).encode()
    return b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"


@dataclass(frozen=True)
class User:
    """A role that may log in."""

    name: str
    iam: bool


@dataclass(frozen=True)
class Database:
    """A database, templates excepted."""

    name: str
    charset: str
    collation: str


class Postgres:
    """The server of a Google directory, asked over its socket and told by signals."""

    def __init__(self, directory: Path) -> None:
        self._pid_file = directory / "postgres" / "data" / "postmaster.pid"
        self._dsn = f"host={directory}/postgres/socket port={layout.POSTGRES_PORT} user=postgres dbname=postgres"

    async def users(self) -> list[User]:
        """All users, by name; NotRunningError if there is no answer."""
        rows = await self._select(
            "SELECT rolname, EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
            "  WHERE m.member = r.oid AND g.rolname = 'cloudsqliamserviceaccount')"
            " FROM pg_roles r WHERE rolcanlogin ORDER BY rolname"
        )
        return [User(str(name), bool(iam)) for name, iam in rows]

    async def databases(self) -> list[Database]:
        """All databases, by name; NotRunningError if there is no answer."""
        rows = await self._select(
            "SELECT datname, pg_encoding_to_char(encoding), datcollate FROM pg_database"
            " WHERE NOT datistemplate ORDER BY datname"
        )
        return [Database(str(name), str(charset), str(collation)) for name, charset, collation in rows]

    async def _select(self, query: LiteralString) -> list[tuple[object, ...]]:
        try:
            async with asyncio.timeout(QUERY_SECONDS), await psycopg.AsyncConnection.connect(self._dsn) as connection:
                return await (await connection.execute(query)).fetchall()
        except (psycopg.OperationalError, TimeoutError) as error:
            raise NotRunningError(f"PostgreSQL does not answer: {error}") from error

    async def restart(self, how: signal.Signals) -> None:
        """Stop the server by SIGINT or SIGQUIT and wait until its successor accepts connections."""
        before, _ = self._postmaster()
        if before is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(before, how)
        deadline = time.monotonic() + RESTART_SECONDS
        while True:
            pid, ready = self._postmaster()
            if ready and pid != before:
                return
            if time.monotonic() > deadline:
                raise NotRunningError(f"PostgreSQL is not back {RESTART_SECONDS:.0f} s after {how.name}")
            await asyncio.sleep(0.05)

    def _postmaster(self) -> tuple[int | None, bool]:
        """Process id, if the server runs, and whether it accepts connections."""
        try:
            lines = self._pid_file.read_text().splitlines()
            # A killed server leaves the file, and its number may be another process's by now.
            if Path(f"/proc/{lines[0]}/comm").read_text().strip() != "postgres":
                return None, False
        except (OSError, IndexError):
            return None, False
        return int(lines[0]), [line.strip() for line in lines[7:8]] == ["ready"]
