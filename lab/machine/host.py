"""The machine: what must be true of it before anything is changed, and the packages it lacks."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import platform
import shutil
from pathlib import Path

import psutil

from lab import layout
from lab.machine import cgroups
from lab.machine.network import INTERFACE
from lab.machine.processes import CommandFailedError, run

GIB = 1 << 30
MEMORY = 8 * GIB
"""Five Backstage replicas at their limit, the platform, and the host."""
DISK = {"state": 6 * GIB, "cache": 25 * GIB}
"""Running, and building with empty caches: 11 GiB of Go caches, 5 GiB of artifacts, drafts."""
DISK_WHEN_BUILT = 4 * GIB

PROGRAMS = {
    "runc": "runc",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "chromium": "chromium",
    "iptables": "iptables",
    "busybox": "busybox-static",
    "update-ca-certificates": "ca-certificates",
}
"""Program to the Debian package that brings it."""

FILESYSTEMS = ("overlay", "tmpfs")

MOUNT_POINTS = (
    "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet", "/etc/cni", "/etc/kubernetes", "/var/log/pods",
    "/var/log/containers",
)  # fmt: skip
"""Directories over which every node mounts its own: the host needs them to exist. `down` removes those it had not."""

SYSCTLS = {"fs.inotify.max_user_instances": 1024, "fs.inotify.max_user_watches": 524288}
"""Global settings of the kernel that the lab raises, if they are lower: three kubelets and containerds watch files."""
SYSCTLS_OF_THE_KUBELET = ("vm.overcommit_memory", "vm.panic_on_oom", "kernel.panic", "kernel.panic_on_oops",
                          "kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes")  # fmt: skip
"""Global settings that a kubelet writes when it starts; put back by `down`."""


class UnfitHostError(Exception):
    """The lab cannot run on this machine; the text says what was expected, what was seen, where to look."""


def check(*, cache_is_complete: bool) -> None:
    """Refuse a machine that the lab cannot run on, before anything of it is changed."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        _refuse("Linux on x86-64", f"{platform.system()} on {platform.machine()}", "docs/lab.md, 'Where it runs'")
    if os.geteuid() != 0:
        _refuse("root", f"user id {os.geteuid()}", "run it with sudo")
    release = _release()
    if release not in ("debian 12", "debian 13"):
        _refuse("Debian 12 or 13", release, "docs/lab.md, 'Where it runs'")
    memory = psutil.virtual_memory().total
    if memory < MEMORY:
        _refuse(f"{MEMORY // GIB} GiB of memory", f"{memory / GIB:.1f} GiB", "free -g")
    check_disk(layout.STATE, DISK["state"])
    check_disk(layout.CACHE, DISK_WHEN_BUILT if cache_is_complete else DISK["cache"])
    _check_kernel()
    check_addresses()


def _refuse(expected: str, seen: str, look_next: str) -> None:
    raise UnfitHostError(f"expected: {expected}; seen: {seen}; look next: {look_next}")


def _release() -> str:
    values = platform.freedesktop_os_release()
    return f"{values.get('ID')} {values.get('VERSION_ID')}"


def check_disk(path: Path, needed: int) -> None:
    """Refuse a disk with less than the needed bytes free for the path, which need not exist."""
    existing = next(place for place in (path, *path.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        _refuse(f"{needed // GIB} GiB free for {path}", f"{free / GIB:.1f} GiB", f"df -h {existing}")


def _check_kernel() -> None:
    cgroups.hierarchies()
    if not Path("/proc/sys/user/max_net_namespaces").exists() or not Path("/proc/self/ns/net").exists():
        _refuse("network namespaces", "a kernel without them", "zgrep NET_NS /proc/config.gz")
    for name in FILESYSTEMS:
        if name not in Path("/proc/filesystems").read_text().split() and not _loads(name):
            _refuse(f"file system {name}", "a kernel without it", f"modprobe {name}")


def _loads(module: str) -> bool:
    try:
        run("modprobe", module)
    except (CommandFailedError, FileNotFoundError):
        return False
    return True


def check_addresses() -> None:
    """Refuse a machine that reaches other networks at the lab's addresses."""
    wanted = [ipaddress.ip_network(net) for net in (layout.NETWORK, layout.POD_NETWORK, layout.SERVICE_NETWORK)]
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        device, destination, _, _, _, _, _, mask, *_ = line.split()
        network = ipaddress.ip_network(f"{_address(destination)}/{_address(mask)}")
        for net in wanted:
            if device != INTERFACE and network.prefixlen and network.overlaps(net):
                _refuse(
                    f"address range {net} unused", f"route {network} through {device}", f"ip route show dev {device}"
                )


def _address(little_endian_hex: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(bytes.fromhex(little_endian_hex)[::-1])


def check_nftables() -> None:
    """Refuse a kernel without nftables: pods' services and the metadata server's address depend on it."""
    try:
        run("nft", "list", "tables")
    except CommandFailedError as error:
        raise UnfitHostError(f"expected: nftables; seen: {error}; look next: modprobe nf_tables") from error


def install_packages() -> list[str]:
    """Install the Debian packages that are missing; their names."""
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", env=environment)
        run("apt-get", "install", "-y", "--no-install-recommends", *missing, env=environment)
    return missing


def make_mount_points(file: Path) -> None:
    """Make the directories that nodes mount over, and remember which of them had not been there."""
    missing = [path for path in MOUNT_POINTS if not Path(path).exists()]
    file.write_text(json.dumps(missing))
    for path in missing:
        Path(path).mkdir(parents=True)


def remove_mount_points(file: Path) -> None:
    """Remove the directories that `make_mount_points` made; by then they are as empty as they were."""
    for path in json.loads(file.read_text()) if file.exists() else []:
        with contextlib.suppress(OSError):
            Path(path).rmdir()


def save_sysctls(file: Path) -> None:
    """Remember the kernel's global settings, and raise those that the lab needs higher."""
    if not file.exists():
        names = (*SYSCTLS, *SYSCTLS_OF_THE_KUBELET)
        file.write_text(
            json.dumps({name: _sysctl(name).read_text().strip() for name in names if _sysctl(name).exists()})
        )
    for name, least in SYSCTLS.items():
        if int(_sysctl(name).read_text()) < least:
            _sysctl(name).write_text(str(least))


def restore_sysctls(file: Path) -> None:
    """Put the kernel's global settings back as `save_sysctls` found them."""
    if not file.exists():
        return
    for name, value in json.loads(file.read_text()).items():
        if _sysctl(name).read_text().strip() != value:
            _sysctl(name).write_text(value)


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")
