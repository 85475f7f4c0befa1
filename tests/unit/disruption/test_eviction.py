"""One eviction: what each response of the API server means, and how long an undecided eviction is retried."""

from __future__ import annotations

import pytest
from kubernetes.client import ApiException

from fixtures.api.pods import Pod
from fixtures.api.requests import RetryPolicy
from fixtures.disruption.eviction import Decision, evict, evict_until_decided
from fixtures.objects.manifest import Field
from fixtures.outcomes import NoVerdictError
from tests.unit.apiserver import Answer, Json
from tests.unit.fakecluster import BACKSTAGE, PODS, FakeCluster, refused_by_budget, status
from tests.unit.fakeserver import served


def pod(name: str, labels: Json, **metadata: object) -> Pod:
    """A pod in namespace portal whose uid is its name."""
    return Pod(Field({"metadata": {"name": name, "namespace": "portal", "uid": name, "labels": labels, **metadata}}))


@pytest.mark.parametrize(
    ("answer", "decision", "message"),
    [
        (None, "evicted", ""),
        (
            refused_by_budget(),
            "refused by budget",
            "The disruption budget backstage needs 1 healthy pods and has 1 currently",
        ),
        (status(429, "TooManyRequests", "slow down"), "undecided", "429 Too Many Requests"),
        (Answer(429, "<html>a proxy's page</html>"), "undecided", "429 Too Many Requests"),
        (status(404, "NotFound"), "gone", ""),
        (status(403, "Forbidden", "managed namespace"), "forbidden", "managed namespace"),
        (status(409, "Conflict", "the object has been modified"), "undecided", "the object has been modified"),
        (status(504, "Timeout"), "undecided", "504 Gateway Timeout"),
        (
            status(500, "InternalError", "This pod has more than one PodDisruptionBudget, which"),
            "impossible",
            "This pod has more than one PodDisruptionBudget, which",
        ),
    ],
)
def test_answer_to_an_eviction_is_told_apart(answer: Answer | None, decision: Decision, message: str) -> None:
    """The two kinds of 429, throttling and a refusal by the budget, matter most."""
    # Long delays: no pod ends or becomes Ready while the test runs.
    cluster = FakeCluster(ends_after=1000, ready_after=1000)
    with served(cluster) as server:
        cluster.script = lambda _: answer
        found = evict(pod("backstage-a", BACKSTAGE, uid="uid-1"), server.api())

    assert (found.decision, found.message) == (decision, message)


def test_dry_run_decides_and_does_nothing() -> None:
    """The eviction has the pod's uid as its precondition, and dryRun is set in the query and the body."""
    cluster = FakeCluster()
    with served(cluster) as server:
        found = evict(pod("backstage-a", BACKSTAGE, uid="uid-1"), server.api(), dry_run=True)

    assert found.decision == "evicted"
    assert cluster.requests[0].path.endswith("/backstage-a/eviction?dryRun=All")
    assert cluster.requests[0].body["deleteOptions"] == {"preconditions": {"uid": "uid-1"}, "dryRun": ["All"]}
    assert not any("deletionTimestamp" in each["metadata"] for each in cluster.collections[PODS].values())


def test_throttling_is_waited_out_and_then_is_no_verdict() -> None:
    """Throttling says nothing about the budget."""
    cluster = FakeCluster()
    cluster.script = lambda _: status(429, "TooManyRequests")
    with served(cluster) as server, pytest.raises(NoVerdictError) as failed:
        evict_until_decided(pod("backstage-a", BACKSTAGE), server.api(RetryPolicy(within=0.05, every=0.01)))

    assert str(failed.value) == (
        "expected: a decision about the eviction of portal/backstage-a within 0.05 s\n"
        "seen: portal/backstage-a undecided: 429 Too Many Requests\n"
        "look next: kubectl get --raw=/readyz?verbose"
    )


def test_eviction_that_is_no_request_at_all_is_an_error() -> None:
    """A 400 is a mistake of this client, not a decision about the pod."""
    cluster = FakeCluster()
    cluster.script = lambda _: status(400, "BadRequest")
    with served(cluster) as server, pytest.raises(ApiException):
        evict(pod("backstage-a", BACKSTAGE), server.api())
