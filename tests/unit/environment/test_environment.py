"""The environment as tests hold it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.environment.environment import Environment
from fixtures.environment.file import read
from fixtures.environment.settings import KEYS
from tests.unit.environment.conftest import COMPLETE, written


def test_complete_file_is_an_environment(tmp_path: Path) -> None:
    """A file with every required key needs nothing else."""
    loaded = read(written(tmp_path, COMPLETE)).completed({})

    assert loaded.environment.name == "mine"
    assert loaded.environment.slo.latency == 1.0
    assert loaded.environment.cloud_sql.databases == ("d",)
    assert loaded.environment.timeouts.rollout == 600.0


def test_environment_does_not_change_after_loading(tmp_path: Path) -> None:
    """No test can change what the next one sees."""
    environment = read(written(tmp_path, COMPLETE)).completed({}).environment

    with pytest.raises(ValueError, match="frozen"):
        environment.portal.hostname = "elsewhere.test"


def test_environment_is_what_the_file_documents() -> None:
    """Every table of the model has its documentation, as `[name]: what it is`."""
    tables = {name: field.annotation for name, field in Environment.model_fields.items() if name not in KEYS}

    assert all(f"`[{name}]`: " in str(model.__doc__) for name, model in tables.items())
    assert len(tables) == 15
