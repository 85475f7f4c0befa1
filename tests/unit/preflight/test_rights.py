"""Preflight: the rights it asks about, how it judges the answers, and how it ends without an answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.api.client import CONNECTIONS, GuardedClient
from fixtures.guard.permissions import PERMISSIONS, Guard, forbidden_to_observers
from fixtures.guard.request_attributes import Access, Namespaces
from fixtures.outcomes import NoVerdictError
from fixtures.preflight.rights import Findings, custom_kinds, gathered, judge, preflight, questions, summary
from tests.unit.apiserver import RECORDED, Answer, Json, Request, Server, as_json, refusal, serving

NAMESPACES = Namespaces(deployment="backstage", route="backstage", gateway="mcp")
OBSERVING = Guard(frozenset({"observe"}), NAMESPACES)
CONNECTING = Guard(frozenset({"observe", "connect"}), NAMESPACES)
EVERYTHING = Guard(frozenset(PERMISSIONS), NAMESPACES)
OBSERVER = "system:serviceaccount:acceptance:acceptance-observer"


def recorded(identity: str) -> set[str]:
    """Rights that the lab's API server grants to an identity of `manifests/rbac`, of all that preflight asks about."""
    answers = json.loads(Path(f"tests/unit/recorded/preflight/{identity}.json").read_text())
    assert answers["identity"] == f"system:serviceaccount:acceptance:acceptance-{identity}"
    return set(answers["allowed"])


def judged(guard: Guard, identity: str) -> Findings:
    """Findings about an identity with the recorded rights."""
    may = recorded(identity)
    allowed = {access: str(access) in may for access in questions(guard)}
    return judge(guard, f"system:serviceaccount:acceptance:acceptance-{identity}", allowed, frozenset(custom_kinds()))


def test_observer_has_the_rights_of_observe_and_nothing_more() -> None:
    """The observer of `manifests/rbac` has no missing and no excessive rights."""
    found = judged(OBSERVING, "observer")

    assert found == Findings(OBSERVER, frozenset({"observe"}))
    assert found.problem() is None


def test_connector_is_too_much_where_only_observing_is_allowed() -> None:
    """Exec and port-forward are excessive, each with the verbs get and create, as either opens a stream."""
    assert judged(OBSERVING, "connector").problem() == (
        "expected: a cluster in which system:serviceaccount:acceptance:acceptance-connector has the rights of observe "
        "and nothing more; seen: may create,get pods/exec,pods/portforward in backstage; "
        "look next: docs/permissions.md, `make rbac`"
    )


def test_disrupter_is_too_much_where_only_observing_is_allowed() -> None:
    """One message has all writes that the disrupter may do."""
    assert judged(OBSERVING, "disrupter").problem() == (
        "expected: a cluster in which system:serviceaccount:acceptance:acceptance-disrupter has the rights of observe "
        "and nothing more; seen: may create,delete,patch deployments.apps,healthcheckpolicies.networking.gke.io,"
        "horizontalpodautoscalers.autoscaling,httproutes.gateway.networking.k8s.io,poddisruptionbudgets.policy,"
        "podmonitorings.monitoring.googleapis.com,referencegrants.gateway.networking.k8s.io,"
        "secretproviderclasses.secrets-store.csi.x-k8s.io,serviceaccounts,services in backstage, "
        "create,delete,patch,update leases.coordination.k8s.io in backstage, create pods/eviction in all namespaces, "
        "create,get pods/exec,pods/portforward in backstage, delete pods in backstage, "
        "patch namespaces in backstage, patch nodes; look next: docs/permissions.md, `make rbac`"
    )


def test_disrupter_may_have_more_than_it_needs_where_more_than_observing_is_allowed() -> None:
    """Excessive rights are a problem only in an environment that allows just observe."""
    assert judged(CONNECTING, "disrupter").problem() is None


def test_missing_rights_are_listed_in_one_sentence() -> None:
    """A connector lacks the rights of disrupt, and one message lists them."""
    permissions = frozenset({"observe", "connect", "disrupt"})

    assert judged(Guard(permissions, NAMESPACES), "connector").problem() == (
        "expected: a cluster in which system:serviceaccount:acceptance:acceptance-connector has the rights of "
        "observe, connect, disrupt; seen: may not create,delete,patch,update leases.coordination.k8s.io in backstage, "
        "create pods/eviction in backstage, delete pods in backstage; look next: docs/permissions.md, `make rbac`"
    )


