"""A run that holds its Lease: what it restores at its start and end, waiting for the Lease, `pytest --restore`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtures.api.client import GuardedClient
from fixtures.disruption import tenure as tenure_module
from fixtures.disruption.tenure import Tenure, holding, leftovers, when_free
from fixtures.environment.environment import Environment
from fixtures.lease.holder import Holder
from fixtures.lease.journal import ANNOTATION, Heal, Journal, Uncordon
from fixtures.lease.lease import RunLease
from fixtures.objects.manifest import Manifest
from fixtures.outcomes import NoVerdictError
from fixtures.plugins import leasing
from fixtures.plugins.state import state_of
from fixtures.reference.reference import Reference
from tests.unit.fakecluster import LEASES, FakeCluster, later
from tests.unit.fakeserver import Server

REFERENCE = Reference("here", (Manifest({"kind": "Deployment", "metadata": {"name": "backstage"}}),))
DEAD = Holder("dead", "jane@laptop")


def environment(*permissions: str, lease_free: float = 1) -> Environment:
    """An environment with these permissions; `lease_free` is in seconds."""
    return cast(
        "Environment",
        SimpleNamespace(
            permissions=frozenset(permissions),
            namespaces=SimpleNamespace(deployment="portal"),
            faults=SimpleNamespace(heal={}),
            timeouts=SimpleNamespace(lease_free=lease_free),
        ),
    )


def client(server: Server) -> GuardedClient:
    """A client of the cluster."""
    return cast("GuardedClient", server.api()._client)  # noqa: SLF001 - as an environment would make it


def dead_run(server: Server, undo: Uncordon | Heal) -> None:
    """Leave an expired Lease with a journal entry, as a run that died does."""
    lease = RunLease(server.api(), "portal", "acceptance-backstage", DEAD, renewal=1000, duration=-2)  # expired at once
    lease.acquire()
    Journal(ExpiredLease(lease)).add("something", undo)


class ExpiredLease:
    """Writes annotations to a Lease that has expired, which `RunLease.annotate` would refuse."""

    def __init__(self, lease: RunLease) -> None:
        self._lease = lease
        self.run = lease.run

    def annotate(self, name: str, value: str, /) -> None:
        """Write the annotation."""
        self._lease._annotations[name] = value  # noqa: SLF001
        self._lease._write()  # noqa: SLF001


def test_run_that_may_disrupt_puts_back_what_dead_runs_left(cluster: FakeCluster, server: Server) -> None:
    """The journal is processed before anything else; an entry that needs no undo any more is removed."""
    dead_run(server, Uncordon("node-1"))

    with holding(environment("observe", "disrupt"), client(server), REFERENCE) as tenure:
        assert tenure.journal.entries == ()
        assert str(tenure.restored) == "nothing to put back"
        assert cluster.collections[LEASES]["acceptance-backstage"]["metadata"]["annotations"][ANNOTATION] == "[]"

    assert cluster.collections[LEASES] == {}


def test_run_that_only_applies_tells_and_leaves_it_for_the_next(cluster: FakeCluster, server: Server) -> None:
    """Without disrupt the journal is reported, and stays on the Lease, which is released."""
    dead_run(server, Uncordon("node-1"))

    with holding(environment("observe", "apply"), client(server), REFERENCE) as tenure:
        assert tenure.restored.left == ("something (run dead)",)

    assert cluster.collections[LEASES]["acceptance-backstage"]["spec"]["holderIdentity"] == ""
    assert leftovers(server.api(), "portal", "acceptance-backstage") == ("something (run dead)",)


def test_what_cannot_be_put_back_ends_the_run_and_stays(cluster: FakeCluster, server: Server) -> None:
    """An entry that cannot be undone, here a fault without a heal command, ends the run and stays."""
    dead_run(server, Heal("database-stopped"))

    with (
        pytest.raises(NoVerdictError) as failed,
        holding(environment("observe", "disrupt"), client(server), REFERENCE),
    ):
        pass

    assert str(failed.value) == (
        "expected: what runs have disturbed to be put back\n"
        "seen: nothing to put back; NOT put back: something (run dead): "
        "'the environment has no command that undoes database-stopped'\n"
        "look next: docs/runbook.md#disruption"
    ).replace("'", "")
    assert "database-stopped" in str(cluster.collections[LEASES])


def test_change_that_a_run_forgot_is_put_back_at_its_end(cluster: FakeCluster, server: Server) -> None:
    """Entries left by this run, because a test's own undo failed, are undone when it ends."""
    with holding(environment("observe", "disrupt"), client(server), REFERENCE) as tenure:
        tenure.journal.add("cordon of node-1", Uncordon("node-1"))

    assert cluster.collections[LEASES] == {}


