"""The reference: what is rendered, how it is read, whose image it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.reference.reference import InvalidReferenceError, Reference, render
from tests.unit.patched import ABSENT, RECORDED, recorded_reference, rendered, with_object, with_patch

CANDIDATE = "registry.test/backstage@sha256:" + "0" * 64
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: portal}
"""


def images(reference: Reference) -> list[str]:
    """Sidecars first."""
    pod = reference.the("Deployment")["spec"]["template"]["spec"]
    return [each["image"].text for kind in ("initContainers", "containers") for each in pod[kind]]


def text_of_refusal(source: Path) -> str:
    """What is said about a source that cannot be rendered."""
    with pytest.raises(InvalidReferenceError) as refused:
        render(source)
    return str(refused.value)


def test_kustomization_is_rendered_as_kubectl_does() -> None:
    """The overlay's patches are in, and objects come in the order in which kubectl would apply them."""
    local = rendered("local")

    assert [str(manifest) for manifest in local.manifests] == [str(each) for each in recorded_reference().manifests]
    assert local.the("HTTPRoute")["spec"]["hostnames"].value == ["backstage.lab.test"]


def test_yaml_file_is_as_good_as_a_kustomization() -> None:
    """Helm and kpt users bring what they rendered."""
    assert [str(manifest) for manifest in render(RECORDED / "reference" / "local.yaml").manifests] == [
        "Namespace backstage",
        "ServiceAccount backstage/backstage",
        "Service backstage/backstage",
        "Deployment backstage/backstage",
        "PodDisruptionBudget backstage/backstage",
        "HorizontalPodAutoscaler backstage/backstage",
        "HTTPRoute backstage/backstage",
        "PodMonitoring backstage/backstage",
        "HealthCheckPolicy backstage/backstage",
        "SecretProviderClass backstage/backstage",
    ]


def test_directory_of_yaml_is_read_file_by_file_and_lists_are_opened(tmp_path: Path) -> None:
    """Empty documents are none; objects without a namespace get the one that is given, if they belong into one."""
    (tmp_path / "a.yaml").write_text("---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: elsewhere}\n")
    (tmp_path / "b.yml").write_text(
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: portal}}\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: other, namespace: mcp}}\n"
    )

    assert [str(manifest) for manifest in render(tmp_path, namespace="backstage").manifests] == [
        "Namespace elsewhere",
        "Service backstage/portal",
        "Service mcp/other",
    ]


def test_dates_are_strings_as_in_kubernetes(tmp_path: Path) -> None:
    """YAML has dates, JSON and Kubernetes have none."""
    source = tmp_path / "service.yaml"
    source.write_text(SERVICE.replace("{name: portal}", "{name: portal, annotations: {released: 2026-11-22}}"))

    assert render(source).the("Service")["metadata"]["annotations"]["released"].value == "2026-11-22"


