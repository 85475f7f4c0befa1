"""Environment files that tests write, and the messages that refuse them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.environment.loading import EnvironmentFileError, read

RECORDED = "tests/unit/recorded/environment/lab-facts.json"
"""Recorded output of `python -m lab facts`, with other paths."""

# Only what is required, and mostly one line per table: tests replace single values and lines of it.
COMPLETE = """
permissions = ["observe"]
required = ["workload"]
reference.source = "manifests"
namespaces = {deployment = "backstage", route = "backstage", gateway = "mcp"}
gateway.name = "external-gw-01"
portal = {hostname = "backstage.test", tls_minimum = "TLSv1.2", certificate_days_left = 14, auth = "none"}
google = {project = "p", location = "l", cluster = "c"}
identity.service_account = "backstage@p.iam.gserviceaccount.com"
cloud_sql = {instance = "p:l:i", iam_user = "backstage@p.iam", databases = ["d"], availability = "ZONAL"}
secrets.expected = ["token"]
metrics = {expected = ["m"], database_operations = "o"}
slo = {error_ratio = 0.01, latency = 1, longest_outage = 0}
"""


def written(directory: Path, text: str, name: str = "mine.toml") -> str:
    """Write a file with this text and return its path."""
    path = directory / name
    path.write_text(text)
    return str(path)


def refusal(directory: Path, text: str) -> list[str]:
    """The problems for which a file is refused, one per line, with its directory removed from their paths."""
    with pytest.raises(EnvironmentFileError) as refused:
        read(written(directory, text))
    *sentences, last = str(refused.value).replace(f"{directory}/", "").splitlines()
    assert last == "look next: docs/environments.md"
    return sentences
