"""The metadata server's answers to a pod. The test calls from 127.0.0.1, which counts as a pod's address here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from aiohttp import web

from lab import layout
from lab.google import metadata
from lab.google.iam import SQL_LOGIN, Iam, Principal
from lab.google.metadata import Metadata, Workload

BACKSTAGE = Workload(layout.BACKSTAGE_WORKLOAD, "node-2", layout.BACKSTAGE_ACCOUNT)
ACCOUNTS = "/computeMetadata/v1/instance/service-accounts/"

Ask = Callable[..., requests.Response]


class ScriptedLookup:
    """What the cluster knows of the pod at an address: scripted answers, the last of which repeats."""

    def __init__(self) -> None:
        self.answers: list[Workload | Exception | None] = [BACKSTAGE]

    async def __call__(self, _: str) -> Workload | None:
        """Return or raise the next answer."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def iam(tmp_path: Path) -> Iam:
    """The initial policy."""
    iam = Iam(tmp_path)
    iam.create()
    return iam


@pytest.fixture
def lookup(monkeypatch: pytest.MonkeyPatch) -> ScriptedLookup:
    """The scripted cluster; the test's own address is in the pod network."""
    monkeypatch.setattr(layout, "POD_NETWORK", "127.0.0.0/8")
    return ScriptedLookup()


@pytest.fixture
def ask(iam: Iam, lookup: ScriptedLookup, serve: Callable[[web.Application], str], faults: Path) -> Iterator[Ask]:  # noqa: ARG001
    """Sends a GET with the header that Google's clients send."""
    url = serve(Metadata(iam, lookup, lookup_seconds=0.3).application())
    with requests.Session() as session:
        session.headers["Metadata-Flavor"] = "Google"
        yield lambda path, **query: session.get(url + path, params=query, timeout=5)


def test_bound_workload_gets_a_token_of_its_account(ask: Ask, iam: Iam) -> None:
    """The annotation and the IAM binding together give a token for the account, with the requested scopes."""
    answer = ask(ACCOUNTS + "default/token", scopes=f"{SQL_LOGIN},other").json()
    principal = iam.resolve(answer["access_token"])

    assert principal == Principal(layout.BACKSTAGE_ACCOUNT, frozenset({SQL_LOGIN, "other"}))
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)


def test_unbound_workload_has_an_email_but_no_token(ask: Ask, lookup: ScriptedLookup) -> None:
    """The annotation alone gives the e-mail; the token is refused with GKE's message."""
    lookup.answers = [Workload("default/backstage", "node-1", layout.BACKSTAGE_ACCOUNT)]
    token = ask(ACCOUNTS + "default/token")

    assert ask(ACCOUNTS + "default/email").text == layout.BACKSTAGE_ACCOUNT
    assert token.status_code == 403
    assert "'iam.serviceAccounts.getAccessToken' denied" in token.text
    assert ask(ACCOUNTS + "default/identity", audience="a").status_code == 403


def test_workload_without_annotation_is_the_pool(ask: Ask, lookup: ScriptedLookup, iam: Iam) -> None:
    """Its token has no permissions."""
    lookup.answers = [Workload("default/default", "node-1", metadata.WORKLOAD_POOL)]
    principal = iam.resolve(ask(ACCOUNTS + "default/token").json()["access_token"])

    assert principal is not None
    assert principal.email == f"{layout.PROJECT}.svc.id.goog"
    assert ask(ACCOUNTS + "default/identity", audience="a").status_code == 404


def test_fault_refuses_as_if_unbound(ask: Ask, faults: Path) -> None:
    """The fault looks like a missing binding."""
    (faults / "metadata").write_text("refusing")

    assert ask(ACCOUNTS + "default/token").status_code == 403
    assert ask(ACCOUNTS + "default/email").status_code == 200


def test_pod_is_waited_for(ask: Ask, lookup: ScriptedLookup) -> None:
    """A pod may ask before its address is in the API; the answer is delayed until it is."""
    lookup.answers = [None, BACKSTAGE]

    assert ask(ACCOUNTS + "default/email").text == layout.BACKSTAGE_ACCOUNT


def test_unknown_pod_is_not_found(ask: Ask, lookup: ScriptedLookup) -> None:
    """An address without a pod has no identity."""
    lookup.answers = [None]

    assert ask(ACCOUNTS + "default/token").status_code == 404


def test_caller_that_is_no_pod_is_refused(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes and the host get a reason instead of an identity."""
    monkeypatch.setattr(layout, "POD_NETWORK", "10.244.0.0/16")
    answer = ask(ACCOUNTS + "default/token")

    assert (answer.status_code, answer.text) == (
        403,
        "127.0.0.1 is no pod of the cluster: the lab's nodes have no Google identity\n",
    )


def test_silent_cluster_is_told(ask: Ask, lookup: ScriptedLookup) -> None:
    """An unreachable API server is a 503, not a missing identity."""
    lookup.answers = [requests.ConnectionError("refused")]

    assert ask(ACCOUNTS + "default/token").status_code == 503


def test_account_is_described_at_once(ask: Ask) -> None:
    """google-auth asks for it with `recursive=true`."""
    assert ask(ACCOUNTS + "default/", recursive="true").json()["email"] == layout.BACKSTAGE_ACCOUNT
    assert layout.BACKSTAGE_ACCOUNT in ask(ACCOUNTS, recursive="true").json()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (ACCOUNTS, f"default/\n{layout.BACKSTAGE_ACCOUNT}/\n"),
        (ACCOUNTS + "default/", "aliases\nemail\nidentity\nscopes\ntoken\n"),
        (ACCOUNTS + layout.BACKSTAGE_ACCOUNT + "/email", layout.BACKSTAGE_ACCOUNT),
        ("/computeMetadata/v1/project/project-id", layout.PROJECT),
        ("/computeMetadata/v1/instance/attributes/cluster-name", layout.CLUSTER),
        ("/computeMetadata/v1/instance/name", "node-2"),
        ("/computeMetadata/v1/instance/zone", f"projects/{layout.PROJECT_NUMBER}/zones/us-east4-b"),
    ],
)
def test_facts_are_told(ask: Ask, path: str, text: str) -> None:
    """These are the other paths that clients read."""
    answer = ask(path)

    assert (answer.text, answer.headers["Metadata-Flavor"]) == (text, "Google")


def test_refusals_are_signed_too(ask: Ask) -> None:
    """Clients check the header to see whether the refusal came from the metadata server."""
    for path in ("/unknown", ACCOUNTS + "other@example.com/email"):
        answer = ask(path)
        assert (answer.status_code, answer.headers["Metadata-Flavor"]) == (404, "Google")


def test_header_is_required(iam: Iam, lookup: ScriptedLookup, serve: Callable[[web.Application], str]) -> None:
    """The header protects from requests forged in a browser; the root needs none, as clients use it for detection."""
    url = serve(Metadata(iam, lookup).application())

    assert requests.get(url + ACCOUNTS, timeout=5).status_code == 403
    assert requests.get(url, timeout=5).text == "computeMetadata/\n"


def test_nodes_redirect_to_the_server() -> None:
    """Nftables has the addresses as literals, which must match the layout."""
    rules = (Path(metadata.__file__).parent / "metadata.nft").read_text()

    assert f"define server = {layout.GOOGLE_ADDRESS}\n" in rules
    assert f"define server_port = {layout.METADATA_PORT}\n" in rules
    assert f"ip daddr {layout.METADATA_ADDRESS} tcp dport 80 dnat to $server:$server_port" in rules
