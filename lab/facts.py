"""What a user of the running lab must know: addresses, paths, names; and how to begin."""

from __future__ import annotations

import json

from lab import google_state, layout
from lab.build import materials

DELAYS = layout.GOOGLE_DIR / "loadbalancer" / "delays.json"


def facts() -> dict[str, object]:
    """Addresses, paths and names; the values of Google's world as GKE would have them."""
    google = f"http://{layout.GOOGLE_ADDRESS}"
    return {
        "kubeconfig": str(layout.USER / "kubeconfig"),
        "ca_file": str(layout.USER / "ca.crt"),
        "tokens": {name: str(layout.USER / "tokens" / name) for name in google_state.TOKENS},
        "logs": str(layout.LOGS),
        "audit_log": str(layout.LOGS / "audit.log"),
        "kubectl": str(materials.KUBECTL),
        "hostname": layout.HOSTNAME,
        "gateway": {
            "address": layout.GATEWAY_ADDRESSES[0], "namespace": layout.GATEWAY_NAMESPACE, "name": layout.GATEWAY,
        },
        "project": layout.PROJECT,
        "location": layout.REGION,
        "cluster": layout.CLUSTER,
        "nodes": {node: layout.node_address(node) for node in layout.NODES},
        "cloud_sql": {
            "instance": layout.INSTANCE_CONNECTION_NAME, "iam_user": layout.BACKSTAGE_DATABASE_USER,
            "databases": list(layout.DATABASES), "admin_api": f"{google}:{layout.SQLADMIN_PORT}",
        },
        "secret_manager": {"api": f"{google}:{layout.SECRETMANAGER_PORT}", "secrets": list(layout.SECRETS)},
        "monitoring": {"api": f"{google}:{layout.MONITORING_PORT}"},
        "tools": {"promtool": str(materials.program("promtool", "managed-prometheus"))},
        "delays": delays(),
    }  # fmt: skip


def delays() -> dict[str, float]:
    """Seconds that the load balancer takes to attach and to detach an endpoint."""
    if DELAYS.exists():
        set_values: dict[str, float] = json.loads(DELAYS.read_text())
        return set_values
    return {"attach": layout.ATTACH_SECONDS, "detach": layout.DETACH_SECONDS}


def set_delays(attach: float, detach: float) -> None:
    """Change the load balancer's delays at once."""
    draft = DELAYS.with_suffix(".draft")
    draft.write_text(json.dumps({"attach": attach, "detach": detach}))
    draft.replace(DELAYS)


def how_to_use() -> str:
    """The last lines of `up`."""
    gateway = layout.GATEWAY_ADDRESSES[0]
    return f"""
Use it:
  export KUBECONFIG=$PWD/.lab/kubeconfig PATH=$PWD/.venv/bin:$PATH
  kubectl get nodes
  kubectl apply -k manifests/overlays/local          # Backstage
  curl --cacert .lab/ca.crt --resolve {layout.HOSTNAME}:443:{gateway} https://{layout.HOSTNAME}/
In a browser: trust .lab/ca.crt, or
  chromium --user-data-dir=/tmp/lab-browser --ignore-certificate-errors \\
    --host-resolver-rules="MAP {layout.HOSTNAME} {gateway}" https://{layout.HOSTNAME}/
Look:   python -m lab status | logs | facts | inject
Stop:   make lab-down"""
