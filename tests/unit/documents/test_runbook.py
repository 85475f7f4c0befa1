"""The runbook: each promise and family of faults has impact, causes, commands, and how to undo."""

from __future__ import annotations

import re

import pytest

from fixtures.environment.loading import ROOT
from fixtures.plugins.selecting import ORDER
from tests.documents import commands_of

PAGE = (ROOT / "docs" / "runbook.md").read_text()
FAMILIES = sorted(file.stem.removeprefix("test_") for file in ROOT.glob("tests/chaos/test_*.py"))
ENTRIES = [*ORDER, *FAMILIES]


def entry(name: str) -> str:
    """The text below a heading, up to the next heading of the same level or above."""
    found = re.search(rf"^(##+) {name}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return found[2] if found else ""


def test_headings_are_promises_and_families_and_each_is_told_once() -> None:
    """Each promise and family has one heading, as failures and reports link to it."""
    headings = re.findall(r"^##+ (.+)$", PAGE, re.MULTILINE)

    assert [name for name in ENTRIES if headings.count(name) != 1] == []
    assert len(FAMILIES) >= 5


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_says_what_it_means_for_users(name: str) -> None:
    """The entry begins with what users notice."""
    assert re.search(r"\b[Uu]sers?\b", entry(name)[:400])


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_has_its_likely_causes_in_order(name: str) -> None:
    """The entry has at least three numbered causes, or a table of them."""
    listed = re.findall(r"^\d\. ", entry(name), re.MULTILINE)
    rows = re.findall(r"^\| ", entry(name), re.MULTILINE)

    assert len(listed) >= 3 or len(rows) >= 5
    assert "ikely cause" in entry(name)


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_has_commands_and_says_how_to_undo(name: str) -> None:
    """The entry has at least three commands and says how to undo."""
    assert len(list(commands_of("docs/runbook.md", entry(name)))) >= 3
    assert re.search(r"^(\*\*)?Undo(\*\*)?:", entry(name), re.MULTILINE)


def test_no_link_inside_the_documents_is_dead() -> None:
    """Every relative link leads to an existing file and heading."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    dead = [
        f"{file.name}: {link}"
        for file in files
        for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text())
        if "://" not in link and not is_there(file.parent / link.partition("#")[0] if link[0] != "#" else file, link)
    ]

    assert dead == []


def is_there(target: object, link: str) -> bool:
    """Whether the target exists and has the heading that the link names."""
    path = ROOT / str(target)
    anchor = link.partition("#")[2]
    return path.exists() and (not anchor or anchor in anchors(path.read_text()))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
