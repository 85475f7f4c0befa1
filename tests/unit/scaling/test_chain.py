"""The chain of events of a scale-out recorded in the lab, from two pods to five and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from fixtures.api.watch import Change
from fixtures.objects.manifest import Field
from fixtures.scaling.chain import ABOVE, CREATED, RAISED, READY, SCHEDULED, SERVING, Recording, chain, pods_over_time
from tests.unit.scaling.conftest import BEGAN, recording

LINKS = (ABOVE, RAISED, CREATED, SCHEDULED, READY, SERVING)


def recorded_until(second: float) -> Recording:
    """The recording cut off so many seconds after the load began."""
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
    """Links about pods are timed when the last of the three new pods got there."""
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
    """At 55 s only one of the three pods is Ready, so the link is still missing."""
    assert chain(recorded_until(second)).missing == unseen


def test_what_was_wanted_and_why_is_known() -> None:
    """The first increase counts, not later ones."""
    assert recording().increase == 3
    assert recording().rescaled == "New size: 5; reason: cpu resource utilization (percentage of request) above target"
    assert (recorded_until(20).increase, recorded_until(20).rescaled) == (0, "")


def test_pod_without_a_healthy_endpoint_receives_no_traffic() -> None:
    """A pod serves only with an endpoint and the load balancer's message that it is healthy."""
    seen = recording()
    unhealthy = tuple(replace(each, body=without_message(each.body)) for each in seen.pods)

    assert chain(replace(seen, slices=())).missing == (SERVING,)
    assert chain(replace(seen, pods=unhealthy)).missing == (SERVING,)


def test_pod_without_the_gate_receives_traffic_when_its_endpoint_is_ready() -> None:
    """Without the readiness gate there is no load balancer's message to wait for."""
    seen = recording()
    ungated = tuple(replace(each, body=without_gate(without_message(each.body))) for each in seen.pods)

    assert chain(replace(seen, pods=ungated)).missing == ()


def without_message(body: Field) -> Field:
    """The pod with another message of the load balancer than that it is healthy."""
    return Field(json.loads(json.dumps(body.value).replace("Pod has become Healthy", "Pod does not belong to any NEG")))


def without_gate(body: Field) -> Field:
    """The pod without a readiness gate."""
    return Field({**body.mapping, "spec": {**body["spec"].mapping, "readinessGates": None}})


def test_sizes_are_of_pods_that_stay_and_of_what_the_hpa_wanted() -> None:
    """Two pods at the start and at the end, five in between."""
    assert recording().sizes == (2, 5)
    assert recorded_until(20).sizes == (2, 2)


def test_deleted_pod_is_no_longer_there() -> None:
    """All three new pods are gone once their grace periods are over."""
    counts = [len(pods) for _, pods in pods_over_time(recording().pods)]

    assert (max(counts), counts[-1]) == (5, 2)
