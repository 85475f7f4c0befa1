"""Promise drift: the live objects are as the manifests describe them."""

from __future__ import annotations

from fixtures.api.live import Objects
from fixtures.lint import findings as lint
from fixtures.reference import drift
from fixtures.reference.apply import Applied
from fixtures.reference.reference import Reference
from fixtures.report.check import Check


def test_reference_has_nothing_that_gke_refuses_or_ignores(reference: Reference) -> None:
    """GKE does everything that the manifests ask for."""
    found = lint.findings(reference)

    assert not found, lint.summary(reference, found)


def test_live_objects_contain_the_reference(applied: Applied, objects: Objects, check: Check) -> None:
    """The deployment is as its manifests describe it; nobody has changed it by hand."""
    found = drift.differences(applied.reference, objects.get)
    check.measured("objects compared", len(applied.reference.manifests), "")

    assert not found, drift.summary(applied.reference, found)
