"""The three layers of the guard: each is taken away in turn, and the other two refuse every write all the same."""

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
from fixtures.environment.file import ROOT
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import Namespaces
from fixtures.preflight.guard_proof import CANARY, NOBODY, POLICY, Refusal, Write, asked, unguarded, writes
from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl

GUARD = ROOT / "manifests" / "operations" / "guard"
EFFECTIVE = 30.0
"""Seconds until a change of RBAC or of a policy holds; 1 to 2 were seen."""


@pytest.fixture(scope="module", params=["acceptance-observer", "acceptance-smoke"])
def identity(request: pytest.FixtureRequest) -> str:
    """The identities of the smoke, outside and inside the cluster."""
    return f"system:serviceaccount:acceptance:{request.param}"


@pytest.fixture(scope="module")
def client(facts: dict[str, Any], identity: str) -> GuardedClient:
    """As the suite makes it for production."""
    guard = Guard(frozenset({"observe"}), Namespaces("backstage", "backstage", facts["gateway"]["namespace"]))
    return connect(guard, kubeconfig=Path(facts["kubeconfig"]), impersonate=identity)


@pytest.fixture(scope="module")
def of_each_kind(kubectl: Kubectl) -> tuple[Write, ...]:
    """Writes of things that are there."""
    pods = kubectl.get("-n", "backstage", "pods", "--field-selector=status.phase=Running")["items"]
    return writes("backstage", pod=pods[0]["metadata"]["name"], deployment="backstage")


@pytest.fixture(scope="module", autouse=True)
def guard(kubectl: Kubectl, client: GuardedClient) -> Iterator[None]:
    """The policy in force, and away again unless it was there before."""
    there = kubectl.get("validatingadmissionpolicybinding", POLICY)
    try:
        apply(kubectl)
        wait_until_refused(client, CANARY, "admission")
        yield
    finally:
        if not there:
            kubectl("delete", "--kustomize", str(GUARD))


def apply(kubectl: Kubectl) -> None:
    """The guard's manifests."""
    kubectl("apply", "--server-side", "--force-conflicts", f"--kustomize={GUARD}")


def wait_until_refused(client: GuardedClient, write: Write, *by: str) -> None:
    """The API server has noticed that a policy or a binding came or went."""
    raw = unguarded(client, [write])
    wait_for(
        f"{write.access} to be refused by {' or '.join(by)}",
        lambda: asked(raw, write),
        until=lambda refusal: refusal.by in by,
        within=EFFECTIVE,
        in_a_row=3,
        look_next="kubectl get validatingadmissionpolicybindings,clusterrolebindings",
    )


Removed = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture(scope="module")
def without_admission(kubectl: Kubectl, client: GuardedClient) -> Removed:
    """The policy bound to nothing, for as long as a `with` block lasts."""

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
def without_rbac(kubectl: Kubectl, identity: str, client: GuardedClient, of_each_kind: tuple[Write, ...]) -> Removed:
    """The identity bound to everything, for as long as a `with` block lasts."""
    binding = "acceptance-guard-test"
    whom = f"--serviceaccount={identity.removeprefix('system:serviceaccount:')}"

    @contextlib.contextmanager
    def removed() -> Iterator[None]:
        try:
            kubectl("create", "clusterrolebinding", binding, "--clusterrole=cluster-admin", whom)
            wait_until_refused(client, of_each_kind[-1], "admission", NOBODY)
            yield
        finally:
            kubectl("delete", "clusterrolebinding", binding, "--ignore-not-found")
            wait_until_refused(client, of_each_kind[-1], "RBAC")

    return removed


Ask = Callable[[Write], Refusal]


@pytest.fixture
def guarded(client: GuardedClient) -> Ask:
    """Asks with the client as it is."""
    return lambda write: asked(client, write)


@pytest.fixture
def raw(client: GuardedClient, of_each_kind: tuple[Write, ...]) -> Ask:
    """Asks with a client without its guard."""
    unlocked = unguarded(client, (*of_each_kind, *FURTHER, CANARY, UNPROTECTED))
    return lambda write: asked(unlocked, write)


def refusers(ask: Ask, asked_for: tuple[Write, ...]) -> dict[str, str]:
    """Who refused each write, by what a person calls it."""
    return {write.name: ask(write).by for write in asked_for}


def all_by(layer: str) -> dict[str, str]:
    """All five kinds refused by one."""
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
"""What else changes something, or leads past the API server."""

UNPROTECTED = Write(
    "unbind the policy",
    "DELETE",
    f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{POLICY}",
)


