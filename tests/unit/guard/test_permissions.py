"""What each permission allows; and that `manifests/rbac` grants exactly that."""

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
"""Where this machine makes the load."""
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
    """Reading is observe, changing the reference apply, changing pods and nodes disrupt."""
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
    """Secrets, other namespaces, somebody else's Gateway, whole collections: never."""
    assert permissions_for(classify(method, path), NAMESPACES) == ()


@pytest.mark.parametrize("right", [right for right in RIGHTS if right.scope == "load"], ids=str)
def test_rights_of_load_are_those_of_its_namespace_alone(right: Right) -> None:
    """Where this machine makes the load nobody is asked for them, and they open nothing elsewhere."""
    assert right in rights_for({"load"}, NAMESPACES)
    assert right not in rights_for({"load"}, NO_LOAD)
    assert "load" not in permissions_for(Access(right.verb, right.resource, right.group, ""), NO_LOAD)
    assert "load" not in permissions_for(Access(right.verb, right.resource, right.group, "acceptance-load"), NO_LOAD)


def test_guard_lets_pass_what_one_of_its_permissions_allows() -> None:
    """No error is the whole answer."""
    Guard(frozenset({"observe", "load"}), NAMESPACES).check(classify("PUT", f"{LEASES}/a"))


def test_guard_says_which_permission_is_missing() -> None:
    """The sentence names the request and what it needs."""
    guard = Guard(frozenset({"load", "observe"}), NAMESPACES)

    with pytest.raises(ForbiddenByEnvironmentError) as refused:
        guard.check(classify("GET", f"{CORE}/backstage/pods/a/exec"))

    assert str(refused.value) == (
        "expected: only requests that the environment allows (observe, load); "
        "seen: get pods/exec in backstage, which needs connect; "
        "look next: `permissions` and `namespaces` of the environment file, docs/permissions.md"
    )


def test_guard_names_the_alternatives_when_several_permissions_would_do() -> None:
    """A Lease is for every run that does more than observe; and nothing at all may be allowed."""
    with pytest.raises(ForbiddenByEnvironmentError) as refused:
        Guard(frozenset(), NAMESPACES).check(classify("PUT", f"{LEASES}/a"))

    assert str(refused.value) == (
        "expected: only requests that the environment allows (nothing); "
        "seen: update leases.coordination.k8s.io in backstage, which needs apply or load or disrupt; "
        "look next: `permissions` and `namespaces` of the environment file, docs/permissions.md"
    )


def test_guard_says_that_no_permission_would_help() -> None:
    """What is never allowed is said to be so, with the namespaces that were meant."""
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
    """What is granted for a permission can be used with it, and with no other."""
    assert permissions_for(right.access_in(NAMESPACES), NAMESPACES) == right.permissions


def test_rights_of_observing_are_not_beyond_observing() -> None:
    """Preflight cannot ask for a right and refuse it."""
    wanted = {right.access_in(NAMESPACES) for right in rights_for({"observe"}, NAMESPACES)}
    unwanted = set(forbidden_to_observers(NAMESPACES))

    assert wanted
    assert wanted.isdisjoint(unwanted)


def test_rights_of_all_other_permissions_are_beyond_observing() -> None:
    """An identity with any right of connect, apply or disrupt is noticed; not one that lists pods, or makes load's."""
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
    """The deployment's, the route's and the Gateway's."""
    assert Access(verb, resource, namespace=namespace) in set(forbidden_to_observers(NAMESPACES))


def test_namespaces_that_are_the_same_are_asked_about_once() -> None:
    """Most deployments keep their route beside the Service."""
    asked = list(forbidden_to_observers(Namespaces("backstage", "backstage", "mcp")))

    assert len(asked) == len(set(asked))


@pytest.mark.parametrize(("permission", "identity"), list(zip(PERMISSIONS, IDENTITIES, strict=True)))
@pytest.mark.parametrize(("overlay", "load"), [(RBAC, ""), (LOAD, "acceptance-load")], ids=["rbac", "load"])
def test_rbac_grants_each_identity_exactly_the_written_list(
    permission: str, identity: str, overlay: Path, load: str
) -> None:
    """Nothing of the manifests is missing, nothing too much: rules, bindings and their namespaces."""
    held = PERMISSIONS[: PERMISSIONS.index(permission) + 1]
    here = Namespaces(deployment="backstage", route="backstage", gateway="mcp", load=load)

    granted = set(granted_to(f"acceptance-{identity}", overlay))

    assert granted == {right.access_in(here) for right in rights_for(held, here)}


def test_rights_that_can_be_done_without_are_of_the_list() -> None:
    """All four are a drain's."""
    assert len(OPTIONAL_RIGHTS) == 4
    assert set(RIGHTS) >= OPTIONAL_RIGHTS


def test_rbac_bindings_are_found_by_place() -> None:
    """An overlay for other namespaces finds the bindings by what their names end with."""
    bound = {(binding["metadata"]["name"].rpartition("-")[2], namespace_of(binding)) for binding in bindings()}

    assert bound == {
        ("deployment", "backstage"),
        ("route", "backstage"),
        ("gateway", "mcp"),
        ("load", "acceptance-load"),
        ("cluster", ""),
    }


def test_rbac_binds_each_role_under_its_own_name() -> None:
    """So that a binding need not be read to know what it gives."""
    assert all(binding["metadata"]["name"] == binding["roleRef"]["name"] for binding in bindings())


@functools.cache
def everything(overlay: Path) -> tuple[Json, ...]:
    """What a kustomization lists, and the one below it."""
    names = yaml.safe_load((overlay / "kustomization.yaml").read_text())["resources"]
    files = [overlay / name for name in names if name.endswith(".yaml")]
    own = tuple(item for file in files for item in yaml.safe_load_all(file.read_text()))
    return own + (everything(RBAC) if "../rbac" in names else ())


def objects(*kinds: str, overlay: Path = LOAD) -> list[Json]:
    """Those of some kinds."""
    return [item for item in everything(overlay) if item["kind"] in kinds]


def bindings(overlay: Path = LOAD) -> list[Json]:
    """All bindings."""
    found = objects("RoleBinding", "ClusterRoleBinding", overlay=overlay)
    assert found
    return found


def namespace_of(item: Json) -> str:
    """Empty for what belongs to the cluster."""
    return str(item["metadata"].get("namespace", ""))


def granted_to(account: str, overlay: Path) -> Iterator[Access]:
    """Everything that the bindings give to a ServiceAccount which `manifests/rbac` makes."""
    assert account in [item["metadata"]["name"] for item in objects("ServiceAccount")]
    roles = {item["metadata"]["name"]: item["rules"] for item in objects("ClusterRole")}
    for binding in bindings(overlay):
        if account in [subject["name"] for subject in binding["subjects"]]:
            for rule in roles[binding["roleRef"]["name"]]:
                every = itertools.product(rule["verbs"], rule["resources"], rule["apiGroups"])
                yield from (Access(verb, resource, group, namespace_of(binding)) for verb, resource, group in every)
