"""What the stand-ins of REST APIs share: Google's error bodies, bearer tokens, start."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from aiohttp import web

from lab import layout

if TYPE_CHECKING:
    from lab.google.iam import Iam, Principal

# HTTP status -> (status, reason) of Google's error body.
ERRORS = {
    400: ("INVALID_ARGUMENT", "badRequest"),
    401: ("UNAUTHENTICATED", "authError"),
    403: ("PERMISSION_DENIED", "forbidden"),
    404: ("NOT_FOUND", "notFound"),
    409: ("FAILED_PRECONDITION", "conflict"),
    429: ("RESOURCE_EXHAUSTED", "rateLimitExceeded"),
    503: ("UNAVAILABLE", "backendError"),
}


def api_error(code: int, message: str, reason: str | None = None) -> web.HTTPException:
    """An exception that aiohttp answers with Google's JSON error body."""
    status, usual_reason = ERRORS.get(code, ("UNKNOWN", "unknown"))
    detail = {"message": message, "domain": "global", "reason": reason or usual_reason}
    body = {"error": {"code": code, "message": message, "status": status, "errors": [detail]}}
    error = web.HTTPException(text=json.dumps(body), content_type="application/json")
    error.set_status(code)
    return error


def authenticate(request: web.Request, iam: Iam, scopes: set[str]) -> Principal:
    """The caller named by the bearer token; 401 if unknown, expired or without one of the scopes."""
    principal = iam.resolve(request.headers.get("Authorization", "").removeprefix("Bearer "))
    if principal is None or not principal.scopes & scopes:
        raise api_error(401, "Request had invalid authentication credentials.")
    return principal


def serve(app: web.Application, port: int) -> None:
    """Run the application on Google's address until SIGTERM; it logs its own decisions, not every request."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    web.run_app(app, host=layout.GOOGLE_ADDRESS, port=port, access_log=None, print=None, shutdown_timeout=1.0)
