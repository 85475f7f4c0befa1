"""The ready commands of a target: the facts that they print, and the messages when they fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fixtures.environment import loading
from fixtures.environment.loading import EnvironmentFileError, read
from fixtures.environment.schema import TargetTable
from fixtures.environment.sources import Setting
from fixtures.environment.target import TargetNotReadyError, facts, make_ready
from tests.unit.environment.conftest import COMPLETE, RECORDED, refusal, written


def test_lab_facts_complete_the_local_environment(tmp_path: Path) -> None:
    """The lab prints every fact that `environments/local.toml` maps to a key."""
    draft = read(written(tmp_path, f'extends = "local"\ntarget.ready = [["true"], ["cat", "{RECORDED}"]]'))

    loaded = draft.completed(make_ready(draft.target, within=10))

    assert loaded.environment.cluster.kubeconfig == (loading.ROOT / ".lab/rbac/disrupter").resolve()
    assert str(loaded.environment.portal.pinned_address) == "172.30.0.80"
    assert len(loaded.environment.secrets.expected) == 6
    assert loaded.settings["google.sql_admin"].source == "ready command (cloud_sql.admin_api)"


def test_fact_of_another_form_is_refused_with_its_name(tmp_path: Path) -> None:
    """A fact of the wrong type is reported with the command as its source, not the file."""
    draft = read(written(tmp_path, COMPLETE))

    with pytest.raises(EnvironmentFileError) as refused:
        draft.completed({"gateway.name": Setting(5, "ready command (gateway)")})

    assert str(refused.value).splitlines()[0] == (
        "ready command (gateway): gateway.name: expected: a valid string (Name of the Gateway); seen: 5"
    )


def test_command_may_not_say_what_may_happen_to_the_target(tmp_path: Path) -> None:
    """Facts may not set permissions or unknown keys, which is checked before a command runs."""
    mapping = '[target]\nready = [["facts"]]\n[target.facts]\npermissions = "p"\n"gateway.nme" = "g"'

    assert refusal(tmp_path, COMPLETE + mapping) == [
        f"mine.toml: target.facts: expected: keys that a command may say, such as namespaces.gateway; seen: {key}"
        for key in ("gateway.nme", "permissions")
    ]


def test_fact_without_a_command_is_not_awaited(tmp_path: Path) -> None:
    """A mapped key is missing at once if the target has no ready command."""
    text = COMPLETE.replace('gateway.name = "external-gw-01"', "") + '[target.facts]\n"gateway.name" = "g"'

    assert refusal(tmp_path, text) == ["mine.toml: gateway.name: expected: Name of the Gateway; seen: nothing"]


@pytest.mark.parametrize(
    ("command", "seen"),
    [
        (["sh", "-c", "echo first >&2; echo reason >&2; exit 3"], "exit code 3: reason"),
        (["false"], "exit code 1: no complaint"),
        (["no-such-program"], "[Errno 2] No such file or directory: 'no-such-program'"),
    ],
)
def test_command_that_fails_is_told_with_its_reason(command: list[str], seen: str) -> None:
    """The message has the last line of standard error, and the command."""
    with pytest.raises(TargetNotReadyError) as failed:
        make_ready(TargetTable(ready=(tuple(command), ("true",))), within=10)

    assert str(failed.value).startswith(f"expected: the target made ready; seen: {seen}; look next: {command[0]}")


def test_command_that_takes_too_long_is_ended() -> None:
    """A command that exceeds the deadline is terminated."""
    with pytest.raises(TargetNotReadyError) as failed:
        facts(TargetTable(ready=(("sleep", "60"),)), within=0.05)

    assert str(failed.value) == ("expected: the target made ready; seen: not done after 0.05 s; look next: sleep 60")


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        ("up", "expected: facts as a JSON object; seen: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "expected: facts as a JSON object; seen: list"),
        ('{"gateway": 5}', "expected: facts gateway.name, hostname; seen: none of that name"),
    ],
)
def test_facts_that_are_none_are_refused(printed: str, sentence: str) -> None:
    """Output that is no JSON object, or lacks facts, is refused; the message names the facts, not what was printed."""
    mapping = {"gateway.name": "gateway.name", "portal.hostname": "hostname"}
    with pytest.raises(TargetNotReadyError) as failed:
        facts(TargetTable(ready=(("echo", printed),), facts=mapping), within=10)

    assert str(failed.value).startswith(f"{sentence}; look next: echo ")


def test_target_without_commands_has_no_facts() -> None:
    """Without ready commands there are no facts: the file has every value."""
    assert make_ready(TargetTable(), within=10) == {}


def test_commands_find_the_python_of_the_suite_and_start_in_its_root() -> None:
    """`python` is the suite's own and the working directory its root, so a file needs no absolute paths."""
    code = "import json, os, sys; print(json.dumps({'cwd': os.getcwd(), 'prefix': sys.prefix}))"
    mapping = {"portal.ca_file": "cwd", "google.token_file": "prefix"}

    found = facts(TargetTable(ready=(("python", "-c", code),), facts=mapping), within=10)

    assert found["portal.ca_file"].value == str(loading.ROOT)
    assert Path(str(found["google.token_file"].value)) == Path(sys.prefix)
