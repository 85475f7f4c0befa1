"""How a change to a live object during a run is reported, on changes that the lab's API server recorded."""

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
    """A recorded object; the name is its lower-case kind, then what was done to it."""
    body: Body = json.loads((CHANGED / f"{name}.json").read_text())
    return body


def manifest_of(name: str) -> Manifest:
    """The reference's object of the kind that the name begins with."""
    return next(recorded_reference().the(kind) for kind in KINDS if kind.lower() == name.partition("-")[0])


def change(name: str, *, scaled: bool = True) -> str:
    """The text that reports a recorded change."""
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
    """A change is reported with manager, time and fields; a removed field has no manager."""
    text = f"{manifest_of(name)} {who.replace('TODAY', '2026-11-25 23:34')}"

    assert change(name) == (f"{text}: {fields}" if fields else text)


@pytest.mark.parametrize("name", ["deployment", "deployment-scaled", "deployment-noted", "deployment-fault-undone"])
def test_autoscaler_controllers_and_undone_faults_change_nothing(name: str) -> None:
    """Neither replicas under an HPA, nor status, nor foreign metadata, nor a fault that was undone is a change."""
    assert change(name) == ""


def test_scaling_by_hand_is_a_change_where_no_autoscaler_owns_the_replicas() -> None:
    """Scaling by hand is reported without a name, as the API server records no manager for it."""
    assert change("deployment-scaled", scaled=False) == (
        "Deployment backstage/backstage changed by somebody unnamed: spec.replicas"
    )


def test_fault_that_is_not_undone_is_a_change_with_the_suites_own_name() -> None:
    """A fault that stays is reported under the suite's own field manager: later checks would judge a broken target."""
    remaining = patched(recorded("deployment-fault-undone"), "/spec/progressDeadlineSeconds", 299)

    assert change_of(manifest_of("deployment"), recorded("deployment"), remaining) == (
        "Deployment backstage/backstage changed by "
        "backstage-acceptance-fault (Update, 2026-11-25 23:34:31 UTC): spec.progressDeadlineSeconds"
    )


def test_object_that_comes_or_goes_is_told() -> None:
    """A created object is reported with its manager; nothing in the API names who deleted one."""
    budget, live = manifest_of("poddisruptionbudget"), recorded("poddisruptionbudget-made-anew")

    assert change_of(budget, None, None) == ""
    assert change_of(budget, live, None) == (
        "PodDisruptionBudget backstage/backstage deleted; only the API server's audit log knows by whom"
    )
    assert change_of(budget, None, live) == (
        "PodDisruptionBudget backstage/backstage made by argocd-controller (Apply, 2026-11-25 23:34:32 UTC)"
    )


def test_long_list_of_fields_is_cut() -> None:
    """A change of many fields is reported with the first five and the number of the others."""
    before = patched(recorded("deployment"), "/spec/template", ABSENT)

    text = change_of(manifest_of("deployment"), before, recorded("deployment"))

    assert text.count(", spec.template.") == 4
    assert text.endswith("and 92 more")


def reading(**replaced: Body | Exception | None) -> Callable[[Body], Body | None]:
    """A reader of the recorded objects; `replaced` gives other answers by kind, exceptions included."""

    def read(body: Body) -> Body | None:
        kind = str(body["kind"])
        answer = replaced[kind] if kind in replaced else recorded(kind.lower())
        if isinstance(answer, Exception):
            raise answer
        return answer

    return read


class Target:
    """A change detector over four objects and a Secret, with a reader that the test replaces."""

    def __init__(self) -> None:
        source = recorded_reference()
        manifests = tuple(source.the(kind) for kind in KINDS)
        secret = Manifest({"kind": "Secret", "metadata": {"name": "token"}})
        self.read = reading()
        self.detector = ChangeDetector(Reference(source.source, (*manifests, secret)), self._now)

    def _now(self, body: Body) -> Body | None:
        return self.read(body)


def test_witness_names_all_that_was_changed() -> None:
    """Every changed object is reported; Secrets are never read."""
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
    """A new snapshot forgets earlier changes, as a run needs that applies or has waited for a deployment."""
    target = Target()
    target.detector.take_snapshot()
    target.read = reading(Deployment=recorded("deployment-set-image"))
    before = datetime.now(UTC)

    target.detector.take_snapshot()

    target.detector.check()
    assert target.detector.since >= before


@pytest.mark.parametrize("error", [ApiException(status=403), NoVerdictError(said("an answer", "none", "kubectl"))])
def test_what_cannot_be_read_is_left_out(error: Exception) -> None:
    """An object that cannot be read is skipped, and the others are still compared."""
    target = Target()
    target.read = reading(ServiceAccount=error)
    target.detector.take_snapshot()
    target.detector.check()
    target.read = reading(ServiceAccount=error, Deployment=None)

    with pytest.raises(ChangedMeanwhileError, match="Deployment backstage/backstage deleted"):
        target.detector.check()


def test_scaling_is_the_autoscalers_where_the_reference_has_one() -> None:
    """A change of replicas is ignored if the reference has an HPA for the Deployment, and reported otherwise."""
    target = Target()
    target.detector.take_snapshot()
    target.read = reading(Deployment=recorded("deployment-scaled"))
    target.detector.check()
