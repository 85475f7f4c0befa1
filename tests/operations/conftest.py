"""Fixtures for tests of the suite in service: the lab, with the rights of its administrator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import Kubectl, PromQl, run_lab

Series = dict[str, str]
Query = Callable[[str], list[tuple[Series, float]]]


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    """What `python -m lab facts` says."""
    values: dict[str, Any] = json.loads(run_lab("facts"))
    return values


@pytest.fixture(scope="session")
def kubectl(facts: dict[str, Any]) -> Kubectl:
    """Kubectl as the lab's administrator."""
    return Kubectl(facts["kubectl"], facts["kubeconfig"])


@pytest.fixture(scope="session")
def promql(facts: dict[str, Any]) -> Query:
    """Queries Cloud Monitoring: the labels and values of the series that a PromQL expression selects now."""
    token = Path(facts["tokens"]["observer"])

    def query(expression: str) -> list[tuple[Series, float]]:
        found = PromQl.of(facts).series(expression, token=token.read_text())
        return [(each["metric"], float(each["value"][1])) for each in found]

    return query
