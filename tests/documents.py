"""The commands that README and `docs/` show, and the tests that keep each of them working.

Every line of a fenced block `console` (after its `$ `) or `sh` is a command. Each must be one of these:

- `make TARGET`: the Makefile has it, and CI runs it;
- a match of `HERE`, run by `tests/unit/documents/test_documents.py` on recorded results;
- a match of `ON_THE_LAB`, which only reads: run by `tests/lab/test_documents.py`;
- a match of `OPERATIONS`, which reads the scheduled smoke: run by `tests/operations/test_smoke_job.py`;
- a match of `ELSEWHERE`, run by the test that is named there;
- marked by the comment `# needs GKE`, at its end or on a line above it, which marks the rest of the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fixtures.environment.loading import ROOT

MARK: Final = "needs GKE"
BLOCK: Final = re.compile(r"^```(console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

HERE: Final = (
    r"python -m fixtures\.(gate|summary) ",
    r"python -m lab inject$",
    r"pytest --env=environments/mine\.toml --show-environment$",
    r"kubectl kustomize \S+$",
    r"grep -rn SET-ME \S+$",
    r"cp environments/staging\.toml environments/mine\.toml$",
)
ON_THE_LAB: Final = (
    r"kubectl (-n (?!acceptance )\S+ )?(get|describe|logs|top|diff|rollout (status|history)) ",
    r"pytest --env=local --show-environment",
    r"python -m lab status",
    r"openssl s_client ",
    r"curl -s",
)
OPERATIONS: Final = (r"kubectl -n acceptance (get|describe|logs) ",)
ELSEWHERE: Final = {
    r"export \w+=": "tests/unit/documents/test_documents.py",  # sets a variable for the lines below it
    r"python -m lab (inject|heal) ": "tests/lab/test_lifecycle.py",
    r"kubectl -n backstage (wait --for=delete lease/|delete lease -l )": "tests/operations/test_deploy_lock.py",
    r"until kubectl -n backstage create -f deploy-lock.yaml": "tests/operations/test_deploy_lock.py",
}


@dataclass(frozen=True)
class Command:
    """A command of a document, which a reader may type."""

    document: str
    line: int
    text: str
    """The command without prompt, comment and `.venv/bin/`; continued lines are joined."""
    needs_gke: bool
    output: str = ""
    """Output that a `console` block shows below the command."""

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {self.text}"

    def is_one_of(self, patterns: tuple[str, ...]) -> bool:
        """Whether one of the patterns matches the beginning of the text."""
        return any(re.match(pattern, self.text) for pattern in patterns)

    @property
    def target(self) -> str:
        """Target of the Makefile, for a `make` command; else empty."""
        found = re.fullmatch(r"make ([\w-]+)( \w+=\S+)*", self.text)
        return found[1] if found else ""

    @property
    def tested_by(self) -> str:
        """Path of the test file that runs it; empty if none does."""
        if self.is_one_of(HERE):
            return "tests/unit/documents/test_documents.py"
        if self.is_one_of(ON_THE_LAB):
            return "tests/lab/test_documents.py"
        if self.is_one_of(OPERATIONS):
            return "tests/operations/test_smoke_job.py"
        return next((test for pattern, test in ELSEWHERE.items() if re.match(pattern, self.text)), "")


def commands() -> Iterator[Command]:
    """All commands of README and `docs/`, in the order of files and lines."""
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        yield from commands_of(file.relative_to(ROOT).as_posix(), file.read_text())


def commands_of(document: str, text: str) -> Iterator[Command]:
    """The commands of one document, given its path and text."""
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(2)) + 1
        lines = block[2].replace("\\\n", "\\\0").splitlines()  # NUL marks a continuation, for line numbers
        yield from _of_lines(document, first, lines, prompt="$ " if block[1] == "console" else "")


def _of_lines(document: str, number: int, lines: list[str], prompt: str) -> Iterator[Command]:
    marked = False
    for place, line in enumerate(lines):
        command, comment = _parts(line.removeprefix(prompt)) if line.startswith(prompt) else ("", "")
        marked = marked or (not command and MARK in comment)
        if command:
            shown = _shown(lines[place + 1 :], prompt)
            yield Command(document, number, command, marked or MARK in comment, shown)
        number += 1 + line.count("\0")


def _parts(line: str) -> tuple[str, str]:
    """Split a line into command and comment."""
    whole = re.sub(r"\\\0\s*", "", line)
    found = re.search(r"(^|\s)#\s", whole)
    command, comment = (whole[: found.start()], whole[found.end() :]) if found else (whole, "")
    return command.strip().replace(".venv/bin/", ""), comment


def _shown(below: list[str], prompt: str) -> str:
    """The lines up to the next command, which are the output; a block `sh` shows none."""
    if not prompt:
        return ""
    end = next((place for place, line in enumerate(below) if line.startswith(prompt)), len(below))
    return "\n".join(below[:end])
