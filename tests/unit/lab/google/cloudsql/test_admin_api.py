"""The methods of the Admin API: their responses, and the callers they refuse."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lab import layout
from lab.google.cloudsql.admin_api import AdminApi
from lab.google.cloudsql.postgres import Database, Postgres, User
from lab.google.iam import CLOUD_PLATFORM, SQL_ADMIN, SQL_LOGIN
from tests.unit.lab.google.cloudsql.client import INSTANCE, PROJECT, USER, Call, error_of


@pytest.mark.parametrize("version", ["/v1", "/sql/v1beta4"])
def test_instance_is_shown(call: Call, version: str) -> None:
    """Both API versions return the fields that the suite reads."""
    instance = call("GET", INSTANCE.replace("/v1", version), account=layout.OBSERVER_ACCOUNT).json()

    assert instance["connectionName"] == layout.INSTANCE_CONNECTION_NAME
    assert (instance["state"], instance["settings"]["activationPolicy"]) == ("RUNNABLE", "ALWAYS")
    assert instance["ipAddresses"][0] == {"type": "PRIMARY", "ipAddress": "127.0.0.2"}
    assert call("GET", f"{PROJECT}/instances").json()["items"] == [instance]


def test_calls_are_refused_in_googles_order(call: Call, api: AdminApi, faults: Path) -> None:
    """The checks run in Google's order: outage, token, permission, resource name."""
    other = f"{PROJECT}/instances/other"

    assert error_of(call("GET", other)) == (404, "instanceDoesNotExist")
    assert error_of(call("GET", f"{other}/users", account=layout.BACKSTAGE_ACCOUNT)) == (403, "notAuthorized")
    assert error_of(call("GET", other, token="forged")) == (401, "authError")  # noqa: S106
    login_only = api.iam.mint(layout.OPERATOR_ACCOUNT, [SQL_LOGIN])
    assert error_of(call("GET", INSTANCE, token=login_only)) == (401, "authError")
    (faults / "admin-api").write_text("429")
    assert error_of(call("GET", other, token="forged")) == (429, "rateLimitExceeded")  # noqa: S106


def test_missing_permission_is_named(call: Call) -> None:
    """The message is the one that cloud-sql-proxy logs."""
    answer = call("GET", f"{INSTANCE}/connectSettings", account=layout.OBSERVER_ACCOUNT)

    assert answer.json()["error"]["message"] == (
        "boss::NOT_AUTHORIZED: Not authorized to access resource. "
        "Possibly missing permission cloudsql.instances.connect on resource instances/backstage."
    )


@pytest.mark.parametrize(("fault", "reason"), [("403", "notAuthorized"), ("503", "backendError")])
def test_fault_answers_every_call(call: Call, faults: Path, fault: str, reason: str) -> None:
    """The fault applies even to a caller with all permissions."""
    (faults / "admin-api").write_text(fault)

    assert error_of(call("GET", INSTANCE)) == (int(fault), reason)


def test_fault_down_resets_connections_and_does_nothing(call: Call, api: AdminApi, faults: Path) -> None:
    """A call without a response has no effect either."""
    (faults / "admin-api").write_text("down")

    with pytest.raises(requests.ConnectionError):
        call("POST", f"{INSTANCE}/restart")
    assert api.instance.kept["operations"] == {}


def test_users_and_databases_are_listed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only IAM users have a type."""

    async def users(_: Postgres) -> list[User]:
        return [User(USER, iam=True), User("postgres", iam=False)]

    async def databases(_: Postgres) -> list[Database]:
        return [Database("app", "UTF8", "C.UTF-8")]

    monkeypatch.setattr(Postgres, "users", users)
    monkeypatch.setattr(Postgres, "databases", databases)
    listed = call("GET", f"{INSTANCE}/users").json()["items"]

    assert [(user["name"], user.get("type")) for user in listed] == [
        (USER, "CLOUD_IAM_SERVICE_ACCOUNT"), ("postgres", None),
    ]  # fmt: skip
    assert call("GET", f"{INSTANCE}/databases/app").json()["charset"] == "UTF8"
    assert error_of(call("GET", f"{INSTANCE}/databases/other")) == (404, "notFound")


def test_users_of_a_stopped_instance_are_unknown(call: Call) -> None:
    """Users are read from PostgreSQL, so a stopped one means an error."""
    assert error_of(call("GET", f"{INSTANCE}/users")) == (400, "invalid")


@cache
def connectors_key() -> rsa.RSAPublicKey:
    """A connector's public key, cached because RSA keys are slow to make."""
    return rsa.generate_private_key(65537, 2048).public_key()


def certificate_for(call: Call, **body: object) -> x509.Certificate:
    """The certificate that the Admin API issues for a connector's key."""
    key = connectors_key()
    text = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    # Connectors label the key as an RSA key, whatever its type.
    sent = {"public_key": text.replace("PUBLIC KEY", "RSA PUBLIC KEY"), **body}
    answer = call("POST", f"{INSTANCE}:generateEphemeralCert", sent, account=layout.BACKSTAGE_ACCOUNT)
    certificate = x509.load_pem_x509_certificate(answer.json()["ephemeralCert"]["cert"].encode())
    assert certificate.public_key() == key
    return certificate


def test_connectors_certificate_names_its_principal(call: Call, api: AdminApi) -> None:
    """The certificate names the login token's account, however long its e-mail address is."""
    email = f"{'a' * 30}@{'b' * 30}.iam.gserviceaccount.com"
    certificate = certificate_for(call, access_token=api.iam.mint(email, [SQL_LOGIN]))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names.get_values_for_type(x509.RFC822Name) == [email]
    certificate.verify_directly_issued_by(api.port.client_ca.certificate)


def test_connector_without_login_gets_a_certificate_of_nobody(call: Call) -> None:
    """A certificate without an account opens the port but does not log in."""
    with pytest.raises(x509.ExtensionNotFound):
        certificate_for(call).extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize("body", [None, [], {}, {"public_key": 1}, {"public_key": "x"}])
def test_certificate_needs_a_key(call: Call, body: object) -> None:
    """Anything but a public key is refused, whatever its type."""
    assert error_of(call("POST", f"{INSTANCE}:generateEphemeralCert", body))[0] == 400


def test_login_token_needs_the_login_scope(call: Call, api: AdminApi) -> None:
    """A token with only the Admin API's scope cannot log in to the database."""
    token = api.iam.mint(layout.BACKSTAGE_ACCOUNT, [SQL_ADMIN])
    with pytest.raises(KeyError, match="ephemeralCert"):
        certificate_for(call, access_token=token)
    assert certificate_for(call, access_token=api.iam.mint(layout.BACKSTAGE_ACCOUNT, [CLOUD_PLATFORM]))
