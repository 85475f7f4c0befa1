"""Processes of the lab: started detached, remembered by id and start time, ended by id."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lab import layout
from lab.machine import cgroups

RUN = layout.STATE / "run"
"""One file per process, `NAME.json`: its id and when it was started."""


class CommandFailedError(Exception):
    """A program that the lab called failed; the text has the end of what it said."""


Command = Sequence[str | Path]


def run(*command: str | Path, stdin: str | None = None, cwd: Path | None = None, env: Mapping[str, str] | None = None,
        netns: str | None = None) -> str:  # fmt: skip
    """Output of a program that runs to its end; CommandFailedError with its last words if it fails."""
    words = in_netns(netns, [str(word) for word in command])
    done = subprocess.run(
        words, input=stdin, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise CommandFailedError(f"{' '.join(words)}: exit {done.returncode}: {said}")
    return done.stdout


def in_netns(name: str | None, command: list[str]) -> list[str]:
    """The command, run inside the lab's network namespace of that name.

    Not by `ip netns exec`: it mounts a new /sys, in which the kubelet finds no control groups.
    """
    return command if name is None else ["nsenter", f"--net=/run/netns/{netns_name(name)}", *command]


def netns_name(member: str) -> str:
    """Name, as `ip netns` lists it, of the network namespace of a member of the lab's network."""
    return f"gke-lab-{member}"


@dataclass(frozen=True)
class Daemon:
    """One long-running process of the lab."""

    name: str
    command: Command
    netns: str | None = None
    answers: Callable[[], bool] = lambda: True
    """Whether it serves; asked only while it runs."""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = layout.STATE
    group: str = cgroups.HOST

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return layout.LOGS / f"{self.name}.log"

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.runs():
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        words = cgroups.entering(self.group, in_netns(self.netns, [str(word) for word in self.command]))
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                words, cwd=self.cwd, env={**os.environ, **self.env}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        _remember(self.name, process.pid)

    def runs(self) -> bool:
        """Whether the process that was started last is alive."""
        return self.process() is not None

    def ready(self) -> bool:
        """Whether it runs and serves."""
        return self.runs() and self.answers()

    def process(self) -> psutil.Process | None:
        """The running process, or None; another process that got the same id by now does not count."""
        try:
            known = json.loads((RUN / f"{self.name}.json").read_text())
            process = psutil.Process(known["pid"])
            alive = process.create_time() == known["started"] and process.status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        return process if alive else None

    def stop(self, within: float = 5.0) -> None:
        """End it and what it started: SIGTERM first, SIGKILL for those that remain after `within` seconds."""
        process = self.process()
        if process is None:
            return
        family = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=within)
        for left in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        psutil.wait_procs(alive, timeout=within)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and to all that it started."""
        if (process := self.process()) is not None:
            for member in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.send_signal(number)


def _remember(name: str, pid: int) -> None:
    RUN.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(psutil.NoSuchProcess):
        known = {"pid": pid, "started": psutil.Process(pid).create_time()}
        (RUN / f"{name}.json").write_text(json.dumps(known))
