"""The way of secrets into pods, asked of an API server that has what the lab had: pods, statuses, classes."""

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
    """What the API server and Secret Manager have."""

    pods: list[Body] = field(default_factory=lambda: [POD])
    sets: list[Body] = field(default_factory=lambda: [REPLICA_SET])
    classes: dict[str, Body] = field(default_factory=lambda: {CLASS.name: CLASS.body})
    version: str = "1"
    state: str = "ENABLED"

    def kubernetes(self, request: Request) -> Answer:
        """An answer of the API server."""
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
        """An answer of Secret Manager."""
        secret = request.url.path.removeprefix("/v1/").rpartition("/")[0]
        return httpx.Response(200, json={"name": f"{secret}/{self.version}", "state": self.state})


@pytest.fixture
def lab() -> Lab:
    """One Ready pod with all six secrets in their only version."""
    return Lab()


@pytest.fixture
def delivery(lab: Lab) -> Iterator[Delivery]:
    """As the reference has it, asked of that lab."""
    google = GoogleApis(lambda: "token", timeout=1, transport=httpx.MockTransport(lab.google))
    with serving(lab.kubernetes) as server, google:
        client = ApiClient(server.configuration())
        yield Delivery(recorded_reference().the("Deployment"), (CLASS,), client, google, "https://secrets.test")


def test_pods_are_those_of_the_deployments_replica_sets(lab: Lab, delivery: Delivery) -> None:
    """A pod with the same labels may be somebody else's; one that is not Ready, or leaves, does not serve."""
    stranger = patched(OTHER, "/metadata/ownerReferences/0/uid", "another")
    leaving = patched(OTHER, "/metadata/deletionTimestamp", "2026-01-01T00:00:00Z")
    lab.pods = [POD, stranger, leaving]

    found = pods_of(delivery.deployment, delivery.client)

    assert [pod.terminating for pod in found] == [False, True]
    assert [pod.name for pod in delivery.ready_pods()] == [POD["metadata"]["name"]]  # type: ignore[index]


def test_all_is_delivered(delivery: Delivery) -> None:
    """Every Ready pod has every secret, as new as Secret Manager has it, and the next pod would get them, too."""
    assert delivery.incomplete() == delivery.outdated() == delivery.unusable() == ()
    assert [each.body for each in delivery.live_classes()] == [CLASS.body]


def test_without_a_ready_pod_nothing_is_delivered(lab: Lab, delivery: Delivery) -> None:
    """All of none is no promise kept."""
    lab.pods = []

    assert delivery.incomplete() == delivery.outdated() == ("no Ready pod",)


def test_pod_without_a_status_has_no_secrets(lab: Lab, delivery: Delivery) -> None:
    """The driver never told that it mounted anything."""
    lab.pods = [patched(POD, "/metadata/name", "backstage-new")]

    found = delivery.incomplete()

    assert len(found) == 6
    assert found[0] == "pod backstage-new: backstage-github-token versions/latest is not among what was mounted"


def test_rotated_secret_is_old_in_the_pod(lab: Lab, delivery: Delivery) -> None:
    """All six, by name."""
    lab.version = "2"

    found = delivery.outdated()

    assert len(found) == 6
    assert found[0] == f"pod {POD['metadata']['name']}: backstage-github-token in version 1, not 2"  # type: ignore[index]


def test_class_that_asks_for_a_disabled_version_starts_no_pod(lab: Lab, delivery: Delivery) -> None:
    """The live class counts as well as the reference's; one that is not there asks for nothing."""
    lab.state, lab.classes = "DISABLED", {}

    found = delivery.unusable()

    assert len(found) == 6
    assert found[0] == "backstage-github-token versions/latest DISABLED"


def test_files_are_told_by_container(delivery: Delivery) -> None:
    """Where the class says, below where the volume is mounted."""
    [(container, files)] = delivery.files()

    assert container == "backstage"
    assert files[0] == f"{delivery.directory}/github-token"
    assert len(files) == 6
