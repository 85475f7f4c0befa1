"""The lab's HPA, its pods and their usage as recorded, and copies with one field changed."""

from __future__ import annotations

import json
from typing import Any

from fixtures.api.pods import Pod
from fixtures.objects.manifest import Field
from tests.unit.patched import RECORDED, patched

HPA: dict[str, Any] = json.loads((RECORDED / "autoscaling" / "hpa.json").read_text())
SEEN: dict[str, Any] = json.loads((RECORDED / "autoscaling" / "pods.json").read_text())
PODS = [Pod(Field(body)) for body in SEEN["pods"]]
METRICS = [Field(body) for body in SEEN["metrics"]]
CPU = "/spec/metrics/0"


def hpa_with(pointer: str, value: object) -> dict[str, Any]:
    """The HPA with one field changed."""
    return dict(patched(HPA, pointer, value))
