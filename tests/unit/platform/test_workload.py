"""Workload: the lab's pods are as promised, and each departure from that is reported."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fixtures.api.pods import Pod
from fixtures.objects.manifest import Field
from fixtures.platform import workload
from fixtures.reference.reference import render
from tests.unit.patched import ABSENT, RECORDED, patched, recorded_reference, with_patch

DEPLOYMENT = recorded_reference().the("Deployment")
PODS = tuple(Pod(Field(each.body)) for each in render(RECORDED / "workload" / "pods.yaml").manifests)
FIRST, SECOND = PODS[0].name, PODS[1].name
CREATED = datetime.fromisoformat(PODS[0].body["metadata"]["creationTimestamp"].text)
PORTAL, PROXY = "/status/containerStatuses/0", "/status/initContainerStatuses/0"


def pods_after(*changes: tuple[str, object]) -> tuple[Pod, ...]:
    """The lab's pods with fields of the first one changed."""
    body = PODS[0].body.mapping
    for pointer, value in changes:
        body = patched(body, pointer, value)
    return (Pod(Field(body)), *PODS[1:])


def ended(at: str, reason: str = "OOMKilled", code: int = 137) -> dict[str, object]:
    """The state of a container that ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": at, "finishedAt": at}}


def test_pods_of_the_lab_are_as_promised() -> None:
    """Each function finds the pods that it judges, and no problem with them."""
    assert len(PODS) == 2
    assert len([each for each in workload.containers_of(PODS) if each.long_running]) == 4
    assert workload.not_ready(DEPLOYMENT, PODS) == ()
    assert workload.native_sidecars(DEPLOYMENT) == ("cloud-sql-proxy",)
    assert workload.late_sidecars(DEPLOYMENT, PODS) == ()
    assert workload.wrong_images(DEPLOYMENT, PODS) == ()
    assert workload.running_as_root(PODS) == ()
    assert workload.wrong_service_accounts(DEPLOYMENT, PODS) == ()
    assert workload.terminations(PODS, CREATED) == ()
    assert sorted(workload.pods_per_node(PODS).values()) == [1, 1]


@pytest.mark.parametrize(
    ("pointer", "value", "problem"),
    [
        (f"{PORTAL}/ready", False, "/backstage not ready (running)"),
        (f"{PROXY}/ready", False, "/cloud-sql-proxy not ready (running)"),
        (
            PORTAL,
            {"name": "backstage", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
            "/backstage not ready (CrashLoopBackOff)",
        ),
        (PORTAL, {"name": "backstage", "state": ended("")}, "/backstage not ready (OOMKilled)"),
        ("/status", {}, "/backstage not ready (unknown)"),
    ],
)
def test_container_that_is_not_ready_is_told_with_its_state(pointer: str, value: object, problem: str) -> None:
    """A sidecar that is not ready is reported like the portal's container."""
    assert workload.not_ready(DEPLOYMENT, pods_after((pointer, value)))[-1] == f"{FIRST}{problem}"


def test_container_that_a_pod_lacks_is_told() -> None:
    """A container that the Deployment has and the pod lacks is reported by each check."""
    without = pods_after(("/spec/initContainers", []))

    assert workload.not_ready(DEPLOYMENT, without) == (f"no cloud-sql-proxy in {FIRST}",)
    assert workload.wrong_images(DEPLOYMENT, without) == (f"no cloud-sql-proxy in {FIRST}",)
    assert workload.late_sidecars(DEPLOYMENT, without) == (f"no cloud-sql-proxy in {FIRST}",)


def test_injected_container_is_nobodys_promise() -> None:
    """A container that a mesh or an agent injects is ignored."""
    injected = pods_after(("/spec/containers/-", {"name": "agent", "image": "agent"}))

    assert workload.not_ready(DEPLOYMENT, injected) == ()
    assert workload.wrong_images(DEPLOYMENT, injected) == ()


def test_other_image_is_told() -> None:
    """The image of the pod counts, as the Deployment may already name a newer one."""
    candidate = recorded_reference().with_image("registry.test/backstage@sha256:0").the("Deployment")

    assert workload.wrong_images(candidate, PODS) == tuple(
        f"{name}/backstage of lab.local/backstage:lab" for name in (FIRST, SECOND)
    )


