"""Promise https: users who open the portal's name get Backstage, over a connection that they can trust."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import pytest

from fixtures.api.live import Objects
from fixtures.environment.environment import Environment
from fixtures.environment.timeouts import Timeouts
from fixtures.outcomes import said
from fixtures.portal import certificate, dns, tls_versions
from fixtures.portal.answers import Answer, expected_page, fetch, is_backstage_page, no_answer_error, redirects_to
from fixtures.portal.certificate import PresentedCertificate
from fixtures.portal.client import Portal
from fixtures.portal.dns import DnsAnswer
from fixtures.report.check import Check
from fixtures.subject.gateway import Gateway, read_gateway
from fixtures.waiting import wait_for

pytestmark = pytest.mark.usefixtures("deployed")

NOBODY = "nobody.invalid"
"""A host name that no portal has (RFC 2606)."""
PATH = "/catalog?filters%5Bkind%5D=api"
"""A path with a query, as a redirect must keep both."""


@pytest.fixture(scope="module")
def gateway(environment: Environment, objects: Objects) -> Gateway:
    """The live Gateway, which belongs to the platform."""
    return read_gateway(objects, environment)


@pytest.fixture(scope="module")
def portals(environment: Environment, portal: Portal, gateway: Gateway) -> tuple[Portal, ...]:
    """The portal at each address at which users should reach it; what DNS says is a check of its own."""
    table = environment.portal
    pinned = [table.pinned_address] if table.pinned_address else list(table.expected_addresses)
    addresses = [str(each) for each in pinned] or list(gateway.addresses)
    assert addresses, said(f"an address of {table.hostname}", gateway, gateway.look_next)
    return tuple(portal.at(each) for each in addresses)


@pytest.fixture(scope="module")
def presented(portals: tuple[Portal, ...]) -> dict[str, PresentedCertificate]:
    """The certificate that each address presents for the portal's name."""

    def at(portal: Portal, address: str) -> PresentedCertificate:
        try:
            return certificate.fetch_certificate(address, portal.hostname, portal.ca_file, timeout=portal.timeout)
        except OSError as error:
            raise no_answer_error(portal, f"a certificate for {portal.hostname}", error) from error

    return {address: at(each, address) for each in portals if (address := each.address)}


def look_next(portals: tuple[Portal, ...]) -> str:
    """The command that shows the certificates of the first address."""
    first = portals[0]
    return f"openssl s_client -connect {first.address}:443 -servername {first.hostname} -showcerts"


def test_page_is_backstages_own(
    environment: Environment, portals: tuple[Portal, ...], deadlines: Timeouts, check: Check
) -> None:
    """Users get Backstage's page at every address, and on every new connection."""
    table = environment.portal

    # One good answer proves little while a load balancer converges.
    wait_for(
        f"{expected_page(table)} three times in a row at {environment.portal.hostname}",
        lambda: tuple(fetch(each, "/") for each in portals),
        until=lambda answers: all(is_backstage_page(each, table) for each in answers),
        within=deadlines.first_answer,
        every=1,
        in_a_row=3,
        look_next=f"kubectl -n {environment.namespaces.route} describe httproutes; curl -v {portals[0].url()}",
        describe=lambda answers: shown(each for each in answers if not is_backstage_page(each, table)),
    )

    check.measured("addresses", len(portals), "")


def test_name_leads_to_the_load_balancer(
    environment: Environment, gateway: Gateway, timeouts: Timeouts, check: Check
) -> None:
    """The portal's name resolves to its load balancer and to nothing else."""
    table = environment.portal
    balancer = {str(each) for each in table.expected_addresses} or set(gateway.addresses)
    found = found_in_dns(environment, timeouts)

    check.decided_by("the pinned address" if table.pinned_address else "DNS")
    right = found.addresses <= balancer if table.pinned_address else found.addresses == balancer
    expected = f"{table.hostname} at {', '.join(sorted(balancer)) or 'an address of the Gateway'}"
    assert found.addresses, said(expected, found, f"dig {table.hostname}")
    assert right, said(expected, found, gateway.look_next)


def found_in_dns(environment: Environment, timeouts: Timeouts) -> DnsAnswer:
    """The addresses in DNS; for a target that is in no DNS, its pinned address."""
    table = environment.portal
    if table.pinned_address:
        return DnsAnswer(frozenset({str(table.pinned_address)}))
    server = str(table.resolver) if table.resolver else None
    return dns.resolve(table, dns.lookup(server, timeout=timeouts.http_request))


