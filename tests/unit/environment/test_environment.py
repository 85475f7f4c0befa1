"""The `Environment` model: its defaults, that it is frozen, and that each table is documented."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from fixtures.environment.environment import Environment, Promise
from fixtures.environment.loading import ROOT, read
from fixtures.environment.sources import KEYS
from tests.unit.environment.conftest import COMPLETE, written


def test_complete_file_is_an_environment(tmp_path: Path) -> None:
    """The required keys are sufficient; all others have defaults."""
    loaded = read(written(tmp_path, COMPLETE)).completed({})

    assert loaded.environment.name == "mine"
    assert loaded.environment.slo.latency == 1.0
    assert loaded.environment.cloud_sql.databases == ("d",)
    assert loaded.environment.timeouts.rollout == 600.0


def test_environment_does_not_change_after_loading(tmp_path: Path) -> None:
    """The environment is frozen, so no test can change it for the next one."""
    environment = read(written(tmp_path, COMPLETE)).completed({}).environment

    with pytest.raises(ValueError, match="frozen"):
        environment.portal.hostname = "elsewhere.test"


def test_environment_is_what_the_file_documents() -> None:
    """The docstring of each table's model names the table and says what it holds."""
    tables = {name: field.annotation for name, field in Environment.model_fields.items() if name not in KEYS}

    assert all(f"`[{name}]`: " in str(model.__doc__) for name, model in tables.items())
    assert len(tables) == 15


def test_every_promise_is_a_file_of_checks() -> None:
    """`required` can name exactly the promises that have a file in tests/acceptance."""
    files = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "acceptance").glob("test_*.py")}

    assert files == set(get_args(Promise))
