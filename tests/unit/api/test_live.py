"""Live objects: discovery of their paths, reads, server-side apply."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from fixtures.api.live import Objects
from fixtures.outcomes import NoVerdictError
from fixtures.reference.apply import FIELD_MANAGER
from tests.unit.patched import recorded_reference, with_patch

RESOURCES = {
    "/api/v1": [{"kind": "Namespace", "name": "namespaces", "namespaced": False}],
    "/apis/apps/v1": [
        {"kind": "Deployment", "name": "deployments", "namespaced": True},
        {"kind": "Scale", "name": "deployments/scale", "namespaced": True},
        {"kind": "Deployment", "name": "deployments/status", "namespaced": True},
    ],
}


class Server(ApiClient):
    """Records each request; answers discovery from `RESOURCES` and everything else by a function of the path."""

    def __init__(self, answer: Callable[[str], object]) -> None:
        super().__init__()
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, object]]] = []

    def call_api(self, resource_path: str, method: str, **arguments: object) -> tuple[object, int, object]:
        """Record a request and answer it, in place of the library's method of this name."""
        self.requests.append((method, resource_path, arguments))
        if resource_path in RESOURCES:
            return {"resources": RESOURCES[resource_path]}, 200, {}
        return self.answer(resource_path), 200, {}


def refuse(status: int) -> Callable[[str], object]:
    """Fail every request with this status."""

    def answer(_path: str) -> object:
        raise ApiException(status=status)

    return answer


def test_objects_are_read_by_the_path_that_discovery_tells() -> None:
    """Discovery is read once per group version; the path of a cluster-scoped kind has no namespace."""
    server = Server(lambda path: {"path": path})
    objects = Objects(server)
    reference = recorded_reference()

    assert objects.get(reference.the("Deployment").body) == {
        "path": "/apis/apps/v1/namespaces/backstage/deployments/backstage"
    }
    objects.get(reference.the("Deployment").body)
    assert objects.get(reference.the("Namespace").body) == {"path": "/api/v1/namespaces/backstage"}
    assert [path for _, path, _ in server.requests if path in RESOURCES] == ["/apis/apps/v1", "/api/v1"]


@pytest.mark.parametrize(("dry_run", "extra"), [(False, []), (True, [("dryRun", "All")])])
def test_objects_are_applied_by_the_server_under_our_name(
    dry_run: bool,  # noqa: FBT001 - parametrized
    extra: list[tuple[str, str]],
) -> None:
    """Server-side apply without force, with strict field validation: unknown fields are errors, not dropped."""
    server = Server(lambda path: {"path": path})
    body = recorded_reference().the("Deployment").body
    Objects(server).apply(body, field_manager=FIELD_MANAGER, dry_run=dry_run)
    method, path, arguments = server.requests[-1]

    assert (method, urlsplit(path).path) == ("PATCH", "/apis/apps/v1/namespaces/backstage/deployments/backstage")
    assert arguments["query_params"] == [
        ("fieldManager", "backstage-acceptance"),
        ("fieldValidation", "Strict"),
        *extra,
    ]
    assert arguments["header_params"] == {
        "Accept": "application/json",
        "Content-Type": "application/apply-patch+yaml",
    }
    assert arguments["body"] is body


def test_object_that_is_not_there_is_none_and_other_errors_pass_through() -> None:
    """404 means that the object is absent; 403 says nothing about it, so it is raised."""
    body = recorded_reference().the("Deployment").body

    assert Objects(Server(refuse(404))).get(body) is None
    with pytest.raises(ApiException):
        Objects(Server(refuse(403))).get(body)


def test_kind_that_the_cluster_does_not_know_ends_without_a_verdict() -> None:
    """Its group version is not served, or has no such kind."""
    route = recorded_reference().the("HTTPRoute").body
    unknown = with_patch(recorded_reference(), "Deployment", "/kind", "Deploymint").the("Deploymint").body

    with pytest.raises(NoVerdictError) as refused:
        Objects(Server(refuse(404))).get(route)
    assert str(refused.value) == (
        "expected: HTTPRoute backstage/backstage to be of a kind that the cluster knows; "
        "seen: no HTTPRoute in gateway.networking.k8s.io/v1; look next: kubectl api-resources"
    )
    with pytest.raises(NoVerdictError, match="no Deploymint in apps/v1"):
        Objects(Server(refuse(404))).get(unknown)
    with pytest.raises(ApiException):
        Objects(Server(refuse(503))).get(route)
