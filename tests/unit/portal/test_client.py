"""How a user comes to the portal: signed in as the environment says, at the address that it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

import fixtures.portal.client
from fixtures.environment.schema import PortalTable
from fixtures.outcomes import NoVerdictError
from fixtures.portal.client import PinnedTransport, Portal, portal_of
from fixtures.portal.pinned import Pin

PORTAL: dict[str, Any] = {"hostname": "portal.test", "tls_minimum": "TLSv1.2", "certificate_days_left": 1}
Answer = Callable[[httpx.Request], httpx.Response]


def portal(monkeypatch: pytest.MonkeyPatch, answer: Answer, **portal: object) -> Portal:
    """The way to a portal that answers so."""
    found = portal_of(PortalTable.model_validate({**PORTAL, **portal}), timeout=1)
    transport = httpx.MockTransport(answer)
    anonymous = Portal.anonymous
    monkeypatch.setattr(
        Portal, "anonymous", lambda self, **options: anonymous(self, **{"transport": transport, **options})
    )
    return found


def echo(request: httpx.Request) -> httpx.Response:
    """The token for whoever asks as guest, else what was sent."""
    if request.url.path == "/api/auth/guest/refresh":
        return httpx.Response(200, json={"backstageIdentity": {"token": "guest's"}})
    return httpx.Response(200, json=dict(request.headers))


def test_guest_is_signed_in_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the portal's own token."""
    way = portal(monkeypatch, echo, auth="guest")

    with way.client(headers={"Accept": "text/html"}) as http:
        seen = http.get("/").json()

    assert (seen["authorization"], seen["accept"]) == ("Bearer guest's", "text/html")
    assert seen["host"] == "portal.test"


def test_user_of_iap_is_signed_in_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the proxy by Google's identity token, for Backstage by the token that it gives in return."""
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Proxy-Authorization"))
        return httpx.Response(200, json={"backstageIdentity": {"token": "user's"}})

    monkeypatch.setattr(fixtures.portal.client, "iap_token", lambda audience: f"token for {audience}")
    way = portal(monkeypatch, answer, auth="iap", iap_audience="portal")

    assert way.headers == {"Proxy-Authorization": "Bearer token for portal", "Authorization": "Bearer user's"}
    assert asked == ["Bearer token for portal"]


def test_bearer_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the variable that the file names, or there is no verdict."""
    way = portal(monkeypatch, echo, auth="bearer", token_variable="PORTAL_TOKEN")  # noqa: S106 - a name
    monkeypatch.delenv("PORTAL_TOKEN", raising=False)
    with pytest.raises(NoVerdictError) as refused:
        way.client()
    monkeypatch.setenv("PORTAL_TOKEN", "owner's")

    assert str(refused.value) == (
        "expected: a token for the portal in the variable PORTAL_TOKEN\nseen: none\nlook next: [portal] token_variable"
    )
    assert way.headers == {"Authorization": "Bearer owner's"}


def test_portal_that_lets_nobody_in_breaks_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing in needs the database: a 500 there is what users see."""
    way = portal(monkeypatch, lambda _: httpx.Response(500), auth="guest")

    with pytest.raises(AssertionError) as broken:
        way.client()

    assert str(broken.value) == (
        "expected: sign-in at https://portal.test/api/auth/guest/refresh\nseen: 500 Internal Server Error\n"
        "look next: its database, which signing in needs; kubectl logs of the pods"
    )


@pytest.mark.parametrize(("control", "kind"), [(200, AssertionError), (503, NoVerdictError)])
def test_no_answer_is_the_probers_trouble_where_the_control_page_fails_too(
    monkeypatch: pytest.MonkeyPatch, control: int, kind: type[Exception]
) -> None:
    """A promise is not broken by the network of whoever looks."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    way = portal(monkeypatch, fail, auth="guest", control_url="https://control.test/")
    monkeypatch.setattr(httpx, "get", lambda _url, **_options: httpx.Response(control))

    with pytest.raises(kind, match="expected: sign-in at"):
        way.client()


@pytest.mark.parametrize("hostname", ["portal.test", "xn--bcher-kva.test"])
def test_pinned_address_keeps_the_name(hostname: str) -> None:
    """Connection to the address; TLS and Host speak of the portal, in the letters that DNS knows."""
    table = {**PORTAL, "hostname": hostname, "auth": "none", "pinned_address": "127.0.0.9"}
    way = portal_of(PortalTable.model_validate(table), timeout=1)
    sent: list[httpx.Request] = []

    class Recording(PinnedTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            sent.append(request)
            with pytest.raises(httpx.ConnectError):
                super().handle_request(request)
            return httpx.Response(200)

    with way.client(transport=Recording(Pin(hostname, "127.0.0.9"), verify=False)) as http:
        http.get(f"https://{hostname}:1/")

    assert str(sent[0].url) == "https://127.0.0.9:1/"
    assert sent[0].headers["Host"] == f"{hostname}:1"
    assert sent[0].extensions["sni_hostname"] == hostname
