"""Lint: every rule reports the mistake that it is for, at the right field, and nothing else."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
import yaml

from fixtures.environment.loading import ROOT
from fixtures.lint import findings as lint
from fixtures.lint.rule import Assumptions
from fixtures.reference.reference import Reference
from tests.unit.patched import ABSENT, OVERLAYS, recorded_reference, rendered, with_object, with_patch

POD = "/spec/template/spec"
PORTAL = f"{POD}/containers/0"
SIDECAR = f"{POD}/initContainers/0"
RULE = "/spec/rules/0"

CASES = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text())


def complaints(reference: Reference, assumptions: Assumptions = lint.DEFAULTS) -> list[tuple[str, str]]:
    """The findings as pairs of rule and text, without remedy and source."""
    return [(each.rule, f"{each.field}: {each.problem}") for each in lint.findings(reference, assumptions)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['rule']}: {case['change']}: {case['found'][0]}")
def test_rule_complains_at_the_field(case: dict[str, object]) -> None:
    """Each mistake is found by its own rule and by no other."""
    kind, _, pointer = str(case["change"]).partition(" ")
    found = complaints(with_patch(recorded_reference(), kind, pointer, case.get("to", ABSENT)))

    assert found == [(case["rule"], text) for text in cast("list[str]", case["found"])]


def test_every_rule_has_a_case() -> None:
    """Each rule has a case that shows it at work."""
    elsewhere = {"reference-grant"}  # its mistakes take more than one change each

    assert {case["rule"] for case in CASES} | elsewhere == {rule.name for rule in lint.RULES}


@pytest.mark.parametrize(
    ("kind", "pointer", "value"),
    [
        pytest.param(
            "HTTPRoute", f"{RULE}/filters", [{"type": "RequestRedirect", "requestRedirect": {}}], id="redirect"
        ),
        pytest.param("HTTPRoute", f"{RULE}/filters", [{"type": "RequestMirror"}], id="one mirror"),
        pytest.param("Deployment", f"{POD}/terminationGracePeriodSeconds", 70, id="a grace period that just suffices"),
        pytest.param("Deployment", f"{PORTAL}/lifecycle/preStop/sleep/seconds", 20, id="a preStop that just suffices"),
        pytest.param(
            "HTTPRoute", "/spec/rules/-", {"backendRefs": [{"kind": "Other", "name": "x"}]}, id="other backend"
        ),
        pytest.param("Deployment", f"{SIDECAR}/resources", {"limits": {"cpu": 1, "memory": "32Mi"}}, id="limits alone"),
        pytest.param(
            "Deployment", f"{POD}/resources", {"requests": {"cpu": "1", "memory": "700Mi"}}, id="requests of the pod"
        ),
        pytest.param("PodDisruptionBudget", "/spec/minAvailable", "50%", id="half of two"),
        pytest.param("PodMonitoring", "/spec/endpoints/0/port", 9464, id="a number"),
        pytest.param("PodMonitoring", "/spec/targetLabels", {}, id="default target labels"),
        pytest.param("Service", "/spec/ports/0/targetPort", 7007, id="target port by number"),
        pytest.param(
            "Deployment", f"{PORTAL}/lifecycle/preStop", {"httpGet": {"path": "/stop"}}, id="preStop of unknown length"
        ),
    ],
)
def test_rules_have_nothing_against_what_works(kind: str, pointer: str, value: object) -> None:
    """Other ways to write the same working configuration pass."""
    assert complaints(with_patch(recorded_reference(), kind, pointer, value)) == []


def test_requests_count_only_for_the_container_that_the_metric_names() -> None:
    """A ContainerResource metric needs only the request of its own container."""
    reference = with_patch(recorded_reference(), "Deployment", f"{SIDECAR}/resources", ABSENT)
    target = {"type": "Utilization", "averageUtilization": 75}
    metrics = [
        {"type": "ContainerResource", "containerResource": {"name": name, "container": "backstage", "target": target}}
        for name in ("cpu", "memory")
    ]

    assert complaints(with_patch(reference, "HorizontalPodAutoscaler", "/spec/metrics", metrics)) == []


def test_way_back_is_not_judged_where_nothing_is_requested() -> None:
    """Without a memory request hpa-comes-back has nothing to compute; hpa-requests reports the missing request."""
    reference = recorded_reference()
    for container in (PORTAL, SIDECAR):
        reference = with_patch(reference, "Deployment", f"{container}/resources", {"requests": {"cpu": "200m"}})

    assert [rule for rule, _ in complaints(reference)] == ["hpa-requests", "hpa-requests"]


def test_rules_judge_by_the_surroundings_that_are_stated() -> None:
    """A slower load balancer, a slower shutdown and a larger process make the same numbers too small."""
    slower = Assumptions(detach_delay=30, shutdown=60, idle_memory="400Mi")

    assert [rule for rule, _ in complaints(recorded_reference(), slower)] == [
        "hpa-comes-back",
        "pre-stop",
        "grace-period",
    ]


def test_replicas_at_rest_are_the_workloads_own_without_an_hpa() -> None:
    """Without an HPA the Deployment's one default replica counts, and the budget never lets it be evicted."""
    reference = with_patch(recorded_reference(), "HorizontalPodAutoscaler", "", ABSENT)

    assert complaints(reference) == [
        ("budget-evicts", "spec.minAvailable: 1 keeps 1 of the 1 pods of Deployment backstage/backstage at rest")
    ]


