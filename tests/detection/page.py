"""Writes docs/detection.md from the faults and the times of the latest runs: `python -m tests.detection.page`."""

from __future__ import annotations

import json

from fixtures.environment.loading import ROOT
from tests.detection.fault import Fault, faults

PAGE = ROOT / "docs" / "detection.md"
SEEN = ROOT / "results" / "detection.json"
"""By name of a fault, the seconds until its check was red in the latest run of that fault."""
HEAD = """# What the suite finds

Each fault is data in `tests/detection/<promise>.toml`: what is done to the deployed lab, what undoes it, which
check must turn red, and a part of what it must say. `make detection` runs them one at a time: the check is kept;
the fault is injected; the check is run again and again, as a process of its own with `observe` and `connect` alone
(so that nothing is repaired by applying), until it is red for that reason, at most 120 s; the fault is undone and
the reference applied again; the check must be kept again. What only a drain or an eviction shows is asked by a run
that may `disrupt` too.

*Seen after*: seconds from the injection to the end of the run that said so, that run's own time included; on the
lab, two cores. Empty where the fault has not run as it is now.

| Fault | What is wrong | Check | Says | Seen after |
|---|---|---|---|---|
"""


def row(fault: Fault, seen: dict[str, float]) -> str:
    """A fault's row of the table."""
    says = fault.reason.strip().replace("|", "\\|")
    after = f"{seen[fault.name]:.0f} s" if fault.name in seen else ""
    return f"| `{fault.name}` | {fault.what} | `{fault.check.partition('::')[2]}` | {says} | {after} |\n"


def save_seconds(seen: dict[str, float]) -> None:
    """Save the seconds of a run; those of faults that it did not run are kept."""
    SEEN.parent.mkdir(exist_ok=True)
    SEEN.write_text(json.dumps({**saved_seconds(), **seen}, indent=1))


def saved_seconds() -> dict[str, float]:
    """Seconds saved by runs on this machine, by name of the fault."""
    return dict(json.loads(SEEN.read_text())) if SEEN.exists() else {}


if __name__ == "__main__":
    PAGE.write_text(HEAD + "".join(row(fault, saved_seconds()) for fault in faults()))
