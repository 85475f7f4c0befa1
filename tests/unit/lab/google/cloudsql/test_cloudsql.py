"""The Cloud SQL stand-in without PostgreSQL: its calls, its port 3307, what it remembers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import shutil
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fixtures.waiting import wait_for
from lab import faults, layout
from lab.google.authority import key_pem, new_key, pem
from lab.google.cloudsql.admin_api import AdminApi, merged
from lab.google.cloudsql.postgres import Database, NotRunningError, Postgres, User, fatal
from lab.google.iam import CLOUD_PLATFORM, SQL_ADMIN, SQL_LOGIN

PROJECT = f"/v1/projects/{layout.PROJECT}"
INSTANCE = f"{PROJECT}/instances/{layout.INSTANCE}"
USER = layout.BACKSTAGE_DATABASE_USER
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
CANCEL_REQUEST = struct.pack("!iiii", 16, 80877102, 1234, 5678)
NO_LOGIN = fatal("28000", f'Cloud SQL IAM service account authentication failed for user "{USER}"')

Call = Callable[..., requests.Response]


class FakePostgres(socketserver.ThreadingTCPServer):
    """Answers the first packet with `hello` and that packet, then waits for the client to go."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeBackend)


class FakeBackend(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        """Its whole life."""
        self.request.sendall(b"hello " + self.request.recv(1000))
        self.request.recv(1000)


def startup(user: str) -> bytes:
    """The packet with which a client logs in."""
    options = f"user\0{user}\0database\0app\0\0".encode()
    return struct.pack("!ii", len(options) + 8, 196608) + options


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePostgres]:
    """A server behind the instance; the signals it gets are in `restarts`."""
    with FakePostgres() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        monkeypatch.setattr(layout, "POSTGRES_PORT", server.server_address[1])
        yield server
        server.shutdown()


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[signal.Signals]:
    """Signals that PostgreSQL got; it is back at once."""
    sent: list[signal.Signals] = []

    async def restart(_: Postgres, how: signal.Signals) -> None:
        sent.append(how)

    monkeypatch.setattr(Postgres, "restart", restart)
    return sent


