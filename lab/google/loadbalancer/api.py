"""The API server in raw JSON. No generated models: a mirror of ten kinds must cost nothing while nothing changes."""

from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING

import requests
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.google.loadbalancer.objects import Object

WATCH_SECONDS = 60
"""A watch ends after this; so it is also how long a silent connection is believed in."""
SLACK_SECONDS = 5
MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"


class Api:
    """The API server named by a kubeconfig's current context. Its methods raise `requests.RequestException`."""

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        contexts = {each["name"]: each["context"] for each in config["contexts"]}
        context = contexts[config["current-context"]]
        cluster = next(each["cluster"] for each in config["clusters"] if each["name"] == context["cluster"])
        user = next(each["user"] for each in config["users"] if each["name"] == context["user"])
        self._server = cluster["server"]
        self._ca = _file(cluster, "certificate-authority", directory)
        self._certificate = (
            _file(user, "client-certificate", directory),
            _file(user, "client-key", directory),
        )
        self._token = user.get("token")
        self._local = threading.local()

    def list(self, path: str, selector: str = "") -> tuple[list[Object], str]:
        """All objects of a collection, and the version from which to watch."""
        answer = self._call("GET", path, params={"fieldSelector": selector}).json()
        return answer["items"], answer["metadata"]["resourceVersion"]

    def watch(self, path: str, selector: str, version: str) -> Iterator[Object]:
        """Changes since the version; ends by itself after `WATCH_SECONDS`."""
        params = {
            "watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version, "fieldSelector": selector,
            "timeoutSeconds": str(WATCH_SECONDS),
        }  # fmt: skip
        with self._call("GET", path, params=params, stream=True, timeout=WATCH_SECONDS + SLACK_SECONDS) as response:
            for line in response.iter_lines(chunk_size=None):
                yield json.loads(line)

    def patch(self, path: str, body: Object, kind: str = MERGE) -> None:
        """Patch an object."""
        self._call("PATCH", path, data=json.dumps(body), headers={"Content-Type": kind})

    def create(self, path: str, body: Object) -> None:
        """Add an object to a collection."""
        self._call("POST", path, data=json.dumps(body), headers={"Content-Type": "application/json"})

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        data: str | None = None,
        headers: dict[str, str] | None = None,
        stream: bool = False,
        timeout: float = 10.0,
    ) -> requests.Response:
        response = self._session().request(
            method, f"{self._server}/{path}", params=params, data=data, headers=headers, stream=stream, timeout=timeout
        )
        response.raise_for_status()
        return response

    def _session(self) -> requests.Session:
        """One session per thread: requests promises nothing for shared ones."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False
            session.verify = self._ca or True
            certificate, private_key = self._certificate
            if certificate and private_key:
                session.cert = (certificate, private_key)
            if self._token:
                session.headers["Authorization"] = f"Bearer {self._token}"
        return session


def _file(section: dict[str, str], field: str, directory: Path) -> str | None:
    """Path of a certificate or key; what is inlined in the kubeconfig is written down, as OpenSSL reads only files."""
    inlined = section.get(f"{field}-data")
    if inlined is None:
        return section.get(field)
    path = directory / f"{field}.pem"
    path.touch(mode=0o600)
    path.write_bytes(base64.b64decode(inlined))
    return str(path)
