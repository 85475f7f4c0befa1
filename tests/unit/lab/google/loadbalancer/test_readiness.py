"""The readiness gate: which pods get it, and when its condition turns True."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from lab.google.loadbalancer.dataplane import envoy
from lab.google.loadbalancer.dataplane.backends import Backend
from lab.google.loadbalancer.dataplane.neg import READINESS_GATE, Delays, Endpoint, EndpointGroups
from lab.google.loadbalancer.objects import Object, Objects
from lab.google.loadbalancer.readiness import Verdict, judge, selected_by, waiting_pods
from lab.google.loadbalancer.webhook import review

if TYPE_CHECKING:
    from pathlib import Path

BACKEND = Backend("backstage", "backstage", 80)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
NEG = "k8s1-a51146d3-backstage-backstage-80-e89003ad"


def gated_pod() -> Object:
    """A pod of the Service whose gate has no condition yet."""
    return {
        "metadata": {
            "namespace": "backstage", "name": "one", "uid": "1111", "labels": {"app": "backstage", "x": "y"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"readinessGates": [{"conditionType": READINESS_GATE}]},
    }  # fmt: skip


SERVICE = {"metadata": {"namespace": "backstage", "name": "backstage"}, "spec": {"selector": {"app": "backstage"}}}
OBJECTS = Objects({"Service": {"backstage/backstage": SERVICE}, "Pod": {"backstage/one": gated_pod()}})


def groups(path: Path, *, attached: bool) -> EndpointGroups:
    """Endpoint groups in which the pod is attached, or still waits for it."""
    delays = Delays(attach=0 if attached else 10, detach=0)
    found = EndpointGroups(path / "neg.json", delays=lambda: delays, clock=lambda: 0)
    found.update({BACKEND.name: {Endpoint("10.244.1.2", 7007, "backstage/one 1111")}})
    return found


def verdict(path: Path, *, attached: bool, healthy: bool, seconds: float = 1) -> Verdict:
    """The gate's condition so many seconds after the pod's creation."""
    seen = {(BACKEND.name, "10.244.1.2:7007")} if healthy else set()
    now = CREATED + timedelta(seconds=seconds)
    return judge(OBJECTS, [BACKEND], groups(path, attached=attached), gated_pod(), healthy=seen, now=now)


@pytest.mark.parametrize(("attached", "healthy"), [(False, True), (True, False)])
def test_gate_stays_closed_until_attached_and_healthy(tmp_path: Path, *, attached: bool, healthy: bool) -> None:
    """The condition needs both."""
    message = f"Waiting for pod to become healthy in at least one of the NEG(s): [{NEG}]"

    expected = Verdict(status=False, reason="LoadBalancerNegNotReady", message=message)
    assert verdict(tmp_path, attached=attached, healthy=healthy) == expected


def test_gate_opens_when_attached_and_healthy(tmp_path: Path) -> None:
    """The message names the NEG in which the pod is healthy."""
    found = verdict(tmp_path, attached=True, healthy=True)

    assert (found.status, found.reason) == (True, "LoadBalancerNegReady")
    assert found.message.startswith(
        f'Pod has become Healthy in NEG "Key{{\\"{NEG}\\", zone: \\"us-east4-a\\"}}" attached'
    )


def test_gate_does_not_open_for_another_pods_health(tmp_path: Path) -> None:
    """Other healthy endpoints of the Service do not count."""
    found = EndpointGroups(tmp_path / "neg.json", delays=lambda: Delays(0, 0), clock=lambda: 0)
    found.update({BACKEND.name: {Endpoint("10.244.1.3", 7007, "backstage/two 2222")}})
    seen = {(BACKEND.name, "10.244.1.3:7007")}

    assert not judge(OBJECTS, [BACKEND], found, gated_pod(), healthy=seen, now=CREATED).status


def test_gate_opens_after_ten_minutes_anyway(tmp_path: Path) -> None:
    """The reason is LoadBalancerNegTimeout."""
    assert verdict(tmp_path, attached=True, healthy=False, seconds=601).reason == "LoadBalancerNegTimeout"


def test_gate_of_a_pod_without_backend_opens(tmp_path: Path) -> None:
    """The reason is the same as for a healthy pod; only the message differs."""
    found = judge(OBJECTS, [], groups(tmp_path, attached=True), gated_pod(), healthy=set(), now=CREATED)

    assert (found.status, found.reason) == (True, "LoadBalancerNegReady")
    assert found.message.startswith("Pod does not belong to any NEG.")


def test_open_gate_is_left_alone() -> None:
    """Once True, the condition is never written again."""
    opened = gated_pod()
    opened["status"] = {"conditions": [{"type": READINESS_GATE, "status": "True"}]}

    assert waiting_pods(OBJECTS) == [gated_pod()]
    assert waiting_pods(Objects({"Pod": {"backstage/one": opened}})) == []


def answer(pod: Object) -> Object:
    """The webhook's response to the creation of a pod in the Service's namespace."""
    request = {"uid": "u", "namespace": "backstage", "object": pod}
    response: Object = review(request, lambda where, new: bool(selected_by(OBJECTS, [BACKEND], where, new)))["response"]
    return response


def test_webhook_adds_the_gate_to_pods_of_a_backend() -> None:
    """Gates that the pod already has are kept."""
    response = answer(
        {"metadata": {"labels": {"app": "backstage"}}, "spec": {"readinessGates": [{"conditionType": "a"}]}}
    )

    gates = [{"conditionType": "a"}, {"conditionType": READINESS_GATE}]
    assert json.loads(base64.b64decode(response["patch"])) == [
        {"op": "add", "path": "/spec/readinessGates", "value": gates}
    ]


@pytest.mark.parametrize("pod", [{"metadata": {}, "spec": {}}, gated_pod()], ids=["no backend", "has the gate"])
def test_webhook_leaves_others_alone(pod: Object) -> None:
    """Pods without a backend, and pods that have the gate, are admitted unchanged."""
    assert answer(pod) == {"uid": "u", "allowed": True}


def test_configuration_files_are_written_only_when_they_differ(tmp_path: Path) -> None:
    """This holds for a new process too; files that are no longer part of the configuration are removed."""
    files = {"endpoints/a.json": [{"name": "a"}], "endpoints/b.json": [], "clusters.json": []}
    envoy.Files(tmp_path).write(files)
    # A file that is written again is replaced, so it gets a new inode; Envoy watches for replaced files.
    inodes = [(tmp_path / name).stat().st_ino for name in files]

    again = envoy.Files(tmp_path)
    changed = {"endpoints/a.json": [{"name": "A"}], "clusters.json": []}
    again.write(changed)
    again.remove_others(changed)

    assert json.loads((tmp_path / "endpoints/a.json").read_text())["resources"] == [{"name": "A"}]
    assert not (tmp_path / "endpoints/b.json").exists()
    assert (tmp_path / "clusters.json").stat().st_ino == inodes[2]
    assert (tmp_path / "endpoints/a.json").stat().st_ino != inodes[0]
