"""TLS versions: which ones a server accepts, and that this machine really offers each of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from fixtures.outcomes import NoVerdictError
from fixtures.portal import tls_versions

HOSTNAME = "backstage.lab.test"


@pytest.mark.parametrize(
    "versions", [("TLSv1",), ("TLSv1.1",), ("TLSv1.2",), ("TLSv1.3",), ("TLSv1", "TLSv1.2"), ("TLSv1.2", "TLSv1.3")]
)
def test_versions_are_those_that_the_server_speaks(versions: tuple[str, ...]) -> None:
    """Each version is offered on its own, so none is mistaken for another."""
    names = tuple(tls_versions.VERSIONS)
    wanted = names[names.index(versions[0]) : names.index(versions[-1]) + 1]

    with tls_versions.server_limited_to(*versions) as port:
        assert tls_versions.accepted_versions("127.0.0.1", HOSTNAME, timeout=5, port=port) == wanted


def test_server_that_speaks_no_tls_accepts_no_version(serve_nothing: int) -> None:
    """A response that is not TLS counts as a refusal."""
    assert tls_versions.accepted_versions("127.0.0.1", HOSTNAME, timeout=5, port=serve_nothing) == ()


@pytest.fixture
def serve_nothing() -> Iterator[int]:
    """Port of a server that answers every connection with plain HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        # Closing alone would leave the thread blocked in accept().
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_older_versions_are_all_below_the_minimum() -> None:
    """The configured minimum is the oldest version that a server may accept."""
    assert tls_versions.older_than("TLSv1.2") == ("TLSv1", "TLSv1.1")
    assert tls_versions.older_than("TLSv1.3") == ("TLSv1", "TLSv1.1", "TLSv1.2")


def test_offer_is_proven_for_every_version() -> None:
    """This machine can offer every version that the check asks for."""
    for version in tls_versions.VERSIONS:
        tls_versions.prove_offer(version)


def test_offer_that_cannot_be_made_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """If OpenSSL's policy suppresses an old version, its refusal proves nothing."""
    monkeypatch.setattr(tls_versions, "EVERY_CIPHER", "HIGH:@SECLEVEL=2")

    with pytest.raises(NoVerdictError) as refused:
        tls_versions.prove_offer("TLSv1")

    lines = str(refused.value).splitlines()
    assert lines[0] == "expected: a client that offers TLSv1"
    assert lines[2] == "look next: the machine's OpenSSL and its policy: openssl ciphers -s -v"
