#!/bin/sh
# First process of a node: gives it file systems of its own, then keeps its three daemons running.
# It lives in its own mount, UTS, IPC and process namespaces and in the node's network namespace;
# when it is killed, everything on the node ends at once, and every mount made here goes with it.
#
# usage: node-init.sh NAME DIRECTORY BINARIES LOGS
set -eu
name=$1 directory=$2 binaries=$3 logs=$4
export PATH="$binaries:$PATH"

mount --make-rshared /
hostname "$name"
# A /run of its own: what containerd pins there must not stay on the host. Nor must leases of pod addresses,
# and those of pods that died with the node must not outlive it.
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib/cni
mkdir -p /run/containerd /run/netns
mount --bind "$directory/containerd" /var/lib/containerd
mount --bind "$directory/kubelet" /var/lib/kubelet
mount --make-rshared /var/lib/kubelet
mount --bind "$directory/cni" /etc/cni
mount --bind "$directory/kubernetes" /etc/kubernetes
mount --bind "$directory/pods" /var/log/pods
mount --bind "$directory/containers" /var/log/containers

nft -f "$directory/metadata.nft"

keep() {
    log=$1
    shift
    while true; do
        "$@" >>"$logs/$log.log" 2>&1 || true
        sleep 1
    done
}

keep containerd containerd --config "$directory/containerd.toml" &
# A kubelet that finds containerd silent exits; the wait spares a second, not a failure.
for _ in $(seq 100); do
    ctr --address /run/containerd/containerd.sock version >/dev/null 2>&1 && break
    sleep 0.1
done
keep kubelet kubelet --config "$directory/kubelet.yaml" --kubeconfig /etc/kubernetes/kubelet.conf \
    --hostname-override "$name" --node-ip "$(cat "$directory/address")" --node-labels "$(cat "$directory/labels")" &
keep kube-proxy kube-proxy --config "$directory/kube-proxy.yaml" &

trap 'exit 0' TERM
while true; do wait; sleep 1; done
