"""Hostnames of listeners and routes: which pattern matches, and which match is preferred."""

from __future__ import annotations

import pytest

from fixtures.subject.hostname_match import matches, specificity
from tests.unit.recorded_gateway import HOSTNAME


@pytest.mark.parametrize(
    ("pattern", "hostname", "covered"),
    [
        ("", HOSTNAME, True),
        (HOSTNAME, HOSTNAME, True),
        ("Backstage.lab.test", HOSTNAME, True),
        ("*.lab.test", HOSTNAME, True),
        ("*.test", HOSTNAME, True),
        ("*.lab.test", "lab.test", False),
        ("lab.test", HOSTNAME, False),
    ],
)
def test_pattern_covers_what_ends_like_it(pattern: str, hostname: str, *, covered: bool) -> None:
    """A wildcard stands for one label or more, as in the Gateway API."""
    assert matches(pattern, hostname) is covered


def test_more_exact_pattern_is_preferred() -> None:
    """An exact hostname comes before a wildcard, a longer wildcard before a shorter one, no hostname last."""
    patterns = [HOSTNAME, "*.lab.test", "*.test", "", "other.test"]
    ranks = [specificity(each, HOSTNAME) for each in patterns]

    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) == len(ranks)
    assert ranks[-2:] == [1, 0]
