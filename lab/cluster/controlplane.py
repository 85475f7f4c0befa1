"""Kubernetes' control plane: certificates, etcd, API server, controller manager, scheduler.

The processes run in a network namespace of their own, outside the nodes, as on GKE.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import yaml

from lab import layout
from lab.build import materials
from lab.kubernetes_api import Api, Object
from lab.machine.processes import Command, Daemon, run

API_SERVER = f"https://{layout.CONTROL_ADDRESS}:{layout.API_SERVER_PORT}"
ADMIN_KUBECONFIG = layout.KUBECONFIGS / "super-admin.conf"
"""The only identity that has every right before any ClusterRoleBinding exists."""
AUDIT_LOG = layout.LOGS / "audit.log"
AUDIT_POLICY_FILE = layout.PKI / "audit-policy.yaml"
CLIENTS = ("system:kube-proxy", "lab:metadata", "lab:load-balancer", "lab:rules", "lab:secret-provider")
"""Identities that kubeadm does not know; what they may do is in `addons/rbac.yaml`, kube-proxy's by default."""

CONTROLLERS = ("system:kube-controller-manager", "system:kube-scheduler")
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # The cluster talking to itself would bury what a test wants to prove.
        {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
        {"level": "None", "users": ["system:apiserver", *CONTROLLERS, *CLIENTS]},
        {"level": "Metadata"},
    ],
}  # fmt: skip


def kubeadm_config(node: str) -> str:
    """What kubeadm must know to make certificates and kubeconfigs for one node (or the control plane)."""
    init = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": layout.CONTROL_ADDRESS, "bindPort": layout.API_SERVER_PORT},
        "nodeRegistration": {"name": node, "criSocket": "unix:///run/containerd/containerd.sock"},
    }
    cluster = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": materials.KUBERNETES_VERSION,
        "clusterName": layout.CLUSTER,
        "certificatesDir": str(layout.PKI),
        "controlPlaneEndpoint": f"{layout.CONTROL_ADDRESS}:{layout.API_SERVER_PORT}",
        "networking": {"serviceSubnet": layout.SERVICE_NETWORK, "podSubnet": layout.POD_NETWORK},
    }
    return yaml.safe_dump_all([init, cluster])


def kubeadm(*words: str | Path, config: Path) -> str:
    """Output of a kubeadm command that reads a configuration."""
    return run(materials.program("kubeadm"), *words, "--config", config)


def make_certificates() -> None:
    """Certificate authorities, certificates, and a kubeconfig per identity."""
    config = layout.STATE / "kubeadm.yaml"
    config.write_text(kubeadm_config("control-plane"))
    kubeadm("init", "phase", "certs", "all", config=config)
    AUDIT_POLICY_FILE.write_text(yaml.safe_dump(AUDIT_POLICY))
    kubeadm("init", "phase", "kubeconfig", "all", "--kubeconfig-dir", layout.KUBECONFIGS, config=config)
    shutil.copyfile(ADMIN_KUBECONFIG, layout.USER / "kubeconfig")
    (layout.USER / "kubeconfig").chmod(0o600)
    for client in CLIENTS:
        text = kubeadm("kubeconfig", "user", "--client-name", client, config=config)
        kubeconfig_of(client).write_text(text)
        kubeconfig_of(client).chmod(0o600)


def kubeconfig_of(client: str) -> Path:
    """Kubeconfig of one of `CLIENTS`."""
    return layout.KUBECONFIGS / f"{client.partition(':')[2]}.conf"


def certificates_made() -> bool:
    """Whether the last certificate is there."""
    return kubeconfig_of(CLIENTS[-1]).exists()


@cache
def _api() -> Api:
    """The API server under an identity that kubeadm makes anyway; what it may read is in `addons/rbac.yaml`."""
    certificate = layout.PKI / "apiserver-kubelet-client.crt"
    ca, key = layout.PKI / "ca.crt", certificate.with_suffix(".key")
    return Api(API_SERVER, ca=ca, certificate=certificate, key=key, seconds=2)


def api_server_answers() -> bool:
    """Whether the API server says that it is ready."""
    return _api().ready()


def read(path: str) -> Object:
    """An object of the API, by path; empty if there is none or nobody answers."""
    try:
        return _api().get(path)
    except OSError:  # of which those of requests are
        return {}


def etcd() -> Daemon:
    """The store. Without fsync: losing the last second of a lab costs nothing, waiting for the disk does."""
    pki = layout.PKI / "etcd"
    client, peer = "https://127.0.0.1:2379", "http://127.0.0.1:2380"
    command: Command = [
        materials.program("etcd"), "--name=lab", f"--data-dir={layout.STATE / 'etcd'}", "--unsafe-no-fsync",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=lab={peer}", "--client-cert-auth",
        f"--trusted-ca-file={pki / 'ca.crt'}", f"--cert-file={pki / 'server.crt'}", f"--key-file={pki / 'server.key'}",
    ]  # fmt: skip
    return Daemon("etcd", command, netns="control")


def api_server() -> Daemon:
    """The API server, with a log of every request that is not the cluster's own."""
    pki = layout.PKI
    command: Command = [
        materials.program("kube-apiserver"),
        "--etcd-servers=https://127.0.0.1:2379", f"--etcd-cafile={pki / 'etcd' / 'ca.crt'}",
        f"--etcd-certfile={pki / 'apiserver-etcd-client.crt'}", f"--etcd-keyfile={pki / 'apiserver-etcd-client.key'}",
        f"--advertise-address={layout.CONTROL_ADDRESS}", f"--bind-address={layout.CONTROL_ADDRESS}",
        f"--secure-port={layout.API_SERVER_PORT}", f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}", f"--tls-private-key-file={pki / 'apiserver.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'sa.pub'}", f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-cluster-ip-range={layout.SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
        # It has no kube-proxy: aggregated APIs and webhooks are reached by endpoint.
        "--enable-aggregator-routing",
        f"--audit-policy-file={AUDIT_POLICY_FILE}", f"--audit-log-path={AUDIT_LOG}", "--audit-log-maxsize=200",
        "--audit-log-maxbackup=1",
    ]  # fmt: skip
    return Daemon("kube-apiserver", command, netns="control", answers=api_server_answers)


def controller_manager() -> Daemon:
    """Controllers with their default periods: a GKE user cannot set them either."""
    conf, pki = layout.KUBECONFIGS / "controller-manager.conf", layout.PKI
    command: Command = [
        materials.program("kube-controller-manager"), f"--kubeconfig={conf}", f"--authentication-kubeconfig={conf}",
        f"--authorization-kubeconfig={conf}", f"--client-ca-file={pki / 'ca.crt'}", f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}", f"--cluster-signing-key-file={pki / 'ca.key'}",
        f"--service-account-private-key-file={pki / 'sa.key'}", "--use-service-account-credentials",
        "--allocate-node-cidrs=false", f"--cluster-name={layout.CLUSTER}", "--leader-elect=false",
    ]  # fmt: skip
    return Daemon("kube-controller-manager", command, netns="control")


def scheduler() -> Daemon:
    """The scheduler, with its defaults. There is one of it, so it elects no leader."""
    conf = layout.KUBECONFIGS / "scheduler.conf"
    command: Command = [
        materials.program("kube-scheduler"), f"--kubeconfig={conf}", f"--authentication-kubeconfig={conf}",
        f"--authorization-kubeconfig={conf}", "--leader-elect=false",
    ]  # fmt: skip
    return Daemon("kube-scheduler", command, netns="control")
