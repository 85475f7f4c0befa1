"""The brakes: conditions that abort a disturbance."""

from __future__ import annotations

import pytest

from fixtures.disruption.brakes import FREEZE, Brakes, FrozenError
from fixtures.lease.holder import Holder
from fixtures.lease.lease import LeaseLostError, RunLease
from tests.unit.fakecluster import LEASES, FakeCluster
from tests.unit.fakeserver import served


def test_disturbance_is_given_up_for_three_reasons() -> None:
    """A freeze annotation, a spent error budget or a lost Lease aborts; otherwise nothing is raised."""
    cluster = FakeCluster()
    with served(cluster) as server:
        api = server.api()
        lease = RunLease(api, "portal", "acceptance-backstage", Holder("me", "jane"), renewal=0.01)
        lease.acquire()
        brakes = Brakes(lease, api, "portal")

        brakes()
        with pytest.raises(AssertionError) as failed:
            brakes.with_budget(lambda: "9 requests failed, 8 may in all")()
        cluster.put("/api/v1/namespaces", {"metadata": {"name": "portal", "annotations": {FREEZE: "release"}}})
        with pytest.raises(FrozenError) as frozen:
            brakes()
        lease.release()
        cluster.remove(LEASES, "acceptance-backstage")
        # The next write finds the Lease gone; after that the brakes report it too.
        with pytest.raises(LeaseLostError):
            lease.annotate("a", "b")
        with pytest.raises(LeaseLostError):
            brakes()

    assert str(failed.value) == (
        "expected: users to be served while a node is drained\n"
        "seen: 9 requests failed, 8 may in all; given up\nlook next: the requests, in folder drain of the results"
    )
    assert str(frozen.value) == (
        "expected: a deployment that may be disturbed\nseen: backstage-acceptance/freeze: release\n"
        "look next: kubectl annotate namespace portal backstage-acceptance/freeze-, once the reason is gone"
    )
