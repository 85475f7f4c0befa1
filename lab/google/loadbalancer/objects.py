"""API objects as the API server's own JSON, and the few ways in which the translation looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import kubernetes_api

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = kubernetes_api.Object
GATEWAY_GROUP = "gateway.networking.k8s.io"
CONTROLLER = "networking.gke.io/gateway"


@dataclass(frozen=True)
class Problem:
    """Why a condition is False."""

    reason: str
    message: str


def key(obj: Object) -> str:
    """`namespace/name`."""
    return f"{namespace(obj)}/{name(obj)}"


def namespace(obj: Object) -> str:
    """Namespace, "" for what has none."""
    return str(obj["metadata"].get("namespace", ""))


def name(obj: Object) -> str:
    """Name, unique among its kind in the namespace."""
    return str(obj["metadata"]["name"])


def age(obj: Object) -> tuple[str, str]:
    """Sorts as the Gateway API ranks rivals: the oldest first, then by name."""
    return obj["metadata"].get("creationTimestamp") or "", key(obj)


def selects(selector: Mapping[str, str] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a Service's selector matches; an absent one matches nothing."""
    return bool(selector) and (selector or {}).items() <= (labels or {}).items()


def selector_matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector matches; an empty one matches everything."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(_expression_matches(wanted, labels) for wanted in selector.get("matchExpressions", []))


def _expression_matches(wanted: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(wanted["key"]), wanted.get("values", [])
    return bool(
        {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[wanted["operator"]]
    )


@dataclass(frozen=True)
class Objects:
    """One consistent enough reading of the cluster: kind -> `namespace/name` -> object."""

    kinds: Mapping[str, Mapping[str, Object]]

    def all(self, kind: str) -> list[Object]:
        """All objects of a kind, the oldest first."""
        return sorted(self.kinds.get(kind, {}).values(), key=age)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        return self.kinds.get(kind, {}).get(f"{namespace}/{name}")

    def may_refer(self, kind: str, namespace: str, to_kind: str, to_namespace: str, to_name: str) -> bool:
        """Whether a Gateway or HTTPRoute of `namespace` may use the Service or Secret: same namespace or a grant."""
        return namespace == to_namespace or any(
            any(
                (source["group"], source["kind"], source["namespace"]) == (GATEWAY_GROUP, kind, namespace)
                for source in grant["spec"]["from"]
            )
            and any(
                (to["group"], to["kind"]) == ("", to_kind) and to.get("name") in (None, "", to_name)
                for to in grant["spec"]["to"]
            )
            for grant in self.all("ReferenceGrant")
            if grant["metadata"]["namespace"] == to_namespace
        )
