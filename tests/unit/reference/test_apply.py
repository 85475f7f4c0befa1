"""Applying: what is sent, in which order, what a conflict stops, and how a rollout is read."""

from __future__ import annotations

import pytest
from kubernetes.client.exceptions import ApiException

from fixtures.objects.manifest import Body, Manifest
from fixtures.reference.apply import (
    ConflictsError,
    RolloutFailedError,
    apply,
    read_rollout,
    rolled_out,
    wait_until_rolled_out,
)
from fixtures.reference.reference import Reference
from fixtures.waiting import DeadlinePassedError
from tests.unit.patched import RECORDED, patched, recorded_live, recorded_reference

DEPLOYMENT = "Deployment backstage/backstage"
IMAGE = "/spec/template/spec/containers/0/image"


class Cluster:
    """Answers as the lab's API server was seen to: an object is taken over as it is, or stays as it was."""

    def __init__(self, live: dict[str, Body]) -> None:
        self.live = live
        self.sent: list[str] = []
        self.refused: dict[str, ApiException] = {}

    def get(self, body: Body, /) -> Body | None:
        """The live object."""
        return self.live.get(str(Manifest(body)))

    def apply(self, body: Body, /, *, field_manager: str, dry_run: bool) -> Body:
        """The object of this name as it would be, with the manager's part in managedFields."""
        name = str(Manifest(body))
        if name in self.refused:
            raise self.refused[name]
        own = {"manager": field_manager, "operation": "Apply", "fieldsV1": {"f:spec": {}}}
        was = self.live.get(name, {})
        metadata = {
            **Manifest(body)["metadata"].mapping,
            "managedFields": [own],
            "resourceVersion": str(len(self.sent)),
        }
        after = {**body, "status": was.get("status"), "metadata": metadata}
        if not dry_run:
            self.live[name] = after
            self.sent.append(name)
        return after


def conflict() -> ApiException:
    """The API server's answer to an apply that would take two fields from other managers."""
    error = ApiException(status=409)
    error.body = (RECORDED / "live" / "conflict.json").read_text()
    return error


def names(reference: Reference) -> list[str]:
    """All of its objects."""
    return [str(manifest) for manifest in reference.manifests]


def test_everything_is_applied_to_an_empty_cluster_namespaces_first() -> None:
    """In the order of the reference otherwise."""
    reference = Reference("reversed", recorded_reference().manifests[::-1])
    cluster = Cluster({})

    assert [str(manifest) for manifest in apply(reference, cluster)] == cluster.sent
    assert cluster.sent == ["Namespace backstage", *[name for name in names(reference) if "Namespace" not in name]]


def test_second_apply_sends_nothing() -> None:
    """What would stay as it is was only tried."""
    cluster = Cluster({})
    apply(recorded_reference(), cluster)
    cluster.sent.clear()

    assert apply(recorded_reference(), cluster) == ()
    assert cluster.sent == []


def test_fields_are_taken_into_our_part_of_managed_fields() -> None:
    """An object that somebody else applied becomes ours as well; what other managers note there is theirs."""
    cluster = Cluster({})
    apply(recorded_reference(), cluster)
    cluster.live[DEPLOYMENT] = patched(cluster.live[DEPLOYMENT], "/metadata/managedFields/0/manager", "kubectl")
    service = "Service backstage/backstage"
    cluster.live[service] = patched(cluster.live[service], "/metadata/managedFields/-", {"manager": "kubectl"})

    assert [str(manifest) for manifest in apply(recorded_reference(), cluster)] == [DEPLOYMENT]


def test_only_what_changes_is_applied() -> None:
    """A candidate's image is one object."""
    cluster = Cluster({})
    apply(recorded_reference(), cluster)

    changed = apply(recorded_reference().with_image("registry.test/backstage@sha256:0"), cluster)

    assert [str(manifest) for manifest in changed] == [DEPLOYMENT]


def test_conflicts_are_reported_by_field_and_manager_and_nothing_is_applied() -> None:
    """Neither the object with the conflict nor those beside it."""
    cluster = Cluster(recorded_live())
    cluster.refused[DEPLOYMENT] = conflict()
    candidate = recorded_reference().with_image("lab.local/backstage:candidate")

    with pytest.raises(ConflictsError) as refused:
        apply(candidate, cluster)

    assert str(refused.value) == (
        "expected: the reference to be applied as backstage-acceptance without taking fields from other managers\n"
        "seen: 2 held\n"
        '  Deployment backstage/backstage spec.template.spec.containers[name="backstage"].image by kubectl\n'
        "  Deployment backstage/backstage spec.replicas by kube-controller-manager\n"
        "look next: drop the field from the reference, or let its manager set the reference's value"
    )
    assert cluster.sent == ["Namespace backstage"]  # which has to be there for the rest to be tried


def test_conflict_about_what_is_live_already_is_none() -> None:
    """The API server compares lists without their defaults: kubectl's route conflicts with the same route of ours."""
    cluster = Cluster(recorded_live())
    cluster.refused[DEPLOYMENT] = conflict()

    assert DEPLOYMENT not in [str(manifest) for manifest in apply(recorded_reference(), cluster)]


