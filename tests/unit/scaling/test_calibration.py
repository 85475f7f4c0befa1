"""Calibration: CPU usage of the pods, the rate that exceeds the target, and the request to send."""

from __future__ import annotations

import gzip

import httpx
import pytest

from fixtures.objects.manifest import Field, Manifest
from fixtures.outcomes import NoVerdictError
from fixtures.scaling.calibration import (
    AIM_RATIO,
    corrected_rate,
    cpu_source,
    first_rate,
    heaviest_page,
    scripts_in,
    target_cores,
    usage_of,
)
from tests.unit.patched import ABSENT
from tests.unit.recorded_autoscaler import CPU, HPA, METRICS, PODS, hpa_with


def test_usage_is_what_the_pods_used_against_the_target() -> None:
    """Two pods use 17.9m and 21.6m, with a target of 60 % of 220m each; the window spans those of both pods."""
    seen = usage_of(METRICS, PODS, Manifest(HPA))

    assert seen is not None
    assert seen.ratio == pytest.approx((0.017926426 + 0.021583577) / 0.264)
    assert seen.end - seen.begin == pytest.approx(16.922)


def test_usage_is_unknown_while_a_pod_has_no_metrics() -> None:
    """Without pods the usage is unknown too."""
    assert usage_of(METRICS[:1], PODS, Manifest(HPA)) is None
    assert usage_of(METRICS, [], Manifest(HPA)) is None


@pytest.mark.parametrize(
    ("target", "cores"),
    [
        ({"name": "cpu", "target": {"averageUtilization": 60}}, 0.132),
        ({"name": "cpu", "container": "backstage", "target": {"averageUtilization": 60}}, 0.12),
        ({"name": "cpu", "target": {"averageValue": "150m"}}, 0.15),
    ],
)
def test_target_is_of_all_requests_of_one_container_or_an_amount(target: dict[str, object], cores: float) -> None:
    """The sidecar's request counts unless the metric names one container."""
    assert target_cores(PODS[0], Field(target)) == pytest.approx(cores)


def test_hpa_that_does_not_go_by_cpu_cannot_be_loaded() -> None:
    """CPU is the only metric that load is certain to raise."""
    with pytest.raises(NoVerdictError) as failed:
        cpu_source(Manifest(hpa_with(CPU, ABSENT)))
    assert str(failed.value) == (
        "expected: HorizontalPodAutoscaler backstage/backstage to scale on CPU, which load can raise\n"
        "seen: other metrics\n"
        "look next: its spec.metrics"
    )


def test_first_rate_is_that_of_requests_that_keep_two_cores_busy() -> None:
    """The first rate is limited to what one process can send."""
    assert first_rate(0.05, 0.264, 0.15) == pytest.approx((AIM_RATIO - 0.15) * 0.264 / 0.1)
    assert first_rate(0.0001, 0.264, 0.15) == 200


@pytest.mark.parametrize(
    ("ratio", "rate"),
    [(1.2, 8.0), (1.9, 8.0), (0.8, 8 * 1.2 / 0.6), (0.2, 32.0), (0.1, 32.0), (2.2, 8 * 1.2 / 2.0), (9.0, 2.0)],
)
def test_rate_is_corrected_towards_the_aim(ratio: float, rate: float) -> None:
    """Usage without load is 0.2; one step changes the rate by at most a factor of four, or not at all near the aim."""
    assert corrected_rate(8.0, 0.2, ratio) == pytest.approx(rate)


def test_scripts_are_found_in_pages_and_in_scripts() -> None:
    """Only scripts of the portal's own origin count, each once; relative paths resolve against the file they are in."""
    page = '<script type="module" src="/static/main.R6.js"></script><script src="https://cdn.test/a.js"></script>'
    script = 'import{a as b}from"./chunk.VO.js";import("./chunk.VO.js");const x="json"; import "../other.js"'

    assert scripts_in(page, "/") == ["/static/main.R6.js"]
    assert scripts_in(script, "/static/main.R6.js") == ["/static/chunk.VO.js", "/other.js"]


def portal(encoding: str) -> httpx.MockTransport:
    """A portal whose page loads one script, and that script another, which is compressed if `encoding` is gzip."""
    texts = {
        "/": '<script src="/static/main.js"></script>',
        "/static/main.js": 'import"./big.js";import"./gone.js"',
        "/static/big.js": "x" * 1000,
    }

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.method == "HEAD":
            kind = "application/javascript" if path in texts else "text/html"
            # A portal sends its index page for an unknown path; here it is larger than any script.
            size = str(len(texts.get(path, "x" * 5000)))
            return httpx.Response(200, headers={"Content-Type": kind, "Content-Length": size})
        body = texts.get(path, "").encode()
        if path == "/static/big.js" and encoding == request.headers["Accept-Encoding"] == "gzip":
            return httpx.Response(200, content=gzip.compress(body), headers={"Content-Encoding": "gzip"})
        return httpx.Response(200, content=body)

    return httpx.MockTransport(answer)


class FakePortal:
    """The parts of a Portal that calibration uses."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    def client(self, headers: dict[str, str]) -> httpx.Client:
        """A client with the headers of a user."""
        return httpx.Client(base_url=self.url(), transport=self._transport, headers=headers)

    def url(self) -> str:
        """The portal's base URL."""
        return "https://portal.test"


@pytest.mark.parametrize(
    ("encoding", "path"), [("gzip", "/static/big.js"), ("as it is", "/api/catalog/entities/by-query?limit=20")]
)
def test_heaviest_request_is_for_the_largest_script_that_must_be_compressed(encoding: str, path: str) -> None:
    """If nothing is compressed, a catalog query is used; the HTML page sent for a missing script does not count."""
    page, seconds = heaviest_page(FakePortal(portal(encoding)))  # type: ignore[arg-type] # has all that is used

    assert page.path == path
    assert 0 < seconds < 1


def test_portal_that_does_not_answer_leaves_no_verdict_about_scaling() -> None:
    """Whether the portal responds is judged by another check."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(NoVerdictError) as failed:
        heaviest_page(FakePortal(httpx.MockTransport(refuse)))  # type: ignore[arg-type] # has all that is used
    assert str(failed.value) == (
        "expected: the scripts of the portal's page\n"
        "seen: ConnectError: connection refused\n"
        "look next: curl -v https://portal.test"
    )
