"""Tokens from google-auth, and the messages when it has no credentials."""

from __future__ import annotations

import google.auth
import google.oauth2.id_token
import pytest
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from fixtures.environment.schema import GoogleTable
from fixtures.google.tokens import SCOPES, iap_token, token_source
from fixtures.outcomes import NoVerdictError

GOOGLE = GoogleTable(project="p", location="l", cluster="c")


class FakeCredentials:
    """Fake of google-auth's credentials; each refresh makes the token one character longer."""

    def __init__(self, *, refused: bool = False) -> None:
        self.refused = refused
        self.token = ""
        self.valid = False

    def refresh(self, _request: object) -> None:
        """Renew the token, or fail as expired user credentials do."""
        if self.refused:
            raise RefreshError("Reauthentication\nis needed")  # type: ignore[no-untyped-call]
        self.token += "x"
        self.valid = True


def test_default_credentials_are_found_once_and_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """FakeCredentials are looked up once, with the scope of Google Cloud, and refreshed only when they are invalid."""
    scopes_seen: list[object] = []
    found = FakeCredentials()

    def default(scopes: object) -> tuple[FakeCredentials, str]:
        scopes_seen.append(scopes)
        return found, "p"

    monkeypatch.setattr(google.auth, "default", default)
    token = token_source(GOOGLE)

    cached = [token(), token()]
    found.valid = False

    assert [*cached, token()] == ["x", "x", "xx"]
    assert scopes_seen == [SCOPES]


@pytest.mark.parametrize(
    ("refused", "error"), [(True, "Reauthentication is needed"), (False, "Your default credentials were not found.")]
)
def test_missing_credentials_are_no_verdict(monkeypatch: pytest.MonkeyPatch, error: str, *, refused: bool) -> None:
    """Missing or expired default credentials end without a verdict; the message names the login command."""

    def default(scopes: object) -> tuple[FakeCredentials, object]:
        if not refused:
            raise DefaultCredentialsError("Your default credentials\nwere not found.")  # type: ignore[no-untyped-call]
        return FakeCredentials(refused=True), scopes

    monkeypatch.setattr(google.auth, "default", default)

    with pytest.raises(NoVerdictError) as ended:
        token_source(GOOGLE)()

    assert str(ended.value) == (
        f"expected: Application Default Credentials\nseen: {error}\nlook next: gcloud auth application-default login"
    )


def test_identity_token_is_for_its_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity token has the requested audience; without credentials there is no verdict."""
    monkeypatch.setattr(google.oauth2.id_token, "fetch_id_token", lambda _request, audience: f"for {audience}")
    assert iap_token("portal") == "for portal"

    def none(_request: object, _audience: str) -> str:
        raise DefaultCredentialsError("Neither metadata server\nor credentials")  # type: ignore[no-untyped-call]

    monkeypatch.setattr(google.oauth2.id_token, "fetch_id_token", none)
    with pytest.raises(NoVerdictError) as ended:
        iap_token("portal")

    assert str(ended.value) == (
        "expected: an identity token for Identity-Aware Proxy\n"
        "seen: Neither metadata server or credentials\nlook next: docs/permissions.md"
    )
