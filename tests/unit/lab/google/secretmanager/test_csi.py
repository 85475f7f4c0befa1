"""The secret provider and the registrar, called as the CSI driver and the kubelet call them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from aiohttp import web

from lab import layout
from lab.google.iam import Iam
from lab.google.secretmanager import api as secretmanager
from lab.google.secretmanager import csi
from lab.google.secretmanager.provider import AUDIENCE, TOKENS, Provider, RpcError

SECRET = f"projects/{layout.PROJECT}/secrets/backstage-github-token"
LATEST = f"{SECRET}/versions/latest"
RESOLVED = f"projects/{layout.PROJECT_NUMBER}/secrets/backstage-github-token/versions"
MOUNT = "/v1alpha1.CSIDriverProvider/Mount"
NO_IDENTITY = "unable to obtain auth for mount: unable to obtain workload identity auth: "

SERVICE_PROTO = """
syntax = "proto3";
package v1alpha1;
message VersionRequest { string version = 1; }
message VersionResponse { string version = 1; string runtime_name = 2; string runtime_version = 3; }
message MountRequest { string attributes = 1; string permission = 4; }
message MountResponse { repeated ObjectVersion object_version = 1; repeated File files = 3; }
message File { string path = 1; int32 mode = 2; bytes contents = 3; }
message ObjectVersion { string id = 1; string version = 2; }
"""
"""The part of the driver's service.proto that the lab uses, with the original field numbers."""

API_PROTO = """
syntax = "proto3";
package pluginregistration;
message PluginInfo {
  string type = 1; string name = 2; string endpoint = 3; repeated string supported_versions = 4;
}
message RegistrationStatus { bool plugin_registered = 1; string error = 2; }
message RegistrationStatusResponse {}
message InfoRequest {}
"""
"""The kubelet's registration API, with the original field numbers."""

pytestmark = pytest.mark.usefixtures("faults")


@dataclasses.dataclass
class FakeCluster:
    """Accepts one token, that of Backstage's service account."""

    annotation: str | None = layout.BACKSTAGE_ACCOUNT

    def workload(self, token: str) -> str | None:
        """The workload of a valid token."""
        return layout.BACKSTAGE_WORKLOAD if token == "good" else None  # noqa: S105 -- not a real token

    def google_account(self, workload: str) -> str | None:
        """The Google account in the service account's annotation."""
        assert workload == layout.BACKSTAGE_WORKLOAD
        return self.annotation


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Directory with a fresh IAM and fresh secrets."""
    Iam(tmp_path).create()
    secretmanager.create(tmp_path)
    return tmp_path


@pytest.fixture
def cluster() -> FakeCluster:
    """The cluster that the provider asks."""
    return FakeCluster()


@pytest.fixture
def provider(directory: Path, cluster: FakeCluster, serve: Callable[[web.Application], str]) -> Provider:
    """A provider with its own Secret Manager stand-in."""
    return Provider(Iam(directory), cluster, serve(secretmanager.application(directory)))


def attributes(*entries: dict[str, object], token: str = "good") -> str:  # noqa: S107 -- not a real token
    """The attributes that the driver passes for a SecretProviderClass with these entries and a pod with this token."""
    tokens = {AUDIENCE: {"token": token, "expirationTimestamp": "2030-01-01T00:00:00Z"}}
    return json.dumps({"secrets": json.dumps(entries), TOKENS: json.dumps(tokens)})


def entry(resource: str = LATEST, **more: object) -> dict[str, object]:
    """An entry of the SecretProviderClass's `secrets`."""
    return {"resourceName": resource, "path": "github-token.txt", **more}


def refusal(provider: Provider, given: str) -> tuple[grpc.StatusCode, str]:
    """Code and message of the provider's refusal."""
    with pytest.raises(RpcError) as caught:
        provider.mount(given, "420")
    return caught.value.code, caught.value.message


def test_files_hold_the_resolved_versions(provider: Provider, directory: Path) -> None:
    """`latest` is reported as the number it resolves to; the mode comes from the entry, or else from the driver."""
    store = secretmanager.Store(directory)
    content = store.read()
    content["backstage-github-token"]["versions"].append(secretmanager.version(b"new"))
    store.write(content)

    files = provider.mount(attributes(entry(), entry(f"{SECRET}/versions/1", mode="0o400")), "420")

    assert [(file.version, file.wanted.mode) for file in files] == [(f"{RESOLVED}/2", 0o644), (f"{RESOLVED}/1", 0o400)]
    assert files[0].contents == b"new"


