"""Resources of the Admin API as JSON."""

from __future__ import annotations

from lab.google.cloudsql.resources import merged


def test_patch_merges_objects_and_replaces_the_rest() -> None:
    """The rules are those of a JSON merge patch."""
    old = {"a": {"b": 1, "c": 2}, "d": [1], "e": 3}

    assert merged(old, {"a": {"b": 5, "c": None}, "d": [2], "e": None, "f": {"g": 1}}) == {
        "a": {"b": 5}, "d": [2], "f": {"g": 1},
    }  # fmt: skip
