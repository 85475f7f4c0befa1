"""The guarded client: a forbidden request is never sent, whichever API of the library makes it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3
import yaml
from kubernetes.client import ApiClient, ApiException, AppsV1Api, CoreV1Api
from kubernetes.stream import portforward, stream
from kubernetes.watch import Watch

from fixtures.api.client import GuardedClient, connect
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import ForbiddenByEnvironmentError, Namespaces
from fixtures.outcomes import NoVerdictError
from tests.unit.apiserver import Answer, Request, Server, as_json, serving

NAMESPACES = Namespaces(deployment="backstage", route="backstage", gateway="mcp")
POD = {"metadata": {"name": "a", "namespace": "backstage"}}


@pytest.fixture
def server() -> Iterator[Server]:
    """API server that answers every request with the same pod."""
    with serving(lambda _: as_json(POD)) as server:
        yield server


def client_of(server: Server, *permissions: str, impersonate: str = "", timeout: float = 5) -> GuardedClient:
    """Client of an environment that has these permissions."""
    guard = Guard(frozenset(permissions), NAMESPACES)
    return GuardedClient(server.configuration(), guard, impersonate=impersonate, timeout=timeout)


def run_id(client: ApiClient) -> str:
    """Exec `id` in a container."""
    return stream(CoreV1Api(client).connect_get_namespaced_pod_exec, "a", "backstage", command=["id"])


FORBIDDEN: dict[str, Callable[[GuardedClient], object]] = {
    "create pods/exec in backstage": lambda c: CoreV1Api(c).connect_post_namespaced_pod_exec("a", "backstage"),
    "get pods/exec in backstage": run_id,
    "get pods/portforward in backstage": lambda c: portforward(
        CoreV1Api(c).connect_get_namespaced_pod_portforward, "a", "backstage", ports="5432"
    ),
    "patch deployments.apps in backstage": lambda c: AppsV1Api(c).patch_namespaced_deployment("a", "backstage", {}),
    "delete pods in backstage": lambda c: CoreV1Api(c).delete_namespaced_pod("a", "backstage"),
    "patch nodes": lambda c: CoreV1Api(c).patch_node("node-1", {}),
    "list secrets in backstage": lambda c: CoreV1Api(c).list_namespaced_secret("backstage"),
    "watch secrets in backstage": lambda c: list(Watch().stream(CoreV1Api(c).list_namespaced_secret, "backstage")),
    "list pods in kube-system": lambda c: CoreV1Api(c).list_namespaced_pod("kube-system"),
    "get secrets in backstage": lambda c: CoreV1Api(c).read_namespaced_secret("a", "backstage"),
    "create pods in backstage": lambda c: c.rest_client.POST(  # type: ignore[attr-defined] # the stubs know only the name
        f"{c.configuration.host}/api/v1/namespaces/backstage/pods",
        body={},
    ),
}


@pytest.mark.parametrize(("seen", "send"), FORBIDDEN.items(), ids=FORBIDDEN)
def test_refused_request_does_not_leave(server: Server, seen: str, send: Callable[[GuardedClient], object]) -> None:
    """No connection is opened, whether by a typed call, a watch, a websocket or the REST client itself."""
    with pytest.raises(ForbiddenByEnvironmentError, match=f"seen: {seen}, which "):
        send(client_of(server, "observe"))

    assert server.connections == 0


def test_allowed_request_leaves(server: Server) -> None:
    """A request that the permissions allow reaches the server unchanged."""
    pod = CoreV1Api(client_of(server, "observe")).read_namespaced_pod("a", "backstage")

    assert pod.metadata is not None
    assert pod.metadata.name == "a"
    assert [(request.method, request.path) for request in server.requests] == [
        ("GET", "/api/v1/namespaces/backstage/pods/a")
    ]


def test_request_to_another_server_is_refused(server: Server) -> None:
    """A client sends requests, with its credentials, only to the API server of its environment."""
    with pytest.raises(ForbiddenByEnvironmentError) as refused:
        client_of(server, "observe").call_api("/version", "GET", _host="https://elsewhere.test")  # type: ignore[attr-defined]

    assert str(refused.value) == (
        f"expected: requests to the environment's API server, {server.url}; seen: https://elsewhere.test/version; "
        "look next: the caller"
    )


def test_server_may_have_a_path_of_its_own(server: Server) -> None:
    """The guard reads paths relative to the server's URL: GKE's Connect gateway serves the API below a prefix."""
    client = client_of(server, "observe")
    client.configuration.host += "/v1/projects/1/gkeMemberships/prod"

    CoreV1Api(client).read_namespaced_pod("a", "backstage")
    with pytest.raises(ForbiddenByEnvironmentError, match="seen: list secrets in backstage"):
        CoreV1Api(client).list_namespaced_secret("backstage")

    assert [request.path for request in server.requests] == [
        "/v1/projects/1/gkeMemberships/prod/api/v1/namespaces/backstage/pods/a"
    ]


def test_websocket_that_is_allowed_leaves(server: Server) -> None:
    """With connect an exec reaches the server; a rejected handshake raises ApiException, not a websocket error."""
    client = client_of(server, "observe", "connect")

    with pytest.raises(ApiException, match="Handshake status 200 OK"):
        run_id(client)
    CoreV1Api(client).read_namespaced_pod("a", "backstage")

    assert [(request.path, request.headers.get("Upgrade")) for request in server.requests] == [
        ("/api/v1/namespaces/backstage/pods/a/exec?command=id", "websocket"),
        ("/api/v1/namespaces/backstage/pods/a", None),
    ]


def test_requests_of_other_threads_stay_requests_while_a_websocket_is_opened() -> None:
    """The library replaces the sender of the whole client, so a Lease renewed meanwhile must not become a websocket."""
    opening, renewed = threading.Event(), threading.Event()

    def refused_exec(client: ApiClient) -> None:
        with contextlib.suppress(ApiException):  # the server knows no websockets
            run_id(client)

    def script(request: Request) -> Answer:
        if "Upgrade" in request.headers:
            opening.set()
            renewed.wait(5)  # the handshake is in progress while the other thread sends its request
        return as_json(POD)

    with serving(script) as server:
        client = client_of(server, "observe", "connect")
        thread = threading.Thread(target=refused_exec, args=[client])
        thread.start()
        opening.wait(5)
        CoreV1Api(client).read_namespaced_pod("a", "backstage")
        renewed.set()
        thread.join()
        CoreV1Api(client).read_namespaced_pod("b", "backstage")

    assert [request.headers.get("Upgrade") for request in server.requests] == ["websocket", None, None]


def test_impersonated_user_is_told_to_the_server(server: Server) -> None:
    """The header Impersonate-User is sent, so an admin can run the suite with an observer's rights."""
    CoreV1Api(client_of(server, "observe", impersonate="jane")).read_namespaced_pod("a", "backstage")

    assert server.requests[0].headers["Impersonate-User"] == "jane"


