"""What GKE's secret provider decides: which files a pod's volume has, and in whose name they are read.

As on GKE the pod's own token decides: it is traded for the Google account that the pod may act as, and Secret
Manager is asked in that name. Texts of errors are those of Google's provider.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import grpc
import requests
import yaml

from lab import layout
from lab.google import faults
from lab.google.iam import CLOUD_PLATFORM, Iam
from lab.kubernetes_api import Api

AUDIENCE = f"{layout.PROJECT}.svc.id.goog"
"""Of the pod's token: the project's workload identity pool."""
ANNOTATION = "iam.gke.io/gcp-service-account"
TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"
SECRET_VERSION = re.compile(r"projects/[^/]+/secrets/[^/]+/versions/[^/]+$")
KEYS = {"resourceName", "fileName", "path", "mode"}

PROVIDER_DOWN = (
    'connection error: desc = "transport: Error while dialing: '
    'dial unix /providers/gke.sock: connect: connection refused"'
)
"""What the driver would say if nobody listened."""


class RpcError(Exception):
    """An answer other than OK; as text it looks as Go prints it."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        name = "".join(word.capitalize() for word in self.code.name.split("_"))
        return f"rpc error: code = {name} desc = {self.message}"


class Cluster(Protocol):
    """What the provider asks the API server."""

    def workload(self, token: str) -> str | None:
        """`namespace/service-account` that the token speaks for; None if it is not valid for `AUDIENCE`."""

    def google_account(self, workload: str) -> str | None:
        """The Google account in the service account's annotation."""


class KubernetesCluster:
    """The lab's cluster, by its API; what it does not answer raises `requests.RequestException`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def workload(self, token: str) -> str | None:
        """See `Cluster`."""
        spec = {"token": token, "audiences": [AUDIENCE]}
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        status = self._api.create("apis/authentication.k8s.io/v1/tokenreviews", review).get("status", {})
        username: str = status.get("user", {}).get("username", "")
        if not (status.get("authenticated") and username):
            return None
        return username.removeprefix("system:serviceaccount:").replace(":", "/")

    def google_account(self, workload: str) -> str | None:
        """See `Cluster`."""
        namespace, name = workload.split("/")
        account = self._api.get(f"api/v1/namespaces/{namespace}/serviceaccounts/{name}")
        annotated: str | None = account["metadata"].get("annotations", {}).get(ANNOTATION)
        return annotated


@dataclass(frozen=True)
class Wanted:
    """An entry of the SecretProviderClass's `secrets`."""

    resource: str
    file_name: str
    path: str
    mode: int


@dataclass(frozen=True)
class Mounted:
    """A file of the volume and the secret version that it holds."""

    wanted: Wanted
    version: str
    """Full name of the version, resolved."""
    contents: bytes


class Provider:
    """Turns a volume's attributes into files."""

    def __init__(self, iam: Iam, cluster: Cluster, secret_manager: str) -> None:
        self._iam, self._cluster, self._secret_manager = iam, cluster, secret_manager
        self._http = requests.Session()

    def mount(self, attributes: str, permission: str) -> list[Mounted]:
        """All files, or none: RpcError names every secret that could not be read."""
        if faults.argument("secret-provider") is not None:
            raise RpcError(grpc.StatusCode.UNAVAILABLE, PROVIDER_DOWN)
        parameters: dict[str, str] = json.loads(attributes)
        wanted = parse_secrets(parameters, int(permission))
        token = self._access_token(parameters)
        mounted, problems = [], []
        for secret in wanted:
            try:
                mounted.append(self._access(secret, token))
            except RpcError as error:
                problems.append(f"{{{secret.resource} {secret.file_name} {secret.path}}}: {error}")
        if problems:
            raise RpcError(grpc.StatusCode.INTERNAL, ",".join(problems))
        return mounted

    def _access_token(self, parameters: Mapping[str, str]) -> str:
        """A Google access token for the pod, from its Kubernetes token."""
        tokens = json.loads(parameters.get(TOKENS) or "{}")
        if AUDIENCE not in tokens:
            raise no_identity("unable to fetch SA token from driver: unable to obtain token from driver")
        try:
            workload = self._cluster.workload(tokens[AUDIENCE]["token"])
            account = self._cluster.google_account(workload) if workload else None
        except requests.RequestException as error:
            raise no_identity(f"unable to fetch SA info: {error}") from error
        if not workload:
            raise no_identity("unable to fetch identitybindingtoken: could not get idbindtoken token, status: 400")
        if not account:
            # Without the annotation the workload has rights only under its own name.
            namespace, name = workload.split("/")
            return self._iam.mint(f"{AUDIENCE}[{namespace}/{name}]", [CLOUD_PLATFORM])
        if not self._iam.may_impersonate(workload, account):
            denied = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
            cause = RpcError(grpc.StatusCode.PERMISSION_DENIED, denied)
            raise no_identity(f"unable to fetch gcp service account token: {cause}")
        return self._iam.mint(account, [CLOUD_PLATFORM])

    def _access(self, wanted: Wanted, token: str) -> Mounted:
        """The payload, from Secret Manager."""
        if not SECRET_VERSION.match(wanted.resource):
            raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "unknown resource type")
        url = f"{self._secret_manager}/v1/{wanted.resource}:access"
        try:
            answer = self._http.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
            content = answer.json()
        except requests.RequestException as error:
            raise RpcError(grpc.StatusCode.UNAVAILABLE, f"connection error: {error}") from error
        if not answer.ok:
            raise RpcError(grpc.StatusCode[content["error"]["status"]], content["error"]["message"])
        return Mounted(wanted, content["name"], b64decode(content["payload"]["data"]))


def no_identity(reason: str) -> RpcError:
    """The refusal of a pod that could not be given a Google identity."""
    message = f"unable to obtain auth for mount: unable to obtain workload identity auth: {reason}"
    return RpcError(grpc.StatusCode.PERMISSION_DENIED, message)


def parse_secrets(parameters: Mapping[str, str], usual_mode: int) -> list[Wanted]:
    """The entries of `secrets`, a YAML text; RpcError if there is none or it is not understood."""
    if "secrets" not in parameters:
        raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "missing required 'secrets' attribute")
    try:
        return [parse_secret(entry, usual_mode) for entry in yaml.safe_load(parameters["secrets"])]
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"failed to unmarshal secrets attribute: {error}"
        raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, message) from error


def parse_secret(entry: dict[str, str], usual_mode: int) -> Wanted:
    """One entry; ValueError for a key that the lab's provider does not know, such as extractJSONKey."""
    if unknown := entry.keys() - KEYS:
        raise ValueError(f"not in the lab: {', '.join(sorted(unknown))}")
    # YAML has read 0400 as octal already; 0o400 it leaves to us.
    mode = int(str(entry.get("mode", usual_mode)), 0)
    return Wanted(entry["resourceName"], entry.get("fileName", ""), entry.get("path", ""), mode)
