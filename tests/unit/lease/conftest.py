"""What stands in for the Lease of a run, and a change that is noted on it."""

from __future__ import annotations

from fixtures.lease.journal import PutBack
from fixtures.objects.manifest import Body

HPA: Body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "backstage"}}
PUT_BACK = PutBack(HPA, changed={"spec": {"minReplicas": 1, "behavior": None}}, previous={"spec": {"minReplicas": 2}})


class Memory:
    """Keeps what is written."""

    run = "me"

    def __init__(self) -> None:
        self.written: list[str] = []

    def annotate(self, name: str, value: str, /) -> None:
        """Write."""
        self.written.append(f"{name}: {value}")
