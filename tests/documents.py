"""The commands that README and `docs/` show, and what makes sure that each of them still works.

Every line of a fenced block `console` (after its `$ `) or `sh` is a command. Each must be one of these:

- `make TARGET`: the Makefile has it, and CI runs it;
- what `HERE` matches: run by `tests/unit/documents/test_documents.py`, on recorded results;
- what `ON_THE_LAB` matches, which only looks: run by `tests/lab/test_documents.py`;
- what `OPERATIONS` matches, which looks at the scheduled smoke: run by `tests/operations/test_smoke_job.py`;
- what `ELSEWHERE` matches: run by the test that is named there;
- marked in a comment: `# needs GKE` at its end, or on a line of its own before it, for all that follows in the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fixtures.environment.file import ROOT

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
    r"export \w+=": "tests/unit/documents/test_documents.py",  # it sets what the lines below it use
    r"python -m lab (inject|heal) ": "tests/lab/test_lifecycle.py",
    r"kubectl -n backstage (wait --for=delete lease/|delete lease -l )": "tests/operations/test_deploy_lock.py",
    r"until kubectl -n backstage create -f deploy-lock.yaml": "tests/operations/test_deploy_lock.py",
}


@dataclass(frozen=True)
class Command:
    """A line that a reader may type."""

    document: str
    line: int
    text: str
    """Without prompt, comment and `.venv/bin/`; continued lines are one."""
    needs_gke: bool
    output: str = ""
    """What a `console` block shows below it."""

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {self.text}"

    def is_one_of(self, patterns: tuple[str, ...]) -> bool:
        """Whether a pattern matches its beginning."""
        return any(re.match(pattern, self.text) for pattern in patterns)

    @property
    def target(self) -> str:
        """Of the Makefile; empty if it is none."""
        found = re.fullmatch(r"make ([\w-]+)( \w+=\S+)*", self.text)
        return found[1] if found else ""

    @property
    def tested_by(self) -> str:
        """The test that runs it, by file; empty if none does."""
        if self.is_one_of(HERE):
            return "tests/unit/documents/test_documents.py"
        if self.is_one_of(ON_THE_LAB):
            return "tests/lab/test_documents.py"
        if self.is_one_of(OPERATIONS):
            return "tests/operations/test_smoke_job.py"
        return next((test for pattern, test in ELSEWHERE.items() if re.match(pattern, self.text)), "")


def commands() -> Iterator[Command]:
    """All commands of all documents, in their order."""
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        yield from commands_of(file.relative_to(ROOT).as_posix(), file.read_text())


def commands_of(document: str, text: str) -> Iterator[Command]:
    """The commands of one document."""
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(2)) + 1
        lines = block[2].replace("\\\n", "\\\0").splitlines()  # a continued line stays one
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
    """Command and comment."""
    whole = re.sub(r"\\\0\s*", "", line)
    found = re.search(r"(^|\s)#\s", whole)
    command, comment = (whole[: found.start()], whole[found.end() :]) if found else (whole, "")
    return command.strip().replace(".venv/bin/", ""), comment


def _shown(below: list[str], prompt: str) -> str:
    """What is printed, up to the next command."""
    if not prompt:
        return ""
    end = next((place for place, line in enumerate(below) if line.startswith(prompt)), len(below))
    return "\n".join(below[:end])
