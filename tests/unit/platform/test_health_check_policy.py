"""The HealthCheckPolicy: which source says that it is attached, and which source wins."""

from __future__ import annotations

import pytest

from fixtures.objects.manifest import Field, Manifest
from fixtures.platform.health_check_policy import CONDITION, EVENT, HealthCheckPolicy, policy_of, read_policy
from tests.unit.patched import patched
from tests.unit.recorded_gateway import POLICY, FakeObjects, condition


def event(message: str, time: str, uid: str = "") -> Field:
    """An event of GKE's Gateway controller about the lab's policy."""
    about = {"uid": uid or Manifest(POLICY)["metadata"]["uid"].text}
    return Field({"involvedObject": about, "reason": "SYNC", "message": message, "lastTimestamp": time})


def policy(*events: Field, conditions: list[dict[str, object]] | None = None) -> HealthCheckPolicy:
    """The lab's policy with the given events and, optionally, other conditions."""
    return policy_of(Field(POLICY if conditions is None else patched(POLICY, "/status/conditions", conditions)), events)


SUCCESS = event('Application of HealthCheckPolicy "backstage/backstage" was a success', "2026-11-24T11:57:17Z")
FAILURE = event('Application of HealthCheckPolicy "backstage/backstage" failed: why', "2026-11-24T11:58:00Z")


@pytest.mark.parametrize(
    ("read", "source", "silent"),
    [
        pytest.param(policy(), CONDITION, False, id="condition"),
        pytest.param(policy(SUCCESS, conditions=[]), EVENT, False, id="event"),
        pytest.param(policy(conditions=[]), "", True, id="nothing"),
        pytest.param(policy(SUCCESS, FAILURE, conditions=[]), "", True, id="an event that condemns nothing alone"),
        pytest.param(policy(FAILURE, conditions=[condition("Attached", "False", "TargetNotFound", 99)]), "", True,
                     id="condition of another generation"),
        pytest.param(policy(event("x was a success", "2026", "other"), conditions=[]), "", True, id="another's event"),
    ],
)  # fmt: skip
def test_policy_is_attached_if_a_source_of_truth_says_so(read: HealthCheckPolicy, source: str, *, silent: bool) -> None:
    """The condition decides if there is one, otherwise the newest event of this policy."""
    assert (read.source, read.silent) == (source, silent)


def test_events_are_read_only_where_there_is_no_condition() -> None:
    """Events are read only if the condition is missing."""
    manifest, without_condition = Manifest(POLICY), patched(POLICY, "/status/conditions", [])

    assert read_policy(manifest, FakeObjects(POLICY, events=(FAILURE,))).event == ""
    assert read_policy(manifest, FakeObjects(without_condition, events=(SUCCESS,))).source == EVENT
    assert str(read_policy(manifest, FakeObjects())) == "target none; neither a condition Attached nor an event"


def test_policy_that_is_refused_is_told_with_the_reason() -> None:
    """Attached=False wins over an event that reports success."""
    generation = Manifest(POLICY)["metadata"]["generation"].number or 0
    read = policy(SUCCESS, conditions=[condition("Attached", "False", "TargetNotFound", generation)])

    assert (read.source, read.silent) == ("", False)
    assert str(read).startswith("target backstage; Attached=False (TargetNotFound: why), event: Application of ")


def test_policy_may_have_its_conditions_by_ancestor() -> None:
    """Conditions below `status.ancestors` count, as in the Gateway API's own policies."""
    generation = Manifest(POLICY)["metadata"]["generation"].number or 0
    ancestors = [{"conditions": [condition("Attached", "True", "Attached", generation)]}]

    assert policy_of(Field(patched(POLICY, "/status", {"ancestors": ancestors}))).source == CONDITION
