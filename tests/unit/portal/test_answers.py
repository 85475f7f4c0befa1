"""One request to one address: how the response is parsed and judged, and what a missing response means."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from fixtures.environment.schema import PortalTable
from fixtures.outcomes import NoVerdictError
from fixtures.portal import answers
from fixtures.portal.answers import Answer, fetch, is_backstage_page, no_answer_error, redirects_to
from fixtures.portal.client import Portal

HOSTNAME = "backstage.lab.test"
PORTAL = PortalTable.model_validate(
    {"hostname": HOSTNAME, "tls_minimum": "TLSv1.2", "certificate_days_left": 1, "auth": "none"}
)
IAP = PORTAL.model_copy(update={"auth": "iap", "iap_audience": "audience"})
PAGE = f"<html>{PORTAL.marker}></html>"


def portal(address: str = "127.0.0.1", portal: PortalTable = PORTAL) -> Portal:
    """A Portal at this address, with no CA file and a timeout of 5 s."""
    return Portal(HOSTNAME, address, None, 5, portal)


async def _answer(request: web.Request) -> web.Response:
    if request.path == "/old":
        raise web.HTTPMovedPermanently(f"https://{request.host}/new")
    return web.Response(
        text=f"{request.host} wants {request.path_qs}", headers={"x-goog-iap-generated-response": "true"}
    )


@pytest.fixture
def port(serve: Callable[[web.Application], str]) -> int:
    """Port of a server that echoes the Host header and the path of each request."""
    app = web.Application()
    app.router.add_get("/{path:.*}", _answer)
    return httpx.URL(serve(app)).port or 0


def test_request_goes_to_the_address_and_asks_for_the_name(port: int) -> None:
    """The request goes to the given address without a DNS lookup and carries the portal's hostname."""
    answer = fetch(portal(), f"http://{HOSTNAME}:{port}/page?a=b")

    assert answer == Answer("127.0.0.1", 200, body=f"{HOSTNAME}:{port} wants /page?a=b", generated_by_proxy=True)


def test_request_may_ask_for_another_name_than_tls_does(port: int) -> None:
    """A hostname that the portal does not serve can still be requested at the portal's address."""
    assert fetch(portal(), f"http://{HOSTNAME}:{port}/", host="nobody.invalid").body == "nobody.invalid wants /"


def test_redirect_is_an_answer(port: int) -> None:
    """A redirect is returned as it is, not followed."""
    answer = fetch(portal(), f"http://{HOSTNAME}:{port}/old")

    assert (answer.status, answer.location) == (301, f"https://{HOSTNAME}:{port}/new")


def test_silence_is_an_answer_that_says_why() -> None:
    """A refused connection is an answer without a status, unless the control page shows that the prober is at fault."""
    # A port that was just released refuses connections.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    assert str(fetch(portal(), f"http://{HOSTNAME}:{port}/")) == "127.0.0.1: no answer: Connection refused"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer("10.0.0.1", 503, body="no healthy upstream\n"), "10.0.0.1: 503, no healthy upstream"),
        (Answer("10.0.0.1", 404), "10.0.0.1: 404, no body"),
        (Answer("10.0.0.1", 200, body=PAGE + "x" * 60), f"10.0.0.1: 200, {len(PAGE) + 60} characters"),
        (Answer("10.0.0.1", 302, location="https://elsewhere/"), "10.0.0.1: 302 to https://elsewhere/"),
    ],
)
def test_answer_is_shown_in_few_words(answer: Answer, text: str) -> None:
    """A page's text is left out of messages; a load balancer's own short error text is kept."""
    assert str(answer) == text


@pytest.mark.parametrize(
    ("answer", "portal", "own"),
    [
        pytest.param(Answer("", 200, body=PAGE), PORTAL, True, id="page"),
        pytest.param(Answer("", 200, body="<html></html>"), PORTAL, False, id="another page"),
        pytest.param(Answer("", 404, body=PAGE), PORTAL, False, id="not found"),
        pytest.param(Answer(""), PORTAL, False, id="nothing"),
        pytest.param(Answer("", 302, location="https://accounts.google.com/o/oauth2"), IAP, True, id="sign-in"),
        pytest.param(Answer("", 302, generated_by_proxy=True), IAP, True, id="the proxy's own answer"),
        pytest.param(Answer("", 403, generated_by_proxy=True), IAP, False, id="refused by the proxy"),
        pytest.param(Answer("", 200, body=PAGE), IAP, False, id="page that the proxy should have kept back"),
        pytest.param(Answer("", 302, location="https://elsewhere/"), IAP, False, id="another redirect"),
    ],
)
def test_own_page_is_known_by_what_only_it_has(answer: Answer, portal: PortalTable, *, own: bool) -> None:
    """A status 200 alone proves nothing; behind IAP the sign-in redirect is what identifies the portal."""
    assert is_backstage_page(answer, portal) is own