def test_without_the_clients_guard_rbac_and_admission_refuse(raw: Ask, of_each_kind: tuple[Write, ...]) -> None:
    """RBAC answers first; to the one write that it grants admission answers."""
    assert refusers(raw, of_each_kind) == all_by("RBAC")
    assert raw(CANARY).by == "admission"


def test_without_rbac_client_and_admission_refuse(
    without_rbac: Removed, guarded: Ask, raw: Ask, of_each_kind: tuple[Write, ...]
) -> None:
    """An identity that was made cluster-admin changes nothing, and reaches nothing that could."""
    with without_rbac():
        assert refusers(guarded, of_each_kind) == all_by("client")
        assert refusers(raw, of_each_kind) == all_by("admission")
        assert refusers(raw, FURTHER) == {write.name: "admission" for write in FURTHER}


def test_without_admission_client_and_rbac_refuse(
    without_admission: Removed, guarded: Ask, raw: Ask, of_each_kind: tuple[Write, ...]
) -> None:
    """As before there was a policy."""
    with without_admission():
        assert refusers(guarded, of_each_kind) == all_by("client")
        assert refusers(raw, of_each_kind) == all_by("RBAC")


def test_writes_are_good_ones(
    without_rbac: Removed, without_admission: Removed, raw: Ask, of_each_kind: tuple[Write, ...]
) -> None:
    """With no layer left all of them pass: what refused them before was the layer and nothing else."""
    with without_rbac(), without_admission():
        assert refusers(raw, of_each_kind) == all_by(NOBODY)


def test_policy_is_not_shown_the_writes_of_policies(without_rbac: Removed, raw: Ask) -> None:
    """The API server's own exception: against this RBAC stands alone, and preflight asks about it."""
    assert raw(UNPROTECTED).by == "RBAC"
    with without_rbac():
        assert raw(UNPROTECTED).by == NOBODY


def test_exec_by_kubectl_is_refused_too(
    kubectl: Kubectl, identity: str, without_rbac: Removed, of_each_kind: tuple[Write, ...]
) -> None:
    """Not a plain request but the real thing, by a websocket."""
    pod = of_each_kind[-1].path.rpartition("/")[2]
    command = ["-n", "backstage", f"--as={identity}", "exec", pod, "-c", "backstage", "--", "true"]
    with without_rbac(), pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl(*command)

    assert f"ValidatingAdmissionPolicy '{POLICY}'" in refused.value.stderr


def test_documents_have_what_each_layer_says(
    identity: str, without_rbac: Removed, guarded: Ask, raw: Ask, of_each_kind: tuple[Write, ...]
) -> None:
    """Word by word: the table of docs/permissions.md."""
    refusals = [ask(write) for ask in (guarded, raw) for write in of_each_kind]
    with without_rbac():
        refusals += [raw(write) for write in of_each_kind]

    pod = of_each_kind[-1].path.rpartition("/")[2]
    rows = [f"| {each.by} | {each.write.name} | {each.message} |" for each in refusals]
    written = [row.replace(pod, "POD").replace(identity, "IDENTITY") for row in rows]
    documents = (ROOT / "docs" / "permissions.md").read_text().splitlines()
    assert [row for row in written if row not in documents] == []


def prove() -> subprocess.CompletedProcess[str]:
    """The self-test, as the observer with its own token."""
    command = [sys.executable, "-m", "pytest", "--env=smoke", "--prove-guard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("identity", ["acceptance-observer"], scope="module", indirect=True)
class TestSelfTest:
    """`pytest --prove-guard`."""

    def test_it_ends_well_where_all_layers_are_there(self, identity: str) -> None:
        """And says of whom."""
        done = prove()

        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == f"each of client, RBAC, admission alone refuses the writes of {identity}"

    def test_it_tells_that_the_policy_is_gone(self, kubectl: Kubectl, without_admission: Removed) -> None:
        """The canary lives on."""
        with without_admission():
            done = prove()

        assert done.returncode == 6
        assert "seen: admission is not there: delete configmaps in acceptance was refused by nobody" in done.stdout
        assert kubectl.get("-n", "acceptance", "configmap", f"{POLICY}-canary")

    def test_it_tells_that_rbac_lets_writes_pass(self, without_rbac: Removed) -> None:
        """Admission refuses them; that is not what RBAC is for."""
        with without_rbac():
            done = prove()

        assert done.returncode == 6
        assert "seen: RBAC is not there: create pods/exec in backstage was refused by admission" in done.stdout
