"""What any cluster must do, whatever runs on it: DNS, Services, exec, logs, audit, evictions, metrics, scaling."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests
from kubernetes import client

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, Manifest

WORKLOADS = Path(__file__).parent / "manifests" / "platform.yaml"

ROLLOUT = "--timeout=120s"
"""Deadline for the rollouts of `web` and `busy`; 3 s were seen."""

FIRST_POD_METRICS = 120.0
"""Seconds from a pod's start to its first figure; 15 to 30 were seen."""

SCALED = 240.0
"""Seconds from load to more pods, or from its end to fewer; 25 to 41 were seen, each way."""

BUDGET_KNOWN = 60.0
"""Seconds until a PodDisruptionBudget has counted its pods; 1 was seen."""

NODE_NOT_READY = 180.0
"""Seconds until a silent node is not Ready: a grace period of 40 by default, checked every 5."""

NODE_READY = 120.0
"""Seconds until a node that is back is Ready; 10 were seen."""

LOGGED = 10.0
"""Seconds until a request is in the audit log; the API server writes it at once."""


@pytest.fixture(scope="module")
def workloads(kubectl: Kubectl, namespace: str) -> str:
    """Namespace in which `web`, `toolbox` and `busy` run, `busy` under load."""
    kubectl("apply", "--namespace", namespace, f"--filename={WORKLOADS}")
    kubectl("rollout", "status", "deployment/busy", "--namespace", namespace, ROLLOUT)
    # The load starts first, so that the slow wait for the autoscaler overlaps with the other tests.
    kubectl("exec", "deployment/busy", "--namespace", namespace, "--", "touch", "/tmp/busy")  # noqa: S108 - in the pod
    kubectl("rollout", "status", "deployment/web", "--namespace", namespace, ROLLOUT)
    kubectl("wait", "pod/toolbox", "--for=condition=Ready", "--namespace", namespace, ROLLOUT)
    return namespace


@pytest.fixture(scope="module")
def ask(kubectl: Kubectl, workloads: str) -> Callable[..., str]:
    """Runs a command in the toolbox pod and returns its stdout."""
    return lambda *words: kubectl("exec", "toolbox", "--namespace", workloads, "--", *words)


def pods_of(app: str, kubectl: Kubectl, namespace: str) -> dict[str, Manifest]:
    """Pods of an app by name, without those that are being deleted."""
    pods = kubectl.get("pods", "--namespace", namespace, f"--selector=app={app}")["items"]
    return {pod["metadata"]["name"]: pod for pod in pods if "deletionTimestamp" not in pod["metadata"]}


def ready(node: Manifest) -> str:
    """Status of a node's condition Ready: True, False, or Unknown for one that is silent."""
    return next(str(condition["status"]) for condition in node["status"]["conditions"] if condition["type"] == "Ready")


def allow_disruptions(number: int, kubectl: Kubectl, namespace: str) -> None:
    """Change the PodDisruptionBudget of `web` to allow so many disruptions of its two pods, and wait until it does."""
    budget = json.dumps({"spec": {"minAvailable": 2 - number}})
    kubectl("patch", "poddisruptionbudget", "web", "--type=merge", f"--patch={budget}", "--namespace", namespace)

    def counted(budget: Manifest) -> bool:
        status = budget.get("status", {})
        current = status.get("observedGeneration") == budget["metadata"]["generation"]
        return current and (status["currentHealthy"], status["disruptionsAllowed"]) == (2, number)

    wait_for(
        f"PodDisruptionBudget {namespace}/web to allow {number} disruptions of 2 healthy pods",
        lambda: kubectl.get("poddisruptionbudget", "web", "--namespace", namespace),
        until=counted,
        within=BUDGET_KNOWN,
        look_next=f"kubectl -n {namespace} describe poddisruptionbudget web",
        describe=lambda budget: str(budget.get("status")),
    )


@pytest.fixture
def drainable_node(kubectl: Kubectl, workloads: str) -> Iterator[str]:
    """A node that runs a pod of `web`; it is uncordoned at teardown."""
    node = next(iter(pods_of("web", kubectl, workloads).values()))["spec"]["nodeName"]
    try:
        yield node
    finally:
        kubectl("uncordon", node)


