"""Amounts of a quantity: both sides of every edge, each model, each scale; the laws hold for random prices."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import price_oracle
from usage_explore.pricing import currencies
from usage_explore.pricing.amounts import rate, rounded
from usage_explore.pricing.read import read_prices

TIERS = "1000:0.10;10000:0.08;:0.05"


def amount(quantity: str, **fields: Any) -> str:
    row = {"metric_key": "m", "currency": "USD", **fields}
    (price,) = read_prices([row]).prices
    return str(rate(price, Decimal(quantity)).amount)


@pytest.mark.parametrize(
    ("quantity", "volume", "staircase"),
    [
        ("0", "0.00", "0.00"),
        ("1", "0.10", "0.10"),
        ("999.9", "99.99", "99.99"),
        ("1000", "100.00", "100.00"),
        ("1000.5", "80.04", "100.04"),
        ("1001", "80.08", "100.08"),
        ("5000", "400.00", "420.00"),
        ("9999", "799.92", "819.92"),
        ("10000", "800.00", "820.00"),
        ("10001", "500.05", "820.05"),
        ("-1", "-0.10", "-0.10"),
        ("-5000", "-400.00", "-420.00"),
    ],
)
def test_both_sides_of_every_edge(quantity: str, volume: str, staircase: str) -> None:
    assert amount(quantity, model="volume", tiers=TIERS) == volume
    assert amount(quantity, model="staircase", tiers=TIERS) == staircase
    assert amount(quantity, model="Graduated", tiers=TIERS) == staircase


@pytest.mark.parametrize(
    ("currency", "quantity", "expected"),
    [
        ("JPY", "1.4", "1"),
        ("JPY", "1.5", "2"),
        ("JPY", "-1.5", "-2"),
        ("USD", "1.005", "1.01"),
        ("USD", "1.00499", "1.00"),
        ("usd", "-0.005", "-0.01"),
        ("USD", "-0.004", "0.00"),
        ("KWD", "1.0005", "1.001"),
        ("KWD", "1.0004999", "1.000"),
        ("CLF", "0.00005", "0.0001"),
    ],
)
def test_an_amount_is_rounded_half_up_to_the_decimals_of_its_currency(
    currency: str, quantity: str, expected: str
) -> None:
    assert amount(quantity, unit_amount="1", currency=currency) == expected


def test_a_unit_that_is_no_currency_has_the_scale_that_the_book_gives() -> None:
    assert currencies.scale("credits") is None
    assert amount("1.23456", unit_amount=1, currency="credits", scale=4) == "1.2346"


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("0", "0.00"), ("1", "7.00"), ("100", "7.00"), ("100.001", "12.00"), ("200", "12.00"), ("201", "17.00")],
)
def test_packages_that_are_begun_count_as_whole(quantity: str, expected: str) -> None:
    assert amount(quantity, model="package", package_size=100, unit_amount=5, flat_amount=2) == expected


@pytest.mark.parametrize(
    ("quantity", "expected"), [("0", "3.00"), ("50", "3.00"), ("51", "3.00"), ("90", "4.00"), ("-5", "-0.50")]
)
def test_included_quantity_and_minimum_are_of_the_line(quantity: str, expected: str) -> None:
    assert amount(quantity, unit_amount="0.10", included_quantity=50, minimum_amount=3) == expected


@pytest.mark.parametrize(
    ("quantity", "volume", "staircase"),
    [("0", "0.00", "0.00"), ("10", "6.00", "6.00"), ("11", "24.10", "29.10"), ("-11", "-1.10", "-1.10")],
)
def test_a_tier_s_flat_amount_is_added_once_where_it_is_reached(quantity: str, volume: str, staircase: str) -> None:
    tiers = "10:0.10:5;:0.10:23"
    assert amount(quantity, model="volume", tiers=tiers) == volume
    assert amount(quantity, model="staircase", tiers=tiers) == staircase


numbers = st.decimals(-1_000_000, 1_000_000, places=6)
positive = st.decimals(0, 1_000, places=5)


@st.composite
def prices(draw: st.DrawFn) -> dict[str, Any]:
    model = draw(st.sampled_from(["per_unit", "volume", "staircase", "package"]))
    price: dict[str, Any] = {
        "metric_key": "m",
        "model": model,
        "currency": draw(st.sampled_from(["USD", "JPY", "KWD"])),
        "included_quantity": draw(st.sampled_from([0, 10, Decimal("0.5")])),
        "minimum_amount": draw(st.sampled_from([0, 0, Decimal("12.345")])),
    }
    ends = []
    if model in ("volume", "staircase"):
        ends = sorted(draw(st.sets(st.decimals("0.001", 100_000, places=3), max_size=4)))
    price["tiers"] = [(end, draw(positive), draw(positive)) for end in [*ends, None]]
    if model == "package":
        price["package_size"] = draw(st.decimals("0.01", 1_000, places=2))
    return price


@given(prices(), numbers)
def test_amounts_equal_those_of_fractions(price: dict[str, Any], quantity: Decimal) -> None:
    (read,) = read_prices([price_oracle.fields_of(price)]).prices
    result = rate(read, quantity)
    exact = price_oracle.cost(price, Fraction(quantity))
    assert Fraction(result.exact) == exact
    assert result.amount == price_oracle.half_up(exact, read.scale)
    assert result.amount.as_tuple().exponent == -read.scale
    parts = sum((Fraction(tier.quantity) for tier in result.tiers), Fraction(0))
    assert parts == Fraction(result.charged_quantity)
    made = sum((Fraction(tier.amount) for tier in result.tiers), Fraction(0))
    assert made == exact or exact == Fraction(read.minimum_amount)


def test_the_caller_s_decimal_context_changes_nothing() -> None:
    import decimal

    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_DOWN)):
        assert amount("123456.789", unit_amount="1.0000001") == "123456.80"
        assert rounded(Decimal("123456.785"), 2) == Decimal("123456.79")
