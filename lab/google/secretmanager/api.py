"""Stand-in for the Secret Manager API (v1, global secrets): versions, access control, Google's errors.

The secrets lie in one JSON file, replaced as a whole at each change and read at each request:

    {"backstage-github-token": {"createTime": "2026-01-01T00:00:00Z", "versions": [
        {"createTime": "2026-01-01T00:00:00Z", "state": "ENABLED", "data": "c2VjcmV0"}]}}

Not part of the lab: creating and deleting secrets, paging (a list is whole), filters, payload checksums.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import NotRequired, TypedDict

from aiohttp import web

from lab import layout
from lab.google import faults, rest
from lab.google.iam import CLOUD_PLATFORM, Iam, Principal

log = logging.getLogger("secretmanager")

IAM = web.AppKey("iam", Iam)
PATH = r"/v1/projects/{project}/secrets/{secret:[\w-]+}"
VERSION_PATH = PATH + r"/versions/{version:latest|\d+}"


class Version(TypedDict):
    """One version; its number is its place in the list, from 1."""

    createTime: str
    state: str
    """ENABLED, DISABLED or DESTROYED."""
    data: str
    """The payload in base64; empty once destroyed."""
    destroyTime: NotRequired[str]


class Secret(TypedDict):
    """A secret with all its versions, oldest first."""

    createTime: str
    versions: list[Version]


class Store:
    """The file with the secrets."""

    def __init__(self, directory: Path = layout.GOOGLE_DIR) -> None:
        self._path = directory / "secrets.json"

    def read(self) -> dict[str, Secret]:
        """All secrets as they are now."""
        content: dict[str, Secret] = json.loads(self._path.read_text())
        return content

    def write(self, content: dict[str, Secret]) -> None:
        """Replace all secrets; no reader, and no kill, sees half a file."""
        draft = self._path.with_suffix(".draft")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(content, file, indent=1)
        draft.replace(self._path)


STORE = web.AppKey("store", Store)


def create(directory: Path = layout.GOOGLE_DIR) -> None:
    """Write the lab's secrets, each with one version of random text."""
    payloads = {name: f"lab-{secrets.token_urlsafe(24)}".encode() for name in layout.SECRETS}
    created: dict[str, Secret] = {
        name: {"createTime": now(), "versions": [version(payload)]} for name, payload in payloads.items()
    }
    Store(directory).write(created)


def now() -> str:
    """The time as Google writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def version(payload: bytes) -> Version:
    """A new enabled version."""
    return {"createTime": now(), "state": "ENABLED", "data": base64.b64encode(payload).decode()}


def authorize(request: web.Request, permission: str) -> Principal:
    """The caller, who has the permission on the project; 401 or 403, and the injected outage, otherwise."""
    outage = faults.argument("secret-manager")
    if outage is not None:
        raise rest.api_error(int(outage or 503), "The service is currently unavailable.")
    principal = rest.authenticate(request, request.app[IAM], {CLOUD_PLATFORM})
    if not permitted(request, principal.email, permission):
        log.info("%s denied to %s on %s", permission, principal.email, request.path)
        resource = request.path.removeprefix("/v1/").split(":")[0]
        message = f"Permission '{permission}' denied for resource '{resource}' (or it may not exist)."
        raise rest.api_error(403, message)
    return principal


def permitted(request: web.Request, email: str, permission: str) -> bool:
    """Whether the policy allows it; reading a payload may be allowed on the one secret, and denied by a fault."""
    if request.match_info["project"] not in (layout.PROJECT, layout.PROJECT_NUMBER):
        return False
    if permission != "secretmanager.versions.access":
        return request.app[IAM].allowed(email, permission)
    secret = request.match_info["secret"]
    return faults.argument("secret-denied") != secret and request.app[IAM].may_access_secret(email, secret)


def secret_name(secret: str) -> str:
    """Full name as Google answers it: with the project's number, however it was asked for."""
    return f"projects/{layout.PROJECT_NUMBER}/secrets/{secret}"


def find_secret(request: web.Request, content: dict[str, Secret]) -> Secret:
    """The secret that the path names, or 404."""
    name = request.match_info["secret"]
    if name not in content:
        raise rest.api_error(404, f"Secret [{secret_name(name)}] not found.")
    return content[name]


def find_version(request: web.Request, content: dict[str, Secret]) -> tuple[str, Version]:
    """Full name and content of the version that the path names, or 404. The latest is so in any state, as Google's."""
    versions = find_secret(request, content)["versions"]
    wanted = request.match_info["version"]
    number = len(versions) if wanted == "latest" else int(wanted)
    name = version_name(request, number)
    if not 0 < number <= len(versions):
        raise rest.api_error(404, f"Secret Version [{name}] not found.")
    return name, versions[number - 1]


def version_name(request: web.Request, number: int) -> str:
    """Full name of a version of the secret that the path names."""
    return f"{secret_name(request.match_info['secret'])}/versions/{number}"