@pytest.fixture
def forwarded(kubectl: Kubectl, facts: dict[str, Any], workloads: str) -> Iterator[tuple[str, str]]:
    """Name of a pod of `web`, and the local address that `kubectl port-forward` forwards to it."""
    pod = next(iter(pods_of("web", kubectl, workloads)))
    program = [facts["kubectl"], "--kubeconfig", facts["kubeconfig"], "port-forward"]
    command = [*program, f"pod/{pod}", ":8080", "--address=127.0.0.1", "--namespace", workloads]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            yield pod, said.removeprefix("Forwarding from ").partition(" ")[0]
        finally:
            process.terminate()


def test_nodes_are_ready_in_zones_of_their_own(kubectl: Kubectl, facts: dict[str, Any]) -> None:
    """Three nodes are Ready, each in another zone of the region."""
    nodes = kubectl.get("nodes")["items"]

    zones = {node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes if ready(node) == "True"}
    assert zones == {f"{facts['location']}-{letter}" for letter in "abc"}
    assert {node["metadata"]["name"] for node in nodes} == facts["nodes"].keys()


def test_names_are_resolved_inside_a_pod(
    ask: Callable[..., str], kubectl: Kubectl, facts: dict[str, Any], workloads: str
) -> None:
    """A pod finds a Service, Google's metadata server and the portal by name."""
    service = f"web.{workloads}.svc.cluster.local"

    answers = ask("getent", "hosts", "web", "metadata.google.internal", facts["hostname"])

    assert [line.split()[:2] for line in answers.splitlines()] == [
        [kubectl.get("service", "web", "--namespace", workloads)["spec"]["clusterIP"], service],
        ["169.254.169.254", "metadata.google.internal"],
        [facts["gateway"]["address"], facts["hostname"]],
    ]


def test_service_address_answers(ask: Callable[..., str], kubectl: Kubectl, workloads: str) -> None:
    """A Service's address leads to one of its pods."""
    address = kubectl.get("service", "web", "--namespace", workloads)["spec"]["clusterIP"]

    answer = ask("curl", "--silent", "--show-error", "--fail", f"http://{address}/cgi-bin/name")

    assert answer.strip() in pods_of("web", kubectl, workloads)


