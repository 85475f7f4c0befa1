"""The number of Ready pods over time, from watch events."""

from __future__ import annotations

from fixtures.disruption.ready_history import ReadyHistory
from fixtures.objects.manifest import Field


def test_history_has_the_moment_with_the_fewest_ready_pods() -> None:
    """A pod being deleted does not count as Ready, as in the disruption controller."""

    def pod(name: str, *, ready: bool = True, **metadata: object) -> Field:
        conditions = [{"type": "Ready", "status": str(ready)}]
        return Field({"metadata": {"name": name, **metadata}, "status": {"conditions": conditions}})

    times = iter([1.0, 2.0, 3.0])
    history = ReadyHistory(clock=lambda: next(times))
    leaving = pod("a", deletionTimestamp="2026-01-01T00:00:00Z")

    history.record((pod("a"), pod("b")))
    history.record((leaving, pod("b"), pod("c", ready=False)))
    history.record((leaving, pod("b"), pod("c", ready=False), pod("d", ready=False)))
    history.record((pod("b"), pod("c")))

    assert str(history) == "2 > 1 > 2 Ready"
    assert (history.fewest.at, history.fewest.ready) == (2.0, ("b",))
