"""A run that drains a node, a run that is killed while it drains, and the restore by the next run."""

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

DEAD_HOLDER = Holder("dead", "jane@laptop", _place(), 4194305, "1")
"""A holder whose process id is above Linux's maximum, so it is never alive."""

LIMITS = Limits(seconds=3)


class KilledError(BaseException):
    """The process is dead, so no code of it may run; a BaseException so that no handler catches it."""


class KilledClient(Api):
    """A client whose process is killed by SIGKILL after, or right before, its nth write."""

    def __init__(self, api: Api, writes_left: float, *, before: bool = False) -> None:
        super().__init__(api._client, api.retry_policy)  # type: ignore[arg-type] # noqa: SLF001 - the same client
        self.writes_left = writes_left
        self.before = before

    @override
    def once(self, method: str, path: str, **arguments: Any) -> Field:
        self._check_alive()
        # Reads are free: only writes leave something to restore.
        self.writes_left -= method != "GET"
        if self.before:
            self._check_alive()
        answer = super().once(method, path, **arguments)
        self._check_alive()
        return answer

    def _check_alive(self) -> None:
        """Raise if the process is dead. Watch threads see a lost connection until the main thread has ended."""
        if self.writes_left <= 0:
            raise KilledError if threading.current_thread() is threading.main_thread() else ConnectionError


def run(api: Api, holder: Holder, node: str = "node-1", limits: Limits = LIMITS) -> Drain:
    """A whole run: acquire the Lease, restore, drain, undo the cordon, release the Lease."""
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
    """A restore context for nodes only; the other callbacks do nothing."""
    return RestoreContext(api, lambda _: None, lambda *_: None, {})


def restored(api: Api) -> Restored:
    """What the next run restores at its start."""
    lease = RunLease(api, "portal", "acceptance-backstage", Holder.here(), renewal=1000)
    left = lease.acquire()
    journal = Journal(lease, load_entries(left.get(JOURNAL, "")))
    result = restore(journal, str(lease), context(api))
    assert journal.entries == ()
    lease.release()
    return result


def cordoned_nodes(cluster: FakeCluster) -> list[str]:
    """Nodes that are unschedulable or have the suite's annotation."""
    return [
        name
        for name, node in cluster.collections["/api/v1/nodes"].items()
        if node["spec"].get("unschedulable") or ANNOTATION in node["metadata"].get("annotations", {})
    ]


def pod(name: str, node: str = "node-1", *, ready: bool = True, message: str = "", **metadata: object) -> Pod:
    """A pod; without a node it is not scheduled, with this message."""
    conditions = [
        {"type": "Ready", "status": str(ready)},
        {"type": "PodScheduled", "status": "False", "message": message},
    ]
    spec = {"nodeName": node} if node else {}
    body = {"metadata": {"name": name, "uid": name, **metadata}, "spec": spec, "status": {"conditions": conditions}}
    return Pod(Field(body))
