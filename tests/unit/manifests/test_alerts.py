"""The alerts, which are written for Managed Prometheus and for Cloud Monitoring: both mean the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fixtures.outcomes import said
from fixtures.report.pushed_metrics import lasting, of_run
from fixtures.report.verdict import CheckResult, Run, Verdict

ALERTS = Path("manifests/operations/alerts")
POLICIES = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((ALERTS / "policies").iterdir())}
KUBECTL = Path(sys.executable).with_name("kubectl")
SECONDS = {"s": 1, "m": 60, "h": 3600}

PREFIX = "backstage_acceptance_"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BROKEN = CheckResult("database", "test_catalog", "It answers.", "broken", said("entities", "503", "logs"))
CERTIFICATE = CheckResult("https", "test_days", "It lasts.", "kept", measured={"certificate": (30.0, "days left")})

Json = dict[str, Any]


def rendered(kustomization: Path) -> dict[str, Json]:
    """The only group of each Rules object, by the object's name."""
    text = subprocess.run([KUBECTL, "kustomize", kustomization], check=True, capture_output=True, text=True).stdout
    return {rules["metadata"]["name"]: rules["spec"]["groups"][0] for rules in yaml.safe_load_all(text)}


@pytest.fixture(scope="module")
def groups() -> dict[str, Json]:
    """The groups as they are applied."""
    return rendered(ALERTS)


def seconds(duration: str | None) -> int:
    """Seconds of a Prometheus duration with one unit; None is 0."""
    return int(duration[:-1]) * SECONDS[duration[-1]] if duration else 0


def as_condition(group: Json) -> Json:
    """The condition of a policy that means the same as the group's rule."""
    [rule] = group["rules"]
    return {
        "query": rule["expr"],
        "duration": seconds(rule.get("for")),
        "evaluationInterval": seconds(group["interval"]),
        "ruleGroup": group["name"],
        "alertRule": rule["alert"],
        "labels": rule["labels"],
        # Otherwise Cloud Monitoring refuses a policy on metrics that were never written.
        "disableMetricValidation": True,
    }


def test_policies_say_the_same_as_the_rules(groups: dict[str, Json]) -> None:
    """Each policy has its rule's expression, durations, names and labels."""
    conditions = {
        name: policy["conditions"][0]["conditionPrometheusQueryLanguage"] for name, policy in POLICIES.items()
    }
    normalized = {
        name: {
            **condition,
            "duration": seconds(condition.get("duration")),
            "evaluationInterval": seconds(condition["evaluationInterval"]),
        }
        for name, condition in conditions.items()
    }

    assert normalized == {name: as_condition(group) for name, group in groups.items()}
    assert len(normalized) == 4


def schema_of(resource: str) -> Json:
    """JSON schema (draft 3) of a resource of Cloud Monitoring's API, by the discovery document in Google's client."""
    documents = resources.files("googleapiclient.discovery_cache.documents")
    text = documents.joinpath("monitoring.v3.json").read_text()
    # The document refers to schemas by bare names; JSON schema needs paths.
    schemas = json.loads(re.sub(r'"\$ref": "(\w+)"', r'"$ref": "#/$defs/\1"', text))["schemas"]
    # The document allows unknown fields, which the API refuses.
    closed = {
        name: {**schema, "additionalProperties": False} if "properties" in schema else schema
        for name, schema in schemas.items()
    }
    return {"$ref": f"#/$defs/{resource}", "$defs": closed}


@pytest.mark.parametrize("name", POLICIES)
def test_policy_is_what_the_api_takes(name: str) -> None:
    """The policy is valid by the API's schema and by the rules that only its descriptions state."""
    policy = POLICIES[name]

    jsonschema.Draft3Validator(schema_of("AlertPolicy")).validate(policy)
    [condition] = policy["conditions"]
    promql = condition["conditionPrometheusQueryLanguage"]
    # Requirements that the schema leaves to the descriptions of its fields.
    assert {"displayName", "combiner", "severity", "documentation"} <= policy.keys()
    assert seconds(promql["evaluationInterval"]) % 30 == 0
    assert policy["displayName"] == promql["alertRule"]