def wrong_state(name: str, state: str) -> web.HTTPException:
    """Google's answer to what the version's state forbids: FAILED_PRECONDITION, but with code 400."""
    message = f"Secret Version [{name}] is in {state} state."
    body = {"error": {"code": 400, "message": message, "status": "FAILED_PRECONDITION"}}
    return web.HTTPBadRequest(text=json.dumps(body), content_type="application/json")


def secret_resource(name: str, secret: Secret) -> dict[str, object]:
    """The secret as the API shows it."""
    return {"name": secret_name(name), "createTime": secret["createTime"], "replication": {"automatic": {}}}


def version_resource(name: str, entry: Version) -> dict[str, object]:
    """The version as the API shows it: all but the payload."""
    shown = {key: value for key, value in entry.items() if key != "data"}
    return {"name": name, **shown, "replicationStatus": {"automatic": {}}}


def refuse_filter(request: web.Request) -> None:
    """Answer 400 to a filter: ignoring it would be a wrong answer."""
    if request.query.get("filter"):
        raise rest.api_error(400, "The lab's Secret Manager has no filters.")


async def list_secrets(request: web.Request) -> web.Response:
    """All secrets of the project."""
    authorize(request, "secretmanager.secrets.list")
    refuse_filter(request)
    content = request.app[STORE].read()
    resources = [secret_resource(name, secret) for name, secret in content.items()]
    return web.json_response({"secrets": resources, "totalSize": len(resources)})


async def get_secret(request: web.Request) -> web.Response:
    """One secret, without its versions."""
    authorize(request, "secretmanager.secrets.get")
    secret = find_secret(request, request.app[STORE].read())
    return web.json_response(secret_resource(request.match_info["secret"], secret))


async def list_versions(request: web.Request) -> web.Response:
    """All versions of a secret, newest first."""
    authorize(request, "secretmanager.versions.list")
    refuse_filter(request)
    versions = find_secret(request, request.app[STORE].read())["versions"]
    resources = [version_resource(version_name(request, n), entry) for n, entry in enumerate(versions, start=1)]
    return web.json_response({"versions": resources[::-1], "totalSize": len(resources)})


async def get_version(request: web.Request) -> web.Response:
    """One version, without its payload."""
    authorize(request, "secretmanager.versions.get")
    return web.json_response(version_resource(*find_version(request, request.app[STORE].read())))


async def access_version(request: web.Request) -> web.Response:
    """The payload of an enabled version."""
    authorize(request, "secretmanager.versions.access")
    name, entry = find_version(request, request.app[STORE].read())
    if entry["state"] != "ENABLED":
        raise wrong_state(name, entry["state"])
    return web.json_response({"name": name, "payload": {"data": entry["data"]}})


async def add_version(request: web.Request) -> web.Response:
    """A new version from the payload in the body."""
    principal = authorize(request, "secretmanager.versions.add")
    try:
        payload = base64.b64decode((await request.json())["payload"]["data"], validate=True)
    except (json.JSONDecodeError, KeyError, TypeError, binascii.Error) as error:
        raise rest.api_error(400, "Secret payload is required.") from error
    # Nothing is awaited from reading the file to writing it, so no two changes cross.
    content = request.app[STORE].read()
    versions = find_secret(request, content)["versions"]
    versions.append(version(payload))
    request.app[STORE].write(content)
    name = version_name(request, len(versions))
    log.info("%s added by %s", name, principal.email)
    return web.json_response(version_resource(name, versions[-1]))


async def change_state(request: web.Request) -> web.Response:
    """Enable or disable a version, or destroy it for good."""
    action = request.match_info["action"]
    principal = authorize(request, f"secretmanager.versions.{action}")
    content = request.app[STORE].read()
    name, entry = find_version(request, content)
    if entry["state"] == "DESTROYED":
        raise wrong_state(name, entry["state"])
    entry["state"] = {"enable": "ENABLED", "disable": "DISABLED", "destroy": "DESTROYED"}[action]
    if action == "destroy":
        entry["data"], entry["destroyTime"] = "", now()
    request.app[STORE].write(content)
    log.info("%s of %s by %s", action, name, principal.email)
    return web.json_response(version_resource(name, entry))


def application(directory: Path = layout.GOOGLE_DIR) -> web.Application:
    """The API over the secrets and the IAM of a directory."""
    app = web.Application()
    app[IAM], app[STORE] = Iam(directory), Store(directory)
    app.add_routes(
        [
            web.get("/v1/projects/{project}/secrets", list_secrets),
            web.get(PATH, get_secret),
            web.post(PATH + ":addVersion", add_version),
            web.get(PATH + "/versions", list_versions),
            web.get(VERSION_PATH, get_version),
            web.get(VERSION_PATH + ":access", access_version),
            web.post(VERSION_PATH + ":{action:enable|disable|destroy}", change_state),
        ]
    )
    return app


if __name__ == "__main__":
    rest.serve(application(), layout.SECRETMANAGER_PORT)
