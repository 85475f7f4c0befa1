"""Google's own client libraries, unmodified, against the stand-ins of the Cloud SQL Admin API and Secret Manager."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.secretmanager import SecretManagerServiceClient
from google.cloud.secretmanager_v1 import SecretVersion
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from tests.lab.conftest import sql_admin

Facts = dict[str, Any]
Fault = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="module")
def admin(facts: Facts, credentials: Credentials) -> Any:  # noqa: ANN401 - the client is made at run time
    """The Cloud SQL Admin API, as the acceptance suite."""
    return sql_admin(facts, credentials)


@pytest.fixture(scope="module")
def instance(facts: Facts) -> dict[str, str]:
    """The instance, as the Admin API's calls name it."""
    project, _, name = facts["cloud_sql"]["instance"].split(":")
    return {"project": project, "instance": name}
