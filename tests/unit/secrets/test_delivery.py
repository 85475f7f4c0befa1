"""Delivery of secrets into pods, read from an API server with the lab's recorded pods, statuses and classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest
from kubernetes.client import ApiClient

from fixtures.api.pods import pods_of
from fixtures.google.rest import GoogleApis
from fixtures.objects.manifest import Body, Field
from fixtures.reference.reference import render
from fixtures.secrets.delivery import Delivery
from tests.unit.apiserver import Answer, Request, as_json, serving
from tests.unit.patched import RECORDED, patched, recorded_reference

CSI = "/apis/secrets-store.csi.x-k8s.io/v1"
STATUSES = json.loads((RECORDED / "secrets" / "statuses.json").read_text())
POD, OTHER = (dict(each.body) for each in render(RECORDED / "workload" / "pods.yaml").manifests)
NAME = Field(POD)["metadata"]["name"].text
[OWNER] = Field(POD)["metadata"]["ownerReferences"]
REPLICA_SET: Body = {
    "kind": "ReplicaSet",
    "metadata": {
        "name": OWNER["name"].text,
        "uid": OWNER["uid"].text,
        "ownerReferences": [{"kind": "Deployment", "name": "backstage", "uid": "d"}],
    },
}
CLASS = recorded_reference().the("SecretProviderClass")
KINDS = {
    "/api/v1": {"pods": "Pod"},
    "/apis/apps/v1": {"replicasets": "ReplicaSet"},
    CSI: {
        "secretproviderclasses": "SecretProviderClass",
        "secretproviderclasspodstatuses": "SecretProviderClassPodStatus",
    },
}


@dataclass
class Lab:
    """The objects that the API server and Secret Manager serve."""

    pods: list[Body] = field(default_factory=lambda: [POD])
    sets: list[Body] = field(default_factory=lambda: [REPLICA_SET])
    classes: dict[str, Body] = field(default_factory=lambda: {CLASS.name: CLASS.body})
    version: str = "1"
    state: str = "ENABLED"

    def kubernetes(self, request: Request) -> Answer:
        """The API server's answer to a request."""
        path = request.path.partition("?")[0]
        if path in KINDS:
            named = [{"name": name, "kind": kind, "namespaced": True} for name, kind in KINDS[path].items()]
            return as_json({"resources": named})
        name = path.rpartition("/")[2]
        listed = {"pods": self.pods, "replicasets": self.sets, "secretproviderclasspodstatuses": STATUSES}
        if name in listed:
            return as_json({"items": listed[name]})
        return as_json(dict(self.classes[name])) if name in self.classes else as_json({"kind": "Status"}, 404)

    def google(self, request: httpx.Request) -> httpx.Response:
        """Secret Manager's answer to a request."""
        secret = request.url.path.removeprefix("/v1/").rpartition("/")[0]
        return httpx.Response(200, json={"name": f"{secret}/{self.version}", "state": self.state})


@pytest.fixture
def lab() -> Lab:
    """One Ready pod with all six secrets in their only version."""
    return Lab()


@pytest.fixture
def delivery(lab: Lab) -> Iterator[Delivery]:
    """The delivery for the lab's reference, read from that lab."""
    google = GoogleApis(lambda: "token", timeout=1, transport=httpx.MockTransport(lab.google))
    with serving(lab.kubernetes) as server, google:
        client = ApiClient(server.configuration())
        yield Delivery(recorded_reference().the("Deployment"), (CLASS,), client, google, "https://secrets.test")


def test_pods_are_those_of_the_deployments_replica_sets(lab: Lab, delivery: Delivery) -> None:
    """Pods are found by owner, not by labels; a terminating one is listed but not Ready."""
    stranger = patched(OTHER, "/metadata/ownerReferences/0/uid", "another")
    leaving = patched(OTHER, "/metadata/deletionTimestamp", "2026-01-01T00:00:00Z")
    lab.pods = [POD, stranger, leaving]

    found = pods_of(delivery.deployment, delivery.client)

    assert [pod.terminating for pod in found] == [False, True]
    assert [pod.name for pod in delivery.ready_pods()] == [NAME]


def test_all_is_delivered(delivery: Delivery) -> None:
    """Every Ready pod has every secret in Secret Manager's newest version, and a new pod would get them, too."""
    assert delivery.incomplete() == delivery.outdated() == delivery.unusable() == ()
    assert [each.body for each in delivery.live_classes()] == [CLASS.body]


def test_without_a_ready_pod_nothing_is_delivered(lab: Lab, delivery: Delivery) -> None:
    """Without a Ready pod nothing proves that secrets are delivered."""
    lab.pods = []

    assert delivery.incomplete() == delivery.outdated() == ("no Ready pod",)


def test_pod_without_a_status_has_no_secrets(lab: Lab, delivery: Delivery) -> None:
    """A pod without a SecretProviderClassPodStatus is reported with each secret that it should have."""
    lab.pods = [patched(POD, "/metadata/name", "backstage-new")]

    found = delivery.incomplete()

    assert len(found) == 6
    assert found[0] == "pod backstage-new: backstage-github-token versions/latest is not among what was mounted"


def test_rotated_secret_is_old_in_the_pod(lab: Lab, delivery: Delivery) -> None:
    """After a rotation each secret of the pod is reported by name as outdated."""
    lab.version = "2"

    found = delivery.outdated()

    assert len(found) == 6
    assert found[0] == f"pod {NAME}: backstage-github-token in version 1, not 2"


def test_class_that_asks_for_a_disabled_version_starts_no_pod(lab: Lab, delivery: Delivery) -> None:
    """A disabled version is reported even if only the reference, and not the cluster, has the class."""
    lab.state, lab.classes = "DISABLED", {}

    found = delivery.unusable()

    assert len(found) == 6
    assert found[0] == "backstage-github-token versions/latest DISABLED"


def test_files_are_told_by_container(delivery: Delivery) -> None:
    """File paths are the mount path joined with the paths in the class."""
    [(container, files)] = delivery.files()

    assert container == "backstage"
    assert files[0] == f"{delivery.directory}/github-token"
    assert len(files) == 6
