"""The gate in Google's pipelines: files that match the APIs' published schemas, and the script that both run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.environment.loading import ROOT

FOLDER = ROOT / "manifests" / "operations" / "pipelines"
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "boolean": bool, "integer": int, "number": (int, float), "array": list, "object": dict,
}  # fmt: skip
CONTAINER = {"name", "image", "command", "args"}
"""Keys of a container in Skaffold's `verify`: the published schema of v4beta7 has no environment variables there."""
CONTEXT = "gke_example-project_us-east4_staging"


def documents(name: str) -> list[dict[str, Any]]:
    """The YAML documents of a file."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def published(api: str) -> dict[str, Any]:
    """The schemas of an API, from the discovery document in Google's client library."""
    discovery = files("googleapiclient") / "discovery_cache" / "documents" / f"{api}.json"
    return dict(json.loads(discovery.read_text())["schemas"])


def problems(value: object, schema: dict[str, Any], schemas: dict[str, Any], path: str = "") -> Iterator[str]:
    """Unknown keys, wrong types and unknown enum values, each with its path."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    if not isinstance(value, TYPES[schema["type"]]):
        yield f"{path}: {schema['type']}"
    elif isinstance(value, dict):
        for key, inner in value.items():
            known = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            yield from problems(inner, known, schemas, f"{path}.{key}") if known else [f"{path}.{key}: unknown"]
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from problems(inner, schema["items"], schemas, f"{path}[{index}]")
    elif value not in schema.get("enum", [value]):
        yield f"{path}: {value}"


def build() -> dict[str, Any]:
    """The promotion gate as a Cloud Build build."""
    [found] = documents("cloudbuild.yaml")
    return found


def test_build_has_the_form_that_cloud_build_publishes() -> None:
    """Every key and type of the build is one that Cloud Build's API knows."""
    schemas = published("cloudbuild.v1")

    assert list(problems(build(), schemas["Build"], schemas, "build")) == []


def test_delivery_has_the_form_that_cloud_deploy_publishes() -> None:
    """Pipeline and targets match Cloud Deploy's API; gcloud puts some of their fields below `metadata`."""
    schemas = published("clouddeploy.v1")
    found = documents("clouddeploy.yaml")

    assert [each.pop("kind") for each in found] == ["DeliveryPipeline", "Target", "Target"]
    assert {each.pop("apiVersion") for each in found} == {"deploy.cloud.google.com/v1"}
    named = [{**each.pop("metadata"), **each} for each in found]
    kinds = [schemas[name] for name in ("DeliveryPipeline", "Target", "Target")]
    assert [list(problems(each, kind, schemas)) for each, kind in zip(named, kinds, strict=True)] == [[], [], []]


def test_a_mistake_in_a_file_would_be_found() -> None:
    """Unknown keys, wrong types and unknown enum values are found."""
    schemas = published("cloudbuild.v1")
    wrong = {"steps": [{"nmae": "x"}], "timeout": 3000, "options": {"logging": "LOUD"}}

    assert list(problems(wrong, schemas["Build"], schemas)) == [
        ".steps[0].nmae: unknown",
        ".timeout: string",
        ".options.logging: LOUD",
    ]


def test_build_says_all_that_it_substitutes() -> None:
    """Each substitution is declared and used, as Cloud Build refuses anything else."""
    text = (FOLDER / "cloudbuild.yaml").read_text().partition("\nsteps:")[2]
    used = set(re.findall(r"\$(_[A-Z]+)", text))

    assert used == set(build()["substitutions"])


def test_build_keeps_the_results_and_then_fails_unless_the_image_may_be_promoted() -> None:
    """The gate is the last step, and the only one after the run whose failure fails the build."""
    results, accept, keep, gate = build()["steps"]

    assert [each.get("allowFailure", False) for each in (results, accept, keep, gate)] == [False, True, True, False]
    assert gate["args"][:3] == ["-m", "fixtures.gate", "results/run/verdict.json"]
    assert gate["args"][3:] == ["--image=$_IMAGE", "--environment=$_TARGET", "--max-age=3600"]


def test_delivery_stops_where_staging_is_not_verified() -> None:
    """Staging's stage runs the verification of Skaffold's profile, and production needs approval."""
    [skaffold] = documents("skaffold.yaml")
    pipeline, _, prod = documents("clouddeploy.yaml")
    staging, last = pipeline["serialPipeline"]["stages"]
    profiles = {each["name"]: each for each in skaffold["profiles"]}

    assert staging["strategy"]["standard"]["verify"] is True
    assert set(profiles) == {*staging["profiles"], *last["profiles"]}
    [verify] = profiles["staging"]["verify"]
    assert set(verify) == {"name", "timeout", "container"}
    assert set(verify["container"]) == CONTAINER
    assert prod["requireApproval"] is True


