"""What goes into the suite's image."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from image import build


def test_image_has_the_sources_of_a_run() -> None:
    """The image holds what a run needs, neither lab nor unit tests; the archive's hash covers the same files."""
    names = {path.relative_to(build.ROOT).as_posix() for path in build.copied()}

    assert names == {
        *("LICENSE", "requirements-suite.lock", "conftest.py", "pytest.ini", "environments", "fixtures"),
        *("manifests/base", "manifests/overlays", "tests/acceptance", "tests/chaos"),
    }
    assert [name for name in names if not (build.ROOT / name).exists()] == []


def test_changed_source_is_another_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed source gives another archive, so that no outdated image is used."""
    before = build.image().path
    (tmp_path / "new.py").write_text("")
    monkeypatch.setattr(build, "copied", lambda: (tmp_path,))

    assert build.image().path != before


def test_image_is_built_from_the_versions_that_are_tested() -> None:
    """The image's lock file is a subset of the lock file that the tests use."""

    def versions(lock: str) -> set[str]:
        return set(re.findall(r"^[a-z][\w.-]*==\S+", Path(lock).read_text(), flags=re.MULTILINE))

    assert versions("requirements-suite.lock")
    assert versions("requirements-suite.lock") <= versions("requirements.lock")
