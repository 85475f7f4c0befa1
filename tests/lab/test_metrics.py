"""Metrics: from a pod's endpoint to an answer in PromQL, from its CPU to an autoscaler, and what failures show."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, Manifest, PromQl

FIRST_SAMPLE = 180.0
"""Seconds from a PodMonitoring to samples of all its pods; 15 to 25 were seen."""

SCALING_ACTIVE = 240.0
"""Seconds until an autoscaler notices that metrics are there or gone; it syncs every 15 s, 15 to 40 were seen."""

PROMETHEUS_BACK = 60.0
"""Seconds until the central Prometheus answers after its start; 1 was seen."""

SHOP = Path(__file__).parent / "manifests" / "shop.yaml"


@dataclass(frozen=True)
class Scraping:
    """The status of a PodMonitoring."""

    configured: bool
    """ConfigurationCreateSuccess, which is True even if the PodMonitoring matches nothing."""
    endpoints: tuple[str, ...]
    active_targets: int | None
    """Sum over all endpoints; None where no endpoint has the field, as GKE omits 0."""
    unhealthy_targets: int
    collectors_fraction: float
    """Smallest share of collectors that answered for an endpoint; 0 while there is no endpoint."""


def scraping(podmonitoring: Manifest) -> Scraping:
    """Parse the status of a PodMonitoring."""
    status = podmonitoring["status"]
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    endpoints = status.get("endpointStatuses", [])
    active = [endpoint["activeTargets"] for endpoint in endpoints if "activeTargets" in endpoint]
    return Scraping(
        configured=conditions.get("ConfigurationCreateSuccess") == "True",
        endpoints=tuple(endpoint["name"] for endpoint in endpoints),
        active_targets=sum(active) if active else None,
        unhealthy_targets=sum(endpoint.get("unhealthyTargets", 0) for endpoint in endpoints),
        collectors_fraction=min((float(endpoint["collectorsFraction"]) for endpoint in endpoints), default=0.0),
    )


@pytest.fixture(scope="module")
def shop(kubectl: Kubectl, namespace: str) -> str:
    """Namespace with two pods that expose a metric, their PodMonitorings and their autoscaler."""
    kubectl("apply", "--namespace", namespace, f"--filename={SHOP}")
    return namespace


@pytest.fixture(scope="module")
def pods(kubectl: Kubectl, shop: str) -> set[str]:
    """Names of the shop's pods."""
    kubectl("rollout", "status", "deployment/shop", "--namespace", shop, "--timeout=120s")
    return {pod["metadata"]["name"] for pod in kubectl.get("pods", "--namespace", shop)["items"]}


@pytest.fixture(scope="module")
def read_scraping(kubectl: Kubectl, shop: str) -> Callable[[str], Scraping]:
    """Reads the status of one of the shop's PodMonitorings, by name."""
    return lambda name: scraping(kubectl.get("podmonitoring", name, "--namespace", shop))


@pytest.fixture(scope="module")
def read_series(promql: PromQl, token: Callable[[str], str]) -> Callable[[str], list[dict[str, Any]]]:
    """Reads the series that a PromQL expression selects now, with the acceptance suite's token."""
    return lambda expression: promql.series(expression, token=token("acceptance"))


@pytest.fixture(scope="module")
def scraped(read_scraping: Callable[[str], Scraping], shop: str, pods: set[str]) -> Scraping:
    """Status of the shop's PodMonitoring once all its pods are scraped."""
    return wait_for(
        f"PodMonitoring {shop}/shop to have {len(pods)} healthy targets",
        lambda: read_scraping("shop"),
        until=lambda seen: seen.active_targets == len(pods) and seen.unhealthy_targets == 0,
        within=FIRST_SAMPLE,
        look_next=f"kubectl -n {shop} get podmonitoring shop -o yaml; kubectl -n gmp-system logs ds/collector",
    )


def test_podmonitoring_shows_each_pod_as_a_healthy_target(scraped: Scraping, shop: str) -> None:
    """Every pod that a PodMonitoring selects is scraped, and every collector was asked about it."""
    assert scraped.configured
    assert scraped.endpoints == (f"PodMonitoring/{shop}/shop/metrics",)
    assert scraped.active_targets == 2
    assert scraped.collectors_fraction == 1


@pytest.mark.usefixtures("scraped")
def test_promql_answers_with_gke_labels(
    read_series: Callable[[str], list[dict[str, Any]]], facts: dict[str, Any], shop: str, pods: set[str]
) -> None:
    """A pod's sample is found in Cloud Monitoring under the labels that Managed Prometheus gives it on GKE."""
    series = wait_for(
        f"samples of {len(pods)} pods in Cloud Monitoring",
        lambda: read_series(f'shop_orders_total{{namespace="{shop}"}}'),
        until=lambda found: len(found) == len(pods),
        within=FIRST_SAMPLE,
        look_next="python -m lab logs prometheus; kubectl -n gmp-system logs ds/collector",
    )

    metrics = sorted((one["metric"] for one in series), key=lambda labels: str(labels["instance"]))
    assert metrics == [
        {
            "__name__": "shop_orders_total",
            "kind": "book",
            "project_id": facts["project"],
            "location": facts["location"],
            "cluster": facts["cluster"],
            "namespace": shop,
            "job": "shop",
            "instance": f"{pod}:metrics",
            "pod": pod,
            "container": "web",
            "top_level_controller_name": "shop",
            "top_level_controller_type": "Deployment",
        }
        for pod in sorted(pods)
    ]
    assert {one["value"][1] for one in series} == {"42"}


