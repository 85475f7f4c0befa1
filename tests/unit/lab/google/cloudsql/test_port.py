"""Port 3307: which connections reach PostgreSQL, and how the others are refused."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from pathlib import Path

import pytest

from lab import faults, layout
from lab.google.authority import pem
from lab.google.cloudsql.admin_api import AdminApi
from lab.google.cloudsql.startup import fatal
from tests.unit.lab.google.cloudsql.client import (
    INSTANCE,
    USER,
    Call,
    connected,
    read_until_closed,
    startup_packet,
    wait_until_done,
)

# 80877103 and 80877102 are PostgreSQL's codes for these two requests.
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
CANCEL_REQUEST = struct.pack("!iiii", 16, 80877102, 1234, 5678)
NO_LOGIN = fatal("28000", f'Cloud SQL IAM service account authentication failed for user "{USER}"')


def test_principals_own_user_is_passed_on(instance: AdminApi) -> None:
    """An SSLRequest inside the tunnel is declined, then the startup packet is passed on unchanged."""
    with connected(instance) as connection:
        connection.sendall(SSL_REQUEST)
        assert connection.recv(1) == b"N"
        connection.sendall(startup_packet(USER))
        assert connection.recv(1000) == b"hello " + startup_packet(USER)


@pytest.mark.parametrize("email", [None, layout.OBSERVER_ACCOUNT, layout.OPERATOR_ACCOUNT])
def test_other_principals_user_is_refused(instance: AdminApi, email: str | None) -> None:
    """Even an account that may log in may do so only as its own user."""
    with connected(instance, email=email) as connection:
        connection.sendall(startup_packet(USER))
        assert read_until_closed(connection) == NO_LOGIN


def test_login_needs_the_role(instance: AdminApi) -> None:
    """`roles/cloudsql.instanceUser` is checked at each login."""
    policy = instance.iam.policy()
    policy["bindings"]["roles/cloudsql.instanceUser"] = []
    instance.iam.write(policy)

    with connected(instance) as connection:
        connection.sendall(startup_packet(USER))
        assert read_until_closed(connection) == NO_LOGIN


def test_login_needs_the_flag(instance: AdminApi, call: Call) -> None:
    """Without the database flag for IAM authentication, no IAM user can log in."""
    wait_until_done(call, call("PATCH", INSTANCE, {"settings": {"databaseFlags": []}}).json())

    with connected(instance) as connection:
        connection.sendall(startup_packet(USER))
        assert read_until_closed(connection) == NO_LOGIN


def test_users_with_a_password_are_postgresqls_business(instance: AdminApi) -> None:
    """A user name without @ is not an IAM user, so PostgreSQL checks its password."""
    with connected(instance, email=None) as connection:
        connection.sendall(startup_packet("postgres"))
        assert connection.recv(1000) == b"hello " + startup_packet("postgres")


def test_cancel_request_is_passed_on(instance: AdminApi) -> None:
    """A CancelRequest carries its own secret and names no user."""
    with connected(instance) as connection:
        connection.sendall(CANCEL_REQUEST)
        assert connection.recv(1000) == b"hello " + CANCEL_REQUEST


def test_stopped_postgresql_is_told(instance: AdminApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the one measured on a stopped instance."""
    monkeypatch.setattr(layout, "POSTGRES_PORT", 1)

    with connected(instance) as connection:
        connection.sendall(startup_packet(USER))
        assert read_until_closed(connection) == fatal("57P03", "the database system is not accepting connections")


def test_client_without_certificate_is_refused(instance: AdminApi) -> None:
    """The handshake fails; in TLS 1.3 the client learns of it only after its own part is done."""
    context = ssl.create_default_context(cadata=pem(instance.port.server_ca.certificate))
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.2", layout.DATABASE_PORT), timeout=5) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(SSL_REQUEST)
        assert read_until_closed(connection) == b""


def test_nonsense_ends_the_connection(instance: AdminApi) -> None:
    """A packet with an absurd length is not waited for."""
    with connected(instance) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_until_closed(connection) == b""


def test_fault_closes_the_port_and_cuts_connections(instance: AdminApi, faults: Path) -> None:
    """The instance looks as if it were gone until the fault is removed."""
    with connected(instance) as connection:
        connection.sendall(startup_packet(USER))
        connection.recv(1000)
        (faults / "database-port").write_text("refused")
        assert read_until_closed(connection) == b""
    with pytest.raises(ConnectionRefusedError), connected(instance):
        pass
    (faults / "database-port").unlink()
    # The stand-in notices a removed fault file with a delay.
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), connected(instance):
            return
    pytest.fail("the port stayed closed")


def test_injected_fault_holds_when_the_command_returns(instance: AdminApi) -> None:
    """Injecting returns only after the fault has taken effect, so later connections are refused."""
    with connected(instance):
        faults.inject("database-port", "refused")
    with pytest.raises(ConnectionRefusedError), connected(instance):
        pass
