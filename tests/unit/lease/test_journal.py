"""The journal of changes to undo: serialization, recording, storage on the Lease."""

from __future__ import annotations

import pytest

from fixtures.lease.holder import Holder
from fixtures.lease.journal import (
    EndLoad,
    Entry,
    Heal,
    Journal,
    Uncordon,
    UnreadableJournalError,
    dump_entries,
    load_entries,
)
from fixtures.lease.lease import RunLease
from tests.unit.fakecluster import FakeCluster
from tests.unit.fakeserver import Server
from tests.unit.lease.conftest import PUT_BACK, FakeLease


def test_entries_survive_the_way_to_the_lease_and_back() -> None:
    """Entries with each kind of undo are the same after serialization and parsing."""
    entries = (
        Entry("a", "cordon of node-1", Uncordon("node-1")),
        Entry("b", "one replica less", PUT_BACK),
        Entry("b", "database stopped", Heal("database-stopped", "primary")),
        Entry("c", "load 1f in acceptance-load", EndLoad("1f")),
    )

    assert load_entries(dump_entries(entries)) == entries
    assert load_entries("") == ()


@pytest.mark.parametrize("text", ["{", '[{"run": "a"}]', '[{"run": "a", "Uncordon": {"host": "x"}}]'])
def test_journal_that_nobody_can_read_ends_the_run(text: str) -> None:
    """A journal that cannot be parsed ends the run: what must be undone is unknown."""
    with pytest.raises(UnreadableJournalError) as failed:
        load_entries(text)

    expected, seen, look_next = str(failed.value).splitlines()
    assert expected == "expected: entries of a journal in annotation backstage-acceptance/journal of the run's Lease"
    assert seen.startswith(f"seen: {text} (")
    assert look_next == (
        "look next: undo by hand what it describes, then delete the Lease: docs/runbook.md#disruption"
    )  # fmt: skip


def test_change_is_noted_before_and_forgotten_after() -> None:
    """An entry is written before its change and removed after the undo."""
    lease = FakeLease()
    journal, happened = Journal(lease), list[str]()

    with journal.recorded("cordon of node-1", Uncordon("node-1"), lambda: happened.append("undone")):
        happened.append("done")
        assert lease.written == [
            'backstage-acceptance/journal: [{"run": "me", "what": "cordon of node-1", "Uncordon": {"node": "node-1"}}]'
        ]

    assert happened == ["done", "undone"]
    assert lease.written[1:] == ["backstage-acceptance/journal: []"]


def test_change_that_could_not_be_undone_stays_noted() -> None:
    """The entry of a failed undo stays, for the next run or `--restore`."""
    journal = Journal(FakeLease())

    def fail() -> None:
        raise OSError("no way")

    with pytest.raises(OSError, match="no way"), journal.recorded("cordon of node-1", Uncordon("node-1"), fail):
        pass

    assert [str(entry) for entry in journal.entries] == ["cordon of node-1 (run me)"]


def test_lease_is_where_the_journal_is(cluster: FakeCluster, server: Server) -> None:
    """The next holder of the Lease reads the entries of the last one."""
    lease = RunLease(server.api(), "portal", "acceptance-backstage", Holder("me", "jane"), renewal=1000)
    lease.acquire()
    journal = Journal(lease)

    journal.add("cordon of node-1", Uncordon("node-1"))
    lease.release(keep=True)

    following = RunLease(server.api(), "portal", "acceptance-backstage", Holder("next", "joe"), renewal=1000)
    assert load_entries(following.acquire()["backstage-acceptance/journal"]) == journal.entries
    following.release()
    assert cluster.requests  # the Lease went through the API, not through memory
