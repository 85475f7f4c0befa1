"""A node: containerd, kubelet and kube-proxy in namespaces of their own, over directories of their own.

Each node reports the whole machine as its capacity, as nothing on the machine divides it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import requests
import yaml

from lab import layout
from lab.build import materials
from lab.build.cache import PACKAGE
from lab.cluster import controlplane
from lab.machine import cgroups
from lab.machine.processes import Command, Daemon, run

SANDBOX_IMAGE = "lab.local/pause:lab"
KUBELET_HEALTH_PORT = 10248
KUBELET_SYNC = "10s"
"""How soon a kubelet notices a changed ConfigMap or a rotated secret; its own default is 1 min."""


class NodeOffError(Exception):
    """A node that should do something has no power."""


def directory(node: str) -> Path:
    """Where a node's disks lie."""
    return layout.NODES_DIR / node


def kubelet_configuration(node: str) -> dict[str, object]:
    """What the kubelet reads; its pods' control groups lie below the node's."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.node_group(node)}",
        "failSwapOn": False,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "address": layout.node_address(node),
        "healthzBindAddress": layout.node_address(node),
        "healthzPort": KUBELET_HEALTH_PORT,
        "clusterDomain": "cluster.local",
        "clusterDNS": [layout.DNS_ADDRESS],
        "resolvConf": str(directory(node) / "resolv.conf"),
        "syncFrequency": KUBELET_SYNC,
        "providerID": f"gce://{layout.PROJECT}/{zone(node)}/{node}",
        # The disk is the host's: a full one must not make the kubelets evict what is being tested.
        "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
    }


def zone(node: str) -> str:
    """A zone of its own for each node, as in a regional cluster."""
    return f"{layout.REGION}-{'abc'[layout.NODES.index(node)]}"


def labels(node: str) -> dict[str, str]:
    """What GKE writes on a node and manifests select by."""
    return {
        "topology.kubernetes.io/region": layout.REGION,
        "topology.kubernetes.io/zone": zone(node),
        "cloud.google.com/gke-nodepool": "lab",
        "iam.gke.io/gke-metadata-server-enabled": "true",
    }


def containerd_configuration() -> str:
    """Containerd's file, the same for every node."""
    binaries = materials.artifacts()["platform"].path / "bin"
    return f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{SANDBOX_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{binaries}"]
    conf_dir = "/etc/cni/net.d"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def network_configuration(node: str) -> dict[str, object]:
    """The pods' network: routed point to point, so that a pod's address is seen everywhere as it is."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": layout.pod_network(node)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [
        {"type": "ptp", "mtu": 1500, "ipMasq": False, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return {"cniVersion": "1.0.0", "name": "lab", "plugins": plugins}


def kube_proxy_configuration(node: str) -> dict[str, object]:
    """kube-proxy's file. Connection tracking stays as it is: its limits belong to the whole machine."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": layout.POD_NETWORK,
        "clientConnection": {"kubeconfig": str(controlplane.kubeconfig_of("system:kube-proxy"))},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "hostnameOverride": node,
    }


def prepare(node: str, image_store: Path) -> None:
    """Write the node's files, unless they are there: its disks survive the loss of the machine."""
    home = directory(node)
    if (home / "address").exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    (layout.LOGS / node).mkdir(parents=True, exist_ok=True)
    for name in ("kubelet", "cni/net.d", "kubernetes", "pods", "containers"):
        (home / name).mkdir(parents=True)
    _copy_image_store(image_store, home / "containerd")
    files = {
        "kubelet.yaml": yaml.safe_dump(kubelet_configuration(node)),
        "kube-proxy.yaml": yaml.safe_dump(kube_proxy_configuration(node)),
        "containerd.toml": containerd_configuration(),
        "cni/net.d/10-lab.conflist": json.dumps(network_configuration(node)),
        "labels": ",".join(f"{key}={value}" for key, value in labels(node).items()),
        "resolv.conf": f"nameserver {layout.DNS_ADDRESS}\n",
        "metadata.nft": (PACKAGE / "google" / "metadata.nft").read_text(),
        "kubeadm.yaml": controlplane.kubeadm_config(node),
    }
    for name, text in files.items():
        (home / name).write_text(text)
    phase = ("init", "phase", "kubeconfig", "kubelet", "--kubeconfig-dir", home / "kubernetes")
    controlplane.kubeadm(*phase, config=home / "kubeadm.yaml")
    shutil.copyfile(layout.PKI / "ca.crt", home / "kubernetes" / "ca.crt")
    (home / "address").write_text(layout.node_address(node))


def _copy_image_store(source: Path, target: Path) -> None:
    """Give the node all images at once: layers as hard links, for nobody writes to them; databases as copies.

    Three nodes then share one copy of every file on disk and in the page cache, and no image is imported.
    """
    run("cp", "--archive", "--link", source, target)
    for database in target.rglob("*.db"):
        content = database.read_bytes()
        database.unlink()
        database.write_bytes(content)


def node(name: str) -> Daemon:
    """The node's first process (`node-init.sh`), which keeps containerd, kubelet and kube-proxy running."""
    binaries = materials.artifacts()["platform"].path / "bin"
    init: Command = [layout.SOURCE / "lab" / "node-init.sh", name, directory(name), binaries, layout.LOGS / name]
    unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "/bin/sh"]
    return Daemon(name, [*unshare, *init], netns=name, group=cgroups.daemons_group(name), answers=lambda: healthy(name))


def start(name: str, image_store: Path) -> None:
    """Switch the node on; what an earlier life of it left behind is cleared away first."""
    daemon = node(name)
    if daemon.runs():
        return
    cgroups.kill_all(cgroups.node_group(name))
    for leftover in cgroups.hierarchies():
        if (leftover / cgroups.node_group(name) / "kubepods").exists():
            cgroups.remove(f"{cgroups.node_group(name)}/kubepods")
    prepare(name, image_store)
    daemon.start()


def load_image(name: str, archive: Path) -> None:
    """Import the images of an archive; NodeOffError if the node is off, CommandFailedError if it cannot be read."""
    process = node(name).process()
    if process is None:
        raise NodeOffError(f"expected: node {name} to be on; seen: it is off; look next: `python -m lab status`")
    first = process.children()[0].pid
    ctr: Command = [materials.program("ctr"), "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io"]
    run("nsenter", f"--target={first}", "--mount", *ctr, "images", "import", "--local", archive)


def crash(name: str) -> None:
    """Take the node's power away: every process of it ends at once, its disks stay."""
    if (process := node(name).process()) is not None:
        process.kill()
    cgroups.kill_all(cgroups.node_group(name))


def healthy(name: str) -> bool:
    """Whether the kubelet says so, and the API server takes the node for Ready."""
    try:
        answer = requests.get(f"http://{layout.node_address(name)}:{KUBELET_HEALTH_PORT}/healthz", timeout=2)
    except requests.RequestException:
        return False
    found = controlplane.read(f"api/v1/nodes/{name}")
    conditions = found.get("status", {}).get("conditions", [])
    return answer.ok and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
