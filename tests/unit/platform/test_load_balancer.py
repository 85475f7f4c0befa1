"""Health of pods as the load balancer sees it, and what each source of truth says."""

from __future__ import annotations

import json

import httpx
import pytest

from fixtures.api.pods import Pod
from fixtures.google.rest import GoogleApis
from fixtures.objects.manifest import Field, Manifest
from fixtures.outcomes import NoVerdictError
from fixtures.platform import load_balancer
from fixtures.platform.load_balancer import LoadBalancerBackends

HEALTHY = (
    'Pod has become Healthy in NEG "Key{\\"k8s1-a\\", zone: \\"us-east4-a\\"}" attached to BackendService '
    '"Key{\\"gkegw1-b\\"}". Marking condition "cloud.google.com/load-balancer-neg-ready" to True.'
)

READY = "LoadBalancerNegReady"


def pod(name: str, *gate: str, ready: str = "True", gated: bool = True, address: str = "10.0.0.1") -> Pod:
    """A pod with the readiness gate of its network endpoint group (NEG): status, reason, message."""
    conditions = [{"type": "ContainersReady", "status": ready}]
    if gate:
        status, reason, message = gate
        conditions.append({"type": load_balancer.NEG_GATE, "status": status, "reason": reason, "message": message})
    return Pod(
        Field(
            {
                "metadata": {"name": name},
                "spec": {"readinessGates": [{"conditionType": load_balancer.NEG_GATE}] if gated else []},
                "status": {"podIP": address, "conditions": conditions},
            }
        )
    )


GOOD = pod("good", "True", READY, HEALTHY)


def read(*pods: Pod, endpoints: dict[str, list[str]] | None = None) -> LoadBalancerBackends:
    """The backends as read from pods and, if given, from the Compute API."""
    return load_balancer.backends_of(pods, endpoints)


def test_pod_that_the_load_balancer_found_healthy_is_kept() -> None:
    """A pod is healthy if reason and message of its readiness gate say so together."""
    found = read(GOOD)

    assert (found.unhealthy, found.unknown, found.sources) == (False, False, (load_balancer.NEG,))
    assert str(found) == f"good: {load_balancer.NEG}: {READY} ({HEALTHY})"


@pytest.mark.parametrize(
    "unjudged",
    [
        pytest.param(
            pod("x", "True", READY, "Pod does not belong to any NEG. Marking condition to True."), id="no NEG"
        ),
        pytest.param(pod("x", "True", "LoadBalancerNegTimeout", "Timeout waiting for pod"), id="forced"),
        pytest.param(pod("x", "True", "LoadBalancerNegWithoutHealthCheck", "Pod is in NEG"), id="no health check"),
        pytest.param(pod("x", gated=False), id="older than the route"),
    ],
)
def test_pod_of_which_nothing_is_said_is_neither_healthy_nor_not(unjudged: Pod) -> None:
    """A readiness gate that is True for another reason proves nothing, and the Compute API has to decide."""
    by_gate, by_api = read(GOOD, unjudged), read(GOOD, unjudged, endpoints={"10.0.0.1": ["HEALTHY"]})

    assert (by_gate.unhealthy, by_gate.unknown) == (False, True)
    assert (by_api.unhealthy, by_api.unknown, by_api.sources) == (
        False,
        False,
        (load_balancer.NEG, load_balancer.COMPUTE),
    )


@pytest.mark.parametrize(
    ("waiting", "text"),
    [
        (pod("x", "False", "LoadBalancerNegNotReady", "Waiting for pod"), "LoadBalancerNegNotReady (Waiting for pod)"),
        (pod("x"), "not judged yet"),
    ],
)
def test_pod_that_the_load_balancer_waits_for_is_not_healthy(waiting: Pod, text: str) -> None:
    """A pod that waits for the load balancer is unhealthy, and only unhealthy pods are shown."""
    found = read(GOOD, waiting)

    assert found.unhealthy
    assert str(found) == f"x: {load_balancer.NEG}: {text}"


