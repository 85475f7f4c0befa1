"""Secret Manager's secrets as files in pods, by the real CSI driver: mounted, rotated, refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from google.cloud.secretmanager import SecretManagerServiceClient
from google.oauth2.credentials import Credentials

from fixtures.waiting import wait_for
from tests.lab import clientpod
from tests.lab.conftest import Kubectl, Manifest

pytestmark = pytest.mark.usefixtures("backstage_namespace")

SOUNDCHECK = "backstage-soundcheck-token"
"""The secret of Backstage that these tests rotate and deny."""

DENIED = "code = PermissionDenied desc = Permission 'secretmanager.versions.access' denied"

ROTATION = 240.0
"""Seconds until a new version is in a file; 15 to 30 were seen in the lab, and GKE's driver looks every two minutes."""

REFUSAL = 120.0
"""Seconds until the kubelet's event about a volume that cannot be mounted; 1 to 3 were seen."""

Facts = dict[str, Any]
Fault = Callable[..., AbstractContextManager[None]]


def provider_class(name: str, version: str) -> Manifest:
    """A SecretProviderClass with one file, `token`."""
    secrets = [{"resourceName": version, "path": "token"}]
    return {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": {"name": name},
        "spec": {"provider": "gke", "parameters": {"secrets": json.dumps(secrets)}},
    }


def pod(class_name: str, service_account: str) -> Manifest:
    """A pod that mounts the files of a SecretProviderClass at /secrets."""
    volume = {
        "name": "secrets",
        "csi": {
            "driver": "secrets-store-gke.csi.k8s.io",
            "readOnly": True,
            "volumeAttributes": {"secretProviderClass": class_name},
        },
    }
    container = {**clientpod.toolbox(), "volumeMounts": [{"name": "secrets", "mountPath": "/secrets"}]}
    return clientpod.pod(container, service_account=service_account, volumes=[volume])


@pytest.fixture(scope="module")
def latest(facts: Facts) -> str:
    """Name of the secret's latest version."""
    return f"projects/{facts['project']}/secrets/{SOUNDCHECK}/versions/latest"


@pytest.fixture(scope="module")
def secret_manager(facts: Facts, operator: Credentials) -> Iterator[SecretManagerServiceClient]:
    """Client of Secret Manager with the operator's credentials, which may read payloads."""
    endpoint = {"api_endpoint": facts["secret_manager"]["api"]}
    with SecretManagerServiceClient(credentials=operator, transport="rest", client_options=endpoint) as client:
        yield client


@pytest.fixture(scope="module")
def class_name(kubectl: Kubectl, namespace: str, latest: str) -> Iterator[str]:
    """Name of a SecretProviderClass of the latest version, in Backstage's namespace and in the module's own."""
    name = f"of-{namespace}"
    kubectl.apply(provider_class(name, latest), namespace=namespace)
    kubectl.apply(provider_class(name, latest), namespace=clientpod.BACKSTAGE)
    yield name
    kubectl("delete", "--namespace", clientpod.BACKSTAGE, "secretproviderclass", name)


def backstage_pod(kubectl: Kubectl, class_name: str) -> AbstractContextManager[str]:
    """Create a pod with the secret that runs as Backstage's service account; its name."""
    return clientpod.created(kubectl, clientpod.BACKSTAGE, pod(class_name, clientpod.BACKSTAGE))


@dataclass(frozen=True)
class Reader:
    """A running pod with the secret."""

    kubectl: Kubectl
    pod: str
    class_name: str

    def run(self, *command: str) -> str:
        """Run a command in the pod and return its stdout; CalledProcessError, with `stderr`, if it fails."""
        return clientpod.run(self.kubectl, clientpod.BACKSTAGE, self.pod, *command)

    def content(self) -> bytes:
        """The secret as the pod sees it now."""
        return self.run("cat", "/secrets/token").encode()

    def status(self) -> dict[str, Any]:
        """Status of the pod's SecretProviderClassPodStatus, which the driver writes."""
        name = f"{self.pod}-{clientpod.BACKSTAGE}-{self.class_name}"
        found = self.kubectl.get("--namespace", clientpod.BACKSTAGE, "secretproviderclasspodstatuses", name)
        status: dict[str, Any] = found["status"]
        return status


@pytest.fixture(scope="module")
def reader(kubectl: Kubectl, class_name: str) -> Iterator[Reader]:
    """A Ready pod with the secret."""
    with backstage_pod(kubectl, class_name) as pod:
        clientpod.wait_until_ready(kubectl, clientpod.BACKSTAGE, pod)
        yield Reader(kubectl, pod, class_name)


