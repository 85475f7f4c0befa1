"""The recorder's requests to a scripted API server, and the recording made of the responses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from kubernetes.client import ApiClient

from fixtures.scaling.recorder import ScaleRecorder, scaled_of
from tests.unit.apiserver import Answer, Json, Request, Server, as_json, serving
from tests.unit.patched import RECORDED, patched, recorded_reference, with_patch

HPA: Json = json.loads((RECORDED / "autoscaling" / "hpa.json").read_text())
SEEN: Json = json.loads((RECORDED / "autoscaling" / "pods.json").read_text())
ENDED = patched(patched(SEEN["pods"][0], "/metadata/uid", "ended"), "/status/phase", "Failed")
WINDOW = "/spec/behavior/scaleDown/stabilizationWindowSeconds"
GRACE = "/spec/template/spec/terminationGracePeriodSeconds"

LISTS: dict[str, list[Any]] = {
    "horizontalpodautoscalers": [HPA],
    "pods": [*SEEN["pods"], ENDED],
    "events": [],
    "endpointslices": [],
}
ABOUT = "involvedObject.kind=HorizontalPodAutoscaler,involvedObject.name=backstage"
METRICS = {"resources": [{"kind": "PodMetrics", "name": "pods", "namespaced": True}]}


@pytest.fixture
def server() -> Iterator[Server]:
    """Lists return the recorded objects; watches stay open without events."""

    def answer(request: Request) -> Answer:
        url = urlsplit(request.path)
        if "watch" in parse_qs(url.query):
            # Announces a byte that never comes, so the watch stays open.
            return Answer(200, "", {"Content-Length": "1"})
        if url.path == "/apis/metrics.k8s.io/v1beta1":
            return as_json(METRICS)
        items = SEEN["metrics"] if "metrics.k8s.io" in url.path else LISTS[url.path.rpartition("/")[2]]
        return as_json({"metadata": {"resourceVersion": "7"}, "items": items})

    with serving(answer) as server:
        yield server


def test_all_that_scales_is_followed_under_the_names_of_the_reference(server: Server) -> None:
    """It watches one HPA and its events, the pods by label, and the EndpointSlices of the Service."""
    with ScaleRecorder(scaled_of(recorded_reference()), ApiClient(server.configuration())) as recorder:
        assert str(recorder.autoscaler).startswith("2 pods, 2 desired, of 2 to 5")
        assert [pod.uid for pod in recorder.pods] == [body["metadata"]["uid"] for body in SEEN["pods"]]
        used = recorder.usage()
        recording = recorder.recording(100.0, 2)

    assert used is not None
    assert [usage for _, usage in recording.usages] == [used]
    assert (len(recording.autoscaler), len(recording.pods), recording.began, recording.before) == (1, 3, 100.0, 2)
    asked = {unquote(request.path).partition("&allow")[0] for request in server.requests}
    assert {path for path in asked if "?" in path and "watch" not in path} == {
        "/apis/autoscaling/v2/namespaces/backstage/horizontalpodautoscalers?fieldSelector=metadata.name=backstage",
        "/api/v1/namespaces/backstage/pods?labelSelector=app.kubernetes.io/name=backstage",
        f"/api/v1/namespaces/backstage/events?fieldSelector={ABOUT}",
        "/apis/discovery.k8s.io/v1/namespaces/backstage/endpointslices?labelSelector=kubernetes.io/service-name=backstage",
        "/apis/metrics.k8s.io/v1beta1/namespaces/backstage/pods?labelSelector=app.kubernetes.io/name=backstage",
    }


def test_what_the_manifests_leave_open_is_as_kubernetes_has_it() -> None:
    """The defaults are a stabilization window of 300 s and a grace period of 30 s; an explicit 0 is kept."""
    silent = with_patch(
        with_patch(recorded_reference(), "HorizontalPodAutoscaler", WINDOW, None), "Deployment", GRACE, None
    )

    assert (scaled_of(silent).stabilisation, scaled_of(silent).grace) == (300, 30)
    assert scaled_of(with_patch(silent, "HorizontalPodAutoscaler", WINDOW, 0)).stabilisation == 0
    assert (scaled_of(recorded_reference()).stabilisation, scaled_of(recorded_reference()).grace) == (15, 75)
