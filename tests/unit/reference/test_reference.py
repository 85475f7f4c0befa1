"""The reference: how it is rendered and read, and which container takes the candidate's image."""

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
    """The images of the Deployment's containers, sidecars first."""
    pod = reference.the("Deployment")["spec"]["template"]["spec"]
    return [each["image"].text for kind in ("initContainers", "containers") for each in pod[kind]]


def render_error(source: Path) -> str:
    """The error for a source that cannot be rendered."""
    with pytest.raises(InvalidReferenceError) as refused:
        render(source)
    return str(refused.value)


def test_kustomization_is_rendered_as_kubectl_does() -> None:
    """A kustomization is rendered with its patches, in the order in which kubectl would apply it."""
    local = rendered("local")

    assert [str(manifest) for manifest in local.manifests] == [str(each) for each in recorded_reference().manifests]
    assert local.the("HTTPRoute")["spec"]["hostnames"].value == ["backstage.lab.test"]


def test_yaml_file_is_as_good_as_a_kustomization() -> None:
    """A file of plain YAML works too, for users who render with Helm or kpt."""
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
    """Empty documents are skipped, Lists are opened, and namespaced objects without a namespace get the given one."""
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
    """A date in YAML is read as a string, as JSON and Kubernetes have no dates."""
    source = tmp_path / "service.yaml"
    source.write_text(SERVICE.replace("{name: portal}", "{name: portal, annotations: {released: 2026-11-22}}"))

    assert render(source).the("Service")["metadata"]["annotations"]["released"].value == "2026-11-22"


def test_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The error names the path that does not exist."""
    source = tmp_path / "nowhere"

    assert render_error(source) == (
        f"expected: manifests at {source}\n"
        f"seen: [Errno 2] No such file or directory: '{source}'\n"
        f"look next: kubectl apply --dry-run=client -f {source}"
    )


def test_kustomization_that_cannot_be_rendered_is_refused_with_kubectls_words(tmp_path: Path) -> None:
    """The error quotes kubectl, which names the missing file."""
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    text = render_error(tmp_path)

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
    """YAML that is not a list of distinct Kubernetes objects is an error."""
    source = tmp_path / "reference.yaml"
    source.write_text(text)

    assert render_error(source) == (f"expected: {expected.format(source)}\nseen: {seen}\nlook next: [reference] source")


def test_text_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    """A syntax error is reported with its line and column."""
    source = tmp_path / "reference.yaml"
    source.write_text("kind: [Service")

    assert "line 1, column 7" in render_error(source)


def test_candidates_image_takes_the_place_of_the_only_containers() -> None:
    """The candidate replaces the only container's image in a copy; the sidecar and the original stay unchanged."""
    reference = recorded_reference()

    assert images(reference.with_image(CANDIDATE)) == ["lab.local/cloud-sql-proxy:lab", CANDIDATE]
    assert images(reference) == ["lab.local/cloud-sql-proxy:lab", "lab.local/backstage:lab"]


def test_candidates_image_goes_to_the_container_that_is_named() -> None:
    """The candidate goes to the container that the user names, even if it is a sidecar."""
    reference = recorded_reference()

    assert images(reference.with_image(CANDIDATE, "cloud-sql-proxy")) == [CANDIDATE, "lab.local/backstage:lab"]


def test_candidates_image_is_refused_where_several_containers_could_take_it() -> None:
    """With several containers the user has to name one."""
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
    """A container name that does not exist is an error that lists the ones that do."""
    with pytest.raises(InvalidReferenceError, match=r"^expected: one container web for image x in") as refused:
        recorded_reference().with_image("x", "web")

    assert "\nseen: backstage, cloud-sql-proxy\n" in str(refused.value)


def test_object_is_found_by_kind_if_it_is_the_only_one() -> None:
    """None or several objects of a kind are an error that lists what there is."""
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
    """A field that is absent or of another type reads as empty and raises no error."""
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
