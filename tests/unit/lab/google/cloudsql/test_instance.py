"""Operations on the instance, and the state kept on disk."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from lab import layout
from lab.google.cloudsql.admin_api import AdminApi
from lab.google.cloudsql.postgres import NotRunningError, Postgres
from tests.unit.lab.google.cloudsql.client import (
    INSTANCE,
    USER,
    Call,
    connected,
    error_of,
    read_until_closed,
    startup_packet,
    wait_until_done,
)  # fmt: skip


def test_failover_moves_the_instance(instance: AdminApi, call: Call, restarts: list[signal.Signals]) -> None:
    """Connections break; address and server certificate change, the CA stays."""
    before = call("GET", f"{INSTANCE}/connectSettings").json()
    with connected(instance) as connection:
        connection.sendall(startup_packet(USER))
        connection.recv(1000)
        old = connection.getpeercert(binary_form=True)
        operation = call("POST", f"{INSTANCE}/failover", {"failoverContext": {}}).json()
        assert (operation["operationType"], operation["status"]) == ("FAILOVER", "PENDING")
        assert "error" not in wait_until_done(call, operation)
        assert read_until_closed(connection) == b""
    after = call("GET", f"{INSTANCE}/connectSettings").json()

    assert restarts == [signal.SIGQUIT]
    assert after["ipAddresses"][0]["ipAddress"] == "127.0.0.3"
    assert after["serverCaCert"] == before["serverCaCert"]
    with connected(instance, "127.0.0.3") as connection:
        assert connection.getpeercert(binary_form=True) != old
    with pytest.raises(ConnectionRefusedError), connected(instance, "127.0.0.2"):
        pass


def test_restart_keeps_the_address(call: Call, api: AdminApi, restarts: list[signal.Signals]) -> None:
    """A restart sends SIGINT, PostgreSQL's fast shutdown."""
    operation = wait_until_done(call, call("POST", f"{INSTANCE}/restart").json())

    assert (operation["user"], restarts) == (layout.OPERATOR_ACCOUNT, [signal.SIGINT])
    with connected(api, "127.0.0.2"):
        pass


def test_operations_come_one_at_a_time(call: Call, directory: Path) -> None:
    """A second operation is refused until the first is done."""
    (directory / "cloudsql.json").write_text('{"restart": 0.1}')
    first = call("POST", f"{INSTANCE}/restart").json()

    assert error_of(call("POST", f"{INSTANCE}/failover")) == (409, "operationInProgress")
    wait_until_done(call, first)
    assert call("PATCH", INSTANCE, {}).status_code == 200


def test_failed_operation_tells_why(call: Call, api: AdminApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operation ends DONE with an error, and the port opens again."""

    async def restart(_: Postgres, __: signal.Signals) -> None:
        raise NotRunningError("PostgreSQL is not back")

    monkeypatch.setattr(Postgres, "restart", restart)
    operation = wait_until_done(call, call("POST", f"{INSTANCE}/restart").json())

    assert operation["error"]["errors"][0]["message"] == "PostgreSQL is not back"
    with connected(api):
        pass


def test_unknown_duration_is_told(call: Call, api: AdminApi, directory: Path) -> None:
    """A misspelt key is an error instead of being ignored."""
    (directory / "cloudsql.json").write_text('{"fail_over": 1}')
    operation = wait_until_done(call, call("POST", f"{INSTANCE}/failover").json())

    assert "unexpected keyword argument 'fail_over'" in operation["error"]["errors"][0]["message"]
    assert api.instance.address == "127.0.0.2"


def test_killed_stand_in_comes_back_as_it_was(call: Call, api: AdminApi, directory: Path) -> None:
    """CAs, address, settings and operations are kept; an operation that was running is reported as interrupted."""
    operation = wait_until_done(call, call("POST", f"{INSTANCE}/failover").json())
    wait_until_done(call, call("PATCH", INSTANCE, {"settings": {"tier": "db-f1-micro"}, "state": "MAINTENANCE"}).json())
    path = directory / "cloudsql" / "instance.json"
    kept = json.loads(path.read_text())
    # The file as it would be if the stand-in was killed during the failover.
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
