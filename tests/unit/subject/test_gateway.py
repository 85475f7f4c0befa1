"""The Gateway: when it is programmed, and which of its listeners serve the portal."""

from __future__ import annotations

import pytest

from fixtures.subject.gateway import gateway_of, programmed
from fixtures.waiting import DeadlinePassedError, wait_for
from tests.unit.patched import ABSENT
from tests.unit.recorded_gateway import HOSTNAME, gateway


def test_gateway_of_the_lab_is_programmed_and_has_an_address() -> None:
    """The lab's recorded Gateway is programmed and has one address."""
    read = gateway()

    assert programmed(read)
    assert read.addresses == ("172.30.0.80",)


def test_gateway_that_speaks_of_an_earlier_generation_is_not_programmed() -> None:
    """Conditions of an earlier generation do not count: the data plane still runs that earlier spec."""
    read = gateway("/metadata/generation", 2)

    assert not programmed(read)
    assert str(read).startswith("Accepted=True (Accepted) of generation 1, not 2, Programmed=True (Programmed) of ")


def test_gateway_that_is_not_there_is_said_to_be_absent() -> None:
    """The wait for an absent Gateway fails with a message that says so."""
    clock = iter([0.0, 5.0])

    with pytest.raises(DeadlinePassedError) as failed:
        wait_for(
            "Gateway mcp/external-gw-01 to be Accepted and Programmed as it is now",
            lambda: gateway_of(None, "mcp", "external-gw-01"),
            until=programmed,
            within=5,
            look_next=gateway().look_next,
            clock=lambda: next(clock),
        )

    assert str(failed.value) == (
        "expected: Gateway mcp/external-gw-01 to be Accepted and Programmed as it is now within 5 s\n"
        "seen: no Gateway mcp/external-gw-01\n"
        "look next: kubectl -n mcp describe gateway external-gw-01"
    )


def test_listener_of_the_lab_serves_the_hostname_with_a_certificate() -> None:
    """Only the HTTPS listener serves the portal, not the one for plain HTTP."""
    [listener] = gateway().serving(HOSTNAME)

    assert listener.usable
    assert listener.certificates == ("Secret backstage-lab-test",)
    assert str(listener) == (
        "listener https (HTTPS on port 443 for any hostname, certificates Secret backstage-lab-test): "
        "Accepted=True (Accepted), Programmed=True (Programmed), ResolvedRefs=True (ResolvedRefs), "
        "Conflicted=False (NoConflicts)"
    )


@pytest.mark.parametrize(
    ("pointer", "value", "certificates"),
    [
        ("/metadata/annotations/networking.gke.io~1certmap", "portal", ("Secret backstage-lab-test", "map portal")),
        ("/spec/listeners/1/tls", {"options": {"networking.gke.io/pre-shared-certs": "a, b"}}, ("a", "b")),
        ("/spec/listeners/1/tls", {"mode": "Terminate"}, ()),
    ],
)
def test_certificates_may_be_kept_in_several_places(pointer: str, value: object, certificates: tuple[str, ...]) -> None:
    """Certificates are found in Secrets, in pre-shared certificates and in a certificate map."""
    [listener] = gateway(pointer, value).serving(HOSTNAME)

    assert listener.certificates == certificates


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/status/listeners/1/conditions/1/status", "False"),
        ("/status/listeners/1/conditions/2/observedGeneration", 0),
        ("/status/listeners/1/conditions/3/status", "True"),
        ("/status/listeners/1", ABSENT),
    ],
)
def test_listener_is_not_usable_while_any_condition_says_so(pointer: str, value: object) -> None:
    """A listener is unusable if it is not Programmed, is Conflicted, or has stale or no conditions."""
    assert not any(each.usable for each in gateway(pointer, value).serving(HOSTNAME))


def test_listener_for_another_hostname_does_not_serve_the_portal() -> None:
    """A listener for another hostname or another protocol does not serve the portal."""
    assert gateway("/spec/listeners/1/hostname", "other.lab.test").serving(HOSTNAME) == ()
    assert gateway("/spec/listeners/1/protocol", "HTTP").serving(HOSTNAME) == ()
