"""Secrets do not survive redaction in any form, and everything else stays readable."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote

import pytest
import yaml

from fixtures.redaction import REDACTED, redacted, redacted_body

PLANTED = "pl4nted-S3cret+value/or?with=signs"  # in base64 it has a character that differs in the URL-safe alphabet
ENCODED = base64.b64encode(PLANTED.encode()).decode()
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA75planted\nq3v4==\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c2VyOmRlZmF1bHQvZ3Vlc3QifQ.c2lnbmF0dXJlLXBsYW50ZWQ"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Headers, as clients and proxies log them.
        ("authorization: Bearer hunter2 hunter3", "authorization: (redacted)"),
        ("curl -H 'Authorization: Basic aHVudGVyMg==' https://a", "curl -H 'Authorization: (redacted)' https://a"),
        ('{"authorization":"Bearer hunter2","path":"/x"}', '{"authorization":"(redacted)","path":"/x"}'),
        ("(b'Authorization', b'Bearer hunter2')", "(b'Authorization', b'(redacted)')"),
        ("map[Authorization:[Bearer hunter2] Accept:[*/*]]", "map[Authorization:[(redacted)] Accept:[*/*]]"),
        ("Set-Cookie: session=hunter2; Path=/", "Set-Cookie: (redacted)"),
        ("x-goog-iap-jwt-assertion: hunter2", "x-goog-iap-jwt-assertion: (redacted)"),
        ("sent Bearer hunter2hunter2 to it", "sent Bearer (redacted) to it"),
        # URLs.
        ("postgresql://backstage:hunter2@127.0.0.1:5432/a", "postgresql://backstage:(redacted)@127.0.0.1:5432/a"),
        ("postgresql://backstage:hunt@er2@db/a", "postgresql://backstage:(redacted)@db/a"),
        ("GET /cb?access_token=hunter2&x=1", "GET /cb?access_token=(redacted)&x=1"),
        ("https://a/o?X-Goog-Signature=hunter2&y", "https://a/o?X-Goog-Signature=(redacted)&y"),
        # By name in logs, JSON, JSON within JSON, YAML, connection strings and command lines.
        ("login token=hunter2 user=guest", "login token=(redacted) user=guest"),
        ('{"clientSecret": "hunter2 hunter3", "n": 1}', '{"clientSecret": "(redacted)", "n": 1}'),
        ('{"password": 1234567}', '{"password": "(redacted)"}'),
        ('{"password": "hunt\\"er2"}', '{"password": "(redacted)"}'),
        ('{"password": "hunter2', '{"password": "(redacted)"'),
        ('{"tokens": {"api_token": ["hunter2"]}}', '{"tokens": {"api_token": ["(redacted)"]}}'),
        ('"line": "{\\"apiKey\\":\\"hunter2\\"}"', '"line": "{\\"apiKey\\":\\"(redacted)\\"}"'),
        ("  password: hunter2 hunter3\n  user: a", "  password: (redacted)\n  user: a"),
        ("token: |\n  hunter2\n  hunter3\nuser: a", "token: (redacted)\nuser: a"),
        ("github-token: hunter2", "github-token: (redacted)"),
        ("host=127.0.0.1 password='hunter2 x' user=a", "host=127.0.0.1 password='(redacted)' user=a"),
        ("PAGERDUTY_KEY=hunter2 node", "PAGERDUTY_KEY=(redacted) node"),
        ("psql --password hunter2 -c 'select 1'", "psql --password (redacted) -c 'select 1'"),
        ("- name: GITHUB_TOKEN\n  value: hunter2\n", "- name: GITHUB_TOKEN\n  value: (redacted)\n"),
        ('{"name": "A_SECRET", "value": "hunter2"}', '{"name": "A_SECRET", "value": "(redacted)"}'),
        # Recognized by form.
        (f"got {JWT} back", "got (redacted) back"),
        ("ya29.a0Af_planted-token.x is expired", "(redacted) is expired"),
        ("pushed with ghp_planted0123456789abcdef", "pushed with (redacted)"),
        ("posted as xoxb-12-planted", "posted as (redacted)"),
        ("https://hooks.slack.com/services/T0/B0/planted", "https://hooks.slack.com/services/(redacted)"),
        (f"key:\n{PEM}\nend", "key:\n(redacted)\nend"),
        (json.dumps({"pem": PEM}), '{"pem": "(redacted)"}'),
        (PEM[:60], "(redacted)"),
        (PEM[40:], "(redacted)"),
    ],
)
def test_secret_is_gone_and_the_rest_is_left(text: str, expected: str) -> None:
    """Only the secret is replaced, and a second redaction changes nothing."""
    assert redacted(text) == expected
    assert redacted(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "automountServiceAccountToken: false",
        "secretName: backstage-tls\nsecretKeyRef: {name: a, key: b}",
        "volumes:\n- name: a\n  secret:\n    secretName: backstage-tls",
        "- resourceName: projects/p/secrets/backstage-github-token/versions/latest\n  path: github-token",
        "expected: every secret mounted\nseen: backstage-github-token: not mounted\nlook next: kubectl describe",
        "failed to get token: 403",
        "err: secret: projects/p/secrets/github-token/versions/latest not found",
        "image: backstage@sha256:" + "0a" * 32,
        "https://backstage.example.org:443/catalog?filter=kind=component@v1",
        "Basic functionality, bearer of news",
        "kind: ConfigMap\ndata:\n  a: b",
        "NODE_OPTIONS=--max-old-space-size=192 --max-semi-space-size=8",
    ],
)
def test_what_only_speaks_of_secrets_stays(text: str) -> None:
    """Text that only mentions secrets stays, as evidence needs it."""
    assert redacted(text) == text


@pytest.mark.parametrize(
    "written",
    [
        PLANTED,
        json.dumps(f"{PLANTED}\n")[1:-1],
        quote(PLANTED, safe=""),
        ENCODED,
        base64.urlsafe_b64encode(PLANTED.encode()).decode(),
        base64.b64encode(f"user:{PLANTED}".encode()).decode(),
        base64.b64encode(f"ab{PLANTED} and more".encode()).decode(),
    ],
)
def test_known_value_is_found_in_every_form(written: str) -> None:
    """A known value is found raw, escaped, and in base64 at each of its three alignments."""
    result = redacted(f"before {written} after", [f"{PLANTED}\n"])

    assert "(redacted)" in result
    assert not any(written[start : start + 12] in result for start in range(0, len(written) - 12, 4))


def test_short_known_value_is_no_reason_to_hide_words() -> None:
    """Short known values are not searched for: a token file may be empty, a test password "lab"."""
    assert redacted("the lab is up", ["lab", ""]) == "the lab is up"


def test_values_of_secrets_are_gone_in_yaml_and_json() -> None:
    """A listing of Secrets as kubectl prints it keeps nothing below `data` and `stringData`."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "a"},
        "data": {"x": ENCODED, "y": "e30="},
        "stringData": {"z": '{"a": "}' + PLANTED},
    }
    listing = {"apiVersion": "v1", "kind": "List", "items": [secret, secret]}

    for text in (
        yaml.safe_dump(listing),
        json.dumps(listing, indent=1),
        yaml.safe_dump(secret),
        str(json.dumps(secret)),
    ):
        result = redacted(text)
        [*_, last] = yaml.safe_load(result).get("items", [yaml.safe_load(result)])
        assert last == {**secret, "data": REDACTED, "stringData": REDACTED}


