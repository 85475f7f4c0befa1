"""Workload Identity: which Google account a pod should have, and what the metadata server gives it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from kubernetes.client import ApiClient

from fixtures.api.exec import CommandNotRunError, Container, Output
from fixtures.objects.manifest import Field, Manifest
from fixtures.platform.workload_identity import (
    PodAccount,
    google_account_of,
    read_account,
    service_account_of,
    serving_container_name,
)
from fixtures.reference.reference import InvalidReferenceError
from tests.unit.patched import ABSENT, patched, recorded_reference, with_patch

EMAIL = "backstage@backstage-lab.iam.gserviceaccount.com"
TOKEN = {"type": "Bearer", "length": 269, "expires": 3600}
REFUSED = "403 Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."


@dataclass(frozen=True)
class FakeContainer(Container):
    """A container in which every command gives the same output."""

    output: Output

    def run(self, *words: str) -> Output:
        """The given output; every command must unset NODE_OPTIONS."""
        assert words[:3] == ("env", "-u", "NODE_OPTIONS")
        return self.output


def container_with(output: Output) -> FakeContainer:
    """A container of pod portal-1 with the given output."""
    return FakeContainer(ApiClient(), "backstage", "portal-1", "backstage", 1, output)


def account_from(email: object, token: object) -> PodAccount:
    """The account as read from Node.js's JSON."""
    return read_account(container_with(Output(0, json.dumps({"email": email, "token": token}).encode(), b"")))


def test_pod_with_a_token_of_its_account() -> None:
    """An e-mail and a token make the account usable; only the token's type, length and expiry leave the container."""
    account = account_from({"email": EMAIL}, TOKEN)

    assert account.usable_as(EMAIL)
    assert str(account) == f"e-mail {EMAIL}, token Bearer of 269 characters for 3600 s"


@pytest.mark.parametrize(
    ("email", "token", "words"),
    [
        (EMAIL, {"refusal": f"{REFUSED}\n"}, f"e-mail {EMAIL}, no token; token refused: {REFUSED}"),
        ("lab.svc.id.goog", TOKEN, "e-mail lab.svc.id.goog, token Bearer of 269 characters for 3600 s"),
        (EMAIL, {**TOKEN, "expires": 0}, f"e-mail {EMAIL}, token Bearer of 269 characters for 0 s"),
        (EMAIL, {"type": "Bearer", "length": 0}, f"e-mail {EMAIL}, no token"),
        (EMAIL, {"length": 7}, f"e-mail {EMAIL}, token no type of 7 characters for 0 s"),
    ],
    ids=["not bound", "not annotated", "expired", "without token", "without type"],
)
def test_pod_that_cannot_act_as_its_account(email: str, token: object, words: str) -> None:
    """The pod needs both the right e-mail and a token that has not expired."""
    account = account_from({"email": email}, token)

    assert not account.usable_as(EMAIL)
    assert str(account) == words


def test_pod_without_metadata_server() -> None:
    """The errors of both requests, for e-mail and token, are reported."""
    account = account_from({"refusal": "ECONNREFUSED"}, {"refusal": "TimeoutError"})

    assert not account.usable_as(EMAIL)
    assert str(account) == "e-mail unknown, no token; e-mail refused: ECONNREFUSED; token refused: TimeoutError"


def test_node_that_does_not_answer_is_no_verdict() -> None:
    """A failed command gives no verdict, and its standard output stays hidden, as it may hold a token."""
    with pytest.raises(CommandNotRunError) as failed:
        read_account(container_with(Output(9, b"ya29.secret", b"node: bad option: --eval\n")))

    assert str(failed.value) == (
        "expected: an answer of Node.js in container backstage of pod backstage/portal-1, which asks the metadata"
        " server\nseen: exit code 9 node: bad option: --eval\n"
        "look next: kubectl -n backstage exec portal-1 -c backstage -- node --version"
    )


def test_names_come_from_the_reference() -> None:
    """The container is the one that gets the requests; the ServiceAccount is `default` if the pod names none."""
    reference = recorded_reference()

    assert serving_container_name(reference) == "backstage"
    assert service_account_of(reference.the("Deployment")["spec"]["template"]["spec"]) == "backstage"
    assert service_account_of(Field({})) == "default"


def test_reference_without_a_route_has_nobody_to_ask() -> None:
    """Without a route to a container the reference is invalid."""
    reference = with_patch(recorded_reference(), "HTTPRoute", "/spec/rules", [])
    with pytest.raises(InvalidReferenceError) as failed:
        serving_container_name(reference)

    assert str(failed.value) == (
        "expected: an HTTPRoute that leads by a Service to a container's port\nseen: none\n"
        "look next: manifests/overlays/local"
    )


def test_annotation_names_the_google_account() -> None:
    """The annotation names the Google account; without it the result is empty."""
    account = recorded_reference().the("ServiceAccount")

    assert google_account_of(account) == EMAIL
    assert google_account_of(Manifest(patched(account.body, "/metadata/annotations", ABSENT))) == ""
