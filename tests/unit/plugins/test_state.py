"""What the plugins share of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtures.disruption.brakes import Brakes
from fixtures.plugins.disturbing import brakes
from fixtures.plugins.state import RunState


def test_renewed_credentials_are_secret_beside_the_old_ones(tmp_path: Path) -> None:
    """A text that comes late may still hold the token of before."""
    token = tmp_path / "token"
    environment = SimpleNamespace(
        google=SimpleNamespace(token_variable=None, token_file=token), portal=SimpleNamespace(token_variable=None)
    )
    client = SimpleNamespace(configuration=SimpleNamespace(api_key={"authorization": "Bearer of-the-cluster"}))
    state = RunState(cast("pytest.Config", None))
    assert not state.secrets

    state.run = cast("Any", SimpleNamespace(environment=environment, client=client))
    seen = []
    for renewed in ("first", "second"):
        token.write_text(f"{renewed}\n")
        seen.append(state.secrets)

    assert seen == [("of-the-cluster", "first"), ("of-the-cluster", "first", "second")]


def test_brakes_are_asked_by_each_disturbance_and_not_when_they_are_made() -> None:
    """A namespace that is frozen for the first experiment only stops none of the later ones."""
    tenure = SimpleNamespace(lease=None, api=None)
    environment = SimpleNamespace(namespaces=SimpleNamespace(deployment="portal"))

    assert isinstance(cast("Any", brakes).__wrapped__(tenure, environment), Brakes)
