"""What dead runs leave behind: the next run restores what it can, whichever step they died at, and reports the rest."""

from __future__ import annotations

import json
import sys

import pytest

from fixtures.disruption.cordon import ANNOTATION
from fixtures.disruption.restore import RestoreContext, Restored, restore
from fixtures.lease.journal import Entry, Heal, Journal, Uncordon
from fixtures.objects.manifest import Body
from tests.unit.disruption.conftest import DEAD_HOLDER, KilledClient, KilledError, cordoned_nodes, restored, run
from tests.unit.fakecluster import LEASES, FakeCluster, status
from tests.unit.fakeserver import Server
from tests.unit.lease.conftest import PUT_BACK, FakeLease


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("change", range(1, 8))
def test_killed_at_any_step_leaves_nothing_after_the_next_run(
    cluster: FakeCluster, server: Server, change: int, *, before: bool
) -> None:
    """A run is killed before or after each of its seven writes. A cordon by somebody else stays."""
    cluster.put("/api/v1/nodes", {"metadata": {"name": "node-3"}, "spec": {"unschedulable": True}})
    with pytest.raises(KilledError):
        run(KilledClient(server.api(), change, before=before), DEAD_HOLDER)

    restored(server.api())

    assert cordoned_nodes(cluster) == ["node-3"]
    assert cluster.collections[LEASES] == {}


def test_next_run_says_what_it_put_back(cluster: FakeCluster, server: Server) -> None:
    """The restored change is reported once with its run, though both the journal and the node's annotation list it."""
    with pytest.raises(KilledError):
        run(KilledClient(server.api(), 3), DEAD_HOLDER)  # The third write is the cordon.

    assert cordoned_nodes(cluster) == ["node-1"]
    assert str(restored(server.api())) == "put back: cordon of node-1 (run dead)"


def test_node_is_opened_by_its_note_when_the_lease_was_deleted(cluster: FakeCluster, server: Server) -> None:
    """The journal is gone with the Lease, so the node's annotation is used."""
    with pytest.raises(KilledError):
        run(KilledClient(server.api(), 3), DEAD_HOLDER)
    cluster.remove(LEASES, "acceptance-backstage")

    assert str(restored(server.api())) == "put back: cordon of node-1 (run dead)"
    assert cordoned_nodes(cluster) == []


def test_note_of_another_deployments_run_is_left_alone(cluster: FakeCluster, server: Server) -> None:
    """Only the next run of that deployment knows whether the holder is dead."""
    with pytest.raises(KilledError):
        run(KilledClient(server.api(), 3), DEAD_HOLDER)
    node = cluster.node("node-1")
    note = json.loads(node["metadata"]["annotations"][ANNOTATION]) | {"lease": "other/acceptance-backstage", "run": "z"}
    node["metadata"]["annotations"][ANNOTATION] = json.dumps(note)

    assert str(restored(server.api())) == "nothing to put back"
    assert cordoned_nodes(cluster) == ["node-1"]


class LiveObject:
    """The live state of one HorizontalPodAutoscaler, or None if it does not exist; keeps the patches."""

    def __init__(self, live: Body | None) -> None:
        self.live = live
        self.patches: list[Body] = []

    def context(self, server: Server, **healing: list[str]) -> RestoreContext:
        """A restore context for this object, with these heal commands."""
        return RestoreContext(server.api(), lambda _: self.live, lambda _, patch: self.patches.append(patch), healing)


def undo(entry: Entry, context: RestoreContext) -> tuple[Restored, Journal]:
    """Restore from a journal with this single entry."""
    journal = Journal(FakeLease(), (entry,))
    return restore(journal, "portal/acceptance-backstage", context), journal


def test_patched_object_gets_its_previous_values(server: Server) -> None:
    """The patch has the resourceVersion that was read, so a concurrent change makes it fail instead of being lost."""
    live_object = LiveObject({"metadata": {"resourceVersion": "7"}, "spec": {"minReplicas": 1, "maxReplicas": 5}})

    restored, journal = undo(Entry("dead", "one replica less", PUT_BACK), live_object.context(server))

    assert live_object.patches == [{"spec": {"minReplicas": 2}, "metadata": {"resourceVersion": "7"}}]
    assert str(restored) == "put back: one replica less (run dead)"
    assert journal.entries == ()


@pytest.mark.parametrize(
    "live",
    [
        None,
        {"spec": {"minReplicas": 3}},
        {"spec": {"minReplicas": 1, "behavior": {"scaleDown": {}}}},
    ],
    ids=["gone", "other value", "value again"],
)
def test_object_that_somebody_else_has_changed_since_is_theirs(server: Server, live: Body | None) -> None:
    """Also if the run died before it made its change."""
    live_object = LiveObject(live)

    restored, journal = undo(Entry("dead", "one replica less", PUT_BACK), live_object.context(server))

    assert live_object.patches == []
    assert restored == Restored()
    assert journal.entries == ()


def test_fault_is_healed_by_the_environments_command(server: Server) -> None:
    """The journal names the fault; the command comes from the environment."""
    check = [sys.executable, "-c", "import sys; sys.exit(sys.argv[1:] != ['primary'])"]
    heal = Entry("dead", "database stopped", Heal("stopped", "primary"))

    restored, _ = undo(heal, LiveObject(None).context(server, stopped=check))

    assert restored.done == ("database stopped (run dead)",)


def test_what_cannot_be_undone_is_told_and_stays(server: Server) -> None:
    """Either the fault has no heal command, or the command fails."""
    for healing, why in (
        ({}, "the environment has no command that undoes stopped"),
        ({"stopped": ["false"]}, "Command '['false']' returned non-zero exit status 1."),
    ):
        restored, journal = undo(
            Entry("dead", "database stopped", Heal("stopped")), LiveObject(None).context(server, **healing)
        )

        assert str(restored) == f"nothing to put back; NOT put back: database stopped (run dead): {why}"
        assert len(journal.entries) == 1


def test_server_without_an_answer_leaves_the_entry(cluster: FakeCluster, server: Server) -> None:
    """Reading the journal's node fails and so does listing the nodes' annotations; both are reported."""
    cluster.script = lambda _: status(403, "Forbidden")
    restored, journal = undo(Entry("dead", "cordon of node-1", Uncordon("node-1")), LiveObject(None).context(server))

    assert len(restored.left) == 2
    assert len(journal.entries) == 1
