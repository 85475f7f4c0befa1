"""The chain of a scale-out and its time line, on what was seen of one in the lab: from two pods to five and back."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import pytest

from fixtures.api.watch import Change
from fixtures.load.plan import PRESSURE, USERS, LoadRow, Tick
from fixtures.objects.manifest import Field
from fixtures.platform.autoscaler import autoscaler_of
from fixtures.scaling.calibration import Usage
from fixtures.scaling.chain import ABOVE, CREATED, RAISED, READY, SCHEDULED, SERVING, Recording, chain, pods_over_time
from fixtures.scaling.result import BEGINS, ENDS, SHRUNK, ScaleResult
from fixtures.scaling.timeline import by_second, timeline
from tests.unit.patched import RECORDED

SEEN: dict[str, Any] = json.loads((RECORDED / "autoscaling" / "scale-out.json").read_text())
BEGAN: float = SEEN["began"]
LINKS = (ABOVE, RAISED, CREATED, SCHEDULED, READY, SERVING)


def changes(what: str) -> tuple[Change, ...]:
    """What was seen of one kind of object."""
    return tuple(Change(at, kind, Field(body)) for at, kind, body in SEEN[what])


@functools.cache
def recording() -> Recording:
    """As it was seen."""
    return Recording(
        BEGAN,
        SEEN["before"],
        tuple((each.at, autoscaler_of(each.body)) for each in changes("autoscaler")),
        changes("pods"),
        changes("slices"),
        changes("events"),
        tuple((at, Usage(*usage)) for at, *usage in SEEN["usages"]),
    )


def until(second: float) -> Recording:
    """What had been seen by then, in seconds since the load began."""
    whole, end = recording(), BEGAN + second

    def early(seen: Iterable[Change]) -> tuple[Change, ...]:
        return tuple(each for each in seen if each.at <= end)

    return replace(
        whole,
        autoscaler=tuple(each for each in whole.autoscaler if each[0] <= end),
        pods=early(whole.pods),
        slices=early(whole.slices),
        events=early(whole.events),
        usages=tuple(each for each in whole.usages if each[0] <= end),
    )


def test_every_link_is_timed_from_the_beginning_of_the_load() -> None:
    """Those of the pods when the last of the three that were wanted was there."""
    assert str(chain(recording())) == (
        "utilisation above target after 15.1 s; desired replicas raised after 27.2 s; pods created after 27.3 s; "
        "pods scheduled after 27.3 s; pods Ready after 57.1 s; pods receive traffic after 57.1 s"
    )
    assert tuple(chain(recording()).links) == LINKS
    assert chain(recording()).missing == ()


@pytest.mark.parametrize(
    ("second", "unseen"),
    [
        (10, LINKS),
        (20, LINKS[1:]),
        (27.25, (CREATED, SCHEDULED, READY, SERVING)),
        (30, (READY, SERVING)),
        (55, (READY, SERVING)),
        (60, ()),
    ],
)
def test_links_that_were_not_seen_are_open(second: float, unseen: tuple[str, ...]) -> None:
    """However far it came; at 55 s one of the three pods is Ready."""
    assert chain(until(second)).missing == unseen


def test_what_was_wanted_and_why_is_known() -> None:
    """The first step counts, not what the HPA wanted later."""
    assert recording().increase == 3
    assert recording().rescaled == "New size: 5; reason: cpu resource utilization (percentage of request) above target"
    assert (until(20).increase, until(20).rescaled) == (0, "")


def test_pod_without_a_healthy_endpoint_receives_no_traffic() -> None:
    """Neither without an endpoint, nor while the load balancer does not say that it is healthy."""
    seen = recording()
    unhealthy = tuple(replace(each, body=without_message(each.body)) for each in seen.pods)

    assert chain(replace(seen, slices=())).missing == (SERVING,)
    assert chain(replace(seen, pods=unhealthy)).missing == (SERVING,)


def test_pod_without_the_gate_receives_traffic_when_its_endpoint_is_ready() -> None:
    """A load balancer that says nothing is not waited for."""
    seen = recording()
    ungated = tuple(replace(each, body=without_gate(without_message(each.body))) for each in seen.pods)

    assert chain(replace(seen, pods=ungated)).missing == ()


def without_message(body: Field) -> Field:
    """A pod of which the load balancer says something else than that it is healthy."""
    return Field(json.loads(json.dumps(body.value).replace("Pod has become Healthy", "Pod does not belong to any NEG")))


def without_gate(body: Field) -> Field:
    """A pod that does not wait for the load balancer."""
    return Field({**body.mapping, "spec": {**body["spec"].mapping, "readinessGates": None}})


def test_sizes_are_of_pods_that_stay_and_of_what_the_hpa_wanted() -> None:
    """Two at the beginning and at the end, five between."""
    assert recording().sizes == (2, 5)
    assert until(20).sizes == (2, 2)


def test_deleted_pod_is_no_longer_there() -> None:
    """All three that came have gone, each after its grace."""
    counts = [len(pods) for _, pods in pods_over_time(recording().pods)]

    assert (max(counts), counts[-1]) == (5, 2)


def test_state_of_a_second_is_what_was_seen_by_its_end() -> None:
    """Nothing before the first look."""
    assert by_second([(10.5, "a"), (10.9, "b"), (12.0, "c")], 9.0, 4) == [None, "b", "c", "c"]


ROWS = (
    LoadRow(BEGAN + 0.2, USERS, 0.1, "good"),
    LoadRow(BEGAN + 0.4, PRESSURE, 1.0, "good"),
    LoadRow(BEGAN + 30.0, PRESSURE, 0.1, "503"),
    LoadRow(BEGAN + 58.5, USERS, 0.3, "good"),
    LoadRow(BEGAN + 70.0, USERS, 0.2, "ConnectionResetError"),
)
MARKS = ((BEGAN, BEGINS), (BEGAN + 67.6, ENDS), (BEGAN + 133.7, SHRUNK))
TICKS = tuple(Tick(BEGAN + at, {PRESSURE: 6 * at}, {PRESSURE: 6 * at}) for at in range(80))
RESULT = ScaleResult(recording(), ROWS, TICKS, MARKS, "", "")


def test_time_line_has_a_sample_for_each_second() -> None:
    """Requests in the second in which they were sent or were over; the rest as it was at its end."""
    drawn = timeline(recording(), ROWS, MARKS)

    samples = cast("list[dict[str, object]]", drawn["samples"])
    assert [each["t"] for each in samples] == list(range(71))
    assert samples[0] == {
        "t": 0,
        "utilisation": {"cpu": 9.0, "memory": 31.0},
        "desired": 2,
        "ready": 2,
        "offered": 2,
        "answered": 1,
        "failed": 0,
    }
    assert samples[30] == {
        "t": 30,
        "utilisation": {"cpu": 138.0, "memory": 36.0},
        "desired": 5,
        "ready": 2,
        "offered": 1,
        "answered": 0,
        "failed": 1,
    }
    assert Counter(each["ready"] for each in samples) == {2: 52, 3: 5, 5: 14}
    assert drawn["begin"] == "2026-11-24T12:38:23.678+00:00"
    assert drawn["marks"] == [
        {"t": 0.0, "what": "load begins"},
        {"t": 67.6, "what": "load ends"},
        {"t": 133.7, "what": "pods gone"},
    ]
    assert RESULT.timeline == drawn


def test_time_line_of_nothing_has_one_empty_second() -> None:
    """Nothing was sent and nothing seen."""
    nothing = Recording(BEGAN, 2, (), (), (), (), ())

    samples = cast("list[dict[str, object]]", timeline(nothing, (), ())["samples"])
    assert samples == [{"t": 0, "utilisation": {}, "desired": 0, "ready": 0, "offered": 0, "answered": 0, "failed": 0}]


def test_users_are_judged_apart_from_the_crowd_and_apart_from_what_comes_after_it() -> None:
    """The crowd's own requests count among all, not among those of users."""
    assert (RESULT.all_under_load.count, RESULT.all_under_load.failed) == (4, 1)
    assert (RESULT.users_under_load.count, RESULT.users_under_load.failed) == (2, 0)
    assert (RESULT.users_after_load.count, RESULT.users_after_load.failed) == (1, 1)
    assert RESULT.offered.rate == pytest.approx(6)
    assert RESULT.scale_in_seconds == pytest.approx(66.1)
    assert RESULT.chain.missing == ()
