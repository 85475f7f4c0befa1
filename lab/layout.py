"""Where the lab's things are: addresses, ports, names and directories. Data only."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = Path(os.environ.get("GKE_LAB_CACHE", "/var/cache/gke-lab"))
"""What is built, each thing under the hash of its inputs. Survives `down`."""

STATE = Path("/var/lib/gke-lab")
"""The one lab of this machine. Short, because Unix socket paths below it end at 107 bytes."""

SOURCE = STATE / "source"
"""The `lab` package that the running lab was started from; its checkout may be gone."""

PKI = STATE / "pki"
KUBECONFIGS = STATE / "kubeconfigs"
LOGS = STATE / "logs"
NODES_DIR = STATE / "nodes"
GOOGLE_DIR = STATE / "google"
RULES = GOOGLE_DIR / "rules"
"""What the central Prometheus evaluates, a file for each object."""
FAULTS_DIR = STATE / "faults"
"""One file per active fault; its text is the fault's argument. The stand-ins look here at each request."""

USER = STATE / "user"
"""What a user of the lab needs; `.lab` of a checkout points here."""

# Every part has a network namespace and an address of its own, so the lab needs no port of the host.
NETWORK = "172.30.0.0/24"
HOST_ADDRESS = "172.30.0.1"
CONTROL_ADDRESS = "172.30.0.2"
GOOGLE_ADDRESS = "172.30.0.3"
DATABASE_ADDRESSES = ("172.30.0.4", "172.30.0.5")
"""Cloud SQL's data plane: the primary's address, and the one it has after a failover."""
GATEWAY_ADDRESSES = tuple(f"172.30.0.{last}" for last in range(80, 100))
"""The load balancer's pool; the first belongs to `mcp/external-gw-01`."""

POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
DNS_ADDRESS = "10.96.0.10"
METADATA_ADDRESS = "169.254.169.254"

NODES = ("node-1", "node-2", "node-3")

API_SERVER_PORT = 6443
SQLADMIN_PORT = 8091
METADATA_PORT = 8092
SECRETMANAGER_PORT = 8093
MONITORING_PORT = 8094
PROMETHEUS_PORT = 9095
DATABASE_PORT = 3307
"""A constant of Google's connectors."""
WEBHOOK_PORT = 9443
"""The load balancer's admission webhook, on the first gateway address."""
ENVOY_ADMIN_PORT = 19000
"""On the loopback of the gateway's namespace."""
POSTGRES_PORT = 5432
"""On the loopback of Google's namespace."""

PROJECT = "backstage-lab"
PROJECT_NUMBER = "123456789012"
REGION = "us-east4"
CLUSTER = "lab"
INSTANCE = "backstage"
INSTANCE_CONNECTION_NAME = f"{PROJECT}:{REGION}:{INSTANCE}"
DATABASES = tuple(f"backstage_plugin_{plugin}" for plugin in ("app", "auth", "catalog", "proxy", "search"))

BACKSTAGE_ACCOUNT = f"backstage@{PROJECT}.iam.gserviceaccount.com"
BACKSTAGE_DATABASE_USER = BACKSTAGE_ACCOUNT.removesuffix(".gserviceaccount.com")
BACKSTAGE_WORKLOAD = "backstage/backstage"
"""Namespace and Kubernetes service account that may act as the account above."""
SUITE_ACCOUNT = f"acceptance@{PROJECT}.iam.gserviceaccount.com"
OBSERVER_ACCOUNT = f"observer@{PROJECT}.iam.gserviceaccount.com"
SMOKE_WORKLOAD = "acceptance/acceptance-smoke"
"""The suite's own service account in the cluster, that may act as the observer: a schedule has no token file."""
OPERATOR_ACCOUNT = f"operator@{PROJECT}.iam.gserviceaccount.com"
"""Who may restart the instance and write secret versions: the lab's own faults."""
SECRETS = (
    "backstage-github-token",
    "backstage-google-client-id",
    "backstage-google-client-secret",
    "backstage-pagerduty-token",
    "backstage-slack-token",
    "backstage-soundcheck-token",
)

GATEWAY_CLASS = "gke-l7-global-external-managed"
GATEWAY_NAMESPACE = "mcp"
GATEWAY = "external-gw-01"
HOSTNAME = "backstage.lab.test"

ATTACH_SECONDS = 10.0
"""From an endpoint's readiness to the load balancer's first request to it. GKE takes as long."""
DETACH_SECONDS = 10.0
"""From a pod's deletion to the load balancer's last request to it. GKE takes as long."""


def node_address(node: str) -> str:
    """Address of a node on the lab's network."""
    return f"172.30.0.{11 + NODES.index(node)}"


def pod_network(node: str) -> str:
    """The node's part of the pod network."""
    return f"10.244.{1 + NODES.index(node)}.0/24"
