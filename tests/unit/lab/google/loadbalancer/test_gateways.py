"""How Gateways are read: certificates and addresses."""

from __future__ import annotations

from lab import layout
from lab.google.loadbalancer.configuration import gateways
from lab.google.loadbalancer.objects import Object, Problem
from tests.unit.lab.google.loadbalancer.world import ClusterState, self_signed


def test_certificate_with_the_wrong_key_is_refused(state: ClusterState) -> None:
    """Envoy would reject the pair too, but without any visible error."""
    state.kinds["Secret"]["mcp/cert"]["data"]["tls.key"] = self_signed()[1]

    problem = state.gateways()["mcp/external-gw-01"].problem
    assert problem == Problem("Invalid", "Error GWCER102: Secret mcp/cert holds no usable certificate.")


def test_certificate_of_another_namespace_needs_a_grant(state: ClusterState) -> None:
    """Without a ReferenceGrant the reason is RefNotPermitted; with one the reference resolves."""
    state.kinds["Secret"]["certs/cert"] = state.kinds["Secret"].pop("mcp/cert")
    state.gateway["spec"]["listeners"][1]["tls"]["certificateRefs"][0]["namespace"] = "certs"
    problem = state.gateways()["mcp/external-gw-01"].listeners[1].unresolved
    assert problem is not None
    assert problem.reason == "RefNotPermitted"

    state.add(
        "{kind: ReferenceGrant, metadata: {name: g, namespace: certs}, spec: {"
        "from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: mcp}],"
        "to: [{group: '', kind: Secret, name: cert}]}}"
    )
    assert state.gateways()["mcp/external-gw-01"].problem is None


def test_first_gateway_has_the_first_address_and_others_keep_theirs() -> None:
    """The order of the Gateways does not matter; assigned addresses are read back from their status."""

    def gateway(name: str, *addresses: str) -> Object:
        status_now = {"addresses": [{"value": each} for each in addresses]}
        return {"metadata": {"namespace": "mcp", "name": name}, "status": status_now}

    third = layout.GATEWAY_ADDRESSES[2]
    found = gateways.assign_addresses(
        [gateway("new"), gateway("old", third), gateway("external-gw-01"), gateway("newer")]
    )

    assert found == {
        "mcp/external-gw-01": "172.30.0.80",
        "mcp/old": third,
        "mcp/new": "172.30.0.81",
        "mcp/newer": "172.30.0.83",
    }