def test_object_is_redacted_by_what_its_fields_mean() -> None:
    """Variables, arguments and fields are redacted by name or random look; copies in metadata are removed."""
    container = {
        "name": "backstage",
        "env": [
            {"name": "POSTGRES_HOST", "value": "127.0.0.1"},
            {"name": "GITHUB_TOKEN", "value": "hunter2"},
            {"name": "PAGERDUTY_KEY", "value": "hunter2"},
            {"name": "WEBHOOK", "value": "aB3" * 10},
            {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "a", "key": "token"}}},
        ],
        "args": ["p:r:i", "--port=5432", "--token", "hunter2", "--json-credentials=hunter2"],
    }
    pod = {
        "kind": "Pod",
        "metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hunter2"},
            "managedFields": [],
        },
        "spec": {"containers": [container], "automountServiceAccountToken": False, "sessionToken": "hunter2"},
    }

    assert redacted_body(pod) == {
        "kind": "Pod",
        "metadata": {"annotations": {}},
        "spec": {
            "containers": [
                {
                    "name": "backstage",
                    "env": [
                        {"name": "POSTGRES_HOST", "value": "127.0.0.1"},
                        {"name": "GITHUB_TOKEN", "value": REDACTED},
                        {"name": "PAGERDUTY_KEY", "value": REDACTED},
                        {"name": "WEBHOOK", "value": REDACTED},
                        {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "a", "key": "token"}}},
                    ],
                    "args": ["p:r:i", "--port=5432", "--token", REDACTED, f"--json-credentials={REDACTED}"],
                }
            ],
            "automountServiceAccountToken": False,
            "sessionToken": REDACTED,
        },
    }


def test_secret_object_keeps_only_its_keys_place() -> None:
    """The data of a Secret is replaced as a whole, also within a list."""
    listing = {"items": [{"kind": "Secret", "data": {"a": ENCODED}, "metadata": {"name": "a"}}]}

    assert redacted_body(listing) == {"items": [{"kind": "Secret", "data": REDACTED, "metadata": {"name": "a"}}]}


@pytest.mark.parametrize(
    "text", ["a", "token ", "x-", '"', "eyJ", "-----BEGIN PRIVATE KEY-----\n", "name: ", "://a:", "\\"]
)
def test_effort_grows_with_the_length_and_not_faster(text: str) -> None:
    """Redaction takes linear time; with a quadratic one these texts take ten seconds and hold up the run."""
    began = time.process_time()  # CPU time, as other processes share the machine
    redacted(text * (30_000 // len(text)))

    assert time.process_time() - began < 1
