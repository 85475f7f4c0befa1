"""The journal: what is in it survives the way to the Lease and back, and is undone only where it is still ours."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fixtures.disruption.restore import Hands, Restored, restore
from fixtures.lease.holder import Holder
from fixtures.lease.journal import (
    EndLoad,
    Entry,
    Heal,
    Journal,
    PutBack,
    Uncordon,
    UnreadableJournalError,
    dumped,
    loaded,
)
from fixtures.lease.lease import RunLease
from fixtures.objects.manifest import Body
from tests.unit.fakecluster import FakeCluster, status
from tests.unit.fakeserver import Server

HPA: Body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "backstage"}}
PUT_BACK = PutBack(HPA, changed={"spec": {"minReplicas": 1, "behavior": None}}, previous={"spec": {"minReplicas": 2}})


class Memory:
    """Keeps what is written."""

    run = "me"

    def __init__(self) -> None:
        self.written: list[str] = []

    def annotate(self, name: str, value: str, /) -> None:
        """Write."""
        self.written.append(f"{name}: {value}")


def test_entries_survive_the_way_to_the_lease_and_back() -> None:
    """All kinds of them."""
    entries = (
        Entry("a", "cordon of node-1", Uncordon("node-1")),
        Entry("b", "one replica less", PUT_BACK),
        Entry("b", "database stopped", Heal("database-stopped", "primary")),
        Entry("c", "load 1f in acceptance-load", EndLoad("1f")),
    )

    assert loaded(dumped(entries)) == entries
    assert loaded("") == ()


@pytest.mark.parametrize("text", ["{", '[{"run": "a"}]', '[{"run": "a", "Uncordon": {"host": "x"}}]'])
def test_journal_that_nobody_can_read_ends_the_run(text: str) -> None:
    """What must be undone cannot be guessed."""
    with pytest.raises(UnreadableJournalError) as failed:
        loaded(text)

    expected, seen, look_next = str(failed.value).splitlines()
    assert expected == "expected: entries of a journal in annotation backstage-acceptance/journal of the run's Lease"
    assert seen.startswith(f"seen: {text} (")
    assert look_next == (
        "look next: undo by hand what it describes, then delete the Lease: docs/runbook.md#disruption"
    )  # fmt: skip


def test_change_is_noted_before_and_forgotten_after() -> None:
    """In between, the journal tells of it."""
    memory = Memory()
    journal, happened = Journal(memory), list[str]()

    with journal.noted("cordon of node-1", Uncordon("node-1"), lambda: happened.append("undone")):
        happened.append("done")
        assert memory.written == [
            'backstage-acceptance/journal: [{"run": "me", "what": "cordon of node-1", "Uncordon": {"node": "node-1"}}]'
        ]

    assert happened == ["done", "undone"]
    assert memory.written[1:] == ["backstage-acceptance/journal: []"]


def test_change_that_could_not_be_undone_stays_noted() -> None:
    """Somebody else will try."""
    journal = Journal(Memory())

    def fail() -> None:
        raise OSError("no way")

    with pytest.raises(OSError, match="no way"), journal.noted("cordon of node-1", Uncordon("node-1"), fail):
        pass

    assert [str(entry) for entry in journal.entries] == ["cordon of node-1 (run me)"]


class Things:
    """One HorizontalPodAutoscaler."""

    def __init__(self, live: Body | None) -> None:
        self.live = live
        self.merged: list[Body] = []

    def hands(self, server: Server, **healing: list[str]) -> Hands:
        """To undo something with."""
        return Hands(server.api(), lambda _: self.live, lambda _, patch: self.merged.append(patch), healing)


def undo(entry: Entry, hands: Hands) -> tuple[Restored, Journal]:
    """One entry."""
    journal = Journal(Memory(), (entry,))
    return restore(journal, "portal/acceptance-backstage", hands), journal


def test_patched_object_gets_its_previous_values(server: Server) -> None:
    """At the version that was looked at, so that nobody's change in between is lost."""
    things = Things({"metadata": {"resourceVersion": "7"}, "spec": {"minReplicas": 1, "maxReplicas": 5}})

    restored, journal = undo(Entry("dead", "one replica less", PUT_BACK), things.hands(server))

    assert things.merged == [{"spec": {"minReplicas": 2}, "metadata": {"resourceVersion": "7"}}]
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
    """Or that was never changed, as the run died before."""
    things = Things(live)

    restored, journal = undo(Entry("dead", "one replica less", PUT_BACK), things.hands(server))

    assert things.merged == []
    assert restored == Restored()
    assert journal.entries == ()


def test_fault_is_healed_by_the_environments_command(server: Server) -> None:
    """The journal names the fault, never a command."""
    check = [sys.executable, "-c", "import sys; sys.exit(sys.argv[1:] != ['primary'])"]
    heal = Entry("dead", "database stopped", Heal("stopped", "primary"))

    restored, _ = undo(heal, Things(None).hands(server, stopped=check))

    assert restored.done == ("database stopped (run dead)",)


def test_what_cannot_be_undone_is_told_and_stays(server: Server) -> None:
    """A fault without a command, and a command that fails."""
    for healing, why in (
        ({}, "the environment has no command that undoes stopped"),
        ({"stopped": ["false"]}, "Command '['false']' returned non-zero exit status 1."),
    ):
        restored, journal = undo(
            Entry("dead", "database stopped", Heal("stopped")), Things(None).hands(server, **healing)
        )

        assert str(restored) == f"nothing to put back; NOT put back: database stopped (run dead): {why}"
        assert len(journal.entries) == 1


def test_server_without_an_answer_leaves_the_entry(cluster: FakeCluster, server: Server) -> None:
    """Notes on nodes are tried all the same, and told."""
    cluster.script = lambda _: status(403, "Forbidden")
    restored, journal = undo(Entry("dead", "cordon of node-1", Uncordon("node-1")), Things(None).hands(server))

    assert len(restored.left) == 2
    assert len(journal.entries) == 1


INTERRUPTED = """
import os, signal, sys
from fixtures import interrupts
with interrupts.termination_is_interruption():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    try:
        with interrupts.put_off():
            os.kill(os.getpid(), signal.SIGTERM)
            print("undone", flush=True)
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted afterwards", flush=True)
"""


def test_signals_interrupt_but_not_an_undoing() -> None:
    """In a process of its own."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], check=True, capture_output=True, text=True)

    assert done.stdout.splitlines() == ["interrupted", "undone", "interrupted afterwards"]


def test_lease_is_where_the_journal_is(cluster: FakeCluster, server: Server) -> None:
    """The two fit together."""
    lease = RunLease(server.api(), "portal", "acceptance-backstage", Holder("me", "jane"), renewal=1000)
    lease.take()
    journal = Journal(lease)

    journal.add("cordon of node-1", Uncordon("node-1"))
    lease.release(keep=True)

    following = RunLease(server.api(), "portal", "acceptance-backstage", Holder("next", "joe"), renewal=1000)
    assert loaded(following.take()["backstage-acceptance/journal"]) == journal.entries
    following.release()
    assert cluster.requests
