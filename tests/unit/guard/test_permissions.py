"""Which requests each permission allows; and that `manifests/rbac` grants exactly those."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.guard.permissions import (
    OPTIONAL_RIGHTS,
    PERMISSIONS,
    RIGHTS,
    Guard,
    Right,
    forbidden_to_observers,
    permissions_for,
    rights_for,
)
from fixtures.guard.request_attributes import Access, ForbiddenByEnvironmentError, Namespaces, classify
from manifests.rbac.apply import IDENTITIES

Json = dict[str, Any]
RBAC, LOAD = Path("manifests/rbac"), Path("manifests/load")
NAMESPACES = Namespaces(deployment="backstage", route="routes", gateway="mcp", load="acceptance-load")
NO_LOAD = Namespaces(deployment="backstage", route="routes", gateway="mcp")
"""Namespaces of an environment whose load comes from this machine, not from pods."""
CORE = "/api/v1/namespaces"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/backstage/leases"


@pytest.mark.parametrize(
    ("method", "path", "sufficient"),
    [
        ("GET", f"{CORE}/backstage/pods", "observe"),
        ("GET", f"{CORE}/backstage/pods/a/log", "observe"),
        ("GET", f"{CORE}/mcp/configmaps", "observe"),
        ("GET", "/apis/apps/v1/namespaces/backstage/deployments/a/scale", "observe"),
        ("GET", "/api/v1/nodes", "observe"),
        ("GET", "/apis/gateway.networking.k8s.io/v1/httproutes", "observe"),
        ("GET", "/apis/gateway.networking.k8s.io/v1/namespaces/other/httproutes/a", "observe"),
        ("GET", "/apis/monitoring.googleapis.com/v1/namespaces/gmp-public/operatorconfigs/config", "observe"),
        ("GET", "/version", "observe"),
        ("GET", "/apis/gateway.networking.k8s.io/v1", "observe"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "observe"),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "observe"),
        ("GET", f"{CORE}/backstage/pods/a/exec", "connect"),
        ("POST", f"{CORE}/backstage/pods/a/exec", "connect"),
        ("GET", f"{CORE}/backstage/pods/a/portforward", "connect"),
        ("PATCH", "/apis/apps/v1/namespaces/backstage/deployments/a", "apply"),
        ("PATCH", "/apis/gateway.networking.k8s.io/v1/namespaces/routes/httproutes/a", "apply"),
        ("PATCH", f"{CORE}/backstage", "apply"),
        ("PUT", f"{CORE}/backstage/configmaps/a", "apply"),
        ("DELETE", "/apis/networking.gke.io/v1/namespaces/backstage/healthcheckpolicies/a", "apply"),
        ("PUT", f"{LEASES}/a", "apply load disrupt"),
        ("POST", LEASES, "apply load disrupt"),
        ("GET", f"{LEASES}/a", "observe"),
        ("POST", f"{CORE}/acceptance-load/pods", "load"),
        ("GET", f"{CORE}/acceptance-load/pods", "load"),
        ("DELETE", f"{CORE}/acceptance-load/pods/a", "load"),
        ("GET", f"{CORE}/acceptance-load/pods/a/attach", "load"),
        ("POST", f"{CORE}/backstage/pods/a/eviction", "disrupt"),
        ("DELETE", f"{CORE}/backstage/pods/a", "disrupt"),
        ("GET", "/api/v1/pods", "disrupt"),
        ("POST", f"{CORE}/mcp/pods/a/eviction", "disrupt"),
        ("PATCH", "/api/v1/nodes/node-1", "disrupt"),
    ],
)
def test_request_needs_one_permission_of_these(method: str, path: str, sufficient: str) -> None:
    """Reads need observe, changes of the reference's objects apply, changes of pods and nodes disrupt."""
    assert permissions_for(classify(method, path), NAMESPACES) == tuple(sufficient.split())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{CORE}/backstage/secrets"),
        ("GET", f"{CORE}/backstage/secrets/a"),
        ("GET", "/api/v1/secrets"),
        ("PATCH", f"{CORE}/backstage/secrets/a"),
        ("POST", f"{CORE}/backstage/serviceaccounts/a/token"),
        ("GET", f"{CORE}/other/pods/a"),
        ("DELETE", f"{CORE}/other/pods/a"),
        ("GET", f"{CORE}/backstage/pods/a/attach"),
        ("GET", f"{CORE}/backstage/pods/a/proxy"),
        ("GET", "/api/v1/nodes/node-1/proxy/metrics"),
        ("POST", f"{CORE}/backstage/pods"),
        ("PATCH", f"{CORE}/backstage/pods/a"),
        ("PATCH", f"{CORE}/backstage/pods/a/ephemeralcontainers"),
        ("DELETE", f"{CORE}/backstage/pods"),
        ("DELETE", f"{CORE}/backstage"),
        ("POST", CORE),
        ("GET", f"{CORE}/mcp/pods/a/exec"),
        ("GET", f"{CORE}/acceptance-load/pods/a/exec"),
        ("GET", f"{CORE}/acceptance-load/pods/a/log"),
        ("DELETE", f"{CORE}/acceptance-load/pods"),
        ("GET", f"{CORE}/acceptance-load/configmaps"),
        ("POST", f"{CORE}/acceptance-load/configmaps"),
        ("GET", f"{CORE}/acceptance-load/secrets"),
        ("PATCH", "/apis/gateway.networking.k8s.io/v1/namespaces/mcp/gateways/a"),
        ("DELETE", "/api/v1/nodes/node-1"),
        ("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/a"),
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
        ("OPTIONS", f"{CORE}/backstage/pods"),
        ("POST", "/version"),
        ("GET", "/logs"),
    ],
)
def test_request_is_beyond_all_permissions(method: str, path: str) -> None:
    """No permission allows Secrets, other namespaces, writes to the shared Gateway, or deletion of collections."""
    assert permissions_for(classify(method, path), NAMESPACES) == ()


