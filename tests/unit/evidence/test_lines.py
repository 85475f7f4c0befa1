"""Objects and events as one line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fixtures.evidence.lines import event_lines, overview_line
from fixtures.objects.manifest import Field

RECORDED: dict[str, Any] = json.loads(Path("tests/unit/recorded/evidence/cluster.json").read_text())


def test_overview_of_a_gateway_tells_generation_and_listeners() -> None:
    """Conditions are found at every level of the status; stale ones show their generation."""
    assert overview_line(Field(RECORDED["gateway"])) == (
        "Gateway mcp/external-gw-01: Programmed=True (Programmed) for generation 1 of 2, https ResolvedRefs=True"
    )
    assert overview_line(Field({"kind": "Node", "metadata": {"name": "n"}})) == "Node n"


def test_overview_of_what_changes_tells_both_generations_and_numbers() -> None:
    """A status older than the spec is shown with both generations."""
    body = {
        "kind": "Deployment",
        "metadata": {"name": "b", "namespace": "a", "generation": 4, "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"observedGeneration": 3, "replicas": 2, "readyReplicas": 0},
    }

    assert overview_line(Field(body)) == (
        "Deployment a/b: generation 4, of which 3 is observed, being deleted since 2026-01-01T00:00:00Z, "
        "replicas 2 readyReplicas 0"
    )


def test_events_are_in_order_whatever_field_has_their_time() -> None:
    """Events are sorted by time, whichever field has it, and only the newest 500 are kept."""
    events = [
        {"reason": "B", "eventTime": "2026-01-01T00:00:02.5Z"},
        {"reason": "C", "series": {"count": 3, "lastObservedTime": "2026-01-01T00:00:03Z"}, "count": 1},
        {"reason": "A", "metadata": {"creationTimestamp": "2026-01-01T00:00:01Z"}},
    ]

    lines = event_lines([Field(each) for each in events])

    assert [line.split()[0] for line in lines] == [
        "2026-01-01T00:00:01Z",
        "2026-01-01T00:00:02.5Z",
        "2026-01-01T00:00:03Z",
    ]
    assert len(event_lines([Field(events[0])] * 600)) == 500
