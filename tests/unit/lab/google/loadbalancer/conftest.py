"""What the tests of the load balancer's translation hold in their hand."""

from __future__ import annotations

import pytest

from tests.unit.lab.google.loadbalancer.world import World


@pytest.fixture
def world() -> World:
    """The reference: one Gateway, one route, one Service."""
    return World()
