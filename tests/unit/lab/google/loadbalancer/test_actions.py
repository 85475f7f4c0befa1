"""What a rule of an HTTPRoute does with a request."""

from __future__ import annotations

import pytest

from lab.google.loadbalancer.objects import Object
from tests.unit.lab.google.loadbalancer.world import World


def test_redirect_to_https(world: World) -> None:
    """Scheme and status; path and query are Envoy's to keep."""
    filters = [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]
    world.route["spec"]["rules"] = [{"filters": filters}]

    assert world.virtual_host()[0]["redirect"] == {"response_code": "MOVED_PERMANENTLY", "scheme_redirect": "https"}


@pytest.mark.parametrize(
    ("prefix", "replacement", "expected"),
    [
        ("/old", "/new/", {"prefix_rewrite": "/new"}),
        ("/old", "/", {"regex_rewrite": {"pattern": {"regex": "^/old/*"}, "substitution": "/"}}),
        ("/", "/new", {"regex_rewrite": {"pattern": {"regex": "^/*"}, "substitution": "/new/"}}),
    ],
)
def test_redirect_replaces_a_prefix(world: World, prefix: str, replacement: str, expected: Object) -> None:
    """No slash is lost or doubled."""
    path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": replacement}
    filters = [{"type": "RequestRedirect", "requestRedirect": {"path": path}}]
    world.route["spec"]["rules"] = [{"matches": [{"path": {"value": prefix}}], "filters": filters}]

    assert world.virtual_host()[0]["redirect"] == {"response_code": "FOUND"} | expected


def test_rule_without_a_weight_answers_500(world: World) -> None:
    """Envoy takes no total weight of 0."""
    world.rule["backendRefs"][0]["weight"] = 0

    assert world.virtual_host()[0]["direct_response"] == {"status": 500}


def test_mirror_gets_its_share(world: World) -> None:
    """A percentage, in Envoy's millionths."""
    mirror = {"percent": 20, "backendRef": {"name": "backstage", "port": 80}}
    world.rule["filters"] = [{"type": "RequestMirror", "requestMirror": mirror}]

    (policy,) = world.virtual_host()[0]["route"]["request_mirror_policies"]
    assert policy["runtime_fraction"]["default_value"] == {"numerator": 200_000, "denominator": "MILLION"}
