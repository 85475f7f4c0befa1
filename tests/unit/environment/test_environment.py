"""The environment as tests hold it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from fixtures.environment.environment import Environment, Promise
from fixtures.environment.loading import ROOT, read
from fixtures.environment.sources import KEYS
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


def test_every_promise_is_a_file_of_checks() -> None:
    """A file without its promise could not be required; a promise without its file could not be kept."""
    files = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "acceptance").glob("test_*.py")}

    assert files == set(get_args(Promise))
