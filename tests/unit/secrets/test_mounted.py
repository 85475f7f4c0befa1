"""Secrets in pods: what the class requests, what was mounted, what is missing or outdated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import httpx
import pytest

from fixtures.api.pods import Pod
from fixtures.google.rest import GoogleApis
from fixtures.objects.manifest import Body, Field, Manifest
from fixtures.outcomes import NotObservableError
from fixtures.reference.reference import Reference, render
from fixtures.secrets.mounted import (
    Mount,
    MountStatus,
    SecretEntry,
    Version,
    Versions,
    entries_of,
    incomplete,
    mounted_classes,
    mounts,
    outdated,
    read_versions,
    status_of,
    unmounted,
)
from tests.unit.patched import ABSENT, RECORDED, patched, recorded_reference, with_patch

[STATUS] = [
    status_of(Field(each)) for each in json.loads((RECORDED / "secrets" / "statuses.json").read_text())
]  # for POD, as the lab's CSI driver wrote it
POD = next(
    Pod(Field(each.body))
    for each in render(RECORDED / "workload" / "pods.yaml").manifests
    if each.name == "backstage-97c8dbc49-h24tp"
)
CLASS = recorded_reference().the("SecretProviderClass")
GITHUB = SecretEntry("projects/backstage-lab/secrets/backstage-github-token/versions/latest", "github-token")
API = "https://secretmanager.googleapis.com"


def of_secrets(text: object) -> Manifest:
    """The class with another `secrets` parameter."""
    return Manifest(patched(CLASS.body, "/spec/parameters/secrets", text))


def test_class_asks_for_secrets_as_files() -> None:
    """The lab's class requests six secrets, the first of them GitHub's token."""
    found = entries_of(CLASS)

    assert len(found) == 6
    assert found[0] == GITHUB
    assert found[0].secret == "backstage-github-token"  # noqa: S105 - a name
    assert str(found[0]) == "backstage-github-token versions/latest"


def test_class_may_say_it_otherwise() -> None:
    """The older key `fileName`, regional secrets and Parameter Manager's parameters are read, too."""
    region = "projects/p/locations/us-east4/secrets/s/versions/3"
    parameter = "projects/p/locations/global/parameters/q/versions/v1"
    found = entries_of(of_secrets(json.dumps([{"resourceName": region, "fileName": "s"}, {"resourceName": parameter}])))

    assert [(each.secret, each.file, str(each)) for each in found] == [("s", "s", "s versions/3"), ("", "", parameter)]


@pytest.mark.parametrize("text", [ABSENT, "", "- [", "SET-BY-OVERLAY", "3"])
def test_class_that_cannot_be_read_asks_for_nothing(text: object) -> None:
    """A class with an unreadable `secrets` parameter has no entries, so every expected secret is reported missing."""
    assert entries_of(of_secrets(text)) == ()


def test_mount_of_template_and_pod() -> None:
    """Mounts are read from a pod template as from a pod, where the projected token is another volume."""
    mount = Mount("backstage", "backstage", "/etc/backstage/secrets")

    assert mounts(recorded_reference().the("Deployment")["spec"]["template"]["spec"]) == (mount,)
    assert mounts(POD.body["spec"]) == (mount,)


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        (recorded_reference(), ["backstage"]),
        (with_patch(recorded_reference(), "SecretProviderClass", "/metadata/name", "other"), []),
        (with_patch(recorded_reference(), "Deployment", "/spec/template/spec/volumes", []), []),
    ],
    ids=["as it is", "another class", "no volume"],
)
def test_classes_are_those_that_pods_mount(reference: Reference, names: list[str]) -> None:
    """Only classes that the Deployment mounts count; the reference may have others."""
    assert [each.name for each in mounted_classes(reference)] == names


def test_status_has_numbers_of_versions() -> None:
    """Versions are found by secret name: the driver writes project numbers instead of project IDs."""
    assert (STATUS.pod, STATUS.provider_class, STATUS.mounted) == (POD.name, "backstage", True)
    assert STATUS.versions[GITHUB.resource] == "1"
    assert len(STATUS.versions) == 6


def without_volume() -> Pod:
    """The recorded pod as it was before the class became a volume."""
    body: Body = patched(POD.body.mapping, "/spec/volumes", [])
    return Pod(Field(body))