def test_image_that_never_ran_is_told() -> None:
    """A container that has never run its image is reported."""
    pulling = pods_after((f"{PORTAL}/imageID", ""), (f"{PORTAL}/state", {"waiting": {"reason": "ErrImagePull"}}))

    assert workload.wrong_images(DEPLOYMENT, pulling) == (f"{FIRST}/backstage has not run (ErrImagePull)",)


def test_running_images_are_listed_with_what_runs() -> None:
    """Running images are listed with their digests, as a tag may move."""
    assert len(workload.running_images(PODS)) == 4
    assert workload.running_images(PODS)[1].startswith(f"{FIRST}/backstage lab.local/backstage:lab ")
    assert "sha256:" in workload.running_images(PODS)[1]


def test_sidecar_among_the_ordinary_containers_is_not_native() -> None:
    """A sidecar among the ordinary containers starts and ends in no order, whatever its restart policy."""
    proxy = {"name": "cloud-sql-proxy", "restartPolicy": "Always"}
    ordinary = pods_after(("/spec/initContainers", []), ("/spec/containers/-", proxy))

    assert workload.late_sidecars(DEPLOYMENT, ordinary) == (
        f"{FIRST}/cloud-sql-proxy is no init container with restartPolicy Always",
    )


def test_reference_without_native_sidecar_has_none() -> None:
    """An init container that ends is no native sidecar."""
    pointer = "/spec/template/spec/initContainers/0/restartPolicy"

    assert (
        workload.native_sidecars(with_patch(recorded_reference(), "Deployment", pointer, ABSENT).the("Deployment"))
        == ()
    )


def test_sidecar_that_started_late_is_told_with_both_times() -> None:
    """A sidecar that started after Backstage is reported with both times."""
    late = pods_after(
        (f"{PORTAL}/state/running/startedAt", "2026-11-24T12:00:03Z"),
        (f"{PROXY}/state/running/startedAt", "2026-11-24T12:00:05Z"),
    )

    assert workload.late_sidecars(DEPLOYMENT, late) == (
        f"{FIRST}/cloud-sql-proxy started at 12:00:05Z, but backstage at 12:00:03Z",
    )


def test_restarted_sidecar_is_judged_by_when_its_pod_was_initialized() -> None:
    """The pod's Initialized time counts for a restarted sidecar, as its first start is no longer recorded."""
    restarted = (
        (f"{PROXY}/restartCount", 3),
        (f"{PROXY}/state/running/startedAt", "2036-11-24T12:00:05Z"),
    )
    initialized = [
        {"type": "Initialized", "status": "True", "lastTransitionTime": "2036-11-24T12:00:01Z"},
    ]

    assert workload.late_sidecars(DEPLOYMENT, pods_after(*restarted)) == ()
    late = workload.late_sidecars(DEPLOYMENT, pods_after(*restarted, ("/status/conditions", initialized)))
    assert [each.split(", but")[0] for each in late] == [f"{FIRST}/cloud-sql-proxy started at 12:00:01Z"]


@pytest.mark.parametrize(
    ("pointer", "value", "states"),
    [
        (f"{PROXY}/started", False, "cloud-sql-proxy running, backstage running"),
        (
            f"{PORTAL}/state",
            {"waiting": {"reason": "PodInitializing"}},
            "cloud-sql-proxy running, backstage PodInitializing",
        ),
        (
            f"{PORTAL}/state",
            {"terminated": {"reason": "StartError", "startedAt": "1970-01-01T00:00:00Z"}},
            "cloud-sql-proxy running, backstage StartError",
        ),
    ],
)
def test_pod_that_has_not_started_proves_no_order(pointer: str, value: object, states: str) -> None:
    """A container that has not started is reported, not taken for one that started in time."""
    assert workload.late_sidecars(DEPLOYMENT, pods_after((pointer, value))) == (
        f"not everything in {FIRST} has started ({states})",
    )


