"""A secret's file: which commands run in the container, and how the result is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from kubernetes.client import ApiClient

from fixtures.api.exec import CommandNotRunError, Container, Output
from fixtures.secrets.files import SecretFile, secret_files

FILE = "/secrets/token"
GOOD = f"test -f {FILE} && test -s {FILE} && test -r {FILE} && test ! -w {FILE}"
LINUX: Mapping[str, int | str] = {"uname -s": "Linux", "cat /etc/os-release": "", "uname -m": "x86_64"}
PRESENT = {**LINUX, GOOD: 1, f"test -f {FILE}": 0, f"stat -Lc %u {FILE}": "0", f"stat -Lc %a {FILE}": "640"}


@dataclass(frozen=True)
class FakeContainer(Container):
    """A container whose shell knows these commands, with an exit code or output; others exit with 1."""

    answers: Mapping[str, int | str]

    def run(self, *words: str) -> Output:
        """The output of the shell command, which is the third word."""
        answer = self.answers.get(words[2], 1)
        return Output(answer, b"", b"") if isinstance(answer, int) else Output(0, answer.encode(), b"")


def found(answers: Mapping[str, int | str]) -> SecretFile:
    """The secret's file as read in a container with these answers."""
    [file] = secret_files(FakeContainer(ApiClient(), "backstage", "portal-1", "backstage", 1, answers), [FILE])
    return file


def test_good_file_takes_one_question() -> None:
    """A file that exists and is not empty, readable and not writable is checked with one command."""
    file = found({GOOD: 0})

    assert file.good
    assert str(file) == "pod portal-1: /secrets/token as it should be"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({**LINUX, GOOD: 1}, "no file /secrets/token"),
        ({**PRESENT, f"stat -Lc %s {FILE}": "9"}, "/secrets/token (owner 0, mode 0640) not readable"),
        (
            {**PRESENT, f"stat -Lc %s {FILE}": "0", f"test -r {FILE}": 0},
            "/secrets/token (owner 0, mode 0640) empty",
        ),
        (
            {**PRESENT, f"stat -Lc %s {FILE}": "0", f"test -w {FILE}": 0},
            "/secrets/token (owner 0, mode 0640) empty, not readable, writable",
        ),
    ],
    ids=["absent", "not readable", "empty", "all at once"],
)
def test_bad_file_is_told_in_full(answers: Mapping[str, int | str], words: str) -> None:
    """A bad file is reported with owner, mode and all of its faults, never with its length."""
    file = found(answers)

    assert not file.good
    assert str(file) == f"pod portal-1: {words}"


def test_image_without_stat_is_no_verdict() -> None:
    """Without `stat` in the image the file cannot be judged."""
    with pytest.raises(CommandNotRunError) as failed:
        found({**PRESENT, f"stat -Lc %s {FILE}": 127})

    assert str(failed.value) == (
        "expected: test, stat and uname in container backstage of pod backstage/portal-1\n"
        "seen: Unexpected exit code 127\nlook next: kubectl -n backstage exec portal-1 -c backstage -- sh"
    )
