"""State of a run that the plugins share."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtures.disruption.brakes import Brakes
from fixtures.plugins.disturbing import brakes
from fixtures.plugins.state import RunState


def test_renewed_credentials_are_secret_beside_the_old_ones(tmp_path: Path) -> None:
    """Earlier tokens stay secret after a renewal, as later texts may still have them."""
    token = tmp_path / "token"
    environment = SimpleNamespace(
        google=SimpleNamespace(token_variable=None, token_file=token), portal=SimpleNamespace(token_variable=None)
    )
    client = SimpleNamespace(configuration=SimpleNamespace(api_key={"authorization": "Bearer of-the-cluster"}))
    state = RunState(cast("pytest.Config", None))
    assert not state.secrets

    state.run = cast("Any", SimpleNamespace(environment=environment, client=client))
    secrets = []
    for renewed in ("first", "second"):
        token.write_text(f"{renewed}\n")
        secrets.append(state.secrets)

    assert secrets == [("of-the-cluster", "first"), ("of-the-cluster", "first", "second")]


def test_brakes_are_asked_by_each_disturbance_and_not_when_they_are_made() -> None:
    """Creating the brakes makes no request: each experiment checks again, as a freeze may end in between."""
    tenure = SimpleNamespace(lease=None, api=None)
    environment = SimpleNamespace(namespaces=SimpleNamespace(deployment="portal"))

    assert isinstance(cast("Any", brakes).__wrapped__(tenure, environment), Brakes)
