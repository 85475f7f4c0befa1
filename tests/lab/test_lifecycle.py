"""The lab's lifecycle: brought up twice, with parts killed, and asked for faults that it does not have."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fixtures.environment.loading import ROOT
from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl

Run = Callable[..., str]


def processes(facts: dict[str, Any]) -> dict[str, int]:
    """Process ids of the lab's parts, by the part's name."""
    run = Path(facts["logs"]).parent / "run"
    return {file.stem: json.loads(file.read_text())["pid"] for file in run.glob("*.json")}


def status() -> str:
    """Stdout of `python -m lab status`, which fails while something is not ready."""
    command = [sys.executable, "-m", "lab", "status"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout


def wait_until_all_is_ready() -> None:
    """Wait until all parts are ready: a kubelet restarts its pods only some seconds after its node is Ready."""
    wait_for(
        "every part of the lab to be ready",
        status,
        until=lambda output: "NOT READY" not in output,
        within=180,
        look_next="python -m lab status",
    )


def kill(pid: int) -> None:
    """Kill a process with SIGKILL and wait until it is gone."""
    process = psutil.Process(pid)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)


def test_up_on_a_running_lab_changes_nothing(lab: Run, facts: dict[str, Any]) -> None:
    """A second `up` finds everything ready and leaves every process alone."""
    before = processes(facts)
    assert before

    said = lab("up")

    assert "the lab was up already" in said
    assert processes(facts) == before


def test_two_ups_at_once_do_not_collide(facts: dict[str, Any]) -> None:
    """Of two `up` at the same time one waits for the other, and both succeed."""
    before = processes(facts)
    command = [sys.executable, "-m", "lab", "up"]

    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert "another command is changing the lab: waiting for it" in "".join(said)
    assert processes(facts) == before


@pytest.fixture
def second_checkout(tmp_path: Path) -> Path:
    """A copy of the lab's sources in another folder."""
    shutil.copytree(ROOT / "lab", tmp_path / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    return tmp_path


def test_second_checkout_uses_the_running_lab(second_checkout: Path, facts: dict[str, Any]) -> None:
    """`up` in another checkout of the same sources uses the running lab and its kubeconfig."""
    before = processes(facts)

    subprocess.run(
        [sys.executable, "-m", "lab", "up"], cwd=second_checkout, check=True, capture_output=True, timeout=120
    )

    assert processes(facts) == before
    assert (second_checkout / ".lab" / "kubeconfig").read_text() == (ROOT / ".lab" / "kubeconfig").read_text()


@pytest.mark.parametrize("name", ["kube-apiserver", "kube-scheduler", "load-balancer", "cloud-sql", "node-3"])
def test_up_heals_what_was_killed(name: str, lab: Run, facts: dict[str, Any]) -> None:
    """`up` restarts the part whose process was killed, and no other part."""
    before = processes(facts)
    kill(before[name])
    assert f"{name:<24}NOT READY" in status()

    lab("up")

    after = processes(facts)
    assert after.pop(name) != before.pop(name)
    assert after == before
    wait_until_all_is_ready()


def test_node_without_power_comes_back_with_its_pods(kubectl: Kubectl, fault: Callable[..., Any]) -> None:
    """A node that loses power is not ready at once; healed, it is Ready again."""
    with fault("node-machine", "node-3"):
        assert f"{'node-3':<24}NOT READY" in status()
    assert "node-3" in kubectl("wait", "--for=condition=Ready", "node/node-3", "--timeout=120s")
    wait_until_all_is_ready()


def test_active_fault_is_told_and_injected_once(lab: Run, fault: Callable[..., Any]) -> None:
    """`status` names an active fault; injecting it again changes nothing."""
    with fault("secret-manager", "503"):
        lab("inject", "secret-manager", "503")
        assert status().count("fault: secret-manager 503") == 1
    assert "fault:" not in status()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("no-such-fault",), "expected: a fault of the lab (node-network, "),
        (("node-machine", "node-9"), "expected: node-machine with one of node-1, node-2, node-3; seen: node-9"),
        (("node-machine",), "expected: node-machine with one of node-1, node-2, node-3; seen: no target"),
        (("database-stopped", "now"), "expected: database-stopped without a target; seen: now"),
    ],
)
def test_impossible_fault_is_refused_in_one_sentence(words: tuple[str, ...], text: str, lab: Run) -> None:
    """An unknown fault or target is refused before anything changes, with a text that lists the known ones."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        lab("inject", *words)

    assert refused.value.stderr.startswith(text)
    assert refused.value.stderr.count("\n") == 1
    assert "fault:" not in status()
