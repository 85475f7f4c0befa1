"""Clients of the Cloud SQL stand-in: one for the Admin API, and one for port 3307 that acts as a connector."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from typing import Any

import requests
from cryptography import x509

from fixtures.waiting import wait_for
from lab import layout
from lab.google.authority import key_pem, new_key, pem
from lab.google.cloudsql.admin_api import AdminApi

PROJECT = f"/v1/projects/{layout.PROJECT}"
INSTANCE = f"{PROJECT}/instances/{layout.INSTANCE}"
USER = layout.BACKSTAGE_DATABASE_USER

Call = Callable[..., requests.Response]


def error_of(answer: requests.Response) -> tuple[int, str]:
    """Status and reason of Google's error body."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return error["code"], error["errors"][0]["reason"]


def wait_until_done(call: Call, operation: dict[str, Any]) -> dict[str, Any]:
    """Wait until the operation is DONE and return it."""
    path = f"{PROJECT}/operations/{operation['name']}"
    return wait_for(
        "the operation to be DONE",
        lambda: dict(call("GET", path).json()),
        until=lambda seen: seen["status"] == "DONE",
        within=5,
        every=0.01,
        look_next=path,
    )


@contextlib.contextmanager
def connected(
    api: AdminApi, address: str = "127.0.0.2", email: str | None = layout.BACKSTAGE_ACCOUNT
) -> Iterator[ssl.SSLSocket]:
    """A connector's TLS connection to the instance; its certificate names the account, or none."""
    key = new_key()
    names = () if email is None else (x509.RFC822Name(email),)
    certificate = api.port.client_ca.issue("connector", key.public_key(), dt.timedelta(hours=1), *names)
    file = api.iam.path.with_name("connector.pem")
    file.write_text(key_pem(key) + pem(certificate))
    context = ssl.create_default_context(cadata=pem(api.port.server_ca.certificate))
    context.check_hostname = False
    context.load_cert_chain(file)
    plain = socket.create_connection((address, layout.DATABASE_PORT), timeout=5)
    with plain, context.wrap_socket(plain) as connection:
        yield connection


def read_until_closed(connection: ssl.SSLSocket) -> bytes:
    """All bytes until the server ends the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while data := connection.recv(1000):
            received += data
    return received


def startup_packet(user: str) -> bytes:
    """PostgreSQL's startup packet for this user and the database `app`."""
    options = f"user\0{user}\0database\0app\0\0".encode()
    # 196608 is 3 << 16, protocol version 3.0; the length includes these two integers.
    return struct.pack("!ii", len(options) + 8, 196608) + options
