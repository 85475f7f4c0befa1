"""How add-on manifests are rendered, and when an object counts as ready."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from lab import layout
from lab.cluster import addons

OPERATOR = """
kind: DaemonSet
metadata: {name: collector}
spec:
  template:
    spec:
      initContainers:
      - {name: config-init, image: upstream, command: [/bin/bash, -c, touch x]}
      containers:
      - {name: config-reloader, image: upstream, args: [--a]}
      - {name: prometheus, image: upstream, args: [--b]}
---
kind: Deployment
metadata: {name: gmp-operator}
spec:
  template:
    spec:
      containers:
      - {name: operator, image: upstream, args: [--c]}
---
kind: Deployment
metadata: {name: rule-evaluator}
---
kind: StatefulSet
metadata: {name: alertmanager}
---
kind: Service
metadata: {name: alertmanager}
---
kind: OperatorConfig
metadata: {name: config}
---
kind: ValidatingWebhookConfiguration
metadata: {name: gmp-operator}
webhooks: [{name: validate, failurePolicy: Fail}]
"""
"""The parts of Google's operator.yaml that matter here."""


@dataclasses.dataclass
class FakeArtifact:
    """An artifact of the build."""

    path: Path


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The build's output, with two files in each folder of upstream manifests."""
    for folder, artifact in addons.UPSTREAM.items():
        directory = tmp_path / artifact / "manifests" / folder
        directory.mkdir(parents=True)
        for file in ("operator.yaml", "setup.yaml"):
            (directory / file).write_text(OPERATOR if file == "operator.yaml" else f"kind: {folder}")
    made = {artifact: FakeArtifact(tmp_path / artifact) for artifact in addons.UPSTREAM.values()}
    monkeypatch.setattr(addons, "artifacts", lambda: made)
    return tmp_path


def find(kind: str, manifests: str) -> list[addons.Manifest]:
    """The manifests of one kind."""
    return [manifest for manifest in yaml.safe_load_all(manifests) if manifest["kind"] == kind]


def test_placeholders_are_filled_in() -> None:
    """Only ${NAME} is a placeholder: a bare `$` ends a pattern, and $(NODE) is Kubernetes' own syntax."""
    assert addons.render("^a$ $(NODE) ${PROJECT}", {"PROJECT": "lab"}) == "^a$ $(NODE) lab"
    with pytest.raises(KeyError, match="CA_BUNDLE"):
        addons.render("${CA_BUNDLE}", {})


@pytest.mark.parametrize("name", ["coredns", "metrics-server", "secrets-store-csi"])
def test_own_manifests_run_images_of_the_lab(name: str) -> None:
    """They have no placeholders left, images that are never pulled, and CPU and memory requests."""
    [addon] = [addon for addon in addons.ADDONS if addon.name == name]

    manifests = [m for m in yaml.safe_load_all(addons.documents(addon)) if m["kind"] in ("Deployment", "DaemonSet")]

    assert manifests
    [container] = manifests[0]["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("lab.local/")
    assert container["imagePullPolicy"] == "Never"
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert f"{manifests[0]['kind'].lower()}/{manifests[0]['metadata']['name']}" in addon.objects


@pytest.mark.usefixtures("upstream")
def test_upstream_folder_is_whole() -> None:
    """Every file that the add-on lists is part of its manifests."""
    addon = addons.Addon("crds", ("secrets-store/setup.yaml", "gateway-api/setup.yaml"))

    assert [m["kind"] for m in yaml.safe_load_all(addons.documents(addon))] == ["secrets-store", "gateway-api"]


@pytest.mark.usefixtures("upstream")
def test_managed_prometheus_writes_to_the_lab() -> None:
    """Collectors write to the central Prometheus and nowhere else; target status is on."""
    [addon] = [addon for addon in addons.ADDONS if addon.name == "managed-prometheus"]
    text = addons.documents(addon)

    [config] = find("OperatorConfig", text)
    assert config["features"] == {"targetStatus": {"enabled": True}}
    assert config["exports"] == [{"url": f"http://{layout.GOOGLE_ADDRESS}:{layout.PROMETHEUS_PORT}/api/v1/write"}]
    [collector] = find("DaemonSet", text)
    pod = collector["spec"]["template"]["spec"]
    [init], [reloader, prometheus] = pod["initContainers"], pod["containers"]
    assert init["command"][0] == "/bin/sh"
    assert (reloader["command"], reloader["args"]) == (["/bin/config-reloader"], ["--a"])
    assert (prometheus["command"], prometheus["args"]) == (["/bin/prometheus"], ["--b", "--export.disable"])
    [operator] = find("Deployment", text)
    assert operator["spec"]["template"]["spec"]["containers"][0]["args"] == [
        "--c",
        f"--project-id={layout.PROJECT}",
        f"--location={layout.REGION}",
        f"--cluster={layout.CLUSTER}",
    ]
    [webhooks] = find("ValidatingWebhookConfiguration", text)
    assert webhooks["webhooks"] == [{"name": "validate", "failurePolicy": "Ignore"}]
    assert find("StatefulSet", text) == []
    assert len(find("Service", text)) == 1


def deployment(*, observed: int = 2, updated: int = 2, available: int = 2) -> addons.Manifest:
    """A Deployment with two replicas at generation 2."""
    status = {"observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available}
    return {"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}


def daemon_set(available: int) -> addons.Manifest:
    """A DaemonSet with a pod on every node."""
    status = {"observedGeneration": 1, "updatedNumberScheduled": len(layout.NODES), "numberAvailable": available}
    return {"kind": "DaemonSet", "metadata": {"generation": 1}, "spec": {}, "status": status}


def with_condition(kind: str, type_: str, status: str) -> addons.Manifest:
    """An object with one condition."""
    return {"kind": kind, "metadata": {}, "status": {"conditions": [{"type": type_, "status": status}]}}


@pytest.mark.parametrize(
    ("manifest", "ready"),
    [
        (deployment(), True),
        (deployment(observed=1), False),
        (deployment(updated=1), False),
        (deployment(available=1), False),
        ({"kind": "Deployment", "metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": {}}, False),
        (daemon_set(len(layout.NODES)), True),
        (daemon_set(1), False),
        (with_condition("CustomResourceDefinition", "Established", "True"), True),
        (with_condition("CustomResourceDefinition", "Established", "False"), False),
        (with_condition("APIService", "Available", "True"), True),
        ({"kind": "APIService", "metadata": {}}, False),
        ({"kind": "CSINode", "metadata": {}, "spec": {"drivers": [{"name": addons.CSI_DRIVER}]}}, True),
        ({"kind": "CSINode", "metadata": {}, "spec": {"drivers": None}}, False),
        ({"kind": "ClusterRole", "metadata": {}}, True),
    ],
)
def test_readiness(manifest: addons.Manifest, ready: bool) -> None:  # noqa: FBT001 -- a table of cases
    """The status must be about the current generation; an object without a status is ready once it exists."""
    assert addons.is_ready(manifest) is ready
