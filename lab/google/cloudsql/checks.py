"""What a call of the Admin API has to pass before it is answered: the injected fault, token, permission and name.

The fault `admin-api` answers every call: 429 or 503 before anything is checked, 403 as if the permission were
missing, and with `down` connections are reset.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from lab import layout
from lab.google import faults, rest
from lab.google.cloudsql.instance import OperationInProgressError
from lab.google.cloudsql.postgres import NotRunningError
from lab.google.cloudsql.resources import Json
from lab.google.iam import CLOUD_PLATFORM, SQL_ADMIN, Iam, Principal

log = logging.getLogger("cloudsql")

Answer = Callable[[web.Request, Principal], Awaitable[Json]]

OUTAGES = {
    "429": "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user'.",
    "503": "The service is currently unavailable.",
}


@web.middleware
async def injected(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The fault instead of an answer; 403 comes where the permission is checked."""
    fault = faults.argument("admin-api")
    if fault in OUTAGES:
        raise rest.api_error(int(fault), OUTAGES[fault])
    if fault == "down":
        if request.transport is not None:
            request.transport.abort()
        raise rest.api_error(503, "The connection is gone.")
    return await handler(request)


def checked(iam: Iam, permission: str, answer: Answer) -> Handler:
    """The call as a handler: refused in Google's order and words, or answered."""

    async def handler(request: web.Request) -> web.Response:
        caller = rest.authenticate(request, iam, {CLOUD_PLATFORM, SQL_ADMIN})
        log.info("%s %s by %s from %s", request.method, request.path, caller.email, request.remote)
        _authorize(request, iam, caller, permission)
        try:
            return web.json_response(await answer(request, caller))
        except OperationInProgressError as error:
            message = "Operation failed because another operation was already in progress."
            raise rest.api_error(409, message, "operationInProgress") from error
        except NotRunningError as error:
            log.info("%s", error)
            message = "Invalid request: Invalid request since instance is not running."
            raise rest.api_error(400, message, "invalid") from error

    return handler


def _authorize(request: web.Request, iam: Iam, caller: Principal, permission: str) -> None:
    """Answer 403 without the permission, whatever the instance's name; 404 to another name."""
    name = request.match_info.get("instance", layout.INSTANCE)
    if faults.argument("admin-api") == "403" or not iam.allowed(caller.email, permission):
        message = (
            "boss::NOT_AUTHORIZED: Not authorized to access resource. "
            f"Possibly missing permission {permission} on resource instances/{name}."
        )
        raise rest.api_error(403, message, "notAuthorized")
    if (request.match_info["project"], name) != (layout.PROJECT, layout.INSTANCE):
        raise rest.api_error(404, "The Cloud SQL instance does not exist.", "instanceDoesNotExist")
