"""The pinned address applies to the portal's hostname and to no other."""

from __future__ import annotations

import pytest

from fixtures.portal.pinned import Pin


@pytest.mark.parametrize(
    ("pin", "host", "address"),
    [
        (Pin("portal.test", "192.0.2.7"), "portal.test", "192.0.2.7"),
        (Pin("portal.test", "192.0.2.7"), "control.test", None),
        (Pin("portal.test", None), "portal.test", None),
        (Pin.for_url("https://portal.test:8443/", "192.0.2.7"), "portal.test", "192.0.2.7"),
    ],
)
def test_only_the_hostname_of_the_portal_is_pinned(pin: Pin, host: str, address: str | None) -> None:
    """Other hosts, such as the control page, are resolved through DNS."""
    assert pin.address_for(host) == address
