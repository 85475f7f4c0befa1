"""The resources of the Admin API as JSON: the instance, its settings, certificates, users, databases, operations."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from cryptography import x509

from lab import layout
from lab.google.authority import pem
from lab.google.cloudsql.postgres import Database, User

Json = dict[str, Any]

IAM_FLAG = {"name": "cloudsql.iam_authentication", "value": "on"}
ZONES = (f"{layout.REGION}-a", f"{layout.REGION}-b")
"""Of the primary and the standby; they change places at a failover."""
SETTINGS: Json = {
    "kind": "sql#settings",
    "settingsVersion": "1",
    "tier": "db-custom-2-7680",
    "edition": "ENTERPRISE",
    "activationPolicy": "ALWAYS",
    "availabilityType": "REGIONAL",
    "backupConfiguration": {
        "kind": "sql#backupConfiguration",
        "enabled": True,
        "pointInTimeRecoveryEnabled": True,
        "transactionLogRetentionDays": 7,
        "backupRetentionSettings": {"retentionUnit": "COUNT", "retainedBackups": 7},
    },
    "databaseFlags": [IAM_FLAG],
    "ipConfiguration": {
        "ipv4Enabled": True,
        "privateNetwork": f"projects/{layout.PROJECT}/global/networks/default",
        "sslMode": "TRUSTED_CLIENT_CERTIFICATE_REQUIRED",
        "serverCaMode": "GOOGLE_MANAGED_INTERNAL_CA",
    },
    "storageAutoResize": True,
    "deletionProtectionEnabled": True,
}
"""Of an instance that nobody has patched yet."""
HERE = {"project": layout.PROJECT, "instance": layout.INSTANCE}
ENGINE = {"region": layout.REGION, "databaseVersion": "POSTGRES_15", "backendType": "SECOND_GEN"}
CONNECTOR = "connector"
"""Common name of every connector's certificate."""


def google_time(time: dt.datetime) -> str:
    """The time as Google writes it."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instance(kept: Json, address: str, server_ca: Json) -> Json:
    """What is remembered of the instance, as the API shows it."""
    primary = kept["primary"]
    return {
        "kind": "sql#instance",
        "name": layout.INSTANCE,
        "project": layout.PROJECT,
        "connectionName": layout.INSTANCE_CONNECTION_NAME,
        "state": kept["state"],
        **ENGINE,
        "instanceType": "CLOUD_SQL_INSTANCE",
        "gceZone": ZONES[primary],
        "secondaryGceZone": ZONES[1 - primary],
        "ipAddresses": _addresses(address),
        "serverCaCert": server_ca,
        "settings": kept["settings"],
    }


def connect_settings(address: str, server_ca: Json) -> Json:
    """What a connector needs to find the instance and to trust it."""
    # Without dnsName connectors compare the common name of the server's certificate.
    return {
        "kind": "sql#connectSettings",
        "serverCaCert": server_ca,
        "serverCaMode": "GOOGLE_MANAGED_INTERNAL_CA",
        "ipAddresses": _addresses(address),
        **ENGINE,
    }


def _addresses(address: str) -> list[Json]:
    # One address for the proxy's --private-ip and without it.
    return [{"type": kind, "ipAddress": address} for kind in ("PRIMARY", "PRIVATE")]


def ssl_cert(common_name: str, certificate: x509.Certificate) -> Json:
    """A certificate of the instance: its server authority's, or a connector's."""
    return {
        "kind": "sql#sslCert",
        "instance": layout.INSTANCE,
        "commonName": common_name,
        "cert": pem(certificate),
        "createTime": google_time(certificate.not_valid_before_utc),
        "expirationTime": google_time(certificate.not_valid_after_utc),
    }


def user(role: User) -> Json:
    """A role that may log in; only one of IAM tells its type, as on Cloud SQL."""
    of_iam = {"type": "CLOUD_IAM_SERVICE_ACCOUNT", "iamStatus": "ACTIVE"}
    return {"kind": "sql#user", "host": "", **HERE, "name": role.name, **(of_iam if role.iam else {})}


def database(one: Database) -> Json:
    """A database of the instance."""
    return {"kind": "sql#database", **HERE, **vars(one)}


def operation(kind: str, account: str) -> Json:
    """A new operation, begun by an account."""
    return {
        "kind": "sql#operation",
        "name": str(uuid.uuid4()),
        "operationType": kind,
        "status": "PENDING",
        "user": account,
        "insertTime": google_time(dt.datetime.now(dt.UTC)),
        "targetId": layout.INSTANCE,
        "targetProject": layout.PROJECT,
    }


def operation_error(problem: str) -> Json:
    """Why an operation failed."""
    error = {"kind": "sql#operationError", "code": "INTERNAL_ERROR", "message": problem}
    return {"kind": "sql#operationErrors", "errors": [error]}


def merged(old: Json, patch: Json) -> Json:
    """The object after a PATCH: objects within are merged, null removes, all else is replaced."""
    result = {**old}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(old.get(name, {}), value) if isinstance(value, dict) else value
    return result
