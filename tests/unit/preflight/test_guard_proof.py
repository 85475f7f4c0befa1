"""The proof of the guard: each layer judged by itself, nothing harmed where none is left, what is missing named."""

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
"""What the lab's API server said to `acceptance-observer`, by layer."""
GONE = Answer(404, '{"kind": "Status", "message": "configmaps \\"acceptance-guard-canary\\" not found"}')
DONE = as_json({})


def lab(*, rbac: Answer = ANSWERS["RBAC"], canary: Answer = ANSWERS["admission"]) -> Callable[[Request], Answer]:
    """An API server that says this to each write, and that to the canary's deletion."""

    def answer(request: Request) -> Answer:
        if request.path.endswith("/selfsubjectreviews"):
            return as_json(RECORDED["identity"], 201)
        return canary if request.path.startswith(CANARY.path) else rbac

    return answer


def client_of(server: Server, guard: Guard = OBSERVING) -> GuardedClient:
    """Client without identity: the script gives it one."""
    return GuardedClient(server.configuration(), guard)


def refusers(server: Server, guard: Guard = OBSERVING) -> dict[str, set[str]]:
    """Who refused, layer by layer."""
    return {proof.layer: {each.by for each in proof.refusals} for proof in prove(client_of(server, guard))}


def test_each_layer_refuses_what_it_alone_has_to_refuse() -> None:
    """All three, by the words of the API server where it answers."""
    with serving(lab()) as server:
        assert refusers(server) == {"client": {"client"}, "RBAC": {"RBAC"}, "admission": {"admission"}}


def test_everything_that_reaches_the_cluster_is_a_dry_run_or_cannot_be_done() -> None:
    """One request for each kind of write, none of them twice, and that of the canary; exec without an upgrade."""
    with serving(lab()) as server:
        prove(client_of(server))

    asked = [(request.method, request.path.partition("?")[0]) for request in server.requests]
    wanted = [(write.method, write.path) for write in (*writes("backstage"), CANARY)]
    assert asked == wanted
    assert all(request.path.endswith("?dryRun=All") for request in server.requests[1:])
    assert server.requests[0].path.endswith("/exec?command=true&stdout=true")
    assert "Upgrade" not in server.requests[0].headers


class Careless(Guard):
    """Lets everything pass."""

    @override
    def check(self, access: Access) -> None: ...


def test_client_without_its_guard_is_found_before_anything_reaches_the_cluster() -> None:
    """What it sends goes to the proof's own server."""
    with serving(lab()) as server:
        found = refusers(server, Careless(OBSERVING.permissions, NAMESPACES))

    assert found == {"client": {"nobody"}, "RBAC": {"RBAC"}, "admission": {"admission"}}
    assert len(server.requests) == len(writes("backstage")) + 1


def sentence(server: Server) -> str:
    """What a run says in the end."""
    return prove_guard.verdict(OBSERVER, prove(client_of(server)))


def test_good_end_is_one_sentence() -> None:
    """It names who was proved."""
    with serving(lab()) as server:
        assert sentence(server) == f"each of client, RBAC, admission alone refuses the writes of {OBSERVER}"


def test_missing_policy_is_told_and_nothing_is_deleted() -> None:
    """The canary's deletion passed, as a dry run."""
    with serving(lab(canary=DONE)) as server:
        assert sentence(server) == (
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
    """Not there, not granted, or refused by somebody else."""
    with serving(lab(canary=canary)) as server:
        assert f"admission is not there: delete configmaps in acceptance was {seen}" in sentence(server)


@pytest.mark.parametrize("answer", [DONE, ANSWERS["admission"], GONE], ids=["done", "admission", "not there"])
def test_write_that_rbac_lets_pass_is_told(answer: Answer) -> None:
    """Whatever came of it behind RBAC."""
    with serving(lab(rbac=answer)) as server:
        assert "seen: RBAC is not there: create pods/exec in backstage was refused by " in sentence(server)


@pytest.mark.parametrize("name", ["unauthorized", "unavailable"])
def test_api_server_that_says_nothing_about_a_write_proves_nothing(name: str) -> None:
    """One sentence, as preflight says it."""
    answer = refusal(name) if name in RECORDED else Answer(503, "")

    with (
        serving(lambda _: answer) as server,
        pytest.raises(NoVerdictError, match="expected: an answer of the API server"),
    ):
        prove(client_of(server))


def test_unguarded_client_lets_nothing_else_pass() -> None:
    """It is for the writes of the proof alone."""
    with serving() as server:
        raw = unguarded(client_of(server), [CANARY])
        with pytest.raises(ForbiddenByEnvironmentError):
            send(raw, writes("backstage")[0])

    assert server.connections == 0


def run(server: Server, monkeypatch: pytest.MonkeyPatch, *permissions: str) -> int | None:
    """`pytest --prove-guard` in an environment of these permissions."""
    config = cast("pytest.Config", SimpleNamespace(getoption=lambda _: True, stash=pytest.Stash()))
    state = state_of(config)
    state.permissions = frozenset(permissions)
    state.draft = cast("Draft", SimpleNamespace(name="prod"))
    state.loaded = cast("LoadedEnvironment", SimpleNamespace(environment=None))
    monkeypatch.setattr(prove_guard, "client_of", lambda _: client_of(server))
    return prove_guard.pytest_cmdline_main(config)


def test_run_prints_who_refused_what(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each request, then the sentence."""
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
    """The table is printed all the same."""
    with serving(lab(canary=DONE)) as server:
        assert run(server, monkeypatch, "observe") == 6

    assert "admission is not there" in capsys.readouterr().out.splitlines()[-1]


def test_run_ends_with_6_where_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence."""
    with serving(lambda _: refusal("unauthorized")) as server:
        assert run(server, monkeypatch, "observe") == 6

    assert capsys.readouterr().out.startswith("expected: an answer of the API server at ")


def test_run_that_may_do_more_than_observe_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its identity is meant to write."""
    with serving() as server, pytest.raises(pytest.UsageError, match="an environment that only observes; seen: prod"):
        run(server, monkeypatch, "observe", "connect")


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """What is applied, by kind and name."""
    kubectl = Path(sys.executable).with_name("kubectl")
    command = f"{kubectl} kustomize manifests/operations/guard".split()
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(rendered)}


def test_manifests_have_the_names_that_the_proof_asks_for() -> None:
    """The canary is granted to whom the policy refuses, and lies where preflight asks for no excess."""
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
