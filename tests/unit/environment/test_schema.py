"""Tables of an environment: contradictory or incomplete ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.environment.loading import read
from tests.unit.environment.conftest import COMPLETE, refusal, written


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            'permissions = ["connect"]',
            (
                "permissions: expected: `observe` among them, which every other needs (What may happen to the target); "
                'seen: ["connect"]'
            ),
        ),
        (
            'cluster = {in_cluster = true, context = "staging"}',
            (
                "cluster: expected: either `in_cluster` or `kubeconfig` and `context`; "
                'seen: in_cluster = true, context = "staging"'
            ),
        ),
        (
            'google = {project = "p", location = "l", cluster = "c", token_file = "/t", token_variable = "T"}',
            (
                "google: expected: either `token_file` or `token_variable`; "
                'seen: project = "p", location = "l", cluster = "c", token_file = "/t", token_variable = "T"'
            ),
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(line: str, sentence: str, tmp_path: Path) -> None:
    """Keys that exclude each other, or lack one that they need, are a problem of their table."""
    key = line.partition(" ")[0]
    others = [other for other in COMPLETE.splitlines() if not other.startswith(f"{key} ")]

    assert refusal(tmp_path, "\n".join([*others, line])) == [f"mine.toml: {sentence}"]


@pytest.mark.parametrize(
    ("portal", "sentence"),
    [
        ('auth = "bearer"', '`token_variable`, as `auth` is "bearer"'),
        ('auth = "iap"', '`iap_audience`, as `auth` is "iap"'),
        (
            'auth = "none", resolver = "192.0.2.1", pinned_address = "192.0.2.2"',
            "either `resolver` or `pinned_address`",
        ),
    ],
)
def test_sign_in_is_told_completely(portal: str, sentence: str, tmp_path: Path) -> None:
    """Each kind of `auth` requires its key; a resolver and a pinned address exclude each other."""
    (problem,) = refusal(tmp_path, COMPLETE.replace('auth = "none"', portal))

    assert problem.startswith(f"mine.toml: portal: expected: {sentence}; seen: ")


def test_pods_that_make_load_need_an_image_and_a_namespace_apart(tmp_path: Path) -> None:
    """In the deployment's namespace they could use its service account; load from this machine needs neither."""
    assert read(written(tmp_path, COMPLETE)).completed({}).environment.load.workers == 0

    assert refusal(tmp_path, f"{COMPLETE}load.workers = 2") == [
        "mine.toml: load: expected: `image`, as there are `workers`; seen: workers = 2"
    ]
    assert refusal(tmp_path, f'{COMPLETE}load = {{workers = 2, image = "suite:1", namespace = "mcp"}}') == [
        (
            "mine.toml: load: expected: a namespace that is none of `[namespaces]`, whose pods its own could act as; "
            'seen: workers = 2, image = "suite:1", namespace = "mcp"'
        )
    ]
