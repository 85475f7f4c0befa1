"""Service: which endpoints count as Backstage's, and how each other one is told."""

from __future__ import annotations

import pytest

from fixtures.api.pods import Pod
from fixtures.objects.manifest import Field, Manifest
from fixtures.platform.service import Endpoint, ServiceBackends, addresses, endpoints_of, portal_service, target_ports
from fixtures.reference.reference import InvalidReferenceError, Reference, render
from fixtures.waiting import DeadlinePassedError, wait_for
from tests.unit.patched import ABSENT, RECORDED, patched, recorded_reference, with_object, with_patch

PODS = tuple(Pod(Field(each.body)) for each in render(RECORDED / "workload" / "pods.yaml").manifests)
(SLICE,) = render(RECORDED / "service" / "endpointslices.yaml").manifests
ONE, OTHER = PODS
NOT_READY = {"type": "Ready", "status": "False"}


def endpoints_after(pointer: str, value: object) -> tuple[Endpoint, ...]:
    """The lab's endpoints with one field of their slice changed."""
    return endpoints_of(Field(patched(SLICE.body, pointer, value)))


def backends(*, pods: tuple[Pod, ...] = PODS, endpoints: tuple[Endpoint, ...] | None = None) -> ServiceBackends:
    """The lab's, or others."""
    return ServiceBackends((7007,), pods, endpoints_of(Field(SLICE.body)) if endpoints is None else endpoints)


def pod_after(pod: Pod, pointer: str, value: object) -> Pod:
    """A pod with one field changed."""
    return Pod(Field(patched(pod.body.mapping, pointer, value)))


def of(pod: Pod, port: int = 7007) -> str:
    """A pod's endpoint, as it is told."""
    return f"{pod.ip}:{port} (Pod backstage/{pod.name})"


def test_endpoints_of_the_lab_are_exactly_its_pods() -> None:
    """Two pods at one port."""
    assert backends().exact
    assert str(backends()) == "2 endpoints"


def test_service_without_endpoints_is_told_with_all_that_is_missing() -> None:
    """A selector that selects nothing leaves a slice without endpoints, or none."""
    none = backends(endpoints=endpoints_after("/endpoints", None))

    assert not none.exact
    assert str(none) == f"no endpoint; missing {ONE.name} ({ONE.ip}:7007); missing {OTHER.name} ({OTHER.ip}:7007)"


def test_ready_pod_whose_endpoint_is_not_ready_is_missing() -> None:
    """Nobody is led there."""
    endpoints = tuple(
        Endpoint(each.address, each.port, each.address != ONE.ip, each.target) for each in backends().endpoints
    )

    assert str(backends(endpoints=endpoints)) == f"1 endpoint; missing {ONE.name} ({ONE.ip}:7007)"


@pytest.mark.parametrize("ready", [True, False])
def test_address_of_no_backstage_pod_is_foreign(ready: bool) -> None:  # noqa: FBT001 - the two ways there are
    """Also while it is not ready: it will be served as soon as it is."""
    intruder = Endpoint("10.244.9.9", 7007, ready, "Pod backstage/intruder")
    read = backends(endpoints=(*backends().endpoints, intruder))

    assert not read.exact
    assert str(read) == f"{2 + ready} endpoints; foreign 10.244.9.9:7007 (Pod backstage/intruder)"


def test_address_that_somebody_wrote_down_is_foreign() -> None:
    """An EndpointSlice may be anybody's, and name nobody."""
    endpoints = endpoints_after("/endpoints", [{"addresses": ["192.0.2.1"]}])

    assert str(backends(endpoints=(*backends().endpoints, *endpoints))) == (
        "3 endpoints; foreign 192.0.2.1:7007 (nobody knows whose)"
    )


def test_wrong_port_is_told_for_each_pod() -> None:
    """The pods are right, and nobody is led to their pages."""
    read = backends(endpoints=endpoints_after("/ports/0/port", 9464))

    assert set(read.unexpected) == {f"wrong port {of(ONE, 9464)}", f"wrong port {of(OTHER, 9464)}"}
    assert len(read.missing) == 2


def test_name_of_a_port_that_the_pod_does_not_have_is_told() -> None:
    """Kubernetes notes the address then, and no port."""
    read = backends(endpoints=endpoints_after("/ports", []))

    assert f"wrong port {ONE.ip}:no port (Pod backstage/{ONE.name})" in read.unexpected


