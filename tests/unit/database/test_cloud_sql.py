"""The Cloud SQL instance as read from recorded answers of the Admin API, and the proxies as read from pods."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fixtures.api.pods import Pod
from fixtures.database import cloud_sql
from fixtures.database.cloud_sql import Instance, Proxy, SqlAdmin, User, instance_of, proxies_of
from fixtures.environment.schema import CloudSqlTable
from fixtures.google.rest import GoogleApis
from fixtures.objects.manifest import Field
from fixtures.outcomes import NoVerdictError

RECORDED = Path("tests/unit/recorded/database")
LIVE = Path("tests/unit/recorded/live/local.yaml")
URL = "http://sqladmin.example/sql/v1beta4/projects/backstage-lab/instances/backstage"
NAME = "backstage-lab:us-east4:backstage"
SETTINGS = CloudSqlTable.model_validate(
    {"instance": NAME, "iam_user": "backstage@backstage-lab.iam", "databases": ("app",), "availability": "REGIONAL"}
)

Handler = Callable[[httpx.Request], httpx.Response]


def recorded(name: str) -> Any:  # noqa: ANN401 - JSON
    """A recorded answer of the lab's Admin API."""
    return json.loads((RECORDED / f"{name}.json").read_text())


def admin_of(handler: Handler) -> SqlAdmin:
    """A client of the instance whose Admin API is the given handler."""
    google = GoogleApis(lambda: "token", timeout=1, transport=httpx.MockTransport(handler))
    return SqlAdmin(google, "http://sqladmin.example", SETTINGS)


def as_recorded(request: httpx.Request) -> httpx.Response:
    """A handler that gives the lab's recorded answers."""
    answers = {URL: "instance", f"{URL}/users": "users", f"{URL}/databases": "databases"}
    return httpx.Response(200, json=recorded(answers[str(request.url)]))


def failing(status: int, message: str) -> Handler:
    """A handler that refuses every request with this status and message."""
    return lambda _: httpx.Response(status, json={"error": {"code": status, "message": message}})


def test_instance_is_read_as_it_is() -> None:
    """Every property that a promise is about is read from the instance."""
    assert admin_of(as_recorded).instance() == Instance(
        connection_name=NAME,
        state="RUNNABLE",
        activation_policy="ALWAYS",
        version="POSTGRES_15",
        availability="REGIONAL",
        backups=True,
        point_in_time_recovery=True,
        iam_logins=True,
        ssl_mode="TRUSTED_CLIENT_CERTIFICATE_REQUIRED",
        networks=(),
    )


def changed(**settings: object) -> Instance:
    """The recorded instance with other settings."""
    resource = copy.deepcopy(recorded("instance"))
    resource["settings"] |= settings
    return instance_of(Field(resource))


def test_instance_that_says_nothing_has_nothing() -> None:
    """A setting that the API leaves out is off."""
    bare = changed(backupConfiguration={}, databaseFlags=[], ipConfiguration={}, activationPolicy=None)

    assert (bare.backups, bare.point_in_time_recovery, bare.iam_logins) == (False, False, False)
    assert (bare.ssl_mode, bare.activation_policy) == ("", "")


def test_flag_that_is_off_is_off() -> None:
    """A database flag counts only if its value is on."""
    assert not changed(databaseFlags=[{"name": cloud_sql.IAM_FLAG, "value": "off"}]).iam_logins


@pytest.mark.parametrize(
    ("network", "is_open"), [("0.0.0.0/0", True), ("::/0", True), ("192.0.2.0/24", False), ("198.51.100.7", False)]
)
def test_network_of_everybody_is_told_from_others(network: str, *, is_open: bool) -> None:
    """Only a network that admits the whole internet is reported as open."""
    instance = changed(ipConfiguration={"authorizedNetworks": [{"value": network}]})

    assert instance.networks == (network,)
    assert instance.open_networks == ((network,) if is_open else ())


def test_users_and_databases_are_listed() -> None:
    """Users are listed with their types, and databases by name; the API leaves out type BUILT_IN."""
    admin = admin_of(as_recorded)

    assert User("backstage@backstage-lab.iam", "CLOUD_IAM_SERVICE_ACCOUNT") in admin.users()
    assert str(admin.users()[-1]) == "postgres (BUILT_IN)"
    assert "backstage_plugin_catalog" in admin.databases()


def test_instance_that_is_gone_is_a_broken_promise() -> None:
    """An answer of 404 breaks the promise."""
    with pytest.raises(AssertionError) as failed:
        admin_of(failing(404, "The Cloud SQL instance does not exist.")).instance()

    assert str(failed.value) == (
        f"expected: instance {NAME}\n"
        "seen: none\n"
        "look next: gcloud sql instances describe backstage --project=backstage-lab"
    )


def test_api_that_refuses_gives_no_verdict() -> None:
    """A refusal gives no verdict, as the suite's own identity lacks a role."""
    with pytest.raises(NoVerdictError, match="seen: 403 boss::NOT_AUTHORIZED"):
        admin_of(failing(403, "boss::NOT_AUTHORIZED")).instance()


def pod(**container: object) -> Pod:
    """A pod with one init container."""
    body = {"metadata": {"name": "portal-1"}, "spec": {"initContainers": [{"name": "proxy", **container}]}}
    return Pod(Field(body))


def test_proxy_of_the_reference_is_found() -> None:
    """The init container with an instance connection name among its arguments is the proxy."""
    live = [each for each in yaml.safe_load_all(LIVE.read_text()) if each["kind"] == "Deployment"]
    template = live[0]["spec"]["template"]
    running = Pod(Field({"metadata": {"name": "portal-1"}, "spec": template["spec"]}))

    assert proxies_of([running]) == (Proxy("portal-1", "cloud-sql-proxy", NAME, 5432),)


@pytest.mark.parametrize(
    ("container", "port"),
    [
        ({"args": [NAME]}, 5432),
        ({"args": [f"{NAME}?port=6432", "--port=5432"]}, 6432),
        ({"args": ["--port", "7432", NAME]}, 7432),
        ({"command": ["/cloud-sql-proxy", "-p", "8432", NAME]}, 8432),
        ({"env": [{"name": "CSQL_PROXY_INSTANCE_CONNECTION_NAME", "value": NAME}]}, 5432),
        ({"args": [NAME], "env": [{"name": "CSQL_PROXY_PORT", "value": "9432"}]}, 9432),
    ],
)
def test_proxy_is_found_however_it_is_told(container: dict[str, object], port: int) -> None:
    """Instance and port are read from arguments and from environment variables."""
    assert proxies_of([pod(**container)]) == (Proxy("portal-1", "proxy", NAME, port),)


@pytest.mark.parametrize("word", ["http://172.30.0.3:8091", "--token=a:b:c", "--http-address=0.0.0.0", "127.0.0.1:80"])
def test_other_words_with_colons_are_no_instance(word: str) -> None:
    """Other arguments with colons are not taken for an instance connection name."""
    assert proxies_of([pod(args=[word])]) == ()


def test_proxy_tells_where_it_leads() -> None:
    """A proxy is shown with its instance and its pod."""
    assert str(proxies_of([pod(args=["p:r:nonesuch"])])[0]) == "p:r:nonesuch in portal-1"
