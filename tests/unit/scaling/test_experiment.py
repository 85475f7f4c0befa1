"""A scaling experiment with a deployment that scales or does not: the rates it sets, what it waits for and records."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from fixtures.api.pods import Pod
from fixtures.api.watch import Change
from fixtures.environment.timeouts import Timeouts
from fixtures.load.load import Load
from fixtures.load.plan import PRESSURE, USERS, LoadRow, Tick
from fixtures.objects.manifest import Field
from fixtures.outcomes import NoVerdictError
from fixtures.platform.autoscaler import Autoscaler, autoscaler_of
from fixtures.scaling import experiment
from fixtures.scaling.calibration import AIM_RATIO, Usage
from fixtures.scaling.chain import Recording
from fixtures.scaling.experiment import ScaleExperiment
from fixtures.scaling.recorder import Scaled, ScaleRecorder, scaled_of
from fixtures.scaling.result import BEGINS, ENDS, GROWN, SHRUNK, ScaleResult
from tests.unit.patched import RECORDED, patched, recorded_reference, with_patch
from tests.unit.recorded_autoscaler import HPA

PODS: list[dict[str, Any]] = json.loads((RECORDED / "autoscaling" / "pods.json").read_text())["pods"]
SCALED = scaled_of(recorded_reference())
GRACE = "/spec/template/spec/terminationGracePeriodSeconds"
WINDOW = "/spec/behavior/scaleDown/stabilizationWindowSeconds"
LOOK_NEXT = "kubectl -n backstage describe hpa backstage"


class FakeLoad(Load):
    """Load that sends nothing and keeps the rates it is set to."""

    def __init__(self) -> None:
        self.folder = Path("results/load")
        self.processes = 1
        self.rates: list[float] = []

    def set_rate(self, *, pressure: float) -> None:
        """Keep the rate."""
        self.rates.append(pressure)

    def check(self) -> None:
        """Never fail."""

    def rows(self) -> tuple[LoadRow, ...]:
        """Thirty good requests of users, one second in the future so that they count for any window."""
        return tuple(LoadRow(time.time() + 1, USERS, 0.1, "good") for _ in range(30))

    def ticks(self) -> tuple[Tick, ...]:
        """Everything due was sent within the last millisecond."""
        # Two ticks, as what was offered is the difference between them.
        now = time.time()
        return (Tick(now - 0.001, {PRESSURE: 0}, {PRESSURE: 0}), Tick(now - 0.0005, {PRESSURE: 9}, {PRESSURE: 9}))


class FakeRecorder(ScaleRecorder):
    """A recorder of two pods with scripted CPU usage, which become three once the load is calibrated, if `grows`."""

    def __init__(self, load: FakeLoad, *ratios: float, grows: bool = True, shrinks: bool = True) -> None:
        self._load, self._ratios = load, list(ratios)
        self._grows, self._shrinks = grows, shrinks

    def usage(self) -> Usage | None:
        """0.1 without load, then the next scripted ratio, each in a metrics window that has just begun."""
        if not self._load.rates:
            return Usage(0, 0, 0.1)
        # Only windows that begin after the last change of the rate count, so this one begins a little later.
        now = time.time() + 1
        return Usage(now, now, self._ratios.pop(0) if self._ratios else AIM_RATIO)

    @property
    def autoscaler(self) -> Autoscaler:
        """The lab's HPA, with three replicas while the load is on."""
        over = self._load.rates[-1:] == [0] and self._shrinks
        size = 3 if self._grows and self._load.rates and not over and not self._ratios else 2
        body = patched(patched(HPA, "/status/desiredReplicas", size), "/status/currentReplicas", size)
        return autoscaler_of(Field(body))

    @property
    def pods(self) -> tuple[Pod, ...]:
        """As many pods as the HPA has current replicas."""
        return tuple(Pod(Field(PODS[number % 2])) for number in range(self.autoscaler.current))

    def recording(self, began: float, before: int) -> Recording:
        """A recording in which the third pod, if desired, was Ready at once."""
        now = time.time() + 1
        third = patched(PODS[0], "/metadata/uid", "third")
        wanted = self.autoscaler.desired > before
        endpoints = {"endpoints": [{"addresses": ["10.244.1.4"], "conditions": {"ready": True}}]}
        return Recording(
            began,
            before,
            ((now, self.autoscaler),),
            (Change(now, "ADDED", Field(third)),) if wanted else (),
            (Change(now, "ADDED", Field(endpoints)),),
            (),
            ((now, Usage(now, now, 1.4)),),
        )


@pytest.fixture(autouse=True)
def _short_poll_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "POLL_PERIOD", 0.001)


