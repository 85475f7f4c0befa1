"""Measures whole runs of the suite, smoke and acceptance, and compares acceptance with the waits it cannot avoid.

    python -m benchmarks.runs [--smoke 5] [--acceptance 1]

Smoke is the median of several runs. Acceptance expects a running lab with the reference applied. The times of scaling,
drain and browser come from the verdict of the same run, so that both are of one machine at one time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TIMEOUT = 1800
"""Seconds for one run; far more than any takes, so that a run that hangs ends."""


def run(environment: str, folder: Path) -> tuple[float, dict[str, object]]:
    """Duration in seconds and verdict of one run; exits if the run is not accepted."""
    command = [sys.executable, "-m", "pytest", "tests/acceptance", f"--env={environment}", f"--report={folder}"]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"expected: an accepted run of {environment}; seen: exit code {done.returncode}\n{done.stdout}")
    return seconds, json.loads((folder / "verdict.json").read_text())


def main() -> None:
    """Measure, and print a line for smoke and one for each acceptance run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", type=int, default=5, metavar="TIMES")
    parser.add_argument("--acceptance", type=int, default=1, metavar="TIMES")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        smoke = [run("smoke", Path(folder, f"smoke-{each}"))[0] for each in range(options.smoke)]
        if smoke:
            print(f"smoke: median {statistics.median(smoke):.1f} s of {len(smoke)}, longest {max(smoke):.1f} s")
        for each in range(options.acceptance):
            seconds, verdict = run("local", Path(folder, f"acceptance-{each}"))
            checks = verdict["checks"]
            assert isinstance(checks, list)
            waited = {
                promise: sum(check["seconds"] for check in checks if check["promise"] == promise)
                for promise in ("autoscaling", "disruption", "portal")
            }
            rest = ", ".join(f"{name} {spent:.0f} s" for name, spent in waited.items())
            print(f"acceptance: {seconds:.0f} s, {seconds / sum(waited.values()):.2f} times {rest}")


if __name__ == "__main__":
    main()
