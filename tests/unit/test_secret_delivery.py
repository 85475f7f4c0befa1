"""All pods and classes at once, from a scripted API server and a scripted Secret Manager."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest

from fixtures.access import Namespaces
from fixtures.cluster import GuardedClient
from fixtures.google import GoogleApis
from fixtures.manifest import Body
from fixtures.permissions import Guard
from fixtures.reference import render
from fixtures.secret_delivery import Delivery
from tests.unit.apiserver import Answer, Request, as_json, serving
from tests.unit.patched import ABSENT, RECORDED, patched, recorded_live, recorded_reference

CLASS = recorded_live()["SecretProviderClass backstage/backstage"]
STATUSES: list[Body] = json.loads((RECORDED / "secrets" / "statuses.json").read_text())
[POD] = [
    each.body
    for each in render(RECORDED / "workload" / "pods.yaml").manifests
    if each.name == "backstage-97c8dbc49-h24tp"
]
OWNER: Body = {"kind": "Deployment", "name": "backstage", "uid": "d"}
REPLICASET: Body = {
    "metadata": {"uid": POD["metadata"]["ownerReferences"][0]["uid"], "ownerReferences": [OWNER]}  # type: ignore[index] # as recorded
}
KINDS = {
    "/api/v1": ("Pod", "pods"),
    "/apis/apps/v1": ("ReplicaSet", "replicasets"),
    "/apis/secrets-store.csi.x-k8s.io/v1": ("SecretProviderClass", "secretproviderclasses"),
}
STATUS_KIND = ("SecretProviderClassPodStatus", "secretproviderclasspodstatuses")

Deliver = Callable[..., Delivery]


def cluster(live: Body | None, pods: list[Body], statuses: list[Body]) -> Callable[[Request], Answer]:
    """Answers of an API server that has these."""
    lists = {"pods": pods, "replicasets": [REPLICASET], "secretproviderclasspodstatuses": statuses}

    def script(request: Request) -> Answer:
        path = request.path.partition("?")[0]
        if path in KINDS:
            kinds = [KINDS[path], STATUS_KIND]
            return as_json({"resources": [{"kind": kind, "name": name, "namespaced": True} for kind, name in kinds]})
        last = path.rpartition("/")[2]
        if last in lists:
            return as_json({"items": lists[last]})
        return as_json(dict(live)) if live else as_json({}, 404)

    return script


def secret_manager(request: httpx.Request) -> httpx.Response:
    """Each secret has one version; that of Slack is disabled."""
    path = request.url.path
    if path.endswith("/99"):
        return httpx.Response(404)
    state = "DISABLED" if "slack" in path else "ENABLED"
    return httpx.Response(200, json={"name": path.replace("latest", "1"), "state": state})


@pytest.fixture
def deliver() -> Iterator[Deliver]:
    """Makes the delivery of a cluster with this class, these pods and these statuses."""
    opened: list[Iterator[None]] = []

    def made(live: Body | None = CLASS, pods: tuple[Body, ...] = (POD,), statuses: list[Body] = STATUSES) -> Delivery:
        context = serving(cluster(live, list(pods), statuses))
        server = context.__enter__()
        opened.append(context)  # type: ignore[arg-type]
        return server

    yield made
