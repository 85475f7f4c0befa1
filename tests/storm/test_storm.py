"""Whole runs against an API server that fails in every way it can: no false verdict, and nothing is left behind.

There are a hundred storms. The number of a storm is the seed of its faults, so `pytest tests/storm -k "[17]"` repeats
one. In 18 of 20 storms the drain can succeed and must; in the other two it cannot, and the run must say so.
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
from fixtures.disruption.blast_radius import Limits, plan_drain
from fixtures.disruption.cordon import ANNOTATION
from fixtures.disruption.drain import Drain, drained
from fixtures.disruption.restore import RestoreContext, restore
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
"""Seconds for which the client waits for an answer."""
MAX_INJECTIONS = 6
"""Faults that a storm injects at most into requests of one kind, so that every request succeeds in the end."""

SERVER_ERRORS = {
    "429": status(429, "TooManyRequests", "slow down"),
    "500": status(500, "InternalError"),
    "502 and a page": Answer(502, "<html>Bad Gateway</html>"),
    "503": status(503, "Unavailable"),
    "504": status(504, "Timeout"),
    "no answer": Answer(0, ""),
}
EXPIRED = {
    "410": status(410, "Expired", "too old resource version"),
    "410 in the stream": Answer(200, json.dumps({"type": "ERROR", "object": json.loads(status(410, "Expired").body)})),
}
CONFLICT = status(409, "Conflict", "the object has been modified")
TWO_BUDGETS = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."


class Storm:
    """Injects faults into requests in bursts; what is injected follows from the seed and the requests' order."""

    def __init__(self, seed: int, cluster: FakeCluster) -> None:
        self.seed, self.cluster = seed, cluster
        self.lock = threading.Lock()
        self.random_by_kind: dict[str, random.Random] = {}
        self.burst: Counter[str] = Counter()
        self.injections: Counter[str] = Counter()
        self.log: list[str] = []
        cluster.watches_are_silent = seed % 4 == 3
        if cluster.watches_are_silent:
            self.log.append("all watches silent")

    def __call__(self, request: Request) -> Answer | None:
        """The answer to a request, or None for the cluster's own."""
        path = request.path.partition("?")[0]
        kind = f"{'WATCH' if 'watch=true' in request.path else request.method} {path}"
        with self.lock:
            # One generator per kind of request: threads interleave differently each time, the faults stay the same.
            chance = self.random_by_kind.setdefault(kind, random.Random(f"{self.seed} {kind}"))  # noqa: S311 - made again
            if not self._injects(kind, chance):
                return self.true_answer(request)
            fault = self._choose(kind, chance)
            self.log.append(f"{fault} to {kind}")
        return self._answer(fault, request, path)

    def _injects(self, kind: str, chance: random.Random) -> bool:
        if not self.burst[kind]:
            self.burst[kind] = chance.choice((0, 0, 0, 1, 2, 4))
        elif self.injections[kind] < MAX_INJECTIONS:
            self.burst[kind] -= 1
            self.injections[kind] += 1
            return True
        return False

    def _choose(self, kind: str, chance: random.Random) -> str:
        """Choose a fault that this kind of request can meet."""
        method, late = kind.partition(" ")[0], ("slow", "too slow", "done, but no answer")
        of_this_kind = {"WATCH": tuple(EXPIRED), "PUT": ("409", *late), "PATCH": ("409", *late)}.get(method, late)
        return chance.choice(of_this_kind if chance.random() < 0.5 else tuple(SERVER_ERRORS))

    def _answer(self, fault: str, request: Request, path: str) -> Answer | None:
        match fault:
            case "409":
                return CONFLICT
            case "slow":
                threading.Event().wait(TIMEOUT / 5)
                return self.true_answer(request)
            case "too slow" | "done, but no answer":
                # The server does what it was asked, and the client cannot know: what it repeats must be harmless.
                self._perform(request, path)
                threading.Event().wait(TIMEOUT * 1.2 if fault == "too slow" else 0)
                return Answer(0, "")
            case _:
                return (SERVER_ERRORS | EXPIRED)[fault]

    def _perform(self, request: Request, path: str) -> None:
        if not self.true_answer(request):
            with self.cluster.lock:
                getattr(self.cluster, f"_{request.method.lower()}")(path, request)

    def true_answer(self, request: Request) -> Answer | None:
        """The answer without any fault: a 500 for evictions that two budgets cover, else None for the cluster's."""
        refused = self.seed % 20 == 9 and "backstage" in request.path and request.path.endswith("/eviction")
        return status(500, "InternalError", TWO_BUDGETS) if refused else None

    @contextlib.contextmanager
    def noted_in_errors(self) -> Iterator[None]:
        """Add the storm's number and its faults to every error, as a note."""
        try:
            yield
        except BaseException as error:
            error.add_note(f"storm {self.seed}: {'; '.join(self.log)}")
            raise