def test_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With the place where it was looked for."""
    source = tmp_path / "nowhere"

    assert text_of_refusal(source) == (
        f"expected: manifests at {source}\n"
        f"seen: [Errno 2] No such file or directory: '{source}'\n"
        f"look next: kubectl apply --dry-run=client -f {source}"
    )


def test_kustomization_that_cannot_be_rendered_is_refused_with_kubectls_words(tmp_path: Path) -> None:
    """It says which file is missing."""
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    text = text_of_refusal(tmp_path)

    assert text.startswith(f"expected: kustomization {tmp_path} to be rendered\nseen: error: ")
    assert "missing.yaml" in text
    assert text.endswith(f"\nlook next: kubectl kustomize {tmp_path}")


@pytest.mark.parametrize(
    ("text", "expected", "seen"),
    [
        ("", "objects at {}, each once", "none"),
        (f"{SERVICE}---{SERVICE}", "objects at {}, each once", "twice or more: Service portal"),
        ("kind: Service", "objects with apiVersion, kind and name at {}", '{"kind": "Service"}'),
        ("- 1", "objects with apiVersion, kind and name at {}", "[1]"),
    ],
)
def test_yaml_of_something_else_is_refused(tmp_path: Path, text: str, expected: str, seen: str) -> None:
    """Nothing is guessed about what is no list of objects."""
    source = tmp_path / "reference.yaml"
    source.write_text(text)

    assert text_of_refusal(source) == (
        f"expected: {expected.format(source)}\nseen: {seen}\nlook next: [reference] source"
    )


def test_text_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    """With the line."""
    source = tmp_path / "reference.yaml"
    source.write_text("kind: [Service")

    assert "line 1, column 7" in text_of_refusal(source)


def test_candidates_image_takes_the_place_of_the_only_containers() -> None:
    """The sidecar keeps its own, and the reference that it was made from stays as it was."""
    reference = recorded_reference()

    assert images(reference.with_image(CANDIDATE)) == ["lab.local/cloud-sql-proxy:lab", CANDIDATE]
    assert images(reference) == ["lab.local/cloud-sql-proxy:lab", "lab.local/backstage:lab"]


def test_candidates_image_goes_to_the_container_that_is_named() -> None:
    """A sidecar, too."""
    reference = recorded_reference()

    assert images(reference.with_image(CANDIDATE, "cloud-sql-proxy")) == [CANDIDATE, "lab.local/backstage:lab"]


def test_candidates_image_is_refused_where_several_containers_could_take_it() -> None:
    """The user says which."""
    several = with_patch(
        recorded_reference(), "Deployment", "/spec/template/spec/containers/-", {"name": "web", "image": "web"}
    )
    with pytest.raises(InvalidReferenceError) as refused:
        several.with_image(CANDIDATE)

    assert str(refused.value) == (
        f"expected: one container for image {CANDIDATE} in manifests/overlays/local\n"
        "seen: backstage, web\n"
        "look next: kubectl get -o yaml of its Deployments"
    )
    assert images(several.with_image(CANDIDATE, "web"))[1:] == ["lab.local/backstage:lab", CANDIDATE]


def test_candidates_image_is_refused_where_no_container_can_take_it() -> None:
    """A container that is not there is most likely misspelt."""
    with pytest.raises(InvalidReferenceError, match=r"^expected: one container web for image x in") as refused:
        recorded_reference().with_image("x", "web")

    assert "\nseen: backstage, cloud-sql-proxy\n" in str(refused.value)


def test_object_is_found_by_kind_if_it_is_the_only_one() -> None:
    """None or several are an error that lists what there is."""
    reference = recorded_reference()
    two = with_object(reference, '{"kind": "Service", "metadata": {"name": "other", "namespace": "backstage"}}')

    assert reference.the("Service").name == "backstage"
    with pytest.raises(InvalidReferenceError) as several:
        two.the("Service")
    with pytest.raises(InvalidReferenceError) as none:
        with_patch(reference, "Service", "", ABSENT).the("Service")
    assert str(several.value) == (
        "expected: one Service in manifests/overlays/local\n"
        "seen: Service backstage/backstage, Service backstage/other\n"
        "look next: [reference] source"
    )
    assert "\nseen: none\n" in str(none.value)


def test_fields_know_their_path_and_have_the_type_that_is_asked_for() -> None:
    """What is absent, or of another type, is empty rather than an error."""
    deployment = recorded_reference().the("Deployment")
    request = next(iter(deployment["spec"]["template"]["spec"]["containers"]))["resources"]["requests"]["memory"]
    label = deployment["metadata"]["labels"]["app.kubernetes.io/name"]

    assert (request.path, request.text) == (
        "spec.template.spec.containers[backstage].resources.requests.memory",
        "640Mi",
    )
    assert (label.path, label.text) == ("metadata.labels[app.kubernetes.io/name]", "backstage")
    assert (request.number, request.mapping, list(request), request["x"].present) == (None, {}, [], False)
    assert deployment["spec"]["template"]["spec"]["automountServiceAccountToken"].number is None
