"""The target of all that is detected."""

from __future__ import annotations

import sys

import pytest

from tests.detection.fault import apply_reference, run


@pytest.fixture(scope="session", autouse=True)
def _deployed() -> None:
    """The deployment as it should be, before anything is done to it."""
    run([(sys.executable, "manifests/rbac/apply.py", "--kubeconfig=.lab/kubeconfig", "--into=.lab/rbac")])
    apply_reference()
