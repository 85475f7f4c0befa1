"""Tokens and IAM policy: which tokens are valid, and what their accounts may do."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from lab import layout
from lab.google.iam import CLOUD_PLATFORM, SQL_LOGIN, Iam, Principal


@pytest.fixture
def iam(tmp_path: Path) -> Iam:
    """The initial policy."""
    iam = Iam(tmp_path)
    iam.create()
    return iam


def test_token_names_its_account_and_scopes(iam: Iam) -> None:
    """Any process that can read the key's directory can resolve the token."""
    principal = Iam(iam.path.parent).resolve(iam.mint("a@example.com", [SQL_LOGIN]))

    assert principal == Principal("a@example.com", frozenset({SQL_LOGIN}))


def test_expired_token_is_nobodys(iam: Iam) -> None:
    """A token is valid until its expiry."""
    assert iam.resolve(iam.mint("a@example.com", seconds=-1)) is None


def test_token_of_another_key_is_nobodys(iam: Iam, tmp_path: Path) -> None:
    """A new lab has a new key, so tokens of an earlier lab are invalid."""
    (tmp_path / "other").mkdir()
    other = Iam(tmp_path / "other")
    other.create()

    assert iam.resolve(other.mint("a@example.com")) is None


@pytest.mark.parametrize("text", ["", "ya29.", "ya29.a.b", "nonsense", "ya29.é.é", "ya29.\udcff.\udcff", "a.b.c"])
def test_malformed_token_is_nobodys(iam: Iam, text: str) -> None:
    """No input raises an error."""
    assert iam.resolve(text) is None


def test_identity_token_is_no_access_token(iam: Iam) -> None:
    """An identity token proves an identity but grants no access."""
    token = iam.mint_identity("a@example.com", "audience")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))

    assert (claims["aud"], claims["email"]) == ("audience", "a@example.com")
    assert iam.resolve(token) is None


@pytest.mark.parametrize(
    ("email", "permission", "allowed"),
    [
        (layout.BACKSTAGE_ACCOUNT, "cloudsql.instances.connect", True),
        (layout.BACKSTAGE_ACCOUNT, "cloudsql.instances.login", True),
        (layout.BACKSTAGE_ACCOUNT, "cloudsql.users.list", False),
        (layout.OBSERVER_ACCOUNT, "cloudsql.users.list", True),
        (layout.OBSERVER_ACCOUNT, "cloudsql.instances.connect", False),
        (layout.OBSERVER_ACCOUNT, "cloudsql.instances.restart", False),
        (layout.OPERATOR_ACCOUNT, "cloudsql.instances.failover", True),
        (layout.OPERATOR_ACCOUNT, "cloudsql.instances.update", True),
    ],
)
def test_initial_policy_allows_what_each_account_is_for(
    iam: Iam, email: str, permission: str, *, allowed: bool
) -> None:
    """Each account has the permissions of its roles and no others."""
    assert iam.allowed(email, permission) is allowed


def test_grant_acts_at_once(iam: Iam) -> None:
    """A changed policy takes effect without a restart."""
    policy = iam.policy()
    policy["bindings"] = {"roles/of.tomorrow": ["a@example.com"], "roles/cloudsql.client": ["a@example.com"]}
    iam.write(policy)

    assert iam.allowed("a@example.com", "cloudsql.instances.connect")
    assert not iam.allowed(layout.BACKSTAGE_ACCOUNT, "cloudsql.instances.connect")


def test_only_the_bound_workload_may_act_as_the_account(iam: Iam) -> None:
    """The binding names both namespace and service account."""
    assert iam.may_impersonate(layout.BACKSTAGE_WORKLOAD, layout.BACKSTAGE_ACCOUNT)
    assert not iam.may_impersonate("default/backstage", layout.BACKSTAGE_ACCOUNT)


def test_default_scopes_reach_every_stand_in(iam: Iam) -> None:
    """A token minted without scopes works for API calls and for a database login."""
    principal = iam.resolve(iam.mint("a@example.com"))

    assert principal is not None
    assert principal.scopes == {CLOUD_PLATFORM, SQL_LOGIN}
