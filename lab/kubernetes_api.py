"""The one client of the Kubernetes API: the API server's own JSON, over requests.

No generated models: the official client takes half a second of CPU to load, in every stand-in that uses it, and the
load balancer's mirror of ten kinds must cost nothing while nothing changes.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import requests
import yaml

Object = dict[str, Any]
"""An object of the API, as JSON."""
WATCH_SECONDS = 60
"""A watch ends after this; so it is also how long a silent connection is believed in."""
SLACK_SECONDS = 5
MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"


class Api:
    """One API server, asked under one identity, from any thread.

    A path is without its first slash. What cannot be asked or is refused raises `requests.RequestException`; a
    certificate that is not there yet, OSError.
    """

    def __init__(
        self, server: str, *, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None,
        seconds: float = 10.0,
    ) -> None:  # fmt: skip
        self._server, self._ca, self._certificate, self._key = server, ca, certificate, key or certificate
        self._seconds = seconds
        self._local = threading.local()

    @classmethod
    def from_kubeconfig(cls, kubeconfig: Path, *, seconds: float = 10.0) -> Self:
        """The API server of a kubeconfig as kubeadm writes it: one cluster, one user, their certificates within.

        The certificates are written into files beside it, as OpenSSL reads nothing else.
        """
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        ca, certificate = kubeconfig.with_suffix(".ca.pem"), kubeconfig.with_suffix(".client.pem")
        _write(ca, cluster["certificate-authority-data"])
        _write(certificate, user["client-certificate-data"], user["client-key-data"])
        return cls(cluster["server"], ca=ca, certificate=certificate, seconds=seconds)

    @classmethod
    def from_environment(cls, *, seconds: float = 10.0) -> Self:
        """The API server of the kubeconfig that KUBECONFIG names."""
        return cls.from_kubeconfig(Path(os.environ["KUBECONFIG"]), seconds=seconds)

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            self._call("GET", "readyz")
        except OSError:  # of which those of requests are
            return False
        return True

    def get(self, path: str, **query: str) -> Object:
        """An object, or a collection with the query's selectors."""
        found: Object = self._call("GET", path, params=query).json()
        return found

    def list(self, path: str, selector: str = "") -> tuple[list[Object], str]:
        """All objects of a collection that the field selector selects, and the version from which to watch."""
        answer = self.get(path, fieldSelector=selector)
        return answer["items"], answer["metadata"]["resourceVersion"]

    def watch(self, path: str, selector: str, version: str) -> Iterator[Object]:
        """Changes since the version; ends by itself after `WATCH_SECONDS`."""
        params = {
            "watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version, "fieldSelector": selector,
            "timeoutSeconds": str(WATCH_SECONDS),
        }  # fmt: skip
        with self._call("GET", path, params=params, stream=True, seconds=WATCH_SECONDS + SLACK_SECONDS) as response:
            for line in response.iter_lines(chunk_size=None):
                yield json.loads(line)

    def patch(self, path: str, body: Object, kind: str = MERGE) -> None:
        """Patch an object."""
        self._call("PATCH", path, body=body, kind=kind)

    def create(self, path: str, body: Object) -> Object:
        """Add an object to a collection; what became of it."""
        created: Object = self._call("POST", path, body=body).json()
        return created

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Object | None = None,
        kind: str = "application/json",
        stream: bool = False,
        seconds: float | None = None,
    ) -> requests.Response:
        def send() -> requests.Response:
            return self._session().request(
                method,
                f"{self._server}/{path}",
                params=params,
                data=None if body is None else json.dumps(body),
                headers=None if body is None else {"Content-Type": kind},
                stream=stream,
                timeout=seconds or self._seconds,
            )

        try:
            response = send()
        except requests.ConnectionError as error:
            # An API server that restarts closes idle connections; which it closed shows only when one is used.
            if method != "GET" or isinstance(error, requests.Timeout):
                raise
            response = send()
        response.raise_for_status()
        return response

    def _session(self) -> requests.Session:
        """One session per thread: requests promises nothing for shared ones."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False
            session.verify = str(self._ca) if self._ca else True
            if self._certificate and self._key:
                session.cert = (str(self._certificate), str(self._key))
        return session


def _write(path: Path, *parts: str) -> None:
    """Write texts, given in base64, to a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_bytes(b"".join(base64.b64decode(part) for part in parts))
