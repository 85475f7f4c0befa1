"""SQL through the sidecar, without a server: login parameters, what the answers mean, how problems are reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

import pytest
from psycopg.conninfo import make_conninfo

from fixtures.api.port_forward import Tunnel
from fixtures.database import sql
from fixtures.database.sql import Database, Sessions, SqlError
from fixtures.outcomes import NoVerdictError

TUNNEL = cast("Tunnel", SimpleNamespace(host="127.0.0.1", port=40001, pod="portal-1", namespace="backstage"))
USER = "backstage@p.iam"
LOCATED = 'connection failed: connection to server at "127.0.0.1", port 40001 failed: '
CLOSED = """server closed the connection unexpectedly
\tThis probably means the server terminated abnormally
\tbefore or while processing the request.
"""
KUBELET = (
    "error forwarding port 5433 to pod 5b5b, uid : failed to execute portforward in network namespace "
    '"/var/run/netns/cni-dac9": failed to connect to localhost:5433 inside namespace "5b5b", IPv4: dial tcp4 '
    "127.0.0.1:5433: connect: connection refused IPv6 dial tcp6: address localhost: no suitable address found"
)
"""The kubelet's message with containerd 1.7."""

GOOD = Database("backstage_plugin_app", "portal-1", USER, "15.8", 4)


@pytest.mark.parametrize(
    ("database", "usable", "text"),
    [
        (GOOD, True, "backstage_plugin_app: 4 tables, as backstage@p.iam, PostgreSQL 15.8"),
        (
            Database("backstage_plugin_app", "portal-1", USER, "15.8", 0),
            False,
            "backstage_plugin_app: no table in a schema where backstage@p.iam may create one",
        ),
        (
            Database("backstage_plugin_app", "portal-1", USER, "15.8", 4, ("public.a", "public.b")),
            False,
            "backstage_plugin_app: 2 of 4 tables closed to backstage@p.iam, public.a first",
        ),
        (
            Database("backstage_plugin_app", "portal-1", USER, problem='FATAL: database "x" does not exist'),
            False,
            'backstage_plugin_app through portal-1: FATAL: database "x" does not exist',
        ),
    ],
    ids=["good", "no-table", "locked", "problem"],
)
def test_database_is_usable_if_backstage_could_work_with_it(database: Database, text: str, *, usable: bool) -> None:
    """A login is not enough: migrations need CREATE, and requests need read and write access to each table."""
    assert database.usable is usable
    assert str(database) == text


def test_summary_says_each_problem_once() -> None:
    """Databases with the same problem share one entry of the summary."""
    app, auth = (Database(name, "portal-1", USER, problem="FATAL: refused") for name in ("app", "auth"))
    empty = Database("search", "portal-1", USER, "15.8", 0)

    assert sql.summary([GOOD, app, auth, empty]) == (
        "3 are not: app through portal-1: FATAL: refused; "
        "search: no table in a schema where backstage@p.iam may create one"
    )


def test_sessions_tell_whose_they_are() -> None:
    """Sessions are shown with application, database and age."""
    assert str(Sessions("app", "backstage", 2, 1.4)) == "2 of backstage with app, last active 1 s ago"
    assert str(Sessions("app", "", 1, 0.0)) == "1 with app, last active 0 s ago"


def test_login_is_encrypted_by_the_proxy_and_helped_by_nothing_of_this_machine() -> None:
    """The login uses no local password, cannot write, and has a timeout for each wait."""
    parameters = sql.connection_parameters(TUNNEL, USER, "app", 15)

    assert make_conninfo(**parameters) == (
        "host=127.0.0.1 port=40001 user=backstage@p.iam dbname=app password='' passfile=/nonexistent sslmode=disable "
        "gssencmode=disable connect_timeout=15 application_name=backstage-acceptance "
        "options='-c default_transaction_read_only=on -c statement_timeout=15000'"
    )


@pytest.mark.parametrize(
    ("message", "refusal", "text"),
    [
        (f'{LOCATED}FATAL:  database "x"\n does not exist', "", 'FATAL: database "x" does not exist'),
        (f"{LOCATED}fe_sendauth: no password supplied", "", "fe_sendauth: no password supplied"),
        (f"{LOCATED}{CLOSED}", "", "server closed the connection unexpectedly"),
        (
            f"{LOCATED}{CLOSED}",
            KUBELET,
            "server closed the connection unexpectedly (dial tcp4 127.0.0.1:5433: connect: connection refused)",
        ),
        (CLOSED, "no such container", "server closed the connection unexpectedly (no such container)"),
        ("canceling statement due to statement timeout", "", "canceling statement due to statement timeout"),
    ],
)
def test_problem_is_said_in_one_line(message: str, refusal: str, text: str) -> None:
    """The server's or kubelet's message is reduced to one line, without what is the same in every message."""
    assert sql.error_text(message, refusal) == text


