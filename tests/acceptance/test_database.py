"""Promise database: the instance is as agreed, and Backstage's queries reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fixtures.api.client import GuardedClient
from fixtures.api.pods import Pod
from fixtures.api.port_forward import Tunnel
from fixtures.database import cloud_sql, seen_by_users, sql
from fixtures.database.cloud_sql import Instance, Proxy, SqlAdmin
from fixtures.database.seen_by_users import Evidence
from fixtures.environment.environment import Environment
from fixtures.environment.timeouts import Timeouts
from fixtures.google.rest import GoogleApis
from fixtures.metrics.promql import PromQl
from fixtures.outcomes import RUNBOOK, said
from fixtures.portal.client import Portal
from fixtures.reference.reference import Reference
from fixtures.report.check import Check
from fixtures.waiting import wait_for


@pytest.fixture(scope="module")
def admin(google: GoogleApis, environment: Environment) -> SqlAdmin:
    """Client of the Cloud SQL Admin API for the environment's instance."""
    return SqlAdmin(google, environment.google.sql_admin, environment.cloud_sql)


@pytest.fixture(scope="module")
def instance(admin: SqlAdmin) -> Instance:
    """The environment's Cloud SQL instance, as the Admin API describes it."""
    return admin.instance()


def test_instance_is_running(instance: Instance, admin: SqlAdmin) -> None:
    """The database runs, and is set to keep running."""
    seen = f"{instance.state}, activation policy {instance.activation_policy}"

    assert seen == "RUNNABLE, activation policy ALWAYS", said(
        "RUNNABLE, activation policy ALWAYS", seen, admin.describe
    )


def test_instance_is_the_agreed_one(instance: Instance, environment: Environment, admin: SqlAdmin) -> None:
    """The database has the agreed version, and a standby if one was agreed."""
    agreed = environment.cloud_sql
    version = agreed.version or "POSTGRES_"

    assert instance.version.startswith(version), said(f"version {version}", instance.version, admin.describe)
    assert instance.availability == agreed.availability, said(
        f"availability {agreed.availability}", instance.availability or "none", admin.describe
    )


def test_instance_can_be_restored(instance: Instance, admin: SqlAdmin) -> None:
    """Lost data can be restored: backups are automatic, and any point in time can be recovered."""
    assert instance.backups, said("automated backups", "none", admin.describe)
    assert instance.point_in_time_recovery, said("point-in-time recovery", "off", admin.describe)


def test_instance_admits_only_whom_it_should(instance: Instance, admin: SqlAdmin) -> None:
    """The database accepts IAM logins, requires encryption, and is not open to the whole internet."""
    assert instance.iam_logins, said(f"flag {cloud_sql.IAM_FLAG} on", "off", admin.describe)
    assert instance.ssl_mode in cloud_sql.ENCRYPTED, said(
        f"sslMode {' or '.join(cloud_sql.ENCRYPTED)}", instance.ssl_mode or "none", admin.describe
    )
    assert not instance.open_networks, said(
        "no authorized network that is everybody", ", ".join(instance.open_networks), admin.describe
    )


def test_proxies_lead_to_this_instance(
    instance: Instance, environment: Environment, pods: tuple[Pod, ...], deployed: Reference
) -> None:
    """Every replica connects to the one database that it should use."""
    wanted = environment.cloud_sql.instance
    proxies = cloud_sql.proxies_of(pods)
    look_next = f"kubectl -n {deployed.the('Deployment').namespace} describe pod {pods[0].name}"

    assert instance.connection_name == wanted, said(f"connection name {wanted}", instance.connection_name, look_next)
    assert {each.pod for each in proxies} == {pod.name for pod in pods}, said(
        "a proxy in each pod", "; ".join(map(str, proxies)) or "none", look_next
    )
    assert {each.instance for each in proxies} == {wanted}, said(
        f"proxies to {wanted}", "; ".join(map(str, proxies)), look_next
    )


def test_user_and_databases_exist(admin: SqlAdmin, environment: Environment) -> None:
    """Backstage's own database user and all its databases are there."""
    wanted, users, names = environment.cloud_sql, admin.users(), admin.databases()
    missing = sorted(set(wanted.databases) - set(names))

    assert any(each.name == wanted.iam_user and each.kind in cloud_sql.IAM_USER_TYPES for each in users), said(
        f"user {wanted.iam_user} of IAM", ", ".join(map(str, users)) or "none", admin.users_command
    )
    assert not missing, said(f"databases {', '.join(wanted.databases)}", f"no {', '.join(missing)}", admin.describe)


