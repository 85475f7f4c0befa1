"""The build cache: what changes a key, and what a failed build leaves behind."""

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
    """Content, file names and extra values are all part of the digest."""
    first = digest(sources, "v1")
    (sources / "go.mod").write_text("module b")
    second = digest(sources, "v1")
    (sources / "go.mod").rename(sources / "go.sum")
    third = digest(sources, "v1")

    assert len({first, second, third, digest(sources, "v2")}) == 4


def test_digest_is_the_same_in_another_place(sources: Path, tmp_path: Path) -> None:
    """Two checkouts of the same sources share one build."""
    (tmp_path / "elsewhere").mkdir()
    other_checkout = sources.rename(tmp_path / "elsewhere" / "sources")
    moved = digest(other_checkout)
    other_checkout.rename(sources)

    assert digest(sources) == moved


def test_digest_ignores_compiled_python(sources: Path) -> None:
    """Running the lab must not change the digest of its sources."""
    before = digest(sources)
    (sources / "__pycache__").mkdir()
    (sources / "__pycache__" / "lab.pyc").write_bytes(b"compiled")

    assert digest(sources) == before


def test_artifact_is_built_once(cache: Path) -> None:
    """An artifact in the cache is not built again."""
    builds = []

    def make(into: Path) -> None:
        builds.append(into)
        (into / "program").touch()

    artifact = Artifact("kubelet", ("v1",), make, minutes=1)
    artifact.build()
    artifact.build()

    assert len(builds) == 1
    assert (artifact.path / "program").exists()
    assert artifact.path.parent == cache / "kubelet"


def test_failed_build_leaves_nothing(cache: Path) -> None:
    """A half-built artifact never stays in the cache."""

    def make(into: Path) -> None:
        (into / "half").touch()
        raise RuntimeError("the compiler gave up")

    artifact = Artifact("kubelet", ("v1",), make, minutes=1)
    with pytest.raises(RuntimeError):
        artifact.build()

    assert not artifact.built
    assert list((cache / "kubelet").iterdir()) == []
