"""Load from pods in the cluster: how it is controlled, and the error when a pod is lost."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from fixtures.load import in_cluster
from fixtures.load.in_cluster import InClusterLoad
from fixtures.load.plan import PRESSURE, LoadRow
from fixtures.outcomes import NoVerdictError
from fixtures.waiting import wait_for
from tests.unit.load.conftest import NAMES, PLAN, FakeApiServer, FakeLease


def test_load_of_pods_is_written_as_if_it_was_made_here(
    cluster: InClusterLoad, api_server: FakeApiServer, lease: FakeLease, tmp_path: Path
) -> None:
    """The journal entry comes before the pods; rates go to the master's stdin; pods and entry are gone at the end."""
    with cluster.generate_load(PLAN, tmp_path / "load") as load:
        assert set(api_server.pods) == set(NAMES)
        assert lease.written == ['[{"run": "me", "what": "load 1f in acceptance-load", "EndLoad": {"load": "1f"}}]']
        assert load.processes == 2
        load.set_rate(pressure=12.5)
        wait_for("a row", load.rows, until=bool, within=5, every=0.01, look_next="")

    assert load.rows() == (LoadRow(1, PRESSURE, 0.1, "good"),)
    assert [each.sent[PRESSURE] for each in load.ticks()] == [0, 9]
    assert api_server.pods == {}
    assert lease.written[-1] == "[]"
    assert api_server.received[NAMES[0]][1:] == ['{"pressure": 12.5}', "end"]
    assert [len(api_server.received[name]) for name in NAMES[1:]] == [1, 1]
    assert not any("secret" in json.dumps(each) for each in (api_server.pods, lease.written))


def test_silence_tells_pods_that_nobody_is_there(
    cluster: InClusterLoad, api_server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pod ends by itself without input, so all of them get keepalives."""
    monkeypatch.setattr(in_cluster, "KEEPALIVE_INTERVAL", 0.01)

    with cluster.generate_load(PLAN, tmp_path / "load"):
        wait_for(
            "a word to each",
            lambda: [api_server.received[name].count("{}") for name in NAMES],
            until=lambda counts: all(count > 1 for count in counts),
            within=5,
            every=0.01,
            look_next="",
        )


def test_lost_worker_leaves_no_verdict(cluster: InClusterLoad, api_server: FakeApiServer, tmp_path: Path) -> None:
    """With a worker lost the offered load is unknown; the error quotes its last line, and all pods are deleted."""
    api_server.crashing_pod = NAMES[2]

    def lose_worker() -> None:
        with cluster.generate_load(PLAN, tmp_path / "load") as load:
            load.set_rate(pressure=1)
            wait_for("its end", load.check, until=lambda _: False, within=5, every=0.01, look_next="")

    with pytest.raises(NoVerdictError) as failed:
        lose_worker()

    assert str(failed.value) == (
        "expected: a master and 2 workers that make load\n"
        "seen: load-1f-worker-2 ended: MemoryError\n"
        f"look next: {tmp_path}/load; kubectl -n acceptance-load get events --sort-by=.lastTimestamp"
    )
    assert api_server.pods == {}


def test_master_that_does_not_tell_the_last_leaves_no_verdict(
    cluster: InClusterLoad, api_server: FakeApiServer, tmp_path: Path
) -> None:
    """Without the final report, rows may be missing."""
    api_server.closes_silently = True
    with cluster.generate_load(PLAN, tmp_path / "load") as load:
        pass

    with pytest.raises(NoVerdictError, match=r"seen: load-1f-master ended: nothing said"):
        load.ticks()


def test_clock_that_differs_leaves_no_verdict(
    cluster: InClusterLoad, api_server: FakeApiServer, tmp_path: Path
) -> None:
    """Timestamps of the pods are compared with those of this machine."""
    api_server.clock = lambda: time.time() + 60

    with pytest.raises(NoVerdictError, match=r"seen: (59|60) s ahead"), cluster.generate_load(PLAN, tmp_path / "load"):
        pass


def test_pods_that_cannot_run_leave_no_verdict_at_once(
    cluster: InClusterLoad, api_server: FakeApiServer, tmp_path: Path
) -> None:
    """An image that cannot be pulled does not get better by waiting."""
    api_server.state = {"waiting": {"reason": "ImagePullBackOff"}}

    with pytest.raises(NoVerdictError) as failed, cluster.generate_load(PLAN, tmp_path / "load"):
        pass

    assert str(failed.value) == (
        "expected: 3 pods that make load to run\n"
        f"seen: {', '.join(f'{name} ImagePullBackOff' for name in NAMES)}\n"
        "look next: kubectl -n acceptance-load get events --sort-by=.lastTimestamp"
    )
    assert api_server.pods == {}
