"""Service: which endpoints are Backstage's, and how each wrong or missing one is reported."""

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
    """The lab's endpoints with one field of their EndpointSlice changed."""
    return endpoints_of(Field(patched(SLICE.body, pointer, value)))


def backends(*, pods: tuple[Pod, ...] = PODS, endpoints: tuple[Endpoint, ...] | None = None) -> ServiceBackends:
    """The lab's backends, or those of other pods or endpoints."""
    return ServiceBackends((7007,), pods, endpoints_of(Field(SLICE.body)) if endpoints is None else endpoints)


def pod_after(pod: Pod, pointer: str, value: object) -> Pod:
    """A pod with one field changed."""
    return Pod(Field(patched(pod.body.mapping, pointer, value)))


def endpoint_text(pod: Pod, port: int = 7007) -> str:
    """A pod's endpoint, as messages show it."""
    return f"{pod.ip}:{port} (Pod backstage/{pod.name})"


def test_endpoints_of_the_lab_are_exactly_its_pods() -> None:
    """The lab's two Ready pods are the Service's only endpoints."""
    assert backends().exact
    assert str(backends()) == "2 endpoints"


def test_service_without_endpoints_is_told_with_all_that_is_missing() -> None:
    """Without endpoints each Ready pod is reported as missing."""
    none = backends(endpoints=endpoints_after("/endpoints", None))

    assert not none.exact
    assert str(none) == f"no endpoint; missing {ONE.name} ({ONE.ip}:7007); missing {OTHER.name} ({OTHER.ip}:7007)"


def test_ready_pod_whose_endpoint_is_not_ready_is_missing() -> None:
    """A Ready pod with an endpoint that is not ready is missing, as it gets no requests."""
    endpoints = tuple(
        Endpoint(each.address, each.port, each.address != ONE.ip, each.target) for each in backends().endpoints
    )

    assert str(backends(endpoints=endpoints)) == f"1 endpoint; missing {ONE.name} ({ONE.ip}:7007)"


@pytest.mark.parametrize("ready", [True, False])
def test_address_of_no_backstage_pod_is_foreign(ready: bool) -> None:  # noqa: FBT001 - the two ways there are
    """An address of no Backstage pod is foreign even before it is ready: it will get requests once it is."""
    intruder = Endpoint("10.244.9.9", 7007, ready, "Pod backstage/intruder")
    read = backends(endpoints=(*backends().endpoints, intruder))

    assert not read.exact
    assert str(read) == f"{2 + ready} endpoints; foreign 10.244.9.9:7007 (Pod backstage/intruder)"


def test_address_that_somebody_wrote_down_is_foreign() -> None:
    """An endpoint without a targetRef is foreign: anybody can write an EndpointSlice by hand."""
    endpoints = endpoints_after("/endpoints", [{"addresses": ["192.0.2.1"]}])

    assert str(backends(endpoints=(*backends().endpoints, *endpoints))) == (
        "3 endpoints; foreign 192.0.2.1:7007 (nobody knows whose)"
    )


def test_wrong_port_is_told_for_each_pod() -> None:
    """A wrong port is reported for each pod, and each pod counts as missing."""
    read = backends(endpoints=endpoints_after("/ports/0/port", 9464))

    assert set(read.unexpected) == {
        f"wrong port {endpoint_text(ONE, 9464)}",
        f"wrong port {endpoint_text(OTHER, 9464)}",
    }
    assert len(read.missing) == 2


def test_name_of_a_port_that_the_pod_does_not_have_is_told() -> None:
    """A named port that no container has leaves endpoints without a port, which are reported."""
    read = backends(endpoints=endpoints_after("/ports", []))

    assert f"wrong port {ONE.ip}:no port (Pod backstage/{ONE.name})" in read.unexpected


def test_pod_that_is_not_ready_must_not_be_served() -> None:
    """A ready endpoint of a pod that is not Ready is an error, as publishNotReadyAddresses causes it."""
    unready = pod_after(ONE, "/status/conditions", [NOT_READY])

    assert str(backends(pods=(unready, OTHER))) == f"2 endpoints; not Ready {endpoint_text(ONE)}"


def test_pod_on_its_way_out_is_neither_missing_nor_foreign() -> None:
    """A terminating pod is ignored while its endpoint is not ready."""
    leaving = pod_after(ONE, "/metadata/deletionTimestamp", "2026-11-24T12:00:00Z")
    endpoints = tuple(
        Endpoint(each.address, each.port, each.address != ONE.ip, each.target) for each in backends().endpoints
    )

    assert backends(pods=(leaving, OTHER), endpoints=endpoints).exact


def test_without_a_ready_pod_there_is_no_evidence() -> None:
    """No endpoints for no Ready pods is not a match."""
    unready = tuple(pod_after(pod, "/status/conditions", [NOT_READY]) for pod in PODS)

    assert not backends(pods=unready, endpoints=()).exact
    assert str(backends(pods=unready, endpoints=())) == "no endpoint; no Ready pod"


def test_text_of_the_wait() -> None:
    """The wait that times out lists the endpoints that are missing."""
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
    """Both addresses of a dual-stack pod are its own, as each family has its EndpointSlice."""
    both = pod_after(ONE, "/status/podIPs", [{"ip": ONE.ip}, {"ip": "fd00::1"}])
    second = Endpoint("fd00::1", 7007, ready=True, target=f"Pod backstage/{ONE.name}")

    assert addresses(both) == (ONE.ip, "fd00::1")
    assert backends(pods=(both, OTHER), endpoints=(*backends().endpoints, second)).exact


def test_pod_without_an_address_has_none() -> None:
    """A pod that has no IP yet has no address."""
    assert addresses(pod_after(ONE, "/status", {})) == ()


def test_service_of_the_routes_is_the_portals() -> None:
    """The portal's Service is the one that the routes use, not another one of the reference."""
    second = '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other", "namespace": "backstage"}}'

    assert str(portal_service(with_object(recorded_reference(), second))) == "Service backstage/backstage"


def test_service_of_a_reference_without_routes_is_its_only_one() -> None:
    """Without a route in the reference the only Service is the portal's."""
    assert (
        str(portal_service(with_patch(recorded_reference(), "HTTPRoute", "", ABSENT))) == "Service backstage/backstage"
    )


def test_reference_without_a_service_ends_without_a_verdict() -> None:
    """A reference without a Service is invalid, and no promise is broken."""
    with pytest.raises(InvalidReferenceError) as refused:
        portal_service(Reference("mine", ()))

    assert str(refused.value) == "expected: one Service in mine\nseen: none\nlook next: [reference] source"


@pytest.mark.parametrize(("target", "meant"), [("http", 7007), ("metrics", 9464), (8080, 8080), (ABSENT, 80)])
def test_port_that_a_service_means(target: object, meant: int) -> None:
    """TargetPort is a container's port name or a number, and the Service's own port by default."""
    assert target_ports(service_to(target), recorded_reference().the("Deployment")) == (meant,)


def service_to(target: object) -> Manifest:
    """The Service with another targetPort."""
    return with_patch(recorded_reference(), "Service", "/spec/ports/0/targetPort", target).the("Service")


def test_name_that_means_no_port_is_told() -> None:
    """A targetPort that no container has is reported with the names that there are."""
    with pytest.raises(AssertionError) as failed:
        target_ports(service_to("web"), recorded_reference().the("Deployment"))

    assert str(failed.value) == (
        "expected: a port of Deployment backstage/backstage for each port of Service backstage/backstage\n"
        "seen: ['web']; its containers have ['http', 'metrics', 'proxy-health']\n"
        "look next: kubectl -n backstage describe service backstage"
    )
