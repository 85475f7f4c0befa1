"""Pods that make load: what they are made of, how they are steered and removed, what is said when one is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import WSMsgType, web
from kubernetes.client import Configuration

from fixtures.api.client import GuardedClient
from fixtures.api.requests import Api, RetryPolicy
from fixtures.disruption.restore import Hands, Restored, restore
from fixtures.environment.tables import LoadTable
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import Namespaces
from fixtures.lease.journal import EndLoad, Entry, Journal
from fixtures.load import in_cluster
from fixtures.load import pods as load_pods
from fixtures.load.in_cluster import InClusterLoad, assignments
from fixtures.load.plan import PRESSURE, USERS, LoadPlan, LoadRow, Share, Tick
from fixtures.load.pods import LoadPods
from fixtures.load.share import PORT, format_line, parse_assignment
from fixtures.objects.manifest import Field
from fixtures.outcomes import NoVerdictError
from fixtures.traffic.plan import Page
from fixtures.waiting import wait_for

Json = dict[str, Any]
PODS = "/api/v1/namespaces/acceptance-load/pods"
PLAN = LoadPlan(
    "https://portal.test", None, "PEM", {"Authorization": "Bearer secret"}, Page("/big.js", ""), longest=100
)
NAMES = ("load-1f-master", "load-1f-worker-1", "load-1f-worker-2")
SETTINGS = LoadTable(workers=2, image="suite:1")


class Kubelet:
    """A cluster in which pods run as soon as they are made; a master that says it sends what it is told to."""

    def __init__(self) -> None:
        self.pods: dict[str, Json] = {}
        self.heard: dict[str, list[str]] = {}
        self.streams: dict[str, web.WebSocketResponse] = {}
        self.state: Json = {"running": {}}
        self.clock = time.time
        self.lost = ""
        """Whose connection ends when the pressure is turned, with some last words."""
        self.mute = False
        """Whether the master goes without a word at the end."""

    def application(self) -> web.Application:
        """The API server."""
        app = web.Application()
        app.router.add_post(PODS, self._create)
        app.router.add_get(PODS, self._list)
        app.router.add_delete(f"{PODS}/{{name}}", self._delete)
        app.router.add_get(f"{PODS}/{{name}}/attach", self._attach)
        return app

    async def _create(self, request: web.Request) -> web.Response:
        pod = await request.json()
        name = pod["metadata"]["name"]
        status = {"podIP": "10.0.0.9", "containerStatuses": [{"name": "load", "state": self.state}]}
        pod["metadata"]["uid"] = name
        self.pods[name] = {**pod, "status": status, "spec": {**pod["spec"], "nodeName": "node-1"}}
        return web.json_response(pod, status=201)

    async def _list(self, request: web.Request) -> web.Response:
        if "watch" in request.query:
            await asyncio.sleep(0.05)
            return web.Response(text="")
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": list(self.pods.values())})

    async def _delete(self, request: web.Request) -> web.Response:
        self.pods.pop(request.match_info["name"])
        return web.json_response({})

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        stream = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await stream.prepare(request)
        self.streams[name] = stream
        heard = self.heard.setdefault(name, [])
        async for message in stream:
            if message.type is WSMsgType.BINARY:
                assert message.data[0] == 0
                heard.append(message.data[1:].decode().rstrip("\n"))
                if name.endswith("master"):
                    await self._lead(stream, heard[-1])
        return stream

    async def _lead(self, stream: web.WebSocketResponse, line: str) -> None:
        """Answer as the master does: a count at once, a row for each rate, the end of it all at the end."""
        if line == "end":
            if self.mute:
                await stream.close()
                return
            said = [format_line(Tick(0, {USERS: 2, PRESSURE: 9}, {USERS: 2, PRESSURE: 9})), "over"]
        elif "plan" in line:
            said = [format_line(Tick(self.clock(), {USERS: 0, PRESSURE: 0}, {USERS: 0, PRESSURE: 0}))]
        else:
            said = [format_line(LoadRow(1, PRESSURE, 0.1, "good"))] if PRESSURE in line else []
            if self.lost:
                await self.streams[self.lost].send_bytes(b"\2gevent says\nMemoryError\n")
                await self.streams[self.lost].close()
        text = "".join(f"{each}\n" for each in said).encode()
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):  # as lines may come
            await stream.send_bytes(b"\1" + piece)


@pytest.fixture
def kubelet() -> Kubelet:
    """The cluster."""
    return Kubelet()


@pytest.fixture
def client(kubelet: Kubelet, serve: Callable[[web.Application], str]) -> GuardedClient:
    """Of that cluster, with the permission to load and no other."""
    configuration = Configuration()
    configuration.host = serve(kubelet.application())
    names = Namespaces("backstage", "backstage", "mcp", load="acceptance-load")
    return GuardedClient(configuration, Guard(frozenset({"observe", "load"}), names))


class Memory:
    """Keeps a journal."""

    run = "me"

    def __init__(self) -> None:
        self.written: list[str] = []

    def annotate(self, _name: str, value: str, /) -> None:
        """Write."""
        self.written.append(value)


@pytest.fixture
def memory() -> Memory:
    """Of this run."""
    return Memory()


@pytest.fixture
def cluster(client: GuardedClient, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> InClusterLoad:
    """Where load `1f` is made."""
    monkeypatch.setattr("fixtures.load.pods.secrets.token_hex", lambda _: "1f")
    return InClusterLoad(client, Journal(memory), SETTINGS, within=5)


def test_part_reaches_the_pod_as_it_is() -> None:
    """Each has its share; the master, which asks the portal for nothing, is told no secret."""
    master, first, second = assignments(PLAN, "10.0.0.9", 2)

    assert [parse_assignment(each.to_json()) for each in (master, first, second)] == [master, first, second]
    assert (master.master, master.plan.headers) == ("", {})
    assert (first.share, second.share) == (Share(1, 2), Share(2, 2))
    assert (second.master, second.plan) == ("10.0.0.9", PLAN)


def test_pod_holds_nothing_secret_and_may_do_nothing() -> None:
    """As the standard `restricted` of pod security asks; no identity, a deadline, an input that ends with us."""
    pod = Field(load_pods.manifest("acceptance-load", "1f", "load-1f-master", "suite:1", lifetime=99.6))
    spec, [container] = pod["spec"], list(pod["spec"]["containers"])

    assert pod["metadata"]["labels"].mapping == {load_pods.LABEL: "1f"}
    assert (spec["activeDeadlineSeconds"].number, spec["restartPolicy"].text) == (100, "Never")
    assert spec["automountServiceAccountToken"].value is False
    assert spec["securityContext"]["runAsNonRoot"].value is True
    assert container["securityContext"]["readOnlyRootFilesystem"].value is True
    assert container["image"].text == "suite:1"
    assert (container["stdin"].value, container["stdinOnce"].value) == (True, True)


def test_port_of_the_master_is_open_to_workers_only() -> None:
    """The policy names the port that the code does."""
    policy = yaml.safe_load(Path("manifests/load/networkpolicy.yaml").read_text())["spec"]

    [rule] = policy["ingress"]
    assert rule == {"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": PORT}]}


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


def test_load_of_a_dead_run_is_removed(client: GuardedClient, kubelet: Kubelet, memory: Memory) -> None:
    """By the journal, where the environment has such pods; elsewhere the entry stays and is told."""
    api = Api(client, RetryPolicy(within=1, every=0.01))
    pods = LoadPods(api, "acceptance-load", 1, "1f")
    pods.create("suite:1", 100)
    entry = Entry("dead", str(pods), EndLoad("1f"))

    elsewhere = restored(Journal(memory, (entry,)), Hands(api, lambda _: None, lambda *_: None, {}))
    assert elsewhere.left[0] == (
        "load 1f in acceptance-load (run dead): the environment has no `[load] workers`; --restore with one that has"
    )
    here = restored(Journal(memory, (entry,)), Hands(api, lambda _: None, lambda *_: None, {}, "acceptance-load"))

    assert here.done == ("load 1f in acceptance-load (run dead)",)
    assert kubelet.pods == {}


def restored(journal: Journal, hands: Hands) -> Restored:
    """What came of it."""
    return restore(journal, "backstage/acceptance-backstage", hands)
