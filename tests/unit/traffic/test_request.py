"""One request: its phases and the names of its failures, over real connections to a server in the same event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fixtures.traffic import request as traffic_request
from fixtures.traffic.outages import TrafficRow
from fixtures.traffic.plan import Page, TrafficPlan
from fixtures.traffic.request import TrafficClient, reason

PLAN = TrafficPlan("", None, None, {"Authorization": "Bearer token"}, Page("/", "backstage.io"), request_limit=5.0)
IMPATIENT = replace(PLAN, address="127.0.0.1", connect_limit=0.05, request_limit=0.1)
"""Short limits. The address is set because a name lookup, even a trivial one, can exceed them on a busy machine."""
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<backstage.io>"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(answer: bytes, *, then_reset: bool = False) -> Handler:
    """A handler that sends this response to every request, then goes on reading or closes the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer)
            if then_reset:
                return

    return handle


@contextlib.asynccontextmanager
async def serving(handler: Handler, certificate: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Port of a server with this handler; on exit, waits until all its connections have ended."""
    connections: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await handler(reader, writer)
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=certificate) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*connections)


def rows_from(
    handler: Handler,
    plan: TrafficPlan = PLAN,
    *,
    kinds: tuple[str, ...] = ("new",),
    scheme: str = "http",
    host: str = "127.0.0.1",
    certificate: ssl.SSLContext | None = None,
) -> list[TrafficRow]:
    """Rows of one client that sends a request of each kind, one after the other."""

    async def ask() -> list[TrafficRow]:
        async with serving(handler, certificate) as port:
            client, now = (
                TrafficClient(replace(plan, url=f"{scheme}://{host}:{port}")),
                asyncio.get_running_loop().time(),
            )
            rows = [await client.send(kind, now, 0.0) for kind in kinds]
            await client.close()
            return rows

    return asyncio.run(ask())


def row_from(handler: Handler, plan: TrafficPlan = PLAN, **options: str) -> TrafficRow:
    """The row of a single request on a new connection."""
    [row] = rows_from(handler, plan, **options)  # type: ignore[arg-type]
    return row


def test_good_answer_has_its_marker() -> None:
    """The row records the peer's address and the duration of each phase."""
    row = row_from(answering(PAGE))

    assert (row.outcome, row.status, row.address, row.detail) == ("good", 200, "127.0.0.1", "")
    assert list(row.phases) == ["name", "connect", "first byte", "body"]
    assert sum(row.phases.values()) == pytest.approx(row.seconds, abs=0.05)


def test_request_is_signed_in_and_asks_for_the_page_of_its_kind() -> None:
    """Database requests ask for another page than the rest."""
    asked = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(PAGE)
        await writer.drain()
        writer.close()

    rows_from(handler=handle, kinds=("reused", "database"))

    assert [request.split()[1] for request in asked] == ["/", "/api/catalog/entities/by-query?limit=1"]
    assert all("Authorization: Bearer token" in request for request in asked)


def test_new_connection_is_new_and_a_reused_one_is_kept() -> None:
    """Only the first request of the reused kind opens a connection; new connections never enter or leave the pool."""
    rows = rows_from(answering(PAGE), kinds=("reused", "new", "reused", "new", "database"))

    assert [row.opened for row in rows] == [True, True, False, True, False]
    assert {row.address for row in rows} == {"127.0.0.1"}


def test_reused_connection_that_the_server_closes_in_time_costs_no_request() -> None:
    """`Connection: close` announces it, and the next request opens a new connection."""
    closing = PAGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)

    rows = rows_from(answering(closing), kinds=("reused", "reused"))

    assert [(row.outcome, row.opened) for row in rows] == [("good", True), ("good", True)]


@pytest.mark.parametrize(
    ("answer", "outcome", "status"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "5xx", 503),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "4xx", 401),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "wrong body", 302),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "wrong body", 200),
    ],
)
def test_answer_that_is_not_the_page_is_a_failure(answer: bytes, outcome: str, status: int) -> None:
    """The status decides, and for a 200 the body."""
    row = row_from(answering(answer))

    assert (row.outcome, row.status) == (outcome, status)


@pytest.mark.parametrize(
    ("kind", "detail"), [(b"text/plain; charset=utf-8", "no healthy upstream"), (b"text/html", "")]
)
def test_words_of_a_load_balancer_are_kept_of_a_failed_answer(kind: bytes, detail: str) -> None:
    """A load balancer's plain text explains the backend's state; an application's HTML is left out."""
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 20\r\nContent-Type: " + kind

    assert row_from(answering(head + b"\r\n\r\nno healthy upstream\n")).detail == detail


@pytest.mark.parametrize(("sent", "phase"), [(b"", "first byte"), (PAGE[:-5], "body")])
def test_connection_that_breaks_off_is_a_reset(sent: bytes, phase: str) -> None:
    """The last phase shows whether it broke off before the response or in the middle of it."""
    row = row_from(answering(sent, then_reset=True))

    assert (row.outcome, row.status, list(row.phases)[-1]) == ("reset", None, phase)