def test_skaffold_deploys_what_is_there() -> None:
    """Each profile's paths are overlays of this repository."""
    [skaffold] = documents("skaffold.yaml")
    paths = [path for each in skaffold["profiles"] for path in each["manifests"]["kustomize"]["paths"]]

    assert all((ROOT / path / "kustomization.yaml").exists() for path in paths)
    assert len(paths) == 2


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """Stand-ins that record their arguments: python prints a token, kubectl an image, pytest what it was given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {
        "python": "cat > /dev/null; echo ya29.token",  # reads the program that the script gives it
        "kubectl": 'printf "%s " "$@" >&2; echo registry.example/backstage@sha256:1',
        "pytest": 'pwd; echo "$HOME"; cat "$KUBECONFIG"; echo; printf "%s\\n" "$@"',
    }
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def run_accept_script(bin_folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The result of accept.sh, run as in a pipeline from another directory."""
    env = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "TMPDIR": str(bin_folder.parent), **variables}
    return subprocess.run(
        ["sh", FOLDER / "accept.sh"], cwd="/", env=env, capture_output=True, text=True, check=False, timeout=20
    )


def test_script_signs_in_and_accepts_the_candidate(bin_folder: Path) -> None:
    """Pytest runs in the project's root with a kubeconfig of one cluster and a token that only the owner can read."""
    done = run_accept_script(
        bin_folder, TARGET="staging", CONTEXT=CONTEXT, ENDPOINT="gke-1.gke.example", IMAGE="portal@sha256:2"
    )

    root, home, *written = done.stdout.splitlines()
    kubeconfig = yaml.safe_load("\n".join(written[: written.index("")]))
    [cluster], [user], [context] = (kubeconfig[each] for each in ("clusters", "users", "contexts"))
    token = Path(user["user"]["tokenFile"])
    assert (root, done.returncode, token.read_text()) == (str(ROOT), 0, "ya29.token\n")
    assert cluster["cluster"] == {"server": "https://gke-1.gke.example"}
    assert kubeconfig["current-context"] == context["name"] == CONTEXT
    assert (token.stat().st_mode & 0o777, token.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert token.parent == Path(home)
    assert written[written.index("") + 1 :] == [
        "--env=staging", "--image=portal@sha256:2", "--report=results/run", "-p", "no:cacheprovider",
    ]  # fmt: skip


def test_script_takes_what_cloud_deploy_has_deployed(bin_folder: Path) -> None:
    """Without IMAGE the script takes the image of the live Deployment."""
    done = run_accept_script(bin_folder, TARGET="verify", CONTEXT=CONTEXT, ENDPOINT="gke-1.gke.example")

    assert "--image=registry.example/backstage@sha256:1" in done.stdout.splitlines()
    assert done.stderr.startswith("-n backstage get deployment backstage --output=jsonpath=")


@pytest.mark.parametrize("missing", ["TARGET", "CONTEXT", "ENDPOINT"])
def test_script_names_the_variable_that_is_not_set(bin_folder: Path, missing: str) -> None:
    """A missing variable ends the script before anything else happens."""
    variables = {"TARGET": "verify", "CONTEXT": CONTEXT, "ENDPOINT": "gke-1.gke.example"}
    variables[missing] = ""

    done = run_accept_script(bin_folder, **variables)

    assert done.returncode == 2
    assert f"{missing}: parameter not set or null" in done.stderr


def test_image_of_the_deployment_is_asked_for_in_kubectls_words() -> None:
    """The script's jsonpath, given to the real kubectl, selects the container backstage."""
    template = re.findall(r"^deployed='(.+)'$", (FOLDER / "accept.sh").read_text(), re.MULTILINE)[0]
    containers = [{"name": "proxy", "image": "proxy:1"}, {"name": "backstage", "image": "portal@sha256:2"}]
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "backstage"},
        "spec": {"template": {"spec": {"containers": containers}}},
    }  # fmt: skip
    kubectl = str(Path(sys.executable).with_name("kubectl"))
    # `annotate --local` prints the object without a cluster.
    annotate = [kubectl, "annotate", "--local", "-f", "-", "asked=yes", f"--output={template}"]
    offline = {**os.environ, "KUBECONFIG": os.devnull}

    done = subprocess.run(
        annotate, input=json.dumps(deployment), env=offline, capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("portal@sha256:2", "")
