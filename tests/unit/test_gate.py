"""What a pipeline is told about a verdict."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fixtures.gate import main, refusal
from fixtures.manifest import Field

DIGEST = f"sha256:{'a' * 64}"
IMAGE = f"registry.example/backstage@{DIGEST}"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
ACCEPTED = {
    "schema": 1,
    "verdict": "accepted",
    "ended": "2026-01-01T23:00:00+00:00",
    "reasons": [],
    "tested": {"images": {"registry.example/backstage:1": [IMAGE]}},
}


def refused(image: str = IMAGE, **changed: object) -> str:
    """The sentence for a verdict that differs so."""
    return refusal(Field({**ACCEPTED, **changed}), image, NOW, timedelta(hours=2))


def test_accepted_image_may_be_promoted() -> None:
    """The very digest that was tested."""
    assert refused() == ""


@pytest.mark.parametrize(
    ("image", "changed", "sentence"),
    [
        (
            IMAGE.replace("a" * 64, "b" * 64),
            {},
            (
                f"expected: a run that tested sha256:{'b' * 64}; seen: {IMAGE}; "
                f"look next: pytest --image=registry.example/backstage@sha256:{'b' * 64}"
            ),
        ),
        (
            IMAGE,
            {"ended": "2026-01-01T21:59:00+00:00"},
            (
                "expected: a run that ended within the last 2:00:00; seen: one of 2026-01-01T21:59:00+00:00; "
                "look next: run it again"
            ),
        ),
        (
            IMAGE,
            {"ended": "2026-01-02T00:01:00+00:00"},
            (
                "expected: a run that ended within the last 2:00:00; seen: one of 2026-01-02T00:01:00+00:00; "
                "look next: run it again"
            ),
        ),
        (
            IMAGE,
            {"verdict": "no verdict", "reasons": ["no cluster"]},
            "expected: an accepted run; seen: no verdict: no cluster; look next: the report beside the verdict",
        ),
        (
            "registry.example/backstage:1",
            {},
            (
                "expected: an image with its digest, NAME@sha256:DIGEST; seen: registry.example/backstage:1; "
                "look next: what the build has pushed"
            ),
        ),
        (
            IMAGE,
            {"tested": {}},
            f"expected: a run that tested {DIGEST}; seen: no image; look next: pytest --image={IMAGE}",
        ),
    ],
)
def test_anything_else_is_refused_in_one_sentence(image: str, changed: dict[str, object], sentence: str) -> None:
    """Another digest, too old, from the future, not accepted, a tag, nothing tested."""
    assert refused(image, **changed) == sentence


def test_command_says_whether_to_promote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its exit code, and in words."""
    file = tmp_path / "verdict.json"
    file.write_text(json.dumps({**ACCEPTED, "ended": datetime.now(UTC).isoformat()}))

    codes = [main([str(file), f"--image={IMAGE}"]), main([str(file), f"--image={IMAGE[:-1]}b"])]

    assert codes == [0, 1]
    assert capsys.readouterr().out.startswith(f"{IMAGE} was accepted\nexpected: a run that tested ")


@pytest.mark.parametrize(("content", "seen"), [("{", "Expecting property name"), ('{"schema": 2}', "schema 2")])
def test_file_that_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, seen: str) -> None:
    """It says nothing, which is not the same as a refusal."""
    file = tmp_path / "verdict.json"
    file.write_text(content)

    assert main([str(file), f"--image={IMAGE}"]) == 6
    assert f"seen: {seen}" in capsys.readouterr().err
