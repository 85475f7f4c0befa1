"""The manifest of load pods, and how the pods of a dead run are removed."""

from __future__ import annotations

from fixtures.api.client import GuardedClient
from fixtures.api.requests import Api, RetryPolicy
from fixtures.disruption.restore import RestoreContext, Restored, restore
from fixtures.lease.journal import EndLoad, Entry, Journal
from fixtures.load import pods as load_pods
from fixtures.load.pods import LoadPods
from fixtures.objects.manifest import Field
from tests.unit.load.conftest import FakeApiServer, FakeLease


def test_pod_holds_nothing_secret_and_may_do_nothing() -> None:
    """The pod fits the `restricted` Pod Security Standard, has no API token, and ends at a deadline or with stdin."""
    pod = Field(load_pods.manifest("acceptance-load", "1f", "load-1f-master", "suite:1", lifetime=99.6))
    spec, [container] = pod["spec"], list(pod["spec"]["containers"])

    assert pod["metadata"]["labels"].mapping == {load_pods.LABEL: "1f"}
    assert (spec["activeDeadlineSeconds"].number, spec["restartPolicy"].text) == (100, "Never")
    assert spec["automountServiceAccountToken"].value is False
    assert spec["securityContext"]["runAsNonRoot"].value is True
    assert container["securityContext"]["readOnlyRootFilesystem"].value is True
    assert container["image"].text == "suite:1"
    assert (container["stdin"].value, container["stdinOnce"].value) == (True, True)


def test_load_of_a_dead_run_is_removed(client: GuardedClient, api_server: FakeApiServer, lease: FakeLease) -> None:
    """The journal names the load; an environment without `[load] workers` keeps the entry and reports it."""
    api = Api(client, RetryPolicy(within=1, every=0.01))
    pods = LoadPods(api, "acceptance-load", 1, "1f")
    pods.create("suite:1", 100)
    entry = Entry("dead", str(pods), EndLoad("1f"))

    elsewhere = restored(Journal(lease, (entry,)), RestoreContext(api, lambda _: None, lambda *_: None, {}))
    assert elsewhere.left[0] == (
        "load 1f in acceptance-load (run dead): the environment has no `[load] workers`; --restore with one that has"
    )
    here = restored(
        Journal(lease, (entry,)), RestoreContext(api, lambda _: None, lambda *_: None, {}, "acceptance-load")
    )

    assert here.done == ("load 1f in acceptance-load (run dead)",)
    assert api_server.pods == {}


def restored(journal: Journal, context: RestoreContext) -> Restored:
    """The result of restoring this journal."""
    return restore(journal, "backstage/acceptance-backstage", context)
