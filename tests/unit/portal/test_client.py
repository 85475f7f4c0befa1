"""Access to the portal: sign-in as the environment declares it, at the address that it declares."""

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


def portal_with(monkeypatch: pytest.MonkeyPatch, answer: Answer, **table: object) -> Portal:
    """A Portal whose requests the handler answers."""
    found = portal_of(PortalTable.model_validate({**PORTAL, **table}), timeout=1)
    transport = httpx.MockTransport(answer)
    anonymous = Portal.anonymous
    monkeypatch.setattr(
        Portal, "anonymous", lambda self, **options: anonymous(self, **{"transport": transport, **options})
    )
    return found


def echo(request: httpx.Request) -> httpx.Response:
    """Return a token for the guest sign-in, else the request's headers as JSON."""
    if request.url.path == "/api/auth/guest/refresh":
        return httpx.Response(200, json={"backstageIdentity": {"token": "guest's"}})
    return httpx.Response(200, json=dict(request.headers))


def test_guest_is_signed_in_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sends the token that the portal issues to guests."""
    portal = portal_with(monkeypatch, echo, auth="guest")

    with portal.client(headers={"Accept": "text/html"}) as http:
        seen = http.get("/").json()

    assert (seen["authorization"], seen["accept"]) == ("Bearer guest's", "text/html")
    assert seen["host"] == "portal.test"


def test_user_of_iap_is_signed_in_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """IAP gets Google's identity token, and Backstage the token that it issues in exchange."""
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Proxy-Authorization"))
        return httpx.Response(200, json={"backstageIdentity": {"token": "user's"}})

    monkeypatch.setattr(fixtures.portal.client, "iap_token", lambda audience: f"token for {audience}")
    portal = portal_with(monkeypatch, answer, auth="iap", iap_audience="portal")

    assert portal.headers == {"Proxy-Authorization": "Bearer token for portal", "Authorization": "Bearer user's"}
    assert asked == ["Bearer token for portal"]


def test_bearer_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is read from the variable that the file names; without it there is no verdict."""
    portal = portal_with(monkeypatch, echo, auth="bearer", token_variable="PORTAL_TOKEN")  # noqa: S106 - a name
    monkeypatch.delenv("PORTAL_TOKEN", raising=False)
    with pytest.raises(NoVerdictError) as refused:
        portal.client()
    monkeypatch.setenv("PORTAL_TOKEN", "owner's")

    assert str(refused.value) == (
        "expected: a token for the portal in the variable PORTAL_TOKEN\nseen: none\nlook next: [portal] token_variable"
    )
    assert portal.headers == {"Authorization": "Bearer owner's"}


def test_portal_that_lets_nobody_in_breaks_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign-in needs the database, so a 500 there is what users see."""
    portal = portal_with(monkeypatch, lambda _: httpx.Response(500), auth="guest")

    with pytest.raises(AssertionError) as broken:
        portal.client()

    assert str(broken.value) == (
        "expected: sign-in at https://portal.test/api/auth/guest/refresh\nseen: 500 Internal Server Error\n"
        "look next: its database, which signing in needs; kubectl logs of the pods"
    )


@pytest.mark.parametrize(("control", "kind"), [(200, AssertionError), (503, NoVerdictError)])
def test_no_answer_is_the_probers_trouble_where_the_control_page_fails_too(
    monkeypatch: pytest.MonkeyPatch, control: int, kind: type[Exception]
) -> None:
    """A failure of the prober's own network must not break a promise."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    portal = portal_with(monkeypatch, fail, auth="guest", control_url="https://control.test/")
    monkeypatch.setattr(httpx, "get", lambda _url, **_options: httpx.Response(control))

    with pytest.raises(kind, match="expected: sign-in at"):
        portal.client()


@pytest.mark.parametrize("hostname", ["portal.test", "xn--bcher-kva.test"])
def test_pinned_address_keeps_the_name(hostname: str) -> None:
    """The connection goes to the address; SNI and Host carry the hostname, in its IDNA form."""
    table = {**PORTAL, "hostname": hostname, "auth": "none", "pinned_address": "127.0.0.9"}
    portal = portal_of(PortalTable.model_validate(table), timeout=1)
    sent: list[httpx.Request] = []

    class Recording(PinnedTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            sent.append(request)
            # Nothing listens at the pinned address; only the rewritten request matters.
            with pytest.raises(httpx.ConnectError):
                super().handle_request(request)
            return httpx.Response(200)

    with portal.client(transport=Recording(Pin(hostname, "127.0.0.9"), verify=False)) as http:
        http.get(f"https://{hostname}:1/")

    assert str(sent[0].url) == "https://127.0.0.9:1/"
    assert sent[0].headers["Host"] == f"{hostname}:1"
    assert sent[0].extensions["sni_hostname"] == hostname
