"""The picture of the architecture is of its source, and its rooms are those of the project."""

from __future__ import annotations

import hashlib
import re

from fixtures.environment.file import ROOT

DOCS = ROOT / "docs"


def test_picture_is_drawn_from_its_source() -> None:
    """Whoever changes the source draws it anew: `make picture`."""
    drawn_from = re.findall(r"<!-- architecture\.dot: (\w+) -->", (DOCS / "architecture.svg").read_text())

    assert drawn_from == [hashlib.sha256((DOCS / "architecture.dot").read_bytes()).hexdigest()]


def test_every_room_that_is_told_is_there() -> None:
    """And every part of `tests` is told."""
    rooms = re.findall(r"^\| `([\w./]+)` \|", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    parts = {f"tests/{each.name}/" for each in (ROOT / "tests").iterdir() if any(each.glob("test_*.py"))}

    assert [room for room in rooms if not (ROOT / room).exists()] == []
    assert parts <= set(rooms)
