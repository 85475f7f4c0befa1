"""Gateways as their users see them: conditions, addresses, certificates, and the answers to requests."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl
from tests.lab.gateway_api import (
    Answer,
    ask,
    condition,
    gateway,
    listener,
    plain,
    wait_for_condition,
)


class Pinned(HTTPAdapter):
    """Sends requests for one hostname to a fixed address, and still verifies the hostname's certificate."""

    def __init__(self, hostname: str, address: str) -> None:
        self._hostname, self._address = hostname, address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- as the base class has it
        """Make connections whose TLS handshake names the hostname (SNI)."""
        super().init_poolmanager(*args, **kwargs, server_hostname=self._hostname)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401
        """Send the request to the address; its Host header is the hostname unless it has one already."""
        request.headers.setdefault("Host", self._hostname)
        request.url = str(request.url).replace(self._hostname, self._address, 1)
        return super().send(request, *args, **kwargs)


def listens(address: str, port: int) -> bool:
    """Whether a TCP connection to the address is accepted within 2 s."""
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def hostname(facts: dict[str, Any]) -> str:
    """The hostname of the lab's certificate."""
    return str(facts["hostname"])


@pytest.fixture
def https(facts: dict[str, Any], hostname: str, gateway_address: str) -> Iterator[requests.Session]:
    """Client that trusts the lab's CA and sends requests for the hostname to the Gateway's address."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = facts["ca_file"]
        session.mount(f"https://{hostname}", Pinned(hostname, gateway_address))
        yield session


@pytest.fixture(scope="module")
def refused(kubectl: Kubectl, namespace: str) -> str:
    """Namespace with Gateways that GKE would refuse to serve."""
    tls = {"certificateRefs": [{"name": "no-such-secret"}]}
    kubectl.apply(
        gateway("uncertified", plain(), {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls}),
        gateway("static", plain(), addresses=[{"value": "172.30.0.90"}]),
        namespace=namespace,
    )
    return namespace


@pytest.mark.parametrize("kind", ["Accepted", "Programmed", "networking.gke.io/GatewayHealthy"])
def test_gateway_is_healthy(kubectl: Kubectl, kind: str) -> None:
    """The platform's Gateway is accepted, programmed and healthy as its spec is now."""
    found = wait_for_condition(kubectl, "mcp", "gateway/external-gw-01", kind, "True")

    assert found.reason == kind.removeprefix("networking.gke.io/Gateway")


@pytest.mark.parametrize("name", ["http", "https"])
def test_listener_is_healthy(kubectl: Kubectl, name: str) -> None:
    """Each listener of the platform's Gateway is programmed, resolves its references and has no conflict."""
    external = kubectl.get("--namespace=mcp", "gateway/external-gw-01")
    kinds = ("Accepted", "Programmed", "ResolvedRefs", "Conflicted")
    statuses = [condition(external, kind, listener(name)).status for kind in kinds]

    assert statuses == ["True", "True", "True", "False"]


def test_gateway_names_its_address_and_google_resources(kubectl: Kubectl, gateway_address: str) -> None:
    """Address and Google's resources can be read from the Gateway."""
    external = kubectl.get("--namespace=mcp", "gateway/external-gw-01")

    assert external["status"]["addresses"] == [{"type": "IPAddress", "value": gateway_address}]
    assert "/global/urlMaps/" in external["metadata"]["annotations"]["networking.gke.io/url-maps"]
    assert "/global/forwardingRules/" in external["metadata"]["annotations"]["networking.gke.io/forwarding-rules"]


def test_plain_http_redirects_to_https(hostname: str, gateway_address: str) -> None:
    """Port 80 answers with a permanent redirect to the same path and query on HTTPS."""
    answer = ask(hostname, "/catalog?kind=api", address=gateway_address)

    assert answer == Answer(301, "", f"https://{hostname}/catalog?kind=api")


