"""The lab's client of the Kubernetes API, and the queries that the stand-ins make with it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import yaml
from aiohttp import web

from lab import layout
from lab.google import metadata, rule_evaluator
from lab.google.secretmanager.provider import AUDIENCE, KubernetesCluster
from lab.kubernetes_api import MERGE, Api, Object


class ApiServer:
    """Gives scripted answers, the last of which repeats, and keeps the requests."""

    def __init__(self, *answers: Object | int | None) -> None:
        self.answers = list(answers)
        """An int is a status without a body; None closes the connection instead of answering."""
        self.received: list[tuple[str, str, str]] = []
        self.bodies: list[str] = []

    def application(self) -> web.Application:
        """One handler for every path."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        return application

    async def answer(self, request: web.Request) -> web.Response:
        """Record the request and give the next answer."""
        self.received.append((request.method, request.path_qs, request.content_type))
        self.bodies.append(await request.text())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, dict):
            return web.json_response(answer)
        if answer is None and request.transport is not None:
            request.transport.abort()
        return web.Response(status=answer or 200, text="")


Client = Callable[..., tuple[Api, ApiServer]]


@pytest.fixture
def client(serve: Callable[[web.Application], str]) -> Client:
    """Makes a client and the API server with these answers."""

    def make(*answers: Object | int | None) -> tuple[Api, ApiServer]:
        server = ApiServer(*answers)
        return Api(serve(server.application()), seconds=5), server

    return make


def test_kubeconfig_names_server_and_certificates(tmp_path: Path) -> None:
    """The format is kubeadm's; only the owner may read the file with the private key."""
    encoded = {name: base64.b64encode(f"{name}\n".encode()).decode() for name in ("ca", "certificate", "key")}
    cluster = {"server": "https://172.30.0.2:6443", "certificate-authority-data": encoded["ca"]}
    user = {"client-certificate-data": encoded["certificate"], "client-key-data": encoded["key"]}
    file = tmp_path / "load-balancer.conf"
    file.write_text(yaml.safe_dump({"clusters": [{"cluster": cluster}], "users": [{"user": user}]}))
    Api.from_kubeconfig(file)

    assert (tmp_path / "load-balancer.ca.pem").read_text() == "ca\n"
    assert (tmp_path / "load-balancer.client.pem").read_text() == "certificate\nkey\n"
    assert (tmp_path / "load-balancer.client.pem").stat().st_mode & 0o777 == 0o600


def test_certificate_that_is_not_there_yet_is_not_ready(tmp_path: Path) -> None:
    """The lab polls before kubeadm has written the certificate."""
    assert not Api("https://127.0.0.1:1", ca=tmp_path / "ca.crt", certificate=tmp_path / "client.crt").ready()


def test_closed_connection_is_asked_once_more(client: Client) -> None:
    """A read is safe to repeat."""
    api, server = client(None, {"kind": "Pod"})

    assert api.get("api/v1/namespaces/a/pods/b") == {"kind": "Pod"}
    assert len(server.received) == 2


def test_write_is_sent_once(client: Client) -> None:
    """The write may have succeeded although its response was lost."""
    api, server = client(None, {})

    with pytest.raises(requests.ConnectionError):
        api.create("api/v1/namespaces/a/events", {})
    assert len(server.received) == 1


def test_refusal_is_raised(client: Client) -> None:
    """Callers decide by the error's status."""
    api, _ = client(409)

    with pytest.raises(requests.HTTPError) as refused:
        api.patch("api/v1/namespaces/a/pods/b/status", {})
    assert refused.value.response is not None
    assert refused.value.response.status_code == 409


def test_patch_says_which_kind_it_is(client: Client) -> None:
    """A merge patch is the default."""
    api, server = client({})
    api.patch("api/v1/namespaces/a/pods/b", {"spec": {}})

    assert server.received == [("PATCH", "/api/v1/namespaces/a/pods/b", MERGE)]
    assert server.bodies == ['{"spec": {}}']


def test_watch_begins_at_the_version(client: Client) -> None:
    """It starts at this resourceVersion and yields each event."""
    event = {"type": "ADDED", "object": {"metadata": {"resourceVersion": "8"}}}
    api, server = client(event)

    assert list(api.watch("api/v1/secrets", "type=kubernetes.io/tls", "7")) == [event]
    assert "resourceVersion=7&fieldSelector=type%3Dkubernetes.io%2Ftls&timeoutSeconds=60" in server.received[0][1]


def test_address_leads_to_the_workload(client: Client) -> None:
    """The lookup goes from the pod to the annotation of its service account and skips hostNetwork pods."""
    pod = {"metadata": {"namespace": "a"}, "spec": {"serviceAccountName": "b", "nodeName": "node-1"}}
    on_node = {"metadata": {"namespace": "a"}, "spec": {"hostNetwork": True}}
    pods = {"items": [pod, on_node], "metadata": {"resourceVersion": "1"}}
    account = {"metadata": {"annotations": {metadata.ANNOTATION: layout.BACKSTAGE_ACCOUNT}}}
    api, server = client(pods, account)

    found = asyncio.run(metadata.Cluster(api).workload("10.244.1.2"))
    assert found == metadata.Workload("a/b", "node-1", layout.BACKSTAGE_ACCOUNT)
    assert "status.podIP%3D10.244.1.2%2Cstatus.phase%21%3DSucceeded" in server.received[0][1]


def test_token_leads_to_the_workload(client: Client) -> None:
    """A TokenReview with the workload pool's audience tells whose the token is."""
    user = {"username": "system:serviceaccount:a:b"}
    api, server = client({"status": {"authenticated": True, "user": user}}, {"status": {"error": "expired"}})
    cluster = KubernetesCluster(api)

    assert cluster.workload("good") == "a/b"
    assert json.loads(server.bodies[0])["spec"] == {"token": "good", "audiences": [AUDIENCE]}
    assert cluster.workload("expired") is None


def test_account_without_annotation_has_no_google_account(client: Client) -> None:
    """Without the annotation there is no Google account."""
    api, server = client({"metadata": {"name": "b"}})

    assert KubernetesCluster(api).google_account("a/b") is None
    assert server.received[0][1] == "/api/v1/namespaces/a/serviceaccounts/b"


def test_rules_are_none_before_the_operator_has_written_any(client: Client) -> None:
    """A missing ConfigMap means no rules; any other error is raised."""
    api, _ = client(404, {"data": {"a.yaml": "groups: []"}}, {}, 403)

    assert rule_evaluator.generated(api) == {}
    assert rule_evaluator.generated(api) == {"a.yaml": "groups: []"}
    assert rule_evaluator.generated(api) == {}
    with pytest.raises(requests.HTTPError):
        rule_evaluator.generated(api)
