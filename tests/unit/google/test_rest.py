"""Google's REST APIs: the meaning of each status code, and access tokens."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from fixtures.environment.schema import GoogleTable
from fixtures.google.rest import GoogleApis, NotFoundError, RefusedError
from fixtures.google.tokens import token_source
from fixtures.outcomes import NoVerdictError

URL = "https://sqladmin.example/sql/v1beta4/projects/p/instances/i"
SETTINGS = {"project": "p", "location": "l", "cluster": "c"}


def answering(response: httpx.Response) -> GoogleApis:
    """Client that gets this response to every request."""
    return GoogleApis(lambda: "secret", timeout=1, transport=httpx.MockTransport(lambda _: response))


def test_get_signs_in_and_sends_the_query() -> None:
    """The token is sent as a bearer token; keyword arguments become the query string."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"state": "RUNNABLE"})

    apis = GoogleApis(lambda: "secret", timeout=1, transport=httpx.MockTransport(answer))

    assert apis.get(URL, view="FULL")["state"].text == "RUNNABLE"
    assert requests[0].headers["Authorization"] == "Bearer secret"
    assert str(requests[0].url) == f"{URL}?view=FULL"


@pytest.mark.parametrize(
    ("code", "kind"),
    [(404, NotFoundError), (401, RefusedError), (403, RefusedError), (429, NoVerdictError), (503, NoVerdictError)],
)
def test_refusal_is_told_in_googles_words(code: int, kind: type[NoVerdictError]) -> None:
    """An error status ends without a verdict, in Google's words; 404 and denied access have their own classes."""
    with pytest.raises(NoVerdictError) as refused:
        answering(httpx.Response(code, json={"error": {"message": "not you"}})).get(URL, view="FULL")

    assert type(refused.value) is kind
    assert str(refused.value) == (
        f"expected: an answer of {URL}\nseen: {code} not you\nlook next: docs/permissions.md: roles on Google's side"
    )


def test_answer_that_is_no_json() -> None:
    """A 200 that is no JSON, such as the login page of a proxy, has no verdict."""
    with pytest.raises(NoVerdictError) as refused:
        answering(httpx.Response(200, text="<html>")).get(URL)

    assert str(refused.value) == f"expected: JSON from {URL}\nseen: <html>\nlook next: the address in [google]"


def test_no_answer() -> None:
    """A connection error has no verdict."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(NoVerdictError) as refused:
        GoogleApis(lambda: "secret", timeout=1, transport=httpx.MockTransport(fail)).get(URL)

    assert str(refused.value) == f"expected: an answer of {URL}\nseen: refused\nlook next: the way to it"


def test_token_of_a_file_is_read_anew(tmp_path: Path) -> None:
    """The file is read for each request, as another process may renew the token."""
    file = tmp_path / "token"
    token = token_source(GoogleTable.model_validate({**SETTINGS, "token_file": file}))

    file.write_text("one\n")
    first = token()
    file.write_text("two\n")

    assert (first, token()) == ("one", "two")


def test_token_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing token file or variable ends without a verdict, and the message names the key."""
    monkeypatch.delenv("TOKEN", raising=False)

    with pytest.raises(NoVerdictError) as of_file:
        token_source(GoogleTable.model_validate({**SETTINGS, "token_file": tmp_path / "none"}))()
    with pytest.raises(NoVerdictError) as of_variable:
        token_source(GoogleTable.model_validate({**SETTINGS, "token_variable": "TOKEN"}))()

    assert str(of_file.value) == (
        f"expected: an access token in {tmp_path}/none\nseen: No such file or directory\nlook next: [google] token_file"
    )
    assert str(of_variable.value) == (
        "expected: an access token in the variable TOKEN\nseen: none\nlook next: [google] token_variable"
    )
