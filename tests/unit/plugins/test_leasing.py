"""A run that holds its Lease: what it puts back at its beginning and end, and `pytest --restore`."""

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
from tests.unit.fakecluster import LEASES, FakeCluster, run_later
from tests.unit.fakeserver import Server

REFERENCE = Reference("here", (Manifest({"kind": "Deployment", "metadata": {"name": "backstage"}}),))
DEAD = Holder("dead", "jane@laptop")


def environment(*permissions: str, lease_free: float = 1) -> Environment:
    """Of these permissions."""
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
    """Of the cluster."""
    return cast("GuardedClient", server.api()._client)  # noqa: SLF001 - as an environment would make it


def dead_run(server: Server, undo: Uncordon | Heal) -> None:
    """Noted a change and died thirty seconds ago."""
    lease = RunLease(server.api(), "portal", "acceptance-backstage", DEAD, renewal=1000, duration=-2)
    lease.acquire()
    Journal(Unchecked(lease)).add("something", undo)


class Unchecked:
    """A Lease that has expired already, and is written all the same."""

    def __init__(self, lease: RunLease) -> None:
        self._lease = lease
        self.run = lease.run

    def annotate(self, name: str, value: str, /) -> None:
        """Write."""
        self._lease._annotations[name] = value  # noqa: SLF001
        self._lease._write()  # noqa: SLF001


def test_run_that_may_disrupt_puts_back_what_dead_runs_left(cluster: FakeCluster, server: Server) -> None:
    """Before it does anything; an entry without anything to do is forgotten."""
    dead_run(server, Uncordon("node-1"))

    with holding(environment("observe", "disrupt"), client(server), REFERENCE) as tenure:
        assert tenure.journal.entries == ()
        assert str(tenure.restored) == "nothing to put back"
        assert cluster.collections[LEASES]["acceptance-backstage"]["metadata"]["annotations"][ANNOTATION] == "[]"

    assert cluster.collections[LEASES] == {}


def test_run_that_only_applies_tells_and_leaves_it_for_the_next(cluster: FakeCluster, server: Server) -> None:
    """The journal stays on the Lease, which nobody holds."""
    dead_run(server, Uncordon("node-1"))

    with holding(environment("observe", "apply"), client(server), REFERENCE) as tenure:
        assert tenure.restored.left == ("something (run dead)",)

    assert cluster.collections[LEASES]["acceptance-backstage"]["spec"]["holderIdentity"] == ""
    assert leftovers(server.api(), "portal", "acceptance-backstage") == ("something (run dead)",)


def test_what_cannot_be_put_back_ends_the_run_and_stays(cluster: FakeCluster, server: Server) -> None:
    """A fault for which the environment has no command."""
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
    """Even where a test's own undoing failed."""
    with holding(environment("observe", "disrupt"), client(server), REFERENCE) as tenure:
        tenure.journal.add("cordon of node-1", Uncordon("node-1"))

    assert cluster.collections[LEASES] == {}


def test_journal_that_nobody_can_read_stays(cluster: FakeCluster, server: Server) -> None:
    """The run ends; the Lease is given back with it."""
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
    """It will put them back itself; and without a Lease there is nothing to tell."""
    assert leftovers(server.api(), "portal", "acceptance-backstage") == ()
    with holding(environment("observe", "disrupt"), client(server), REFERENCE) as tenure:
        tenure.journal.add("cordon of node-1", Uncordon("node-1"))
        assert leftovers(server.api(), "portal", "acceptance-backstage") == ()
    assert cluster.requests


