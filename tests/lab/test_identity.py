"""Workload Identity as google-auth sees it in a pod: the annotation names the account, the IAM binding grants it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.lab import clientpod
from tests.lab.conftest import Kubectl, Manifest

pytestmark = pytest.mark.usefixtures("backstage_namespace")

Facts = dict[str, Any]
Fault = Callable[..., AbstractContextManager[None]]

ASK = """
import json
from google.auth.compute_engine import Credentials
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request

credentials, refusal = Credentials(), ""
try:
    credentials.refresh(Request())
except RefreshError as error:
    refusal = str(error)
print(json.dumps({"email": credentials.service_account_email, "token": credentials.token, "refusal": refusal}))
"""
MISSING = "iam.serviceAccounts.getAccessToken"
"""The permission that the binding (roles/iam.workloadIdentityUser) grants."""


@dataclass(frozen=True)
class Answer:
    """What google-auth got from the metadata server."""

    email: str
    token: str | None
    refusal: str
    """Why there is no token; empty if there is one."""


@dataclass(frozen=True)
class Workload:
    """A pod that asks the metadata server for its identity."""

    kubectl: Kubectl
    namespace: str
    pod: str

    def run(self, *command: str) -> str:
        """Run a command in the pod and return its stdout; CalledProcessError, with `stderr`, if it fails."""
        return clientpod.run(self.kubectl, self.namespace, self.pod, *command)

    def ask(self) -> Answer:
        """Ask by google-auth now."""
        return Answer(**json.loads(self.run("python3", "-c", ASK)))


@pytest.fixture(scope="module")
def account(facts: Facts) -> str:
    """E-mail address of Backstage's Google account."""
    return f"{facts['cloud_sql']['iam_user']}.gserviceaccount.com"


@pytest.fixture(scope="module")
def workloads(kubectl: Kubectl, namespace: str, account: str) -> Iterator[dict[str, Workload]]:
    """Three pods, by their service account: `bound` to Backstage's account, only `annotated` with it, and `plain`."""
    annotated: Manifest = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "annotated", "annotations": {"iam.gke.io/gcp-service-account": account}},
    }
    kubectl.apply(annotated, namespace=namespace)
    places = {
        "bound": (clientpod.BACKSTAGE, clientpod.BACKSTAGE),
        "annotated": (namespace, "annotated"),
        "plain": (namespace, "default"),
    }
    with ExitStack() as pods:
        running = {}
        for name, (where, service_account) in places.items():
            pod = clientpod.pod(clientpod.toolbox(), service_account=service_account)
            running[name] = Workload(kubectl, where, pods.enter_context(clientpod.created(kubectl, where, pod)))
        for workload in running.values():
            clientpod.wait_until_ready(kubectl, workload.namespace, workload.pod)
        yield running


@pytest.fixture(scope="module")
def connect_status(facts: Facts) -> Callable[[str | None], int]:
    """Asks the Admin API for the instance's connect settings with a bearer token; the HTTP status."""
    project, _, instance = facts["cloud_sql"]["instance"].split(":")
    url = f"{facts['cloud_sql']['admin_api']}/v1/projects/{project}/instances/{instance}/connectSettings"
    return lambda token: requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code


def test_bound_workload_acts_as_its_google_account(
    workloads: dict[str, Workload], account: str, connect_status: Callable[[str | None], int]
) -> None:
    """The token is the account's: it opens what only that account may."""
    answer = workloads["bound"].ask()

    assert answer.email == account
    assert connect_status(answer.token) == 200


def test_annotation_without_binding_tells_the_email_and_refuses_the_token(
    workloads: dict[str, Workload], account: str
) -> None:
    """Without roles/iam.workloadIdentityUser the e-mail looks right and the token is denied."""
    answer = workloads["annotated"].ask()

    assert answer.email == account
    assert "Status: 403" in answer.refusal
    assert MISSING in answer.refusal


def test_plain_workload_is_the_workload_pool(
    workloads: dict[str, Workload], facts: Facts, connect_status: Callable[[str | None], int]
) -> None:
    """Without the annotation a pod's identity is the cluster's workload pool, which has no rights."""
    answer = workloads["plain"].ask()

    assert answer.email == f"{facts['project']}.svc.id.goog"
    assert connect_status(answer.token) == 403


def test_metadata_server_can_refuse_tokens(workloads: dict[str, Workload], fault: Fault) -> None:
    """The fault refuses tokens to all pods as if no binding existed, until it is healed."""
    with fault("metadata", "refusing"):
        answer = workloads["bound"].ask()
    assert answer.token is None
    assert MISSING in answer.refusal
    assert workloads["bound"].ask().token


def test_metadata_server_can_be_down(workloads: dict[str, Workload], fault: Fault) -> None:
    """The fault refuses connections until it is healed."""
    with fault("metadata", "down"), pytest.raises(subprocess.CalledProcessError) as failed:
        # Not google-auth, which says the same after 15 s of trying.
        workloads["bound"].run("curl", "--silent", "--show-error", "http://metadata.google.internal/")
    assert "Failed to connect to metadata.google.internal port 80" in failed.value.stderr
    assert workloads["bound"].ask().token
