"""Prepares the lab for the detection tests."""

from __future__ import annotations

import sys

import pytest

from tests.detection.fault import apply_reference, run


@pytest.fixture(scope="session", autouse=True)
def _deployed() -> None:
    """The suite's identities and the reference deployment, applied before the first fault."""
    run([(sys.executable, "manifests/rbac/apply.py", "--kubeconfig=.lab/kubeconfig", "--into=.lab/rbac")])
    apply_reference()