def test_pod_whose_containers_are_not_ready_is_no_backend() -> None:
    """A pod whose containers are not ready is left to promise workload, unless there is no other pod."""
    starting = pod("x", "False", "LoadBalancerNegNotReady", "Waiting for pod", ready="False")

    assert not read(GOOD, starting).unhealthy
    assert read(starting).unhealthy
    assert str(read(starting)) == "no pod with ready containers"


def test_pod_that_has_become_unhealthy_since_is_denied_by_the_compute_api() -> None:
    """The Compute API wins over the readiness gate, which is written only once."""
    found = read(GOOD, endpoints={"10.0.0.1": ["HEALTHY", "UNHEALTHY"]})

    assert found.unhealthy
    assert str(found) == f"good: {load_balancer.NEG}: {READY} ({HEALTHY}), Compute API: HEALTHY, UNHEALTHY"


SERVICE = Manifest(
    {
        "kind": "Service",
        "metadata": {
            "annotations": {load_balancer.NEG_STATUS: json.dumps({"network_endpoint_groups": {"80": "k8s1-a"}})}
        },
    }
)

PATHS = ("/projects/1/global/backendServices/ours", "/projects/1/global/backendServices/others")
COMPUTE = "https://compute.googleapis.com"


def compute(request: httpx.Request) -> httpx.Response:
    """A Compute API with two backend services of two NEGs each."""
    zones = "https://www.googleapis.com/compute/v1/projects/1/zones"
    if request.method == "GET":
        group = "k8s1-a" if request.url.path.endswith("/ours") else "k8s1-b"
        groups = [f"{zones}/{zone}/networkEndpointGroups/{group}" for zone in ("a", "b")]
        return httpx.Response(200, json={"backends": [{"group": each} for each in groups]})
    group = json.loads(request.content)["group"]
    if not request.url.path.endswith("/getHealth"):
        return httpx.Response(404)
    addresses = {f"{zones}/a/networkEndpointGroups/k8s1-a": "10.0.0.1"}
    state = {"ipAddress": addresses.get(group, "10.0.0.2"), "port": 7007, "healthState": "HEALTHY"}
    return httpx.Response(200, json={"healthStatus": [state]})


def google(answer: httpx.MockTransport) -> GoogleApis:
    """Google's APIs behind a fake transport."""
    return GoogleApis(lambda: "token", timeout=1, transport=answer)


def test_compute_api_is_asked_for_the_groups_of_the_service_alone() -> None:
    """Only the NEGs of the Service are asked for their health, not those of other backend services."""
    found = load_balancer.endpoint_states(google(httpx.MockTransport(compute)), COMPUTE, PATHS, SERVICE)

    assert found == {"10.0.0.1": ["HEALTHY"], "10.0.0.2": ["HEALTHY"]}


@pytest.mark.parametrize("noted", [None, "{", "[]"])
def test_service_without_a_note_of_its_groups_has_all_asked(noted: str | None) -> None:
    """Without a readable NEG annotation every NEG is asked: GKE does not guarantee the annotation."""
    service = Manifest({"kind": "Service", "metadata": {"annotations": {load_balancer.NEG_STATUS: noted}}})
    found = load_balancer.endpoint_states(google(httpx.MockTransport(compute)), COMPUTE, PATHS, service)

    assert found == {"10.0.0.1": ["HEALTHY"], "10.0.0.2": ["HEALTHY"] * 3}


def test_compute_api_that_refuses_or_is_not_named_leaves_it_to_others() -> None:
    """A refusal or a missing URL gives None: the role for the Compute API is optional."""
    refusing = google(httpx.MockTransport(lambda _request: httpx.Response(403, json={})))

    assert load_balancer.endpoint_states_if_allowed(refusing, COMPUTE, PATHS, SERVICE) is None
    assert load_balancer.endpoint_states_if_allowed(refusing, None, PATHS, SERVICE) is None
    with pytest.raises(NoVerdictError):
        load_balancer.endpoint_states(refusing, COMPUTE, PATHS, SERVICE)
