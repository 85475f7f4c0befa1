"""The real PostgreSQL behind the instance: what is in it, and its restart. `postgres.sh` keeps it running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg

from lab import layout

QUERY_SECONDS = 5.0
RESTART_SECONDS = 30.0


class NotRunningError(Exception):
    """PostgreSQL does not answer, or did not come back in time."""


@dataclass(frozen=True)
class User:
    """A role that may log in."""

    name: str
    iam: bool


@dataclass(frozen=True)
class Database:
    """A database and how it stores text."""

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
        """All databases but the templates, by name; NotRunningError if there is no answer."""
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
