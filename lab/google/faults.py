"""Which faults are active, as the stand-ins see it; `lab.faults` says what there is and injects it."""

from __future__ import annotations

from lab import layout


def argument(fault: str) -> str | None:
    """The argument of a fault that is active ("" if it has none), or None."""
    try:
        return (layout.FAULTS_DIR / fault).read_text().strip()
    except FileNotFoundError:
        return None
