"""Changes the lab's database with the rights of its operator (Admin API) or of its tables' owner (SQL).

    python -m tests.detection.cloudsql settings '{"activationPolicy": "NEVER"}'
    python -m tests.detection.cloudsql sql DATABASE STATEMENT

Both are commands of faults in the TOML files of this folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psycopg

from fixtures.api.client import connect
from fixtures.api.port_forward import Tunnel
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import Namespaces

NAMESPACE = "backstage"
PORT = 5432


def set_settings(facts: dict[str, Any], settings: str) -> None:
    """Change the instance's settings, given as JSON; the lab shows them at once and they have no other effect."""
    project, _, instance = facts["cloud_sql"]["instance"].split(":")
    url = f"{facts['cloud_sql']['admin_api']}/v1/projects/{project}/instances/{instance}"
    token = Path(facts["tokens"]["operator"]).read_text()
    body = {"settings": json.loads(settings)}
    httpx.patch(url, json=body, headers={"Authorization": f"Bearer {token}"}).raise_for_status()


def execute(facts: dict[str, Any], database: str, statement: str) -> None:
    """Execute a statement as Backstage's database user, through the proxy of one of its pods."""
    # Only a pod has the IAM login of Backstage: its cloud-sql-proxy is reached by a port-forward.
    names = Namespaces(NAMESPACE, NAMESPACE, facts["gateway"]["namespace"])
    client = connect(Guard(frozenset({"observe", "connect"}), names), kubeconfig=Path(facts["kubeconfig"]))
    ready = ["kubectl", "-n", NAMESPACE, "get", "pods", "--selector=app.kubernetes.io/name=backstage", "--output=name"]
    pod = subprocess.run(ready, check=True, capture_output=True, text=True).stdout.split()[0].removeprefix("pod/")
    user = facts["cloud_sql"]["iam_user"]
    with Tunnel(client, NAMESPACE, pod, PORT) as tunnel:
        at = f"host={tunnel.host} port={tunnel.port} user={user} dbname={database} sslmode=disable"
        with psycopg.connect(at, autocommit=True) as connection:
            connection.execute(statement.encode())


def main() -> None:
    """Run the command line; an unknown one ends with a usage text."""
    facts = json.loads(subprocess.check_output([sys.executable, "-m", "lab", "facts"]))
    match sys.argv[1:]:
        case ["settings", settings]:
            set_settings(facts, settings)
        case ["sql", database, statement]:
            execute(facts, database, statement)
        case words:
            sys.exit(f"expected: settings JSON, or sql DATABASE STATEMENT; seen: {' '.join(words)}")


if __name__ == "__main__":
    main()