def test_file_holds_the_latest_version(reader: Reader, secret_manager: SecretManagerServiceClient, latest: str) -> None:
    """The file has the payload of the latest version, byte for byte."""
    payload = secret_manager.access_secret_version(name=latest).payload.data

    assert payload
    assert reader.content() == payload


def test_files_cannot_be_written(reader: Reader) -> None:
    """The volume is read-only."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        reader.run("touch", "/secrets/another")

    assert "Read-only file system" in refused.value.stderr


def test_pod_status_names_the_version_behind_latest(
    reader: Reader, secret_manager: SecretManagerServiceClient, latest: str
) -> None:
    """The driver's status says that the volume is mounted, and which version each requested object has."""
    status = reader.status()
    resolved = secret_manager.access_secret_version(name=latest).name

    assert status["mounted"]
    assert status["podName"] == reader.pod
    assert status["objects"] == [{"id": latest, "version": resolved}]


def test_rotated_secret_reaches_a_running_pod(
    reader: Reader, secret_manager: SecretManagerServiceClient, latest: str, fault: Fault
) -> None:
    """A new version is seen in the file and in the driver's status, and nothing is restarted for it."""
    before = reader.content()

    with fault("secret-rotated", SOUNDCHECK):
        rotated = secret_manager.access_secret_version(name=latest)
    assert rotated.payload.data != before
    wait_for(
        f"{rotated.name} in pod {reader.pod}",
        reader.content,
        until=lambda content: content == rotated.payload.data,
        within=ROTATION,
        look_next="python -m lab logs secret-provider",
    )
    wait_for(
        f"{rotated.name} in the SecretProviderClassPodStatus of pod {reader.pod}",
        lambda: reader.status()["objects"],
        until=lambda objects: objects == [{"id": latest, "version": rotated.name}],
        within=ROTATION,
        look_next="kubectl -n kube-system logs ds/csi-secrets-store",
    )

    assert containers(reader.kubectl, clientpod.BACKSTAGE, reader.pod)[0]["restartCount"] == 0


def containers(kubectl: Kubectl, namespace: str, pod: str) -> list[dict[str, Any]]:
    """Status of each container of the pod."""
    statuses: list[dict[str, Any]] = kubectl.get("--namespace", namespace, "pod", pod)["status"]["containerStatuses"]
    return statuses


def failed_mounts(kubectl: Kubectl, namespace: str, pod: str) -> list[str]:
    """Messages of the pod's FailedMount events."""
    selector = f"--field-selector=involvedObject.name={pod},reason=FailedMount"
    events = kubectl.get("--namespace", namespace, "events", selector).get("items", [])
    return [event["message"] for event in events]


def wait_for_failed_mount(kubectl: Kubectl, namespace: str, pod: str, text: str) -> None:
    """Wait until a FailedMount event of the pod contains a text."""
    wait_for(
        f"FailedMount for pod {pod} with {text!r}",
        lambda: failed_mounts(kubectl, namespace, pod),
        until=lambda messages: any(text in message for message in messages),
        within=REFUSAL,
        look_next=f"kubectl -n {namespace} describe pod {pod}",
    )


def test_pod_without_access_waits_for_its_secret(kubectl: Kubectl, namespace: str, class_name: str) -> None:
    """A pod whose service account may not read the secret never starts, and an event names the missing permission."""
    with clientpod.created(kubectl, namespace, pod(class_name, "default")) as stranger:
        wait_for_failed_mount(kubectl, namespace, stranger, DENIED)
        (container,) = containers(kubectl, namespace, stranger)

    assert container["state"] == {"waiting": {"reason": "ContainerCreating"}}


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        (("secret-denied", SOUNDCHECK), DENIED),
        (("secret-manager", "503"), "code = Unavailable desc = The service is currently unavailable."),
        (("secret-provider", "down"), "dial unix /providers/gke.sock: connect: connection refused"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_new_pod_waits_for_its_secret_and_starts_once_it_can_be_read(
    trouble: tuple[str, str], text: str, kubectl: Kubectl, class_name: str, fault: Fault
) -> None:
    """An event names the cause; once the fault is healed, the same pod starts."""
    with ExitStack() as pods:
        with fault(*trouble):
            late = pods.enter_context(backstage_pod(kubectl, class_name))
            wait_for_failed_mount(kubectl, clientpod.BACKSTAGE, late, text)
            (container,) = containers(kubectl, clientpod.BACKSTAGE, late)
        clientpod.wait_until_ready(kubectl, clientpod.BACKSTAGE, late)

    assert container["state"] == {"waiting": {"reason": "ContainerCreating"}}
