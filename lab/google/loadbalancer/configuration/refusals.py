"""What Gateway API allows in an HTTPRoute and GKE does not implement.

The list is the negative of the features in GKE's published conformance report (`conformance/reports/v1.5/gke-gateway`
of kubernetes-sigs/gateway-api): a lab that took more would pass routes that production refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.google.loadbalancer.objects import Object

RULE_FIELDS = {
    "timeouts": "Timeouts are not supported.",
    "retry": "Retries are not supported.",
    "sessionPersistence": "Session persistence is not supported.",
    "name": "Names of route rules are not supported.",
}
FILTERS = {"RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "RequestMirror"}
REDIRECTS = {301, 302}


def refusal(route: Object) -> str | None:
    """The first thing in the route's spec that GKE does not support, in a sentence."""
    return next(_refusals(route), None)


def _refusals(route: Object) -> Iterator[str]:
    for rule in route["spec"].get("rules", []):
        yield from (text for field, text in RULE_FIELDS.items() if rule.get(field))
        for match in rule.get("matches", []):
            yield from _of_match(match)
        filters = rule.get("filters", [])
        for each in filters:
            yield from _of_filter(each)
        if sum(each["type"] == "RequestMirror" for each in filters) > 1:
            yield "Several RequestMirror filters are not supported."
        if any(each.get("filters") for each in rule.get("backendRefs", [])):
            yield "Filters of a backendRef are not supported."


def _of_match(match: Object) -> Iterator[str]:
    if match.get("method"):
        yield "Method matching is not supported."
    path = match.get("path", {}).get("type", "PathPrefix")
    if path not in ("PathPrefix", "Exact"):
        yield f"Path match type {path} is not supported."
    for field in ("headers", "queryParams"):
        kinds = {each.get("type", "Exact") for each in match.get(field, [])} - {"Exact"}
        yield from (f"Match type {kind} of {field} is not supported." for kind in sorted(kinds))


def _of_filter(each: Object) -> Iterator[str]:
    if each["type"] not in FILTERS:
        yield f"Filter type {each['type']} is not supported."
    if each.get("urlRewrite", {}).get("path"):
        yield "Path rewrites are not supported."
    redirect = each.get("requestRedirect", {})
    if redirect.get("port"):
        yield "Port redirects are not supported."
    status = redirect.get("statusCode", 302)
    if status not in REDIRECTS:
        yield f"Redirect status code {status} is not supported."
