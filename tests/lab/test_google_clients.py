"""Google's own client libraries, unmodified, against the stand-ins of the Cloud SQL Admin API and Secret Manager."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud.secretmanager import SecretManagerServiceClient
from google.cloud.secretmanager_v1 import SecretVersion
from google.oauth2.credentials import Credentials
from googleapiclient.errors import HttpError

Facts = dict[str, Any]


@pytest.fixture(scope="module")
def admin(sql_admin: Callable[[Credentials], Any], credentials: Credentials) -> Any:  # noqa: ANN401 - made at run time
    """Client of the Cloud SQL Admin API with the acceptance suite's credentials."""
    return sql_admin(credentials)


@pytest.fixture(scope="module")
def where(facts: Facts) -> dict[str, str]:
    """The instance as parameters of the Admin API's calls."""
    project, _, instance = facts["cloud_sql"]["instance"].split(":")
    return {"project": project, "instance": instance}


def test_instance_shows_how_it_is_set_up(admin: Any, where: dict[str, str], facts: Facts) -> None:  # noqa: ANN401
    """The instance runs, highly available, with backups and log archive, for IAM users and encrypted clients only."""
    instance = admin.instances().get(**where).execute()
    settings = instance["settings"]

    assert instance["connectionName"] == facts["cloud_sql"]["instance"]
    assert instance["state"] == "RUNNABLE"
    assert instance["databaseVersion"].startswith("POSTGRES_")
    assert {address["type"] for address in instance["ipAddresses"]} == {"PRIMARY", "PRIVATE"}
    assert settings["activationPolicy"] == "ALWAYS"
    assert settings["availabilityType"] == "REGIONAL"
    assert settings["backupConfiguration"]["enabled"]
    assert settings["backupConfiguration"]["pointInTimeRecoveryEnabled"]
    assert settings["databaseFlags"] == [{"name": "cloudsql.iam_authentication", "value": "on"}]
    assert settings["ipConfiguration"]["sslMode"] == "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"


def test_users_tell_the_iam_user(admin: Any, where: dict[str, str], facts: Facts) -> None:  # noqa: ANN401
    """Backstage's database user is an IAM user, named without the suffix `.gserviceaccount.com`."""
    users = admin.users().list(**where).execute()["items"]
    iam_users = [user["name"] for user in users if user.get("type") == "CLOUD_IAM_SERVICE_ACCOUNT"]

    assert facts["cloud_sql"]["iam_user"] in iam_users


def test_databases_are_all_there(admin: Any, where: dict[str, str], facts: Facts) -> None:  # noqa: ANN401
    """Each of Backstage's databases exists."""
    databases = admin.databases().list(**where).execute()["items"]

    assert facts["cloud_sql"]["databases"]
    assert {database["name"] for database in databases} >= set(facts["cloud_sql"]["databases"])


def test_viewer_may_not_restart_the_instance(admin: Any, where: dict[str, str]) -> None:  # noqa: ANN401
    """A call without the permission is answered 403, and the answer names the permission."""
    with pytest.raises(HttpError) as refused:
        admin.instances().restart(**where).execute()

    assert refused.value.status_code == 403
    assert "Possibly missing permission cloudsql.instances.restart" in refused.value.reason


def test_unknown_instance_is_not_found(admin: Any, where: dict[str, str]) -> None:  # noqa: ANN401
    """An instance of another name does not exist."""
    with pytest.raises(HttpError) as refused:
        admin.instances().get(**where | {"instance": "another"}).execute()

    assert refused.value.status_code == 404


def test_stranger_is_not_let_in(sql_admin: Callable[[Credentials], Any], where: dict[str, str]) -> None:
    """A token that Google has not issued opens nothing; the client then fails to get a better one."""
    stranger = Credentials("ya29.forged")  # type: ignore[no-untyped-call]

    with pytest.raises(GoogleAuthError):
        sql_admin(stranger).instances().get(**where).execute()