def whole_run(server: Server, seconds: float) -> Drain:
    """A whole run: take the Lease, restore what is left, drain the node, release the Lease."""
    api = server.api(RetryPolicy(within=20, every=0.005, watch_idle_timeout=0.1), TIMEOUT)
    lease = RunLease(api, "portal", "acceptance-backstage", Holder.here(), renewal=0.05)
    left = lease.acquire()
    journal = Journal(lease, load_entries(left.get(JOURNAL, "")))
    try:
        restore(journal, str(lease), RestoreContext(api, lambda _: None, lambda *_: None, {}))
        plan = plan_drain("node-1", namespace="portal", api=api, limits=Limits(seconds=seconds))
        with drained(plan, api, journal, lease=str(lease), abort_check=lease.check) as drain:
            return drain
    finally:
        lease.release(keep=bool(journal.entries))


@pytest.fixture
def cluster() -> FakeCluster:
    """A cluster with two Backstage pods on the node to drain, one elsewhere, and a node that an admin has cordoned."""
    cluster = FakeCluster()
    cluster.pod("backstage-c", "node-1", BACKSTAGE)
    cluster.put("/api/v1/nodes", {"metadata": {"name": "node-3"}, "spec": {"unschedulable": True}})
    return cluster


def assert_nothing_is_left(cluster: FakeCluster) -> None:
    """The admin's cordon is still there; the run's cordon, its notes and its Lease are gone."""
    nodes = cluster.collections["/api/v1/nodes"]
    assert [name for name, node in nodes.items() if node["spec"].get("unschedulable")] == ["node-3"]
    assert not any(ANNOTATION in node["metadata"].get("annotations", {}) for node in nodes.values())
    assert cluster.collections[LEASES] == {}


def pods_on_the_node(cluster: FakeCluster) -> list[str]:
    """Names of the pods on the node to drain."""
    return [name for name, pod in cluster.collections[PODS].items() if pod["spec"]["nodeName"] == "node-1"]


@pytest.mark.parametrize("seed", [seed for seed in STORMS if seed % 10 != 9])
def test_drain_succeeds_in_any_storm(seed: int, cluster: FakeCluster) -> None:
    """Every pod that a drain evicts is gone in the end."""
    cluster.script = storm = Storm(seed, cluster)

    with storm.noted_in_errors(), served(cluster) as server:
        drain = whole_run(server, seconds=20)

        assert {each.decision for each in drain.evictions.values()} <= {"evicted", "gone"}
        assert pods_on_the_node(cluster) == []
        assert_nothing_is_left(cluster)


@pytest.mark.parametrize("seed", [seed for seed in STORMS if seed % 20 == 9])
def test_pod_that_can_never_be_evicted_breaks_the_promise_in_any_storm(seed: int, cluster: FakeCluster) -> None:
    """The pod is covered by two budgets: this 500 is a decision, among many that are server errors."""
    cluster.script = storm = Storm(seed, cluster)

    with storm.noted_in_errors(), served(cluster) as server:
        with pytest.raises(AssertionError, match=r"pod portal/backstage-[ac] to be evicted\nseen: This pod has more"):
            whole_run(server, seconds=20)

        assert pods_on_the_node(cluster) == ["backstage-a", "backstage-c"]
        assert_nothing_is_left(cluster)


@pytest.mark.parametrize("seed", [seed for seed in STORMS if seed % 20 == 19])
def test_budget_that_never_allows_it_breaks_the_promise_in_any_storm(seed: int, cluster: FakeCluster) -> None:
    """A 429 with a cause is a decision, among many that shed load; if the last answer was none, there is no verdict."""
    [budget] = cluster.collections[BUDGETS].values()
    cluster.put(BUDGETS, {**budget, "spec": {**budget["spec"], "minAvailable": 3}})
    cluster.pod("other", "node-2", BACKSTAGE, ready=False)
    cluster.script = storm = Storm(seed, cluster)
    refusal = json.loads(refused_by_budget().body)["details"]["causes"][0]["message"]

    with storm.noted_in_errors(), served(cluster) as server:
        with pytest.raises((DeadlinePassedError, NoVerdictError)) as failed:
            whole_run(server, seconds=2)

        seen = str(failed.value).splitlines()[1]
        assert seen.startswith("seen: on node-1 still backstage-a, backstage-c; portal/backstage-a ")
        assert isinstance(failed.value, DeadlinePassedError) == (f"refused by budget: {refusal}" in seen)
        assert isinstance(failed.value, NoVerdictError) == (seen.count("undecided") == 2)
        assert_nothing_is_left(cluster)
