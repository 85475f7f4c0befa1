"""The add-ons of the cluster: own manifests from `addons/`, and upstream ones from the build's output.

Own manifests are plain YAML with placeholders such as ${PROJECT}. An add-on may be applied as soon as those
it `needs` are rolled out, all others at the same time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import layout
from lab.build.materials import artifacts
from lab.cluster.kubectl import kubectl

MANIFESTS = Path(__file__).parents[1] / "addons"
CSI_DRIVER = "secrets-store-gke.csi.k8s.io"

UPSTREAM = {"gateway-api": "platform", "secrets-store": "secrets-store", "managed-prometheus": "managed-prometheus"}
"""Folder of upstream manifests to the artifact that holds it."""

VALUES = {
    "PROJECT": layout.PROJECT,
    "DNS_ADDRESS": layout.DNS_ADDRESS,
    "METADATA_ADDRESS": layout.METADATA_ADDRESS,
    "GATEWAY_ADDRESS": layout.GATEWAY_ADDRESSES[0],
    "GATEWAY_CLASS": layout.GATEWAY_CLASS,
    "GATEWAY_NAMESPACE": layout.GATEWAY_NAMESPACE,
    "GATEWAY": layout.GATEWAY,
    "HOSTNAME": layout.HOSTNAME,
    "WEBHOOK_PORT": str(layout.WEBHOOK_PORT),
}
"""What the placeholders of own manifests stand for; CA_BUNDLE is known only once the lab's certificates are made."""

PROMETHEUS_IMAGE = "lab.local/managed-prometheus:lab"
PROMETHEUS_NOT_IN_THE_LAB = ("rule-evaluator", "alertmanager")

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Addon:
    """Objects that are applied together."""

    name: str
    sources: tuple[str, ...]
    """Files in `addons/`, and files or folders of upstream manifests, in the order in which they are applied."""
    objects: tuple[str, ...] = ()
    """TYPE/NAME of what must be ready before the add-on counts as rolled out; if none, all its objects must exist."""
    namespace: str = "kube-system"
    needs: tuple[str, ...] = ()


RBAC = Addon("rbac", ("rbac.yaml",))
ADDONS = (
    Addon(
        "crds",
        ("gateway-api", "gke-crds.yaml", "secrets-store", "managed-prometheus/setup.yaml"),
        # Those of which the other add-ons have objects, and the last applied.
        (
            "crd/gatewayclasses.gateway.networking.k8s.io",
            "crd/gateways.gateway.networking.k8s.io",
            "crd/healthcheckpolicies.networking.gke.io",
            "crd/secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io",
            "crd/operatorconfigs.monitoring.googleapis.com",
            "crd/podmonitorings.monitoring.googleapis.com",
        ),
    ),
    Addon("coredns", ("coredns.yaml",), ("deployment/coredns",)),
    Addon(
        "metrics-server", ("metrics-server.yaml",), ("deployment/metrics-server", "apiservice/v1beta1.metrics.k8s.io")
    ),
    Addon(
        "secrets-store-csi",
        ("secrets-store.yaml",),
        ("daemonset/csi-secrets-store", *(f"csinode/{node}" for node in layout.NODES)),
        needs=("crds",),
    ),
    Addon(
        "managed-prometheus",
        ("managed-prometheus/operator.yaml",),
        ("deployment/gmp-operator", "daemonset/collector"),
        "gmp-system",
        needs=("crds",),
    ),
    Addon(
        "gateway",
        ("gateway.yaml",),
        (f"gatewayclass/{layout.GATEWAY_CLASS}", f"gateway/{layout.GATEWAY}"),
        layout.GATEWAY_NAMESPACE,
        needs=("crds",),
    ),
)


def documents(addon: Addon, **values: str) -> str:
    """The add-on's objects as YAML; `values` are placeholders beyond `VALUES`."""
    return "\n---\n".join(text for source in addon.sources for text in _texts(source, {**VALUES, **values}))