@pytest.fixture(scope="module")
def secret_manager(facts: Facts) -> Iterator[Callable[[Credentials], SecretManagerServiceClient]]:
    """Secret Manager's client over REST, for given credentials."""
    endpoint = {"api_endpoint": facts["secret_manager"]["api"]}

    def client_of(who: Credentials) -> SecretManagerServiceClient:
        client = SecretManagerServiceClient(credentials=who, transport="rest", client_options=endpoint)
        return open_clients.enter_context(client)

    with contextlib.ExitStack() as open_clients:
        yield client_of


@pytest.fixture(scope="module")
def viewer(
    secret_manager: Callable[[Credentials], SecretManagerServiceClient], credentials: Credentials
) -> SecretManagerServiceClient:
    """Client of Secret Manager with the acceptance suite's credentials, which may read everything except payloads."""
    return secret_manager(credentials)


@pytest.fixture(scope="module")
def latest(facts: Facts) -> str:
    """Name of the latest version of one of Backstage's secrets."""
    return f"projects/{facts['project']}/secrets/{facts['secret_manager']['secrets'][0]}/versions/latest"


def test_secrets_are_listed(viewer: SecretManagerServiceClient, facts: Facts) -> None:
    """Each of Backstage's secrets exists."""
    names = {secret.name.rpartition("/")[2] for secret in viewer.list_secrets(parent=f"projects/{facts['project']}")}

    assert facts["secret_manager"]["secrets"]
    assert names >= set(facts["secret_manager"]["secrets"])


def test_latest_version_is_resolved_to_an_enabled_one(viewer: SecretManagerServiceClient, latest: str) -> None:
    """`latest` is resolved to a version's number, which is the first in the list of versions."""
    version = viewer.get_secret_version(name=latest)
    versions = list(viewer.list_secret_versions(parent=latest.rpartition("/versions/")[0]))

    assert version.state == SecretVersion.State.ENABLED
    assert version.name.rpartition("/")[2].isdigit()
    assert version.name == versions[0].name


def test_viewer_may_not_read_a_payload(viewer: SecretManagerServiceClient, latest: str) -> None:
    """The acceptance suite's account sees that a secret exists, but not its payload."""
    with pytest.raises(exceptions.Forbidden, match=r"Permission 'secretmanager\.versions\.access' denied"):
        viewer.access_secret_version(name=latest)


def test_operator_reads_a_payload(
    secret_manager: Callable[[Credentials], SecretManagerServiceClient], operator: Credentials, latest: str
) -> None:
    """An account with the permission gets the payload and the number of its version."""
    answer = secret_manager(operator).access_secret_version(name=latest)

    assert answer.payload.data.startswith(b"lab-")
    assert answer.name.rpartition("/")[2].isdigit()


def test_unknown_secret_is_not_found(viewer: SecretManagerServiceClient, latest: str) -> None:
    """A secret of another name does not exist."""
    with pytest.raises(exceptions.NotFound):
        viewer.get_secret_version(name=latest.replace("/secrets/", "/secrets/no-"))


def test_secret_manager_can_be_unavailable(
    viewer: SecretManagerServiceClient, latest: str, fault: Callable[..., AbstractContextManager[None]]
) -> None:
    """Google's client raises ServiceUnavailable while the fault lasts, and works again when it is healed."""
    with fault("secret-manager", "503"), pytest.raises(exceptions.ServiceUnavailable):
        viewer.get_secret_version(name=latest)
    assert viewer.get_secret_version(name=latest).state == SecretVersion.State.ENABLED


@pytest.mark.parametrize("status", [429, 503])
def test_admin_api_can_answer_an_error(
    status: int,
    admin: Any,  # noqa: ANN401
    where: dict[str, str],
    fault: Callable[..., AbstractContextManager[None]],
) -> None:
    """Google's client raises HttpError with the status while the fault lasts, and works again when it is healed."""
    with fault("admin-api", str(status)), pytest.raises(HttpError) as refused:
        admin.instances().get(**where).execute()
    assert refused.value.status_code == status
    assert admin.instances().get(**where).execute()["state"] == "RUNNABLE"