@pytest.mark.parametrize(
    ("pod", "found", "words"),
    [
        (POD, [STATUS], []),
        (POD, None, []),
        (POD, [replace(STATUS, mounted=False)], ["is not mounted"]),
        (POD, [replace(STATUS, pod="another")], ["has no SecretProviderClassPodStatus"]),
        (POD, [replace(STATUS, provider_class="other")], ["has no SecretProviderClassPodStatus"]),
        (without_volume(), [STATUS], ["is no volume of it"]),
        (without_volume(), None, ["is no volume of it"]),
    ],
    ids=["mounted", "nothing is said", "not mounted", "another pod's", "another class's", "no volume", "nor a word"],
)
def test_pod_without_its_class(pod: Pod, found: Sequence[MountStatus] | None, words: list[str]) -> None:
    """If the cluster has no statuses at all, a running pod with the volume proves the mount."""
    expected = [f"pod {POD.name}: SecretProviderClass backstage {each}" for each in words]

    assert list(unmounted(pod, CLASS, found)) == expected


def test_pod_that_was_not_given_everything() -> None:
    """A pod lacks an entry that was added after its start, until the driver's next rotation."""
    fewer = {name: number for name, number in STATUS.versions.items() if name != GITHUB.resource}

    assert list(incomplete(POD, CLASS, [STATUS])) == []
    assert list(incomplete(POD, CLASS, [replace(STATUS, versions=fewer)])) == [
        f"pod {POD.name}: backstage-github-token versions/latest is not among what was mounted"
    ]
    assert len(list(incomplete(POD, CLASS, []))) == 6


def google(answers: dict[str, httpx.Response]) -> GoogleApis:
    """Secret Manager with these answers by URL."""
    transport = httpx.MockTransport(lambda request: answers[str(request.url)])
    return GoogleApis(lambda: "token", timeout=1, transport=transport)


def test_version_behind_latest_is_asked_for() -> None:
    """`latest` is resolved to its number, and the version's state tells whether it can be read."""
    answer = {"name": "projects/1/secrets/backstage-github-token/versions/3", "state": "DISABLED"}
    only = of_secrets(json.dumps([{"resourceName": GITHUB.resource, "path": GITHUB.file}]))
    found = read_versions([only], google({f"{API}/v1/{GITHUB.resource}": httpx.Response(200, json=answer)}), API)

    assert found == {GITHUB: Version("3", "DISABLED")}
    assert not found[GITHUB].enabled


def test_version_that_does_not_exist_is_absent() -> None:
    """A 404 means absent; regional secrets have their own endpoint, and other resources are not asked for."""
    resource = "projects/p/locations/us-east4/secrets/s/versions/9"
    both = of_secrets(json.dumps([{"resourceName": resource}, {"resourceName": "projects/p/parameters/q/versions/v"}]))
    regional = "https://secretmanager.us-east4.rep.googleapis.com"
    found = read_versions([both], google({f"{regional}/v1/{resource}": httpx.Response(404)}), API)

    assert found == {SecretEntry(resource, ""): Version("", "absent")}


def test_identity_that_may_not_ask_cannot_observe() -> None:
    """A 403 makes the check not observable."""
    refused = httpx.Response(403, json={"error": {"message": "Permission denied"}})
    only = of_secrets(json.dumps([{"resourceName": GITHUB.resource}]))
    with pytest.raises(NotObservableError) as failed:
        read_versions([only], google({f"{API}/v1/{GITHUB.resource}": refused}), API)

    assert str(failed.value) == (
        f"expected: an answer of {API}/v1/{GITHUB.resource}\nseen: 403 Permission denied\n"
        "look next: docs/permissions.md: roles on Google's side"
    )


@pytest.mark.parametrize(
    ("number", "has", "words"),
    [
        ("1", "1", []),
        ("2", "1", ["backstage-github-token in version 1, not 2"]),
        ("1", "2", ["backstage-github-token in version 2, not 1"]),
        ("1", "", ["backstage-github-token in version none, not 1"]),
    ],
)
def test_pod_with_another_version(number: str, has: str, words: list[str]) -> None:
    """A pod is outdated if its version differs from Secret Manager's in either direction."""
    versions: Versions = {GITHUB: Version(number, "ENABLED")}
    found = replace(STATUS, versions={GITHUB.resource: has})

    assert list(outdated(POD, CLASS, [found], versions)) == [f"pod {POD.name}: {each}" for each in words]