@pytest.mark.parametrize("right", [right for right in RIGHTS if right.scope == "load"], ids=str)
def test_rights_of_load_are_those_of_its_namespace_alone(right: Right) -> None:
    """Without a load namespace these rights are not required, and load allows no request in another namespace."""
    assert right in rights_for({"load"}, NAMESPACES)
    assert right not in rights_for({"load"}, NO_LOAD)
    assert "load" not in permissions_for(Access(right.verb, right.resource, right.group, ""), NO_LOAD)
    assert "load" not in permissions_for(Access(right.verb, right.resource, right.group, "acceptance-load"), NO_LOAD)


def test_guard_lets_pass_what_one_of_its_permissions_allows() -> None:
    """`check` returns without an error if one permission is sufficient."""
    Guard(frozenset({"observe", "load"}), NAMESPACES).check(classify("PUT", f"{LEASES}/a"))


def test_guard_says_which_permission_is_missing() -> None:
    """The message names the request and the permission that it needs."""
    guard = Guard(frozenset({"load", "observe"}), NAMESPACES)

    with pytest.raises(ForbiddenByEnvironmentError) as refused:
        guard.check(classify("GET", f"{CORE}/backstage/pods/a/exec"))

    assert str(refused.value) == (
        "expected: only requests that the environment allows (observe, load); "
        "seen: get pods/exec in backstage, which needs connect; "
        "look next: `permissions` and `namespaces` of the environment file, docs/permissions.md"
    )


def test_guard_names_the_alternatives_when_several_permissions_would_do() -> None:
    """All permissions that allow a Lease are listed; an environment without permissions shows as "nothing"."""
    with pytest.raises(ForbiddenByEnvironmentError) as refused:
        Guard(frozenset(), NAMESPACES).check(classify("PUT", f"{LEASES}/a"))

    assert str(refused.value) == (
        "expected: only requests that the environment allows (nothing); "
        "seen: update leases.coordination.k8s.io in backstage, which needs apply or load or disrupt; "
        "look next: `permissions` and `namespaces` of the environment file, docs/permissions.md"
    )


def test_guard_says_that_no_permission_would_help() -> None:
    """A request that no permission allows is refused with the namespaces of the environment."""
    with pytest.raises(ForbiddenByEnvironmentError) as refused:
        Guard(frozenset(PERMISSIONS), NAMESPACES).check(classify("GET", f"{CORE}/kube-system/services"))

    assert str(refused.value) == (
        "expected: only requests that the environment allows (observe, connect, apply, load, disrupt); "
        "seen: list services in kube-system, which no permission allows in an environment of namespaces "
        "backstage, routes, mcp; "
        "look next: `permissions` and `namespaces` of the environment file, docs/permissions.md"
    )


@pytest.mark.parametrize("right", RIGHTS, ids=str)
def test_right_is_what_the_guard_lets_pass(right: Right) -> None:
    """The guard allows each right of RBAC with exactly the permissions for which it is granted."""
    assert permissions_for(right.access_in(NAMESPACES), NAMESPACES) == right.permissions


def test_rights_of_observing_are_not_beyond_observing() -> None:
    """No right is both required of an observer and forbidden to it."""
    wanted = {right.access_in(NAMESPACES) for right in rights_for({"observe"}, NAMESPACES)}
    unwanted = set(forbidden_to_observers(NAMESPACES))

    assert wanted
    assert wanted.isdisjoint(unwanted)


