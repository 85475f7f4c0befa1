"""The published schema of verdict.json and what a run writes: neither may change without the other."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from fixtures.environment.loading import ROOT
from fixtures.report.verdict import EXIT_CODES, SCHEMA, CheckResult, Outcome, Run, Verdict

PUBLISHED: dict[str, Any] = json.loads((ROOT / "docs" / "verdict.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(PUBLISHED)

TESTED = {
    "images": {"backstage:1": [f"sha256:{'0' * 64}"]},
    "reference": "manifests/overlays/prod",
    "kubernetes": "v1.36.4",
}
RUN = Run("prod", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 2, 0, 5, tzinfo=UTC), TESTED)
KEPT = CheckResult(
    "https",
    "test_certificate",
    "Users trust the certificate.",
    "kept",
    decided_by=("handshake",),
    measured={"days left": (30.5, "d")},
    seconds=0.25,
    evidence=("chain.txt",),
)


def check(outcome: Outcome) -> CheckResult:
    """A check with this outcome."""
    return CheckResult("portal", "test_page", "The page opens.", outcome, "expected: a\nseen: b\nlook next: c")


def content(*checks: CheckResult, required: str = "https", problems: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON of a run with these checks."""
    written = Verdict(RUN, checks, frozenset(required.split()), problems).as_json()
    return dict(json.loads(json.dumps(written)))


def test_schema_is_one() -> None:
    """The schema is valid by the draft that it names."""
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)


@pytest.mark.parametrize(
    "written",
    [
        content(KEPT),
        content(KEPT, check("not permitted"), check("not observable")),
        content(KEPT, check("broken"), check("no verdict")),
        content(check("no verdict")),
        content(problems=("the API server does not answer",)),
        content(),
    ],
)
def test_what_a_run_writes_has_the_published_form(written: dict[str, Any]) -> None:
    """Every kind of verdict is valid by the schema, also that of a run without checks."""
    VALIDATOR.validate(written)


def test_run_that_could_not_begin_has_the_published_form() -> None:
    """A run that tested nothing is valid by the schema."""
    written = Verdict(Run("prod", RUN.began, RUN.ended), (), frozenset(), ("no cluster",)).as_json()

    VALIDATOR.validate(json.loads(json.dumps(written)))


def test_published_words_are_those_of_the_code() -> None:
    """The schema lists exactly the verdicts, exit codes and outcomes of the code."""
    properties = PUBLISHED["properties"]

    assert properties["schema"]["const"] == SCHEMA
    assert properties["verdict"]["enum"] == list(EXIT_CODES)
    assert properties["exit_code"]["enum"] == list(EXIT_CODES.values())
    assert PUBLISHED["$defs"]["outcome"]["enum"] == list(get_args(Outcome))


@pytest.mark.parametrize(
    ("pointer", "value", "complaint"),
    [
        ("verdict", "passed", "'passed' is not one of"),
        ("exit_code", 1, "0 was expected"),
        ("reasons", ["https: broken"], "is expected to be empty"),
        ("schema", 2, "1 was expected"),
        ("began", "2026-01-01 00:00", "does not match"),
        ("promises/https", "passed", "'passed' is not one of"),
        ("checks/0/reason", "expected: a", "is expected to be empty"),
        ("checks/0/measured/days left", 30, "30 is not of type 'object'"),
        ("checks/0/seconds", -1, "is less than the minimum"),
        ("checks/0/flaky", True, "'flaky' was unexpected"),
        ("approved_by", "somebody", "'approved_by' was unexpected"),
    ],
)
def test_what_contradicts_itself_has_not(pointer: str, value: object, complaint: str) -> None:
    """The schema rejects contradictory fields and unknown ones."""
    written = copy.deepcopy(content(KEPT))
    *path, last = pointer.split("/")
    inner: Any = written
    for step in path:
        inner = inner[int(step) if isinstance(inner, list) else step]
    inner[last] = value

    assert any(complaint in error.message for error in VALIDATOR.iter_errors(written))


def test_every_field_is_required_and_explained() -> None:
    """Every field is required, so that a reader can rely on it."""
    for part in (PUBLISHED, PUBLISHED["$defs"]["check"]):
        assert sorted(part["required"]) == sorted(part["properties"])
    assert (Path(ROOT) / "docs" / "verdict.schema.json").read_text().isascii()
