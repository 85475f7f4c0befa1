"""What preflight asks, what it makes of the answers, and how it ends when there are none."""

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
    """What the lab's API server allows one of the identities of `manifests/rbac`, of all that was asked about."""
    answers = json.loads(Path(f"tests/unit/recorded/preflight/{identity}.json").read_text())
    assert answers["identity"] == f"system:serviceaccount:acceptance:acceptance-{identity}"
    return set(answers["allowed"])


def judged(guard: Guard, identity: str) -> Findings:
    """What preflight finds out about an identity whose rights were recorded."""
    may = recorded(identity)
    allowed = {access: str(access) in may for access in questions(guard)}
    return judge(guard, f"system:serviceaccount:acceptance:acceptance-{identity}", allowed, frozenset(custom_kinds()))


def test_observer_has_the_rights_of_observe_and_nothing_more() -> None:
    """Nothing is wrong with it."""
    found = judged(OBSERVING, "observer")

    assert found == Findings(OBSERVER, frozenset({"observe"}))
    assert found.problem() is None


def test_connector_is_too_much_where_only_observing_is_allowed() -> None:
    """Both exec and port-forward are named, with both verbs that open them."""
    assert judged(OBSERVING, "connector").problem() == (
        "expected: a cluster in which system:serviceaccount:acceptance:acceptance-connector has the rights of observe "
        "and nothing more; seen: may create,get pods/exec,pods/portforward in backstage; "
        "look next: docs/permissions.md, `make rbac`"
    )


def test_disrupter_is_too_much_where_only_observing_is_allowed() -> None:
    """Everything that it could change is in one sentence."""
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
    """Only an environment that observes insists on the least."""
    assert judged(CONNECTING, "disrupter").problem() is None


def test_missing_rights_are_listed_in_one_sentence() -> None:
    """A connector cannot run an environment that also applies and disrupts."""
    permissions = frozenset({"observe", "connect", "disrupt"})

    assert judged(Guard(permissions, NAMESPACES), "connector").problem() == (
        "expected: a cluster in which system:serviceaccount:acceptance:acceptance-connector has the rights of "
        "observe, connect, disrupt; seen: may not create,delete,patch,update leases.coordination.k8s.io in backstage, "
        "create pods/eviction in backstage, delete pods in backstage; look next: docs/permissions.md, `make rbac`"
    )


def test_nodes_that_may_not_be_patched_are_told_and_stop_nothing() -> None:
    """On Autopilot a drain does without a cordon."""
    allowed = dict.fromkeys(questions(EVERYTHING), True) | {Access("patch", "nodes"): False}

    found = judge(EVERYTHING, "jane", allowed, frozenset(custom_kinds()))

    assert found.without == (Access("patch", "nodes"),)
    assert found.problem() is None


def test_absent_kinds_are_named() -> None:
    """A cluster without Managed Prometheus and without the Gateway API."""
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
    """Absent, missing and excessive."""
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
    """Same verbs on one line, same line in several namespaces once."""
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
    """Even where two permissions want the same."""
    asked = questions(EVERYTHING)

    assert len(asked) == len(set(asked))


def test_only_an_environment_that_observes_is_asked_about_too_much() -> None:
    """The others may have what they like."""
    reading_secrets = Access("list", "secrets", namespace="mcp")

    assert reading_secrets in questions(OBSERVING)
    assert reading_secrets not in questions(EVERYTHING)


def lab(may: Callable[[str], bool]) -> Callable[[Request], Answer]:
    """The lab's API server, which allows what is told."""

    def answer(request: Request) -> Answer:
        _, _, group, _, *resource = request.path.split("?")[0].split("/")
        match resource:
            case ["selfsubjectreviews"]:
                return as_json(RECORDED["identity"], 201)
            case ["selfsubjectaccessreviews"]:
                return as_json(RECORDED["allowed" if may(str(asked_about(request.body))) else "refused"], 201)
            case _:
                return as_json(RECORDED[group])

    return answer


def asked_about(review: Json) -> Access:
    """What a SelfSubjectAccessReview asks about."""
    asked = review["spec"]["resourceAttributes"]
    resource = "/".join(filter(None, (asked["resource"], asked["subresource"])))
    return Access(asked["verb"], resource, asked["group"], asked["namespace"])


def client_of(server: Server, guard: Guard) -> GuardedClient:
    """Client without identity: the script gives it one."""
    configuration = server.configuration()
    configuration.retries = 0
    configuration.connection_pool_maxsize = CONNECTIONS  # type: ignore[attr-defined] # the stubs lack it
    return GuardedClient(configuration, guard)


def test_preflight_asks_the_api_server_and_finds_nothing_wrong() -> None:
    """All questions, each once, and nothing but reviews and discovery."""
    may = recorded("connector")
    with serving(lab(may.__contains__)) as server:
        found = preflight(client_of(server, CONNECTING))

    asked = [asked_about(request.body) for request in server.requests if request.path.endswith("accessreviews")]
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
    """An identity that may do anything could change production."""
    allowed = dict.fromkeys(questions(OBSERVING), True)

    found = judge(OBSERVING, "kubernetes-super-admin", allowed, frozenset(custom_kinds()))

    assert found.missing == ()
    assert set(found.excessive) == set(forbidden_to_observers(NAMESPACES))
    assert found.problem() is not None


def test_preflight_names_the_kinds_of_a_group_that_is_not_there() -> None:
    """404 is an answer: the custom resource definitions are not installed."""
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
    """Whichever question it is that gets no answer."""
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
    """It is not waited for longer than the whole may take."""
    ended = threading.Event()
    answers = lab(lambda _: True)

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
    """A server under load answers each question in time, and all of them too late."""
    given: Future[bool] = Future()
    given.set_result(True)

    with pytest.raises(NoVerdictError) as failed:
        gathered([given, Future()], within=0.01, host="https://lab.test")

    assert str(failed.value) == (
        "expected: 2 answers of the API server at https://lab.test within 0.0 s; seen: 1; "
        "look next: its load, and the way to it"
    )


def test_preflight_ends_where_the_clocks_differ() -> None:
    """Whatever is judged by its age would be judged wrongly."""
    answers = lab(recorded("connector").__contains__)

    def of_new_year(request: Request) -> Answer:
        answer = answers(request)
        return replace(answer, headers={**answer.headers, "Date": "Thu, 01 Jan 2026 12:00:00 GMT"})

    with serving(of_new_year) as server, pytest.raises(NoVerdictError, match=r"clock within 10 s .* ahead of"):
        preflight(client_of(server, CONNECTING))
