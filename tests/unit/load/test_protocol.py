"""The share of a pod: what it is told, and where it finds its master."""

from __future__ import annotations

from pathlib import Path

import yaml

from fixtures.load.in_cluster import assignments
from fixtures.load.plan import Share
from fixtures.load.protocol import PORT, parse_assignment
from tests.unit.load.conftest import PLAN


def test_part_reaches_the_pod_as_it_is() -> None:
    """Each has its share; the master, which asks the portal for nothing, is told no secret."""
    master, first, second = assignments(PLAN, "10.0.0.9", 2)

    assert [parse_assignment(each.to_json()) for each in (master, first, second)] == [master, first, second]
    assert (master.master, master.plan.headers) == ("", {})
    assert (first.share, second.share) == (Share(1, 2), Share(2, 2))
    assert (second.master, second.plan) == ("10.0.0.9", PLAN)


def test_port_of_the_master_is_open_to_workers_only() -> None:
    """The policy names the port that the code does."""
    policy = yaml.safe_load(Path("manifests/load/networkpolicy.yaml").read_text())["spec"]

    [rule] = policy["ingress"]
    assert rule == {"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": PORT}]}
