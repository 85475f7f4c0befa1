"""How DNS answers are judged, with a DNS server on the loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from fixtures.environment.schema import PortalTable
from fixtures.outcomes import NoVerdictError
from fixtures.portal.dns import DnsAnswer, Lookup, NoAnswerError, lookup, resolve

HOSTNAME = "backstage.lab.test"
PORTAL = PortalTable.model_validate(
    {
        "hostname": HOSTNAME,
        "tls_minimum": "TLSv1.2",
        "certificate_days_left": 1,
        "auth": "none",
        "resolver": "127.0.0.1",
        "control_url": "https://control.test/page",
    }
)
RECORDS = {
    (HOSTNAME, "A"): ("10.0.0.1", "10.0.0.2"),
    (HOSTNAME, "AAAA"): ("2001:DB8::1",),
    ("control.test", "A"): ("10.0.0.9",),
}


def reply(query: dns.message.Message) -> dns.message.Message:
    """Records for known names, SERVFAIL for `broken.test`, NXDOMAIN for the rest."""
    [question] = query.question
    name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.RA
    known = {each for each, _ in RECORDS}
    if name == "broken.test":
        answer.set_rcode(dns.rcode.SERVFAIL)
    elif name not in known:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif (name, kind) in RECORDS:
        answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *RECORDS[name, kind]))
    return answer


@pytest.fixture
def look_up() -> Iterator[Lookup]:
    """A lookup that asks a DNS server running in a thread."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]

        def serve() -> None:
            while True:
                data, client = server.recvfrom(4096)
                if not data:
                    return
                with contextlib.suppress(OSError):
                    server.sendto(reply(dns.message.from_wire(data)).to_wire(), client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield lookup("127.0.0.1", timeout=5, port=port)
        # Closing the socket would not wake recvfrom() up; an empty datagram does.
        server.sendto(b"", ("127.0.0.1", port))
        thread.join()


def test_answer_has_addresses_of_both_kinds(look_up: Lookup) -> None:
    """IPv6 addresses are normalised to the spelling that other sources use."""
    assert look_up(HOSTNAME) == DnsAnswer(frozenset({"10.0.0.1", "10.0.0.2", "2001:db8::1"}))


def test_name_without_ipv6_has_the_others(look_up: Lookup) -> None:
    """A name without AAAA records resolves to its A records."""
    assert look_up("control.test") == DnsAnswer(frozenset({"10.0.0.9"}))


def test_name_that_is_not_there_is_an_answer(look_up: Lookup) -> None:
    """NXDOMAIN is what users get too, so it counts as an answer about the portal."""
    assert str(resolve(PORTAL.model_copy(update={"hostname": "gone.test"}), look_up)) == "there is no name gone.test"


def test_name_that_alone_cannot_be_resolved_is_an_answer(look_up: Lookup) -> None:
    """The resolver works for the control hostname, so the failure is the portal's."""
    found = resolve(PORTAL.model_copy(update={"hostname": "broken.test"}), look_up)

    assert not found.addresses
    assert str(found).startswith("the resolver answers for other names, not for this one: All nameservers failed")


@pytest.mark.parametrize("control", [None, f"https://{HOSTNAME}/", "https://control.test/"])
def test_resolver_that_fails_for_all_names_is_no_verdict(control: str | None) -> None:
    """Nothing can be said about the portal if the resolver fails for every name."""

    def silent(_name: str) -> DnsAnswer:
        raise NoAnswerError("timed out")

    with pytest.raises(NoVerdictError) as ended:
        resolve(PORTAL.model_copy(update={"control_url": control}), silent)

    assert str(ended.value) == (
        f"expected: an answer of 127.0.0.1 for {HOSTNAME}\nseen: timed out\nlook next: dig {HOSTNAME} @127.0.0.1"
    )
