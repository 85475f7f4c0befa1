"""Stand-in for Cloud SQL: the Admin API of one instance, as REST under v1 and v1beta4, beside its port 3307.

What a restart must not forget lies in `cloudsql/` of Google's directory.

The fault `admin-api` answers every call: 429 or 503 before anything is checked, 403 as if the permission were
missing, and with `down` connections are reset.

Unlike on Cloud SQL the instance's address changes at a failover, so that connectors must ask for it again;
patched settings and state are shown but have no effect, the IAM flag excepted; another project is answered
like another instance.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography import x509

from lab import layout
from lab.google import service
from lab.google.authority import pem, public_key
from lab.google.cloudsql.instance import Instance, Json, OperationInProgressError, Port, google_time
from lab.google.cloudsql.postgres import NotRunningError, Postgres
from lab.google.iam import CLOUD_PLATFORM, SQL_ADMIN, SQL_LOGIN, Iam, Principal

log = logging.getLogger("cloudsql")

Answer = Callable[[web.Request, Principal], Awaitable[Json]]

IAM_FLAG = {"name": "cloudsql.iam_authentication", "value": "on"}
ZONES = (f"{layout.REGION}-a", f"{layout.REGION}-b")
"""Of the primary and the standby; they change places at a failover."""
SETTINGS: Json = {
    "kind": "sql#settings",
    "settingsVersion": "1",
    "tier": "db-custom-2-7680",
    "edition": "ENTERPRISE",
    "activationPolicy": "ALWAYS",
    "availabilityType": "REGIONAL",
    "backupConfiguration": {
        "kind": "sql#backupConfiguration",
        "enabled": True,
        "pointInTimeRecoveryEnabled": True,
        "transactionLogRetentionDays": 7,
        "backupRetentionSettings": {"retentionUnit": "COUNT", "retainedBackups": 7},
    },
    "databaseFlags": [IAM_FLAG],
    "ipConfiguration": {
        "ipv4Enabled": True,
        "privateNetwork": f"projects/{layout.PROJECT}/global/networks/default",
        "sslMode": "TRUSTED_CLIENT_CERTIFICATE_REQUIRED",
        "serverCaMode": "GOOGLE_MANAGED_INTERNAL_CA",
    },
    "storageAutoResize": True,
    "deletionProtectionEnabled": True,
}
HERE = {"project": layout.PROJECT, "instance": layout.INSTANCE}
OUTAGES = {
    "429": "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user'.",
    "503": "The service is currently unavailable.",
}


@web.middleware
async def injected(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The fault instead of an answer; 403 comes where the permission is checked."""
    fault = service.fault("admin-api")
    if fault in OUTAGES:
        raise service.api_error(int(fault), OUTAGES[fault])
    if fault == "down":
        if request.transport is not None:
            request.transport.abort()
        raise service.api_error(503, "The connection is gone.")
    return await handler(request)


