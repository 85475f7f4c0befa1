"""The promotion gate: whether a verdict allows an image to be promoted, and why not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fixtures.environment.loading import ROOT
from fixtures.objects.manifest import Field
from fixtures.report.gate import Promotion, main, refusal

DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"
PROXY = f"sha256:{'c' * 64}"
IMAGE = f"registry.example/backstage@{DIGEST}"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
ACCEPTED: dict[str, Any] = {
    "schema": 1,
    "verdict": "accepted",
    "exit_code": 0,
    "environment": "staging",
    "began": "2026-01-01T22:55:00+00:00",
    "ended": "2026-01-01T23:00:00+00:00",
    "reasons": [],
    "tested": {"images": {"registry.example/backstage:1": [IMAGE], "proxy:2": [f"mirror.example/proxy@{PROXY}"]}},
    "promises": {"https": "kept"},
    "required": ["https"],
    "checks": [],
}
VALIDATOR = jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / "verdict.schema.json").read_text()))


def refused(image: str = IMAGE, **changed: object) -> str:
    """The refusal for the accepted verdict with these fields changed; empty if the image may be promoted."""
    return refusal(Field({**ACCEPTED, **changed}), Promotion(image, "staging", timedelta(hours=2)), NOW)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A verdict that has just been written and allows the image to be promoted."""
    written = tmp_path / "verdict.json"
    written.write_text(json.dumps({**ACCEPTED, "ended": datetime.now(UTC).isoformat(timespec="seconds")}))
    return written


def test_accepted_image_may_be_promoted() -> None:
    """The digest decides, whatever name the image has."""
    assert [refused(), refused(f"elsewhere.example/portal@{DIGEST}")] == ["", ""]


def test_one_name_with_two_digests_is_no_acceptance_of_either() -> None:
    """Two digests under one name accept neither, as a rollout was under way during the run."""
    expected = f"expected: a run that tested {DIGEST} alone; seen: {OTHER} under the same name; "

    assert refused(tested={"images": {"registry.example:5000/backstage:1": [IMAGE, OTHER]}}).startswith(expected)
    assert refused(tested={"images": {"registry.example:5000/backstage:1": [IMAGE], "backstage": [OTHER]}}) == ""


def test_clocks_may_differ_a_little() -> None:
    """A run that ends 30 s in the future is still accepted, as clocks differ."""
    assert refused(ended="2026-01-02T00:00:30+00:00") == ""


