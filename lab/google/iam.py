"""The lab's IAM: one JSON file of bindings, and tokens signed with a key kept beside it.

The file is read at each decision, so a grant is changed by writing the file (`Iam.write`), and tokens
are signed rather than stored, so every stand-in knows them and may restart without forgetting any.

    {"bindings": {"roles/cloudsql.client": ["backstage@lab.iam.gserviceaccount.com"]},
     "secrets": {"backstage-github-token": ["backstage@lab.iam.gserviceaccount.com"]},
     "workloadIdentityUser": {"backstage@lab.iam.gserviceaccount.com": ["namespace/service-account"]}}
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from lab import layout

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
SQL_ADMIN = "https://www.googleapis.com/auth/sqlservice.admin"
SQL_LOGIN = "https://www.googleapis.com/auth/sqlservice.login"
MONITORING_READ = "https://www.googleapis.com/auth/monitoring.read"

ROLES = {
    "roles/cloudsql.client": {"cloudsql.instances.connect", "cloudsql.instances.get"},
    "roles/cloudsql.instanceUser": {"cloudsql.instances.get", "cloudsql.instances.login"},
    "roles/cloudsql.viewer": {
        "cloudsql.instances.get", "cloudsql.instances.list", "cloudsql.users.list", "cloudsql.databases.get",
        "cloudsql.databases.list",
    },
    "roles/cloudsql.admin": {
        "cloudsql.instances.connect", "cloudsql.instances.get", "cloudsql.instances.list", "cloudsql.instances.login",
        "cloudsql.instances.restart", "cloudsql.instances.failover", "cloudsql.instances.update",
        "cloudsql.users.list", "cloudsql.databases.get", "cloudsql.databases.list",
    },
    "roles/monitoring.viewer": {"monitoring.timeSeries.list"},
    "roles/secretmanager.viewer": {
        "secretmanager.secrets.get", "secretmanager.secrets.list", "secretmanager.versions.get",
        "secretmanager.versions.list",
    },
    "roles/secretmanager.admin": {
        "secretmanager.secrets.get", "secretmanager.secrets.list", "secretmanager.versions.get",
        "secretmanager.versions.list", "secretmanager.versions.access", "secretmanager.versions.add",
        "secretmanager.versions.enable", "secretmanager.versions.disable", "secretmanager.versions.destroy",
    },
}  # fmt: skip


class Policy(TypedDict):
    """Content of the IAM file."""

    bindings: dict[str, list[str]]
    """Role to the accounts that have it on the project."""
    secrets: dict[str, list[str]]
    """Secret to the accounts with `roles/secretmanager.secretAccessor` on it."""
    workloadIdentityUser: dict[str, list[str]]
    """Google account to the `namespace/service-account` that may act as it."""


INITIAL_POLICY: Policy = {
    "bindings": {
        "roles/cloudsql.client": [layout.BACKSTAGE_ACCOUNT],
        "roles/cloudsql.instanceUser": [layout.BACKSTAGE_ACCOUNT],
        "roles/cloudsql.viewer": [layout.SUITE_ACCOUNT, layout.OBSERVER_ACCOUNT],
        "roles/cloudsql.admin": [layout.OPERATOR_ACCOUNT],
        "roles/monitoring.viewer": [layout.SUITE_ACCOUNT, layout.OBSERVER_ACCOUNT],
        "roles/secretmanager.viewer": [layout.SUITE_ACCOUNT, layout.OBSERVER_ACCOUNT],
        "roles/secretmanager.admin": [layout.OPERATOR_ACCOUNT],
    },
    "secrets": {secret: [layout.BACKSTAGE_ACCOUNT] for secret in layout.SECRETS},
    "workloadIdentityUser": {
        layout.BACKSTAGE_ACCOUNT: [layout.BACKSTAGE_WORKLOAD],
        layout.OBSERVER_ACCOUNT: [layout.SMOKE_WORKLOAD],
    },
}


@dataclass(frozen=True)
class Principal:
    """Who a token speaks for, and what it may be used for."""

    email: str
    scopes: frozenset[str]


class Iam:
    """The policy file of a directory and the tokens signed with the key beside it."""

    def __init__(self, directory: Path = layout.GOOGLE_DIR) -> None:
        self.path = directory / "iam.json"
        self._key_path = directory / "iam.key"

    def create(self) -> None:
        """Write the initial policy and a fresh key."""
        self._key_path.touch(mode=0o600)
        self._key_path.write_bytes(os.urandom(32))
        self.write(INITIAL_POLICY)

    def policy(self) -> Policy:
        """The policy as it is now."""
        policy: Policy = json.loads(self.path.read_text())
        return policy

    def write(self, policy: Policy) -> None:
        """Replace the policy; no reader sees half a file."""
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(policy, indent=1))
        draft.replace(self.path)

    def allowed(self, email: str, permission: str) -> bool:
        """Whether one of the account's roles on the project has the permission."""
        bindings = self.policy()["bindings"]
        return any(email in members and permission in ROLES.get(role, ()) for role, members in bindings.items())

    def may_access_secret(self, email: str, secret: str) -> bool:
        """Whether the account may read the secret's payload, by a role on the secret or on the project."""
        on_secret = email in self.policy()["secrets"].get(secret, [])
        return on_secret or self.allowed(email, "secretmanager.versions.access")

    def may_impersonate(self, workload: str, email: str) -> bool:
        """Whether `namespace/service-account` has `roles/iam.workloadIdentityUser` on the account."""
        return workload in self.policy()["workloadIdentityUser"].get(email, [])

    def mint(self, email: str, scopes: Iterable[str] = (CLOUD_PLATFORM, SQL_LOGIN), seconds: float = 3600) -> str:
        """A bearer token for the account, shaped like Google's."""
        body = _base64({"email": email, "scopes": sorted(scopes), "exp": time.time() + seconds})
        return f"ya29.{body}.{self._sign(body)}"

    def mint_identity(self, email: str, audience: str, seconds: int = 3600) -> str:
        """An OpenID Connect token for the account; signed by the lab, so none of Google's keys verifies it."""
        now = int(time.time())
        claims = {"iss": "https://accounts.google.com", "aud": audience, "sub": email, "email": email}
        times = {"email_verified": True, "iat": now, "exp": now + seconds}
        body = f"{_base64({'alg': 'HS256', 'typ': 'JWT'})}.{_base64({**claims, **times})}"
        return f"{body}.{_unpadded(bytes.fromhex(self._sign(body)))}"

    def resolve(self, token: str) -> Principal | None:
        """The token's principal, or None if it is forged, malformed or expired."""
        body, _, signature = token.removeprefix("ya29.").partition(".")
        # What a client sends need not be text that can be encoded.
        if not hmac.compare_digest(signature.encode(errors="replace"), self._sign(body).encode()):
            return None
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if claims["exp"] < time.time():
            return None
        return Principal(claims["email"], frozenset(claims["scopes"]))

    def _sign(self, body: str) -> str:
        return hmac.new(self._key_path.read_bytes(), body.encode(errors="replace"), hashlib.sha256).hexdigest()


def _base64(claims: Mapping[str, object]) -> str:
    return _unpadded(json.dumps(claims).encode())


def _unpadded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