@pytest.fixture
def use(portal: Portal, google: GoogleApis, environment: Environment, deployed: Reference) -> Evidence:
    """Whether the database works for users, from the first source that this run can read."""

    def sources() -> Iterator[Evidence]:
        yield seen_by_users.by_catalog(portal)
        promql = PromQl(google, environment.google, deployed.the("PodMonitoring"))
        yield seen_by_users.by_operations(promql, environment.metrics.database_operations)

    return seen_by_users.first_conclusive(
        sources(), "[portal] auth and [metrics] database_operations of the environment"
    )


def test_database_works_for_users(use: Evidence, check: Check, deployed: Reference) -> None:
    """The portal answers its users from its database."""
    check.decided_by(use.source)
    deployment = deployed.the("Deployment")
    look_next = f"kubectl -n {deployment.namespace} logs deployment/{deployment.name} --all-pods --all-containers"

    assert use.works, said("answers from the database", use, look_next)


@pytest.fixture
def proxies(pods: tuple[Pod, ...], deployed: Reference) -> tuple[Proxy, ...]:
    """The database proxies of the Ready pods; there is at least one."""
    deployment = deployed.the("Deployment")
    found = cloud_sql.proxies_of(pod for pod in pods if pod.ready)
    assert found, said(
        f"Ready pods of {deployment} with a proxy",
        ", ".join(map(str, pods)),
        f"kubectl -n {deployment.namespace} get pods",
    )
    return found


@pytest.fixture
def tunnels(client: GuardedClient, proxies: tuple[Proxy, ...], deployed: Reference) -> Iterator[tuple[Tunnel, ...]]:
    """A port-forward to each proxy."""
    namespace = deployed.the("Deployment").namespace
    with ExitStack() as open_tunnels:
        yield tuple(open_tunnels.enter_context(Tunnel(client, namespace, each.pod, each.port)) for each in proxies)


@pytest.mark.needs("connect")
def test_every_database_is_usable_through_every_sidecar(
    tunnels: tuple[Tunnel, ...], instance: Instance, environment: Environment, timeouts: Timeouts, check: Check
) -> None:
    """Each replica reaches each of Backstage's databases as Backstage's own user, without a password."""
    wanted = environment.cloud_sql
    found = sql.read_databases(tunnels, wanted.iam_user, wanted.databases, within=timeouts.sql_query)
    unusable = [each for each in found if not each.usable]
    look_next = f"kubectl -n {tunnels[0].namespace} logs {(unusable or found)[0].pod} --all-containers"

    assert not unusable, said(f"{len(found)} databases to be usable", sql.summary(found), look_next)
    assert {each.user for each in found} == {wanted.iam_user}, said(f"user {wanted.iam_user}", found[0], look_next)
    assert {f"POSTGRES_{each.version.split('.')[0]}" for each in found} == {instance.version}, said(
        f"{instance.version}, as the Admin API says", found[0], look_next
    )
    check.measured("databases usable", len(found), "")


@pytest.mark.needs("connect")
def test_backstage_is_connected(tunnels: tuple[Tunnel, ...], environment: Environment, timeouts: Timeouts) -> None:
    """Backstage itself holds connections to its databases."""
    tunnel, wanted = tunnels[0], environment.cloud_sql

    wait_for(
        "sessions of Backstage's own in pg_stat_activity",
        lambda: sql.read_sessions(tunnel, wanted.iam_user, wanted.databases[0], within=timeouts.sql_query),
        until=lambda sessions: any(each.database in wanted.databases for each in sessions),
        within=timeouts.sql_query,
        look_next=f"kubectl -n {tunnel.namespace} logs {tunnel.pod} --all-containers",
        describe=lambda sessions: "; ".join(map(str, sessions)) or "none",
    )


@pytest.mark.needs("connect")
def test_another_user_is_refused(tunnels: tuple[Tunnel, ...], environment: Environment, timeouts: Timeouts) -> None:
    """Backstage's identity opens Backstage's own account in the database and no other."""
    tunnel, wanted = tunnels[0], environment.cloud_sql
    refusal = sql.login_refusal(tunnel, wanted.other_user, wanted.databases[0], within=timeouts.sql_query)

    assert refusal, said(
        f"user {wanted.other_user} to be refused", "admitted without a password", f"{RUNBOOK}#database"
    )
