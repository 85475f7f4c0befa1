"""Checks that run before the machine is changed, and the comparison of its state before and after."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.machine import host
from lab.traces import differences

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
{interface}\t00001EAC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
"""/proc/net/route with a default route and 172.30.0.0/16 on an interface; addresses are little-endian."""


def fake_routes(monkeypatch: pytest.MonkeyPatch, interface: str) -> None:
    """Replace the machine's routes by those above."""
    read = Path.read_text
    text = ROUTES.format(interface=interface)
    monkeypatch.setattr(Path, "read_text", lambda path: text if path == Path("/proc/net/route") else read(path))


def test_used_address_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the route that overlaps with the lab's range, and its interface."""
    fake_routes(monkeypatch, "docker0")

    with pytest.raises(host.UnfitHostError) as refused:
        host.check_addresses()

    assert str(refused.value) == (
        "expected: address range 172.30.0.0/24 unused; seen: route 172.30.0.0/16 through docker0; "
        "look next: ip route show dev docker0"
    )


def test_own_interface_is_not_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The route of a running lab does not block another start."""
    fake_routes(monkeypatch, "gke-lab")

    host.check_addresses()


@pytest.mark.parametrize(
    ("release", "seen"), [({"ID": "ubuntu", "VERSION_ID": "24.04"}, "ubuntu 24.04"), ({"ID": "arch"}, "arch None")]
)
def test_other_distribution_is_refused(release: dict[str, str], seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message lists the supported distributions."""
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: release)
    monkeypatch.setattr("os.geteuid", lambda: 0)

    with pytest.raises(host.UnfitHostError, match=f"expected: Debian 12 or 13; seen: {seen}; look next: "):
        host.check(cache_is_complete=True)


def test_other_user_than_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Namespaces and control groups need root."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(host.UnfitHostError, match="expected: root; seen: user id 1000; look next: run it with sudo"):
        host.check(cache_is_complete=True)


def test_full_disk_is_refused(tmp_path: Path) -> None:
    """The check works for a path that does not exist yet, and names the required space."""
    with pytest.raises(host.UnfitHostError, match="expected: 1048576 GiB free for "):
        host.check_disk(tmp_path / "not" / "there" / "yet", 1 << 50)


def test_differences_name_what_came_and_what_went() -> None:
    """A second mount on the same point counts as left behind."""
    before = {"mount": ["/", "/proc"], "interface": ["eth0", "lo"]}
    after = {"mount": ["/", "/", "/proc"], "interface": ["gke-lab", "lo"]}

    assert differences(before, after) == [
        "left behind: mount /",
        "left behind: interface gke-lab",
        "gone: interface eth0",
    ]


def test_same_machine_has_no_differences() -> None:
    """The order does not matter."""
    assert differences({"mount": ["/", "/proc"]}, {"mount": ["/proc", "/"]}) == []