def test_yaml_octal_mode_is_octal(provider: Provider) -> None:
    """`mode: 0400` in YAML is octal; `fileName` names the file if there is no `path`."""
    text = f"- resourceName: {LATEST}\n  fileName: token\n  mode: 0400\n"
    given = json.dumps({**json.loads(attributes()), "secrets": text})

    [file] = provider.mount(given, "420")

    assert (file.wanted.file_name, file.wanted.path, file.wanted.mode) == ("token", "", 0o400)


def test_forged_token_has_no_identity(provider: Provider) -> None:
    """The API server's TokenReview decides."""
    expected = f"{NO_IDENTITY}unable to fetch identitybindingtoken: could not get idbindtoken token, status: 400"

    assert refusal(provider, attributes(entry(), token="forged")) == (grpc.StatusCode.PERMISSION_DENIED, expected)  # noqa: S106


def test_missing_token_is_refused(provider: Provider) -> None:
    """Without tokenRequests for the pool in its CSIDriver object, the driver passes no token."""
    expected = f"{NO_IDENTITY}unable to fetch SA token from driver: unable to obtain token from driver"

    given = json.dumps({"secrets": json.dumps([entry()])})

    assert refusal(provider, given) == (grpc.StatusCode.PERMISSION_DENIED, expected)


def test_annotation_without_binding_is_refused(provider: Provider, directory: Path) -> None:
    """The annotation names the account, but only the IAM binding allows the workload to use it."""
    policy = Iam(directory).policy()
    Iam(directory).write({**policy, "workloadIdentityUser": {}})
    denied = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
    expected = (
        f"{NO_IDENTITY}unable to fetch gcp service account token: rpc error: code = PermissionDenied desc = {denied}"
    )

    assert refusal(provider, attributes(entry())) == (grpc.StatusCode.PERMISSION_DENIED, expected)


def test_workload_without_annotation_acts_under_its_own_name(
    provider: Provider, cluster: FakeCluster, directory: Path
) -> None:
    """Without the annotation, the secret must be granted to the workload itself."""
    cluster.annotation = None
    given = attributes(entry())

    assert "secretmanager.versions.access" in refusal(provider, given)[1]
    member = f"{AUDIENCE}[{layout.BACKSTAGE_WORKLOAD}]"
    Iam(directory).write({**Iam(directory).policy(), "secrets": {"backstage-github-token": [member]}})
    assert provider.mount(given, "420")


def test_denied_secret_fails_the_volume(provider: Provider, faults: Path) -> None:
    """One refused secret fails the whole volume, and the message is that of Google's provider."""
    (faults / "secret-denied").write_text("backstage-github-token")

    given = attributes(entry(), entry(LATEST.replace("github", "slack"), path="slack.txt"))

    denied = f"Permission 'secretmanager.versions.access' denied for resource '{LATEST}' (or it may not exist)."
    expected = f"{{{LATEST}  github-token.txt}}: rpc error: code = PermissionDenied desc = {denied}"
    assert refusal(provider, given) == (grpc.StatusCode.INTERNAL, expected)


def test_disabled_version_is_refused(provider: Provider, directory: Path) -> None:
    """Google's FAILED_PRECONDITION keeps its code."""
    content = secretmanager.Store(directory).read()
    content["backstage-github-token"]["versions"][0]["state"] = "DISABLED"
    secretmanager.Store(directory).write(content)

    expected = f"code = FailedPrecondition desc = Secret Version [{RESOLVED}/1] is in DISABLED state."
    assert refusal(provider, attributes(entry()))[1].endswith(expected)


def test_unreachable_secret_manager_is_unavailable(directory: Path, cluster: FakeCluster) -> None:
    """A refused connection becomes the code Unavailable."""
    provider = Provider(Iam(directory), cluster, "http://127.0.0.1:1")

    assert "rpc error: code = Unavailable" in refusal(provider, attributes(entry()))[1]


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        ("- {resourceName: x, extractJSONKey: y}", "not in the lab: extractJSONKey"),
        ("- {path: x}", "resourceName"),
        ("- {resourceName: x, mode: rw}", "rw"),
        ("- {", "flow"),
        ("", "iterable"),
    ],
)
def test_class_that_is_not_understood_is_refused(provider: Provider, secrets: str, message: str) -> None:
    """Unsupported fields are an error, not ignored."""
    code, text = refusal(provider, json.dumps({**json.loads(attributes()), "secrets": secrets}))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("failed to unmarshal secrets attribute: ")
    assert message in text


