"""How long the two commands take as whole processes, against what they have to wait for.

    python -m benchmarks.runs [--smoke 5] [--acceptance 1]

Smoke: the median of several. Acceptance: with the lab warm and the reference applied already; the sum of scale-out and
scale-in, drain and browser is taken from its own verdict, so that both are of one run on one machine.
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

WITHIN = 1800


def run(environment: str, folder: Path) -> tuple[float, dict[str, object]]:
    """Seconds and verdict of one run."""
    command = [sys.executable, "-m", "pytest", "tests/acceptance", f"--env={environment}", f"--report={folder}"]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WITHIN)
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"expected: an accepted run of {environment}; seen: exit code {done.returncode}\n{done.stdout}")
    return seconds, json.loads((folder / "verdict.json").read_text())


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", type=int, default=5, metavar="TIMES")
    parser.add_argument("--acceptance", type=int, default=1, metavar="TIMES")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        smokes = [run("smoke", Path(folder, f"smoke-{each}"))[0] for each in range(options.smoke)]
        if smokes:
            print(f"smoke: median {statistics.median(smokes):.1f} s of {len(smokes)}, longest {max(smokes):.1f} s")
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