def test_certificate_is_trusted(portals: tuple[Portal, ...], presented: dict[str, PresentedCertificate]) -> None:
    """Browsers trust the portal's certificate."""
    bad = {each: f"{seen.verify_error}: {seen.certificate}" for each, seen in presented.items() if seen.verify_error}
    whom = portals[0].ca_file or "this machine"

    assert presented
    assert not bad, said(f"a certificate chain that {whom} trusts", listed(bad), look_next(portals))


def test_certificate_is_for_the_hostname(
    portals: tuple[Portal, ...], presented: dict[str, PresentedCertificate], environment: Environment
) -> None:
    """The portal's certificate is for the portal's name."""
    hostname = environment.portal.hostname
    bad = {each: seen.certificate for each, seen in presented.items() if not seen.certificate.is_for(hostname)}

    assert presented
    assert not bad, said(f"a certificate that names {hostname}", listed(bad), look_next(portals))


def test_certificate_does_not_expire_soon(
    portals: tuple[Portal, ...], presented: dict[str, PresentedCertificate], environment: Environment, check: Check
) -> None:
    """The portal's certificate stays valid long enough for somebody to renew it."""
    least, now = environment.portal.certificate_days_left, datetime.now(UTC)
    days = {each: seen.certificate.days_left(now) for each, seen in presented.items()}
    bad = {each: certificate.expiry(presented[each].certificate, now) for each in days if days[each] < least}

    assert presented
    check.measured(certificate.CERTIFICATE, min(days.values()), "days left")
    assert not bad, said(f"a certificate that is valid for {least} days more", listed(bad), look_next(portals))


@pytest.fixture(scope="module")
def offered(environment: Environment) -> tuple[str, ...]:
    """TLS versions that must be refused; this machine is shown to offer each of them."""
    versions = tls_versions.older_than(environment.portal.tls_minimum)
    for each in versions:
        tls_versions.prove_offer(each)
    return versions


def test_old_tls_versions_are_refused(
    portals: tuple[Portal, ...], offered: tuple[str, ...], environment: Environment, check: Check
) -> None:
    """No connection to the portal can be downgraded to outdated encryption."""
    minimum = environment.portal.tls_minimum

    def accepted(portal: Portal) -> tuple[str, ...]:
        address = portal.address or ""
        try:
            return tls_versions.accepted_versions(address, portal.hostname, timeout=portal.timeout)
        except OSError as error:
            raise no_answer_error(portal, f"TLS at {address}", error) from error

    taken = {each.address or "": accepted(each) for each in portals}
    bad = {each: ", ".join(seen) or "no version" for each, seen in taken.items() if not seen or {*seen} & {*offered}}

    check.decided_by("handshakes, each offering one version")
    oldest = "-min_protocol TLSv1 -cipher ALL:@SECLEVEL=0"
    command = f"openssl s_client -connect {portals[0].address}:443 -max_protocol {offered[-1]} {oldest}"
    assert not bad, said(f"{minimum} or newer accepted, and nothing older", f"accepted: {listed(bad)}", command)


def test_plain_http_redirects_to_https(portals: tuple[Portal, ...], environment: Environment) -> None:
    """Plain HTTP redirects to the same page over HTTPS, permanently."""
    hostname = environment.portal.hostname
    wanted = f"https://{hostname}{PATH}"
    answers = [fetch(each, f"http://{hostname}{PATH}") for each in portals]
    bad = [each for each in answers if not redirects_to(each, wanted)]

    command = f"curl -v 'http://{hostname}{PATH}'"
    assert not bad, said(f"a permanent redirect (301 or 308) to {wanted}", shown(bad), command)


def test_unknown_host_is_not_served_by_backstage(portals: tuple[Portal, ...], environment: Environment) -> None:
    """Backstage answers only to its own name."""
    table = environment.portal
    answers = [fetch(each, "/", host=NOBODY) for each in portals]
    bad = [each for each in answers if is_backstage_page(each, table)]
    # No answer for an unknown name is as good, if the same address answers for the portal's name.
    silent = [fetch(each, "/") for each, answer in zip(portals, answers, strict=True) if not answer.status]

    assert all(each.status for each in silent), said("an answer for the portal's name", shown(silent), "promise https")
    command = f"curl -v -H 'Host: {NOBODY}' {portals[0].url()}; hostnames of the HTTPRoute and of the listener"
    assert not bad, said(f"no page of Backstage for {NOBODY}", f"{expected_page(table)} at {shown(bad)}", command)


def shown(answers: Iterable[Answer]) -> str:
    """All answers, in one line."""
    return "; ".join(map(str, answers))


def listed(found: Mapping[str, object]) -> str:
    """What was found at each address, in one line."""
    return "; ".join(f"{address}: {seen}" for address, seen in found.items())
