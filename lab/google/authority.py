"""Certificate authorities in a directory: what they issued stays valid when their stand-in restarts."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

CA_LIFE = dt.timedelta(days=3650)


class Authority:
    """Issues certificates with the key in `NAME.pem`, which is made at the first use."""

    def __init__(self, directory: Path, name: str) -> None:
        path = directory / f"{name}.pem"
        if not path.exists():
            key = new_key()
            builder = _builder(name, name, key.public_key(), CA_LIFE)
            for extension, critical in _ca_extensions(key.public_key()):
                builder = builder.add_extension(extension, critical=critical)
            write_private(path, key_pem(key) + pem(builder.sign(key, hashes.SHA256())))
        text = path.read_bytes()
        self._key = cast("ec.EllipticCurvePrivateKey", serialization.load_pem_private_key(text, None))
        self.name = name
        self.certificate = x509.load_pem_x509_certificate(text)

    def issue(
        self, subject: str, key: CertificatePublicKeyTypes, life: dt.timedelta, *names: x509.GeneralName
    ) -> x509.Certificate:
        """A certificate for the common name and, of any length, the alternative names."""
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(subject, self.name, key, life).add_extension(identifier, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def public_key(text: str) -> CertificatePublicKeyTypes:
    """The key a connector sends: its label says RSA key, its bytes are those of any key. ValueError if it is none."""
    key = serialization.load_pem_public_key(text.replace(" RSA PUBLIC KEY", " PUBLIC KEY").encode())
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise ValueError(f"{type(key).__name__} instead of an RSA or an elliptic curve key")  # noqa: TRY004
    return key


def _ca_extensions(key: ec.EllipticCurvePublicKey) -> list[tuple[x509.ExtensionType, bool]]:
    """What strict clients (Python 3.13 and later, by default) want of an authority, and whether it is critical."""
    usage = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage, True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
    ]


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key of the kind used throughout."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(certificate: x509.Certificate) -> str:
    """The certificate's text form."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """The private key's text form."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read; no reader, and no kill, sees half of it."""
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _builder(subject: str, issuer: str, key: CertificatePublicKeyTypes, life: dt.timedelta) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(subject))
        .issuer_name(_common_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # Clients whose clock is a little behind accept it too.
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + life)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
