"""The cache: what changes a key, and what a failed build leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import layout
from lab.build.cache import Artifact, digest


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with one file."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "go.mod").write_text("module a")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(layout, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def test_digest_changes_with_content_and_with_name(sources: Path) -> None:
    """A changed file, a renamed file and another text are other inputs."""
    first = digest(sources, "v1")
    (sources / "go.mod").write_text("module b")
    second = digest(sources, "v1")
    (sources / "go.mod").rename(sources / "go.sum")
    third = digest(sources, "v1")

    assert len({first, second, third, digest(sources, "v2")}) == 4


def test_digest_is_the_same_in_another_place(sources: Path, tmp_path: Path) -> None:
    """Two checkouts of the same sources share what was built."""
    (tmp_path / "elsewhere").mkdir()
    twin = sources.rename(tmp_path / "elsewhere" / "sources")
    moved = digest(twin)
    twin.rename(sources)

    assert digest(sources) == moved


def test_digest_ignores_compiled_python(sources: Path) -> None:
    """Running the lab does not change what it was built from."""
    before = digest(sources)
    (sources / "__pycache__").mkdir()
    (sources / "__pycache__" / "lab.pyc").write_bytes(b"compiled")

    assert digest(sources) == before


def test_artifact_is_built_once(cache: Path) -> None:
    """What is in the cache is not built again."""
    times = []

    def make(into: Path) -> None:
        times.append(into)
        (into / "program").touch()

    artifact = Artifact("kubelet", ("v1",), make, minutes=1)
    artifact.build()
    artifact.build()

    assert len(times) == 1
    assert (artifact.path / "program").exists()
    assert artifact.path.parent == cache / "kubelet"


def test_failed_build_leaves_nothing(cache: Path) -> None:
    """Half an artifact is never found in the cache."""

    def make(into: Path) -> None:
        (into / "half").touch()
        raise RuntimeError("the compiler gave up")

    artifact = Artifact("kubelet", ("v1",), make, minutes=1)
    with pytest.raises(RuntimeError):
        artifact.build()

    assert not artifact.built
    assert list((cache / "kubelet").iterdir()) == []