def test_hpa_that_scales_nothing_is_found_with_what_follows_from_it() -> None:
    """An HPA with a wrong target no longer guarantees two pods, so the budget's rule fails as well."""
    reference = with_patch(recorded_reference(), "HorizontalPodAutoscaler", "/spec/scaleTargetRef/name", "portal")

    assert complaints(reference) == [
        ("hpa-moves", "spec.scaleTargetRef: there is no Deployment backstage/portal in the reference"),
        ("budget-evicts", "spec.minAvailable: 1 keeps 1 of the 1 pods of Deployment backstage/backstage at rest"),
    ]


REF = "spec.rules[0].backendRefs[backstage]"
GRANT = """{"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
"metadata": {"name": "routes", "namespace": "backstage"}, "spec": {
"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "NAMESPACE"}],
"to": [{"group": "", "kind": "Service", "name": "backstage"}]}}"""


def test_route_into_another_namespace_needs_a_grant_there() -> None:
    """A backendRef into another namespace needs a ReferenceGrant there for this kind, namespace and Service."""
    away = with_patch(recorded_reference(), "HTTPRoute", "/metadata/namespace", "mcp")
    away = with_patch(away, "HTTPRoute", f"{RULE}/backendRefs/0/namespace", "backstage")
    missing = [
        (
            "reference-grant",
            f"{REF}.namespace: no ReferenceGrant in backstage allows HTTPRoutes of mcp to use this Service",
        )
    ]

    assert complaints(away) == missing
    assert complaints(with_object(away, GRANT.replace("NAMESPACE", "other"))) == missing
    assert complaints(with_object(away, GRANT.replace("NAMESPACE", "mcp").replace('"Service"', '"Secret"'))) == missing
    assert (
        complaints(with_object(away, GRANT.replace("NAMESPACE", "mcp").replace('"backstage"}]}}', '"x"}]}}')))
        == missing
    )
    assert complaints(with_object(away, GRANT.replace("NAMESPACE", "mcp"))) == []


def test_route_to_a_service_that_is_not_there_is_found() -> None:
    """A backendRef to a missing Service is one finding, and its HealthCheckPolicy is not another."""
    reference = with_patch(recorded_reference(), "HTTPRoute", f"{RULE}/backendRefs/0/name", "portal")

    assert complaints(reference) == [
        (
            "backend-service",
            "spec.rules[0].backendRefs[portal].name: there is no Service backstage/portal in the reference",
        )
    ]


def test_two_policies_for_one_service_are_found() -> None:
    """Two HealthCheckPolicies for one Service are an error, as GKE uses only the oldest."""
    policy = recorded_reference().the("HealthCheckPolicy")
    reference = Reference("twice", (*recorded_reference().manifests, policy))

    assert complaints(reference) == [
        ("health-check-policy", "metadata.name: 2 HealthCheckPolicies target this Service")
    ]


def test_listener_sets_are_found() -> None:
    """A ListenerSet is reported, as GKE does not implement it."""
    reference = with_object(recorded_reference(), '{"kind": "ListenerSet", "metadata": {"name": "more"}}')

    assert complaints(reference) == [("route-feature", "kind: GKE does not implement ListenerSet")]


def test_summary_says_what_is_wrong_what_to_do_and_how_it_is_known() -> None:
    """The summary names field, problem, remedy, rule and source of each finding."""
    reference = with_patch(recorded_reference(), "PodMonitoring", "/spec/endpoints/0/port", "9464")

    assert lint.summary(reference, lint.findings(reference)) == (
        "expected: nothing in manifests/overlays/local that GKE refuses or silently ignores\n"
        "seen: 1 found\n"
        '  PodMonitoring backstage/backstage spec.endpoints[0].port: "9464" is a name, not a number; '
        "use the name of a declared port, or a number without quotes [scrape-port: "
        "GoogleCloudPlatform/prometheus-engine pkg/operator/apis/monitoring/v1/pod_config.go]\n"
        "look next: docs/lint.md"
    )


def test_overlays_are_clean() -> None:
    """No rule has a finding in this repository's overlays."""
    overlays = sorted(OVERLAYS.iterdir())
    with ThreadPoolExecutor() as threads:  # each overlay is rendered by a kubectl process
        references = list(threads.map(rendered, [overlay.name for overlay in overlays]))

    assert [overlay.name for overlay in overlays] == ["local", "prod", "staging"]
    assert [str(finding) for reference in references for finding in lint.findings(reference)] == []


def test_documentation_lists_every_rule() -> None:
    """The first column of the table in docs/lint.md lists the rules in the same order as the code."""
    rules, _, _numbers = (ROOT / "docs" / "lint.md").read_text().partition("## What the manifests cannot say")
    rows = re.findall(r"^\| `([a-z-]+)` \|", rules, re.MULTILINE)

    assert rows == [rule.name for rule in lint.RULES]
