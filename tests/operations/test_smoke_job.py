"""The scheduled smoke as it runs in service, as a Job of the cluster: its log, its metrics, and what stops it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fixtures.environment.loading import ROOT
from fixtures.waiting import wait_for
from tests.detection.test_observer import READS, REVIEWS, requests_of
from tests.documents import OPERATIONS, commands
from tests.lab.conftest import Kubectl, Manifest, run, run_lab
from tests.operations.conftest import Query

OVERLAY = ROOT / "manifests" / "operations" / "overlays" / "lab"
SHOWN = sorted({each.text for each in commands() if each.is_one_of(OPERATIONS) and not each.needs_gke})
"""Commands that the documents show for inspecting the scheduled smoke."""
SMOKE = "system:serviceaccount:acceptance:acceptance-smoke"
NAMESPACE = ("--namespace", "acceptance")
JOB = 180.0
"""Seconds until a job has ended; 12 to 45 were seen."""
SCRAPED = 90.0
"""Seconds from a push to an answer in PromQL; 10 were seen."""
RECOVERED = 240.0
"""Seconds from a healed database to an accepted run: some runs of the smoke, one of which may be too early."""


@dataclass(frozen=True)
class FinishedJob:
    """A Job that has ended."""

    code: int
    """Exit code of its container."""
    lines: list[dict[str, Any]]
    """Its log, one JSON object per line."""

    @property
    def verdict(self) -> dict[str, Any]:
        """The log's last line, which is the verdict."""
        return self.lines[-1]

    def of(self, promise: str) -> list[dict[str, Any]]:
        """The log's lines about a promise's checks."""
        return [line for line in self.lines if line.get("promise") == promise]


Change = Callable[[Manifest], None]
RunJob = Callable[..., FinishedJob]


@pytest.fixture(scope="module")
def installed(kubectl: Kubectl, facts: dict[str, Any]) -> Iterator[Kubectl]:
    """Kubectl of a lab with Backstage, the suite's image and the smoke's overlay, which is deleted afterwards."""
    run_lab("load-image", run([sys.executable, str(ROOT / "image" / "build.py")]).strip())
    # A deployment that is there is left alone: these tests are about the smoke, and a rollout costs minutes.
    if not kubectl.get("deployment", "backstage", "--namespace", "backstage"):
        kubectl("apply", "--server-side", f"--kustomize={ROOT / 'manifests' / 'overlays' / 'local'}")
    kubectl("rollout", "status", "deployment/backstage", "--namespace", "backstage", "--timeout=300s")
    try:
        authority = f"--from-file=ca.crt={facts['ca_file']}"
        kubectl("create", "configmap", "acceptance-smoke-authority", *NAMESPACE, authority)
        kubectl("apply", "--server-side", f"--kustomize={OVERLAY}")
        kubectl("rollout", "status", "deployment/acceptance-pushgateway", *NAMESPACE, "--timeout=120s")
        yield kubectl
    finally:
        kubectl("delete", f"--kustomize={OVERLAY}", "--ignore-not-found")
        kubectl("delete", "configmap", "acceptance-smoke-authority", *NAMESPACE, "--ignore-not-found")


@pytest.fixture(scope="module")
def run_smoke_job(installed: Kubectl) -> RunJob:
    """Creates a Job from the CronJob, with its pod spec changed if asked, and waits for its end."""

    def run_job(change: Change = lambda _: None) -> FinishedJob:
        name = f"smoke-{uuid.uuid4().hex[:6]}"
        made = installed(
            *("create", "job", name, "--from=cronjob/acceptance-smoke", *NAMESPACE, "--dry-run=client", "--output=json")
        )
        job: Manifest = json.loads(made)
        change(job["spec"]["template"]["spec"])
        installed("create", "--filename=-", stdin=json.dumps(job))
        return wait_until_finished(installed, name)

    return run_job


