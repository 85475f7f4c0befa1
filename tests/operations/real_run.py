"""Runs the suite against the lab in processes of their own, so that a test can interfere with a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fixtures.environment.loading import ROOT
from fixtures.waiting import wait_for
from tests.lab.conftest import run

ENDED_WITHIN = 300
"""Seconds. The smoke takes 15 when nothing else runs on the machine."""


def environment(folder: Path, identity: str, *permissions: str) -> Path:
    """Write an environment of the lab with one identity and these permissions; no promise is required."""
    run([sys.executable, "manifests/rbac/apply.py", "--kubeconfig=.lab/kubeconfig", f"--into={folder}"])
    file = folder / "mine.toml"
    file.write_text(
        f'extends = "{ROOT}/environments/smoke.toml"\npermissions = {json.dumps(permissions)}\nrequired = []\n'
        f'[cluster]\nkubeconfig = "{folder}/{identity}"\n'
    )
    return file


class Run:
    """A run of the suite that has been started."""

    def __init__(self, environment: Path, *arguments: str) -> None:
        self.folder = environment.parent / "results"
        self._file = environment.parent / "output.txt"
        command = [sys.executable, "-u", "-m", "pytest", f"--env={environment}", f"--report={self.folder}", *arguments]
        with self._file.open("w") as output:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._file.read_text()

    def wait_for_output(self, text: str) -> None:
        """Wait until it has printed a text; AssertionError if it ends without it."""
        wait_for(
            f"a run that says {text!r}",
            lambda: self.output,
            until=lambda said: text in said or self._process.poll() is not None,
            within=ENDED_WITHIN,
            every=0.05,  # the test interferes at this very point of the run
            look_next=str(self._file),
        )
        assert text in self.output, self.output

    def exit_code(self) -> int:
        """Wait for its end and return its exit code; TimeoutExpired after `ENDED_WITHIN`."""
        return self._process.wait(ENDED_WITHIN)

    def verdict(self) -> dict[str, Any]:
        """Content of its verdict.json; the run must have ended."""
        written: dict[str, Any] = json.loads((self.folder / "verdict.json").read_text())
        return written
