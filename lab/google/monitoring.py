"""Stand-in for Cloud Monitoring's PromQL API: Google's path, token and refusals before the central Prometheus.

What Prometheus answers is passed on as it is. One thing more permissive than Google remains: a selector without
any metric name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from lab import layout
from lab.google import faults, rest
from lab.google.iam import CLOUD_PLATFORM, MONITORING_READ, Iam

log = logging.getLogger("monitoring")

IAM = web.AppKey("iam", Iam)
PROMETHEUS = web.AppKey("prometheus", str)
CLIENT = web.AppKey("client", aiohttp.ClientSession)

SCOPES = {CLOUD_PLATFORM, MONITORING_READ, "https://www.googleapis.com/auth/monitoring"}
METHODS = r"query|query_range|series|labels|label/\w+/values|metadata"
PATH = f"/v1/projects/{{project}}/location/global/prometheus/api/v1/{{method:{METHODS}}}"

LONGEST_QUERY = 30.0
"""Seconds until Prometheus counts as down; a guess."""

STRING_OR_COMMENT = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`|#[^\n]*""")
INEXACT_NAME_MATCHER = re.compile(r"__name__\s*(=~|!~|!=)")

Parameters = list[tuple[str, str]]


def inexact_name_matcher(promql: str) -> str | None:
    """The operator by which the expression matches metric names otherwise than exactly, or None."""

    def hollow(token: re.Match[str]) -> str:
        # A label name may be quoted too, so that one text is kept.
        return "__name__" if token[0][1:-1] == "__name__" else '""'

    match = INEXACT_NAME_MATCHER.search(STRING_OR_COMMENT.sub(hollow, promql))
    return match and match[1]


def refusal(parameters: Parameters) -> str | None:
    """Google's text for what it does not evaluate although Prometheus would, or None."""
    for name, value in parameters:
        operator = inexact_name_matcher(value) if name in ("query", "match[]") else None
        if operator and name == "query":
            return (
                'invalid parameter "query": substitute queries failed: convert vector selector failed: '
                f"{operator} is an unsupported matchtype for the __name__ label: invalid argument"
            )
        if operator:
            return f'invalid parameter "match[]": invalid selector ["{value}"]: exact matcher on __name__ required'
    return None


async def read_parameters(request: web.Request) -> Parameters:
    """The parameters of the URL and of the body: a form, or the JSON of Google's own clients."""
    parameters = [*request.query.items()]
    if request.content_type == "application/json":
        body: dict[str, object] = await request.json() if request.can_read_body else {}
        parameters += [(name, str(value)) for name, value in body.items()]
    else:
        parameters += [(name, str(value)) for name, value in (await request.post()).items()]
    # `alt` asks Google's front end for JSON; `match` is the API's own name of what Prometheus calls `match[]`.
    return [("match[]" if name == "match" else name, value) for name, value in parameters if name != "alt"]


def authorize(request: web.Request) -> None:
    """Answer 401 or 403, or the injected outage, unless the caller may read time series of the project."""
    outage = faults.argument("monitoring")
    if outage is not None:
        raise rest.api_error(int(outage or 503), "The service is currently unavailable.")
    principal = rest.authenticate(request, request.app[IAM], SCOPES)
    known = request.match_info["project"] in (layout.PROJECT, layout.PROJECT_NUMBER)
    if not known or not request.app[IAM].allowed(principal.email, "monitoring.timeSeries.list"):
        log.info("monitoring.timeSeries.list denied to %s on %s", principal.email, request.path)
        raise rest.api_error(403, "Permission monitoring.timeSeries.list denied (or the resource may not exist).")


async def forward(request: web.Request) -> web.Response:
    """Answer what Prometheus answers, unless Google would not have asked it."""
    authorize(request)
    parameters = await read_parameters(request)
    problem = refusal(parameters)
    if problem:
        return web.json_response({"status": "error", "errorType": "bad_data", "error": problem}, status=400)
    return await ask(request.app, request.match_info["method"], parameters)


async def ask(app: web.Application, method: str, parameters: Parameters) -> web.Response:
    """Prometheus' answer, whatever its status; 503 with Google's error body if there is none."""
    # Only these take a form, which has no limit of length as a URL has.
    form = method in ("query", "query_range", "series", "labels")
    url = f"{app[PROMETHEUS]}/api/v1/{method}"
    try:
        asked = app[CLIENT].post(url, data=parameters) if form else app[CLIENT].get(url, params=parameters)
        async with asked as answer:
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)
    except (aiohttp.ClientError, TimeoutError) as error:
        log.info("no answer from Prometheus: %r", error)
        raise rest.api_error(503, "The service is currently unavailable.") from error


async def client_session(app: web.Application) -> AsyncIterator[None]:
    """The one HTTP client, as long as the application runs."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LONGEST_QUERY)) as session:
        app[CLIENT] = session
        yield


def application(directory: Path, prometheus: str) -> web.Application:
    """The API with the IAM of a directory, before the Prometheus at a URL."""
    app = web.Application()
    app[IAM], app[PROMETHEUS] = Iam(directory), prometheus
    app.cleanup_ctx.append(client_session)
    app.add_routes([web.get(PATH, forward), web.post(PATH, forward)])
    return app


if __name__ == "__main__":
    central = f"http://{layout.GOOGLE_ADDRESS}:{layout.PROMETHEUS_PORT}"
    rest.serve(application(layout.GOOGLE_DIR, central), layout.MONITORING_PORT)
