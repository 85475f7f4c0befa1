"""The lab's network: a bridge in a namespace of its own, one namespace per member, one leg on the host.

The bridge is not on the host, so that the host's firewall (Docker's too) never sees what the members
send each other. The host has one interface and the routes to the pods; nothing else of it changes.
"""

from __future__ import annotations

import json
from pathlib import Path

from lab import layout
from lab.machine.processes import netns_name, run

INTERFACE = "gke-lab"
"""The host's leg."""
BRIDGE = "bridge"
"""Member without an address that holds the bridge and the other end of every other member's interface."""


def members() -> dict[str, tuple[str, ...]]:
    """Every namespace on the network and its addresses, the first being the one it speaks from."""
    return {
        "control": (layout.CONTROL_ADDRESS,),
        "google": (layout.GOOGLE_ADDRESS, *layout.DATABASE_ADDRESSES),
        "gateway": layout.GATEWAY_ADDRESSES,
        **{node: (layout.node_address(node),) for node in layout.NODES},
    }


NAMESPACES = Path("/run/netns")
NAMESPACES_WERE_MOUNTED = layout.STATE / "netns-was-mounted"
"""There if `ip netns` had been used on this machine before the lab did, and so its mount is not the lab's."""


def start() -> None:
    """Build the network from nothing."""
    stop()
    if NAMESPACES.is_mount():
        NAMESPACES_WERE_MOUNTED.touch()
    _make_namespace(BRIDGE)
    _ip(BRIDGE, "link add lab type bridge")
    _ip(BRIDGE, "link set lab up")
    run("ip", *f"link add {INTERFACE} type veth peer name host netns {netns_name(BRIDGE)}".split())
    _ip(BRIDGE, "link set host master lab up")
    run("ip", *f"addr add {layout.HOST_ADDRESS}/24 dev {INTERFACE}".split())
    run("ip", *f"link set {INTERFACE} up".split())
    for member, addresses in members().items():
        _join(member, addresses)
    for node in layout.NODES:
        run("ip", *f"route add {layout.pod_network(node)} via {layout.node_address(node)}".split())


def _join(member: str, addresses: tuple[str, ...]) -> None:
    _make_namespace(member)
    _ip(member, f"link add eth0 type veth peer name {member} netns {netns_name(BRIDGE)}")
    _ip(BRIDGE, f"link set {member} master lab up")
    for address in addresses:
        _ip(member, f"addr add {address}/24 dev eth0")
    _ip(member, "link set eth0 up")
    _ip(member, f"route add default via {layout.HOST_ADDRESS}")
    for node in layout.NODES:
        if node != member:
            _ip(member, f"route add {layout.pod_network(node)} via {layout.node_address(node)}")
    if member in layout.NODES:
        # What is sent to a pod that is gone ends here, as on GKE. Without this the node would send it to its default
        # route, and tell the sender by ICMP redirect to do so itself: for minutes, also when a new pod has the address.
        _ip(member, f"route add blackhole {layout.pod_network(member)}")
        settings = {"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0"}
        for name, value in settings.items():
            run("sh", "-c", f"echo {value} > /proc/sys/net/{name}", netns=member)


def _make_namespace(member: str) -> None:
    run("ip", "netns", "add", netns_name(member))
    _ip(member, "link set lo up")


def _ip(member: str, command: str) -> None:
    run("ip", "-n", netns_name(member), *command.split())


def ready() -> bool:
    """Whether every namespace and the host's leg are there."""
    namespaces = (netns_name(member) for member in (BRIDGE, *members()))
    return Path("/sys/class/net", INTERFACE).exists() and all((NAMESPACES / name).exists() for name in namespaces)


def stop() -> None:
    """Remove the network, whatever is left of it; interfaces and routes go with their namespaces."""
    for path in NAMESPACES.glob("gke-lab-*"):
        run("ip", "netns", "delete", path.name)
    if NAMESPACES.is_mount() and not any(NAMESPACES.iterdir()) and not NAMESPACES_WERE_MOUNTED.exists():
        run("umount", NAMESPACES)
    if Path("/sys/class/net", INTERFACE).exists():
        run("ip", "link", "delete", INTERFACE)


def cut_off(member: str) -> None:
    """Take the member's cable out."""
    _ip(BRIDGE, f"link set {member} down")


def reconnect(member: str) -> None:
    """Put the member's cable back in."""
    _ip(BRIDGE, f"link set {member} up")


def connected(member: str) -> bool:
    """Whether the member's cable is in."""
    links = json.loads(run("ip", "-json", "-n", netns_name(BRIDGE), "link", "show", "dev", member))
    return "UP" in links[0]["flags"]


def filter_rules(member: str, rules: str) -> None:
    """Load nftables rules inside the member's namespace."""
    run("nft", "-f", "-", stdin=rules, netns=member)
