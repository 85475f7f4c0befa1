"""The Secret Manager stand-in, called with Google's own client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from aiohttp import web
from google.api_core.exceptions import BadRequest, Forbidden, NotFound, ServiceUnavailable
from google.cloud.secretmanager import SecretManagerServiceClient, SecretPayload
from google.oauth2.credentials import Credentials

from lab import layout
from lab.google import iam
from lab.google.secretmanager import api

PROJECT = f"projects/{layout.PROJECT}"
SECRET = f"{PROJECT}/secrets/backstage-github-token"
ANSWERED = f"projects/{layout.PROJECT_NUMBER}/secrets/backstage-github-token"
LATEST = f"{SECRET}/versions/latest"

pytestmark = pytest.mark.usefixtures("faults")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Directory with a fresh IAM and fresh secrets."""
    iam.Iam(tmp_path).create()
    api.create(tmp_path)
    return tmp_path


@pytest.fixture
def endpoint(directory: Path, serve: Callable[[web.Application], str]) -> str:
    """URL of the stand-in."""
    return serve(api.application(directory))


@pytest.fixture
def client_of(directory: Path, endpoint: str) -> Callable[[str], SecretManagerServiceClient]:
    """Makes Google's client for an account."""

    def client(account: str) -> SecretManagerServiceClient:
        credentials = Credentials(iam.Iam(directory).mint(account))  # type: ignore[no-untyped-call]
        options = {"api_endpoint": endpoint}
        return SecretManagerServiceClient(credentials=credentials, transport="rest", client_options=options)

    return client


@pytest.fixture
def backstage(client_of: Callable[[str], SecretManagerServiceClient]) -> SecretManagerServiceClient:
    """Client that may read the payloads of Backstage's secrets, and nothing else."""
    return client_of(layout.BACKSTAGE_ACCOUNT)


@pytest.fixture
def observer(client_of: Callable[[str], SecretManagerServiceClient]) -> SecretManagerServiceClient:
    """Client that may read everything but payloads."""
    return client_of(layout.OBSERVER_ACCOUNT)


@pytest.fixture
def operator(client_of: Callable[[str], SecretManagerServiceClient]) -> SecretManagerServiceClient:
    """Client that may do everything."""
    return client_of(layout.OPERATOR_ACCOUNT)


def payload(client: SecretManagerServiceClient, name: str) -> bytes:
    """The payload of a secret version."""
    return client.access_secret_version(name=name).payload.data


def add_version(client: SecretManagerServiceClient, data: bytes) -> None:
    """Add a version to the secret."""
    client.add_secret_version(parent=SECRET, payload=SecretPayload(data=data))


def test_secrets_are_listed_by_project_number(observer: SecretManagerServiceClient) -> None:
    """Names have the project number, whatever the caller used."""
    listed = [secret.name for secret in observer.list_secrets(parent=PROJECT)]

    assert listed == [f"projects/{layout.PROJECT_NUMBER}/secrets/{name}" for name in layout.SECRETS]
    assert observer.get_secret(name=SECRET).name == ANSWERED


def test_access_resolves_latest(backstage: SecretManagerServiceClient, operator: SecretManagerServiceClient) -> None:
    """A new version becomes `latest` at once; the old one stays readable."""
    before = payload(backstage, LATEST)
    add_version(operator, b"\x00new\xff")

    answer = backstage.access_secret_version(name=LATEST.replace(layout.PROJECT, layout.PROJECT_NUMBER))

    assert (answer.name, answer.payload.data) == (f"{ANSWERED}/versions/2", b"\x00new\xff")
    assert payload(backstage, f"{SECRET}/versions/1") == before


def test_versions_are_listed_newest_first(
    observer: SecretManagerServiceClient, operator: SecretManagerServiceClient
) -> None:
    """The list has each version's state and never a payload."""
    add_version(operator, b"new")

    versions = list(observer.list_secret_versions(parent=SECRET))

    assert [version.name for version in versions] == [f"{ANSWERED}/versions/2", f"{ANSWERED}/versions/1"]
    assert {version.state.name for version in versions} == {"ENABLED"}


