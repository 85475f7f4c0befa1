"""A fake Lease that keeps its annotations, and a change to record on it."""

from __future__ import annotations

from fixtures.lease.journal import PutBack
from fixtures.objects.manifest import Body

HPA: Body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "backstage"}}
PUT_BACK = PutBack(HPA, changed={"spec": {"minReplicas": 1, "behavior": None}}, previous={"spec": {"minReplicas": 2}})


class FakeLease:
    """Records annotations in `written` instead of on a Lease."""

    run = "me"

    def __init__(self) -> None:
        self.written: list[str] = []

    def annotate(self, name: str, value: str, /) -> None:
        """Record an annotation."""
        self.written.append(f"{name}: {value}")