def wait_until_finished(kubectl: Kubectl, name: str) -> FinishedJob:
    """Wait until a Job has ended; its exit code and log."""
    wait_for(
        f"job {name} to end",
        lambda: kubectl.get("job", name, *NAMESPACE)["status"],
        until=lambda status: bool({"Complete", "Failed"} & {each["type"] for each in status.get("conditions", [])}),
        within=JOB,
        every=1,
        look_next=f"kubectl -n acceptance describe pods -l job-name={name}",
    )
    [pod] = kubectl.get("pods", *NAMESPACE, f"--selector=job-name={name}")["items"]
    [status] = pod["status"]["containerStatuses"]
    log = kubectl("logs", pod["metadata"]["name"], *NAMESPACE)
    return FinishedJob(status["state"]["terminated"]["exitCode"], [json.loads(line) for line in log.splitlines()])


def test_job_accepts_backstage_by_nothing_but_reads(run_smoke_job: RunJob, promql: Query) -> None:
    """With its own identity it only reads, and its log and metrics have what it found."""
    began = datetime.now(UTC)

    done = run_smoke_job()

    assert (done.code, done.verdict["severity"], done.verdict["verdict"]) == (0, "INFO", "accepted"), done.verdict
    assert {line["kind"] for line in done.lines[:-1]} == {"check"}
    assert {line["severity"] for line in done.of("database")} <= {"INFO", "DEBUG", "NOTICE"}
    seen = requests_of(SMOKE, began)
    assert len(seen) > 100
    assert {(verb, resource) for verb, resource in seen if verb not in READS} <= {("create", each) for each in REVIEWS}
    assert pushed_value(promql, "last_accepted_timestamp_seconds", since=began) >= began.timestamp()
    assert pushed_value(promql, "certificate_not_after_timestamp_seconds", since=began) > datetime.now(UTC).timestamp()
    assert promise_outcomes(promql)["database"] == promise_outcomes(promql)["https"] == "kept"


def test_stopped_database_turns_it_red_and_is_named(run_smoke_job: RunJob, promql: Query) -> None:
    """Log line and metric name the promise and what was seen; after the fault, Backstage is accepted again.

    The broken promise is the portal's, as users notice the fault at once. An observer cannot judge the database itself
    until Backstage has counted no successful operation for some minutes, which tests/detection waits for.
    """
    before = pushed_value(promql, "last_accepted_timestamp_seconds")
    began = datetime.now(UTC)
    run_lab("inject", "database-stopped")
    try:
        red = run_smoke_job()
        pushed_value(promql, "last_run_timestamp_seconds", since=began)
        found, evidence = promise_outcomes(promql), promql('backstage_acceptance_broken{environment="lab"}')
        last_accepted = pushed_value(promql, "last_accepted_timestamp_seconds")
    finally:
        run_lab("heal", "database-stopped")

    assert (red.code, red.verdict["severity"], red.verdict["verdict"]) == (1, "ERROR", "rejected"), red.verdict
    broken = [line for line in red.lines if line.get("outcome") == "broken"]
    assert "test_catalog_answers_with_entities" in {line["check"] for line in broken}
    assert {line["severity"] for line in broken} == {"ERROR"}
    assert {line["logging.googleapis.com/labels"]["promise"] for line in broken} <= {"portal", "database"}
    assert found["portal"] == "broken"
    assert found["database"] != "kept"
    assert {(series["check"], series["evidence"]) for series, _ in evidence} == {
        (line["check"], line["seen"]) for line in broken
    }
    assert last_accepted == before
    again = wait_for(
        "the smoke to accept Backstage with its database back",
        run_smoke_job,
        until=lambda done: done.code == 0,
        within=RECOVERED,
        look_next="kubectl -n backstage logs deployment/backstage --all-containers --tail=50",
        describe=lambda done: str(done.verdict["reasons"]),
    )
    assert again.verdict["verdict"] == "accepted"


def without_file(pod: Manifest) -> None:
    """Point the smoke at an environment file that does not exist."""
    pod["containers"][0]["args"][0] = "--env=/etc/acceptance/none/lab.toml"


def without_cluster(pod: Manifest) -> None:
    """Replace the API server's address by one that nobody has."""
    pod["containers"][0]["env"].append({"name": "KUBERNETES_SERVICE_HOST", "value": "172.30.0.250"})


