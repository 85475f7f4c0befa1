"""Fixtures for the load balancer's translation of Kubernetes objects."""

from __future__ import annotations

import pytest

from tests.unit.lab.google.loadbalancer.world import ClusterState


@pytest.fixture
def state() -> ClusterState:
    """The reference deployment: one Gateway, one HTTPRoute, one Service."""
    return ClusterState()