def scaled_out_and_in(
    recorder: FakeRecorder, load: FakeLoad, timeouts: Timeouts, scaled: Scaled = SCALED
) -> ScaleResult:
    """The result of a scale-out and scale-in; one request costs 33 ms of CPU, and the target of both pods is 264m."""
    experiment = ScaleExperiment(recorder, load, scaled, timeouts, 2)
    experiment.scale_out(0.033)
    experiment.scale_in()
    return experiment.result()


def test_crowd_comes_until_the_new_pods_serve_and_goes_until_they_are_gone() -> None:
    """The load runs at the rate that the first usage suggests until the new pods serve, and then stops."""
    load = FakeLoad()

    seen = scaled_out_and_in(FakeRecorder(load), load, Timeouts())

    assert load.rates == [pytest.approx(5.2), 0]
    assert [what for _, what in seen.marks] == [BEGINS, GROWN, ENDS, SHRUNK]
    assert (seen.scale_out_failure, seen.scale_in_failure) == ("", "")
    assert seen.scale_in_seconds is not None


def test_load_is_turned_until_the_pods_are_past_their_target() -> None:
    """The rate rises if usage is too low and falls if it is too high, once per metrics window."""
    load = FakeLoad()

    scaled_out_and_in(FakeRecorder(load, 0.36, 3.0), load, Timeouts())

    assert load.rates == [pytest.approx(5.2), pytest.approx(20.8), pytest.approx(20.8 * 1.3 / 2.9), 0]


def test_load_that_does_not_reach_the_pods_leaves_no_verdict() -> None:
    """Without enough load, nobody can say whether the deployment would have scaled out."""
    load = FakeLoad()

    with pytest.raises(NoVerdictError) as failed:
        scaled_out_and_in(FakeRecorder(load, *[0.3] * 9), load, Timeouts(load_calibrated=1e-9))
    assert str(failed.value) == (
        "expected: load to bring the pods to 1.2 of their CPU target within 1e-09 s\n"
        "seen: 0.30 at 20.8 per s\n"
        "look next: kubectl -n backstage top pods; results/load"
    )


def test_deployment_that_does_not_grow_is_told_with_the_chain() -> None:
    """The failure shows how far the chain got, the HPA's metrics and the load; scale-in is not judged."""
    load = FakeLoad()

    seen = scaled_out_and_in(FakeRecorder(load, grows=False), load, Timeouts(scale_out_desired=0.001))

    expected, chain, look_next = seen.scale_out_failure.splitlines()
    assert expected == "expected: HorizontalPodAutoscaler backstage/backstage to want more pods within 0.001 s"
    assert chain.startswith("seen: utilisation above target after 1.0 s; not seen: desired replicas raised; not seen: ")
    assert chain.endswith(
        "not seen: pods receive traffic; 2 pods, 2 desired, of 2 to 5; cpu 9% of 60%; memory 33% of 75%; "
        "9 of 9 requests that were due within 0 s sent"
    )
    assert look_next == f"look next: {LOOK_NEXT}"
    assert load.rates[-1] == 0
    assert [what for _, what in seen.marks] == [BEGINS, ENDS]
    assert seen.scale_in_seconds is None


def test_deployment_that_does_not_shrink_is_told() -> None:
    """The deadline includes the HPA's stabilization window and the pods' grace period, which is 0 here."""
    load = FakeLoad()
    scaled = scaled_of(with_patch(recorded_reference(), "Deployment", GRACE, 0))

    seen = scaled_out_and_in(FakeRecorder(load, shrinks=False), load, Timeouts(scale_in=0.001), scaled)

    assert seen.scale_in_failure == (
        "expected: HorizontalPodAutoscaler backstage/backstage to go back to 2 pods within 0.001 s\n"
        "seen: 3 pods, 3 desired, of 2 to 5; cpu 9% of 60%; memory 33% of 75%\n"
        f"look next: {LOOK_NEXT}"
    )
    assert seen.scale_in_seconds is None


def test_where_the_way_back_takes_long_it_is_enough_that_the_hpa_waits() -> None:
    """With a long stabilization window, the condition ScaleDownStabilized is proof enough."""

    class Waiting(FakeRecorder):
        @property
        def autoscaler(self) -> Autoscaler:
            size = 3 if self._load.rates else 2
            body = patched(patched(HPA, "/status/desiredReplicas", size), "/status/currentReplicas", size)
            return autoscaler_of(Field(patched(body, "/status/conditions/0/reason", "ScaleDownStabilized")))

    load = FakeLoad()
    scaled = scaled_of(with_patch(recorded_reference(), "HorizontalPodAutoscaler", WINDOW, 300))

    seen = scaled_out_and_in(Waiting(load), load, Timeouts(), scaled)

    assert [what for _, what in seen.marks][-1] == "ScaleDownStabilized"
    assert (seen.scale_in_failure, seen.scale_in_seconds) == ("", None)
