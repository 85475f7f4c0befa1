"""The HPA as it is read, on the lab's recorded one."""

from __future__ import annotations

import pytest

from fixtures.objects.manifest import Field, Manifest
from fixtures.platform.autoscaler import autoscaler_of, bounds_of, last_warning
from fixtures.waiting import DeadlinePassedError, wait_for
from tests.unit.patched import ABSENT, patched
from tests.unit.recorded_autoscaler import HPA, hpa_with


def test_autoscaler_of_the_lab_is_active() -> None:
    """An idle HPA is active, although its condition ScalingLimited says that it is held at its minimum."""
    seen = autoscaler_of(Field(HPA))

    assert seen.active
    assert seen.settled
    assert str(seen) == "2 pods, 2 desired, of 2 to 5; cpu 9% of 60%; memory 33% of 75%"
    assert seen.reason("ScalingActive") == "ValidMetricFound"
    assert seen.reason("None") == ""


@pytest.mark.parametrize(
    ("pointer", "value", "seen"),
    [
        ("/status/currentMetrics/0", ABSENT, "no figure for cpu; memory 33% of 75%"),
        ("/status/conditions/0/status", "False", "AbleToScale=False (ReadyForNewScale: recommended size matches"),
        ("/status/conditions/1/status", "False", "ScalingActive=False (ValidMetricFound: the HPA was able"),
        ("/spec/metrics", [], "2 pods, 2 desired, of 2 to 5"),
        ("/status", ABSENT, "no status"),
    ],
)
def test_autoscaler_without_figures_is_not_active(pointer: str, value: object, seen: str) -> None:
    """A missing metric makes the HPA inactive: ScalingActive stays True while only one of two is missing."""
    autoscaler = autoscaler_of(Field(hpa_with(pointer, value)))

    assert not autoscaler.active
    assert not autoscaler.settled
    assert seen in str(autoscaler)


def test_failed_wait_for_figures_says_which_is_missing() -> None:
    """The wait that times out names the metric without a value."""
    with pytest.raises(DeadlinePassedError) as failed:
        wait_for(
            "HorizontalPodAutoscaler backstage/backstage to be active, with a figure for each of its metrics",
            lambda: autoscaler_of(Field(hpa_with("/status/currentMetrics/0", ABSENT))),
            until=lambda seen: seen.active,
            within=0.001,
            look_next="kubectl -n backstage describe hpa backstage",
            every=0.001,
        )
    assert str(failed.value) == (
        "expected: HorizontalPodAutoscaler backstage/backstage to be active, with a figure for each of its metrics "
        "within 0.001 s\n"
        "seen: 2 pods, 2 desired, of 2 to 5; no figure for cpu; memory 33% of 75%\n"
        "look next: kubectl -n backstage describe hpa backstage"
    )


def test_figures_of_one_container_and_of_amounts_are_read() -> None:
    """Metrics of one container, absolute amounts and custom metrics are read, too."""
    metrics = [
        {
            "type": "ContainerResource",
            "containerResource": {
                "name": "cpu",
                "container": "backstage",
                "target": {"type": "Utilization", "averageUtilization": 60},
            },
        },
        {"type": "Resource", "resource": {"name": "memory", "target": {"averageValue": "512Mi"}}},
        {"type": "Pods", "pods": {"metric": {"name": "requests"}, "target": {"averageValue": "20"}}},
    ]
    current = [
        {
            "type": "ContainerResource",
            "containerResource": {"name": "cpu", "container": "backstage", "current": {"averageUtilization": 30}},
        },
        {"type": "Resource", "resource": {"name": "memory", "current": {"averageValue": "256Mi"}}},
        {"type": "Pods", "pods": {"metric": {"name": "requests"}, "current": {"averageValue": "5"}}},
    ]
    body = patched(hpa_with("/spec/metrics", metrics), "/status/currentMetrics", current)

    seen = autoscaler_of(Field(body))

    assert [each.name for each in seen.metrics] == ["cpu of backstage", "memory", "requests"]
    assert [each.ratio for each in seen.metrics] == [0.5, 0.5, 0.25]
    assert seen.metric("cpu") == seen.metrics[0]
    assert seen.metric("nothing") is None


def test_bounds_include_what_lies_between_them() -> None:
    """A range of replicas is within the bounds if both of its ends are."""
    bounds = bounds_of(Manifest(HPA))

    assert str(bounds) == "2 to 5"
    assert bounds.include(2, 5)
    assert not bounds.include(2, 6)
    assert str(bounds_of(Field({"spec": {"maxReplicas": 3}}))) == "1 to 3"


def test_complaint_is_the_last_warning_about_the_hpa() -> None:
    """Only the newest Warning about this HPA counts, not Normal events or those of other HPAs."""

    def event(kind: str, about: str, at: str, message: str) -> Field:
        involved = {"kind": "HorizontalPodAutoscaler", "name": about}
        return Field(
            {"type": kind, "involvedObject": involved, "lastTimestamp": at, "reason": "Failed", "message": message}
        )

    events = [
        event("Warning", "backstage", "2026-11-24T12:00:10Z", "missing request for cpu\nin container x"),
        event("Warning", "backstage", "2026-11-24T12:00:00Z", "no metrics"),
        event("Warning", "other", "2026-11-24T12:00:20Z", "no metrics"),
        event("Normal", "backstage", "2026-11-24T12:00:30Z", "New size: 3"),
    ]

    assert last_warning(events, Manifest(HPA)) == "Failed: missing request for cpu in container x"
    assert last_warning(events[2:], Manifest(HPA)) == ""
