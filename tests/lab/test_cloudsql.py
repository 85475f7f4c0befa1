"""SQL through the real cloud-sql-proxy with Backstage's Google account: who may log in, and what each fault shows.

Every test has a proxy of its own: the proxy limits its requests to the Admin API, so one that has just refreshed
twice, as after a fault, waits 30 s before it asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from google.oauth2.credentials import Credentials
from googleapiclient.errors import HttpError

from fixtures.api.client import GuardedClient
from fixtures.api.port_forward import Tunnel
from fixtures.waiting import wait_for
from tests.lab import clientpod
from tests.lab.conftest import Kubectl, Manifest

RECOVERY = 120.0
"""Seconds until a proxy finds the instance again; 3 to 8 were seen, and 30 where it must wait to ask."""

CUT = 60.0
"""Seconds until an open connection breaks; less than 2 were seen."""

pytestmark = pytest.mark.usefixtures("backstage_namespace")

Facts = dict[str, Any]
Fault = Callable[..., AbstractContextManager[None]]


@dataclass(frozen=True)
class Proxy:
    """A running cloud-sql-proxy and the local address that is forwarded to it."""

    pod: str
    address: tuple[str, int]
    user: str
    """The PostgreSQL user of the Google account that the proxy runs as."""
    database: str

    def log_in(self, user: str | None = None, within: int = 30) -> psycopg.Connection:
        """Open a connection; OperationalError if it is refused or not answered within these seconds."""
        host, port = self.address
        return psycopg.connect(
            host=host, port=port, user=user or self.user, dbname=self.database, connect_timeout=within, autocommit=True
        )


def current_user(connection: psycopg.Connection) -> str:
    """The user that PostgreSQL reports for a connection; the error's text if the query fails."""
    try:
        row = connection.execute("SELECT current_user::text").fetchone()
    except psycopg.OperationalError as error:
        return str(error)
    return str(row[0]) if row else "no row"


def current_user_of_new_connection(proxy: Proxy) -> str:
    """The same for a new connection; the error's text also if it cannot be opened."""
    try:
        with closing(proxy.log_in()) as connection:
            return current_user(connection)
    except psycopg.OperationalError as error:
        return str(error)


def wait_until_served(proxy: Proxy) -> None:
    """Wait until a new connection can be opened and answers as the proxy's user."""
    wait_for(
        f"SQL through pod {proxy.pod}",
        lambda: current_user_of_new_connection(proxy),
        until=lambda answer: answer == proxy.user,
        within=RECOVERY,
        look_next=f"kubectl -n {clientpod.BACKSTAGE} logs {proxy.pod}; python -m lab logs cloud-sql",
    )


def proxy_pod(facts: Facts) -> Manifest:
    """The cloud-sql-proxy sidecar of the reference deployment, in a pod of its own."""
    container = {
        "name": "cloud-sql-proxy",
        "image": "lab.local/cloud-sql-proxy:lab",
        "args": [
            facts["cloud_sql"]["instance"],
            "--port=5432",
            "--auto-iam-authn",
            "--structured-logs",
            "--health-check",
            "--http-address=0.0.0.0",
            f"--sqladmin-api-endpoint={facts['cloud_sql']['admin_api']}",
        ],
        "startupProbe": {"httpGet": {"path": "/startup", "port": 9090}, "periodSeconds": 1, "failureThreshold": 60},
    }
    return clientpod.pod(container, service_account=clientpod.BACKSTAGE)


@contextmanager
def running_proxy(kubectl: Kubectl, guarded: GuardedClient, facts: Facts) -> Iterator[Proxy]:
    """Start a proxy in a pod of its own, and yield it once it is Ready."""
    cloud_sql = facts["cloud_sql"]
    with clientpod.created(kubectl, clientpod.BACKSTAGE, proxy_pod(facts)) as pod:
        clientpod.wait_until_ready(kubectl, clientpod.BACKSTAGE, pod)
        with Tunnel(guarded, clientpod.BACKSTAGE, pod, 5432) as tunnel:
            yield Proxy(pod, (tunnel.host, tunnel.port), cloud_sql["iam_user"], cloud_sql["databases"][0])


@pytest.fixture
def proxy(kubectl: Kubectl, guarded: GuardedClient, facts: Facts) -> Iterator[Proxy]:
    """A proxy that serves SQL, and so has a client certificate for the instance already."""
    with running_proxy(kubectl, guarded, facts) as proxy:
        wait_until_served(proxy)
        yield proxy


@pytest.fixture
def connection(proxy: Proxy) -> Iterator[psycopg.Connection]:
    """An open, idle connection through the proxy."""
    with closing(proxy.log_in()) as connection:
        yield connection


def test_iam_user_logs_in_without_a_password(connection: psycopg.Connection, proxy: Proxy) -> None:
    """The proxy's Google account is the PostgreSQL user of that name."""
    assert current_user(connection) == proxy.user


def test_another_iam_user_is_refused(proxy: Proxy) -> None:
    """A user that is not the proxy's Google account is refused in Cloud SQL's words."""
    stranger = proxy.user.replace("backstage@", "intruder@")
    refusal = f'FATAL:  Cloud SQL IAM service account authentication failed for user "{stranger}"'

    with pytest.raises(psycopg.OperationalError, match=refusal):
        proxy.log_in(stranger).close()


