"""Promise secrets: Backstage's pods have all of its secrets in Secret Manager, up to date and read-only."""

from __future__ import annotations

import pytest

from fixtures.api.client import GuardedClient
from fixtures.api.exec import Container
from fixtures.api.pods import Pod
from fixtures.environment.environment import Environment
from fixtures.environment.timeouts import Timeouts
from fixtures.google.rest import GoogleApis
from fixtures.outcomes import NotObservableError, said
from fixtures.reference.reference import Reference
from fixtures.report.check import Check
from fixtures.secrets.delivery import Delivery
from fixtures.secrets.files import secret_files
from fixtures.secrets.mounted import entries_of, mounted_classes, unmounted
from fixtures.waiting import wait_for

STATUS = "SecretProviderClassPodStatus"
"""Kind with which the CSI driver reports what a pod mounts. GKE's add-on probably writes it too; not confirmed."""


@pytest.fixture
def delivery(deployed: Reference, client: GuardedClient, google: GoogleApis, environment: Environment) -> Delivery:
    """Reads how secrets get into Backstage's pods; there is at least one SecretProviderClass."""
    deployment, classes = deployed.the("Deployment"), mounted_classes(deployed)
    look_next = f"kubectl -n {deployment.namespace} get deployment {deployment.name} -o yaml"
    assert classes, said(f"a volume of a SecretProviderClass in {deployment} of the reference", "none", look_next)
    return Delivery(deployment, classes, client, google, environment.google.secret_manager)


@pytest.fixture
def ready(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """Backstage's Ready pods; there is at least one."""
    found = tuple(pod for pod in pods if pod.ready)
    look_next = f"kubectl -n {pods[0].namespace} describe pod {pods[0].name}"
    assert found, said("a Ready pod", ", ".join(map(str, pods)), look_next)
    return found


@pytest.fixture
def reported(delivery: Delivery, ready: tuple[Pod, ...], check: Check) -> None:
    """Requires that the CSI driver reports what it mounts; where it does not, the check is not observable."""
    if not delivery.statuses():
        look_next = f"kubectl -n {ready[0].namespace} get secretproviderclasspodstatuses"
        raise NotObservableError(said(f"a {STATUS} of each pod", "none of any", look_next))
    check.decided_by(STATUS)


def test_class_lists_every_expected_secret(delivery: Delivery, environment: Environment) -> None:
    """Every credential that Backstage needs is requested from Secret Manager."""
    listed = {each.secret for of_class in delivery.live_classes() for each in entries_of(of_class)}

    missing = [name for name in environment.secrets.expected if name not in listed]

    first, names = delivery.classes[0], " and ".join(map(str, delivery.classes))
    look_next = f"kubectl -n {first.namespace} get secretproviderclass {first.name} -o yaml"
    assert not missing, said(f"every expected secret in {names}", f"without {', '.join(missing)}", look_next)


def test_every_pod_mounts_the_class(delivery: Delivery, ready: tuple[Pod, ...], check: Check) -> None:
    """No pod of the portal runs without its credentials."""
    statuses = delivery.statuses() or None
    check.decided_by(STATUS if statuses else f"running containers, as there is no {STATUS}")

    wrong = [each for pod in ready for of_class in delivery.classes for each in unmounted(pod, of_class, statuses)]

    look_next = f"kubectl -n {ready[0].namespace} get secretproviderclasspodstatuses -o yaml"
    assert not wrong, said("every SecretProviderClass mounted in every Ready pod", "; ".join(wrong), look_next)


@pytest.mark.usefixtures("reported")
def test_every_pod_was_given_every_secret(delivery: Delivery, timeouts: Timeouts) -> None:
    """Every pod of the portal has all of its credentials."""
    wait_for(
        "every secret of the SecretProviderClass mounted in every Ready pod",
        delivery.incomplete,
        until=lambda missing: not missing,
        within=timeouts.secret_mounted,
        look_next=f"kubectl -n {delivery.deployment.namespace} get secretproviderclasspodstatuses -o yaml",
        every=2,
        describe="; ".join,
    )


@pytest.mark.usefixtures("reported")
def test_every_pod_has_the_latest_versions(delivery: Delivery, timeouts: Timeouts) -> None:
    """Every pod has the latest version of each credential."""
    unusable = delivery.unusable()
    expected = "every version that is asked for ENABLED, as no new pod starts without"
    assert not unusable, said(expected, "; ".join(unusable), "gcloud secrets versions list, of that secret")

    wait_for(
        "the latest version of every secret in every Ready pod",
        delivery.outdated,
        until=lambda outdated: not outdated,
        within=timeouts.secret_mounted,
        look_next=f"kubectl -n {delivery.deployment.namespace} get events --field-selector reason=FailedMount",
        every=2,
        describe="; ".join,
    )


@pytest.mark.needs("connect")
def test_secret_files_can_be_read_and_not_written(
    delivery: Delivery, ready: tuple[Pod, ...], client: GuardedClient, timeouts: Timeouts
) -> None:
    """Backstage can read each of its credentials, and nothing in its container can change them."""
    files = [
        file
        for pod in ready
        for name, paths in delivery.files()
        for file in secret_files(Container(client, pod.namespace, pod.name, name, timeouts.container_command), paths)
    ]
    look_next = f"kubectl -n {ready[0].namespace} exec {ready[0].name} -- ls -lL {delivery.directory}"
    assert files, said("files of secrets", "none that a SecretProviderClass asks for", look_next)

    wrong = [str(file) for file in files if not file.good]

    assert not wrong, said("files that Backstage can read and cannot write", "; ".join(wrong), look_next)
