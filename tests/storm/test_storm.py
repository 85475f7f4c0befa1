"""Whole runs against an API server at its worst: never a false verdict, and in the end nothing is left.

A hundred storms, each made by its number: what happens to which request follows from the number and from how often
that request was sent before. `pytest tests/storm -k "[17]"` makes one again. Of twenty storms eighteen strike a drain
that succeeds; in two the truth is that it cannot, and that must be said then, too.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from fixtures.api.requests import RetryPolicy
from fixtures.disruption.blast_radius import Limits, planned
from fixtures.disruption.cordon import ANNOTATION
from fixtures.disruption.drain import Drain, drained
from fixtures.disruption.restore import Hands, restore
from fixtures.lease.holder import Holder
from fixtures.lease.journal import ANNOTATION as JOURNAL
from fixtures.lease.journal import Journal, load_entries
from fixtures.lease.lease import RunLease
from fixtures.outcomes import NoVerdictError
from fixtures.waiting import DeadlinePassedError
from tests.unit.apiserver import Answer, Request
from tests.unit.fakecluster import BACKSTAGE, BUDGETS, LEASES, PODS, FakeCluster, refused_by_budget, status
from tests.unit.fakeserver import Server, served

STORMS = range(100)
TIMEOUT = 0.15
"""Seconds that the client waits for an answer."""
STRENGTH = 6
"""How often a storm strikes requests of one kind, at most: in the end every request gets through."""

WEATHER = {
    "429": status(429, "TooManyRequests", "slow down"),
    "500": status(500, "InternalError"),
    "502 and a page": Answer(502, "<html>Bad Gateway</html>"),
    "503": status(503, "Unavailable"),
    "504": status(504, "Timeout"),
    "no answer": Answer(0, ""),
}
FORGOTTEN = {
    "410": status(410, "Expired", "too old resource version"),
    "410 in the stream": Answer(200, json.dumps({"type": "ERROR", "object": json.loads(status(410, "Expired").body)})),
}
CONFLICT = status(409, "Conflict", "the object has been modified")
TWO_BUDGETS = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."


class Storm:
    """Strikes requests in bursts, for as long as it has strength."""

    def __init__(self, seed: int, cluster: FakeCluster) -> None:
        self.seed, self.cluster = seed, cluster
        self.lock = threading.Lock()
        self.chances: dict[str, random.Random] = {}
        self.burst: Counter[str] = Counter()
        self.strength: Counter[str] = Counter()
        self.struck: list[str] = []
        cluster.deaf = seed % 4 == 3
        if cluster.deaf:
            self.struck.append("all watches silent")

    def __call__(self, request: Request) -> Answer | None:
        """What happens to a request instead of its answer, if anything."""
        path = request.path.partition("?")[0]
        kind = f"{'WATCH' if 'watch=true' in request.path else request.method} {path}"
        with self.lock:
            chance = self.chances.setdefault(kind, random.Random(f"{self.seed} {kind}"))  # noqa: S311 - made again
            if not self._strikes(kind, chance):
                return self.truth(request)
            what = self._what(kind, chance)
            self.struck.append(f"{what} to {kind}")
        return self._answer(what, request, path)

    def _strikes(self, kind: str, chance: random.Random) -> bool:
        if not self.burst[kind]:
            self.burst[kind] = chance.choice((0, 0, 0, 1, 2, 4))
        elif self.strength[kind] < STRENGTH:
            self.burst[kind] -= 1
            self.strength[kind] += 1
            return True
        return False

    def _what(self, kind: str, chance: random.Random) -> str:
        """A misbehaviour that this kind of request can meet."""
        method, late = kind.partition(" ")[0], ("slow", "too slow", "done, but no answer")
        of_its_own = {"WATCH": tuple(FORGOTTEN), "PUT": ("409", *late), "PATCH": ("409", *late)}.get(method, late)
        return chance.choice(of_its_own if chance.random() < 0.5 else tuple(WEATHER))

    def _answer(self, what: str, request: Request, path: str) -> Answer | None:
        match what:
            case "409":
                return CONFLICT
            case "slow":
                threading.Event().wait(TIMEOUT / 5)
                return self.truth(request)
            case "too slow" | "done, but no answer":
                self._do(request, path)
                threading.Event().wait(TIMEOUT * 1.2 if what == "too slow" else 0)
                return Answer(0, "")
            case _:
                return (WEATHER | FORGOTTEN)[what]

    def _do(self, request: Request, path: str) -> None:
        if not self.truth(request):
            with self.cluster.lock:
                getattr(self.cluster, f"_{request.method.lower()}")(path, request)

    def truth(self, request: Request) -> Answer | None:
        """What the server answers by itself, where that is other than the cluster's own answer."""
        refused = self.seed % 20 == 9 and "backstage" in request.path and request.path.endswith("/eviction")
        return status(500, "InternalError", TWO_BUDGETS) if refused else None

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Says of every error which storm it was, and what it did."""
        try:
            yield
        except BaseException as error:
            error.add_note(f"storm {self.seed}: {'; '.join(self.struck)}")
            raise


def whole_run(server: Server, seconds: float) -> Drain:
    """Lease, what was left, drain, everything given back."""
    api = server.api(RetryPolicy(within=20, every=0.005, watch_idle_timeout=0.1), TIMEOUT)
    lease = RunLease(api, "portal", "acceptance-backstage", Holder.here(), renewal=0.05)
    left = lease.acquire()
    journal = Journal(lease, load_entries(left.get(JOURNAL, "")))
    try:
        restore(journal, str(lease), Hands(api, lambda _: None, lambda *_: None, {}))
        plan = planned("node-1", own="portal", api=api, limits=Limits(seconds=seconds))
        with drained(plan, api, journal, lease=str(lease), go_on=lease.check) as drain:
            return drain
    finally:
        lease.release(keep=bool(journal.entries))


@pytest.fixture
def cluster() -> FakeCluster:
    """Two Backstage pods on the node that is drained, one elsewhere; a stranger has closed another node."""
    cluster = FakeCluster()
    cluster.pod("backstage-c", "node-1", BACKSTAGE)
    cluster.put("/api/v1/nodes", {"metadata": {"name": "node-3"}, "spec": {"unschedulable": True}})
    return cluster


def assert_nothing_is_left(cluster: FakeCluster) -> None:
    """The stranger's cordon stays, ours is gone, so are notes and Lease."""
    nodes = cluster.collections["/api/v1/nodes"]
    assert [name for name, node in nodes.items() if node["spec"].get("unschedulable")] == ["node-3"]
    assert not any(ANNOTATION in node["metadata"].get("annotations", {}) for node in nodes.values())
    assert cluster.collections[LEASES] == {}


