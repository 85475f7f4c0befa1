"""The proof of the guard: it tests each layer alone, does no harm if one is missing, and names the missing one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from typing_extensions import override

from fixtures.api.client import GuardedClient
from fixtures.environment.loading import Draft, LoadedEnvironment
from fixtures.guard.permissions import Guard, forbidden_to_observers
from fixtures.guard.request_attributes import Access, ForbiddenByEnvironmentError, Namespaces
from fixtures.outcomes import NoVerdictError
from fixtures.plugins import prove_guard
from fixtures.plugins.state import state_of
from fixtures.preflight.guard_proof import CANARY, POLICY, prove, send, unguarded, writes
from tests.unit.apiserver import RECORDED, Answer, Request, Server, as_json, refusal, serving

NAMESPACES = Namespaces(deployment="backstage", route="backstage", gateway="mcp")
OBSERVING = Guard(frozenset({"observe"}), NAMESPACES)
OBSERVER = "system:serviceaccount:acceptance:acceptance-observer"
ANSWERS = {
    name: Answer(answer["status"], answer["body"], {"Content-Type": "application/json"})
    for name, answer in json.loads(Path("tests/unit/recorded/guard/answers.json").read_text()).items()
}
"""Recorded answers of the lab's API server to writes of `acceptance-observer`, by the layer that refused."""
GONE = Answer(404, '{"kind": "Status", "message": "configmaps \\"acceptance-guard-canary\\" not found"}')
DONE = as_json({})


def lab(*, rbac: Answer = ANSWERS["RBAC"], canary: Answer = ANSWERS["admission"]) -> Callable[[Request], Answer]:
    """An API server that answers writes with `rbac`, and the deletion of the canary with `canary`."""

    def answer(request: Request) -> Answer:
        if request.path.endswith("/selfsubjectreviews"):
            return as_json(RECORDED["identity"], 201)
        return canary if request.path.startswith(CANARY.path) else rbac

    return answer


def client_of(server: Server, guard: Guard = OBSERVING) -> GuardedClient:
    """Client without credentials; the server's script tells it its identity."""
    return GuardedClient(server.configuration(), guard)


def refused_by(server: Server, guard: Guard = OBSERVING) -> dict[str, set[str]]:
    """Who refused the writes of each layer's proof."""
    return {proof.layer: {each.by for each in proof.refusals} for proof in prove(client_of(server, guard))}


def test_each_layer_refuses_what_it_alone_has_to_refuse() -> None:
    """Each layer refuses its writes; RBAC and admission are told apart by the server's message."""
    with serving(lab()) as server:
        assert refused_by(server) == {"client": {"client"}, "RBAC": {"RBAC"}, "admission": {"admission"}}


def test_everything_that_reaches_the_cluster_is_a_dry_run_or_cannot_be_done() -> None:
    """The server gets each write once, as a dry run; exec knows no dry run, so its connection is not upgraded."""
    with serving(lab()) as server:
        prove(client_of(server))

    sent = [(request.method, request.path.partition("?")[0]) for request in server.requests]
    expected = [(write.method, write.path) for write in (*writes("backstage"), CANARY)]
    assert sent == expected
    assert all(request.path.endswith("?dryRun=All") for request in server.requests[1:])
    assert server.requests[0].path.endswith("/exec?command=true&stdout=true")
    assert "Upgrade" not in server.requests[0].headers


class AllowAll(Guard):
    """A defective guard that refuses nothing."""

    @override
    def check(self, access: Access) -> None: ...


def test_client_without_its_guard_is_found_before_anything_reaches_the_cluster() -> None:
    """The writes for the client's guard go to the proof's own server, so the cluster sees only the other two proofs."""
    with serving(lab()) as server:
        found = refused_by(server, AllowAll(OBSERVING.permissions, NAMESPACES))

    assert found == {"client": {"nobody"}, "RBAC": {"RBAC"}, "admission": {"admission"}}
    assert len(server.requests) == len(writes("backstage")) + 1


def verdict_of(server: Server) -> str:
    """Last line of a run against this server."""
    return prove_guard.verdict(OBSERVER, prove(client_of(server)))


def test_good_end_is_one_sentence() -> None:
    """A successful proof names the layers and the identity."""
    with serving(lab()) as server:
        assert verdict_of(server) == f"each of client, RBAC, admission alone refuses the writes of {OBSERVER}"


def test_missing_policy_is_told_and_nothing_is_deleted() -> None:
    """Without the policy the dry run of the canary's deletion succeeds, which deletes nothing."""
    with serving(lab(canary=DONE)) as server:
        assert verdict_of(server) == (
            f"expected: each layer of the guard to refuse the writes of {OBSERVER}; seen: admission is not there: "
            "delete configmaps in acceptance was refused by nobody (it would have been done; as a dry run it changed "
            "nothing); look next: docs/permissions.md#the-guard-proved"
        )


@pytest.mark.parametrize(
    ("canary", "seen"),
    [
        (GONE, 'refused by nobody (404: configmaps "acceptance-guard-canary" not found)'),
        (ANSWERS["RBAC"], "refused by RBAC ("),
        (
            Answer(403, ANSWERS["admission"].body.replace("'acceptance-guard'", "'no-deletions'")),
            "refused by policy no-deletions (",
        ),
        (Answer(403, '{"message": "admission webhook denied the request"}'), "refused by something else ("),
    ],
)
def test_canary_that_proves_nothing_is_told(canary: Answer, seen: str) -> None:
    """Admission is unproved if the canary is absent, if RBAC refuses first, or if another policy or webhook does."""
    with serving(lab(canary=canary)) as server:
        assert f"admission is not there: delete configmaps in acceptance was {seen}" in verdict_of(server)