def _texts(source: str, values: Mapping[str, str]) -> list[str]:
    folder = source.partition("/")[0]
    if folder not in UPSTREAM:
        return [render((MANIFESTS / source).read_text(), values)]
    path = artifacts()[UPSTREAM[folder]].path / "manifests" / source
    texts = [file.read_text() for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    return [managed_prometheus(text) for text in texts] if path.name == "operator.yaml" else texts


def render(text: str, values: Mapping[str, str]) -> str:
    """The text with its placeholders filled in; only ${NAME} is one, as `$` alone occurs in patterns and commands.

    Raises:
        KeyError: A placeholder has no value.
    """
    return re.sub(r"\$\{([A-Z_]+)\}", lambda placeholder: values[placeholder[1]], text)


def managed_prometheus(upstream: str) -> str:
    """Google's manifest of the operator and its collectors, made to write to the lab's central Prometheus."""
    manifests = [manifest for manifest in yaml.safe_load_all(upstream) if manifest and not _left_out(manifest)]
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "DaemonSet"):
            pod = manifest["spec"]["template"]["spec"]
            for container in pod.get("initContainers", []) + pod["containers"]:
                _run_lab_image(container)
        if manifest["kind"] == "OperatorConfig":
            manifest["features"] = {"targetStatus": {"enabled": True}}
            url = f"http://{layout.GOOGLE_ADDRESS}:{layout.PROMETHEUS_PORT}/api/v1/write"
            manifest["exports"] = [{"url": url}]
        if manifest["kind"] == "ValidatingWebhookConfiguration":
            # Else the manifest could not be applied again, to heal it, while the operator is down.
            for webhook in manifest["webhooks"]:
                webhook["failurePolicy"] = "Ignore"
    return yaml.safe_dump_all(manifests, sort_keys=False)


def _left_out(manifest: Manifest) -> bool:
    """Whether it is a workload that the lab does not have; the operator logs its absence and goes on."""
    return (
        manifest["kind"] in ("Deployment", "StatefulSet") and manifest["metadata"]["name"] in PROMETHEUS_NOT_IN_THE_LAB
    )


def _run_lab_image(container: Manifest) -> None:
    container["image"], container["imagePullPolicy"] = PROMETHEUS_IMAGE, "Never"
    name = container["name"]
    if name == "config-init":
        # Upstream's command needs bash and touch; the image has a shell and nothing else.
        container["command"] = ["/bin/sh", "-c", ": > /prometheus/config_out/config.yaml"]
    else:
        container["command"] = [f"/bin/{name}"]
    if name == "operator":
        place = {"project-id": layout.PROJECT, "location": layout.REGION, "cluster": layout.CLUSTER}
        container["args"] += [f"--{flag}={value}" for flag, value in place.items()]
    if name == "prometheus":
        container["args"] += ["--export.disable"]


def rolled_out(addon: Addon) -> bool:
    """Whether everything that the add-on waits for is ready now; CommandFailedError if some of it does not exist."""
    if addon.objects:
        answer = kubectl("get", "--namespace", addon.namespace, "--output=json", *addon.objects)
    else:
        answer = kubectl("get", "--output=json", "--filename=-", stdin=documents(addon))
    found = json.loads(answer)
    return all(is_ready(manifest) for manifest in found.get("items", [found]))


CONDITIONS = {
    "CustomResourceDefinition": "Established",
    "APIService": "Available",
    "GatewayClass": "Accepted",
    "Gateway": "Programmed",
}
"""Kind to the condition that says it is ready; kinds that are nowhere named are ready when they exist."""


def is_ready(manifest: Manifest) -> bool:
    """Whether an object of the cluster does what it is there for."""
    kind, status = manifest["kind"], manifest.get("status", {})
    if kind == "Deployment":
        numbers = {status.get("updatedReplicas"), status.get("availableReplicas")}
        return _current(manifest) and numbers == {manifest["spec"]["replicas"]}
    if kind == "DaemonSet":
        numbers = {status.get("updatedNumberScheduled"), status.get("numberAvailable")}
        return _current(manifest) and numbers == {len(layout.NODES)}
    if kind == "CSINode":
        return any(driver["name"] == CSI_DRIVER for driver in manifest["spec"].get("drivers") or [])
    if kind in CONDITIONS:
        conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
        return conditions.get(CONDITIONS[kind]) == "True"
    return True


def _current(manifest: Manifest) -> bool:
    """Whether the status speaks of the spec as it is now."""
    return bool(manifest["status"].get("observedGeneration") == manifest["metadata"]["generation"])
