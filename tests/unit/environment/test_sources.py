"""Settings: every key with the source of its value, and all problems at once."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic_core import PydanticUndefined

from fixtures.environment import loading
from fixtures.environment.environment import Environment
from fixtures.environment.loading import read
from fixtures.environment.sources import KEYS, problems, shown
from tests.unit.environment.conftest import COMPLETE, refusal, written


def test_sentinel_within_a_value_is_found_beside_other_problems(tmp_path: Path) -> None:
    """A value that contains SET-ME is a placeholder; its form is not a second problem."""
    text = COMPLETE.replace('"p:l:i"', '"p:SET-ME"').replace('["token"]', '["a", "SET-ME"]').replace('"c"', "5")

    assert refusal(tmp_path, text) == [
        "mine.toml: cloud_sql.instance: expected: Instance connection name, `project:region:instance`; seen: SET-ME",
        "mine.toml: secrets.expected: expected: Names of the secrets, not their values; seen: SET-ME",
        "mine.toml: google.cluster: expected: a valid string (Name of the cluster, as metrics name it); seen: 5",
    ]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """Each problem has the file, the key, what is expected and what was found."""
    text = (
        COMPLETE.replace('hostname = "backstage.test"', 'hostnme = "x"')
        .replace("latency = 1", 'latency = "1"')
        .replace("error_ratio = 0.01", "error_ratio = nan")
        .replace('["observe"]', '["connect", "destroy"]')
        .replace('identity.service_account = "backstage@p.iam.gserviceaccount.com"', "identity = 5")
    )

    keys = ", ".join(Environment.model_fields)
    assert refusal(tmp_path, f"{text}\n[empty]") == [
        f"mine.toml: {sentence}"
        for sentence in (
            (
                "permissions: expected: one of observe, connect, apply, load, disrupt (What may happen to the target); "
                'seen: "destroy"'
            ),
            "portal.hostname: expected: Host name of the portal, without scheme; seen: nothing",
            (
                "portal.hostnme: expected: one of hostname, resolver, pinned_address, expected_addresses, ca_file, "
                "tls_minimum, certificate_days_left, marker, catalog_page, auth, token_variable, iap_audience, "
                "control_url; seen: an unknown key"
            ),
            "identity: expected: a table; seen: 5",
            "slo.error_ratio: expected: a finite number (Share of requests that may fail); seen: NaN",
            ('slo.latency: expected: a valid number (Seconds within which 95 of 100 requests are answered); seen: "1"'),
            f"empty: expected: one of {keys}; seen: an unknown key",
        )
    ]


def test_secret_that_strayed_into_a_file_is_not_repeated(tmp_path: Path) -> None:
    """A token in place of a variable's name, under an unknown key or in a URL is not part of the message."""
    secrets = 'auth = "none", token_variable = "hunter2", token = "hunter2", control_url = "https://me:hunter2@x.test"'

    messages = refusal(tmp_path, COMPLETE.replace('auth = "none"', secrets))

    assert [sentence.rpartition("; seen: ")[2] for sentence in messages] == [
        "a text that is not shown",
        '"https://...@x.test"',
        "an unknown key",
    ]
    assert "hunter2" not in "".join(messages)


def test_shown_environment_has_every_key_with_its_source(tmp_path: Path) -> None:
    """`--show-environment` has a line per key, with the value and whether file, file name or default set it."""
    lines = shown(read(written(tmp_path, COMPLETE + 'timeouts.rollout = 900\nextends = "local"')).settings)

    assert [line.split()[0] for line in lines] == list(KEYS)
    assert {" ".join(line.split()) for line in lines} > {
        'name "mine" name of the file',
        f'portal.hostname "backstage.test" {tmp_path}/mine.toml',
        "reference.image unset default",
        "timeouts.rollout 900 " + f"{tmp_path}/mine.toml",
        "timeouts.drain 600.0 default",
        "portal.expected_addresses [] default",
    }


def test_every_key_is_documented() -> None:
    """The table in `docs/environments.md` has the defaults and descriptions of the code, in its order."""
    page = (loading.ROOT / "docs" / "environments.md").read_text().splitlines()

    rows = [row(key) for key in KEYS]
    assert [line for line in page if line.startswith("| `")] == rows


def row(key: str) -> str:
    """Row of a key in the table of `docs/environments.md`."""
    field = KEYS[key]
    default = field.get_default(call_default_factory=True, validated_data={})
    shown_default = (
        ""
        if default is None or key == "name"
        else "required"
        if default is PydanticUndefined
        else f"`{json.dumps(default)}`"
    )
    return f"| `{key}` | {shown_default} | {' '.join((field.description or '').split())} |"


def test_settings_of_no_file_lack_everything_required() -> None:
    """Each missing key is a problem of its own, also where its whole table is missing."""
    required = [key for key, field in KEYS.items() if field.is_required()]

    missing = [sentence.split(": ")[1] for sentence in problems({}, "mine.toml")]

    assert missing == required
