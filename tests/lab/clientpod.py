"""Client pods: they show what a container sees of Google's services with its service account."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, Manifest

BACKSTAGE = "backstage"
"""Namespace and service account of the one workload that may act as a Google account."""

START = 120.0
"""Seconds until a pod is Ready; its image is on the node already. 2 to 5 were seen."""


def toolbox() -> Manifest:
    """An idle container that has curl, and Python with google-auth."""
    return {"name": "toolbox", "image": "lab.local/toolbox:lab"}


def pod(container: Manifest, *, service_account: str = "default", volumes: list[Manifest] | None = None) -> Manifest:
    """A pod that Pod Security's profile `restricted` admits, with a random name and no label."""
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    defaults = {
        "imagePullPolicy": "Never",
        "securityContext": restricted,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"test-{container['name']}-{uuid.uuid4().hex[:8]}"},
        "spec": {
            "serviceAccountName": service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{**defaults, **container}],
            "volumes": volumes or [],
        },
    }


@contextlib.contextmanager
def created(kubectl: Kubectl, namespace: str, manifest: Manifest) -> Iterator[str]:
    """Create a pod and yield its name; the pod is deleted at the end, without waiting until it is gone."""
    name: str = manifest["metadata"]["name"]
    try:
        kubectl.apply(manifest, namespace=namespace)
        yield name
    finally:
        kubectl("delete", "--namespace", namespace, "pod", name, "--ignore-not-found", "--wait=false")


def conditions(kubectl: Kubectl, namespace: str, name: str) -> dict[str, str]:
    """Status of each of the pod's conditions."""
    status = kubectl.get("--namespace", namespace, "pod", name)["status"]
    return {condition["type"]: condition["status"] for condition in status.get("conditions", [])}


def wait_until_ready(kubectl: Kubectl, namespace: str, name: str) -> None:
    """Wait until the pod is Ready."""
    wait_for(
        f"pod {namespace}/{name} to be Ready",
        lambda: conditions(kubectl, namespace, name),
        until=lambda seen: seen.get("Ready") == "True",
        within=START,
        look_next=f"kubectl -n {namespace} describe pod {name}",
    )


def run(kubectl: Kubectl, namespace: str, name: str, *command: str) -> str:
    """Run a command in the pod's container and return its stdout; CalledProcessError if it fails."""
    return kubectl("exec", "--namespace", namespace, name, "--", *command)