def test_rights_of_all_other_permissions_are_beyond_observing() -> None:
    """Rights of connect, apply and disrupt are forbidden to observers; reading pods and the rights of load are not."""
    # Reading pods changes nothing, and the namespace for load is the suite's own.
    harmless = {Access("list", "pods"), Access("watch", "pods")}
    harmless |= {right.access_in(NAMESPACES) for right in RIGHTS if right.scope == "load"}
    others = {right.access_in(NAMESPACES) for right in RIGHTS if "observe" not in right.permissions} - harmless

    assert others
    assert others <= set(forbidden_to_observers(NAMESPACES))


@pytest.mark.parametrize("namespace", ["backstage", "routes", "mcp"])
@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("list", "secrets"),
        ("create", "pods/exec"),
        ("get", "pods/exec"),
        ("create", "pods/eviction"),
        ("delete", "pods"),
    ],
)
def test_more_than_observing_is_asked_about_in_every_namespace(verb: str, resource: str, namespace: str) -> None:
    """Forbidden rights are checked in the namespaces of the deployment, the route and the Gateway."""
    assert Access(verb, resource, namespace=namespace) in set(forbidden_to_observers(NAMESPACES))


def test_namespaces_that_are_the_same_are_asked_about_once() -> None:
    """Route and deployment usually share a namespace; its questions are not repeated."""
    asked = list(forbidden_to_observers(Namespaces("backstage", "backstage", "mcp")))

    assert len(asked) == len(set(asked))


@pytest.mark.parametrize(("permission", "identity"), list(zip(PERMISSIONS, IDENTITIES, strict=True)))
@pytest.mark.parametrize(("overlay", "load"), [(RBAC, ""), (LOAD, "acceptance-load")], ids=["rbac", "load"])
def test_rbac_grants_each_identity_exactly_the_written_list(
    permission: str, identity: str, overlay: Path, load: str
) -> None:
    """Rules, bindings and namespaces of the manifests grant each identity its rights, no fewer and no more."""
    held = PERMISSIONS[: PERMISSIONS.index(permission) + 1]
    here = Namespaces(deployment="backstage", route="backstage", gateway="mcp", load=load)

    granted = set(granted_to(f"acceptance-{identity}", overlay))

    assert granted == {right.access_in(here) for right in rights_for(held, here)}


def test_rights_that_can_be_done_without_are_of_the_list() -> None:
    """The optional rights are four that a drain uses if it has them."""
    assert len(OPTIONAL_RIGHTS) == 4
    assert set(RIGHTS) >= OPTIONAL_RIGHTS


def test_rbac_bindings_are_found_by_place() -> None:
    """Names of bindings end with their place, by which an overlay patches them for other namespaces."""
    bound = {(binding["metadata"]["name"].rpartition("-")[2], namespace_of(binding)) for binding in bindings()}

    assert bound == {
        ("deployment", "backstage"),
        ("route", "backstage"),
        ("gateway", "mcp"),
        ("load", "acceptance-load"),
        ("cluster", ""),
    }


def test_rbac_binds_each_role_under_its_own_name() -> None:
    """A binding has the name of its role, so the name says what it grants."""
    assert all(binding["metadata"]["name"] == binding["roleRef"]["name"] for binding in bindings())


@functools.cache
def all_objects(overlay: Path) -> tuple[Json, ...]:
    """Objects of a kustomization, and those of `manifests/rbac` if it includes that."""
    names = yaml.safe_load((overlay / "kustomization.yaml").read_text())["resources"]
    files = [overlay / name for name in names if name.endswith(".yaml")]
    own = tuple(item for file in files for item in yaml.safe_load_all(file.read_text()))
    return own + (all_objects(RBAC) if "../rbac" in names else ())


def objects(*kinds: str, overlay: Path = LOAD) -> list[Json]:
    """Objects of these kinds."""
    return [item for item in all_objects(overlay) if item["kind"] in kinds]


def bindings(overlay: Path = LOAD) -> list[Json]:
    """All RoleBindings and ClusterRoleBindings; there is at least one."""
    found = objects("RoleBinding", "ClusterRoleBinding", overlay=overlay)
    assert found
    return found


def namespace_of(item: Json) -> str:
    """Namespace of an object; empty for cluster-scoped objects."""
    return str(item["metadata"].get("namespace", ""))


def granted_to(account: str, overlay: Path) -> Iterator[Access]:
    """Every access that the bindings grant to a ServiceAccount of `manifests/rbac`."""
    assert account in [item["metadata"]["name"] for item in objects("ServiceAccount")]
    roles = {item["metadata"]["name"]: item["rules"] for item in objects("ClusterRole")}
    for binding in bindings(overlay):
        if account in [subject["name"] for subject in binding["subjects"]]:
            for rule in roles[binding["roleRef"]["name"]]:
                combinations = itertools.product(rule["verbs"], rule["resources"], rule["apiGroups"])
                yield from (
                    Access(verb, resource, group, namespace_of(binding)) for verb, resource, group in combinations
                )
