"""Cloud SQL's Admin API for one instance, as REST under v1 and v1beta4; while it runs, port 3307 is served too.

What a restart must not forget lies in `cloudsql/` of Google's directory.

Unlike on Cloud SQL the instance's address changes at a failover, so that connectors must ask for it again;
patched settings and state are shown but have no effect, the IAM flag excepted; another project is answered
like another instance.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path

from aiohttp import web
from cryptography import x509

from lab import layout
from lab.google import rest
from lab.google.authority import public_key
from lab.google.cloudsql import resources
from lab.google.cloudsql.checks import checked, injected
from lab.google.cloudsql.instance import Instance
from lab.google.cloudsql.port import Port
from lab.google.cloudsql.postgres import Postgres
from lab.google.cloudsql.resources import CONNECTOR, IAM_FLAG, Json, merged
from lab.google.iam import CLOUD_PLATFORM, SQL_LOGIN, Iam, Principal


class AdminApi:
    """The calls, each checked for token, permission and name before it is answered."""

    def __init__(self, directory: Path = layout.GOOGLE_DIR) -> None:
        (directory / "cloudsql").mkdir(exist_ok=True, mode=0o700)
        self.iam = Iam(directory)
        self.postgres = Postgres(directory)
        self.instance = Instance(directory, layout.DATABASE_ADDRESSES)
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
        """All calls under both versions, and port 3307 for as long."""
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
            handler = checked(self.iam, f"cloudsql.{permission}", answer)
            for version in ("/v1", "/sql/v1beta4"):
                app.router.add_route(method, version + "/projects/{project}" + path, handler)
        return app

    async def _serving_port(self, _: web.Application) -> AsyncIterator[None]:
        async with self.port.obeying_fault():
            await self.port.listen(self.instance.address)
            yield
        await self.port.refuse()
        await self.port.cut()

    def _resource(self) -> Json:
        return resources.instance(self.instance.kept, self.instance.address, self._server_ca())

    def _server_ca(self) -> Json:
        authority = self.port.server_ca
        return resources.ssl_cert(authority.name, authority.certificate)

    async def list_instances(self, _: web.Request, __: Principal) -> Json:
        """A list of the one instance."""
        return {"kind": "sql#instancesList", "items": [self._resource()]}

    async def get_instance(self, _: web.Request, __: Principal) -> Json:
        """The instance as it is now."""
        return self._resource()

    async def get_connect_settings(self, _: web.Request, __: Principal) -> Json:
        """What a connector needs to find the instance and to trust it."""
        return resources.connect_settings(self.instance.address, self._server_ca())

    async def generate_ephemeral_cert(self, request: web.Request, _: Principal) -> Json:
        """A client certificate over the connector's key, for the principal of its login token if there is one."""
        body = await json_body(request)
        try:
            key = public_key(str(body.get("public_key")))
        except ValueError as error:
            raise rest.api_error(400, f"Invalid public key: {error}", "invalid") from error
        names = []
        if token := body.get("access_token"):
            login = self.iam.resolve(str(token))
            if login is None or not login.scopes & {SQL_LOGIN, CLOUD_PLATFORM}:
                raise rest.api_error(400, "Invalid access token for IAM database authentication.", "invalid")
            names = [x509.RFC822Name(login.email)]
        life = dt.timedelta(seconds=self.instance.durations().certificate)
        certificate = self.port.client_ca.issue(CONNECTOR, key, life, *names)
        return {"ephemeralCert": resources.ssl_cert(CONNECTOR, certificate)}

    async def list_users(self, _: web.Request, __: Principal) -> Json:
        """The roles that may log in."""
        return {"kind": "sql#usersList", "items": [resources.user(role) for role in await self.postgres.users()]}

    async def list_databases(self, _: web.Request, __: Principal) -> Json:
        """The databases, templates excepted."""
        return {"kind": "sql#databasesList", "items": await self._databases()}

    async def get_database(self, request: web.Request, _: Principal) -> Json:
        """One database, by name."""
        return found(await self._databases(), request.match_info["database"])

    async def _databases(self) -> list[Json]:
        return [resources.database(one) for one in await self.postgres.databases()]

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
    raise rest.api_error(404, "Not Found")


async def json_body(request: web.Request) -> Json:
    """The request's JSON object, or 400."""
    try:
        body = await request.json()
    except json.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise rest.api_error(400, "Invalid JSON payload received.")
    return body


if __name__ == "__main__":
    rest.serve(AdminApi().application(), layout.SQLADMIN_PORT)