def still_there(cluster: FakeCluster) -> list[str]:
    """Pods on the node that is drained."""
    return [name for name, pod in cluster.collections[PODS].items() if pod["spec"]["nodeName"] == "node-1"]


@pytest.mark.parametrize("seed", [seed for seed in STORMS if seed % 10 != 9])
def test_drain_succeeds_in_any_storm(seed: int, cluster: FakeCluster) -> None:
    """All that a drain evicts is gone."""
    cluster.script = storm = Storm(seed, cluster)

    with storm.named(), served(cluster) as server:
        drain = whole_run(server, seconds=20)

        assert {each.decision for each in drain.answers.values()} <= {"evicted", "gone"}
        assert still_there(cluster) == []
        assert_nothing_is_left(cluster)


@pytest.mark.parametrize("seed", [seed for seed in STORMS if seed % 20 == 9])
def test_pod_that_can_never_be_evicted_breaks_the_promise_in_any_storm(seed: int, cluster: FakeCluster) -> None:
    """Two budgets cover it: a 500 that is an answer, among many that are none."""
    cluster.script = storm = Storm(seed, cluster)

    with storm.named(), served(cluster) as server:
        with pytest.raises(AssertionError, match=r"pod portal/backstage-[ac] to be evicted\nseen: This pod has more"):
            whole_run(server, seconds=20)

        assert still_there(cluster) == ["backstage-a", "backstage-c"]
        assert_nothing_is_left(cluster)


@pytest.mark.parametrize("seed", [seed for seed in STORMS if seed % 20 == 19])
def test_budget_that_never_allows_it_breaks_the_promise_in_any_storm(seed: int, cluster: FakeCluster) -> None:
    """A 429 that is an answer, among many that are none. Where the last was none, nothing is said."""
    [budget] = cluster.collections[BUDGETS].values()
    cluster.put(BUDGETS, {**budget, "spec": {**budget["spec"], "minAvailable": 3}})
    cluster.pod("other", "node-2", BACKSTAGE, ready=False)
    cluster.script = storm = Storm(seed, cluster)
    refusal = json.loads(refused_by_budget().body)["details"]["causes"][0]["message"]

    with storm.named(), served(cluster) as server:
        with pytest.raises((DeadlinePassedError, NoVerdictError)) as failed:
            whole_run(server, seconds=2)

        seen = str(failed.value).splitlines()[1]
        assert seen.startswith("seen: on node-1 still backstage-a, backstage-c; portal/backstage-a ")
        assert isinstance(failed.value, DeadlinePassedError) == (f"refused by budget: {refusal}" in seen)
        assert isinstance(failed.value, NoVerdictError) == (seen.count("undecided") == 2)
        assert_nothing_is_left(cluster)
