"""Restarting PostgreSQL's process."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.waiting import wait_for
from lab.google.cloudsql.postgres import NotRunningError, Postgres


@contextlib.contextmanager
def server_called(name: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with this name, which the pid file presents as a server that accepts connections."""
    program, data = directory / "bin" / name, directory / "postgres" / "data"
    program.parent.mkdir()
    data.mkdir(parents=True)
    shutil.copy(shutil.which("sleep") or "", program)
    # A shell starts background jobs with SIGINT ignored, which child processes inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen([program, "60"]) as process:
        # execve() releases the parent process a moment before it sets the child's new name.
        comm = Path(f"/proc/{process.pid}/comm")
        wait_for(
            f"the process to be called {name}",
            lambda: comm.read_text().strip(),
            until=lambda called: called == name,
            within=5,
            every=0.01,
            look_next=str(comm),
        )
        # The last line is the postmaster's state; `ready` means that it accepts connections.
        (data / "postmaster.pid").write_text(f"{process.pid}\ndata\n0\n5432\nsocket\n127.0.0.1\n0\nready   \n")
        yield process
        process.kill()


def test_restart_waits_for_the_successor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old server gets the signal; if no new one appears, that is an error."""
    monkeypatch.setattr("lab.google.cloudsql.postgres.RESTART_SECONDS", 0.1)

    with server_called("postgres", tmp_path) as process:
        with pytest.raises(NotRunningError, match="not back 0 s after SIGINT"):
            asyncio.run(Postgres(tmp_path).restart(signal.SIGINT))
        assert process.wait(timeout=5) == -signal.SIGINT


def test_restart_spares_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pid in a stale pid file may belong to any process by now."""
    monkeypatch.setattr("lab.google.cloudsql.postgres.RESTART_SECONDS", 0.1)

    with server_called("stranger", tmp_path) as process:
        with pytest.raises(NotRunningError):
            asyncio.run(Postgres(tmp_path).restart(signal.SIGINT))
        assert process.poll() is None
