"""Environment files: how they are found, how they extend others, and which are refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fixtures.environment import loading
from fixtures.environment.loading import EnvironmentFileError, read
from fixtures.environment.sources import Setting
from tests.unit.environment.conftest import COMPLETE, written


def test_paths_start_at_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are relative to the file, not to the working directory; `~` is the home directory."""
    monkeypatch.setenv("HOME", "/home/somebody")
    loaded = read(written(tmp_path, COMPLETE + 'cluster.kubeconfig = "~/.kube/staging"')).completed({})

    assert loaded.environment.reference.source == tmp_path / "manifests"
    assert loaded.environment.cluster.kubeconfig == Path("/home/somebody/.kube/staging")


def test_production_carries_the_values_of_the_seed_and_may_only_be_observed() -> None:
    """prod.toml has the values of the real deployment, and reports all placeholders its owner must fill in at once."""
    values = tomllib.loads((loading.ENVIRONMENTS / "prod.toml").read_text())

    assert values["permissions"] == ["observe"]
    assert values["portal"]["hostname"] == "backstage.broadinstitute.org"
    assert values["cloud_sql"]["instance"] == "bits-backstage-prod:us-east4:backstage-prod"
    assert values["identity"]["service_account"] == "backstage@bits-backstage-prod.iam.gserviceaccount.com"
    assert (values["gateway"]["name"], values["namespaces"]["gateway"]) == ("external-gw-01", "mcp")
    assert len(values["secrets"]["expected"]) == 6
    with pytest.raises(EnvironmentFileError) as refused:
        read("prod")
    assert str(refused.value) == (
        "environments/prod.toml: cluster.context: expected: Context of the kubeconfig; seen: SET-ME\n"
        "environments/prod.toml: google.location: expected: Location of the cluster, as metrics name it; seen: SET-ME\n"
        "environments/prod.toml: google.cluster: expected: Name of the cluster, as metrics name it; seen: SET-ME\n"
        "look next: docs/environments.md"
    )


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_nothing_but_owners_values_is_missing(name: str, tmp_path: Path) -> None:
    """The file is a complete environment once every SET-ME is replaced."""
    text = (loading.ENVIRONMENTS / f"{name}.toml").read_text()

    assert read(written(tmp_path, text.replace("SET-ME", "owners"))).completed({}).environment.name == "mine"


def test_unknown_environment_is_told_with_the_known_ones() -> None:
    """A mistyped name is refused with a list of the environments that exist."""
    with pytest.raises(EnvironmentFileError) as refused:
        read("prd")

    names = ", ".join(sorted(path.stem for path in loading.ENVIRONMENTS.glob("*.toml")))
    assert {"local", "prod", "staging"} <= set(loading.environment_names())
    assert str(refused.value) == f"expected: an environment of {names}, or a path; seen: prd"


def test_path_without_a_file_is_refused(tmp_path: Path) -> None:
    """A path without a file is refused as a missing file, not as an unknown name."""
    with pytest.raises(EnvironmentFileError) as refused:
        read(f"{tmp_path}/none.toml")

    assert str(refused.value) == f"expected: the file of an environment; seen: no file {tmp_path}/none.toml"


def test_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    """The message has the line and column of the syntax error."""
    with pytest.raises(EnvironmentFileError) as refused:
        read(written(tmp_path, "permissions = observe"))

    assert str(refused.value) == (
        f"{tmp_path}/mine.toml: expected: a readable TOML file; seen: Invalid value (at line 1, column 15)"
    )


def test_image_of_the_command_line_comes_before_the_file(tmp_path: Path) -> None:
    """`--image` names the candidate and overrides both the file and the facts of a ready command."""
    path = written(tmp_path, COMPLETE + 'reference.image = "backstage:SET-ME"')

    loaded = read(path, image="backstage:2").completed({"reference.image": Setting("backstage:3", "ready command")})

    assert loaded.environment.reference.image == "backstage:2"
    assert loaded.settings["reference.image"].source == "option --image"


def test_file_takes_from_another_what_it_does_not_say(tmp_path: Path) -> None:
    """A file inherits the keys that it does not set; a kubeconfig of its own takes precedence over a fact."""
    ready = '[target]\nready = [["facts"]]\n[target.facts]\n"cluster.kubeconfig" = "admin"\n"google.cluster" = "name"\n'
    written(tmp_path, COMPLETE.replace('["observe"]', '["observe", "connect"]') + ready, "whole.toml")
    smoke = 'extends = "./whole.toml"\npermissions = ["observe"]\ncluster.kubeconfig = "observer"\n'

    draft = read(written(tmp_path, smoke, "smoke.toml"))

    assert (draft.name, draft.permissions) == ("smoke", frozenset({"observe"}))
    assert draft.target.facts == {"google.cluster": "name"}
    assert draft.settings["cluster.kubeconfig"] == Setting(f"{tmp_path}/observer", f"{tmp_path}/smoke.toml")
    assert draft.settings["required"].source == f"{tmp_path}/whole.toml"


def test_pod_asks_as_itself_whatever_kubeconfig_the_extended_file_names(tmp_path: Path) -> None:
    """`in_cluster` drops the inherited kubeconfig and context, which would contradict it."""
    written(tmp_path, COMPLETE + 'cluster.kubeconfig = "mine"\ncluster.context = "prod"\n', "outside.toml")
    inside = 'extends = "./outside.toml"\ncluster.in_cluster = true\n'

    cluster = read(written(tmp_path, inside, "inside.toml")).completed({}).environment.cluster

    assert (cluster.in_cluster, cluster.kubeconfig, cluster.context) == (True, None, None)


def test_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    """Files that extend each other in a circle are refused, and the message shows the circle."""
    written(tmp_path, 'extends = "./b.toml"', "a.toml")
    with pytest.raises(EnvironmentFileError) as refused:
        read(written(tmp_path, 'extends = "./a.toml"', "b.toml"))

    assert str(refused.value).replace(f"{tmp_path}/", "") == (
        "expected: files that extend others, in no circle; seen: b.toml extends a.toml extends b.toml"
    )
