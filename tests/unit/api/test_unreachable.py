"""Why the API server gave no answer: real failures on the loopback interface, recorded refusals of the lab's server."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes.client import ApiException, Configuration, VersionApi

from fixtures.api.client import GuardedClient
from fixtures.api.unreachable import credentials_expiry, no_answer
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import Namespaces
from tests.unit.apiserver import RECORDED, Answer, Request, serving

NOW = datetime(2026, 11, 22, 23, 50, tzinfo=UTC)


def configuration_of(host: str) -> Configuration:
    """Configuration of a client without credentials or retries."""
    configuration = Configuration()
    configuration.host = host
    configuration.retries = 0
    return configuration


def message_for(configuration: Configuration, timeout: float = 5) -> str:
    """Message about a failed request for the server's version; the timeout is in seconds."""
    client = GuardedClient(configuration, Guard(frozenset({"observe"}), Namespaces("a", "a", "b")), timeout=timeout)
    with pytest.raises((ApiException, urllib3.exceptions.HTTPError)) as failed:
        VersionApi(client).get_code()
    return str(no_answer(failed.value, configuration, NOW))


def refusal(name: str) -> ApiException:
    """A recorded error response, as the exception that the client raises."""
    error = ApiException(status=RECORDED[name]["status"], reason=RECORDED[name]["reason"])
    error.body = RECORDED[name]["body"]
    return error


def test_server_that_is_away_is_one_sentence() -> None:
    """Nothing listens on the port."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can take the port meanwhile
        host = f"http://127.0.0.1:{unused.getsockname()[1]}"

        assert message_for(configuration_of(host)) == (
            f"expected: an answer of the API server at {host}; seen: no connection: Connection refused; "
            "look next: the server's address in the kubeconfig, and whether the cluster runs"
        )


def test_server_that_is_silent_is_one_sentence() -> None:
    """The server accepts connections but never answers, as behind a firewall that drops packets."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"

        assert message_for(configuration_of(host), timeout=0.1) == (
            f"expected: an answer of the API server at {host}; seen: no answer in time; "
            "look next: the way to it: VPN, authorized networks, firewall"
        )


def test_server_whose_name_does_not_resolve_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the resolver is patched: a real look-up would need a network."""

    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    assert message_for(configuration_of("https://cluster.test")) == (
        "expected: an answer of the API server at https://cluster.test; seen: its name does not resolve; "
        "look next: the server's address in the kubeconfig"
    )


def test_server_that_hangs_up_is_named_by_the_error() -> None:
    """A failure of an unknown kind is quoted as the library words it."""

    def hang_up(_: Request) -> Answer:
        raise ConnectionAbortedError

    with serving(hang_up) as server:
        text = message_for(configuration_of(server.url))

    assert text == (
        f"expected: an answer of the API server at {server.url}; "
        "seen: ('Connection aborted.', RemoteDisconnected('Remote end closed connection without response')); "
        "look next: kubectl version"
    )


@pytest.fixture
def expired_certificate(tmp_path: Path) -> Path:
    """Certificate of 127.0.0.1, valid for a day long ago, and its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=800))
        .not_valid_after(NOW - timedelta(days=799))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def expired_server(expired_certificate: Path) -> Iterator[str]:
    """URL of a server that presents the expired certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(expired_certificate)

    def handshake(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        accepted.settimeout(5)
        with accepted, pytest.raises(ssl.SSLError):  # the client aborts the handshake
            context.wrap_socket(accepted, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=handshake, args=[listener])
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_expired_certificate_of_the_server_is_one_sentence(expired_server: str, expired_certificate: Path) -> None:
    """The message has OpenSSL's reason."""
    configuration = configuration_of(expired_server)
    configuration.ssl_ca_cert = str(expired_certificate)  # type: ignore[attr-defined] # the stubs lack it

    assert message_for(configuration) == (
        f"expected: an answer of the API server at {expired_server}; "
        "seen: its certificate is refused: certificate has expired; "
        "look next: the cluster's certificate authority in the kubeconfig"
    )


@pytest.mark.parametrize("claims", [{}, {"exp": int(NOW.timestamp()) + 60}])
def test_unknown_identity_is_one_sentence(claims: dict[str, object]) -> None:
    """401, and the token has no expiry or one in the future."""
    configuration = configuration_of("https://lab.test")
    configuration.api_key = {"BearerToken": f"Bearer {token(claims)}"}

    assert str(no_answer(refusal("unauthorized"), configuration, NOW)) == (
        "expected: an answer of the API server at https://lab.test; seen: it does not know this identity (401); "
        "look next: kubectl auth whoami"
    )


def test_expired_token_is_one_sentence() -> None:
    """401, and the token's `exp` has passed; the message gives the time."""
    configuration = configuration_of("https://lab.test")
    configuration.api_key = {"BearerToken": f"Bearer {token({'exp': int(NOW.timestamp()) - 60})}"}

    assert str(no_answer(refusal("unauthorized"), configuration, NOW)) == (
        "expected: an answer of the API server at https://lab.test; "
        "seen: the identity's credentials expired at 2026-11-22 23:49 UTC; look next: log in again, or `make rbac`"
    )


def test_expired_client_certificate_is_one_sentence(expired_certificate: Path) -> None:
    """401, and the client certificate has expired; the message gives the time."""
    configuration = configuration_of("https://lab.test")
    configuration.cert_file = str(expired_certificate)  # type: ignore[attr-defined] # the stubs lack it

    assert str(no_answer(refusal("unauthorized"), configuration, NOW)) == (
        "expected: an answer of the API server at https://lab.test; "
        "seen: the identity's credentials expired at 2024-09-14 23:50 UTC; look next: log in again, or `make rbac`"
    )


def test_refusal_is_told_in_the_servers_words() -> None:
    """403: the server's message says which identity may not do what."""
    assert str(no_answer(refusal("impersonation"), configuration_of("https://lab.test"), NOW)) == (
        "expected: an answer of the API server at https://lab.test; "
        "seen: 403: selfsubjectreviews.authentication.k8s.io "
        'is forbidden: User "system:serviceaccount:acceptance:acceptance-observer" cannot '
        'impersonate-on:user-info:create resource "selfsubjectreviews" in API group "authentication.k8s.io" '
        "at the cluster scope; look next: kubectl auth whoami"
    )


def test_answer_that_is_no_status_object_is_told_by_its_reason() -> None:
    """A proxy answers without a Status object; the message has its status line."""
    error = ApiException(status=502, reason="Bad Gateway")

    assert str(no_answer(error, configuration_of("https://lab.test"), NOW)) == (
        "expected: an answer of the API server at https://lab.test; seen: 502: Bad Gateway; "
        "look next: kubectl auth whoami"
    )


def token(claims: dict[str, object]) -> str:
    """JSON Web Token with these claims; header and signature are placeholders."""
    return f"header.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.signature"


@pytest.mark.parametrize(
    "value", ["", "Bearer opaque", "Bearer a.!.c", f"Bearer {token({})}", f"Bearer {token({'exp': 'soon'})}"]
)
def test_token_that_does_not_say_when_it_expires_is_not_called_expired(value: str) -> None:
    """A token without a readable `exp`, such as the opaque access tokens of GKE, has no known expiry."""
    configuration = configuration_of("https://lab.test")
    configuration.api_key = {"BearerToken": value}

    assert credentials_expiry(configuration) is None
