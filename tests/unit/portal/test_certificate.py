"""Reading the certificate that a server presents, from TLS servers on the loopback."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fixtures.outcomes import NoVerdictError
from fixtures.portal import tls_versions
from fixtures.portal.certificate import Certificate, PresentedCertificate, expiry, fetch_certificate

HOSTNAME = "backstage.lab.test"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Authority:
    """A certificate authority; it signs every certificate with its own key."""

    key: ec.EllipticCurvePrivateKey
    directory: Path

    @property
    def file(self) -> Path:
        """The authority's own certificate, as a PEM file."""
        return self.certificate("authority", days=30, ca=True)

    def certificate(self, *names: str, days: int, ca: bool = False) -> Path:
        """A PEM file with the certificate and its key, valid for so many days from now."""
        end = datetime.now(UTC) + timedelta(days=days)
        certificate = (
            x509.CertificateBuilder(
                _name("lab"), _name(names[0] if not ca else "lab"), self.key.public_key(), x509.random_serial_number()
            )
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
            .not_valid_before(end - timedelta(days=60))
            .not_valid_after(end)
            .sign(self.key, hashes.SHA256())
        )
        path = self.directory / f"{names[0]}{days}.pem"
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        private = self.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
        path.write_bytes(private + certificate.public_bytes(pem))
        return path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The certificate authority that the environment trusts."""
    return Authority(ec.generate_private_key(ec.SECP256R1()), tmp_path)


@contextlib.contextmanager
def tls_server(certificate: Path) -> Iterator[int]:
    """Port of a TLS server that presents this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=tls_versions.serve, args=(listening, context))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            # Closing alone would leave the thread blocked in accept().
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def presented(certificate: Path, ca_file: Path) -> PresentedCertificate:
    """What a client that trusts this CA file reads from a server with this certificate."""
    with tls_server(certificate) as port:
        return fetch_certificate("127.0.0.1", HOSTNAME, ca_file, timeout=5, port=port)


def test_good_certificate_is_trusted_and_says_what_it_is_for(authority: Authority) -> None:
    """The names and the expiry are those in the certificate."""
    found = presented(authority.certificate(HOSTNAME, "*.lab.test", days=20), authority.file)

    assert found.verify_error == ""
    assert found.certificate.names == (HOSTNAME, "*.lab.test")
    assert found.certificate.issuer == "CN=lab"
    assert 19.9 < found.certificate.days_left(datetime.now(UTC)) <= 20


def test_expired_certificate_is_shown_and_not_trusted(authority: Authority) -> None:
    """An expired certificate is still read, so that the message can say when it expired."""
    found = presented(authority.certificate(HOSTNAME, days=-3), authority.file)

    assert found.verify_error == "certificate has expired"
    assert -3.1 < found.certificate.days_left(datetime.now(UTC)) <= -3


def test_certificate_of_a_stranger_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    """Only the environment's CA is trusted."""
    (tmp_path / "other").mkdir()
    other = Authority(ec.generate_private_key(ec.SECP256R1()), tmp_path / "other")

    assert presented(other.certificate(HOSTNAME, days=20), authority.file).verify_error != ""


def test_certificate_for_another_name_is_trusted_and_not_for_this_one(authority: Authority) -> None:
    """An untrusted certificate and one for another hostname are two different findings."""
    found = presented(authority.certificate("other.lab.test", days=20), authority.file)

    assert found.verify_error == ""
    assert not found.certificate.is_for(HOSTNAME)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        (HOSTNAME, True),
        ("Backstage.Lab.Test", True),
        ("*.lab.test", True),
        ("*.test", False),
        ("*", False),
        ("lab.test", False),
        ("*.backstage.lab.test", False),
    ],
)
def test_certificate_is_for_a_name_or_for_all_beside_it(name: str, *, good: bool) -> None:
    """A wildcard stands for exactly one label."""
    assert Certificate((name,), "CN=lab", NOW).is_for(HOSTNAME) is good


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (NOW + timedelta(days=13.5), "13.5 days left, until 2026-12-08 00:00 UTC, issued by CN=lab"),
        (NOW - timedelta(days=2), "expired 2.0 days ago, at 2026-11-22 12:00 UTC, issued by CN=lab"),
    ],
)
def test_expiry_is_said_in_days_and_as_a_date(end: datetime, text: str) -> None:
    """The message shows both the days left and the date."""
    assert expiry(Certificate((), "CN=lab", end), NOW) == text


def test_server_that_hangs_up_is_an_error_of_the_connection() -> None:
    """The reader raises the connection error; the caller decides what it means."""
    # A port that was just released refuses connections.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    with pytest.raises(ConnectionRefusedError):
        fetch_certificate("127.0.0.1", HOSTNAME, None, timeout=5, port=port)


def test_authority_that_cannot_be_read_is_no_verdict(authority: Authority, tmp_path: Path) -> None:
    """A CA file without certificates is an error of the environment, not of the portal."""
    (tmp_path / "empty.pem").write_text("")

    with pytest.raises(NoVerdictError, match=r"^expected: certificates to trust in .*empty.pem\nseen: "):
        presented(authority.certificate(HOSTNAME, days=20), tmp_path / "empty.pem")