@dataclass(frozen=True)
class Instance:
    """Reads and changes the instance by the Admin API, with the operator's rights."""

    admin: Any
    project: str
    name: str

    def get(self) -> dict[str, Any]:
        """The instance's resource as it is now."""
        resource: dict[str, Any] = self.admin.instances().get(project=self.project, instance=self.name).execute()
        return resource

    def set_flags(self, flags: list[dict[str, str]]) -> None:
        """Replace the database flags, and wait for the end of the operation."""
        body = {"settings": {"databaseFlags": flags}}
        begun = self.admin.instances().patch(project=self.project, instance=self.name, body=body).execute()
        wait_for(
            "the instance's flags to be changed",
            self.admin.operations().get(project=self.project, operation=begun["name"]).execute,
            until=lambda operation: operation["status"] == "DONE",
            within=RECOVERY,
            look_next="python -m lab logs cloud-sql",
        )

    @contextmanager
    def without_iam_logins(self) -> Iterator[None]:
        """Switch IAM authentication off for as long as the `with` block lasts."""
        flags = self.get()["settings"]["databaseFlags"]
        try:
            self.set_flags([])
            yield
        finally:
            self.set_flags(flags)


@pytest.fixture
def instance(facts: Facts, sql_admin: Callable[[Credentials], Any], operator: Credentials) -> Instance:
    """The lab's instance, with its operator's rights."""
    project, _, name = facts["cloud_sql"]["instance"].split(":")
    return Instance(sql_admin(operator), project, name)


def test_open_connection_survives_that_iam_logins_are_switched_off(
    connection: psycopg.Connection, proxy: Proxy, instance: Instance
) -> None:
    """Without IAM authentication new logins are refused, and open connections stay open."""
    refusal = f'Cloud SQL IAM service account authentication failed for user "{proxy.user}"'

    with instance.without_iam_logins():
        assert refusal in current_user_of_new_connection(proxy)
        assert current_user(connection) == proxy.user
    assert current_user_of_new_connection(proxy) == proxy.user


def test_proxy_with_a_certificate_survives_that_the_admin_api_refuses(
    connection: psycopg.Connection, proxy: Proxy, instance: Instance, fault: Fault
) -> None:
    """A proxy with a valid certificate needs the Admin API neither for open connections nor for new ones."""
    with fault("admin-api", "403"):
        with pytest.raises(HttpError):
            instance.get()
        assert current_user(connection) == proxy.user
        assert current_user_of_new_connection(proxy) == proxy.user


def test_new_proxy_names_the_permission_that_it_lacks(
    kubectl: Kubectl, guarded: GuardedClient, facts: Facts, fault: Fault
) -> None:
    """Without cloudsql.instances.connect the client is only cut off; the proxy's log has the reason."""
    with fault("admin-api", "403"), running_proxy(kubectl, guarded, facts) as proxy:
        with pytest.raises(psycopg.OperationalError, match="server closed the connection"):
            proxy.log_in().close()
        log = kubectl("logs", "--namespace", clientpod.BACKSTAGE, proxy.pod)

    assert "failed to connect to instance" in log
    assert "Possibly missing permission cloudsql.instances.connect" in log


@pytest.mark.parametrize(
    ("how", "symptom"), [("refused", "server closed the connection"), ("dropped", "timeout expired")]
)
def test_closed_database_port_fails_the_connect(how: str, symptom: str, proxy: Proxy, fault: Fault) -> None:
    """A new connection fails at once where the port refuses it, and times out where the port drops packets."""
    with fault("database-port", how), pytest.raises(psycopg.OperationalError, match=symptom):
        proxy.log_in(within=3).close()
    wait_until_served(proxy)


def test_stopped_database_is_told_apart(proxy: Proxy, fault: Fault) -> None:
    """Where only PostgreSQL is stopped, the error says so and is not that of an unreachable instance."""
    with fault("database-stopped"):
        assert "FATAL:  the database system is not accepting connections" in current_user_of_new_connection(proxy)
    wait_until_served(proxy)


def wait_until_cut(connection: psycopg.Connection) -> None:
    """Wait until the open connection is broken."""
    wait_for(
        "the open connection to be cut",
        lambda: current_user(connection),
        until=lambda _: connection.broken,
        within=CUT,
        look_next="python -m lab logs cloud-sql",
    )


def test_restart_cuts_connections_and_new_ones_are_served(
    connection: psycopg.Connection, proxy: Proxy, fault: Fault
) -> None:
    """A restart of the instance breaks open connections, and the same proxy serves new ones after it."""
    with fault("database-restarted"):
        wait_until_cut(connection)
    wait_until_served(proxy)


def test_failover_moves_the_instance_and_the_proxy_finds_it(
    connection: psycopg.Connection, proxy: Proxy, instance: Instance, fault: Fault
) -> None:
    """A failover breaks open connections and changes the address; the same proxy serves new ones after it."""
    # The lab's standby has an address of its own, so the move can be seen; Google's instance keeps its address.
    before = instance.get()["ipAddresses"]

    with fault("database-failed-over"):
        wait_until_cut(connection)
    wait_until_served(proxy)

    assert instance.get()["ipAddresses"] != before