def test_fault_makes_the_provider_unavailable(provider: Provider, faults: Path) -> None:
    """The outage looks like a closed socket and ends with the fault."""
    fault = faults / "secret-provider"
    fault.write_text("down")

    assert refusal(provider, attributes(entry()))[0] is grpc.StatusCode.UNAVAILABLE
    fault.unlink()
    assert provider.mount(attributes(entry()), "420")


@pytest.fixture(scope="session")
def messages(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModuleType, ModuleType]:
    """The compiled messages of provider and registration."""
    directory = tmp_path_factory.mktemp("protos")
    (directory / "service.proto").write_text(SERVICE_PROTO)
    (directory / "api.proto").write_text(API_PROTO)
    return csi.compile_protos([directory])


@pytest.fixture
def kubelet() -> Iterator[Path]:
    """Kubelet directory of a node, which does not exist yet."""
    # Not below tmp_path, as the path of a Unix socket is limited to 107 bytes.
    with tempfile.TemporaryDirectory(prefix="csi-") as directory:
        yield Path(directory) / "node-1" / "kubelet"


@pytest.fixture
def node(kubelet: Path, provider: Provider, messages: tuple[ModuleType, ModuleType]) -> Iterator[csi.Node]:
    """The provider's and the registrar's sockets on one node."""
    service, api = messages
    node = csi.Node(kubelet, csi.provider_methods(service, provider), api)
    yield node
    node.close()


def listening(path: Path) -> socket.socket:
    """A listening socket in the driver's place."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def call(path: Path, method: str, request: csi.Message, answer: type[csi.Message]) -> Any:  # noqa: ANN401 -- a protobuf message
    """The response of the service on this socket."""
    with grpc.insecure_channel(f"unix://{path}") as channel:
        stub = channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        return stub(request, timeout=10, wait_for_ready=True)


def test_driver_mounts_over_the_socket(
    node: csi.Node, kubelet: Path, messages: tuple[ModuleType, ModuleType], faults: Path
) -> None:
    """Files and resolved versions are returned as messages, refusals as a gRPC status."""
    service, _ = messages
    kubelet.mkdir(parents=True)
    node.refresh()
    path = kubelet / "plugins/gke-providers/gke.sock"
    request = service.MountRequest(attributes=attributes(entry()), permission="420")

    answer = call(path, MOUNT, request, service.MountResponse)

    assert [(file.path, file.mode) for file in answer.files] == [("github-token.txt", 0o644)]
    assert [(object_.id, object_.version) for object_ in answer.object_version] == [(LATEST, f"{RESOLVED}/1")]
    (faults / "secret-provider").write_text("down")
    with pytest.raises(grpc.RpcError) as caught:
        call(path, MOUNT, request, service.MountResponse)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_driver_is_registered_while_it_answers(
    node: csi.Node, kubelet: Path, messages: tuple[ModuleType, ModuleType]
) -> None:
    """The registration socket exists only while the driver responds, and is recreated after a restart."""
    _, api = messages
    registration = kubelet / f"plugins_registry/{csi.DRIVER}-reg.sock"
    driver = kubelet / csi.DRIVER_SOCKET
    driver.parent.mkdir(parents=True)
    node.refresh()
    assert not registration.exists()

    with listening(driver):
        node.refresh()
        info = call(registration, "/pluginregistration.Registration/GetInfo", api.InfoRequest(), api.PluginInfo)
        assert (info.name, info.endpoint) == (csi.DRIVER, f"/var/lib/kubelet/{csi.DRIVER_SOCKET}")
    node.refresh()
    assert not registration.exists()
    driver.unlink()
    with listening(driver):
        node.refresh()
        assert registration.exists()


def test_sockets_return_with_the_node(node: csi.Node, kubelet: Path) -> None:
    """A rebuilt node has a new, empty kubelet directory, and the provider's socket returns to it."""
    path = kubelet / "plugins/gke-providers/gke.sock"
    node.refresh()
    assert not kubelet.exists()
    for _ in range(2):
        kubelet.mkdir(parents=True)
        node.refresh()
        assert csi.answers(path)
        shutil.rmtree(kubelet)
        node.refresh()
        assert not kubelet.exists()
