"""Quantities are parsed as the API server does."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fixtures.objects.quantity import quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [("640Mi", 640 * 1024**2), ("1000m", 1), ("2", 2), ("1e3", 1000), ("1E", 10**18), ("-1.5k", -1500), (0.5, "0.5")],
)
def test_quantity_is_an_amount_in_base_units(text: object, amount: object) -> None:
    """Quantities with decimal, binary and exponent suffixes, or none, become base units."""
    assert quantity(text) == Decimal(str(amount))


@pytest.mark.parametrize("text", ["1K", "5mi", "1 Gi", "Gi", "", "x", True, None, {}])
def test_what_the_api_server_refuses_is_no_quantity(text: object) -> None:
    """Texts that the API server rejects give None, also those that the client library's parser accepts."""
    assert quantity(text) is None
