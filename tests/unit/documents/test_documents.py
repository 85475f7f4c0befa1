"""No document shows a command that does not work; commands that need no cluster are run here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fixtures.environment.loading import ROOT
from tests.documents import HERE, Command, commands, commands_of

RECORDED = ROOT / "tests" / "unit" / "recorded" / "pipelines"
IMAGE = "registry.example/backstage@sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
ALL = list(commands())
RUN_HERE = {each.text: each for each in ALL if each.is_one_of(HERE) and not each.needs_gke}
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
LOOK_NEXT = "tests/documents.py, which says what a command in a document may be"


def test_every_command_is_run_by_a_test_or_marked() -> None:
    """A command that neither a test runs nor a mark excuses fails, with its file and line."""
    unknown = [str(each) for each in ALL if not (each.needs_gke or each.target or each.tested_by)]

    assert unknown == [], f"expected: a test, or `# needs GKE`; look next: {LOOK_NEXT}"
    assert len(ALL) > 60


def test_every_target_of_make_is_there() -> None:
    """Every make target that a document names exists."""
    assert [str(each) for each in ALL if each.target and each.target not in TARGETS] == []


def test_every_test_that_is_named_is_there() -> None:
    """The test file that covers a command exists."""
    assert [str(each) for each in ALL if each.tested_by and not (ROOT / each.tested_by).exists()] == []


def test_nothing_of_google_passes_unmarked() -> None:
    """Every gcloud command is marked `# needs GKE`."""
    assert [str(each) for each in ALL if "gcloud " in each.text and not each.needs_gke] == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an accepted result of just now and a rejected one."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    accepted = json.loads((RECORDED / "accepted.json").read_text())
    (tmp_path / "accepted.json").write_text(json.dumps({**accepted, "began": now, "ended": now}))
    (tmp_path / "rejected.json").write_text((RECORDED / "rejected.json").read_text())
    return tmp_path


def run_command(command: Command, folder: Path) -> subprocess.CompletedProcess[str]:
    """The result of a command with its placeholders filled in, run from the project's root without a cluster."""
    verdict = "rejected" if "fixtures.summary" in command.text else "accepted"
    text = re.sub(r"\S*/verdict\.json", str(folder / f"{verdict}.json"), command.text)
    text = text.replace("NAME@sha256:DIGEST", IMAGE).replace("environments/mine.toml", str(folder / "mine.toml"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "KUBECONFIG": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["sh", "-c", text], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("command", RUN_HERE.values(), ids=str)
def test_command_works_as_it_is_shown(command: Command, folder: Path) -> None:
    """The command succeeds and prints what the document shows."""
    if "mine.toml" in command.text:
        filled = (ROOT / "environments" / "staging.toml").read_text().replace("SET-ME", "example")
        (folder / "mine.toml").write_text(filled)

    done = run_command(command, folder)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip().startswith(command.output.strip())


def test_rejected_image_does_not_pass_the_gate_that_is_shown(folder: Path) -> None:
    """The gate's command as documented refuses a rejected verdict."""
    shown = next(each for each in RUN_HERE.values() if "fixtures.gate" in each.text)
    (folder / "accepted.json").write_text((RECORDED / "rejected.json").read_text())

    done = run_command(shown, folder)

    assert done.returncode == 1
    assert done.stdout == (
        "expected: an accepted run; seen: rejected: https: 302 to http://portal.example/catalog; "
        "database: FATAL: password authentication failed; look next: the report beside the verdict\n"
    )


def test_commands_are_read_as_a_reader_reads_them() -> None:
    """Prompts, comments, continued lines, output and both forms of the mark are understood."""
    text = (
        "# A page\n\n```console\n$ make lab    # starts it\nup\n$ .venv/bin/python -m lab status\n```\n\n"
        "```sh\nkubectl get x | grep '#'\ngcloud a \\\n  --b     # needs GKE\nkubectl get y\n"
        "# needs GKE: all of it\nkubectl apply z\n```\n```text\nmake nothing\n```\n"
    )

    found = [(each.line, each.text, each.needs_gke, each.output) for each in commands_of("page.md", text)]

    assert found == [
        (4, "make lab", False, "up"),
        (6, "python -m lab status", False, ""),
        (10, "kubectl get x | grep '#'", False, ""),
        (11, "gcloud a --b", True, ""),
        (13, "kubectl get y", False, ""),
        (15, "kubectl apply z", True, ""),
    ]


@pytest.mark.parametrize(
    ("text", "test"),
    [
        ("kubectl -n backstage get pods", "tests/lab/test_documents.py"),
        ("kubectl -n backstage rollout undo deployment backstage", ""),
        ("kubectl apply -k manifests/base", ""),
        ("python -m lab inject", "tests/unit/documents/test_documents.py"),
        ("python -m lab inject metadata down", "tests/lab/test_lifecycle.py"),
        ("rm -rf /", ""),
    ],
)
def test_what_changes_something_is_never_run_because_a_document_shows_it(text: str, test: str) -> None:
    """Only commands that read are run on the lab; others need a test of their own or a mark."""
    assert Command("page.md", 1, text, needs_gke=False).tested_by == test
