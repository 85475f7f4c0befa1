"""The architecture's picture matches its source, and the documented rooms match the project's folders."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from fixtures.environment.loading import ROOT

DOCS = ROOT / "docs"


def test_picture_is_drawn_from_its_source() -> None:
    """The picture holds its source's hash; `make picture` draws it again."""
    drawn_from = re.findall(r"<!-- architecture\.dot: (\w+) -->", (DOCS / "architecture.svg").read_text())

    assert drawn_from == [hashlib.sha256((DOCS / "architecture.dot").read_bytes()).hexdigest()]


def test_every_room_that_is_told_is_there() -> None:
    """docs/architecture.md lists every part of `tests`, room of `fixtures` and top folder, and only existing ones."""
    rooms = re.findall(r"^\| `([\w./]+)` \|", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    folders = {Path(each).parts[:-1] for each in listed.splitlines()}
    parts = {f"{'/'.join(each[:2])}/" for each in folders if each[:1] in {("tests",), ("fixtures",)} and len(each) > 1}
    top = {f"{each[0]}/" for each in folders if each and not each[0].startswith(".")}

    assert [room for room in rooms if not (ROOT / room).exists()] == []
    assert parts | top - {"tests/", "docs/"} <= set(rooms)


def test_every_room_of_fixtures_is_in_the_picture() -> None:
    """The picture shows exactly the rooms of `fixtures`."""
    drawn = re.findall(r"<b>([\w/ ]+)</b>", (DOCS / "architecture.dot").read_text())
    rooms = {f"{each.parent.name}/" for each in (ROOT / "fixtures").glob("*/__init__.py")}

    assert {name for names in drawn for name in names.split()} == rooms
