"""Tokens of Google's own libraries: what they give, and what is said when they give none."""

from __future__ import annotations

import google.auth
import google.oauth2.id_token
import pytest
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from fixtures.environment.schema import GoogleTable
from fixtures.google.tokens import SCOPES, iap_token, token_source
from fixtures.outcomes import NoVerdictError

GOOGLE = GoogleTable(project="p", location="l", cluster="c")


class Credentials:
    """What google-auth finds."""

    def __init__(self, *, refused: bool = False) -> None:
        self.refused = refused
        self.token = ""
        self.valid = False

    def refresh(self, _request: object) -> None:
        """A new token."""
        if self.refused:
            raise RefreshError("Reauthentication\nis needed")  # type: ignore[no-untyped-call]
        self.token += "x"
        self.valid = True


def test_default_credentials_are_found_once_and_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the scope of Google Cloud."""
    asked: list[object] = []
    found = Credentials()

    def default(scopes: object) -> tuple[Credentials, str]:
        asked.append(scopes)
        return found, "p"

    monkeypatch.setattr(google.auth, "default", default)
    token = token_source(GOOGLE)

    seen = [token(), token()]
    found.valid = False

    assert [*seen, token()] == ["x", "x", "xx"]
    assert asked == [SCOPES]


@pytest.mark.parametrize(
    ("refused", "error"), [(True, "Reauthentication is needed"), (False, "Your default credentials were not found.")]
)
def test_missing_credentials_are_no_verdict(monkeypatch: pytest.MonkeyPatch, error: str, *, refused: bool) -> None:
    """The surroundings, and how to cure them."""

    def default(scopes: object) -> tuple[Credentials, object]:
        if not refused:
            raise DefaultCredentialsError("Your default credentials\nwere not found.")  # type: ignore[no-untyped-call]
        return Credentials(refused=True), scopes

    monkeypatch.setattr(google.auth, "default", default)

    with pytest.raises(NoVerdictError) as ended:
        token_source(GOOGLE)()

    assert str(ended.value) == (
        f"expected: Application Default Credentials\nseen: {error}\nlook next: gcloud auth application-default login"
    )


def test_identity_token_is_for_its_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has none gets no verdict."""
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
