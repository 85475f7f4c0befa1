"""Load made by pods: how it is steered, and what is said when one of them is lost."""

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
from tests.unit.load.conftest import NAMES, PLAN, Kubelet, Memory


def test_load_of_pods_is_written_as_if_it_was_made_here(
    cluster: InClusterLoad, kubelet: Kubelet, memory: Memory, tmp_path: Path
) -> None:
    """Noted before it is made, steered by the master's input, gone and forgotten at the end."""
    with cluster.generate_load(PLAN, tmp_path / "load") as load:
        assert set(kubelet.pods) == set(NAMES)
        assert memory.written == ['[{"run": "me", "what": "load 1f in acceptance-load", "EndLoad": {"load": "1f"}}]']
        assert load.processes == 2
        load.set_rate(pressure=12.5)
        wait_for("a row", load.rows, until=bool, within=5, every=0.01, look_next="")

    assert load.rows() == (LoadRow(1, PRESSURE, 0.1, "good"),)
    assert [each.sent[PRESSURE] for each in load.ticks()] == [0, 9]
    assert kubelet.pods == {}
    assert memory.written[-1] == "[]"
    assert kubelet.heard[NAMES[0]][1:] == ['{"pressure": 12.5}', "end"]
    assert [len(kubelet.heard[name]) for name in NAMES[1:]] == [1, 1]
    assert not any("secret" in json.dumps(each) for each in (kubelet.pods, memory.written))


def test_silence_tells_pods_that_nobody_is_there(
    cluster: InClusterLoad, kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So all of them are told again and again that somebody is."""
    monkeypatch.setattr(in_cluster, "KEEPALIVE_INTERVAL", 0.01)

    with cluster.generate_load(PLAN, tmp_path / "load"):
        wait_for(
            "a word to each",
            lambda: [kubelet.heard[name].count("{}") for name in NAMES],
            until=lambda counts: all(count > 1 for count in counts),
            within=5,
            every=0.01,
            look_next="",
        )


def test_lost_worker_leaves_no_verdict(cluster: InClusterLoad, kubelet: Kubelet, tmp_path: Path) -> None:
    """Nobody knows what was offered; one sentence with the last that it said, and everything is removed."""
    kubelet.lost = NAMES[2]

    def lost() -> None:
        with cluster.generate_load(PLAN, tmp_path / "load") as load:
            load.set_rate(pressure=1)
            wait_for("its end", load.check, until=lambda _: False, within=5, every=0.01, look_next="")

    with pytest.raises(NoVerdictError) as failed:
        lost()

    assert str(failed.value) == (
        "expected: a master and 2 workers that make load\n"
        "seen: load-1f-worker-2 ended: MemoryError\n"
        f"look next: {tmp_path}/load; kubectl -n acceptance-load get events --sort-by=.lastTimestamp"
    )
    assert kubelet.pods == {}


def test_master_that_does_not_tell_the_last_leaves_no_verdict(
    cluster: InClusterLoad, kubelet: Kubelet, tmp_path: Path
) -> None:
    """Rows may be missing."""
    kubelet.mute = True
    with cluster.generate_load(PLAN, tmp_path / "load") as load:
        pass

    with pytest.raises(NoVerdictError, match=r"seen: load-1f-master ended: nothing said"):
        load.ticks()


def test_clock_that_differs_leaves_no_verdict(cluster: InClusterLoad, kubelet: Kubelet, tmp_path: Path) -> None:
    """Times of there are set against times of here."""
    kubelet.clock = lambda: time.time() + 60

    with pytest.raises(NoVerdictError, match=r"seen: (59|60) s ahead"), cluster.generate_load(PLAN, tmp_path / "load"):
        pass


def test_pods_that_cannot_run_leave_no_verdict_at_once(
    cluster: InClusterLoad, kubelet: Kubelet, tmp_path: Path
) -> None:
    """Waiting changes nothing of an image that is not there."""
    kubelet.state = {"waiting": {"reason": "ImagePullBackOff"}}

    with pytest.raises(NoVerdictError) as failed, cluster.generate_load(PLAN, tmp_path / "load"):
        pass

    assert str(failed.value) == (
        "expected: 3 pods that make load to run\n"
        f"seen: {', '.join(f'{name} ImagePullBackOff' for name in NAMES)}\n"
        "look next: kubectl -n acceptance-load get events --sort-by=.lastTimestamp"
    )
    assert kubelet.pods == {}
