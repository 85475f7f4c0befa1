"""What a run that only observes does to its target, according to the API server's audit log."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fixtures.environment.loading import ROOT

OBSERVER = "system:serviceaccount:acceptance:acceptance-observer"
READS = {"get", "list", "watch"}
REVIEWS = {"selfsubjectaccessreviews", "selfsubjectreviews"}


@dataclass(frozen=True)
class SmokeRun:
    """A run of the smoke that has ended."""

    began: datetime
    code: int
    output: str


def run_smoke(folder: Path, environment: str = "smoke") -> SmokeRun:
    """Run the smoke against an environment, given by name or path, and wait for its end."""
    began = datetime.now(UTC)
    command = [sys.executable, "-m", "pytest", "tests/acceptance", f"--env={environment}", f"--report={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    return SmokeRun(began, done.returncode, done.stdout + done.stderr)


def requests_of(user: str, since: datetime) -> list[tuple[str, str]]:
    """Verb and resource of each request of a user in the audit log, refused ones too; `since` is in UTC."""
    facts = json.loads(subprocess.check_output([sys.executable, "-m", "lab", "facts"], cwd=ROOT))
    with Path(facts["audit_log"]).open() as log:
        events = [event for line in log if user in line for event in [json.loads(line)]]
    return [
        (event["verb"], event.get("objectRef", {}).get("resource", ""))
        for event in events
        if event["user"]["username"] == user and datetime.fromisoformat(event["requestReceivedTimestamp"]) >= since
    ]


def test_nothing_but_reads_and_reviews_of_itself_reaches_the_api_server(tmp_path: Path) -> None:
    """A smoke run sends only reads, and reviews of its own rights."""
    done = run_smoke(tmp_path)

    assert done.code == 0, done.output
    seen = requests_of(OBSERVER, done.began)
    assert len(seen) > 100
    assert {(verb, resource) for verb, resource in seen if verb not in READS} <= {("create", each) for each in REVIEWS}


def test_identity_that_may_do_more_than_observe_is_refused(tmp_path: Path) -> None:
    """A smoke run does not start with an identity that could change its target."""
    more = tmp_path / "more.toml"
    more.write_text(f'extends = "smoke"\n[cluster]\nkubeconfig = "{ROOT}/.lab/rbac/disrupter"\n')

    done = run_smoke(tmp_path / "results", environment=str(more))

    assert done.code == 6
    assert "has the rights of observe and nothing more; seen: may " in done.output
    assert "pods/eviction" in done.output


@pytest.fixture
def unreachable(tmp_path: Path) -> Path:
    """Path of an environment whose API server does not exist."""
    kubeconfig = json.loads((ROOT / ".lab" / "rbac" / "observer").read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    environment = tmp_path / "unreachable.toml"
    environment.write_text('extends = "smoke"\n[cluster]\nkubeconfig = "kubeconfig"\n')
    return environment


def test_unreachable_cluster_is_no_verdict_in_one_sentence(unreachable: Path, tmp_path: Path) -> None:
    """An error of the surroundings is never reported as a broken promise."""
    done = run_smoke(tmp_path / "results", environment=str(unreachable))

    assert done.code == 6
    assert "expected: an answer of the API server at https://127.0.0.1:1; seen: no connection" in done.output
    assert "Traceback" not in done.output