@pytest.mark.parametrize(
    ("image", "changed", "sentence"),
    [
        (
            f"registry.example/backstage@{OTHER}",
            {},
            (
                f"expected: a run that tested {OTHER}; seen: {DIGEST}, {PROXY}; "
                f"look next: pytest --env=staging --image=registry.example/backstage@{OTHER}"
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
            {"ended": "2026-01-02T01:01:30+01:00"},
            (
                "expected: a run that has ended; seen: one of 2026-01-02T01:01:30+01:00, 0:01:30 from now; "
                "look next: the clocks of both machines"
            ),
        ),
        (
            IMAGE,
            {"verdict": "no verdict", "reasons": ["no cluster"]},
            "expected: an accepted run; seen: no verdict: no cluster; look next: the report beside the verdict",
        ),
        (
            IMAGE,
            {
                "verdict": "rejected",
                "reasons": ["https: no page", "database: expected: a | seen: refused | look next: b"],
            },
            (
                "expected: an accepted run; seen: rejected: https: no page; database: refused; "
                "look next: the report beside the verdict"
            ),
        ),
        (
            IMAGE,
            {"environment": "local"},
            "expected: a run in staging; seen: one in local; look next: pytest --env=staging",
        ),
        (
            IMAGE,
            {"required": []},
            (
                "expected: an acceptance, which requires promises; seen: a run that required none; "
                "look next: pytest tests/acceptance"
            ),
        ),
        (
            IMAGE,
            {"tested": {**ACCEPTED["tested"], "left_out": ["load", "disrupt"]}},
            (
                "expected: a run with all that staging permits; seen: --only, without load, disrupt; "
                "look next: pytest --env=staging"
            ),
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
            "registry.example/backstage@sha256:aaaa",
            {},
            (
                "expected: an image with its digest, NAME@sha256:DIGEST; seen: registry.example/backstage@sha256:aaaa; "
                "look next: what the build has pushed"
            ),
        ),
        (
            IMAGE,
            {"tested": {}},
            (f"expected: a run that tested {DIGEST}; seen: no image; look next: pytest --env=staging --image={IMAGE}"),
        ),
        (
            IMAGE,
            {"tested": {"images": {IMAGE: [IMAGE], f"registry.example/backstage@{OTHER}": [OTHER], "proxy": [PROXY]}}},
            (
                f"expected: a run that tested {DIGEST} alone; seen: {OTHER} under the same name; "
                f"look next: pytest --env=staging --image={IMAGE}"
            ),
        ),
    ],
)
def test_anything_else_is_refused_in_one_sentence(image: str, changed: dict[str, object], sentence: str) -> None:
    """Each refusal is one sentence with what was expected, what was seen and where to look next."""
    assert refused(image, **changed) == sentence


def test_command_says_whether_to_promote(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 0 or 1, and the output names the reason."""
    codes = [main([str(file), f"--image={IMAGE}"]), main([str(file), f"--image={IMAGE}", "--environment=canary"])]

    assert codes == [0, 1]
    assert capsys.readouterr().out == (
        f"{IMAGE} was accepted in staging\n"
        "expected: a run in canary; seen: one in staging; look next: pytest --env=canary\n"
    )


def test_command_refuses_what_is_older_than_its_limit(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A verdict may be one day old, or as old as `--max-age` allows."""
    ended = (datetime.now(UTC) - timedelta(hours=25)).isoformat(timespec="seconds")
    file.write_text(json.dumps({**ACCEPTED, "ended": ended}))

    codes = [main([str(file), f"--image={IMAGE}"]), main([str(file), f"--image={IMAGE}", "--max-age=93600"])]

    assert codes == [1, 0]
    expected = (
        f"expected: a run that ended within the last 1 day, 0:00:00; seen: one of {ended}; look next: run it again"
    )
    assert capsys.readouterr().out.splitlines() == [expected, f"{IMAGE} was accepted in staging"]


@pytest.mark.parametrize("limit", ["0", "-5", "nan", "soon"])
def test_limit_that_is_none_is_a_usage_error(file: Path, limit: str) -> None:
    """An invalid `--max-age` ends with exit code 2, which promotes nothing."""
    with pytest.raises(SystemExit) as ended:
        main([str(file), f"--image={IMAGE}", f"--max-age={limit}"])

    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[]", "schema null"),
        ('{"schema": 2}', "schema 2"),
        ({"verdict": "fine"}, 'verdict "fine" with exit code 0'),
        ({"exit_code": 1}, 'verdict "accepted" with exit code 1'),
        ({"ended": "yesterday"}, 'ended "yesterday"'),
        ({"ended": "2026-01-01T23:00:00"}, 'ended "2026-01-01T23:00:00"'),
        ({"began": None}, "began null"),
        ({"environment": ""}, 'environment ""'),
        ({"tested": []}, "tested []"),
        ({"required": "all"}, 'required "all"'),
    ],
)
def test_file_that_is_no_verdict_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | dict[str, object], seen: str
) -> None:
    """An invalid file ends with exit code 6 instead of a refusal, and the published schema rejects it, too."""
    file = tmp_path / "verdict.json"
    file.write_text(content if isinstance(content, str) else json.dumps({**ACCEPTED, **content}))

    assert main([str(file), f"--image={IMAGE}"]) == 6
    message = capsys.readouterr().err
    what, look_next = (
        ("a verdict", "the run that should write it") if content == "{" else
        ("a verdict of schema 1", "docs/verdict.schema.json")
    )  # fmt: skip
    assert message == f"expected: {what} in {file}; seen: {seen}; look next: {look_next}\n"
    assert content == "{" or not VALIDATOR.is_valid(json.loads(file.read_text()))


def test_what_is_accepted_here_has_the_published_form() -> None:
    """The verdict that these tests start from is valid by the published schema."""
    VALIDATOR.validate(ACCEPTED)


def test_file_that_is_not_there_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file, as after a run that was killed, ends with exit code 6."""
    file = tmp_path / "verdict.json"

    assert main([str(file), f"--image={IMAGE}"]) == 6
    assert capsys.readouterr().err == (
        f"expected: a verdict in {file}; seen: No such file or directory; look next: the run that should write it\n"
    )
