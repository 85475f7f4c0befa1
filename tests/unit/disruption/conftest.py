"""A run that drains a node, and one that is killed while it does."""

from __future__ import annotations

import threading
from typing import Any

from typing_extensions import override

from fixtures.api.pods import Pod
from fixtures.api.requests import Api
from fixtures.disruption.blast_radius import Limits, plan_drain
from fixtures.disruption.cordon import ANNOTATION
from fixtures.disruption.drain import Drain, drained
from fixtures.disruption.restore import RestoreContext, Restored, restore
from fixtures.lease.holder import Holder, _place
from fixtures.lease.journal import ANNOTATION as JOURNAL
from fixtures.lease.journal import Journal, load_entries
from fixtures.lease.lease import RunLease
from fixtures.objects.manifest import Field
from tests.unit.fakecluster import FakeCluster

DEAD = Holder("dead", "jane@laptop", _place(), 4194305, "1")
"""Of a process id that Linux never gives."""

LIMITS = Limits(seconds=3)


class KilledError(BaseException):
    """The process is no more: nothing that it would do any more happens."""


class Mortal(Api):
    """A client whose process is killed by SIGKILL, seen from the API server: after its nth change nothing follows."""

    def __init__(self, api: Api, lives: float, *, before: bool = False) -> None:
        super().__init__(api._client, api.retry_policy)  # type: ignore[arg-type] # noqa: SLF001 - the same client
        self.lives = lives
        self.before = before

    @override
    def once(self, method: str, path: str, **arguments: Any) -> Field:
        self._live()
        self.lives -= method != "GET"
        if self.before:
            self._live()
        answer = super().once(method, path, **arguments)
        self._live()
        return answer

    def _live(self) -> None:
        """If it still does. The threads of its watches get no answer any more, until the main one has gone."""
        if self.lives <= 0:
            raise KilledError if threading.current_thread() is threading.main_thread() else ConnectionError


def run(api: Api, holder: Holder, node: str = "node-1", limits: Limits = LIMITS) -> Drain:
    """A whole run: Lease, drain, everything given back."""
    lease = RunLease(api, "portal", "acceptance-backstage", holder, renewal=1000)
    left = lease.acquire()
    journal = Journal(lease, load_entries(left.get(JOURNAL, "")))
    restore(journal, str(lease), context(api))
    plan = plan_drain(node, namespace="portal", api=api, limits=limits)
    with drained(plan, api, journal, lease=str(lease), abort_check=lease.check) as drain:
        assert drain.done()
    lease.release(keep=bool(journal.entries))
    return drain


def context(api: Api) -> RestoreContext:
    """Only nodes are put back here."""
    return RestoreContext(api, lambda _: None, lambda *_: None, {})


def restored(api: Api) -> Restored:
    """What the next run puts back before it does anything."""
    lease = RunLease(api, "portal", "acceptance-backstage", Holder.here(), renewal=1000)
    left = lease.acquire()
    journal = Journal(lease, load_entries(left.get(JOURNAL, "")))
    result = restore(journal, str(lease), context(api))
    assert journal.entries == ()
    lease.release()
    return result


def closed(cluster: FakeCluster) -> list[str]:
    """Nodes that are closed or bear a note of ours."""
    return [
        name
        for name, node in cluster.collections["/api/v1/nodes"].items()
        if node["spec"].get("unschedulable") or ANNOTATION in node["metadata"].get("annotations", {})
    ]


def pod(name: str, node: str = "node-1", *, ready: bool = True, message: str = "", **metadata: object) -> Pod:
    """A pod."""
    conditions = [
        {"type": "Ready", "status": str(ready)},
        {"type": "PodScheduled", "status": "False", "message": message},
    ]
    spec = {"nodeName": node} if node else {}
    body = {"metadata": {"name": name, "uid": name, **metadata}, "spec": spec, "status": {"conditions": conditions}}
    return Pod(Field(body))
