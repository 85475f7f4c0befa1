"""The real Backstage on the lab: applied from the reference, used by a browser, with its catalog in Cloud SQL."""

from __future__ import annotations

import base64
import hashlib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from playwright.sync_api import Browser, Page, sync_playwright

from fixtures.api.client import GuardedClient
from fixtures.api.port_forward import Tunnel
from fixtures.waiting import wait_for
from tests.lab.conftest import OVERLAY, Kubectl, Manifest

NAMESPACE = "backstage"
BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]  # fmt: skip


def ready_pods(kubectl: Kubectl) -> list[Manifest]:
    """Backstage's pods that are Ready and not terminating."""
    pods = kubectl.get("--namespace", NAMESPACE, "pods", "--selector=app.kubernetes.io/name=backstage")["items"]
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and is_ready(pod)]


def is_ready(pod: Manifest) -> bool:
    """Whether the pod's condition Ready is True."""
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def names(pods: list[Manifest]) -> str:
    """Number and names of pods, for the text of a failure."""
    return f"{len(pods)} Ready: {', '.join(pod['metadata']['name'] for pod in pods)}"


def wait_for_pods(kubectl: Kubectl, number: int, within: float) -> list[Manifest]:
    """Wait until so many of Backstage's pods are Ready, and return them; `within` is in seconds."""
    return wait_for(
        f"{number} Backstage pods to be Ready",
        lambda: ready_pods(kubectl),
        until=lambda pods: len(pods) == number,
        within=within,
        look_next=f"kubectl -n {NAMESPACE} describe pods",
        describe=names,
    )


@pytest.fixture(scope="module")
def pods(kubectl: Kubectl) -> list[Manifest]:
    """The two pods of the reference deployment, Ready."""
    kubectl("apply", "--server-side", "--force-conflicts", "--kustomize", str(OVERLAY))
    return wait_for_pods(kubectl, 2, within=300)


@pytest.fixture(scope="module")
def browser(facts: dict[str, Any], pods: list[Manifest]) -> Iterator[Browser]:
    """Headless Chromium that resolves the hostname to the Gateway and trusts the lab's certificate only."""
    assert pods
    address, hostname = facts["gateway"]["address"], facts["hostname"]
    rules = f"--host-resolver-rules=MAP {hostname} {address}"
    # Chromium takes no CA by option; trusting one key is narrower than to ignore all certificate errors.
    trust = f"--ignore-certificate-errors-spki-list={key_hash(address, hostname)}"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*BROWSER, rules, trust])
        yield chromium
        chromium.close()


def key_hash(address: str, hostname: str) -> str:
    """Base64 of the SHA-256 of the Gateway's public key, which Chromium's option takes."""
    certificate = x509.load_pem_x509_certificate(ssl.get_server_certificate((address, 443)).encode())
    assert hostname in certificate.subject.rfc4514_string()
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without cookies and cache, like that of a new user."""
    with browser.new_context() as context:
        yield context.new_page()


def test_portal_shows_the_catalog_in_a_browser(page: Page, facts: dict[str, Any], tmp_path: Path) -> None:
    """A user who opens the hostname sees the catalog's components, and no script fails."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    page.goto(f"https://{facts['hostname']}/", wait_until="domcontentloaded", timeout=60_000)
    table = page.get_by_role("table")
    table.get_by_role("link").first.wait_for(timeout=60_000)
    page.screenshot(path=tmp_path / "catalog.png")

    assert "All Components" in page.content()
    assert table.get_by_role("row").count() > 1
    assert errors == []


def test_catalog_lies_in_cloud_sql_written_by_the_iam_user(
    guarded: GuardedClient, facts: dict[str, Any], pods: list[Manifest]
) -> None:
    """The catalog's entities are rows of a table that belongs to the IAM user, reached through the pod's proxy."""
    user = facts["cloud_sql"]["iam_user"]
    with Tunnel(guarded, NAMESPACE, pods[0]["metadata"]["name"], 5432) as tunnel:
        at: dict[str, Any] = {"host": tunnel.host, "port": tunnel.port}
        with psycopg.connect(**at, user=user, dbname="backstage_plugin_catalog") as connection:
            entities = connection.execute("SELECT count(*) FROM final_entities").fetchone()
            owner = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'final_entities'").fetchone()

    assert entities is not None
    assert entities[0] > 10
    assert owner == (user,)


def test_secrets_are_mounted_from_secret_manager(kubectl: Kubectl, pods: list[Manifest]) -> None:
    """Every pod has its six credentials at the version that Secret Manager calls the latest."""
    statuses = kubectl.get("--namespace", NAMESPACE, "secretproviderclasspodstatuses")["items"]
    mounted = {one["status"]["podName"]: one["status"] for one in statuses if one["status"]["mounted"]}

    assert {pod["metadata"]["name"] for pod in pods} <= mounted.keys()
    assert all(len(status["objects"]) == 6 for status in mounted.values())


def has_two_figures(metrics: list[Manifest]) -> bool:
    """Whether there are two metrics, each with a utilisation; one that has not been read yet has no `resource`."""
    figures = [one.get("resource", {}).get("current", {}) for one in metrics]
    return len(figures) == 2 and all("averageUtilization" in figure for figure in figures)


def test_hpa_reads_both_metrics(kubectl: Kubectl, pods: list[Manifest]) -> None:
    """The HorizontalPodAutoscaler is active on real figures of CPU and memory."""
    assert pods
    current = wait_for(
        "the HPA to have figures for CPU and memory",
        lambda: kubectl.get("--namespace", NAMESPACE, "hpa", "backstage")["status"].get("currentMetrics") or [],
        until=has_two_figures,
        within=180,
        look_next=f"kubectl -n {NAMESPACE} describe hpa backstage",
    )

    assert {metric["resource"]["name"] for metric in current} == {"cpu", "memory"}


def test_five_replicas_fit(kubectl: Kubectl, pods: list[Manifest]) -> None:
    """Five replicas with the requests of the reference become Ready beside everything else of the lab."""
    assert len(pods) == 2
    limits = ("--namespace", NAMESPACE, "patch", "hpa", "backstage", "--type=merge", "--patch")
    kubectl(*limits, '{"spec": {"minReplicas": 5}}')
    try:
        many = wait_for_pods(kubectl, 5, within=300)
    finally:
        kubectl(*limits, '{"spec": {"minReplicas": 2}}')

    assert {pod["spec"]["nodeName"] for pod in many} == set(node_names(kubectl))


def node_names(kubectl: Kubectl) -> list[str]:
    """Names of all nodes."""
    return [node["metadata"]["name"] for node in kubectl.get("nodes")["items"]]


def test_pod_security_of_the_namespace_is_restricted(kubectl: Kubectl) -> None:
    """A pod that runs as root is refused in Backstage's namespace."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl("--namespace", NAMESPACE, "run", "root", "--image=lab.local/debian:lab", "--dry-run=server")

    assert "violates PodSecurity" in refused.value.stderr