def test_access_is_denied_without_the_role(observer: SecretManagerServiceClient) -> None:
    """Permission to read metadata does not include the payload."""
    with pytest.raises(Forbidden) as refusal:
        payload(observer, LATEST)

    expected = f"Permission 'secretmanager.versions.access' denied for resource '{LATEST}' (or it may not exist)."
    assert refusal.value.message.endswith(expected)


def test_adding_is_denied_to_a_reader(backstage: SecretManagerServiceClient) -> None:
    """Permission to read a payload does not include adding one."""
    with pytest.raises(Forbidden, match=r"secretmanager\.versions\.add"):
        add_version(backstage, b"x")


def test_other_project_is_denied(operator: SecretManagerServiceClient) -> None:
    """Other projects are denied even to the operator, so that nothing shows whether they exist."""
    with pytest.raises(Forbidden):
        operator.get_secret(name="projects/elsewhere/secrets/backstage-github-token")


def test_absent_secret_and_version_are_not_found(operator: SecretManagerServiceClient) -> None:
    """A caller with all permissions gets 404 for what does not exist."""
    with pytest.raises(NotFound, match=r"Secret \[projects/\d+/secrets/absent\] not found"):
        payload(operator, f"{PROJECT}/secrets/absent/versions/1")
    with pytest.raises(NotFound, match=r"Secret Version \[projects/\d+/secrets/[a-z-]+/versions/9\] not found"):
        payload(operator, f"{SECRET}/versions/9")


def test_disabled_version_is_refused_until_enabled(
    backstage: SecretManagerServiceClient, operator: SecretManagerServiceClient
) -> None:
    """`latest` does not fall back to an older version when the newest is disabled."""
    add_version(operator, b"new")
    operator.disable_secret_version(name=f"{SECRET}/versions/2")

    with pytest.raises(BadRequest, match=r"versions/2\] is in DISABLED state"):
        payload(backstage, LATEST)
    operator.enable_secret_version(name=f"{SECRET}/versions/2")
    assert payload(backstage, LATEST) == b"new"


def test_destroyed_version_stays_destroyed(operator: SecretManagerServiceClient, directory: Path) -> None:
    """Destroying removes the payload from disk and cannot be undone."""
    destroyed = operator.destroy_secret_version(name=f"{SECRET}/versions/1")

    assert destroyed.state.name == "DESTROYED"
    assert api.Store(directory).read()["backstage-github-token"]["versions"][0]["data"] == ""
    with pytest.raises(BadRequest, match="is in DESTROYED state"):
        operator.enable_secret_version(name=f"{SECRET}/versions/1")


def test_unknown_token_is_unauthorized(endpoint: str) -> None:
    """A token that the lab did not sign is refused."""
    forged = {"Authorization": "Bearer ya29.e30.forged"}

    answer = requests.get(f"{endpoint}/v1/{LATEST}:access", headers=forged, timeout=10)

    assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_fault_denies_one_secret(backstage: SecretManagerServiceClient, faults: Path) -> None:
    """The fault applies to the named secret only and ends when the fault is removed."""
    fault = faults / "secret-denied"
    fault.write_text("backstage-github-token\n")

    with pytest.raises(Forbidden):
        payload(backstage, LATEST)
    assert payload(backstage, f"{PROJECT}/secrets/backstage-slack-token/versions/latest")
    fault.unlink()
    assert payload(backstage, LATEST)


def test_fault_makes_the_service_unavailable(backstage: SecretManagerServiceClient, faults: Path) -> None:
    """The injected outage answers 503 to everyone."""
    (faults / "secret-manager").write_text("503")

    with pytest.raises(ServiceUnavailable):
        backstage.access_secret_version(name=LATEST, retry=None)


def test_store_is_private(directory: Path) -> None:
    """Only root can read the file, and each secret has a different payload."""
    content = api.Store(directory).read()

    assert (directory / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert len({secret["versions"][0]["data"] for secret in content.values()}) == len(layout.SECRETS)
