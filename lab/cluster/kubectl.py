"""kubectl as the administrator, for what an administrator types.

Server-side apply of manifests of any kind, and names such as `deployment/coredns`, need to know the kinds that the API
has by now, custom ones among them. kubectl finds that out by itself; what reads or writes objects at a known path goes
by `lab.kubernetes_api`.
"""

from __future__ import annotations

from lab.build import materials
from lab.cluster.controlplane import ADMIN_KUBECONFIG
from lab.machine.processes import run


def kubectl(*words: str, stdin: str | None = None) -> str:
    """Output of kubectl; CommandFailedError with what it complains of."""
    return run(materials.KUBECTL, "--kubeconfig", ADMIN_KUBECONFIG, *words, stdin=stdin)


def apply(yaml_text: str) -> None:
    """Apply objects as the lab's own field manager, which owns them whoever else has written them."""
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=gke-lab", "-f", "-", stdin=yaml_text)
