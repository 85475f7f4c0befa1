"""The assignment of a pod: its share of the load and the address of its master."""

from __future__ import annotations

from pathlib import Path

import yaml

from fixtures.load.in_cluster import assignments
from fixtures.load.plan import Share
from fixtures.load.protocol import PORT, parse_assignment
from tests.unit.load.conftest import PLAN


def test_part_reaches_the_pod_as_it_is() -> None:
    """Each worker has its share; the master sends no requests, so it gets no credentials."""
    master, first, second = assignments(PLAN, "10.0.0.9", 2)

    assert [parse_assignment(each.to_json()) for each in (master, first, second)] == [master, first, second]
    assert (master.master, master.plan.headers) == ("", {})
    assert (first.share, second.share) == (Share(1, 2), Share(2, 2))
    assert (second.master, second.plan) == ("10.0.0.9", PLAN)


def test_port_of_the_master_is_open_to_workers_only() -> None:
    """The NetworkPolicy must name the same port as the code."""
    policy = yaml.safe_load(Path("manifests/load/networkpolicy.yaml").read_text())["spec"]

    [rule] = policy["ingress"]
    assert rule == {"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": PORT}]}
