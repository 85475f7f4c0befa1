"""The PromQL stand-in, in front of a Prometheus that echoes requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import google.auth.credentials
import pytest
import requests
from aiohttp import web
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build

from lab import layout
from lab.google import iam, monitoring
from lab.google.monitoring import inexact_name_matcher

NAME = f"projects/{layout.PROJECT}"
API = f"/v1/{NAME}/location/global/prometheus/api/v1"

pytestmark = pytest.mark.usefixtures("faults")


async def echo(request: web.Request) -> web.Response:
    """Return the method, path and parameters received; 422 for a query that cannot be parsed."""
    parameters = [*request.query.items(), *((name, str(value)) for name, value in (await request.post()).items())]
    status = 422 if ("query", "broken(") in parameters else 200
    received = {"method": request.method, "path": request.path, "parameters": parameters}
    return web.json_response({"status": "success", "data": received}, status=status)


def echoing_prometheus() -> web.Application:
    """A Prometheus in which every path echoes."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    return app


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Directory with a fresh IAM."""
    iam.Iam(tmp_path).create()
    return tmp_path


@pytest.fixture
def endpoint(directory: Path, serve: Callable[[web.Application], str]) -> str:
    """URL of the stand-in."""
    return serve(monitoring.application(directory, serve(echoing_prometheus())))


@pytest.fixture
def viewer(directory: Path) -> requests.Session:
    """Session that may read time series."""
    return session(iam.Iam(directory).mint(layout.OBSERVER_ACCOUNT, [iam.MONITORING_READ]))


def session(token: str) -> requests.Session:
    """Session that sends the token."""
    created = requests.Session()
    created.headers["Authorization"] = f"Bearer {token}"
    return created


def google_error(answer: requests.Response) -> tuple[int, str]:
    """Code and status of Google's error body; the code must match the response's."""
    body = answer.json()["error"]
    assert body["code"] == answer.status_code
    return body["code"], body["status"]


@pytest.mark.parametrize("method", ["query", "query_range", "series", "labels"])
def test_form_is_passed_on(endpoint: str, viewer: requests.Session, method: str) -> None:
    """Each parameter arrives unchanged and in order, under Prometheus' own path."""
    form = [("query", 'up{job="a b"}'), ("match[]", "up"), ("match[]", "down"), ("time", "1.5")]

    answer = viewer.post(f"{endpoint}{API}/{method}", data=form)

    received = answer.json()["data"]
    assert (answer.status_code, received["method"], received["path"]) == (200, "POST", f"/api/v1/{method}")
    assert [tuple(parameter) for parameter in received["parameters"]] == form


@pytest.mark.parametrize("method", ["query", "label/__name__/values", "metadata"])
def test_get_is_passed_on(endpoint: str, viewer: requests.Session, method: str) -> None:
    """GET works too, and so does the project number in place of the id."""
    path = API.replace(layout.PROJECT, layout.PROJECT_NUMBER)

    received = viewer.get(f"{endpoint}{path}/{method}", params={"query": "up"}).json()["data"]

    assert (received["path"], received["parameters"]) == (f"/api/v1/{method}", [["query", "up"]])


def test_google_client_queries(endpoint: str, directory: Path) -> None:
    """The JSON that Google's client sends becomes a form, as Prometheus expects."""
    credentials: google.auth.credentials.Credentials = Credentials(  # type: ignore[no-untyped-call]
        iam.Iam(directory).mint(layout.SUITE_ACCOUNT)
    )
    service = build("monitoring", "v1", credentials=credentials, client_options={"api_endpoint": endpoint})
    api = service.projects().location().prometheus().api().v1()

    received = api.query(name=NAME, location="global", body={"query": "up"}).execute()["data"]
    service.close()

    assert (received["path"], received["parameters"]) == ("/api/v1/query", [["query", "up"]])


def test_error_of_prometheus_is_passed_on(endpoint: str, viewer: requests.Session) -> None:
    """Status and body of the refusal are passed on unchanged."""
    answer = viewer.post(f"{endpoint}{API}/query", data={"query": "broken("})

    assert (answer.status_code, answer.json()["data"]["path"]) == (422, "/api/v1/query")