@pytest.mark.parametrize(
    ("status", "location", "good"),
    [
        (301, f"https://{HOSTNAME}/a?b=c", True),
        (308, f"https://{HOSTNAME}:443/a?b=c", True),
        (302, f"https://{HOSTNAME}/a?b=c", False),
        (301, f"https://{HOSTNAME}/", False),
        (301, f"http://{HOSTNAME}/a?b=c", False),
        (301, "", False),
        (301, "https://[", False),
        (200, "", False),
    ],
)
def test_redirect_is_for_good_and_to_the_same_page(status: int, location: str, *, good: bool) -> None:
    """A temporary redirect, or one to the front page, does not count."""
    assert redirects_to(Answer("", status, location=location), f"https://{HOSTNAME}/a?b=c") is good


def connect_error(cause: BaseException) -> httpx.ConnectError:
    """The cause wrapped in a ConnectError, as httpx raises it."""
    error = httpx.ConnectError("connect")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        pytest.param(
            connect_error(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")),
            AssertionError,
            "expected: an answer\nseen: ConnectError: 10.0.0.1: Connection refused\n"
            f"look next: curl -v https://{HOSTNAME}/",
            id="refused",
        ),
        pytest.param(
            connect_error(ssl.SSLError(1, "[SSL: TLSV1_UNRECOGNIZED_NAME] unrecognized name")),
            AssertionError,
            "expected: an answer\nseen: 10.0.0.1: [SSL: TLSV1_UNRECOGNIZED_NAME] unrecognized name\n"
            "look next: openssl s_client -connect 10.0.0.1:443",
            id="TLS",
        ),
        pytest.param(
            OSError(errno.ENETUNREACH, "Network is unreachable"),
            NoVerdictError,
            "expected: an answer\nseen: 10.0.0.1: Network is unreachable\nlook next: the prober's network",
            id="no network",
        ),
        pytest.param(
            httpx.ReadTimeout("timed out"),
            AssertionError,
            f"expected: an answer\nseen: ConnectError: 10.0.0.1: timed out\nlook next: curl -v https://{HOSTNAME}/",
            id="timeout",
        ),
    ],
)
def test_no_answer_breaks_the_promise_unless_it_lies_with_the_prober(
    error: OSError | httpx.RequestError, kind: type[Exception], text: str
) -> None:
    """The message names the innermost cause and the address; an unreachable network is the prober's problem."""
    found = no_answer_error(portal("10.0.0.1"), "an answer", error)

    assert (type(found), str(found)) == (kind, text)


def test_no_answer_is_no_verdict_if_the_control_page_does_not_answer_either() -> None:
    """If the control page is unreachable as well, nothing can be said about the portal: the request raises."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    cut_off = PORTAL.model_copy(update={"control_url": f"http://127.0.0.1:{port}/"})

    with pytest.raises(NoVerdictError) as ended:
        fetch(portal(portal=cut_off), f"http://{HOSTNAME}:{port}/")

    assert str(ended.value) == (
        "expected: an answer of 127.0.0.1\n"
        f"seen: ConnectError: 127.0.0.1: Connection refused, and http://127.0.0.1:{port}/ does not answer either\n"
        "look next: the prober's network"
    )


def test_refused_certificate_is_said_in_its_own_words() -> None:
    """The message says why the client rejects the certificate, not where in OpenSSL the error was raised."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "certificate has expired"

    assert answers.reason(connect_error(error)) == "its certificate is refused: certificate has expired"


def test_connection_is_new_and_trusts_only_the_given_authority(tmp_path: Path) -> None:
    """Each fetch loads the CA file; a file without certificates is a configuration error, not a broken promise."""
    empty = tmp_path / "ca.pem"
    empty.write_text("")
    without_trust = Portal(HOSTNAME, "127.0.0.1", empty, 5, PORTAL)

    with pytest.raises(ssl.SSLError):
        fetch(without_trust, "/")
