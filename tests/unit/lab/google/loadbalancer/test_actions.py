"""How the rules of an HTTPRoute become Envoy actions."""

from __future__ import annotations

import pytest

from lab.google.loadbalancer.objects import Object
from tests.unit.lab.google.loadbalancer.world import ClusterState


def test_redirect_to_https(state: ClusterState) -> None:
    """Only scheme and status are set; Envoy keeps path and query."""
    filters = [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]
    state.route["spec"]["rules"] = [{"filters": filters}]

    assert state.virtual_host()[0]["redirect"] == {"response_code": "MOVED_PERMANENTLY", "scheme_redirect": "https"}


@pytest.mark.parametrize(
    ("prefix", "replacement", "expected"),
    [
        ("/old", "/new/", {"prefix_rewrite": "/new"}),
        ("/old", "/", {"regex_rewrite": {"pattern": {"regex": "^/old/*"}, "substitution": "/"}}),
        ("/", "/new", {"regex_rewrite": {"pattern": {"regex": "^/*"}, "substitution": "/new/"}}),
    ],
)
def test_redirect_replaces_a_prefix(state: ClusterState, prefix: str, replacement: str, expected: Object) -> None:
    """No slash is lost or doubled."""
    path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": replacement}
    filters = [{"type": "RequestRedirect", "requestRedirect": {"path": path}}]
    state.route["spec"]["rules"] = [{"matches": [{"path": {"value": prefix}}], "filters": filters}]

    assert state.virtual_host()[0]["redirect"] == {"response_code": "FOUND"} | expected


def test_rule_without_a_weight_answers_500(state: ClusterState) -> None:
    """Envoy rejects a total weight of 0, so a direct response replaces it."""
    state.rule["backendRefs"][0]["weight"] = 0

    assert state.virtual_host()[0]["direct_response"] == {"status": 500}


def test_mirror_gets_its_share(state: ClusterState) -> None:
    """The percentage becomes parts per million, as Envoy counts."""
    mirror = {"percent": 20, "backendRef": {"name": "backstage", "port": 80}}
    state.rule["filters"] = [{"type": "RequestMirror", "requestMirror": mirror}]

    (policy,) = state.virtual_host()[0]["route"]["request_mirror_policies"]
    assert policy["runtime_fraction"]["default_value"] == {"numerator": 200_000, "denominator": "MILLION"}