def test_journal_that_nobody_can_read_stays(cluster: FakeCluster, server: Server) -> None:
    """An unreadable journal ends the run; the Lease is released with the annotation unchanged."""
    lease = RunLease(server.api(), "portal", "acceptance-backstage", DEAD, renewal=1000)
    lease.acquire()
    lease.annotate(ANNOTATION, "{")
    lease.release(keep=True)

    with (
        pytest.raises(NoVerdictError, match="entries of a journal"),
        holding(environment("observe", "disrupt"), client(server), REFERENCE),
    ):
        pass

    assert cluster.collections[LEASES]["acceptance-backstage"]["metadata"]["annotations"][ANNOTATION] == "{"


def test_leftovers_of_a_run_at_work_are_none(cluster: FakeCluster, server: Server) -> None:
    """The journal of a live run is no leftover, as that run will undo it; without a Lease there are none."""
    assert leftovers(server.api(), "portal", "acceptance-backstage") == ()
    with holding(environment("observe", "disrupt"), client(server), REFERENCE) as tenure:
        tenure.journal.add("cordon of node-1", Uncordon("node-1"))
        assert leftovers(server.api(), "portal", "acceptance-backstage") == ()
    assert cluster.requests


def test_run_waits_until_a_pipeline_has_deployed(
    cluster: FakeCluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run reports the holder once, and acquires the Lease when it is deleted."""
    monkeypatch.setattr(tenure_module, "POLL_PERIOD", 0.01)
    create_pipeline_lease(cluster)
    lease = RunLease(server.api(), "portal", "acceptance-backstage", Holder("me", "jane@laptop"))
    lines: list[str] = []

    def report(text: str) -> None:
        lines.append(text)
        later(0.05, lambda: cluster.remove(LEASES, "acceptance-backstage"))

    assert when_free(lease, lease.acquire, within=5, tell=report) == {}

    [line] = lines
    assert line == (
        "waiting, 0 of 5 s; expected: nobody else to hold Lease portal/acceptance-backstage; "
        "seen: held by pipeline-17 since 2026-11-25 22:31:04 UTC"
    )
    assert cluster.collections[LEASES]["acceptance-backstage"]["spec"]["holderIdentity"] == "me"
    lease.release()


def create_pipeline_lease(cluster: FakeCluster) -> None:
    """A deploy pipeline's Lease that never expires, as it has no duration."""
    metadata = {"name": "acceptance-backstage", "creationTimestamp": "2026-11-25T22:31:04Z"}
    cluster.put(LEASES, {"metadata": metadata, "spec": {"holderIdentity": "pipeline-17"}})


def test_lease_that_does_not_become_free_is_no_verdict(
    cluster: FakeCluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Lease that stays held until the deadline ends the run without a verdict."""
    monkeypatch.setattr(tenure_module, "POLL_PERIOD", 0.01)
    create_pipeline_lease(cluster)
    lease = RunLease(server.api(), "portal", "acceptance-backstage", Holder("me", "jane@laptop"))

    with pytest.raises(NoVerdictError) as late:
        when_free(lease, lease.acquire, within=0.05, tell=lambda _: None)

    assert str(late.value) == (
        "expected: nobody else to hold Lease portal/acceptance-backstage within 0.05 s\n"
        "seen: held by pipeline-17 since 2026-11-25 22:31:04 UTC\n"
        "look next: kubectl -n portal wait --for=delete lease/acceptance-backstage --timeout=30m"
    )


def test_command_line_says_whether_to_wait(
    cluster: FakeCluster, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--lease` decides for `--restore`, too, whether a held Lease fails at once or is waited for."""
    chosen_environment = environment("observe", "disrupt", lease_free=0.05)
    run = SimpleNamespace(environment=chosen_environment, client=client(server), reference=REFERENCE)
    monkeypatch.setattr(tenure_module, "POLL_PERIOD", 0.01)
    create_pipeline_lease(cluster)

    assert run_restore(Config(restore=True, lease="fail"), "disrupt", run=run) == 6
    assert "22:31:04 UTC, until somebody deletes it" in capsys.readouterr().out
    assert run_restore(Config(restore=True, lease="wait"), "disrupt", run=run) == 6
    assert "within 0.05 s" in capsys.readouterr().out


def test_observer_waits_too_and_holds_nothing(
    cluster: FakeCluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--lease=wait` an observer waits for the Lease, then takes its snapshot; it writes nothing."""
    monkeypatch.setattr(tenure_module, "POLL_PERIOD", 0.01)
    create_pipeline_lease(cluster)
    config, snapshots = Config(restore=False, lease="wait"), list[bool]()
    change_detector = SimpleNamespace(take_snapshot=lambda: snapshots.append(True))
    run_lease = cast("Any", leasing.run_lease).__wrapped__  # the fixture's function
    later(0.05, lambda: cluster.remove(LEASES, "acceptance-backstage"))

    assert next(run_lease(config, environment("observe"), client(server), REFERENCE, change_detector)) is None

    assert (snapshots, cluster.changes(), cluster.collections[LEASES]) == ([True], [], {})


class Config:
    """A pytest.Config with these options."""

    def __init__(self, *, restore: bool, lease: str = "fail") -> None:
        self.restore, self.lease = restore, lease
        self.pluginmanager = SimpleNamespace(get_plugin=lambda _: None)
        self.stash = pytest.Stash()

    def getoption(self, name: str) -> object:
        """Value of an option."""
        return {"--restore": self.restore, "--env": "prod", "--image": None, "--lease": self.lease}[name]


def run_restore(config: Config, *permissions: str, run: object = None) -> int | None:
    """Exit code of `pytest --restore` in an environment with these permissions; None without the option."""
    state = state_of(cast("Any", config))
    state.draft = cast("Any", SimpleNamespace(permissions=frozenset(permissions), name="prod"))
    state.run = cast("Any", run)
    return leasing.pytest_cmdline_main(cast("Any", config))


def test_restore_is_refused_where_nothing_may_be_disrupted() -> None:
    """`--restore` without disrupt is a usage error; without the option the hook does nothing."""
    assert run_restore(Config(restore=False), "observe") is None
    with pytest.raises(pytest.UsageError) as refused:
        run_restore(Config(restore=True), "observe")

    assert str(refused.value) == (
        "expected: an environment that allows disrupt, as --restore changes the target; seen: prod"
    )


def test_restore_says_what_it_did(cluster: FakeCluster, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 0, or 6 if something could not be undone."""
    run = SimpleNamespace(environment=environment("observe", "disrupt"), client=client(server), reference=REFERENCE)

    assert run_restore(Config(restore=True), "disrupt", run=run) == 0
    dead_run(server, Heal("database-stopped"))
    assert run_restore(Config(restore=True), "disrupt", run=run) == 6

    assert capsys.readouterr().out.splitlines()[:2] == [
        "nothing to put back",
        "expected: what runs have disturbed to be put back",
    ]
    assert cluster.requests


def test_test_that_disturbs_needs_a_run_that_holds_its_lease() -> None:
    """The fixture `tenure` fails in a run that only observes, as such a run holds no Lease."""
    tenure = cast("Tenure", SimpleNamespace())
    fixture = cast("Any", leasing.tenure).__wrapped__  # pytest forbids direct calls of a fixture

    assert fixture(tenure) is tenure
    with pytest.raises(NoVerdictError, match="one that only observes"):
        fixture(None)
