"""Processes of ours, which send requests: none is left behind."""

from __future__ import annotations

import subprocess

from fixtures.traffic.process import stop


def test_process_that_does_not_listen_is_killed() -> None:
    """Whatever it takes."""
    process = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE, text=True)

    stop(process, grace=0.01)

    assert process.returncode == -9
