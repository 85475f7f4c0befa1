"""Evidence of a failure: every object concerned, no secret, and a note for each part that could not be read."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import Configuration

from fixtures.api.client import GuardedClient
from fixtures.api.live import Objects
from fixtures.environment.environment import Environment
from fixtures.environment.loading import read
from fixtures.evidence.collect import Folder, collect, truncated
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import Namespaces
from tests.unit.apiserver import Answer, Json, Request, Server, as_json, serving
from tests.unit.patched import recorded_live, recorded_reference

TOKEN = "pl4nted-of-google"  # noqa: S105
CLUSTER_TOKEN = "pl4nted-of-the-cluster"  # noqa: S105
PORTAL_TOKEN = "pl4nted-of-the-portal"  # noqa: S105

RECORDED: Json = json.loads(Path("tests/unit/recorded/evidence/cluster.json").read_text())
"""A broken pod, its events and logs, and the kinds of the lab's API server; shortened, with planted secrets."""
KINDS: dict[str, str] = RECORDED["kinds"]


def route(name: str, hostname: str) -> Json:
    """Another team's HTTPRoute for this hostname."""
    return {"metadata": {"name": name, "namespace": "other"}, "spec": {"hostnames": [hostname], "parentRefs": []}}


class Cluster:
    """Answers as an API server with these objects."""

    def __init__(self) -> None:
        live = [dict(body) for body in recorded_live().values()]
        self.objects: list[Json] = [*live, RECORDED["gateway"], {"kind": "Node", "metadata": {"name": "node-1"}}]
        self.lists: dict[str, list[Json]] = {
            "/api/v1/namespaces/backstage/pods": [RECORDED["pod"]],
            "/api/v1/namespaces/backstage/events": [RECORDED["event"]],
            "/apis/gateway.networking.k8s.io/v1/httproutes": [
                route("rival", "backstage.test"),
                route("other", "other.test"),
            ],
        }
        self.failing: dict[str, Answer] = {}

    def __call__(self, request: Request) -> Answer:
        """The answer to a GET."""
        url = urllib.parse.urlsplit(request.path)
        if url.path in self.failing:
            return self.failing[url.path]
        if url.path in KINDS:
            return as_json({"resources": [resource(kind) for kind in KINDS[url.path].split()]})
        query = urllib.parse.parse_qs(url.query)
        if url.path.endswith("/log"):
            return Answer(
                200, RECORDED["logs"][" ".join([query["container"][0], *(["previous"] if "previous" in query else [])])]
            )
        by_path = {path_of(body): body for body in self.objects}
        if url.path in by_path:
            return as_json(by_path[url.path])
        is_list = url.path in self.lists or is_collection(url.path)
        return as_json({"items": self.lists.get(url.path, [])}) if is_list else as_json({"message": "not found"}, 404)


def plural(kind: str) -> str:
    """The plural of a kind, as it appears in API paths."""
    name = kind.lower()
    return {"gateway": "gateways", "podmetrics": "pods"}.get(
        name, f"{name[:-1]}ies" if name.endswith("y") else f"{name}es" if name.endswith("ss") else f"{name}s"
    )


def resource(kind: str) -> Json:
    """The entry of a kind in a discovery document."""
    return {"name": plural(kind), "kind": kind, "namespaced": kind not in ("Namespace", "Node")}


def path_of(body: Mapping[str, Any]) -> str:
    """The API path of an object."""
    root = next(root for root, kinds in KINDS.items() if body["kind"] in kinds.split())
    namespace = body["metadata"].get("namespace")
    return f"{root}{f'/namespaces/{namespace}' if namespace else ''}/{plural(body['kind'])}/{body['metadata']['name']}"


def is_collection(path: str) -> bool:
    """Whether the path is that of a collection."""
    return any(path.endswith(f"/{plural(kind)}") for kinds in KINDS.values() for kind in kinds.split())


@pytest.fixture
def cluster() -> Cluster:
    """A cluster with one broken pod."""
    return Cluster()


@pytest.fixture
def server(cluster: Cluster) -> Iterator[Server]:
    """The cluster's API server."""
    with serving(cluster) as server:
        yield server


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment with tokens for Google, the portal and the cluster."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("PORTAL_TOKEN", PORTAL_TOKEN)
    (tmp_path / "mine.toml").write_text("""
        permissions = ["observe"]
        required = []
        reference.source = "manifests"
        namespaces = {deployment = "backstage", route = "backstage", gateway = "mcp"}
        gateway.name = "external-gw-01"
        google = {project = "p", location = "l", cluster = "c", token_file = "token"}
        identity.service_account = "backstage@p.iam.gserviceaccount.com"
        cloud_sql = {instance = "p:l:i", iam_user = "backstage@p.iam", databases = ["d"], availability = "ZONAL"}
        secrets.expected = ["token"]
        metrics = {expected = ["m"], database_operations = "o"}
        slo = {error_ratio = 0.01, latency = 1, longest_outage = 0}

        [portal]
        hostname = "backstage.test"
        tls_minimum = "TLSv1.2"
        certificate_days_left = 14
        auth = "bearer"
        token_variable = "PORTAL_TOKEN"
    """)
    return read(str(tmp_path / "mine.toml")).completed({}).environment


@pytest.fixture
def collected(server: Server, environment: Environment, tmp_path: Path) -> Callable[[], dict[str, str]]:
    """Collects the evidence, and returns the text of each file by its path."""

    def collect_files() -> dict[str, str]:
        configuration: Configuration = server.configuration()
        configuration.api_key = {"authorization": f"Bearer {CLUSTER_TOKEN}"}
        guard = Guard(frozenset({"observe"}), Namespaces("backstage", "backstage", "mcp"))
        client = GuardedClient(configuration, guard)
        since = datetime.now(UTC) - timedelta(seconds=90)
        collect(client, Objects(client), recorded_reference(), environment, since, tmp_path / "evidence")
        files = (path for path in (tmp_path / "evidence").rglob("*") if path.is_file())
        return {path.relative_to(tmp_path / "evidence").as_posix(): path.read_text() for path in files}

    return collect_files


