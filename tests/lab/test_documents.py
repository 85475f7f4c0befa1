"""The commands of the runbook and of the other documents, run as shown against a healthy lab."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures.environment.loading import ROOT
from tests.documents import ON_THE_LAB, Command, commands
from tests.lab.conftest import OVERLAY, Kubectl, Manifest
from tests.lab.test_backstage import wait_for_pods

SHOWN = {each.text: each for each in commands() if each.is_one_of(ON_THE_LAB) and not each.needs_gke}
COMPLAINT = re.compile(r"^(error|Error|Unable|curl:)", re.MULTILINE)
NOTHING_TO_SHOW = {
    r"kubectl .* --previous$": "previous terminated container",  # nothing was restarted, as it should be
    r"kubectl .*get lease ": "not found",  # no run is at work
    r"kubectl diff ": "",  # kubectl ends with 1 where there is a difference, and says it
}
"""Commands that may end with exit code 1 on a healthy deployment, and the text of their stderr then."""


@pytest.fixture(scope="module")
def pods(kubectl: Kubectl) -> list[Manifest]:
    """The two pods of the reference deployment, Ready."""
    kubectl("apply", "--server-side", "--force-conflicts", "--kustomize", str(OVERLAY))
    return wait_for_pods(kubectl, 2, within=300)


@pytest.fixture
def shell(facts: dict[str, Any], pods: list[Manifest], gateway_address: str) -> Any:  # noqa: ANN401 - a function
    """Runs a shell command, with the documents' placeholders replaced by values of this lab."""
    words = {
        "KIND NAME": "deployment backstage",
        "ENVIRONMENT": "local",
        "NODE": pods[0]["spec"]["nodeName"],
        "POD": pods[0]["metadata"]["name"],
        "HOST": facts["hostname"],
        "ADDRESS": gateway_address,
    }
    found = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    trusted = {"KUBECONFIG": facts["kubeconfig"], "CURL_CA_BUNDLE": facts["ca_file"], "PATH": found}

    def run(text: str) -> subprocess.CompletedProcess[str]:
        for placeholder, word in words.items():
            text = re.sub(rf"\b{placeholder}\b", word, text)
        env = {**os.environ, **trusted}
        return subprocess.run(
            ["sh", "-c", text], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120
        )

    return run


@pytest.mark.parametrize("command", SHOWN.values(), ids=str)
def test_command_works_as_it_is_shown(command: Command, shell: Any) -> None:  # noqa: ANN401 - a function
    """It succeeds without an error message, or says in its own way that there is nothing to show."""
    done = shell(command.text)

    quiet = [said for pattern, said in NOTHING_TO_SHOW.items() if re.match(pattern, command.text)]
    if done.returncode and quiet:
        assert quiet[0] in done.stderr
        assert done.returncode == 1
    else:
        assert done.returncode == 0, done.stderr
        assert not COMPLAINT.search(done.stderr)


def test_command_that_does_not_work_is_found(shell: Any) -> None:  # noqa: ANN401 - a function
    """The check finds an unknown option, and an error at the head of a pipe, whose exit code is 0."""
    assert shell("kubectl -n backstage get pods --sideways").returncode == 1
    assert COMPLAINT.search(shell("kubectl -n backstage describe pod nobody | tail -1").stderr)
