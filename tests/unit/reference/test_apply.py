"""Applying the reference: what is sent and in which order, how conflicts are reported, how a rollout is read."""

from __future__ import annotations

import pytest
from kubernetes.client.exceptions import ApiException
from typing_extensions import override

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
    """An API server that answers as the lab's was recorded: each applied object is stored unchanged."""

    def __init__(self, live: dict[str, Body]) -> None:
        self.live = live
        self.sent: list[str] = []
        self.refused: dict[str, ApiException] = {}

    def get(self, body: Body, /) -> Body | None:
        """The live object of the same kind, namespace and name, if there is one."""
        return self.live.get(str(Manifest(body)))

    def apply(self, body: Body, /, *, field_manager: str, dry_run: bool) -> Body:
        """The object as it would be after the apply, with one entry in managedFields."""
        name = str(Manifest(body))
        if name in self.refused:
            raise self.refused[name]
        own = {"manager": field_manager, "operation": "Apply", "fieldsV1": {"f:spec": {}}}
        live = self.live.get(name, {})
        metadata = {
            **Manifest(body)["metadata"].mapping,
            "managedFields": [own],
            "resourceVersion": str(len(self.sent)),
        }
        after = {**body, "status": live.get("status"), "metadata": metadata}
        if not dry_run:
            self.live[name] = after
            self.sent.append(name)
        return after


class ContestedCluster(Cluster):
    """Another manager takes the Deployment's fields after the dry run."""

    @override
    def apply(self, body: Body, /, *, field_manager: str, dry_run: bool) -> Body:
        if not dry_run and Manifest(body).kind == "Deployment":
            raise conflict()
        return super().apply(body, field_manager=field_manager, dry_run=dry_run)


def conflict() -> ApiException:
    """The API server's 409 to an apply that would take two fields from other managers."""
    error = ApiException(status=409)
    error.body = (RECORDED / "live" / "conflict.json").read_text()
    return error


def names(reference: Reference) -> list[str]:
    """Kind, namespace and name of each object in the reference."""
    return [str(manifest) for manifest in reference.manifests]


def test_everything_is_applied_to_an_empty_cluster_namespaces_first() -> None:
    """Namespaces are sent first, then all other objects in the order of the reference."""
    reference = Reference("reversed", recorded_reference().manifests[::-1])
    cluster = Cluster({})

    assert [str(manifest) for manifest in apply(reference, cluster)] == cluster.sent
    assert cluster.sent == ["Namespace backstage", *[name for name in names(reference) if "Namespace" not in name]]


def test_second_apply_sends_nothing() -> None:
    """An object that the dry run leaves unchanged is not applied."""
    cluster = Cluster({})
    apply(recorded_reference(), cluster)
    cluster.sent.clear()

    assert apply(recorded_reference(), cluster) == ()
    assert cluster.sent == []


def test_fields_are_taken_into_our_part_of_managed_fields() -> None:
    """An object that another manager applied is applied again; an extra manager of our object changes nothing."""
    cluster = Cluster({})
    apply(recorded_reference(), cluster)
    cluster.live[DEPLOYMENT] = patched(cluster.live[DEPLOYMENT], "/metadata/managedFields/0/manager", "kubectl")
    service = "Service backstage/backstage"
    cluster.live[service] = patched(cluster.live[service], "/metadata/managedFields/-", {"manager": "kubectl"})

    assert [str(manifest) for manifest in apply(recorded_reference(), cluster)] == [DEPLOYMENT]


def test_only_what_changes_is_applied() -> None:
    """A reference that differs only in the candidate's image changes one object."""
    cluster = Cluster({})
    apply(recorded_reference(), cluster)

    changed = apply(recorded_reference().with_image("registry.test/backstage@sha256:0"), cluster)

    assert [str(manifest) for manifest in changed] == [DEPLOYMENT]


def test_conflicts_are_reported_by_field_and_manager_and_nothing_is_applied() -> None:
    """One conflict keeps every object from being applied, except the Namespace that the dry runs need."""
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
    assert cluster.sent == ["Namespace backstage"]  # a dry run in a namespace that does not exist fails


