"""The three layers of the guard: with any one of them removed, the other two still refuse every write."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.api.client import GuardedClient, connect
from fixtures.api.requests import MERGE_PATCH
from fixtures.environment.loading import ROOT
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import Namespaces
from fixtures.preflight.guard_proof import CANARY, NOBODY, POLICY, Refusal, Write, attempt, unguarded, writes
from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl

GUARD = ROOT / "manifests" / "operations" / "guard"
EFFECTIVE = 30.0
"""Seconds until a change of RBAC or of a policy holds; 1 to 2 were seen."""


@pytest.fixture(scope="module", params=["acceptance-observer", "acceptance-smoke"])
def identity(request: pytest.FixtureRequest) -> str:
    """User name of the smoke's identity: outside the cluster, then inside."""
    return f"system:serviceaccount:acceptance:{request.param}"


@pytest.fixture(scope="module")
def client(facts: dict[str, Any], identity: str) -> GuardedClient:
    """The suite's client with the guard that production has."""
    guard = Guard(frozenset({"observe"}), Namespaces("backstage", "backstage", facts["gateway"]["namespace"]))
    return connect(guard, kubeconfig=Path(facts["kubeconfig"]), impersonate=identity)


@pytest.fixture(scope="module")
def each_kind(kubectl: Kubectl) -> tuple[Write, ...]:
    """One write of each kind, to objects that exist."""
    pods = kubectl.get("-n", "backstage", "pods", "--field-selector=status.phase=Running")["items"]
    return writes("backstage", pod=pods[0]["metadata"]["name"], deployment="backstage")


@pytest.fixture(scope="module", autouse=True)
def guard(kubectl: Kubectl, client: GuardedClient) -> Iterator[None]:
    """The admission policy in force; it is removed at the end unless it was there before."""
    there = kubectl.get("validatingadmissionpolicybinding", POLICY)
    try:
        apply(kubectl)
        wait_until_refused(client, CANARY, "admission")
        yield
    finally:
        if not there:
            kubectl("delete", "--kustomize", str(GUARD))


def apply(kubectl: Kubectl) -> None:
    """Apply the manifests of the admission policy."""
    kubectl("apply", "--server-side", "--force-conflicts", f"--kustomize={GUARD}")


def wait_until_refused(client: GuardedClient, write: Write, *by: str) -> None:
    """Wait until a write is refused by one of these layers: the API server's caches lag behind its objects."""
    raw = unguarded(client, [write])
    wait_for(
        f"{write.access} to be refused by {' or '.join(by)}",
        lambda: attempt(raw, write),
        until=lambda refusal: refusal.by in by,
        within=EFFECTIVE,
        in_a_row=3,
        look_next="kubectl get validatingadmissionpolicybindings,clusterrolebindings",
    )


Removed = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture(scope="module")
def without_admission(kubectl: Kubectl, client: GuardedClient) -> Removed:
    """Removes the policy's binding for as long as a `with` block lasts."""

    @contextlib.contextmanager
    def removed() -> Iterator[None]:
        try:
            kubectl("delete", "validatingadmissionpolicybinding", POLICY)
            wait_until_refused(client, CANARY, NOBODY)
            yield
        finally:
            apply(kubectl)
            wait_until_refused(client, CANARY, "admission")

    return removed


@pytest.fixture(scope="module")
def without_rbac(kubectl: Kubectl, identity: str, client: GuardedClient, each_kind: tuple[Write, ...]) -> Removed:
    """Binds the identity to cluster-admin for as long as a `with` block lasts."""
    binding = "acceptance-guard-test"
    whom = f"--serviceaccount={identity.removeprefix('system:serviceaccount:')}"

    @contextlib.contextmanager
    def removed() -> Iterator[None]:
        try:
            kubectl("create", "clusterrolebinding", binding, "--clusterrole=cluster-admin", whom)
            wait_until_refused(client, each_kind[-1], "admission", NOBODY)
            yield
        finally:
            kubectl("delete", "clusterrolebinding", binding, "--ignore-not-found")
            wait_until_refused(client, each_kind[-1], "RBAC")

    return removed