@pytest.mark.parametrize("answer", [DONE, ANSWERS["admission"], GONE], ids=["done", "admission", "not there"])
def test_write_that_rbac_lets_pass_is_told(answer: Answer) -> None:
    """A write that passes RBAC is reported, whatever the server answers after it."""
    with serving(lab(rbac=answer)) as server:
        assert "seen: RBAC is not there: create pods/exec in backstage was refused by " in verdict_of(server)


@pytest.mark.parametrize("name", ["unauthorized", "unavailable"])
def test_api_server_that_says_nothing_about_a_write_proves_nothing(name: str) -> None:
    """401 or 503 is no refusal by a layer: the run ends without a verdict, with the message of preflight."""
    answer = refusal(name) if name in RECORDED else Answer(503, "")

    with (
        serving(lambda _: answer) as server,
        pytest.raises(NoVerdictError, match="expected: an answer of the API server"),
    ):
        prove(client_of(server))


def test_unguarded_client_lets_nothing_else_pass() -> None:
    """The client without the environment's guard sends only the writes that it was made for."""
    with serving() as server:
        raw = unguarded(client_of(server), [CANARY])
        with pytest.raises(ForbiddenByEnvironmentError):
            send(raw, writes("backstage")[0])

    assert server.connections == 0


def run(server: Server, monkeypatch: pytest.MonkeyPatch, *permissions: str) -> int | None:
    """Exit code of `pytest --prove-guard` in an environment with these permissions."""
    config = cast("pytest.Config", SimpleNamespace(getoption=lambda _: True, stash=pytest.Stash()))
    state = state_of(config)
    state.permissions = frozenset(permissions)
    state.draft = cast("Draft", SimpleNamespace(name="prod"))
    state.loaded = cast("LoadedEnvironment", SimpleNamespace(environment=None))
    monkeypatch.setattr(prove_guard, "client_of", lambda _: client_of(server))
    return prove_guard.pytest_cmdline_main(config)


def test_run_prints_who_refused_what(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A table has a row per request, and the verdict follows."""
    with serving(lab()) as server:
        assert run(server, monkeypatch, "observe") == 0

    *lines, empty, last = capsys.readouterr().out.splitlines()
    table = [re.split("  +", line, maxsplit=3) for line in lines]
    assert table[0] == ["layer", "request", "refused by", "message"]
    assert [row[:3] for row in table[1:]] == [
        ["client", "create pods/exec in backstage", "client"],
        ["client", "create pods/eviction in backstage", "client"],
        ["client", "patch deployments.apps in backstage", "client"],
        ["client", "create configmaps in backstage", "client"],
        ["client", "delete pods in backstage", "client"],
        ["RBAC", "create pods/exec in backstage", "RBAC"],
        ["RBAC", "create pods/eviction in backstage", "RBAC"],
        ["RBAC", "patch deployments.apps in backstage", "RBAC"],
        ["RBAC", "create configmaps in backstage", "RBAC"],
        ["RBAC", "delete pods in backstage", "RBAC"],
        ["admission", "delete configmaps in acceptance", "admission"],
    ]
    assert f"ValidatingAdmissionPolicy '{POLICY}' with binding '{POLICY}' denied request" in table[-1][3]
    assert empty == ""
    assert last.startswith("each of client, RBAC, admission alone refuses")


def test_run_ends_with_6_where_a_layer_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 6, and the table is printed before the verdict."""
    with serving(lab(canary=DONE)) as server:
        assert run(server, monkeypatch, "observe") == 6

    assert "admission is not there" in capsys.readouterr().out.splitlines()[-1]


def test_run_ends_with_6_where_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 6, and the output is only the message."""
    with serving(lambda _: refusal("unauthorized")) as server:
        assert run(server, monkeypatch, "observe") == 6

    assert capsys.readouterr().out.startswith("expected: an answer of the API server at ")


def test_run_that_may_do_more_than_observe_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is refused in an environment that allows more than observe, as its identity may write."""
    with serving() as server, pytest.raises(pytest.UsageError, match="an environment that only observes; seen: prod"):
        run(server, monkeypatch, "observe", "connect")


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """The rendered objects of `manifests/operations/guard`, by kind and name."""
    kubectl = Path(sys.executable).with_name("kubectl")
    command = f"{kubectl} kustomize manifests/operations/guard".split()
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(rendered)}


def test_manifests_have_the_names_that_the_proof_asks_for() -> None:
    """The policy matches the identities that RBAC lets delete the canary, a right that preflight does not forbid."""
    found = manifests()
    condition = found["ValidatingAdmissionPolicy", POLICY]["spec"]["matchConditions"][0]["expression"]
    granted = {
        f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
        for subject in found["RoleBinding", f"{POLICY}-canary"]["subjects"]
    }
    [rule] = found["Role", f"{POLICY}-canary"]["rules"]
    canary = found["ConfigMap", f"{POLICY}-canary"]["metadata"]

    assert set(json.loads(condition.partition(" in ")[2])) == granted
    assert OBSERVER in granted
    assert rule["resourceNames"] == [canary["name"]]
    assert CANARY.path == f"/api/v1/namespaces/{canary['namespace']}/configmaps/{canary['name']}"
    assert CANARY.access not in set(forbidden_to_observers(NAMESPACES))