def test_run_waits_until_a_pipeline_has_deployed(
    cluster: FakeCluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells who is at work since when, once, and begins when nobody is."""
    monkeypatch.setattr(tenure_module, "POLL_PERIOD", 0.01)
    pipelines(cluster)
    lease = RunLease(server.api(), "portal", "acceptance-backstage", Holder("me", "jane@laptop"))
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        run_later(0.05, lambda: cluster.remove(LEASES, "acceptance-backstage"))

    assert when_free(lease, lease.acquire, within=5, tell=tell) == {}

    [once] = told
    assert once == (
        "waiting, 0 of 5 s; expected: nobody else to hold Lease portal/acceptance-backstage; "
        "seen: held by pipeline-17 since 2026-11-25 22:31:04 UTC"
    )
    assert cluster.collections[LEASES]["acceptance-backstage"]["spec"]["holderIdentity"] == "me"
    lease.release()


def pipelines(cluster: FakeCluster) -> None:
    """A Lease without an end."""
    metadata = {"name": "acceptance-backstage", "creationTimestamp": "2026-11-25T22:31:04Z"}
    cluster.put(LEASES, {"metadata": metadata, "spec": {"holderIdentity": "pipeline-17"}})


def test_lease_that_does_not_become_free_is_no_verdict(
    cluster: FakeCluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was judged; nothing is broken."""
    monkeypatch.setattr(tenure_module, "POLL_PERIOD", 0.01)
    pipelines(cluster)
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
    """`--restore` as well as a run."""
    chosen_environment = environment("observe", "disrupt", lease_free=0.05)
    run = SimpleNamespace(environment=chosen_environment, client=client(server), reference=REFERENCE)
    monkeypatch.setattr(tenure_module, "POLL_PERIOD", 0.01)
    pipelines(cluster)

    assert restored(Config(restore=True, lease="fail"), "disrupt", run=run) == 6
    assert "22:31:04 UTC, until somebody deletes it" in capsys.readouterr().out
    assert restored(Config(restore=True, lease="wait"), "disrupt", run=run) == 6
    assert "within 0.05 s" in capsys.readouterr().out


def test_observer_waits_too_and_holds_nothing(
    cluster: FakeCluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It only reads."""
    monkeypatch.setattr(tenure_module, "POLL_PERIOD", 0.01)
    pipelines(cluster)
    config, remembered = Config(restore=False, lease="wait"), list[bool]()
    change_detector = SimpleNamespace(take_snapshot=lambda: remembered.append(True))
    begin = cast("Any", leasing.run_lease).__wrapped__
    run_later(0.05, lambda: cluster.remove(LEASES, "acceptance-backstage"))

    assert next(begin(config, environment("observe"), client(server), REFERENCE, change_detector)) is None

    assert (remembered, cluster.changes(), cluster.collections[LEASES]) == ([True], [], {})


class Config:
    """A command line."""

    def __init__(self, *, restore: bool, lease: str = "fail") -> None:
        self.restore, self.lease = restore, lease
        self.pluginmanager = SimpleNamespace(get_plugin=lambda _: None)
        self.stash = pytest.Stash()

    def getoption(self, name: str) -> object:
        """Its value."""
        return {"--restore": self.restore, "--env": "prod", "--image": None, "--lease": self.lease}[name]


def restored(config: Config, *permissions: str, run: object = None) -> int | None:
    """What `pytest --restore` comes to in an environment, whose target is open."""
    state = state_of(cast("Any", config))
    state.draft = cast("Any", SimpleNamespace(permissions=frozenset(permissions), name="prod"))
    state.run = cast("Any", run)
    return leasing.pytest_cmdline_main(cast("Any", config))


def test_restore_is_refused_where_nothing_may_be_disrupted() -> None:
    """One sentence; without the option nothing happens."""
    assert restored(Config(restore=False), "observe") is None
    with pytest.raises(pytest.UsageError) as refused:
        restored(Config(restore=True), "observe")

    assert str(refused.value) == (
        "expected: an environment that allows disrupt, as --restore changes the target; seen: prod"
    )


def test_restore_says_what_it_did(cluster: FakeCluster, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, or 6 where something is left."""
    run = SimpleNamespace(environment=environment("observe", "disrupt"), client=client(server), reference=REFERENCE)

    assert restored(Config(restore=True), "disrupt", run=run) == 0
    dead_run(server, Heal("database-stopped"))
    assert restored(Config(restore=True), "disrupt", run=run) == 6

    assert capsys.readouterr().out.splitlines()[:2] == [
        "nothing to put back",
        "expected: what runs have disturbed to be put back",
    ]
    assert cluster.requests


def test_test_that_disturbs_needs_a_run_that_holds_its_lease() -> None:
    """Where only observing is allowed there is none; such tests are not collected there."""
    tenure = cast("Tenure", SimpleNamespace())
    ask = cast("Any", leasing.tenure).__wrapped__

    assert ask(tenure) is tenure
    with pytest.raises(NoVerdictError, match="one that only observes"):
        ask(None)
