"""What is said of objects that somebody changed: as the lab's API server recorded it, of every way to change one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from kubernetes.client import ApiException

from fixtures.lease.changed_meanwhile import ChangeDetector, ChangedMeanwhileError
from fixtures.objects.manifest import Body, Manifest
from fixtures.outcomes import NoVerdictError, said
from fixtures.reference.changes import change_of
from fixtures.reference.reference import Reference
from tests.unit.patched import ABSENT, RECORDED, patched, recorded_reference

CHANGED = RECORDED / "changes"
KINDS = ("Deployment", "HorizontalPodAutoscaler", "ServiceAccount", "PodDisruptionBudget")
CONTAINER = "spec.template.spec.containers[backstage]"


def recorded(name: str) -> Body:
    """An object; after its kind follows what was done to it."""
    body: Body = json.loads((CHANGED / f"{name}.json").read_text())
    return body


def manifest_of(name: str) -> Manifest:
    """The reference's object of that kind."""
    return next(recorded_reference().the(kind) for kind in KINDS if kind.lower() == name.partition("-")[0])


def change(name: str, *, scaled: bool = True) -> str:
    """What is said of a recorded change."""
    return change_of(manifest_of(name), recorded(name.partition("-")[0]), recorded(name), scaled=scaled)


@pytest.mark.parametrize(
    ("name", "who", "fields"),
    [
        ("deployment-set-image", "changed by kubectl-set (Update, TODAY:28 UTC)", f"{CONTAINER}.image"),
        (
            "deployment-set-env",
            "changed by kubectl-set (Update, TODAY:28 UTC)",
            f"{CONTAINER}.env[FEATURE].name, {CONTAINER}.env[FEATURE].value",
        ),
        ("deployment-probe-removed", "changed by somebody unnamed", f"{CONTAINER}.livenessProbe"),
        ("deployment-changed-back", "changed, and changed back, by kubectl-set (Update, TODAY:31 UTC)", ""),
        ("horizontalpodautoscaler-patched", "changed by kubectl-patch (Update, TODAY:29 UTC)", "spec.maxReplicas"),
        (
            "serviceaccount-annotated",
            "changed by kubectl-annotate (Update, TODAY:29 UTC)",
            "metadata.annotations[iam.gke.io/gcp-service-account]",
        ),
        ("poddisruptionbudget-made-anew", "deleted and made anew by argocd-controller (Apply, TODAY:32 UTC)", ""),
    ],
)
def test_change_is_told_with_who_when_and_which_fields(name: str, who: str, fields: str) -> None:
    """What somebody took away bears no name."""
    told = f"{manifest_of(name)} {who.replace('TODAY', '2026-11-25 23:34')}"

    assert change(name) == (f"{told}: {fields}" if fields else told)


@pytest.mark.parametrize("name", ["deployment", "deployment-scaled", "deployment-noted", "deployment-fault-undone"])
def test_autoscaler_controllers_and_undone_faults_change_nothing(name: str) -> None:
    """Replicas that an HPA owns, status, what the reference does not name in metadata, the suite's own patches."""
    assert change(name) == ""


def test_scaling_by_hand_is_a_change_where_no_autoscaler_owns_the_replicas() -> None:
    """The API server notes nobody for it."""
    assert change("deployment-scaled", scaled=False) == (
        "Deployment backstage/backstage changed by somebody unnamed: spec.replicas"
    )


def test_fault_that_is_not_undone_is_a_change_with_the_suites_own_name() -> None:
    """A chaos test that could not put back what it changed judges nothing any more."""
    left = patched(recorded("deployment-fault-undone"), "/spec/progressDeadlineSeconds", 299)

    assert change_of(manifest_of("deployment"), recorded("deployment"), left) == (
        "Deployment backstage/backstage changed by "
        "backstage-acceptance-fault (Update, 2026-11-25 23:34:31 UTC): spec.progressDeadlineSeconds"
    )


def test_object_that_comes_or_goes_is_told() -> None:
    """Nobody signs a deletion."""
    budget, live = manifest_of("poddisruptionbudget"), recorded("poddisruptionbudget-made-anew")

    assert change_of(budget, None, None) == ""
    assert change_of(budget, live, None) == (
        "PodDisruptionBudget backstage/backstage deleted; only the API server's audit log knows by whom"
    )
    assert change_of(budget, None, live) == (
        "PodDisruptionBudget backstage/backstage made by argocd-controller (Apply, 2026-11-25 23:34:32 UTC)"
    )


def test_long_list_of_fields_is_cut() -> None:
    """Who rewrites a whole object is told by five of its fields."""
    before = patched(recorded("deployment"), "/spec/template", ABSENT)

    told = change_of(manifest_of("deployment"), before, recorded("deployment"))

    assert told.count(", spec.template.") == 4
    assert told.endswith("and 92 more")


def reading(**replaced: Body | Exception | None) -> Callable[[Body], Body | None]:
    """Reads the recorded objects, or by kind something else."""

    def read(body: Body) -> Body | None:
        kind = str(body["kind"])
        answer = replaced[kind] if kind in replaced else recorded(kind.lower())
        if isinstance(answer, Exception):
            raise answer
        return answer

    return read


class Target:
    """A reference of four objects, and what is read of them now."""

    def __init__(self) -> None:
        source = recorded_reference()
        manifests = tuple(source.the(kind) for kind in KINDS)
        secret = Manifest({"kind": "Secret", "metadata": {"name": "token"}})
        self.read = reading()
        self.detector = ChangeDetector(Reference(source.source, (*manifests, secret)), self._now)

    def _now(self, body: Body) -> Body | None:
        return self.read(body)


def test_witness_names_all_that_was_changed() -> None:
    """Two objects by two people; Secrets are not looked at."""
    target = Target()
    target.detector.take_snapshot()
    target.detector.check()
    target.read = reading(
        Deployment=recorded("deployment-set-image"), HorizontalPodAutoscaler=recorded("horizontalpodautoscaler-patched")
    )

    with pytest.raises(ChangedMeanwhileError) as changed:
        target.detector.check()

    assert str(changed.value) == (
        "expected: nobody to change what is judged while it is judged\n"
        f"seen: {change('deployment-set-image')}; {change('horizontalpodautoscaler-patched')}\n"
        "look next: kubectl get -o yaml --show-managed-fields; docs/deploy-lock.md keeps deployments and runs apart"
    )


def test_what_was_changed_before_is_not_the_runs() -> None:
    """A run that applies, or that waited for a pipeline, begins anew."""
    target = Target()
    target.detector.take_snapshot()
    target.read = reading(Deployment=recorded("deployment-set-image"))
    before = datetime.now(UTC)

    target.detector.take_snapshot()

    target.detector.check()
    assert target.detector.since >= before


@pytest.mark.parametrize("error", [ApiException(status=403), NoVerdictError(said("an answer", "none", "kubectl"))])
def test_what_cannot_be_read_is_left_out(error: Exception) -> None:
    """Promise drift has no verdict then; the rest is still watched."""
    target = Target()
    target.read = reading(ServiceAccount=error)
    target.detector.take_snapshot()
    target.detector.check()
    target.read = reading(ServiceAccount=error, Deployment=None)

    with pytest.raises(ChangedMeanwhileError, match="Deployment backstage/backstage deleted"):
        target.detector.check()


def test_scaling_is_the_autoscalers_where_the_reference_has_one() -> None:
    """Without it somebody scaled by hand."""
    target = Target()
    target.detector.take_snapshot()
    target.read = reading(Deployment=recorded("deployment-scaled"))
    target.detector.check()