def test_nodes_that_may_not_be_patched_are_told_and_stop_nothing() -> None:
    """GKE Autopilot forbids patches of nodes; that is reported, but no problem, as a drain can skip the cordon."""
    allowed = dict.fromkeys(questions(EVERYTHING), True) | {Access("patch", "nodes"): False}

    found = judge(EVERYTHING, "jane", allowed, frozenset(custom_kinds()))

    assert found.without == (Access("patch", "nodes"),)
    assert found.problem() is None


def test_absent_kinds_are_named() -> None:
    """Kinds whose custom resource definitions are not installed are named."""
    allowed = {access: str(access) in recorded("observer") for access in questions(OBSERVING)}

    found = judge(OBSERVING, OBSERVER, allowed, frozenset({
        "gateways.gateway.networking.k8s.io", "healthcheckpolicies.networking.gke.io",
        "secretproviderclasses.secrets-store.csi.x-k8s.io",
    }))  # fmt: skip

    assert found.problem() == (
        f"expected: a cluster in which {OBSERVER} has the rights of observe and nothing more; "
        "seen: the cluster does not know httproutes.gateway.networking.k8s.io, "
        "podmonitorings.monitoring.googleapis.com; look next: docs/permissions.md, `make rbac`"
    )


def test_all_problems_are_in_one_sentence() -> None:
    """One message has absent kinds, missing rights and excessive rights."""
    found = Findings(
        "jane",
        frozenset({"observe"}),
        absent=("podmonitorings.monitoring.googleapis.com",),
        missing=(Access("list", "pods", namespace="backstage"),),
        excessive=(Access("patch", "nodes"),),
    )

    assert found.problem() == (
        "expected: a cluster in which jane has the rights of observe and nothing more; "
        "seen: the cluster does not know podmonitorings.monitoring.googleapis.com; may not list pods in backstage; "
        "may patch nodes; look next: docs/permissions.md, `make rbac`"
    )


def test_summary_gathers_verbs_kinds_and_namespaces() -> None:
    """Resources with the same verbs are combined, and so are namespaces with the same rights."""
    accesses = [
        Access(verb, resource, namespace=namespace)
        for verb in ("patch", "create")
        for resource in ("services", "configmaps")
        for namespace in ("mcp", "backstage")
    ]

    assert summary([*accesses, Access("patch", "nodes")]) == (
        "create,patch configmaps,services in backstage and mcp, patch nodes"
    )


def test_questions_are_each_asked_once() -> None:
    """A right that two permissions need is asked about once."""
    asked = questions(EVERYTHING)

    assert len(asked) == len(set(asked))


def test_only_an_environment_that_observes_is_asked_about_too_much() -> None:
    """Excessive rights are asked about only in an environment that allows just observe."""
    reading_secrets = Access("list", "secrets", namespace="mcp")

    assert reading_secrets in questions(OBSERVING)
    assert reading_secrets not in questions(EVERYTHING)


def lab(may: Callable[[str], bool]) -> Callable[[Request], Answer]:
    """The lab's API server with its recorded answers; `may` decides about each access."""

    def answer(request: Request) -> Answer:
        _, _, group, _, *resource = request.path.split("?")[0].split("/")
        match resource:
            case ["selfsubjectreviews"]:
                return as_json(RECORDED["identity"], 201)
            case ["selfsubjectaccessreviews"]:
                return as_json(RECORDED["allowed" if may(str(access_of(request.body))) else "refused"], 201)
            case _:
                return as_json(RECORDED[group])

    return answer


def access_of(review: Json) -> Access:
    """The access that a SelfSubjectAccessReview asks about."""
    attributes = review["spec"]["resourceAttributes"]
    resource = "/".join(filter(None, (attributes["resource"], attributes["subresource"])))
    return Access(attributes["verb"], resource, attributes["group"], attributes["namespace"])


def client_of(server: Server, guard: Guard) -> GuardedClient:
    """Client without credentials; the server's script tells it its identity."""
    configuration = server.configuration()
    configuration.retries = 0
    configuration.connection_pool_maxsize = CONNECTIONS  # type: ignore[attr-defined] # the stubs lack it
    return GuardedClient(configuration, guard)


