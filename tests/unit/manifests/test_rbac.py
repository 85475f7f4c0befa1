"""The admin's command that applies RBAC, and the overlays that the documents show."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typing_extensions import override

from manifests.rbac import apply

RBAC = Path("manifests/rbac")
KUBECTL = Path(sys.executable).with_name("kubectl")
SEEN = {"clusters": [{"name": "lab", "cluster": {"server": "https://lab.test", "certificate-authority-data": "Q0E="}}]}


class FakeKubectl(apply.Kubectl):
    """A kubectl with given answers that records its arguments."""

    def __init__(self, answers: dict[str, str]) -> None:
        super().__init__(None, None)
        self.answers = answers
        self.asked: list[str] = []

    @override
    def __call__(self, *arguments: str) -> str:
        asked = " ".join(arguments)
        self.asked.append(asked)
        return next((answer for begin, answer in self.answers.items() if asked.startswith(begin)), "")


def rendered(kustomization: Path) -> str:
    """The output of kubectl kustomize."""
    return subprocess.run([KUBECTL, "kustomize", kustomization], check=True, capture_output=True, text=True).stdout


def test_namespace_is_created_before_the_bindings_in_it_and_only_if_it_is_absent() -> None:
    """Only the deployment's namespace is created; the Gateway's has another owner and stays an error."""
    kubectl = FakeKubectl({"kustomize": rendered(RBAC)})

    apply.grant(kubectl, RBAC)
    absent = list(kubectl.asked)
    kubectl.answers["get namespace backstage"] = "namespace/backstage"
    kubectl.asked.clear()
    apply.grant(kubectl, RBAC)

    assert absent == [
        "kustomize manifests/rbac",
        "get namespace backstage --ignore-not-found --output=name",
        "create namespace backstage",
        "apply --server-side --field-manager=acceptance-rbac --kustomize=manifests/rbac",
    ]
    assert kubectl.asked == [asked for asked in absent if not asked.startswith("create")]


def test_kubeconfig_holds_a_token_and_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """The kubeconfig does not hold the admin's own credentials."""
    kubectl = FakeKubectl(
        {"create token": "t\n", "config view": json.dumps({**SEEN, "users": [{"user": {"token": "admin"}}]})}
    )

    path = apply.write_kubeconfig(kubectl, "observer", tmp_path, hours=2)

    assert kubectl.asked[0] == "create token acceptance-observer --namespace=acceptance --duration=2h"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": SEEN["clusters"][0]["cluster"]}],
        "users": [{"name": "acceptance-observer", "user": {"token": "t"}}],
        "contexts": [{"name": "acceptance-observer", "context": {"cluster": "cluster", "user": "acceptance-observer"}}],
        "current-context": "acceptance-observer",
    }


def test_failure_of_kubectl_is_one_line(tmp_path: Path) -> None:
    """A missing kubeconfig gives kubectl's one-line error."""
    with pytest.raises(apply.KubectlError, match="no such file or directory"):
        apply.Kubectl(tmp_path / "absent", "lab")("get", "nodes")


def test_overlay_of_the_documents_moves_and_extends_the_bindings(tmp_path: Path) -> None:
    """The overlay in docs/permissions.md sets other namespaces and adds a group and a user as observers."""
    rbac = os.path.relpath(RBAC, tmp_path)
    shown = re.findall(r"```yaml\n(.*?)```", Path("docs/permissions.md").read_text(), re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text("".join(shown).replace("../../manifests/rbac", rbac))

    objects: list[dict[str, Any]] = list(yaml.safe_load_all(rendered(tmp_path)))
    bindings = [item for item in objects if item["kind"].endswith("RoleBinding")]
    observing = [item for item in bindings if item["metadata"]["name"].startswith("acceptance-observe-")]

    assert {item["metadata"].get("namespace") for item in bindings} == {"portal", "gateways", None}
    assert len(observing) == 4
    assert all({"Group", "User"} < {subject["kind"] for subject in item["subjects"]} for item in observing)
    assert all("User" not in str(item["subjects"]) for item in bindings if item not in observing)


def test_overlay_for_a_pipeline_adds_its_account_to_every_permission(tmp_path: Path) -> None:
    """The overlay in docs/adopting.md adds one Google account to every binding."""
    rbac = os.path.relpath(RBAC, tmp_path)
    blocks = re.findall(r"```yaml\n(.*?)```", Path("docs/adopting.md").read_text(), re.DOTALL)
    [shown] = [block for block in blocks if "manifests/rbac" in block]
    (tmp_path / "kustomization.yaml").write_text(shown.replace("../../manifests/rbac", rbac))

    bindings = [item for item in yaml.safe_load_all(rendered(tmp_path)) if item["kind"].endswith("RoleBinding")]

    names = {subject["name"] for item in bindings for subject in item["subjects"] if subject["kind"] == "User"}
    assert names == {"acceptance@PROJECT.iam.gserviceaccount.com"}
    assert all("User" in {subject["kind"] for subject in item["subjects"]} for item in bindings)
    assert len(bindings) == 9