def test_conflict_that_arises_between_trying_and_applying_is_reported() -> None:
    """Somebody else was quicker."""
    cluster = Cluster({})
    tried = cluster.apply

    def quicker(body: Body, /, *, field_manager: str, dry_run: bool) -> Body:
        if not dry_run and Manifest(body).kind == "Deployment":
            raise conflict()
        return tried(body, field_manager=field_manager, dry_run=dry_run)

    cluster.apply = quicker  # type: ignore[method-assign]

    with pytest.raises(ConflictsError, match="seen: 2 held"):
        apply(recorded_reference(), cluster)


@pytest.mark.parametrize(
    ("status", "body"),
    [(403, '{"reason": "Forbidden"}'), (409, '{"reason": "AlreadyExists"}'), (409, None)],
)
def test_other_errors_pass_through(status: int, body: str | None) -> None:
    """They are the surroundings', not the reference's."""
    cluster = Cluster({})
    error = ApiException(status=status)
    error.body = body
    cluster.refused[DEPLOYMENT] = error

    with pytest.raises(ApiException) as passed:
        apply(recorded_reference(), cluster)

    assert passed.value is error


def rollout_after(pointer: str, value: object) -> Cluster:
    """The lab's cluster with one field of the Deployment changed."""
    live = recorded_live()
    return Cluster({**live, DEPLOYMENT: patched(live[DEPLOYMENT], pointer, value)})


def test_deployment_of_the_lab_is_rolled_out() -> None:
    """All replicas updated and available, at the generation of the spec."""
    (rollout,) = wait_until_rolled_out(recorded_reference(), Cluster(recorded_live()), within=0)

    assert str(rollout) == "2 updated and 2 available of 2, 2 in all; generation 7, observed 7"


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/metadata/generation", 8),
        ("/status/updatedReplicas", 1),
        ("/status/availableReplicas", 1),
        ("/status/replicas", 3),
        ("/spec/replicas", 3),
        ("/status", {"observedGeneration": 7}),
    ],
)
def test_rollout_is_not_complete_while_a_number_differs(pointer: str, value: object) -> None:
    """Each of them alone is enough."""
    assert not rolled_out(read_rollout(recorded_reference().the("Deployment"), rollout_after(pointer, value)))


def test_deployment_without_replicas_is_never_rolled_out() -> None:
    """Zero of zero is no evidence; so is a Deployment that is not there."""
    scaled_down = rollout_after("/status", {"observedGeneration": 7})
    scaled_down.live[DEPLOYMENT] = patched(scaled_down.live[DEPLOYMENT], "/spec/replicas", 0)
    deployment = recorded_reference().the("Deployment")

    assert not rolled_out(read_rollout(deployment, scaled_down))
    assert not rolled_out(read_rollout(deployment, Cluster({})))


def test_wait_for_a_rollout_says_how_far_it_came() -> None:
    """The numbers of the last reading."""
    with pytest.raises(DeadlinePassedError) as passed:
        wait_until_rolled_out(recorded_reference(), rollout_after("/status/updatedReplicas", 1), within=0)

    assert str(passed.value) == (
        "expected: Deployment backstage/backstage to be rolled out within 0 s\n"
        "seen: 1 updated and 2 available of 2, 2 in all; generation 7, observed 7\n"
        "look next: kubectl -n backstage describe deployment backstage, then its pods and their logs"
    )


def test_rollout_of_a_new_deployment_waits_for_its_autoscaler() -> None:
    """It begins with one replica, complete at once; the HPA makes it two a moment later."""
    status = {"observedGeneration": 7, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    young = rollout_after("/status", status)
    young.live[DEPLOYMENT] = patched(young.live[DEPLOYMENT], "/spec/replicas", 1)

    with pytest.raises(DeadlinePassedError) as passed:
        wait_until_rolled_out(recorded_reference(), young, within=0)

    assert "\nseen: 1 updated and 1 available of 2, 1 in all; generation 7, observed 7\n" in str(passed.value)


STUCK = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "message": 'ReplicaSet "backstage-5d8" has timed out progressing.',
}


def test_wait_for_a_rollout_ends_at_once_when_the_controller_gave_up() -> None:
    """Long before its own deadline, and with the controller's words."""
    with pytest.raises(RolloutFailedError) as failed:
        wait_until_rolled_out(recorded_reference(), rollout_after("/status/conditions/-", STUCK), within=600)

    assert str(failed.value) == (
        "expected: Deployment backstage/backstage to be rolled out\n"
        'seen: ReplicaSet "backstage-5d8" has timed out progressing. '
        "2 updated and 2 available of 2, 2 in all; generation 7, observed 7\n"
        "look next: kubectl -n backstage describe deployment backstage, then its pods and their logs"
    )


def test_rollout_does_not_fail_on_what_was_said_of_an_earlier_spec() -> None:
    """After a new apply the old verdict stands until the controller has looked."""
    cluster = rollout_after("/status/conditions/-", STUCK)
    cluster.live[DEPLOYMENT] = patched(cluster.live[DEPLOYMENT], "/metadata/generation", 8)

    assert not rolled_out(read_rollout(recorded_reference().the("Deployment"), cluster))
