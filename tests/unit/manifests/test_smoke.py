"""The scheduled smoke's manifests: its identity, its environment, the limits of its pod."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from fixtures.environment import loading
from fixtures.objects.manifest import Field, Manifest
from fixtures.reference.reference import Reference, render

OVERLAYS = Path("manifests/operations/overlays")
ENVIRONMENTS = ("lab", "prod")


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def overlay(request: pytest.FixtureRequest) -> tuple[str, Reference]:
    """An overlay, and the name of its environment."""
    return request.param, render(OVERLAYS / request.param)


@pytest.fixture(scope="module")
def pod(overlay: tuple[str, Reference]) -> Field:
    """The spec of the job's pod."""
    return overlay[1].the("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def bound(manifests: Iterable[Manifest], account: str) -> set[tuple[str, str, str]]:
    """The roles of a service account: kind of binding, namespace, role."""
    return {
        (each.kind, each.namespace, each["roleRef"]["name"].text)
        for each in manifests
        if each.kind.endswith("Binding") and account in [subject["name"].text for subject in each["subjects"]]
    }


def test_identity_has_the_observers_rights_and_no_others(overlay: tuple[str, Reference]) -> None:
    """The smoke has exactly the observer's roles: preflight refuses a run with more."""
    observer = bound(render(Path("manifests/rbac")).manifests, "acceptance-observer")

    assert observer
    assert bound(overlay[1].manifests, "acceptance-smoke") == observer


def test_environment_is_the_file_that_the_job_is_told(overlay: tuple[str, Reference], pod: Field) -> None:
    """The job's --env names the ConfigMap's file, and the file's name is the environment's."""
    name, reference = overlay
    [settings] = [each for each in reference.of_kind("ConfigMap") if each.name.startswith("acceptance-smoke")]

    assert set(settings["data"].mapping) == {f"{name}.toml"}
    [container], [volume, *_] = pod["containers"], pod["volumes"]
    assert f"--env=/etc/acceptance/{name}.toml" in [each.text for each in container["args"]]
    assert volume["configMap"]["name"].text == settings.name


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment_only_observes_as_the_pod_itself(name: str) -> None:
    """The environment observes by the pod's own account; only production's SET-ME values are missing."""
    file = OVERLAYS / name / f"{name}.toml"
    try:
        settings = loading.read(str(file)).settings
    except loading.EnvironmentFileError as error:
        wrong = str(error).splitlines()[:-1]
        assert name == "prod"
        assert [line for line in wrong if not line.endswith("seen: SET-ME")] == []
        return

    assert (settings["permissions"].value, settings["cluster.in_cluster"].value) == (["observe"], True)
    assert "cluster.kubeconfig" not in settings


def test_pod_is_restricted(pod: Field) -> None:
    """The pod meets the restricted Pod Security Standard, and its root file system is read-only."""
    [container] = pod["containers"]

    assert (pod["securityContext"]["runAsNonRoot"].value, pod["restartPolicy"].text) == (True, "Never")
    assert container["securityContext"].mapping == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_token_is_mounted_in_the_jobs_pod_alone(overlay: tuple[str, Reference], pod: Field) -> None:
    """Only the job's pod mounts a token; other pods under this account get none by default."""
    assert overlay[1].the("ServiceAccount")["automountServiceAccountToken"].value is False
    assert overlay[1].the("Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"].value is False
    assert pod["automountServiceAccountToken"].value is True


def test_one_run_at_a_time_and_none_is_tried_again(overlay: tuple[str, Reference]) -> None:
    """A retry would hide what the first run found, and a run that hangs ends before the next starts."""
    spec = overlay[1].the("CronJob")["spec"]
    job = spec["jobTemplate"]["spec"]

    assert (spec["schedule"].text, spec["concurrencyPolicy"].text) == ("*/10 * * * *", "Forbid")
    assert (job["backoffLimit"].number, job["activeDeadlineSeconds"].number) == (0, 480)


def test_account_is_annotated_for_workload_identity(overlay: tuple[str, Reference]) -> None:
    """The overlay replaces the annotation's placeholder."""
    annotations = overlay[1].the("ServiceAccount")["metadata"]["annotations"]

    assert annotations["iam.gke.io/gcp-service-account"].text.endswith(".iam.gserviceaccount.com")