@pytest.mark.parametrize(("sent", "phase"), [(b"", "first byte"), (PAGE[:-5], "body")])
def test_answer_that_does_not_end_in_time_is_too_slow(sent: bytes, phase: str) -> None:
    """A request that hangs is cancelled at the request limit."""
    row = row_from(answering(sent), IMPATIENT)

    assert (row.outcome, row.detail, list(row.phases)[-1]) == ("too slow", "out of time", phase)
    assert row.seconds >= 0.1


def test_closed_port_is_a_refused_connection() -> None:
    """A closed port is refused by the machine at once, not by a timeout."""
    # A port that was just released refuses connections.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]

    row = asyncio.run(TrafficClient(replace(PLAN, url=f"http://127.0.0.1:{closed}")).send("new", 0.0, 0.0))

    assert (row.outcome, list(row.phases)) == ("connect refused", ["name", "connect"])
    assert "Connect" in row.detail


def test_connection_that_nobody_takes_is_a_timeout() -> None:
    """With a full backlog the kernel drops further SYNs, as a black hole would."""
    with contextlib.ExitStack() as open_sockets, socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        # Linux completes one connection more than the backlog says; the rest fill the queue of half-open ones.
        for _ in range(3):
            waiting = open_sockets.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(address)
        plan = replace(IMPATIENT, url=f"http://127.0.0.1:{address[1]}")
        row = asyncio.run(TrafficClient(plan).send("new", 0.0, 0.0))

    assert (row.outcome, row.detail, list(row.phases)) == ("connect timeout", "out of time", ["name", "connect"])


async def unknown(_host: str, _port: int) -> str:
    """Fail as a resolver that does not know the name."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def silent(_host: str, _port: int) -> str:
    """Hang as a resolver that does not respond."""
    return str(await asyncio.Event().wait())


@pytest.mark.parametrize(
    ("resolver", "detail"), [(unknown, "gaierror: Name or service not known"), (silent, "out of time")]
)
def test_name_without_an_address_is_a_failure_of_the_name(
    monkeypatch: pytest.MonkeyPatch, resolver: object, detail: str
) -> None:
    """The resolver's own error text is kept."""
    monkeypatch.setattr(traffic_request, "_first_address", resolver)

    row = row_from(answering(PAGE), replace(IMPATIENT, address=None), host="backstage.test")

    assert (row.outcome, row.detail, list(row.phases), row.address) == ("name", detail, ["name"], "")


def test_server_that_does_not_speak_tls_is_a_failure_of_tls() -> None:
    """The last phase listed is the one that failed."""

    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(PAGE)
        await writer.drain()

    row = row_from(handle, scheme="https")

    assert (row.outcome, list(row.phases)) == ("tls", ["name", "connect", "tls"])


@pytest.mark.parametrize("plan", [IMPATIENT, replace(PLAN, request_limit=0.2)], ids=["of the phase", "of the request"])
def test_silence_amid_tls_is_a_failure_of_tls_and_leaves_no_connection_open(plan: TrafficPlan) -> None:
    """Whichever limit ends the request, the connection is closed; the server waits for that, and the test with it."""
    row = row_from(answering(PAGE), plan, scheme="https")

    assert (row.outcome, row.detail, list(row.phases)) == ("tls", "out of time", ["name", "connect", "tls"])


def certificate_for(name: str, folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server-side TLS context, and the path of the file that a client must trust."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, key_pem = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_pem)
    return context, str(pem)


@pytest.mark.parametrize(
    ("name", "outcome", "detail"),
    [
        ("backstage.test", "good", ""),
        (
            "other.test",
            "tls",
            "SSLCertVerificationError: Hostname mismatch, certificate is not valid for 'backstage.test'.",
        ),
    ],
)
def test_certificate_must_be_for_the_hostname(tmp_path: Path, name: str, outcome: str, detail: str) -> None:
    """The check uses the hostname whatever address is pinned, and no resolver is asked."""
    context, trusted = certificate_for(name, tmp_path)
    plan = replace(PLAN, address="127.0.0.1", ca_file=trusted)

    [row] = rows_from(answering(PAGE), plan, scheme="https", host="backstage.test", certificate=context)

    assert (row.outcome, row.detail, row.address) == (outcome, detail, "127.0.0.1")
    assert list(row.phases)[:3] == ["name", "connect", "tls"]


def test_control_probe_takes_any_answer_for_an_answer() -> None:
    """Any HTTP response shows that the prober's network works."""

    async def probe_result(answer: bytes) -> str:
        async with serving(answering(answer, then_reset=True)) as port:
            return await TrafficClient(PLAN).probe(f"http://127.0.0.1:{port}/", 1.0)

    assert asyncio.run(probe_result(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")) == "good"
    assert asyncio.run(probe_result(b"")) == "reset"


def test_reason_quotes_no_header() -> None:
    """For an error that is not an OSError only the class is named, since its text may contain a token."""
    assert reason(ValueError("Illegal header value b'Bearer secret'")) == "ValueError"
