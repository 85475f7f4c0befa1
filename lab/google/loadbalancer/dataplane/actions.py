"""What a rule of an HTTPRoute does with a request, as the action of Envoy's route."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lab.google.loadbalancer.configuration.routes import resolve
from lab.google.loadbalancer.dataplane.backends import MISSING, Backend
from lab.google.loadbalancer.objects import Object, Objects, namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS = 30
"""Of a request; the default of Google's backend services."""
USUAL_PORTS = {"http": 80, "https": 443}


def action(objects: Objects, route: Object, rule: Object, prefix: str, port: int) -> Object:
    """Fields of Envoy's route beside its match.

    Args:
        objects: To resolve backends.
        route: The HTTPRoute.
        rule: One of its rules.
        prefix: Path prefix of the match without its last slash, "" for any other match.
        port: Of the listener.
    """
    filters = {each["type"]: each for each in rule.get("filters", [])}
    fields = {
        **_headers(filters.get("RequestHeaderModifier", {}).get("requestHeaderModifier", {}), "request"),
        **_headers(filters.get("ResponseHeaderModifier", {}).get("responseHeaderModifier", {}), "response"),
    }
    if "RequestRedirect" in filters:
        return {**fields, "redirect": _redirect(filters["RequestRedirect"]["requestRedirect"], prefix, port)}
    weights = [(_cluster(objects, route, ref), ref.get("weight", 1)) for ref in rule.get("backendRefs", [])]
    if not any(weight for _, weight in weights):
        return {**fields, "direct_response": {"status": 500}}
    forward: Object = {
        "weighted_clusters": {"clusters": [{"name": name, "weight": weight} for name, weight in weights]},
        "cluster_not_found_response_code": "INTERNAL_SERVER_ERROR",
        "timeout": f"{TIMEOUT_SECONDS}s",
        "request_mirror_policies": list(_mirrors(objects, route, rule)),
    }
    if hostname := filters.get("URLRewrite", {}).get("urlRewrite", {}).get("hostname"):
        forward["host_rewrite_literal"] = hostname
    return {**fields, "route": forward}


def _cluster(objects: Objects, route: Object, ref: Object) -> str:
    if resolve(objects, route, ref):
        return MISSING
    return Backend(ref.get("namespace") or namespace(route), ref["name"], ref["port"]).name


def _mirrors(objects: Objects, route: Object, rule: Object) -> Iterator[Object]:
    for each in rule.get("filters", []):
        mirror = each.get("requestMirror")
        if mirror and not resolve(objects, route, mirror["backendRef"]):
            fraction = mirror.get("fraction", {"numerator": mirror.get("percent", 100)})
            # Envoy knows three denominators only; a millionth is fine enough for any other.
            share = round(fraction["numerator"] * 1_000_000 / fraction.get("denominator", 100))
            yield {
                "cluster": _cluster(objects, route, mirror["backendRef"]),
                "runtime_fraction": {"default_value": {"numerator": share, "denominator": "MILLION"}},
            }


def _headers(modifier: Object, side: str) -> Object:
    actions = {"set": "OVERWRITE_IF_EXISTS_OR_ADD", "add": "APPEND_IF_EXISTS_OR_ADD"}
    return {
        f"{side}_headers_to_add": [
            {"header": {"key": each["name"], "value": each["value"]}, "append_action": append}
            for kind, append in actions.items()
            for each in modifier.get(kind, [])
        ],
        f"{side}_headers_to_remove": modifier.get("remove", []),
    }


def _redirect(redirect: Object, prefix: str, port: int) -> Object:
    fields: Object = {"response_code": "MOVED_PERMANENTLY" if redirect.get("statusCode") == 301 else "FOUND"}  # noqa: PLR2004
    scheme = redirect.get("scheme")
    if scheme:
        fields["scheme_redirect"] = scheme
    elif port not in USUAL_PORTS.values():
        fields["port_redirect"] = port
    if redirect.get("hostname"):
        fields["host_redirect"] = redirect["hostname"]
    path = redirect.get("path", {})
    if path.get("type") == "ReplaceFullPath":
        fields["path_redirect"] = path["replaceFullPath"]
    elif path:
        fields |= _replace_prefix(prefix, path["replacePrefixMatch"].rstrip("/"))
    return fields


def _replace_prefix(prefix: str, replacement: str) -> Object:
    if prefix and replacement:
        return {"prefix_rewrite": replacement}
    # Where either is "/", Envoy's plain replacement would lose or double a slash.
    pattern = {"regex": f"^{re.escape(prefix)}/*"}
    return {"regex_rewrite": {"pattern": pattern, "substitution": f"{replacement}/"}}