def with_expired_token(pod: Manifest) -> None:
    """Mount an expired token instead of the one that the kubelet renews."""
    mount = {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}
    pod["automountServiceAccountToken"] = False
    pod["containers"][0]["volumeMounts"].append(mount)
    authority = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    token = {"secret": {"name": "acceptance-smoke-expired"}}
    pod["volumes"].append({"name": "token", "projected": {"sources": [authority, token]}})


@pytest.fixture(scope="module")
def expired(installed: Kubectl) -> Iterator[None]:
    """A Secret with an unsigned token; its `exp` claim says that it expired in 2001."""
    claims = [{"alg": "RS256"}, {"exp": 1000000000}, {}]
    token = ".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in claims)
    installed("create", "secret", "generic", "acceptance-smoke-expired", *NAMESPACE, f"--from-literal=token={token}")
    yield
    installed("delete", "secret", "acceptance-smoke-expired", *NAMESPACE)


@pytest.mark.usefixtures("expired")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_file, "expected: the file of an environment; seen: no file /etc/acceptance/none/lab.toml"),
        (without_cluster, "expected: an answer of the API server at https://172.30.0.250:443; seen: no "),
        (with_expired_token, "seen: the identity's credentials expired at 2001-09-09 01:46 UTC; look next: "),
    ],
)
def test_run_that_cannot_look_has_no_verdict(run_smoke_job: RunJob, promql: Query, change: Change, reason: str) -> None:
    """It says why in one line of its log and in a metric that an alert can use."""
    began = datetime.now(UTC)

    done = run_smoke_job(change)

    [verdict_line] = [line for line in done.lines if line.get("outcome") != "not permitted"]
    assert (done.code, verdict_line["severity"], verdict_line["verdict"]) == (6, "ERROR", "no verdict")
    first, *unchecked = verdict_line["reasons"]
    assert reason in first
    assert "\n" not in first
    assert all(" is required and " in each for each in unchecked)
    pushed_value(promql, "last_run_timestamp_seconds", since=began)
    assert promql('backstage_acceptance_verdict{environment="lab"} == 1')[0][0]["verdict"] == "no verdict"
    assert len(promql('backstage_acceptance_problem{environment="lab"}')) == 1


def pushed_value(promql: Query, name: str, *, since: datetime | None = None) -> float:
    """Value of a metric of the lab, once a run that ended after `since` has been pushed and scraped."""
    wait_for(
        f"a run pushed since {since}" if since else "a run pushed",
        lambda: promql('backstage_acceptance_last_run_timestamp_seconds{environment="lab"}'),
        until=lambda found: bool(found) and (since is None or found[0][1] >= since.timestamp()),
        within=SCRAPED,
        look_next="kubectl -n acceptance get podmonitoring acceptance-pushgateway -o yaml",
    )
    [(_, value)] = promql(f'backstage_acceptance_{name}{{environment="lab"}}')
    return value


def promise_outcomes(promql: Query) -> dict[str, str]:
    """Outcome of each promise by PromQL."""
    found = promql('backstage_acceptance_promise{environment="lab"}')
    return {series["promise"]: series["outcome"] for series, _ in found}


@pytest.mark.parametrize("command", SHOWN)
def test_command_of_the_runbook_shows_a_run_that_failed(
    command: str, installed: Kubectl, facts: dict[str, Any]
) -> None:
    """A command that an engineer on call types succeeds and shows something."""
    jobs = installed.get("jobs", *NAMESPACE)["items"]
    failed = [job["metadata"]["name"] for job in jobs if job["status"].get("failed")]
    env = {**os.environ, "KUBECONFIG": facts["kubeconfig"]}
    env["PATH"] = f"{Path(facts['kubectl']).parent}:{os.environ['PATH']}"

    shown = subprocess.run(
        ["sh", "-c", command.replace("JOB", failed[0])], env=env, capture_output=True, text=True, check=True, timeout=60
    )

    assert shown.stdout
