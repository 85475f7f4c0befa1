"""The rule evaluator's stand-in: its files follow the operator's generated rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from aiohttp import web

from lab.google import rule_evaluator

GENERATED = {"empty.yaml": "", "rules__acceptance__smoke.yaml": "groups: []\n"}


def files(directory: Path) -> dict[str, str]:
    """File names with their contents."""
    return {file.name: file.read_text() for file in directory.iterdir()}


def test_files_become_what_was_generated(tmp_path: Path) -> None:
    """New files are added, changed ones updated, those of deleted objects removed."""
    (tmp_path / "rules__gone__gone.yaml").write_text("groups: []\n")
    (tmp_path / "empty.yaml").write_text("was not empty")

    assert rule_evaluator.write(GENERATED, tmp_path)

    assert files(tmp_path) == GENERATED


def test_nothing_is_reloaded_for_nothing(tmp_path: Path) -> None:
    """Without a difference, write() reports no change and so nothing is reloaded."""
    rule_evaluator.write(GENERATED, tmp_path)

    assert not rule_evaluator.write(GENERATED, tmp_path)


def test_refused_rules_are_told(serve: Callable[[web.Application], str]) -> None:
    """The error has Prometheus' own message."""

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=500, text="failed to reload config: one or more errors occurred")

    application = web.Application()
    application.add_routes([web.post("/-/reload", refuse)])

    with pytest.raises(requests.HTTPError, match="failed to reload config"):
        rule_evaluator.reload(serve(application))
