"""SIGTERM and SIGINT: what they interrupt, and what they wait for."""

from __future__ import annotations

import subprocess
import sys

INTERRUPTED = """
import os, signal, sys
from fixtures import interrupts
with interrupts.termination_is_interruption():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    try:
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            print("undone", flush=True)
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted afterwards", flush=True)
"""


def test_signals_interrupt_but_not_an_undoing() -> None:
    """SIGTERM interrupts a run at once, but waits while a change is being undone."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], check=True, capture_output=True, text=True)

    assert done.stdout.splitlines() == ["interrupted", "undone", "interrupted afterwards"]
