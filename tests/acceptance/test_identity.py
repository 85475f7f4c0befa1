"""Promise identity: Backstage's pods act as their own Google account, by Workload Identity."""

from __future__ import annotations

import pytest

from fixtures.api.client import GuardedClient
from fixtures.api.exec import Container
from fixtures.api.live import Objects
from fixtures.api.pods import Pod
from fixtures.environment.environment import Environment
from fixtures.environment.timeouts import Timeouts
from fixtures.objects.manifest import Manifest
from fixtures.outcomes import said
from fixtures.platform import workload_identity
from fixtures.reference.reference import Reference


@pytest.fixture
def containers(
    deployed: Reference, pods: tuple[Pod, ...], client: GuardedClient, timeouts: Timeouts
) -> tuple[Container, ...]:
    """The container that serves users, of each Ready pod; there is at least one."""
    name = workload_identity.serving_container_name(deployed)
    ready = [pod for pod in pods if pod.ready]
    look_next = f"kubectl -n {pods[0].namespace} describe pod {pods[0].name}"
    assert ready, said("a Ready pod", ", ".join(map(str, pods)), look_next)
    return tuple(Container(client, pod.namespace, pod.name, name, timeouts.container_command) for pod in ready)


@pytest.fixture
def service_account(deployed: Reference) -> Manifest:
    """Name and namespace of the ServiceAccount that the reference's pods run as."""
    deployment = deployed.the("Deployment")
    name = workload_identity.service_account_of(deployment["spec"]["template"]["spec"])
    metadata = {"name": name, "namespace": deployment.namespace}
    return Manifest({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})


def test_service_account_names_the_google_account(
    service_account: Manifest, deployed: Reference, objects: Objects, environment: Environment
) -> None:
    """Manifests and cluster agree on the Google account that Backstage acts as."""
    rendered = [each for each in deployed.of_kind("ServiceAccount") if str(each) == str(service_account)]
    live = Manifest(objects.get(service_account.body) or {})

    named = [
        *(("reference", workload_identity.google_account_of(each)) for each in rendered),
        ("cluster", workload_identity.google_account_of(live) if live.body else "no such ServiceAccount"),
    ]

    expected = environment.identity.service_account
    wrong = [f"{where}: {name or 'no annotation'}" for where, name in named if name != expected]
    look_next = f"kubectl -n {service_account.namespace} get serviceaccount {service_account.name} -o yaml"
    what = f"{workload_identity.ANNOTATION} of {service_account} to be {expected}"
    assert not wrong, said(what, ", ".join(wrong), look_next)


def test_pods_run_as_that_service_account(service_account: Manifest, pods: tuple[Pod, ...]) -> None:
    """Every pod of the portal runs as the service account that was made for it."""
    strangers = [
        f"pod {pod.name} as {name}"
        for pod in pods
        if (name := workload_identity.service_account_of(pod.body["spec"])) != service_account.name
    ]

    look_next = f"kubectl -n {service_account.namespace} get pods -o yaml"
    assert not strangers, said(f"every pod to run as {service_account}", ", ".join(strangers), look_next)


@pytest.mark.needs("connect")
def test_pod_gets_a_token_of_its_google_account(containers: tuple[Container, ...], environment: Environment) -> None:
    """Every pod gets a token of Backstage's Google account; without one, the account's name is worth nothing."""
    expected = environment.identity.service_account

    asked = {container: workload_identity.read_account(container) for container in containers}

    wrong = [f"{container}: {found}" for container, found in asked.items() if not found.usable_as(expected)]
    look_next = f"gcloud iam service-accounts get-iam-policy {expected}: roles/iam.workloadIdentityUser"
    assert not wrong, said(f"a token of {expected} from the metadata server", "; ".join(wrong), look_next)
