"""Network endpoint groups: which endpoints get requests, and from when on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab import layout
from lab.google.loadbalancer.dataplane.neg import (
    READINESS_GATE,
    Delays,
    Endpoint,
    EndpointGroups,
    delays,
    qualifying,
)
from lab.google.loadbalancer.objects import Objects

if TYPE_CHECKING:
    from pathlib import Path

ONE = Endpoint("10.244.1.2", 7007, "backstage/one 1111")
SAME_ADDRESS = Endpoint("10.244.1.2", 7007, "backstage/two 2222")


class Balancer:
    """Endpoint groups with a manual clock; a restart creates them anew from the same file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.now = 1000.0
        self.delays = Delays(attach=10, detach=5)
        self.restart()

    def restart(self) -> None:
        """Start again with nothing but the file."""
        self._groups = EndpointGroups(self._path, delays=lambda: self.delays, clock=lambda: self.now)

    def after(self, seconds: float, *endpoints: Endpoint) -> list[Endpoint]:
        """The attached endpoints when, so many seconds later, these endpoints qualify."""
        self.now += seconds
        self._groups.update({"group": set(endpoints)})
        return self._groups.attached("group")

    @property
    def changing(self) -> bool:
        """Whether an endpoint is waiting to be attached or detached."""
        return self._groups.changing()


@pytest.fixture
def balancer(tmp_path: Path) -> Balancer:
    """A load balancer without any endpoints."""
    return Balancer(tmp_path / "neg.json")


def test_endpoint_is_attached_after_the_delay(balancer: Balancer) -> None:
    """The endpoint is attached exactly at the delay and stays."""
    assert balancer.after(0, ONE) == []
    assert balancer.after(9.9, ONE) == []
    assert balancer.changing
    assert balancer.after(0.1, ONE) == [ONE]
    assert balancer.after(100, ONE) == [ONE]
    assert not balancer.changing


def test_endpoint_is_detached_after_the_delay(balancer: Balancer) -> None:
    """A deleted pod gets requests until then, as on GKE."""
    balancer.after(0, ONE)
    balancer.after(10, ONE)

    assert balancer.after(0) == [ONE]
    assert balancer.after(4.9) == [ONE]
    assert balancer.changing
    assert balancer.after(0.1) == []
    assert not balancer.changing


def test_attached_endpoint_stays_when_it_qualifies_again(balancer: Balancer) -> None:
    """A pod that was briefly unready does not wait again, and its next absence is timed from the start."""
    balancer.after(0, ONE)
    balancer.after(10, ONE)
    balancer.after(1)

    assert balancer.after(3, ONE) == [ONE]
    assert balancer.after(3) == [ONE]
    assert balancer.after(4) == [ONE]


def test_waiting_endpoint_starts_over_when_it_stops_qualifying(balancer: Balancer) -> None:
    """The delay requires uninterrupted readiness."""
    balancer.after(0, ONE)
    balancer.after(9)

    assert balancer.after(1, ONE) == []
    assert balancer.after(9.9, ONE) == []
    assert balancer.after(0.1, ONE) == [ONE]


def test_restart_neither_delays_nor_drops(balancer: Balancer) -> None:
    """Delays continue from the times in the file."""
    balancer.after(0, ONE)
    balancer.after(6, ONE)
    balancer.restart()
    assert balancer.after(4, ONE) == [ONE]

    balancer.after(0)
    balancer.restart()
    assert balancer.after(4.9) == [ONE]
    assert balancer.after(0.1) == []


def test_delays_are_read_at_each_decision(balancer: Balancer) -> None:
    """A shorter delay applies to endpoints that already wait; a longer one detaches nothing."""
    balancer.after(0, ONE)
    balancer.delays = Delays(attach=1, detach=5)
    assert balancer.after(1, ONE) == [ONE]

    balancer.delays = Delays(attach=60, detach=5)
    assert balancer.after(1, ONE) == [ONE]


