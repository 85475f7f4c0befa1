"""How the guard derives verb, resource and namespace from a request to the Kubernetes API."""

from __future__ import annotations

import pytest

from fixtures.guard.request_attributes import Access, ForbiddenByEnvironmentError, classify

IN_BACKSTAGE = "/api/v1/namespaces/backstage"
AUTHORIZATION = "/apis/authorization.k8s.io/v1"
DEPLOYMENTS = "/apis/apps/v1/namespaces/backstage/deployments"


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        ("GET", f"{IN_BACKSTAGE}/pods", "list pods in backstage"),
        ("GET", f"{IN_BACKSTAGE}/pods?watch=true", "watch pods in backstage"),
        ("GET", f"{IN_BACKSTAGE}/pods?watch=false", "list pods in backstage"),
        ("GET", "/api/v1/watch/namespaces/backstage/pods", "watch pods in backstage"),
        ("get", f"{IN_BACKSTAGE}/pods/a", "get pods in backstage"),
        ("HEAD", f"{IN_BACKSTAGE}/pods/a/", "get pods in backstage"),
        ("GET", f"{IN_BACKSTAGE}/pods/a/log?follow=true", "get pods/log in backstage"),
        ("GET", f"{IN_BACKSTAGE}/pods/a/exec?command=id", "get pods/exec in backstage"),
        ("POST", f"{IN_BACKSTAGE}/pods/a/exec", "create pods/exec in backstage"),
        ("GET", f"{IN_BACKSTAGE}/pods/a%2Fexec", "get pods/exec in backstage"),
        ("GET", f"{IN_BACKSTAGE}/services/backstage/proxy/catalog", "get services/proxy in backstage"),
        ("POST", f"{IN_BACKSTAGE}/pods/a/eviction", "create pods/eviction in backstage"),
        ("DELETE", f"{IN_BACKSTAGE}/pods/a", "delete pods in backstage"),
        ("DELETE", f"{IN_BACKSTAGE}/pods", "deletecollection pods in backstage"),
        ("PATCH", f"{DEPLOYMENTS}/backstage", "patch deployments.apps in backstage"),
        ("PUT", f"{DEPLOYMENTS}/backstage/scale", "update deployments.apps/scale in backstage"),
        ("GET", "/api/v1/pods", "list pods"),
        ("PATCH", "/api/v1/nodes/node-1", "patch nodes"),
        ("GET", "/api/v1/namespaces", "list namespaces"),
        ("PATCH", IN_BACKSTAGE, "patch namespaces in backstage"),
        ("PUT", f"{IN_BACKSTAGE}/finalize", "update namespaces/finalize in backstage"),
        ("POST", f"{AUTHORIZATION}/selfsubjectaccessreviews", "create selfsubjectaccessreviews.authorization.k8s.io"),
        ("GET", "/", "get /"),
        ("GET", "/version", "get /version"),
        ("GET", "/apis/apps/v1", "get /apis/apps/v1"),
        ("OPTIONS", "/api/v1/nodes", "options nodes"),
    ],
)
def test_request_is_read_as_the_api_server_authorizes_it(method: str, url: str, expected: str) -> None:
    """Verb, group, resource, subresource and namespace are what the API server derives from method and path."""
    assert str(classify(method, url)) == expected


def test_watch_may_be_asked_for_beside_the_path() -> None:
    """`watch` may be a parameter that is not yet in the URL; a get of one object stays a get."""
    assert classify("GET", f"{IN_BACKSTAGE}/pods", watch=True) == Access("watch", "pods", namespace="backstage")
    assert classify("GET", f"{IN_BACKSTAGE}/pods/a", watch=True) == Access("get", "pods", namespace="backstage")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/backstage/../kube-system/secrets",
        "/api/v1/namespaces/backstage/%2e%2e/kube-system/secrets",
        "/api/v1/namespaces//pods",
        "/api/v1/namespaces/backstage/./pods",
    ],
)
def test_path_that_two_readers_could_read_differently_is_refused(path: str) -> None:
    """A path that guard and API server might normalize differently is refused."""
    with pytest.raises(ForbiddenByEnvironmentError) as refused:
        classify("GET", path)

    assert str(refused.value) == (
        f"expected: the path of one Kubernetes resource; seen: {path}, which can be read in more than one way; "
        "look next: the name or namespace that the caller put into it"
    )
