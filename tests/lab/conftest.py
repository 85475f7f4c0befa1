"""Fixtures of the lab's tests, which know the lab only by its command line and by the services that it runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from kubernetes import client, config

from fixtures.api.client import GuardedClient, connect
from fixtures.environment.loading import ROOT
from fixtures.guard.permissions import PERMISSIONS, Guard
from fixtures.guard.request_attributes import Namespaces

Manifest = dict[str, Any]
OVERLAY = ROOT / "manifests" / "overlays" / "local"


class Kubectl:
    """Runs kubectl as the lab's administrator."""

    def __init__(self, program: str, kubeconfig: str) -> None:
        self._command = [program, "--kubeconfig", kubeconfig]

    def __call__(self, *words: str, stdin: str | None = None) -> str:
        """Run it and return its stdout; CalledProcessError, with its message in `stderr`, if it fails."""
        return run([*self._command, *words], stdin)

    def get(self, *words: str) -> Manifest:
        """Get one object, or a List of objects; an empty dictionary if the object does not exist."""
        found: Manifest = json.loads(self("get", "--ignore-not-found", "--output=json", *words) or "{}")
        return found

    def apply(self, *manifests: Manifest, namespace: str = "default") -> None:
        """Apply objects server-side, taking over fields of other managers."""
        stdin = "\n---\n".join(json.dumps(manifest) for manifest in manifests)
        self("apply", "--server-side", "--force-conflicts", "--namespace", namespace, "--filename=-", stdin=stdin)


def run_lab(*words: str) -> str:
    """Run `python -m lab` and return its stdout; CalledProcessError, with its message in `stderr`, if it fails."""
    return run([sys.executable, "-m", "lab", *words])


def run(command: list[str], stdin: str | None = None) -> str:
    """Run a program and return its stdout; if it fails, the test's report shows its stderr."""
    try:
        return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True, timeout=600).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise


def deploy_reference(kubectl: Kubectl) -> None:
    """Apply Backstage as the suite does, taking over fields of other managers, and wait for the rollout."""
    words = ("--server-side", "--force-conflicts", "--field-manager=backstage-acceptance", "-k", str(OVERLAY))
    kubectl("apply", *words)
    kubectl("-n", "backstage", "rollout", "status", "deployment/backstage", "--timeout=300s")


@dataclass(frozen=True)
class PromQl:
    """Client of Cloud Monitoring's Prometheus API for the lab's project."""

    url: str

    @classmethod
    def of(cls, facts: dict[str, Any]) -> PromQl:
        """The client for a lab's facts; the path of its URL is Google's."""
        return cls(f"{facts['monitoring']['api']}/v1/projects/{facts['project']}/location/global/prometheus/api/v1")

    def ask(self, promql: str, *, token: str | None) -> requests.Response:
        """Send an instant query and return the response, whatever its status."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return requests.post(f"{self.url}/query", data={"query": promql}, headers=headers, timeout=40)

    def series(self, promql: str, *, token: str) -> list[dict[str, Any]]:
        """The series that an expression selects now, as the API's JSON has them; HTTPError for an error status."""
        answer = self.ask(promql, token=token)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found


@pytest.fixture(scope="session")
def lab() -> Callable[..., str]:
    """Runs `python -m lab` with the given arguments and returns its stdout."""
    return run_lab


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    """What `python -m lab facts` says."""
    values: dict[str, Any] = json.loads(run_lab("facts"))
    return values


@pytest.fixture(scope="session")
def gateway_address(facts: dict[str, Any]) -> str:
    """Address of the platform's Gateway."""
    return str(facts["gateway"]["address"])


@pytest.fixture(scope="session")
def kubectl(facts: dict[str, Any]) -> Kubectl:
    """Kubectl as the lab's administrator."""
    return Kubectl(facts["kubectl"], facts["kubeconfig"])


@pytest.fixture(scope="session")
def core(facts: dict[str, Any]) -> client.CoreV1Api:
    """The official client, as the lab's administrator."""
    return client.CoreV1Api(config.new_client_from_config(facts["kubeconfig"]))


@pytest.fixture(scope="session")
def guarded(facts: dict[str, Any]) -> GuardedClient:
    """The suite's client, as the lab's administrator."""
    names = Namespaces("backstage", "backstage", facts["gateway"]["namespace"])
    return connect(Guard(frozenset(PERMISSIONS), names), kubeconfig=Path(facts["kubeconfig"]))


@pytest.fixture(scope="session")
def token(facts: dict[str, Any]) -> Callable[[str], str]:
    """Bearer token of one of the lab's Google accounts: acceptance, observer, operator."""
    return lambda name: Path(facts["tokens"][name]).read_text()


@pytest.fixture(scope="session")
def promql(facts: dict[str, Any]) -> PromQl:
    """Cloud Monitoring's Prometheus API."""
    return PromQl.of(facts)


@pytest.fixture(scope="session")
def credentials(token: Callable[[str], str]) -> Credentials:
    """The acceptance suite's credentials, as google-auth holds them."""
    return Credentials(token("acceptance"))  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session")
def operator(token: Callable[[str], str]) -> Credentials:
    """Credentials of the operator, who may change the instance and read the payloads of secrets."""
    return Credentials(token("operator"))  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session")
def sql_admin(facts: dict[str, Any]) -> Iterator[Callable[[Credentials], Any]]:
    """Google's client of the Cloud SQL Admin API, for given credentials."""
    endpoint = {"api_endpoint": facts["cloud_sql"]["admin_api"]}

    def client_of(who: Credentials) -> Any:  # noqa: ANN401 - its methods are made at run time
        client = build("sqladmin", "v1", credentials=who, client_options=endpoint, static_discovery=True)
        return open_clients.enter_context(client)

    with contextlib.ExitStack() as open_clients:
        yield client_of


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the module's own; it is deleted at the end, without waiting until it is gone."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def backstage_namespace(kubectl: Kubectl) -> str:
    """Name of Backstage's namespace, created with its service account; Backstage itself need not run there."""
    reference = yaml.safe_load_all(kubectl("kustomize", str(OVERLAY)))
    wanted = [manifest for manifest in reference if manifest["kind"] in ("Namespace", "ServiceAccount")]
    kubectl.apply(*wanted, namespace="backstage")
    return "backstage"


@pytest.fixture
def fault() -> Callable[..., AbstractContextManager[None]]:
    """Injects a fault for as long as a `with` block lasts."""

    @contextlib.contextmanager
    def injected(name: str, target: str = "") -> Iterator[None]:
        run_lab("inject", name, *([target] if target else []))
        try:
            yield
        finally:
            run_lab("heal", name)

    return injected


@pytest.fixture(scope="session", autouse=True)
def _kubeconfig_of_the_lab_only() -> None:
    """Hide the user's own kubeconfig, so that no test reaches another cluster by accident."""
    os.environ["KUBECONFIG"] = os.devnull
