"""Whole runs against an API server at its worst: never a false verdict, and in the end nothing is left.

Here a few of them. `STORMS=100 pytest tests/unit/test_storm.py` takes half a minute; what a seed does to which request
depends on timing, too.
"""

from __future__ import annotations

import json
import os
import random
import threading
from contextlib import suppress

import pytest

from fixtures.api import Patience
from fixtures.blast_radius import Limits, planned
from fixtures.cordon import ANNOTATION
from fixtures.drain import Drain, drained
from fixtures.holder import Holder
from fixtures.journal import ANNOTATION as JOURNAL
from fixtures.journal import Journal, loaded
from fixtures.lease import RunLease
from fixtures.restore import Hands, restore
from tests.unit.apiserver import Answer, Request
from tests.unit.fakecluster import BACKSTAGE, LEASES, PODS, FakeCluster, status
from tests.unit.fakeserver import Server, served

STORMS = int(os.environ.get("STORMS", "2"))
WEATHER = (
    *[status(429, "TooManyRequests", "slow down")] * 3,
    *[status(500, "InternalError"), status(503, "Unavailable"), status(504, "Timeout")],
    *[Answer(502, "<html>Bad Gateway</html>"), Answer(0, "")],
)
GONE = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}})


class Storm:
    """Disturbs requests in bursts, for as long as it has strength."""

    def __init__(self, seed: int, cluster: FakeCluster) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a seed is the point
        self.cluster = cluster
        self.burst = 3
        self.strength = 60
        self.lock = threading.Lock()

    def __call__(self, request: Request) -> Answer | None:
        """What happens to a request instead of its answer, if anything."""
        with self.lock:
            self.burst = self.burst - 1 if self.burst else self.chance.choice((0, 0, 0, 0, 2, 4))
            if not self.burst or not self.strength:
                return None
            self.strength -= 1
            what, weather = self.chance.random(), self.chance.choice(WEATHER)
        if "watch=true" in request.path:
            return Answer(200, GONE + "\n") if what < 0.5 else weather
        if request.method in ("PUT", "PATCH") and what < 0.2:
            return status(409, "Conflict", "the object has been modified")
        if what < 0.4:  # done, but nobody is told
            with self.cluster.lock, suppress(KeyError):
                getattr(self.cluster, f"_{request.method.lower()}")(request.path.partition("?")[0], request)
            return Answer(0, "")
        return weather


def whole_run(server: Server) -> Drain:
    """Lease, what was left, drain, everything given back."""
    api = server.api(Patience(within=5, every=0.005, silence=0.1))
    lease = RunLease(api, "portal", "acceptance-backstage", Holder.here(), renewal=0.05)
    left = lease.take()
    journal = Journal(lease, loaded(left.get(JOURNAL, "")))
    try:
        restore(journal, str(lease), Hands(api, lambda _: None, lambda *_: None, {}))
        plan = planned("node-1", own="portal", api=api, limits=Limits(seconds=6))
        with drained(plan, api, journal, lease=str(lease), go_on=lease.check) as drain:
            return drain
    finally:
        lease.release(keep=bool(journal.entries))


@pytest.mark.parametrize("seed", range(STORMS))
def test_storm_changes_nothing_about_the_verdict(seed: int) -> None:
    """The drain succeeds all the same. The stranger's cordon stays, ours is gone."""
    cluster = FakeCluster()
    cluster.pod("backstage-c", "node-1", BACKSTAGE)
    cluster.put("/api/v1/nodes", {"metadata": {"name": "node-3"}, "spec": {"unschedulable": True}})
    cluster.script = Storm(seed, cluster)
    cluster.deaf = seed % 4 == 3
    with served(cluster) as server:
        drain = whole_run(server)

    nodes = cluster.collections["/api/v1/nodes"]
    assert drain.left_alone == ()
    assert [name for name, node in nodes.items() if node["spec"].get("unschedulable")] == ["node-3"]
    assert not any(ANNOTATION in node["metadata"].get("annotations", {}) for node in nodes.values())
    assert not any(pod["spec"]["nodeName"] == "node-1" for pod in cluster.collections[PODS].values())
    assert cluster.collections[LEASES] == {}