def test_exec_tells_how_the_command_ended(ask: Callable[..., str]) -> None:
    """A command run in a pod gives its output and its exit status."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        ask("sh", "-c", "echo before; exit 7")

    assert refused.value.stdout == "before\n"
    assert refused.value.returncode == 7


def test_logs_hold_what_a_container_printed(kubectl: Kubectl, workloads: str) -> None:
    """What a container prints is found in its log."""
    assert kubectl("logs", "toolbox", "--namespace", workloads) == "at your service\n"


def test_port_forward_reaches_a_pod(forwarded: tuple[str, str]) -> None:
    """A port of a pod is reachable on this machine through the API server."""
    pod, address = forwarded

    answer = requests.get(f"http://{address}/cgi-bin/name", timeout=10)

    assert answer.text.strip() == pod


def test_audit_log_tells_of_users_and_not_of_kubelets(kubectl: Kubectl, facts: dict[str, Any], workloads: str) -> None:
    """A user's request is in the audit log; the kubelets', of which there are many more, are not."""
    log = Path(facts["audit_log"])
    kubectl("get", "configmap", "asked-for-by-a-test", "--ignore-not-found", "--namespace", workloads)

    def read_entries() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def of_test(entry: dict[str, Any]) -> bool:
        asked: dict[str, str] = entry.get("objectRef", {})
        return (asked.get("namespace"), asked.get("name")) == (workloads, "asked-for-by-a-test")

    entries = wait_for(
        f"the request for configmap {workloads}/asked-for-by-a-test in {log}",
        read_entries,
        until=lambda found: any(of_test(entry) for entry in found),
        within=LOGGED,
        look_next=f"tail {log}",
        describe=lambda found: f"{len(found)} other entries",
    )

    (entry,) = (entry for entry in entries if of_test(entry))
    assert (entry["user"]["username"], entry["verb"]) == ("kubernetes-super-admin", "get")
    assert not [entry for entry in entries if "system:nodes" in entry["user"].get("groups", [])]


def test_eviction_beyond_the_budget_is_refused(kubectl: Kubectl, core: client.CoreV1Api, workloads: str) -> None:
    """An eviction that a PodDisruptionBudget does not allow is answered 429 with the cause DisruptionBudget."""
    allow_disruptions(0, kubectl, workloads)
    pod = next(iter(pods_of("web", kubectl, workloads)))
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod, namespace=workloads))

    with pytest.raises(client.ApiException) as refused:
        core.create_namespaced_pod_eviction(pod, workloads, eviction)

    assert refused.value.status == 429
    causes = json.loads(refused.value.body or "{}")["details"]["causes"]
    assert [cause["reason"] for cause in causes] == ["DisruptionBudget"]
    assert pod in pods_of("web", kubectl, workloads)


def test_drain_respects_the_budget(kubectl: Kubectl, drainable_node: str, workloads: str) -> None:
    """A drain leaves a pod that its PodDisruptionBudget protects, and moves it once the budget allows."""
    allow_disruptions(0, kubectl, workloads)
    before = pods_of("web", kubectl, workloads)
    drain = ("drain", drainable_node, "--pod-selector=drained-by=test-platform")  # pods of others stay

    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl(*drain, "--timeout=2s")
    kept = pods_of("web", kubectl, workloads)
    allow_disruptions(1, kubectl, workloads)
    kubectl(*drain, "--timeout=120s")

    assert "Cannot evict pod as it would violate the pod's disruption budget" in refused.value.stderr
    assert kept.keys() == before.keys()
    after = pods_of("web", kubectl, workloads).values()
    assert len(after) == 2
    assert drainable_node not in {pod["spec"].get("nodeName") for pod in after}


def test_top_shows_the_cpu_of_a_pod(kubectl: Kubectl, workloads: str) -> None:
    """`kubectl top pods` shows the CPU of a busy pod, which is capped by its limit of 150m."""

    def read_millicores() -> int:
        # It fails as long as none of the pods has metrics.
        try:
            figures = kubectl("top", "pods", "--selector=app=busy", "--no-headers", "--namespace", workloads)
        except subprocess.CalledProcessError:
            return 0
        return max((int(line.split()[1].removesuffix("m")) for line in figures.splitlines()), default=0)

    millicores = wait_for(
        f"a pod of {workloads}/busy to use more than its request of 50m",
        read_millicores,
        until=lambda figure: figure > 50,
        within=FIRST_POD_METRICS,
        look_next=f"kubectl -n {workloads} top pods; kubectl -n kube-system logs deployment/metrics-server",
    )

    assert millicores < 200


def test_autoscaler_scales_out_under_load_and_in_after_it(kubectl: Kubectl, workloads: str) -> None:
    """A Deployment gets a second pod while its CPU is above the target, and loses it after the load."""

    def wait_for_replicas(number: int, when: str) -> None:
        wait_for(
            f"Deployment {workloads}/busy to have {number} ready replicas {when}",
            lambda: kubectl.get("deployment", "busy", "--namespace", workloads)["status"].get("readyReplicas", 0),
            until=lambda seen: seen == number,
            within=SCALED,
            look_next=f"kubectl -n {workloads} describe hpa busy; kubectl -n {workloads} top pods",
        )

    wait_for_replicas(2, "under load")
    pods = pods_of("busy", kubectl, workloads)
    loaded = min(pods, key=lambda name: str(pods[name]["metadata"]["creationTimestamp"]))
    kubectl("exec", loaded, "--namespace", workloads, "--", "rm", "/tmp/busy")  # noqa: S108 - in the pod
    wait_for_replicas(1, "after it")


def test_node_without_network_becomes_not_ready_until_it_is_back(
    kubectl: Kubectl, fault: Callable[..., AbstractContextManager[None]], facts: dict[str, Any]
) -> None:
    """A node without network has Ready=Unknown, and is Ready again once the network is back."""
    node = max(facts["nodes"])

    def wait_for_condition(status: str, within: float) -> None:
        wait_for(
            f"condition Ready of {node} to be {status}",
            lambda: ready(kubectl.get("node", node)),
            until=lambda seen: seen == status,
            within=within,
            look_next=f"kubectl describe node {node}; python -m lab status",
        )

    wait_for_condition("True", NODE_READY)
    with fault("node-network", node):
        wait_for_condition("Unknown", NODE_NOT_READY)
    wait_for_condition("True", NODE_READY)