def test_conflict_about_what_is_live_already_is_none() -> None:
    """A conflict does not count if the live value is ours: the API server compares lists without their defaults."""
    cluster = Cluster(recorded_live())
    cluster.refused[DEPLOYMENT] = conflict()

    assert DEPLOYMENT not in [str(manifest) for manifest in apply(recorded_reference(), cluster)]


def test_conflict_that_arises_between_trying_and_applying_is_reported() -> None:
    """A conflict that appears only after the dry run is reported like one that the dry run finds."""
    with pytest.raises(ConflictsError, match="seen: 2 held"):
        apply(recorded_reference(), ContestedCluster({}))


@pytest.mark.parametrize(
    ("status", "body"),
    [(403, '{"reason": "Forbidden"}'), (409, '{"reason": "AlreadyExists"}'), (409, None)],
)
def test_other_errors_pass_through(status: int, body: str | None) -> None:
    """Errors that are not field conflicts reach the caller unchanged."""
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
    """A Deployment is rolled out when all replicas are updated and available at the spec's generation."""
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
    """A single number that differs keeps the rollout from being complete."""
    assert not rolled_out(read_rollout(recorded_reference().the("Deployment"), rollout_after(pointer, value)))


def test_deployment_without_replicas_is_never_rolled_out() -> None:
    """Neither a Deployment scaled to zero nor an absent one counts as rolled out."""
    scaled_down = rollout_after("/status", {"observedGeneration": 7})
    scaled_down.live[DEPLOYMENT] = patched(scaled_down.live[DEPLOYMENT], "/spec/replicas", 0)
    deployment = recorded_reference().the("Deployment")

    assert not rolled_out(read_rollout(deployment, scaled_down))
    assert not rolled_out(read_rollout(deployment, Cluster({})))


def test_wait_for_a_rollout_says_how_far_it_came() -> None:
    """A wait that times out reports the numbers of its last reading."""
    with pytest.raises(DeadlinePassedError) as passed:
        wait_until_rolled_out(recorded_reference(), rollout_after("/status/updatedReplicas", 1), within=0)

    assert str(passed.value) == (
        "expected: Deployment backstage/backstage to be rolled out within 0 s\n"
        "seen: 1 updated and 2 available of 2, 2 in all; generation 7, observed 7\n"
        "look next: kubectl -n backstage describe deployment backstage, then its pods and their logs"
    )


def test_rollout_of_a_new_deployment_waits_for_its_autoscaler() -> None:
    """One complete replica is not enough while the HPA has still to scale the Deployment to its minimum."""
    status = {"observedGeneration": 7, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    scaling_up = rollout_after("/status", status)
    scaling_up.live[DEPLOYMENT] = patched(scaling_up.live[DEPLOYMENT], "/spec/replicas", 1)

    with pytest.raises(DeadlinePassedError) as passed:
        wait_until_rolled_out(recorded_reference(), scaling_up, within=0)

    assert "\nseen: 1 updated and 1 available of 2, 1 in all; generation 7, observed 7\n" in str(passed.value)


STUCK = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "message": 'ReplicaSet "backstage-5d8" has timed out progressing.',
}


def test_wait_for_a_rollout_ends_at_once_when_the_controller_gave_up() -> None:
    """ProgressDeadlineExceeded ends the wait at once, with the controller's message."""
    with pytest.raises(RolloutFailedError) as failed:
        wait_until_rolled_out(recorded_reference(), rollout_after("/status/conditions/-", STUCK), within=600)

    assert str(failed.value) == (
        "expected: Deployment backstage/backstage to be rolled out\n"
        'seen: ReplicaSet "backstage-5d8" has timed out progressing. '
        "2 updated and 2 available of 2, 2 in all; generation 7, observed 7\n"
        "look next: kubectl -n backstage describe deployment backstage, then its pods and their logs"
    )


def test_rollout_does_not_fail_on_what_was_said_of_an_earlier_spec() -> None:
    """A failure recorded for an earlier generation does not end the wait for the new one."""
    cluster = rollout_after("/status/conditions/-", STUCK)
    cluster.live[DEPLOYMENT] = patched(cluster.live[DEPLOYMENT], "/metadata/generation", 8)

    assert not rolled_out(read_rollout(recorded_reference().the("Deployment"), cluster))
