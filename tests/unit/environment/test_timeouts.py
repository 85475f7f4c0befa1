"""Deadlines of an environment file, and their defaults."""

from __future__ import annotations

from pathlib import Path

from fixtures.environment.loading import read
from tests.unit.environment.conftest import COMPLETE, written


def test_deadline_of_the_file_replaces_the_default(tmp_path: Path) -> None:
    """A file sets only the deadlines that differ from the defaults."""
    draft = read(written(tmp_path, COMPLETE + "timeouts.rollout = 900"))

    assert (draft.timeouts.rollout, draft.timeouts.drain) == (900.0, 600.0)