@pytest.fixture
def directory(tmp_path: Path, faults: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """Google's directory, on a machine where the instance's addresses are the loopback's."""
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        monkeypatch.setattr(layout, "DATABASE_PORT", free.getsockname()[1])
    monkeypatch.setattr(layout, "DATABASE_ADDRESSES", ("127.0.0.2", "127.0.0.3"))
    (tmp_path / "cloudsql.json").write_text('{"restart": 0, "failover": 0}')
    return tmp_path


@pytest.fixture
def api(directory: Path, restarts: list[signal.Signals]) -> AdminApi:  # noqa: ARG001
    """The stand-in, not yet serving."""
    api = AdminApi(directory)
    api.iam.create()
    return api


@pytest.fixture
def call(api: AdminApi, serve: Callable[[web.Application], str]) -> Iterator[Call]:
    """Calls the served API, as the operator unless said otherwise."""
    url = serve(api.application())
    with requests.Session() as session:

        def send(
            method: str,
            path: str,
            body: object = None,
            *,
            account: str = layout.OPERATOR_ACCOUNT,
            token: str | None = None,
        ) -> requests.Response:
            headers = {"Authorization": f"Bearer {token or api.iam.mint(account)}"}
            return session.request(method, url + path, json=body, headers=headers, timeout=5)

        yield send


@pytest.fixture
def instance(api: AdminApi, call: Call, postgres: FakePostgres) -> AdminApi:  # noqa: ARG001
    """The stand-in, serving, with a server behind its port."""
    return api


def error_of(answer: requests.Response) -> tuple[int, str]:
    """Status and reason of Google's error body."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return error["code"], error["errors"][0]["reason"]


def finished(call: Call, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation once it is DONE."""
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
    """A connector's connection, made with a certificate for the account."""
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


def everything(connection: ssl.SSLSocket) -> bytes:
    """All bytes until the server ends the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while data := connection.recv(1000):
            received += data
    return received


# --- calls


@pytest.mark.parametrize("version", ["/v1", "/sql/v1beta4"])
def test_instance_is_shown(call: Call, version: str) -> None:
    """Under both versions, with what a suite asserts."""
    instance = call("GET", INSTANCE.replace("/v1", version), account=layout.OBSERVER_ACCOUNT).json()

    assert instance["connectionName"] == layout.INSTANCE_CONNECTION_NAME
    assert (instance["state"], instance["settings"]["activationPolicy"]) == ("RUNNABLE", "ALWAYS")
    assert instance["ipAddresses"][0] == {"type": "PRIMARY", "ipAddress": "127.0.0.2"}
    assert call("GET", f"{PROJECT}/instances").json()["items"] == [instance]


def test_calls_are_refused_in_googles_order(call: Call, api: AdminApi, faults: Path) -> None:
    """An outage before the token, the token before the permission, the permission before the name."""
    other = f"{PROJECT}/instances/other"

    assert error_of(call("GET", other)) == (404, "instanceDoesNotExist")
    assert error_of(call("GET", f"{other}/users", account=layout.BACKSTAGE_ACCOUNT)) == (403, "notAuthorized")
    assert error_of(call("GET", other, token="forged")) == (401, "authError")  # noqa: S106
    login_only = api.iam.mint(layout.OPERATOR_ACCOUNT, [SQL_LOGIN])
    assert error_of(call("GET", INSTANCE, token=login_only)) == (401, "authError")
    (faults / "admin-api").write_text("429")
    assert error_of(call("GET", other, token="forged")) == (429, "rateLimitExceeded")  # noqa: S106


def test_missing_permission_is_named(call: Call) -> None:
    """The text that cloud-sql-proxy logs."""
    answer = call("GET", f"{INSTANCE}/connectSettings", account=layout.OBSERVER_ACCOUNT)

    assert answer.json()["error"]["message"] == (
        "boss::NOT_AUTHORIZED: Not authorized to access resource. "
        "Possibly missing permission cloudsql.instances.connect on resource instances/backstage."
    )


@pytest.mark.parametrize(("fault", "reason"), [("403", "notAuthorized"), ("503", "backendError")])
def test_fault_answers_every_call(call: Call, faults: Path, fault: str, reason: str) -> None:
    """A caller with all rights is refused too."""
    (faults / "admin-api").write_text(fault)

    assert error_of(call("GET", INSTANCE)) == (int(fault), reason)


def test_fault_down_resets_connections_and_does_nothing(call: Call, api: AdminApi, faults: Path) -> None:
    """A call that is not answered is not carried out either."""
    (faults / "admin-api").write_text("down")

    with pytest.raises(requests.ConnectionError):
        call("POST", f"{INSTANCE}/restart")
    assert api.instance.kept["operations"] == {}


def test_users_and_databases_are_listed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only users of IAM tell their type."""

    async def users(_: Postgres) -> list[User]:
        return [User(USER, iam=True), User("postgres", iam=False)]

    async def databases(_: Postgres) -> list[Database]:
        return [Database("app", "UTF8", "C.UTF-8")]

    monkeypatch.setattr(Postgres, "users", users)
    monkeypatch.setattr(Postgres, "databases", databases)
    listed = call("GET", f"{INSTANCE}/users").json()["items"]

    assert [(user["name"], user.get("type")) for user in listed] == [
        (USER, "CLOUD_IAM_SERVICE_ACCOUNT"), ("postgres", None),
    ]  # fmt: skip
    assert call("GET", f"{INSTANCE}/databases/app").json()["charset"] == "UTF8"
    assert error_of(call("GET", f"{INSTANCE}/databases/other")) == (404, "notFound")


def test_users_of_a_stopped_instance_are_unknown(call: Call) -> None:
    """PostgreSQL is not there to be asked."""
    assert error_of(call("GET", f"{INSTANCE}/users")) == (400, "invalid")


@cache
def connectors_key() -> rsa.RSAPublicKey:
    """A key as connectors have it; slow to make."""
    return rsa.generate_private_key(65537, 2048).public_key()


def certificate_for(call: Call, **body: object) -> x509.Certificate:
    """What a connector gets for its key."""
    key = connectors_key()
    text = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    sent = {"public_key": text.replace("PUBLIC KEY", "RSA PUBLIC KEY"), **body}
    answer = call("POST", f"{INSTANCE}:generateEphemeralCert", sent, account=layout.BACKSTAGE_ACCOUNT)
    certificate = x509.load_pem_x509_certificate(answer.json()["ephemeralCert"]["cert"].encode())
    assert certificate.public_key() == key
    return certificate


def test_connectors_certificate_names_its_principal(call: Call, api: AdminApi) -> None:
    """The login token's account, however long its name, is in the certificate."""
    email = f"{'a' * 30}@{'b' * 30}.iam.gserviceaccount.com"
    certificate = certificate_for(call, access_token=api.iam.mint(email, [SQL_LOGIN]))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names.get_values_for_type(x509.RFC822Name) == [email]
    certificate.verify_directly_issued_by(api.port.client_ca.certificate)


def test_connector_without_login_gets_a_certificate_of_nobody(call: Call) -> None:
    """Without IAM login the certificate opens the port only."""
    with pytest.raises(x509.ExtensionNotFound):
        certificate_for(call).extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize("body", [None, [], {}, {"public_key": 1}, {"public_key": "x"}])
def test_certificate_needs_a_key(call: Call, body: object) -> None:
    """What is no key is refused, whatever it is."""
    assert error_of(call("POST", f"{INSTANCE}:generateEphemeralCert", body))[0] == 400


def test_login_token_needs_the_login_scope(call: Call, api: AdminApi) -> None:
    """A token for the Admin API does not log in."""
    token = api.iam.mint(layout.BACKSTAGE_ACCOUNT, [SQL_ADMIN])
    with pytest.raises(KeyError, match="ephemeralCert"):
        certificate_for(call, access_token=token)
    assert certificate_for(call, access_token=api.iam.mint(layout.BACKSTAGE_ACCOUNT, [CLOUD_PLATFORM]))


# --- port 3307


def test_principals_own_user_is_passed_on(instance: AdminApi) -> None:
    """Encryption inside the encryption is refused first; then PostgreSQL gets the packet as it was sent."""
    with connected(instance) as connection:
        connection.sendall(SSL_REQUEST)
        assert connection.recv(1) == b"N"
        connection.sendall(startup(USER))
        assert connection.recv(1000) == b"hello " + startup(USER)


@pytest.mark.parametrize("email", [None, layout.OBSERVER_ACCOUNT, layout.OPERATOR_ACCOUNT])
def test_other_principals_user_is_refused(instance: AdminApi, email: str | None) -> None:
    """Even for one with the right to log in: as itself."""
    with connected(instance, email=email) as connection:
        connection.sendall(startup(USER))
        assert everything(connection) == NO_LOGIN


def test_login_needs_the_role(instance: AdminApi) -> None:
    """`roles/cloudsql.instanceUser` is asked for at each login."""
    policy = instance.iam.policy()
    policy["bindings"]["roles/cloudsql.instanceUser"] = []
    instance.iam.write(policy)

    with connected(instance) as connection:
        connection.sendall(startup(USER))
        assert everything(connection) == NO_LOGIN


def test_login_needs_the_flag(instance: AdminApi, call: Call) -> None:
    """With the instance's flag off nobody of IAM logs in."""
    finished(call, call("PATCH", INSTANCE, {"settings": {"databaseFlags": []}}).json())

    with connected(instance) as connection:
        connection.sendall(startup(USER))
        assert everything(connection) == NO_LOGIN


def test_users_with_a_password_are_postgresqls_business(instance: AdminApi) -> None:
    """A name without @ is no name of IAM."""
    with connected(instance, email=None) as connection:
        connection.sendall(startup("postgres"))
        assert connection.recv(1000) == b"hello " + startup("postgres")


def test_cancel_request_is_passed_on(instance: AdminApi) -> None:
    """It has a secret of its own and names no user."""
    with connected(instance) as connection:
        connection.sendall(CANCEL_REQUEST)
        assert connection.recv(1000) == b"hello " + CANCEL_REQUEST


def test_stopped_postgresql_is_told(instance: AdminApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of the measured instance."""
    monkeypatch.setattr(layout, "POSTGRES_PORT", 1)

    with connected(instance) as connection:
        connection.sendall(startup(USER))
        assert everything(connection) == fatal("57P03", "the database system is not accepting connections")


def test_client_without_certificate_is_refused(instance: AdminApi) -> None:
    """The handshake fails; in TLS 1.3 the client learns it after its own part."""
    context = ssl.create_default_context(cadata=pem(instance.port.server_ca.certificate))
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.2", layout.DATABASE_PORT), timeout=5) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(SSL_REQUEST)
        assert everything(connection) == b""


def test_nonsense_ends_the_connection(instance: AdminApi) -> None:
    """A huge packet is not waited for."""
    with connected(instance) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert everything(connection) == b""


def test_fault_closes_the_port_and_cuts_connections(instance: AdminApi, faults: Path) -> None:
    """As if the instance were gone, until the fault is."""
    with connected(instance) as connection:
        connection.sendall(startup(USER))
        connection.recv(1000)
        (faults / "database-port").write_text("refused")
        assert everything(connection) == b""
    with pytest.raises(ConnectionRefusedError), connected(instance):
        pass
    (faults / "database-port").unlink()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), connected(instance):
            return
    pytest.fail("the port stayed closed")


def test_injected_fault_holds_when_the_command_returns(instance: AdminApi) -> None:
    """However late the stand-in sees it, whoever connects afterwards is refused."""
    with connected(instance):
        faults.inject("database-port", "refused")
    with pytest.raises(ConnectionRefusedError), connected(instance):
        pass


# --- operations


def test_failover_moves_the_instance(instance: AdminApi, call: Call, restarts: list[signal.Signals]) -> None:
    """Connections are cut; another address and certificate, the same authority."""
    before = call("GET", f"{INSTANCE}/connectSettings").json()
    with connected(instance) as connection:
        connection.sendall(startup(USER))
        connection.recv(1000)
        old = connection.getpeercert(binary_form=True)
        operation = call("POST", f"{INSTANCE}/failover", {"failoverContext": {}}).json()
        assert (operation["operationType"], operation["status"]) == ("FAILOVER", "PENDING")
        assert "error" not in finished(call, operation)
        assert everything(connection) == b""
    after = call("GET", f"{INSTANCE}/connectSettings").json()

    assert restarts == [signal.SIGQUIT]
    assert after["ipAddresses"][0]["ipAddress"] == "127.0.0.3"
    assert after["serverCaCert"] == before["serverCaCert"]
    with connected(instance, "127.0.0.3") as connection:
        assert connection.getpeercert(binary_form=True) != old
    with pytest.raises(ConnectionRefusedError), connected(instance, "127.0.0.2"):
        pass


def test_restart_keeps_the_address(call: Call, api: AdminApi, restarts: list[signal.Signals]) -> None:
    """PostgreSQL is stopped in order."""
    operation = finished(call, call("POST", f"{INSTANCE}/restart").json())

    assert (operation["user"], restarts) == (layout.OPERATOR_ACCOUNT, [signal.SIGINT])
    with connected(api, "127.0.0.2"):
        pass


def test_operations_come_one_at_a_time(call: Call, directory: Path) -> None:
    """The second is refused until the first is done."""
    (directory / "cloudsql.json").write_text('{"restart": 0.1}')
    first = call("POST", f"{INSTANCE}/restart").json()

    assert error_of(call("POST", f"{INSTANCE}/failover")) == (409, "operationInProgress")
    finished(call, first)
    assert call("PATCH", INSTANCE, {}).status_code == 200


def test_failed_operation_tells_why(call: Call, api: AdminApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is DONE with an error, and the port is open again."""

    async def restart(_: Postgres, __: signal.Signals) -> None:
        raise NotRunningError("PostgreSQL is not back")

    monkeypatch.setattr(Postgres, "restart", restart)
    operation = finished(call, call("POST", f"{INSTANCE}/restart").json())

    assert operation["error"]["errors"][0]["message"] == "PostgreSQL is not back"
    with connected(api):
        pass


def test_unknown_duration_is_told(call: Call, api: AdminApi, directory: Path) -> None:
    """A misspelt name changes nothing silently."""
    (directory / "cloudsql.json").write_text('{"fail_over": 1}')
    operation = finished(call, call("POST", f"{INSTANCE}/failover").json())

    assert "unexpected keyword argument 'fail_over'" in operation["error"]["errors"][0]["message"]
    assert api.instance.address == "127.0.0.2"


def test_killed_stand_in_comes_back_as_it_was(call: Call, api: AdminApi, directory: Path) -> None:
    """Authorities, address, settings and operations; what was under way is over."""
    operation = finished(call, call("POST", f"{INSTANCE}/failover").json())
    finished(call, call("PATCH", INSTANCE, {"settings": {"tier": "db-f1-micro"}, "state": "MAINTENANCE"}).json())
    path = directory / "cloudsql" / "instance.json"
    kept = json.loads(path.read_text())
    kept["operations"][operation["name"]]["status"] = "RUNNING"
    path.write_text(json.dumps(kept))
    again = AdminApi(directory)

    assert again.port.client_ca.certificate == api.port.client_ca.certificate
    assert again.port.server_ca.certificate == api.port.server_ca.certificate
    assert again.instance.address == "127.0.0.3"
    assert (again.instance.kept["state"], again.instance.kept["settings"]["tier"]) == ("MAINTENANCE", "db-f1-micro")
    interrupted = again.instance.kept["operations"][operation["name"]]
    assert (interrupted["status"], interrupted["error"]["errors"][0]["message"]) == (
        "DONE", "The operation was interrupted.",
    )  # fmt: skip


def test_patch_merges_objects_and_replaces_the_rest() -> None:
    """As JSON merge patches do."""
    old = {"a": {"b": 1, "c": 2}, "d": [1], "e": 3}

    assert merged(old, {"a": {"b": 5, "c": None}, "d": [2], "e": None, "f": {"g": 1}}) == {
        "a": {"b": 5}, "d": [2], "f": {"g": 1},
    }  # fmt: skip


# --- PostgreSQL's process


@contextlib.contextmanager
def server_called(name: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of that name, which the pid file says to be a server that accepts connections."""
    program, data = directory / "bin" / name, directory / "postgres" / "data"
    program.parent.mkdir()
    data.mkdir(parents=True)
    shutil.copy(shutil.which("sleep") or "", program)
    # Whoever runs these tests in the background may have had SIGINT ignored, and what ignores it is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen([program, "60"]) as process:
        # The kernel tells a new process' name a moment after it has told its parent that it runs.
        comm = Path(f"/proc/{process.pid}/comm")
        wait_for(
            f"the process to be called {name}",
            lambda: comm.read_text().strip(),
            until=lambda called: called == name,
            within=5,
            every=0.01,
            look_next=str(comm),
        )
        (data / "postmaster.pid").write_text(f"{process.pid}\ndata\n0\n5432\nsocket\n127.0.0.1\n0\nready   \n")
        yield process
        process.kill()


def test_restart_waits_for_the_successor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old server gets the signal; one that does not come back is told."""
    monkeypatch.setattr("lab.google.cloudsql.postgres.RESTART_SECONDS", 0.1)

    with server_called("postgres", tmp_path) as process:
        with pytest.raises(NotRunningError, match="not back 0 s after SIGINT"):
            asyncio.run(Postgres(tmp_path).restart(signal.SIGINT))
        assert process.wait(timeout=5) == -signal.SIGINT


def test_restart_spares_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number in a stale pid file may be any process's by now."""
    monkeypatch.setattr("lab.google.cloudsql.postgres.RESTART_SECONDS", 0.1)

    with server_called("stranger", tmp_path) as process:
        with pytest.raises(NotRunningError):
            asyncio.run(Postgres(tmp_path).restart(signal.SIGINT))
        assert process.poll() is None
