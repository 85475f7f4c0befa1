"""The picture of the architecture is of its source, and its rooms are those of the project."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from fixtures.environment.loading import ROOT

DOCS = ROOT / "docs"


def test_picture_is_drawn_from_its_source() -> None:
    """Whoever changes the source draws it anew: `make picture`."""
    drawn_from = re.findall(r"<!-- architecture\.dot: (\w+) -->", (DOCS / "architecture.svg").read_text())

    assert drawn_from == [hashlib.sha256((DOCS / "architecture.dot").read_bytes()).hexdigest()]


def test_every_room_that_is_told_is_there() -> None:
    """And every part of `tests`, every room of `fixtures` and every folder at the top is told."""
    rooms = re.findall(r"^\| `([\w./]+)` \|", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    folders = {Path(each).parts[:-1] for each in listed.splitlines()}
    parts = {f"{'/'.join(each[:2])}/" for each in folders if each[:1] in {("tests",), ("fixtures",)} and len(each) > 1}
    top = {f"{each[0]}/" for each in folders if each and not each[0].startswith(".")}

    assert [room for room in rooms if not (ROOT / room).exists()] == []
    assert parts | top - {"tests/", "docs/"} <= set(rooms)


def test_every_room_of_fixtures_is_in_the_picture() -> None:
    """And nothing that is no room."""
    drawn = re.findall(r"<b>([\w/ ]+)</b>", (DOCS / "architecture.dot").read_text())
    rooms = {f"{each.parent.name}/" for each in (ROOT / "fixtures").glob("*/__init__.py")}

    assert {name for names in drawn for name in names.split()} == rooms