def test_pod_that_is_not_ready_must_not_be_served() -> None:
    """As it is with publishNotReadyAddresses."""
    unready = pod_after(ONE, "/status/conditions", [NOT_READY])

    assert str(backends(pods=(unready, OTHER))) == f"2 endpoints; not Ready {of(ONE)}"


def test_pod_on_its_way_out_is_neither_missing_nor_foreign() -> None:
    """Its endpoint says not ready, as long as it is there."""
    leaving = pod_after(ONE, "/metadata/deletionTimestamp", "2026-11-24T12:00:00Z")
    endpoints = tuple(
        Endpoint(each.address, each.port, each.address != ONE.ip, each.target) for each in backends().endpoints
    )

    assert backends(pods=(leaving, OTHER), endpoints=endpoints).exact


def test_without_a_ready_pod_there_is_no_evidence() -> None:
    """No endpoints for no pods are not exact."""
    unready = tuple(pod_after(pod, "/status/conditions", [NOT_READY]) for pod in PODS)

    assert not backends(pods=unready, endpoints=()).exact
    assert str(backends(pods=unready, endpoints=())) == "no endpoint; no Ready pod"


def test_text_of_the_wait() -> None:
    """As the check says it."""
    with pytest.raises(DeadlinePassedError) as passed:
        wait_for(
            "the endpoints of Service backstage/backstage to be the Ready pods",
            lambda: backends(endpoints=()),
            until=lambda read: read.exact,
            within=0,
            look_next="kubectl -n backstage get endpointslices",
        )

    assert str(passed.value) == (
        "expected: the endpoints of Service backstage/backstage to be the Ready pods within 0 s\n"
        f"seen: no endpoint; missing {ONE.name} ({ONE.ip}:7007); missing {OTHER.name} ({OTHER.ip}:7007)\n"
        "look next: kubectl -n backstage get endpointslices"
    )


def test_pod_with_two_addresses_is_reached_by_either() -> None:
    """A dual-stack Service has a slice for each family."""
    both = pod_after(ONE, "/status/podIPs", [{"ip": ONE.ip}, {"ip": "fd00::1"}])
    second = Endpoint("fd00::1", 7007, ready=True, target=f"Pod backstage/{ONE.name}")

    assert addresses(both) == (ONE.ip, "fd00::1")
    assert backends(pods=(both, OTHER), endpoints=(*backends().endpoints, second)).exact


def test_pod_without_an_address_has_none() -> None:
    """Before the network gave it one."""
    assert addresses(pod_after(ONE, "/status", {})) == ()


def test_service_of_the_routes_is_the_portals() -> None:
    """Another Service, for scraping perhaps, is none of the users' business."""
    second = '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other", "namespace": "backstage"}}'

    assert str(portal_service(with_object(recorded_reference(), second))) == "Service backstage/backstage"


def test_service_of_a_reference_without_routes_is_its_only_one() -> None:
    """The route may be somebody else's."""
    assert (
        str(portal_service(with_patch(recorded_reference(), "HTTPRoute", "", ABSENT))) == "Service backstage/backstage"
    )


def test_reference_without_a_service_ends_without_a_verdict() -> None:
    """There is nothing that it promises."""
    with pytest.raises(InvalidReferenceError) as refused:
        portal_service(Reference("mine", ()))

    assert str(refused.value) == "expected: one Service in mine\nseen: none\nlook next: [reference] source"


@pytest.mark.parametrize(("target", "meant"), [("http", 7007), ("metrics", 9464), (8080, 8080), (ABSENT, 80)])
def test_port_that_a_service_means(target: object, meant: int) -> None:
    """A name of a container's port, a number, or without either its own."""
    assert target_ports(service_to(target), recorded_reference().the("Deployment")) == (meant,)


def service_to(target: object) -> Manifest:
    """The Service with another target port."""
    return with_patch(recorded_reference(), "Service", "/spec/ports/0/targetPort", target).the("Service")


def test_name_that_means_no_port_is_told() -> None:
    """The Service would have addresses and no port."""
    with pytest.raises(AssertionError) as failed:
        target_ports(service_to("web"), recorded_reference().the("Deployment"))

    assert str(failed.value) == (
        "expected: a port of Deployment backstage/backstage for each port of Service backstage/backstage\n"
        "seen: ['web']; its containers have ['http', 'metrics', 'proxy-health']\n"
        "look next: kubectl -n backstage describe service backstage"
    )