@pytest.mark.usefixtures("scraped")
def test_quoted_port_scrapes_nothing_and_looks_configured(
    read_scraping: Callable[[str], Scraping], read_series: Callable[[str], list[dict[str, Any]]], shop: str
) -> None:
    """A port number in quotes is the name of a port that no pod has: accepted as good, it yields no target."""
    quoted = read_scraping("shop-with-quoted-port")

    assert quoted.configured
    assert quoted.active_targets is None
    jobs = {one["metric"]["job"] for one in read_series(f'up{{namespace="{shop}"}}')}
    assert jobs == {"shop"}


@pytest.mark.parametrize("account", ["acceptance", "observer"])
def test_promql_answers_a_reader(promql: PromQl, token: Callable[[str], str], account: str) -> None:
    """The suite and the observer may read time series."""
    answer = promql.ask("vector(1)", token=token(account))

    assert answer.status_code == 200
    assert answer.json()["data"]["result"][0]["value"][1] == "1"


def test_promql_refuses_an_account_without_the_role(promql: PromQl, token: Callable[[str], str]) -> None:
    """An account without roles/monitoring.viewer gets a 403 that names the missing permission."""
    answer = promql.ask("vector(1)", token=token("operator"))

    assert answer.status_code == 403
    assert answer.json()["error"]["status"] == "PERMISSION_DENIED"
    assert "monitoring.timeSeries.list" in answer.json()["error"]["message"]


def test_promql_refuses_a_request_without_a_token(promql: PromQl) -> None:
    """Time series cannot be read anonymously."""
    answer = promql.ask("vector(1)", token=None)

    assert answer.status_code == 401
    assert answer.json()["error"]["status"] == "UNAUTHENTICATED"


def test_promql_refuses_a_forged_token(promql: PromQl, token: Callable[[str], str]) -> None:
    """A token with a wrong signature is refused."""
    # The lab's tokens end with an HMAC in hexadecimal digits; another one of that form fits no key.
    content, _, _ = token("acceptance").rpartition(".")

    answer = promql.ask("vector(1)", token=f"{content}.{'0' * 64}")

    assert answer.status_code == 401
    assert answer.json()["error"]["status"] == "UNAUTHENTICATED"


def test_promql_refuses_a_pattern_for_the_metric_name(promql: PromQl, token: Callable[[str], str]) -> None:
    """Cloud Monitoring wants exact metric names, where Prometheus would take a pattern."""
    answer = promql.ask('{__name__=~"shop_.*"}', token=token("acceptance"))

    assert answer.status_code == 400
    assert "unsupported matchtype for the __name__ label" in answer.json()["error"]


def test_autoscaler_says_that_metrics_are_missing_when_metrics_server_is_down(
    kubectl: Kubectl, fault: Callable[..., AbstractContextManager[None]], shop: str
) -> None:
    """Without metrics-server an autoscaler is not ScalingActive and says why; with it again, it is."""

    def read_reason() -> str:
        conditions = kubectl.get("hpa", "shop", "--namespace", shop)["status"].get("conditions", [])
        return next((condition["reason"] for condition in conditions if condition["type"] == "ScalingActive"), "")

    def wait_until_scaling_active_says(reason: str) -> None:
        wait_for(
            f"ScalingActive of HorizontalPodAutoscaler {shop}/shop to say {reason}",
            read_reason,
            until=lambda seen: seen == reason,
            within=SCALING_ACTIVE,
            look_next=f"kubectl -n {shop} describe hpa shop; kubectl -n kube-system get pods -l k8s-app=metrics-server",
        )

    wait_until_scaling_active_says("ValidMetricFound")
    with fault("metrics-server-down"):
        wait_until_scaling_active_says("FailedGetResourceMetric")
    wait_until_scaling_active_says("ValidMetricFound")


def test_promql_answers_503_when_the_central_prometheus_is_down(
    promql: PromQl, token: Callable[[str], str], fault: Callable[..., AbstractContextManager[None]]
) -> None:
    """An outage behind Cloud Monitoring's API shows as Google's error body, and only as long as it lasts."""

    def ask() -> requests.Response:
        return promql.ask("vector(1)", token=token("acceptance"))

    with fault("prometheus-down"):
        answer = ask()

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == 503
    assert answer.json()["error"]["status"] == "UNAVAILABLE"
    wait_for(
        "Cloud Monitoring to answer again",
        ask,
        until=lambda response: response.ok,
        within=PROMETHEUS_BACK,
        look_next="python -m lab status; python -m lab logs prometheus",
    )