def test_metric_name_is_matched_exactly_only(endpoint: str, viewer: requests.Session) -> None:
    """Google cannot match metric names by pattern; the error has Prometheus' format."""
    answer = viewer.post(f"{endpoint}{API}/query", data={"query": 'sum({__name__=~"up|down"})'})

    assert (answer.status_code, answer.json()) == (
        400,
        {
            "status": "error",
            "errorType": "bad_data",
            "error": 'invalid parameter "query": substitute queries failed: convert vector selector failed: '
            "=~ is an unsupported matchtype for the __name__ label: invalid argument",
        },
    )


def test_selector_of_series_is_matched_exactly_only(endpoint: str, viewer: requests.Session) -> None:
    """The same rule applies to `match[]` selectors."""
    answer = viewer.get(f"{endpoint}{API}/series", params={"match[]": '{__name__!~"up"}'})

    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")


@pytest.mark.parametrize(
    ("promql", "operator"),
    [
        ('{__name__=~"a"}', "=~"),
        ('{job="x", __name__ !~ `a`}', "!~"),
        ("{__name__!='a'}", "!="),
        ('{"__name__"=~"a"}', "=~"),
        ("up #\n+ {__name__\n=~'a'}", "=~"),
        ('{__name__="a", job=~"b"}', None),
        ('up{job=~"__name__=~"}', None),
        ('up{a="\\"", b="{__name__=~"}', None),
        ("up # {__name__=~'a'}", None),
        ('label_replace(up, "__name__", "x", "y", "z") != 1', None),
    ],
)
def test_inexact_name_matcher_is_found(promql: str, operator: str | None) -> None:
    """The matcher may be anywhere; strings and comments are not mistaken for one."""
    assert inexact_name_matcher(promql) == operator


def test_unknown_token_is_unauthorized(endpoint: str) -> None:
    """A missing token and one that the lab did not sign are refused."""
    url = f"{endpoint}{API}/query?query=up"

    assert google_error(requests.get(url, timeout=10)) == (401, "UNAUTHENTICATED")
    assert google_error(session("ya29.e30.forged").get(url)) == (401, "UNAUTHENTICATED")


def test_token_of_another_scope_is_unauthorized(endpoint: str, directory: Path) -> None:
    """The database scope does not allow reading metrics, whatever the account may do."""
    token = iam.Iam(directory).mint(layout.OBSERVER_ACCOUNT, [iam.SQL_LOGIN])

    assert google_error(session(token).get(f"{endpoint}{API}/query?query=up")) == (401, "UNAUTHENTICATED")


def test_account_without_the_role_is_denied(endpoint: str, directory: Path) -> None:
    """Backstage's account may not read metrics."""
    token = iam.Iam(directory).mint(layout.BACKSTAGE_ACCOUNT)

    assert google_error(session(token).get(f"{endpoint}{API}/query?query=up")) == (403, "PERMISSION_DENIED")


def test_other_project_is_denied(endpoint: str, viewer: requests.Session) -> None:
    """Other projects are denied, so that nothing shows whether they exist."""
    url = f"{endpoint}{API}/query?query=up".replace(layout.PROJECT, "elsewhere")

    assert google_error(viewer.get(url)) == (403, "PERMISSION_DENIED")


def test_unknown_method_is_not_found(endpoint: str, viewer: requests.Session) -> None:
    """Prometheus' admin API is not reachable under Google's path."""
    assert viewer.post(f"{endpoint}{API}/admin/tsdb/delete_series").status_code == 404
    assert viewer.post(f"{endpoint}{API}/write").status_code == 404


def test_missing_prometheus_is_google_s_outage(
    directory: Path, viewer: requests.Session, serve: Callable[[web.Application], str]
) -> None:
    """When the central Prometheus is down, Google's front end still responds."""
    endpoint = serve(monitoring.application(directory, "http://127.0.0.1:1"))

    assert google_error(viewer.get(f"{endpoint}{API}/query?query=up")) == (503, "UNAVAILABLE")


def test_fault_makes_the_service_unavailable(endpoint: str, viewer: requests.Session, faults: Path) -> None:
    """The injected outage answers 503 to everyone."""
    (faults / "monitoring").write_text("503")

    assert google_error(viewer.get(f"{endpoint}{API}/query?query=up")) == (503, "UNAVAILABLE")