def test_portal_that_crashes_is_still_known_to_have_started_after_its_sidecar() -> None:
    """The start of a crashing container's last attempt is enough to prove the order."""
    crashing = {
        "name": "backstage",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": ended("2036-11-24T12:00:05Z"),
    }

    assert workload.late_sidecars(DEPLOYMENT, pods_after((PORTAL, crashing))) == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ([("/spec/containers/0/securityContext/runAsUser", 0)], "/backstage as user 0"),
        ([(f"{PORTAL}/user", {"linux": {"uid": 0}})], "/backstage as user 0"),
        (
            [("/spec/securityContext", {}), ("/spec/containers/0/securityContext", {})],
            "/backstage without runAsNonRoot and without runAsUser",
        ),
        (
            [
                ("/spec/containers/0/securityContext/runAsNonRoot", False),
                ("/spec/containers/0/securityContext/runAsUser", ABSENT),
            ],
            "/backstage without runAsNonRoot and without runAsUser",
        ),
    ],
)
def test_container_that_runs_or_may_run_as_root_is_told(changes: list[tuple[str, object]], problem: str) -> None:
    """The container's security context wins over the pod's, and the user in the status over both."""
    assert workload.running_as_root(pods_after(*changes)) == (f"{FIRST}{problem}",)


def test_user_of_the_pod_is_enough() -> None:
    """Containers without a security context take the pod's user."""
    taken_over = pods_after(("/spec/securityContext", {"runAsUser": 1000}), ("/spec/containers/0/securityContext", {}))

    assert workload.running_as_root(taken_over) == ()


def test_other_service_account_is_told() -> None:
    """A pod under another ServiceAccount is reported with the account's name."""
    assert workload.wrong_service_accounts(DEPLOYMENT, pods_after(("/spec/serviceAccountName", "default"))) == (
        f"{FIRST} as default",
    )


def test_reference_without_service_account_means_the_default_one() -> None:
    """A reference without a ServiceAccount expects `default`, which the API server fills in."""
    unnamed = with_patch(recorded_reference(), "Deployment", "/spec/template/spec/serviceAccountName", ABSENT)

    assert workload.wrong_service_accounts(unnamed.the("Deployment"), PODS) == (
        f"{FIRST} as backstage",
        f"{SECOND} as backstage",
    )


def test_pods_without_a_node_are_on_none() -> None:
    """A pending pod counts on no node."""
    assert len(workload.pods_per_node(pods_after(("/spec/nodeName", ABSENT)))) == 1


SINCE = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
DURING, BEFORE = "2026-11-24T12:00:09Z", "2026-11-24T11:59:59Z"


@pytest.mark.parametrize(
    ("pointer", "value", "problem"),
    [
        (f"{PORTAL}/lastState", ended(DURING), f"/backstage ended at {DURING} (OOMKilled, exit 137)"),
        (f"{PORTAL}/state", ended(DURING, "Error", 1), f"/backstage ended at {DURING} (Error, exit 1)"),
        (
            f"{PROXY}/lastState",
            ended(DURING, "Completed", 0),
            f"/cloud-sql-proxy ended at {DURING} (Completed, exit 0)",
        ),
    ],
)
def test_container_that_ended_during_the_run_is_told_with_its_reason(pointer: str, value: object, problem: str) -> None:
    """A container that ended during the run is reported, whether it runs again or not."""
    assert workload.terminations(pods_after((pointer, value)), SINCE) == (f"{FIRST}{problem}",)


def test_container_that_ended_before_the_run_is_of_no_interest() -> None:
    """Ends from before the run are ignored."""
    assert (
        workload.terminations(pods_after((f"{PORTAL}/lastState", ended(BEFORE)), (f"{PORTAL}/restartCount", 1)), SINCE)
        == ()
    )


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (ended(DURING, "Completed", 0), ()),
        (ended(DURING), (f"{FIRST}/migrate ended at {DURING} (OOMKilled, exit 137)",)),
    ],
)
def test_init_container_that_is_no_sidecar_has_to_end_well(end: dict[str, object], told: tuple[str, ...]) -> None:
    """An init container may end with exit code 0 and with no other."""
    pods = pods_after(
        ("/spec/initContainers/-", {"name": "migrate"}),
        ("/status/initContainerStatuses/-", {"name": "migrate", "state": end}),
    )

    assert workload.terminations(pods, SINCE) == told


def test_restart_whose_end_is_forgotten_is_told() -> None:
    """A restart during the run is reported even if the runtime no longer has the state of the dead container."""
    again = pods_after(
        ("/metadata/creationTimestamp", BEFORE),
        (f"{PORTAL}/restartCount", 1),
        (f"{PORTAL}/state/running/startedAt", DURING),
    )

    assert workload.terminations(again, SINCE) == (
        f"{FIRST}/backstage was started again at 12:00:09Z; its end is not recorded",
    )