def failing(monkeypatch: pytest.MonkeyPatch, seen: str) -> None:
    """Make every login fail with this message."""

    @contextmanager
    def refused(*_: object, **__: object) -> Iterator[None]:
        raise SqlError("a session", seen, "kubectl logs")
        yield  # unreachable, but it makes this function a generator

    monkeypatch.setattr(sql, "login", refused)


def answering(monkeypatch: pytest.MonkeyPatch, *rows: tuple[object, ...]) -> None:
    """Make every query return these rows."""
    cursor = SimpleNamespace(fetchone=lambda: rows[0] if rows else None, fetchall=lambda: list(rows))

    @contextmanager
    def admitted(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(execute=lambda *_: cursor)

    monkeypatch.setattr(sql, "login", admitted)


@pytest.mark.parametrize(
    "words",
    [
        "fe_sendauth: no password supplied",
        'FATAL: Cloud SQL IAM service account authentication failed for user "intruder@p.iam"',
        'FATAL: password authentication failed for user "postgres"',
        'FATAL: role "nobody" does not exist',
        'FATAL: no pg_hba.conf entry for host "127.0.0.1", user "postgres"',
        'FATAL: role "reader" is not permitted to log in',
    ],
)
def test_refusal_is_known_by_its_words(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals are recognized by the texts of Cloud SQL, PostgreSQL and libpq."""
    failing(monkeypatch, words)

    assert sql.login_refusal(TUNNEL, "postgres", "app", within=1) == words


def test_login_that_fails_for_another_reason_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that fails because the sidecar is down gives no verdict."""
    failing(monkeypatch, "server closed the connection unexpectedly")

    with pytest.raises(NoVerdictError) as failed:
        sql.login_refusal(TUNNEL, "postgres", "app", within=1)

    assert str(failed.value) == (
        "expected: a session\nseen: server closed the connection unexpectedly\nlook next: kubectl logs"
    )


def test_user_who_gets_in_was_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A successful login gives an empty refusal."""
    answering(monkeypatch)

    assert sql.login_refusal(TUNNEL, "postgres", "app", within=1) == ""


def test_every_database_is_asked_through_every_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """The results are ordered by pod, then by database."""
    answering(monkeypatch, (USER, "15.8", 4, []))
    found = sql.read_databases([TUNNEL, TUNNEL], USER, ["app", "auth"], within=1)

    assert [(each.pod, each.name) for each in found] == [("portal-1", "app"), ("portal-1", "auth")] * 2
    assert all(each.usable for each in found)


def test_database_that_cannot_be_asked_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed login becomes the database's problem instead of an error, so that the others are still read."""
    failing(monkeypatch, "FATAL: permission denied")

    assert sql.read_database(TUNNEL, USER, "app", within=1).problem == "FATAL: permission denied"


def test_sessions_are_listed_by_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of pg_stat_activity's summary becomes one entry."""
    answering(monkeypatch, ("app", "backstage", 2, 0.5), ("auth", "", 1, 20.0))

    assert sql.read_sessions(TUNNEL, USER, "app", within=1) == (
        Sessions("app", "backstage", 2, 0.5),
        Sessions("auth", "", 1, 20.0),
    )


def test_nobody_listening_is_a_broken_promise_with_the_reason() -> None:
    """A tunnel that reaches the pod but no listener breaks the promise and shows the kubelet's reason."""
    closed = cast(
        "Tunnel",
        SimpleNamespace(
            host="127.0.0.1",
            port=1,
            pod="portal-1",
            namespace="backstage",
            refusal=KUBELET,
            raise_connection_error=lambda: None,
        ),
    )

    with pytest.raises(AssertionError) as failed, sql.login(closed, USER, "app", within=1):
        pass

    expected, seen, look_next = str(failed.value).splitlines()
    assert expected == "expected: a session of backstage@p.iam with app through portal-1"
    assert seen.startswith("seen: Connection refused")
    assert seen.endswith("(dial tcp4 127.0.0.1:5433: connect: connection refused)")
    assert look_next == "look next: kubectl -n backstage logs portal-1 --all-containers"
