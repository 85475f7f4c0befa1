"""Stand-in for GKE's metadata server: a pod's identity, told by the address it calls from.

One server serves all nodes; each node redirects 169.254.169.254:80 to it (`metadata.nft`) and keeps the pod's
address. An address leads to the pod, its Kubernetes service account and the Google account of that one's
annotation. As on GKE the annotation is enough for the e-mail; a token needs the binding in IAM too.

KUBECONFIG names the cluster; it must allow to list pods and to get service accounts. The fault `metadata` with
argument `refusing` refuses every token as if the binding were missing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import requests
from aiohttp import web
from aiohttp.typedefs import Handler

from lab import layout
from lab.google import faults, rest
from lab.google.iam import CLOUD_PLATFORM, Iam
from lab.kubernetes_api import Api

log = logging.getLogger("metadata")

ANNOTATION = "iam.gke.io/gcp-service-account"
WORKLOAD_POOL = f"{layout.PROJECT}.svc.id.goog"
FLAVOR = {"Metadata-Flavor": "Google"}
LOOKUP_SECONDS = 5.0
"""How long a pod may be unknown: it can ask before the kubelet has published its address."""
ANSWER_SECONDS = 2.0
"""How long the cluster may take to tell a pod's identity: clients wait 3 s, then try again themselves."""
TOKEN_SECONDS = 3600
V1 = "/computeMetadata/v1"
CONSTANTS = {
    "/": "computeMetadata/\n",
    f"{V1}/": "instance/\nproject/\nuniverse/\n",
    f"{V1}/universe/universe-domain": "googleapis.com",
    f"{V1}/project/project-id": layout.PROJECT,
    f"{V1}/project/numeric-project-id": layout.PROJECT_NUMBER,
    f"{V1}/instance/attributes/": "cluster-location\ncluster-name\n",
    f"{V1}/instance/attributes/cluster-name": layout.CLUSTER,
    f"{V1}/instance/attributes/cluster-location": layout.REGION,
}
ENTRIES = ("aliases", "email", "identity", "scopes", "token")


@dataclass(frozen=True)
class Workload:
    """Who asks: a pod, by its Kubernetes service account."""

    name: str
    """Namespace and service account, `namespace/name`."""
    node: str
    email: str
    """Google account of the annotation, or the cluster's workload pool."""

    @property
    def account(self) -> str | None:
        """The Google account, if there is one."""
        return self.email if "@" in self.email else None


Lookup = Callable[[str], Awaitable[Workload | None]]
"""From an address to the workload, if it is known by now. RequestException or TimeoutError if the cluster is silent."""


