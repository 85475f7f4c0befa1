"""The running Envoy: its bootstrap, the files it reads its configuration from, its admin interface."""

from __future__ import annotations

import hashlib
import http.client
import json
from typing import TYPE_CHECKING

from lab import layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.google.loadbalancer.objects import Object

TYPE = "type.googleapis.com/envoy."
LISTENERS = "listeners.json"
CLUSTERS = "clusters.json"
REFERRED = ("secrets", "routes", "endpoints")
"""Folders of files that clusters and listeners name, one resource each: Envoy takes no more from such a file."""
ADMIN_TIMEOUT = 2.0


def config_source(path: Path) -> Object:
    """Tells Envoy to read a file, again whenever another is renamed over it."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def write_bootstrap(directory: Path) -> Path:
    """Write what `envoy -c` needs and, if nothing was served yet, an empty configuration; returns the file."""
    xds = directory / "xds"
    files = Files(xds)
    for name in (CLUSTERS, LISTENERS):
        if not (xds / name).exists():
            files.write({name: []})
    admin = {"address": "127.0.0.1", "port_value": layout.ENVOY_ADMIN_PORT}
    bootstrap = {
        "node": {"id": "load-balancer", "cluster": layout.CLUSTER},
        "admin": {"address": {"socket_address": admin}},
        "dynamic_resources": {
            "lds_config": config_source(xds / LISTENERS),
            "cds_config": config_source(xds / CLUSTERS),
        },
    }
    path = directory / "bootstrap.json"
    path.write_text(json.dumps(bootstrap, indent=1))
    return path


class Files:
    """Envoy's configuration files in a directory; only what differs is written, always by renaming."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written: dict[str, str] = {}
        for folder in REFERRED:
            (directory / folder).mkdir(parents=True, exist_ok=True)

    def write(self, files: Mapping[str, list[Object]]) -> None:
        """Write each file's resources, in the order given, so that a file comes before those that name it."""
        for name, resources in files.items():
            body = json.dumps(resources)
            version = hashlib.sha256(body.encode()).hexdigest()[:12]
            text = f'{{"version_info": "{version}", "resources": {body}}}'
            if self._content(name) != text:
                draft = self._directory / ".draft"
                draft.touch(mode=0o600)
                draft.write_text(text)
                draft.replace(self._directory / name)
                self._written[name] = text

    def remove_others(self, files: Mapping[str, list[Object]]) -> None:
        """Remove the files nothing names any more."""
        for folder in REFERRED:
            for path in (self._directory / folder).glob("*.json"):
                if f"{folder}/{path.name}" not in files:
                    self._written.pop(f"{folder}/{path.name}", None)
                    path.unlink()

    def _content(self, name: str) -> str | None:
        path = self._directory / name
        if name not in self._written and path.exists():
            self._written[name] = path.read_text()
        return self._written.get(name)


def listening() -> set[str]:
    """`address:port` of every listener Envoy serves; empty while it is not LIVE."""
    if _admin("/ready").strip() != "LIVE":
        return set()
    listeners = json.loads(_admin("/listeners?format=json") or "{}").get("listener_statuses", [])
    return {_address(each["local_address"]) for each in listeners}


def healthy_endpoints() -> set[tuple[str, str]]:
    """Cluster and `address:port` of each endpoint whose last health check was good."""
    clusters = json.loads(_admin("/clusters?format=json") or "{}").get("cluster_statuses", [])
    return {
        (cluster["name"], _address(host["address"]))
        for cluster in clusters
        for host in cluster.get("host_statuses", [])
        if not host["health_status"].keys() & {"failed_active_health_check", "pending_active_hc"}
    }


def _address(address: Object) -> str:
    socket = address["socket_address"]
    return f"{socket['address']}:{socket['port_value']}"


def _admin(path: str) -> str:
    """The admin interface's answer, "" if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", layout.ENVOY_ADMIN_PORT, timeout=ADMIN_TIMEOUT)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