def test_websocket_does_not_run_as_the_admin_behind_an_impersonated_user(server: Server) -> None:
    """The library sends no Impersonate-User on websockets, so they are refused: they would have the admin's rights."""
    with pytest.raises(ForbiddenByEnvironmentError) as refused:
        run_id(client_of(server, "connect", impersonate="jane"))

    assert server.connections == 0
    assert str(refused.value) == (
        "expected: exec and port-forward under an identity's own kubeconfig; seen: get pods/exec in backstage as the "
        "impersonated jane, whose name the client library leaves out of websockets; "
        "look next: `make rbac`, which writes one kubeconfig per identity"
    )


def test_redirect_is_not_followed(tmp_path: Path) -> None:
    """A redirect is returned as an error: following it would bypass the guard."""
    with serving(lambda _: Answer(302, "", {"Location": "/api/v1/namespaces/backstage/secrets/a"})) as server:
        client = connect(Guard(frozenset({"observe"}), NAMESPACES), kubeconfig=kubeconfig(tmp_path, server.url))
        with pytest.raises(ApiException) as failed:
            CoreV1Api(client).read_namespaced_pod("a", "backstage")

    assert failed.value.status == 302
    assert len(server.requests) == 1


def test_silent_server_is_given_up() -> None:
    """The client has a default timeout for requests to which the caller gives none."""
    ended = threading.Event()

    def silent(_: Request) -> Answer:
        ended.wait(5)
        return as_json(POD)

    with serving(silent) as server:
        client = client_of(server, "observe", timeout=0.05)
        client.configuration.retries = 0  # otherwise urllib3 repeats the request three times
        with pytest.raises(urllib3.exceptions.HTTPError):
            CoreV1Api(client).read_namespaced_pod("a", "backstage")
        ended.set()


