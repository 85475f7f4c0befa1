"""The processes that send requests are stopped in every case."""

from __future__ import annotations

import subprocess

from fixtures.traffic.process import stop


def test_process_that_does_not_listen_is_killed() -> None:
    """A process that ignores the end of its input is killed after the grace time."""
    process = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE, text=True)

    stop(process, grace=0.01)

    assert process.returncode == -9