def test_pod_that_inherits_an_address_waits_itself(balancer: Balancer) -> None:
    """An address taken over by a new pod is a new endpoint, and waits for its own attach delay."""
    balancer.after(0, ONE)
    balancer.after(10, ONE)

    assert balancer.after(4, SAME_ADDRESS) == [ONE]
    assert balancer.after(5, SAME_ADDRESS) == []
    assert balancer.after(5, SAME_ADDRESS) == [SAME_ADDRESS]


def test_delays_file_overrides_the_lab(tmp_path: Path) -> None:
    """Each delay has a default; a missing or half-written file means both."""
    path = tmp_path / "delays.json"
    usual = Delays(layout.ATTACH_SECONDS, layout.DETACH_SECONDS)
    assert delays(path) == usual

    path.write_text('{"attach": 0}')
    assert delays(path) == Delays(0, layout.DETACH_SECONDS)

    path.write_text('{"attach":')
    assert delays(path) == usual


def cluster(pod: dict[str, Any], *, ready: bool, terminating: bool = False) -> Objects:
    """A Service with one pod behind it, as objects of the cluster."""
    target = {"kind": "Pod", "name": "one", "namespace": "backstage"}
    endpoint = {
        "addresses": ["10.244.1.2"],
        "conditions": {"ready": ready, "serving": ready, "terminating": terminating},
        "targetRef": target,
    }
    labels = {"kubernetes.io/service-name": "backstage"}
    endpoint_slice = {
        "metadata": {"namespace": "backstage", "name": "backstage-x", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 7007}, {"name": "metrics", "port": 9464}],
        "endpoints": [endpoint],
    }
    service = {
        "metadata": {"namespace": "backstage", "name": "backstage"},
        "spec": {"ports": [{"name": "http", "port": 80}, {"name": "metrics", "port": 81}]},
    }
    return Objects(
        {
            "Pod": {"backstage/one": pod},
            "EndpointSlice": {"backstage/backstage-x": endpoint_slice},
            "Service": {"backstage/backstage": service},
        }
    )


def pod(*gates: str, reason: str = "", conditions: dict[str, str] | None = None) -> dict[str, Any]:
    """A pod with these readiness gates and conditions."""
    statuses = {"ContainersReady": "True", "Ready": "False", **(conditions or {})}
    return {
        "metadata": {"namespace": "backstage", "name": "one", "uid": "1111"},
        "spec": {"readinessGates": [{"conditionType": gate} for gate in gates]},
        "status": {
            "conditions": [{"type": kind, "status": value, "reason": reason} for kind, value in statuses.items()]
        },
    }


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(cluster(pod(), ready=True), {ONE}, id="ready"),
        pytest.param(cluster(pod(), ready=False), set(), id="not ready"),
        pytest.param(cluster(pod(), ready=True, terminating=True), set(), id="terminating"),
        pytest.param(
            cluster(pod(READINESS_GATE, reason="ReadinessGatesNotReady"), ready=False),
            {ONE},
            id="waits for the gate only",
        ),
        pytest.param(
            cluster(pod(READINESS_GATE, "other", reason="ReadinessGatesNotReady"), ready=False),
            set(),
            id="waits for another gate too",
        ),
        pytest.param(
            cluster(pod(READINESS_GATE, conditions={READINESS_GATE: "True"}), ready=False), set(), id="node lost"
        ),
        pytest.param(
            cluster(pod(READINESS_GATE, conditions={"ContainersReady": "False"}), ready=False),
            set(),
            id="containers not ready",
        ),
    ],
)
def test_endpoint_qualifies(objects: Objects, expected: set[Endpoint]) -> None:
    """A pod qualifies if it is Ready, or if only the load balancer's own gate keeps it from being Ready."""
    assert qualifying(objects, "backstage", "backstage", 80) == expected


def test_port_of_the_service_selects_the_endpoint_port() -> None:
    """The Service's port and the EndpointSlice's port match by name."""
    found = qualifying(cluster(pod(), ready=True), "backstage", "backstage", 81)

    assert found == {Endpoint("10.244.1.2", 9464, "backstage/one 1111")}
