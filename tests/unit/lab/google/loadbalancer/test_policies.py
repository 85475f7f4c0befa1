"""HealthCheckPolicies and the health checks they produce."""

from __future__ import annotations

from pathlib import Path

from lab.google.loadbalancer.configuration import policies, status
from lab.google.loadbalancer.configuration.policies import HealthCheck
from lab.google.loadbalancer.dataplane.backends import Backend, cluster, load_assignment
from lab.google.loadbalancer.dataplane.neg import Endpoint
from lab.google.loadbalancer.objects import Problem, key
from tests.unit.lab.google.loadbalancer.world import ClusterState, conditions

POLICY = """
kind: HealthCheckPolicy
metadata: {name: %s, namespace: backstage, generation: 1, creationTimestamp: "2026-01-0%sT00:00:00Z"}
spec:
  targetRef: {group: "", kind: Service, name: backstage}
  default:
    checkIntervalSec: 3
    timeoutSec: 2
    config: {type: HTTP, httpHealthCheck: {requestPath: /ready, port: 9000}}
"""


def test_oldest_policy_is_attached(state: ClusterState) -> None:
    """The younger policy has the condition Attached=False, reason Conflicted."""
    state.add(POLICY % ("younger", 2))
    state.add(POLICY % ("older", 1))
    found = {key(each.obj): each for each in policies.read(state.objects)}

    assert found["backstage/older"].problem is None
    younger = status.of_policy(found["backstage/younger"], "now")["conditions"]
    assert conditions(younger) == {"Attached": ("False", "Conflicted")}


def test_policy_becomes_the_health_check(state: ClusterState) -> None:
    """Fields that the policy leaves out have the Compute API's defaults."""
    state.add(POLICY % ("policy", 1))
    backend = Backend.load(state.programme().backends["backstage_backstage_80"])

    assert backend.check == HealthCheck(
        path="/ready", port=9000, interval=3, timeout=2, healthy_threshold=2, unhealthy_threshold=2
    )
    (check,) = cluster(backend, Path("/xds"))["health_checks"]
    assert (check["interval"], check["no_traffic_interval"], check["timeout"]) == ("3s", "3s", "2s")
    endpoints = load_assignment(backend, [Endpoint("10.244.1.2", 7007, "")])["endpoints"][0]["lb_endpoints"]
    assert endpoints[0]["endpoint"]["health_check_config"] == {"hostname": "10.244.1.2", "port_value": 9000}


def test_service_without_policy_is_asked_for_its_root(state: ClusterState) -> None:
    """GET / every 15 s, as on GKE; this is why Backstage needs a policy."""
    backend = Backend.load(state.programme().backends["backstage_backstage_80"])

    (check,) = cluster(backend, Path("/xds"))["health_checks"]
    assert check["http_health_check"]["path"] == "/"
    assert check["http_health_check"]["expected_statuses"] == [{"start": 200, "end": 201}]
    assert (check["interval"], check["unhealthy_threshold"]) == ("15s", 2)


def test_policy_for_a_missing_service_is_not_attached(state: ClusterState) -> None:
    """The condition's message names the missing Service."""
    del state.kinds["Service"]
    state.add(POLICY % ("policy", 1))

    (policy,) = policies.read(state.objects)
    assert policy.problem == Problem("TargetNotFound", "Service backstage/backstage not found.")