def test_watch_may_be_silent_for_longer_than_a_request() -> None:
    """The default timeout does not apply to a watch, which is silent while nothing changes."""
    event = '{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n'

    def slow(_: Request) -> Answer:
        threading.Event().wait(0.15)  # three times the timeout of a request
        return Answer(200, event)

    with serving(slow) as server:
        core = CoreV1Api(client_of(server, "observe", timeout=0.05))
        events = list(Watch().stream(core.list_namespaced_pod, "backstage", timeout_seconds=1))

    assert len(events) == 1


def kubeconfig(directory: Path, server: str) -> Path:
    """Path of a kubeconfig whose only context is `lab`."""
    path = directory / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "lab", "cluster": {"server": server}}],
                "users": [{"name": "observer", "user": {"token": "t"}}],
                "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "observer"}}],
                "current-context": "lab",
            }
        )
    )
    return path


def test_client_takes_server_and_identity_from_a_kubeconfig(tmp_path: Path, server: Server) -> None:
    """The client uses the context that is named, or else the current one."""
    guard = Guard(frozenset({"observe"}), NAMESPACES)
    for context in (None, "lab"):
        client = connect(guard, kubeconfig=kubeconfig(tmp_path, server.url), context=context)
        CoreV1Api(client).read_namespaced_pod("a", "backstage")

    assert [request.headers["authorization"] for request in server.requests] == ["Bearer t", "Bearer t"]


def test_absent_kubeconfig_is_one_sentence(tmp_path: Path) -> None:
    """The message names the path."""
    path = tmp_path / "absent"

    with pytest.raises(NoVerdictError) as failed:
        connect(Guard(frozenset(), NAMESPACES), kubeconfig=path)

    assert str(failed.value) == (
        f"expected: a kubeconfig at {path}; seen: Invalid kube-config file. No configuration found.; "
        "look next: `[cluster]` of the environment file"
    )


def test_unknown_context_is_one_sentence(tmp_path: Path) -> None:
    """The message names the context."""
    path = kubeconfig(tmp_path, "https://example.test")

    with pytest.raises(NoVerdictError) as failed:
        connect(Guard(frozenset(), NAMESPACES), kubeconfig=path, context="prod")

    assert str(failed.value) == (
        f"expected: a kubeconfig at {path} with context prod; seen: Invalid kube-config file. "
        f"Expected object with name prod in {path}/contexts list; look next: `[cluster]` of the environment file"
    )


def test_login_plugin_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """GKE's kubeconfigs name an exec plugin; without it the library would only log, and send anonymous requests."""
    path = kubeconfig(tmp_path, "https://example.test")
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "absent-plugin", "interactiveMode": "Never"}
    path.write_text(path.read_text().replace("token: t", f"exec: {json.dumps(plugin)}"))

    with pytest.raises(NoVerdictError) as failed:
        connect(Guard(frozenset(), NAMESPACES), kubeconfig=path)

    assert str(failed.value) == (
        f"expected: a kubeconfig at {path}; seen: [Errno 2] No such file or directory: 'absent-plugin'; "
        "look next: `[cluster]` of the environment file"
    )


def test_default_kubeconfig_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path the library looks in its default place, and the message says so."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "absent"))

    with pytest.raises(NoVerdictError, match="expected: a kubeconfig at the default place; seen: "):
        connect(Guard(frozenset(), NAMESPACES))


def test_identity_of_the_pod_needs_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a cluster `in_cluster` ends the run without a verdict."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(NoVerdictError) as failed:
        connect(Guard(frozenset(), NAMESPACES), in_cluster=True)

    assert str(failed.value) == (
        "expected: the identity of the pod that the suite runs in; seen: Service host/port is not set.; "
        "look next: `[cluster]` of the environment file"
    )
