#!/usr/bin/env python3
"""Apply these manifests as an admin, and write one kubeconfig per identity.

    manifests/rbac/apply.py --into DIRECTORY [--kubeconfig FILE] [--context NAME] [--hours 24] [--overlay DIRECTORY]

Prints the kubeconfigs as JSON, by identity: {"kubeconfigs": {"observer": "DIRECTORY/observer", ...}}. They hold
tokens that expire. This is the admin's tool: the suite never imports it, and never runs with an admin's rights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
IDENTITIES = ("observer", "connector", "applier", "loader", "disrupter")
FIELD_MANAGER = "acceptance-rbac"


class KubectlError(Exception):
    """kubectl failed; the text is what it said."""


class Kubectl:
    """kubectl as the admin; the one of this Python environment if it has one."""

    def __init__(self, kubeconfig: Path | None, context: str | None) -> None:
        beside = Path(sys.executable).with_name("kubectl")
        self._command = [
            str(beside) if beside.exists() else "kubectl",
            *([f"--kubeconfig={kubeconfig}"] if kubeconfig else []),
            *([f"--context={context}"] if context else []),
        ]

    def __call__(self, *arguments: str) -> str:
        """What it prints.

        Raises:
            KubectlError: It failed, or is not there.
        """
        try:
            done = subprocess.run(  # noqa: S603 - our own command
                [*self._command, *arguments], capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise KubectlError("kubectl is not installed") from error
        if done.returncode:
            raise KubectlError(" ".join(done.stderr.split()))
        return done.stdout


def grant(kubectl: Kubectl, overlay: Path) -> None:
    """Apply the manifests, after the namespaces in which they let the suite apply: a binding needs its namespace."""
    for namespace in namespaces_to_apply_in(kubectl("kustomize", str(overlay))):
        if not kubectl("get", "namespace", namespace, "--ignore-not-found", "--output=name"):
            kubectl("create", "namespace", namespace)
    kubectl("apply", "--server-side", f"--field-manager={FIELD_MANAGER}", f"--kustomize={overlay}")


def namespaces_to_apply_in(rendered: str) -> list[str]:
    """Namespaces of the bindings that let the suite apply."""
    bindings = (item for item in yaml.safe_load_all(rendered) if item["kind"] == "RoleBinding")
    names = (item["metadata"] for item in bindings if item["roleRef"]["name"].startswith("acceptance-apply-"))
    return sorted({name["namespace"] for name in names})


def write_kubeconfig(kubectl: Kubectl, identity: str, into: Path, hours: int) -> Path:
    """A kubeconfig for one identity, readable by its owner only."""
    token = kubectl(
        "create", "token", f"acceptance-{identity}", "--namespace=acceptance", f"--duration={hours}h"
    ).strip()
    seen = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
    name = f"acceptance-{identity}"
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": seen["clusters"][0]["cluster"]}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": "cluster", "user": name}}],
        "current-context": name,
    }
    path = into / identity
    path.touch(mode=0o600)
    path.write_text(json.dumps(kubeconfig, indent=1))
    return path


def main() -> int:
    """Apply, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--into", type=Path, required=True, help="where to write the kubeconfigs")
    parser.add_argument("--kubeconfig", type=Path, help="of the admin; default as for kubectl")
    parser.add_argument("--context", help="of that kubeconfig; default its current one")
    parser.add_argument("--hours", type=int, default=24, help="how long the tokens are good; the server may allow less")
    parser.add_argument(
        "--overlay", type=Path, default=HERE, help="a kustomization over this one, for other namespaces"
    )
    options = parser.parse_args()
    kubectl = Kubectl(options.kubeconfig, options.context)
    try:
        grant(kubectl, options.overlay)
        options.into.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = {name: str(write_kubeconfig(kubectl, name, options.into, options.hours)) for name in IDENTITIES}
    except KubectlError as error:
        sys.stderr.write(f"expected: an admin's kubectl to apply {options.overlay}; seen: {error}\n")
        return 1
    sys.stdout.write(json.dumps({"kubeconfigs": written}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