def test_everything_concerned_is_kept(collected: Callable[[], dict[str, str]], server: Server) -> None:
    """The files cover the reference's objects, Gateway, pods, logs and events, and a rival route for the hostname."""
    files = collected()

    assert sorted(files) == [
        "events/backstage.txt",
        "logs/backstage-1.backstage.log",
        "logs/backstage-1.cloud-sql-proxy.log",
        "logs/backstage-1.cloud-sql-proxy.previous.log",
        "objects/deployment-backstage-backstage.yaml",
        "objects/gateway-mcp-external-gw-01.yaml",
        "objects/healthcheckpolicy-backstage-backstage.yaml",
        "objects/horizontalpodautoscaler-backstage-backstage.yaml",
        "objects/httproute-backstage-backstage.yaml",
        "objects/httproute-other-rival.yaml",
        "objects/namespace-backstage.yaml",
        "objects/node-node-1.yaml",
        "objects/pod-backstage-backstage-1.yaml",
        "objects/poddisruptionbudget-backstage-backstage.yaml",
        "objects/podmonitoring-backstage-backstage.yaml",
        "objects/secretproviderclass-backstage-backstage.yaml",
        "objects/service-backstage-backstage.yaml",
        "objects/serviceaccount-backstage-backstage.yaml",
        "overview.txt",
    ]
    [log] = [request.path for request in server.requests if "container=backstage" in request.path]
    assert "sinceSeconds=91" in log or "sinceSeconds=90" in log


def test_overview_says_what_is_wrong(collected: Callable[[], dict[str, str]]) -> None:
    """The overview has one line per object, and shows what is wrong with the broken pod."""
    lines = collected()["overview.txt"].splitlines()

    assert lines[0].startswith("mine at 20")
    assert (
        "Pod backstage/backstage-1: Running on node-1, cloud-sql-proxy waiting CrashLoopBackOff not ready restarted "
        "4 times after Error with exit code 1, backstage running ready, Ready=False (ContainersNotReady: containers "
        "with unready status), PodScheduled=True" in lines
    )


def test_nothing_secret_is_kept(collected: Callable[[], dict[str, str]]) -> None:
    """Secrets planted in variables, logs, events and the run's own tokens are replaced by a visible gap."""
    files = collected()

    assert not [name for name, text in files.items() if "pl4nted" in text]
    assert files["logs/backstage-1.backstage.log"] == (
        "ready\nAuthorization: (redacted)\nsent (redacted), (redacted) and (redacted)\n"
    )
    assert files["events/backstage.txt"] == (
        "2026-01-01T00:00:09Z Warning BackOff Pod backstage-1 (4 times): Back-off restarting with --token (redacted)\n"
    )


def test_what_cannot_be_read_is_named_and_the_rest_kept(
    collected: Callable[[], dict[str, str]], cluster: Cluster
) -> None:
    """A part that cannot be read gets a line in missing.txt, and the rest is kept."""
    refused = {"message": 'events is forbidden: User "x" cannot list'}
    cluster.failing["/api/v1/namespaces/mcp/events"] = as_json(refused, 403)
    cluster.failing["/api/v1/namespaces/backstage/pods/backstage-1/log"] = Answer(500, "overloaded")
    cluster.objects.remove(RECORDED["gateway"])

    files = collected()

    assert files["missing.txt"].splitlines() == [
        "Gateway mcp/external-gw-01: does not exist",
        'events of mcp: 403 events is forbidden: User "x" cannot list',
        "log of backstage-1, cloud-sql-proxy: 500 overloaded",
        "log of backstage-1, cloud-sql-proxy.previous: 500 overloaded",
        "log of backstage-1, backstage: 500 overloaded",
    ]
    assert "objects/pod-backstage-backstage-1.yaml" in files


def test_no_api_server_is_noted_too(collected: Callable[[], dict[str, str]], cluster: Cluster) -> None:
    """Without an API server every part is listed once."""
    cluster.failing = {root: Answer(503, "") for root in KINDS}

    missing = collected()["missing.txt"].splitlines()

    assert missing[0] == "Namespace backstage: 503 Service Unavailable"
    assert len(missing) == len(set(missing)) == 19


def test_folder_that_cannot_be_written_is_logged(
    collected: Callable[[], dict[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that cannot be written is logged, and does not hide why the promise is broken."""
    (tmp_path / "evidence").write_text("a file is in the way")

    assert collected() == {}
    assert "is incomplete" in caplog.text


def test_reading_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """After the deadline nothing more is read, so that a hanging API server cannot delay the verdict."""
    folder = Folder(tmp_path, (), until=60, clock=iter([60.0, 61.0]).__next__)

    assert folder.read_or_note("pods", lambda: "read", "") == "read"
    assert folder.read_or_note("events", lambda: "read", "") == ""
    assert folder.missing == ["events: no time left to read it"]


@pytest.mark.parametrize(
    ("keep_end", "expected"),
    [
        (False, "1111\n[6 characters or more are left out here]"),
        (True, "[6 characters or more are left out here]\n333\n"),
    ],
)
def test_long_text_keeps_whole_lines(keep_end: bool, expected: str) -> None:  # noqa: FBT001
    """A long text keeps whole lines, from the beginning of an object or the end of a log."""
    assert truncated("1111\n2222\n333\n", 8, keep_end=keep_end) == expected
    assert truncated("1111\n", 5, keep_end=keep_end) == "1111\n"