class Cluster:
    """The cluster's pods and service accounts, by its API."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def workload(self, address: str) -> Workload | None:
        """The workload of the one living pod with this address of its own."""
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asyncio.to_thread(self._workload, address)

    def _workload(self, address: str) -> Workload | None:
        selector = f"status.podIP={address},status.phase!=Succeeded,status.phase!=Failed"
        listed, _ = self._api.list("api/v1/pods", selector)
        pods = [pod for pod in listed if not pod["spec"].get("hostNetwork")]
        if len(pods) != 1:
            return None
        namespace, name = pods[0]["metadata"]["namespace"], pods[0]["spec"]["serviceAccountName"]
        account = self._api.get(f"api/v1/namespaces/{namespace}/serviceaccounts/{name}")
        email = account["metadata"].get("annotations", {}).get(ANNOTATION, WORKLOAD_POOL)
        return Workload(f"{namespace}/{name}", pods[0]["spec"]["nodeName"], email)


class Metadata:
    """The server's answers."""

    def __init__(self, iam: Iam, lookup: Lookup, lookup_seconds: float = LOOKUP_SECONDS) -> None:
        self._iam, self._lookup, self._lookup_seconds = iam, lookup, lookup_seconds

    def application(self) -> web.Application:
        """The server as an application: constants for everybody, the rest by who asks."""
        app = web.Application(middlewares=[require_flavor])
        app.on_response_prepare.append(add_flavor)
        for path, text in CONSTANTS.items():
            app.router.add_get(path, constant(text))
        accounts = f"{V1}/instance/service-accounts/"
        for path, answer in (
            (f"{V1}/instance/{{what:name|id|hostname|zone}}", self.instance),
            (accounts, self.accounts),
            (accounts + "{account}/", self.account),
            (accounts + "{account}/{what:aliases|email|scopes}", self.account_entry),
            (accounts + "{account}/token", self.token),
            (accounts + "{account}/identity", self.identity),
        ):
            app.router.add_get(path, self._identified(answer))
        return app

    def _identified(self, answer: Callable[[web.Request, Workload], Awaitable[web.Response]]) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            workload = await self._workload(request.remote or "")
            log.info("%s %s is %s as %s", request.rel_url, request.remote, workload.name, workload.email)
            if request.match_info.get("account", "default") not in ("default", workload.email):
                raise web.HTTPNotFound(text=f"service account {request.match_info['account']} is not defined\n")
            return await answer(request, workload)

        return handler

    async def _workload(self, address: str) -> Workload:
        if ipaddress.ip_address(address) not in ipaddress.ip_network(layout.POD_NETWORK):
            text = f"{address} is no pod of the cluster: the lab's nodes have no Google identity\n"
            raise web.HTTPForbidden(text=text)
        deadline = time.monotonic() + self._lookup_seconds
        while True:
            try:
                workload = await self._lookup(address)
            except (requests.RequestException, TimeoutError) as error:
                raise web.HTTPServiceUnavailable(
                    text=f"the cluster does not tell who {address} is: {type(error).__name__} {error}\n"
                ) from error
            if workload is not None:
                return workload
            if time.monotonic() > deadline:
                raise web.HTTPNotFound(text=f"no pod has the address {address}\n")
            await asyncio.sleep(0.2)

    async def instance(self, request: web.Request, workload: Workload) -> web.Response:
        """The pod's node."""
        node = workload.node
        zone = f"{layout.REGION}-{'abc'[layout.NODES.index(node)]}"
        values = {
            "name": node,
            "id": str(zlib.crc32(node.encode())),
            "hostname": f"{node}.{zone}.c.{layout.PROJECT}.internal",
            "zone": f"projects/{layout.PROJECT_NUMBER}/zones/{zone}",
        }
        return web.Response(text=values[request.match_info["what"]])

    async def accounts(self, request: web.Request, workload: Workload) -> web.Response:
        """The one account under its two names."""
        names = ("default", workload.email)
        if request.query.get("recursive") == "true":
            return web.json_response({name: description(workload) for name in names})
        return web.Response(text="".join(f"{name}/\n" for name in names))

    async def account(self, request: web.Request, workload: Workload) -> web.Response:
        """What there is to ask of the account, or the answers at once."""
        if request.query.get("recursive") == "true":
            return web.json_response(description(workload))
        return web.Response(text="".join(f"{entry}\n" for entry in ENTRIES))

    async def account_entry(self, request: web.Request, workload: Workload) -> web.Response:
        """Aliases, e-mail or scopes."""
        value = description(workload)[request.match_info["what"]]
        return web.Response(text=value if isinstance(value, str) else "".join(f"{line}\n" for line in value))

    async def token(self, request: web.Request, workload: Workload) -> web.Response:
        """An access token, with the scopes that are asked for."""
        self._require_binding(workload)
        scopes = request.query.get("scopes", CLOUD_PLATFORM).split(",")
        token = self._iam.mint(workload.email, scopes, TOKEN_SECONDS)
        return web.json_response({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"})

    async def identity(self, request: web.Request, workload: Workload) -> web.Response:
        """An identity token for an audience."""
        audience = request.query.get("audience")
        if not audience:
            raise web.HTTPBadRequest(text="non-empty audience parameter required\n")
        if workload.account is None:
            raise web.HTTPNotFound(text=f"{workload.name} has no annotation {ANNOTATION}: no identity token\n")
        self._require_binding(workload)
        return web.Response(text=self._iam.mint_identity(workload.account, audience))

    def _require_binding(self, workload: Workload) -> None:
        bound = workload.account is None or self._iam.may_impersonate(workload.name, workload.account)
        if not bound or faults.argument("metadata") == "refusing":
            text = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).\n"
            raise web.HTTPForbidden(text=text)


def description(workload: Workload) -> dict[str, str | list[str]]:
    """The account as a recursive question sees it."""
    return {"aliases": ["default"], "email": workload.email, "scopes": [CLOUD_PLATFORM]}


def constant(text: str) -> Handler:
    """A handler that always says the same."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text)

    return handler


@web.middleware
async def require_flavor(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a browser could send; the root is for those who look whether this is Google at all."""
    if request.path != "/" and request.headers.get("Metadata-Flavor") != "Google":
        raise web.HTTPForbidden(text="Missing required header: Metadata-Flavor\n")
    return await handler(request)


async def add_flavor(_: web.Request, response: web.StreamResponse) -> None:
    """Sign every answer, refusals too: clients take any other for a stranger's."""
    response.headers.update(FLAVOR)


if __name__ == "__main__":
    cluster = Cluster(Api.from_environment(seconds=ANSWER_SECONDS))
    rest.serve(Metadata(Iam(), cluster.workload).application(), layout.METADATA_PORT)