def test_schema_refuses_a_field_that_the_api_does_not_know() -> None:
    """The schema rejects an unknown field, so the test above can fail."""
    policy = json.loads(json.dumps(POLICIES["no-result"]))
    policy["conditions"][0]["conditionPrometheusQueryLanguage"]["for"] = "15m"

    with pytest.raises(jsonschema.ValidationError, match="'for' was unexpected"):
        jsonschema.Draft3Validator(schema_of("AlertPolicy")).validate(policy)


def test_every_alert_leads_to_its_entry_in_the_runbook(groups: dict[str, Json]) -> None:
    """A broken promise links to the promise's entry, any other alert to its own."""
    headings = re.findall(r"^#+ (.*)$", Path("docs/runbook.md").read_text(), re.MULTILINE)
    anchors = {heading.lower() for heading in headings}
    rules = {name: group["rules"][0] for name, group in groups.items()}

    assert {rule["alert"].lower() for rule in rules.values()} <= anchors
    for name, rule in rules.items():
        link = rule["annotations"]["runbook"]
        assert (
            link == f"docs/runbook.md#{'{{ $labels.promise }}' if name == 'promise-broken' else rule['alert'].lower()}"
        )
        written = link.replace("{{ $labels.promise }}", "${metric_or_resource.label.promise}")
        assert f"Runbook: {written}\n" in POLICIES[name]["documentation"]["content"]


def test_overlay_of_the_kustomization_sets_patience_and_environment(tmp_path: Path) -> None:
    """The overlay in the kustomization's comment changes duration and environment as the comment says."""
    comment = (ALERTS / "kustomization.yaml").read_text().partition("resources: [")
    shown = comment[1] + re.split(r"\n[^#]", comment[2])[0].replace("\n#     ", "\n")
    (tmp_path / "kustomization.yaml").write_text(
        shown.replace("../../manifests/operations/alerts", to_alerts(tmp_path))
    )

    rules = {name: group["rules"][0] for name, group in rendered(tmp_path).items()}

    assert rules["promise-broken"]["for"] == "28m"
    assert '{environment="staging"}[20m]' in rules["no-result"]["expr"]
    assert rules["not-checked"]["for"] == "18m"


def test_two_runs_in_a_row_are_a_period_and_a_deadline(groups: dict[str, Json]) -> None:
    """The alerts' durations match the CronJob's period and deadline: both have to change together."""
    cronjob = yaml.safe_load(Path("manifests/operations/smoke/cronjob.yaml").read_text())["spec"]
    period = 60 * int(re.findall(r"^\*/(\d+) \* \* \* \*$", cronjob["schedule"])[0])
    slowest = period + cronjob["jobTemplate"]["spec"]["activeDeadlineSeconds"]

    assert [seconds(groups[name]["rules"][0]["for"]) for name in ("promise-broken", "not-checked")] == [slowest] * 2
    assert f"> {slowest + 120} or" in groups["no-result"]["rules"][0]["expr"]


def test_expressions_ask_for_metrics_that_a_run_leaves(groups: dict[str, Json]) -> None:
    """Every metric and label that rules and policies use is one that a run pushes."""
    verdict = Verdict(Run("prod", NOW, NOW), (BROKEN, CERTIFICATE), frozenset(), ())
    pushed = {
        metric.name.removeprefix(PREFIX): {label for sample in metric.samples for label in sample.labels}
        for registry in (of_run(verdict), lasting(verdict))
        for metric in registry.collect()
    }
    asked = set(re.findall(rf"{PREFIX}(\w+)", str(groups) + str(POLICIES)))

    certificate, last_run = "certificate_not_after_timestamp_seconds", "last_run_timestamp_seconds"
    assert asked == {"promise", "broken", "verdict", "problem", last_run, certificate}
    assert asked <= pushed.keys()
    assert pushed["promise"] == {"promise", "outcome"}
    assert pushed["broken"] == {"promise", "check", "evidence"}
    assert pushed["verdict"] == {"verdict"}


def to_alerts(folder: Path) -> str:
    """Relative path from an overlay's folder to the alerts."""
    return os.path.relpath(ALERTS, folder)
