"""The lab's recorded PodMonitoring and the pods that it scrapes."""

from __future__ import annotations

import json
from typing import Any

from fixtures.api.pods import Pod
from fixtures.environment.schema import GoogleTable
from fixtures.objects.manifest import Field
from tests.unit.patched import RECORDED

PODMONITORING: dict[str, Any] = json.loads((RECORDED / "metrics" / "podmonitoring.json").read_text())
SETTINGS = GoogleTable(project="p", location="us-east4", cluster="lab", monitoring="https://monitoring.test")


def pods(*names: str) -> list[Pod]:
    """Pods with these names."""
    return [Pod(Field({"metadata": {"name": name}})) for name in names]