def test_preflight_asks_the_api_server_and_finds_nothing_wrong() -> None:
    """Preflight sends each question once, and nothing but reviews and discovery."""
    may = recorded("connector")
    with serving(lab(may.__contains__)) as server:
        found = preflight(client_of(server, CONNECTING))

    asked = [access_of(request.body) for request in server.requests if request.path.endswith("accessreviews")]
    assert found == Findings(OBSERVER, frozenset({"observe", "connect"}))
    assert sorted(asked) == sorted(questions(CONNECTING))
    assert {request.path for request in server.requests} == {
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "/apis/gateway.networking.k8s.io/v1",
        "/apis/networking.gke.io/v1",
        "/apis/monitoring.googleapis.com/v1",
        "/apis/secrets-store.csi.x-k8s.io/v1",
    }


def test_admin_is_too_much_where_only_observing_is_allowed() -> None:
    """Every forbidden right of an admin is excessive."""
    allowed = dict.fromkeys(questions(OBSERVING), True)

    found = judge(OBSERVING, "kubernetes-super-admin", allowed, frozenset(custom_kinds()))

    assert found.missing == ()
    assert set(found.excessive) == set(forbidden_to_observers(NAMESPACES))
    assert found.problem() is not None


def test_preflight_names_the_kinds_of_a_group_that_is_not_there() -> None:
    """404 from discovery means that the custom resource definitions are not installed."""
    answers = lab(lambda _: True)
    without = "/apis/networking.gke.io/v1"

    with (
        serving(lambda request: refusal("absent") if request.path == without else answers(request)) as server,
        pytest.raises(NoVerdictError) as refused,
    ):
        preflight(client_of(server, CONNECTING))

    assert str(refused.value) == (
        f"expected: a cluster in which {OBSERVER} has the rights of observe, connect; "
        "seen: the cluster does not know healthcheckpolicies.networking.gke.io; "
        "look next: docs/permissions.md, `make rbac`"
    )


@pytest.mark.parametrize("path", ["/selfsubjectreviews", "/selfsubjectaccessreviews", "/apis/networking.gke.io/v1"])
def test_preflight_ends_with_one_sentence_when_the_server_refuses_it(path: str) -> None:
    """401 to any of the questions ends the run without a verdict."""
    answers = lab(lambda _: True)

    with (
        serving(lambda r: refusal("unauthorized") if r.path.endswith(path) else answers(r)) as server,
        pytest.raises(NoVerdictError) as failed,
    ):
        preflight(client_of(server, CONNECTING))

    assert str(failed.value) == (
        f"expected: an answer of the API server at {server.url}; seen: it does not know this identity (401); "
        "look next: kubectl auth whoami"
    )


def test_preflight_ends_in_time_when_an_answer_stays_away() -> None:
    """One request without an answer ends preflight at its deadline, 0.6 s here."""
    ended = threading.Event()
    answers = lab(lambda _: True)

    # The other answers take some of the 0.6 s; the wait below ends when preflight has given up.
    def silent_in_one_place(request: Request) -> Answer:
        if request.path == "/apis/networking.gke.io/v1":
            ended.wait(5)
        return answers(request)

    with serving(silent_in_one_place) as server:
        with pytest.raises(NoVerdictError) as failed:
            preflight(client_of(server, CONNECTING), within=0.6)
        ended.set()

    assert str(failed.value) == (
        f"expected: an answer of the API server at {server.url}; seen: no answer in time; "
        "look next: the way to it: VPN, authorized networks, firewall"
    )


def test_answers_that_come_too_late_are_counted() -> None:
    """A loaded server may answer each request in time, and still not all by the deadline; the answers are counted."""
    given: Future[bool] = Future()
    given.set_result(True)

    with pytest.raises(NoVerdictError) as failed:
        gathered([given, Future()], within=0.01, host="https://lab.test")

    assert str(failed.value) == (
        "expected: 2 answers of the API server at https://lab.test within 0.0 s; seen: 1; "
        "look next: its load, and the way to it"
    )


def test_preflight_ends_where_the_clocks_differ() -> None:
    """Clock skew ends the run without a verdict: ages of objects could not be judged."""
    answers = lab(recorded("connector").__contains__)

    def of_new_year(request: Request) -> Answer:
        answer = answers(request)
        return replace(answer, headers={**answer.headers, "Date": "Thu, 01 Jan 2026 12:00:00 GMT"})

    with serving(of_new_year) as server, pytest.raises(NoVerdictError, match=r"clock within 10 s .* ahead of"):
        preflight(client_of(server, CONNECTING))