Attempt = Callable[[Write], Refusal]


@pytest.fixture
def guarded(client: GuardedClient) -> Attempt:
    """Attempts a write with the guarded client."""
    return lambda write: attempt(client, write)


@pytest.fixture
def raw(client: GuardedClient, each_kind: tuple[Write, ...]) -> Attempt:
    """Attempts a write with a client whose guard lets the writes of this module pass."""
    unlocked = unguarded(client, (*each_kind, *FURTHER, CANARY, UNPROTECTED))
    return lambda write: attempt(unlocked, write)


def refused_by(attempt: Attempt, attempted: tuple[Write, ...]) -> dict[str, str]:
    """The layer that refused each write, by the write's name."""
    return {write.name: attempt(write).by for write in attempted}


def all_refused_by(layer: str) -> dict[str, str]:
    """The expectation that one layer refuses all five kinds of writes."""
    return dict.fromkeys(("exec", "evict", "patch", "create", "delete"), layer)


CORE = "/api/v1/namespaces/backstage"
BACKSTAGE = "/apis/apps/v1/namespaces/backstage/deployments/backstage"
SCRAPED = "/apis/monitoring.googleapis.com/v1/namespaces/backstage/podmonitorings/backstage"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
NAMED = {"metadata": {"name": "acceptance-guard-proof"}}
FURTHER = (
    Write("attach", "POST", f"{CORE}/pods/any/attach", query=(("stdout", "true"),)),
    Write("forward a port", "POST", f"{CORE}/pods/any/portforward", query=(("ports", "7007"),)),
    Write("reach a pod through the API server", "GET", f"{CORE}/pods/any/proxy/", query=()),
    Write("reach a Service through the API server", "GET", f"{CORE}/services/backstage/proxy/", query=()),
    Write("reach a kubelet through the API server", "GET", "/api/v1/nodes/node-1/proxy/pods", query=()),
    Write("make a token", "POST", f"{CORE}/serviceaccounts/backstage/token", {"spec": {"audiences": []}}),
    Write("scale", "PATCH", f"{BACKSTAGE}/scale", {"spec": {"replicas": 3}}, MERGE_PATCH),
    Write("write a Secret", "POST", f"{CORE}/secrets", NAMED),
    Write("change a custom resource", "PATCH", SCRAPED, {"metadata": {"labels": {"changed": ""}}}, MERGE_PATCH),
    Write("cordon a node", "PATCH", "/api/v1/nodes/node-1", {"spec": {"unschedulable": True}}, MERGE_PATCH),
    Write("delete the namespace", "DELETE", CORE),
    Write("grant", "POST", BINDINGS, {**NAMED, "roleRef": {"kind": "ClusterRole", "name": "view"}}),
)
"""Other requests that change something, or that reach past the API server."""

UNPROTECTED = Write(
    "unbind the policy",
    "DELETE",
    f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{POLICY}",
)


def test_without_the_clients_guard_rbac_and_admission_refuse(raw: Attempt, each_kind: tuple[Write, ...]) -> None:
    """RBAC refuses first; the one write that it grants is refused by admission."""
    assert refused_by(raw, each_kind) == all_refused_by("RBAC")
    assert raw(CANARY).by == "admission"


def test_without_rbac_client_and_admission_refuse(
    without_rbac: Removed, guarded: Attempt, raw: Attempt, each_kind: tuple[Write, ...]
) -> None:
    """Even an identity with cluster-admin changes nothing, and reaches nothing past the API server."""
    with without_rbac():
        assert refused_by(guarded, each_kind) == all_refused_by("client")
        assert refused_by(raw, each_kind) == all_refused_by("admission")
        assert refused_by(raw, FURTHER) == {write.name: "admission" for write in FURTHER}