def test_unknown_hostname_is_not_found(https: requests.Session, hostname: str) -> None:
    """A hostname that no route serves is answered as Google's load balancer does."""
    response = https.get(f"https://{hostname}/", headers={"Host": "nobody.lab.test"}, timeout=10)

    assert (response.status_code, response.text) == (404, "fault filter abort")


def test_certificate_is_the_lab_authoritys_for_the_hostname(
    facts: dict[str, Any], hostname: str, gateway_address: str
) -> None:
    """A client that trusts the lab's CA trusts the Gateway for its hostname and no other."""
    trust = ssl.create_default_context(cafile=facts["ca_file"])
    with (
        socket.create_connection((gateway_address, 443), timeout=10) as raw,
        trust.wrap_socket(raw, server_hostname=hostname),
    ):
        pass

    with (
        socket.create_connection((gateway_address, 443), timeout=10) as raw,
        pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
    ):
        trust.wrap_socket(raw, server_hostname="nobody.lab.test")


def test_certificate_that_is_missing_stops_the_whole_gateway(kubectl: Kubectl, refused: str) -> None:
    """Without its certificate a Gateway serves nothing, plain HTTP included."""
    found = wait_for_condition(kubectl, refused, "gateway/uncertified", "Programmed", "False")
    uncertified = kubectl.get("--namespace", refused, "gateway/uncertified")

    assert found.reason == "Invalid"
    assert found.message.startswith("Error GWCER102: Secret ")
    assert condition(uncertified, "networking.gke.io/GatewayHealthy")[:2] == ("False", "Error")
    assert condition(uncertified, "ResolvedRefs", listener("https"))[:2] == ("False", "InvalidCertificateRef")
    assert condition(uncertified, "Programmed", listener("http")).status == "False"


def test_address_of_choice_is_refused(kubectl: Kubectl, refused: str) -> None:
    """A Gateway cannot choose its address."""
    found = wait_for_condition(kubectl, refused, "gateway/static", "Programmed", "False")
    static = kubectl.get("--namespace", refused, "gateway/static")

    assert found.reason == "Invalid"
    assert found.message.startswith("Error GWCER106")
    assert condition(static, "Accepted", listener("http"))[:2] == ("False", "UnsupportedAddress")


def test_second_gateway_has_an_address_of_its_own_until_it_is_removed(
    kubectl: Kubectl, namespace: str, gateway_address: str
) -> None:
    """A Gateway gets an address and answers there; nothing listens on it once the Gateway is deleted."""
    kubectl.apply(gateway("brief", plain()), namespace=namespace)
    wait_for_condition(kubectl, namespace, "gateway/brief", "Programmed", "True")
    brief = kubectl.get("--namespace", namespace, "gateway/brief")["status"]["addresses"][0]["value"]
    answer = ask("anything.test", address=brief)
    kubectl("delete", "--namespace", namespace, "gateway/brief")
    wait_for(f"nobody to listen on {brief}", lambda: listens(brief, 80), until=lambda found: not found, within=30,
             look_next="python -m lab logs load-balancer")  # fmt: skip

    assert brief != gateway_address
    assert answer == Answer(404, "fault filter abort")


def test_gateway_is_not_programmed_while_its_data_plane_is_down(
    kubectl: Kubectl, fault: Callable[..., AbstractContextManager[None]], gateway_address: str
) -> None:
    """The Gateway's conditions are False for as long as its data plane is down."""
    with fault("gateway-down"):
        down = wait_for_condition(kubectl, "mcp", "gateway/external-gw-01", "Programmed", "False")
        unhealthy = wait_for_condition(
            kubectl, "mcp", "gateway/external-gw-01", "networking.gke.io/GatewayHealthy", "False"
        )
        served = listens(gateway_address, 443)
    wait_for_condition(kubectl, "mcp", "gateway/external-gw-01", "Programmed", "True")
    wait_for_condition(kubectl, "mcp", "gateway/external-gw-01", "networking.gke.io/GatewayHealthy", "True")

    assert "RESOURCE_NOT_READY" in down.message
    assert unhealthy.reason == "Error"
    assert not served
    assert listens(gateway_address, 443)