class AdminApi:
    """The calls, each checked for token, permission and name before it is answered."""

    def __init__(self, directory: Path = layout.GOOGLE_DIR) -> None:
        (directory / "cloudsql").mkdir(exist_ok=True, mode=0o700)
        self.iam = Iam(directory)
        self.postgres = Postgres(directory)
        self.instance = Instance(directory, SETTINGS, layout.DATABASE_ADDRESSES)
        self.port = Port(directory / "cloudsql", self.may_login)

    def may_login(self, user: str, principal: str | None) -> bool:
        """Whether a connector of this principal may log in as this PostgreSQL user."""
        return (
            principal is not None
            and user == principal.removesuffix(".gserviceaccount.com")
            and IAM_FLAG in self.instance.kept["settings"].get("databaseFlags", [])
            and self.iam.allowed(principal, "cloudsql.instances.login")
        )

    def application(self) -> web.Application:
        """The API; while it runs, port 3307 is served too."""
        app = web.Application(middlewares=[injected])
        app.cleanup_ctx.append(self._serving_port)
        instance = "/instances/{instance}"
        for method, path, permission, answer in (
            ("GET", "/instances", "instances.list", self.list_instances),
            ("GET", instance, "instances.get", self.get_instance),
            ("PATCH", instance, "instances.update", self.patch_instance),
            ("POST", instance + "/restart", "instances.restart", self.restart_instance),
            ("POST", instance + "/failover", "instances.failover", self.fail_over_instance),
            ("GET", instance + "/connectSettings", "instances.connect", self.get_connect_settings),
            ("POST", instance + ":generateEphemeralCert", "instances.connect", self.generate_ephemeral_cert),
            ("GET", instance + "/users", "users.list", self.list_users),
            ("GET", instance + "/databases", "databases.list", self.list_databases),
            ("GET", instance + "/databases/{database}", "databases.get", self.get_database),
            ("GET", "/operations/{operation}", "instances.get", self.get_operation),
        ):
            handler = self._checked(f"cloudsql.{permission}", answer)
            for version in ("/v1", "/sql/v1beta4"):
                app.router.add_route(method, version + "/projects/{project}" + path, handler)
        return app

    async def _serving_port(self, _: web.Application) -> AsyncIterator[None]:
        async with self.port.obeying_fault():
            await self.port.listen(self.instance.address)
            yield
        await self.port.refuse()
        await self.port.cut()

    def _checked(self, permission: str, answer: Answer) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            caller = service.authenticate(request, self.iam, {CLOUD_PLATFORM, SQL_ADMIN})
            log.info("%s %s by %s from %s", request.method, request.path, caller.email, request.remote)
            name = request.match_info.get("instance", layout.INSTANCE)
            if service.fault("admin-api") == "403" or not self.iam.allowed(caller.email, permission):
                message = (
                    "boss::NOT_AUTHORIZED: Not authorized to access resource. "
                    f"Possibly missing permission {permission} on resource instances/{name}."
                )
                raise service.api_error(403, message, "notAuthorized")
            if (request.match_info["project"], name) != (layout.PROJECT, layout.INSTANCE):
                raise service.api_error(404, "The Cloud SQL instance does not exist.", "instanceDoesNotExist")
            try:
                return web.json_response(await answer(request, caller))
            except OperationInProgressError as error:
                message = "Operation failed because another operation was already in progress."
                raise service.api_error(409, message, "operationInProgress") from error
            except NotRunningError as error:
                log.info("%s", error)
                message = "Invalid request: Invalid request since instance is not running."
                raise service.api_error(400, message, "invalid") from error

        return handler

    def _server_ca(self) -> Json:
        ca = self.port.server_ca.certificate
        return {
            "kind": "sql#sslCert",
            "instance": layout.INSTANCE,
            "commonName": self.port.server_ca.name,
            "cert": pem(ca),
            "createTime": google_time(ca.not_valid_before_utc),
            "expirationTime": google_time(ca.not_valid_after_utc),
        }

    def _addresses(self) -> list[Json]:
        # One address for the proxy's --private-ip and without it.
        return [{"type": kind, "ipAddress": self.instance.address} for kind in ("PRIMARY", "PRIVATE")]

    def _resource(self) -> Json:
        primary = self.instance.kept["primary"]
        return {
            "kind": "sql#instance",
            "name": layout.INSTANCE,
            "project": layout.PROJECT,
            "region": layout.REGION,
            "connectionName": layout.INSTANCE_CONNECTION_NAME,
            "state": self.instance.kept["state"],
            "databaseVersion": "POSTGRES_15",
            "backendType": "SECOND_GEN",
            "instanceType": "CLOUD_SQL_INSTANCE",
            "gceZone": ZONES[primary],
            "secondaryGceZone": ZONES[1 - primary],
            "ipAddresses": self._addresses(),
            "serverCaCert": self._server_ca(),
            "settings": self.instance.kept["settings"],
        }

    async def list_instances(self, _: web.Request, __: Principal) -> Json:
        """The one instance."""
        return {"kind": "sql#instancesList", "items": [self._resource()]}

    async def get_instance(self, _: web.Request, __: Principal) -> Json:
        """The instance."""
        return self._resource()

    async def get_connect_settings(self, _: web.Request, __: Principal) -> Json:
        """What a connector needs to find the instance and to trust it."""
        # Without dnsName connectors compare the common name of the server's certificate.
        return {
            "kind": "sql#connectSettings",
            "serverCaCert": self._server_ca(),
            "serverCaMode": "GOOGLE_MANAGED_INTERNAL_CA",
            "ipAddresses": self._addresses(),
            "region": layout.REGION,
            "databaseVersion": "POSTGRES_15",
            "backendType": "SECOND_GEN",
        }

    async def generate_ephemeral_cert(self, request: web.Request, _: Principal) -> Json:
        """A client certificate over the connector's key, for the principal of its login token if there is one."""
        body = await json_body(request)
        try:
            key = public_key(str(body.get("public_key")))
        except ValueError as error:
            raise service.api_error(400, f"Invalid public key: {error}", "invalid") from error
        names = []
        if token := body.get("access_token"):
            login = self.iam.resolve(str(token))
            if login is None or not login.scopes & {SQL_LOGIN, CLOUD_PLATFORM}:
                raise service.api_error(400, "Invalid access token for IAM database authentication.", "invalid")
            names = [x509.RFC822Name(login.email)]
        life = dt.timedelta(seconds=self.instance.durations().certificate)
        certificate = self.port.client_ca.issue("connector", key, life, *names)
        return {
            "ephemeralCert": {
                "kind": "sql#sslCert",
                "instance": layout.INSTANCE,
                "commonName": "connector",
                "cert": pem(certificate),
                "createTime": google_time(certificate.not_valid_before_utc),
                "expirationTime": google_time(certificate.not_valid_after_utc),
            }
        }

    async def list_users(self, _: web.Request, __: Principal) -> Json:
        """The roles that may log in; only those of IAM tell their type, as on Cloud SQL."""
        of_iam = {"type": "CLOUD_IAM_SERVICE_ACCOUNT", "iamStatus": "ACTIVE"}
        items = [
            {"kind": "sql#user", "host": "", **HERE, "name": user.name, **(of_iam if user.iam else {})}
            for user in await self.postgres.users()
        ]
        return {"kind": "sql#usersList", "items": items}

    async def list_databases(self, _: web.Request, __: Principal) -> Json:
        """The databases, templates excepted."""
        return {"kind": "sql#databasesList", "items": await self._databases()}

    async def get_database(self, request: web.Request, _: Principal) -> Json:
        """One database."""
        return found(await self._databases(), request.match_info["database"])

    async def _databases(self) -> list[Json]:
        return [{"kind": "sql#database", **HERE, **vars(one)} for one in await self.postgres.databases()]

    async def get_operation(self, request: web.Request, _: Principal) -> Json:
        """One operation, however old."""
        return found(self.instance.kept["operations"].values(), request.match_info["operation"])

    async def patch_instance(self, request: web.Request, caller: Principal) -> Json:
        """Change `settings` and `state`, and nothing else."""
        patch, kept = await json_body(request), self.instance.kept
        settings = merged(kept["settings"], patch.get("settings", {}))
        change = partial(self.instance.update, settings, patch.get("state") or kept["state"])
        return self.instance.begin("UPDATE", caller.email, change)

    async def restart_instance(self, _: web.Request, caller: Principal) -> Json:
        """Restart PostgreSQL."""
        return self.instance.begin("RESTART", caller.email, partial(self.instance.restart, self.port))

    async def fail_over_instance(self, _: web.Request, caller: Principal) -> Json:
        """Move to the standby."""
        return self.instance.begin("FAILOVER", caller.email, partial(self.instance.fail_over, self.port))


def found(resources: Iterable[Json], name: str) -> Json:
    """The resource of that name, or 404."""
    for resource in resources:
        if resource["name"] == name:
            return resource
    raise service.api_error(404, "Not Found")


async def json_body(request: web.Request) -> Json:
    """The request's JSON object, or 400."""
    try:
        body = await request.json()
    except json.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise service.api_error(400, "Invalid JSON payload received.")
    return body


def merged(old: Json, patch: Json) -> Json:
    """The object after a PATCH: objects within are merged, null removes, all else is replaced."""
    result = {**old}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(old.get(name, {}), value) if isinstance(value, dict) else value
    return result


if __name__ == "__main__":
    service.serve(AdminApi().application(), layout.SQLADMIN_PORT)