def test_without_admission_client_and_rbac_refuse(
    without_admission: Removed, guarded: Attempt, raw: Attempt, each_kind: tuple[Write, ...]
) -> None:
    """Where the policy cannot be installed, client and RBAC still refuse everything."""
    with without_admission():
        assert refused_by(guarded, each_kind) == all_refused_by("client")
        assert refused_by(raw, each_kind) == all_refused_by("RBAC")


def test_writes_are_good_ones(
    without_rbac: Removed, without_admission: Removed, raw: Attempt, each_kind: tuple[Write, ...]
) -> None:
    """With no layer left all writes pass, so nothing but the layers refuses them in the other tests."""
    with without_rbac(), without_admission():
        assert refused_by(raw, each_kind) == all_refused_by(NOBODY)


def test_policy_is_not_shown_the_writes_of_policies(without_rbac: Removed, raw: Attempt) -> None:
    """The API server exempts admission's own objects, so only RBAC protects them; preflight checks that right."""
    assert raw(UNPROTECTED).by == "RBAC"
    with without_rbac():
        assert raw(UNPROTECTED).by == NOBODY


def test_exec_by_kubectl_is_refused_too(
    kubectl: Kubectl, identity: str, without_rbac: Removed, each_kind: tuple[Write, ...]
) -> None:
    """Real kubectl upgrades to a websocket, which admission must refuse as well."""
    pod = each_kind[-1].path.rpartition("/")[2]
    command = ["-n", "backstage", f"--as={identity}", "exec", pod, "-c", "backstage", "--", "true"]
    with without_rbac(), pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl(*command)

    assert f"ValidatingAdmissionPolicy '{POLICY}'" in refused.value.stderr


def test_documents_have_what_each_layer_says(
    identity: str, without_rbac: Removed, guarded: Attempt, raw: Attempt, each_kind: tuple[Write, ...]
) -> None:
    """The table of docs/permissions.md quotes each refusal word by word."""
    refusals = [attempt(write) for attempt in (guarded, raw) for write in each_kind]
    with without_rbac():
        refusals += [raw(write) for write in each_kind]

    pod = each_kind[-1].path.rpartition("/")[2]
    rows = [f"| {each.by} | {each.write.name} | {each.message} |" for each in refusals]
    written = [row.replace(pod, "POD").replace(identity, "IDENTITY") for row in rows]
    documents = (ROOT / "docs" / "permissions.md").read_text().splitlines()
    assert [row for row in written if row not in documents] == []


def prove_guard() -> subprocess.CompletedProcess[str]:
    """Run `pytest --prove-guard` as the observer with its own token."""
    command = [sys.executable, "-m", "pytest", "--env=smoke", "--prove-guard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("identity", ["acceptance-observer"], scope="module", indirect=True)
class TestSelfTest:
    """The self-test of the guard, `pytest --prove-guard`."""

    def test_it_ends_well_where_all_layers_are_there(self, identity: str) -> None:
        """It names the identity whose writes are refused."""
        done = prove_guard()

        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == f"each of client, RBAC, admission alone refuses the writes of {identity}"

    def test_it_tells_that_the_policy_is_gone(self, kubectl: Kubectl, without_admission: Removed) -> None:
        """The canary, a ConfigMap that the self-test tries to delete, is still there."""
        with without_admission():
            done = prove_guard()

        assert done.returncode == 6
        assert "seen: admission is not there: delete configmaps in acceptance was refused by nobody" in done.stdout
        assert kubectl.get("-n", "acceptance", "configmap", f"{POLICY}-canary")

    def test_it_tells_that_rbac_lets_writes_pass(self, without_rbac: Removed) -> None:
        """A refusal by admission does not hide that RBAC grants a write."""
        with without_rbac():
            done = prove_guard()

        assert done.returncode == 6
        assert "seen: RBAC is not there: create pods/exec in backstage was refused by admission" in done.stdout
