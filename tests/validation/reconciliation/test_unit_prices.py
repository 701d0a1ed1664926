"""Unit prices of invoice lines: each line is rounded by its own step, and whatever no rounding explains is found."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from usage_explore.validation.reconciliation.charges import UnitPriceDeviation, unit_price_deviations
from usage_explore.validation.reconciliation.invoices import InvoiceLine

RIGHT = ("14.61", "11.91", "16.219026", "12.46", "10.54", "11.22")
"""Amounts at 0.014 a unit, all rounded to cents but the third."""

QUANTITIES = ("1043.57", "850.71", "1158.501857142857142857142857142857", "890", "752.87", "801.43")
PLACES = {"JPY": 0, "EUR": 2, "KWD": 3, "CLF": 4}
EXACT = Context(prec=200)
MODES = (ROUND_FLOOR, ROUND_CEILING, ROUND_HALF_EVEN, ROUND_HALF_UP)


def line(
    number: int, quantity: Decimal, amount: Decimal, currency: str | None = "EUR", price: str = "p"
) -> InvoiceLine:
    return InvoiceLine(number, uuid.UUID(int=number), None, None, price, None, None, None, quantity, amount, currency)


def lines(quantities: Sequence[str], amounts: Sequence[str], currency: str | None = "EUR") -> list[InvoiceLine]:
    pairs = zip(quantities, amounts, strict=True)
    return [line(at, Decimal(quantity), Decimal(amount), currency) for at, (quantity, amount) in enumerate(pairs)]


def numbers(found: UnitPriceDeviation) -> list[int]:
    return [each.line for each in found.deviating]


def step(amount: Decimal, places: int) -> Fraction:
    while (Fraction(amount) * 10**places).denominator != 1:
        places += 1
    return Fraction(1, 10**places)


def exponent(amount: Decimal | None) -> int:
    found = (amount or Decimal(0)).as_tuple().exponent
    assert isinstance(found, int)
    return found


def most_alike(given: Sequence[InvoiceLine], places: int) -> int:
    """How many lines one unit price fits at most, each to within its own step, in fractions."""
    spans = []
    for each in given:
        amount, by = Fraction(each.amount or 0), step(each.amount or Decimal(0), places)
        spans.append(sorted((amount + side) / Fraction(each.quantity) for side in (-by, by)))
    return max(sum(low <= price <= high for low, high in spans) for price, _ in spans)


@pytest.mark.parametrize("currency", ["EUR", "eur", None, "credits"])
def test_lines_rounded_each_by_its_own_step_agree(currency: str | None) -> None:
    assert not unit_price_deviations(lines(QUANTITIES, RIGHT, currency))
    assert not unit_price_deviations(lines(QUANTITIES, [f"{Decimal(amount):.8f}" for amount in RIGHT], "EUR"))


@pytest.mark.parametrize("wrong", range(len(RIGHT)))
@pytest.mark.parametrize(
    ("factor", "doubled"), [("2", True), ("1.5", False), ("0.1", False), ("10", True), ("-1", True)]
)
def test_a_line_wrong_by_a_factor_is_found_and_twice_the_price_stands_out(
    wrong: int, factor: str, doubled: bool
) -> None:
    amounts = [Decimal(amount) for amount in RIGHT]
    amounts[wrong] = (amounts[wrong] * Decimal(factor)).quantize(Decimal("0.01"))
    (found,) = unit_price_deviations(lines(QUANTITIES, [str(amount) for amount in amounts]))
    assert numbers(found) == [wrong]
    assert [each.line for each in found.doubled] == ([wrong] if doubled else [])


@pytest.mark.parametrize("wrong", [0, 1, 3, 4, 5])
@pytest.mark.parametrize("steps", [-3, 3])
def test_a_line_a_few_cents_beyond_rounding_is_found(wrong: int, steps: int) -> None:
    amounts = list(RIGHT)
    amounts[wrong] = str(Decimal(amounts[wrong]) + steps * Decimal("0.01"))
    (found,) = unit_price_deviations(lines(QUANTITIES, amounts))
    assert numbers(found) == [wrong]
    assert not found.doubled


cases = st.tuples(
    st.sampled_from(sorted(PLACES)),
    st.decimals("0.000001", 50, places=7),
    st.lists(
        st.tuples(
            st.decimals(-100_000, 100_000, places=3),
            st.sampled_from(MODES),
            st.sampled_from([0, 0, 0, 1, 4, 20]),
            st.sampled_from([0, 0, 3]),
        ),
        min_size=2,
        max_size=12,
    ),
)


def billed(case: tuple[str, Decimal, list[tuple[Decimal, str, int, int]]]) -> list[InvoiceLine]:
    """Lines of one unit price, each rounded its own way, to its currency's places or finer, some with zeros behind."""
    currency, price, given = case
    found = []
    for number, (quantity, mode, finer, zeros) in enumerate(given):
        places = PLACES[currency] + finer
        exact = EXACT.multiply(price, quantity)
        amount = exact.quantize(Decimal(1).scaleb(-places), rounding=mode, context=EXACT)
        padded = amount.quantize(Decimal(1).scaleb(-places - zeros), context=EXACT)
        found.append(line(number, quantity, padded if zeros else EXACT.normalize(amount), currency))
    return found


@given(cases)
def test_lines_of_one_price_agree_however_each_is_rounded(
    case: tuple[str, Decimal, list[tuple[Decimal, str, int, int]]],
) -> None:
    assert not unit_price_deviations(billed(case))


@given(cases, st.integers(0, 11), st.sampled_from([-300, -2, -1, 1, 2, 300]))
def test_as_many_lines_deviate_as_no_one_price_fits(
    case: tuple[str, Decimal, list[tuple[Decimal, str, int, int]]], place: int, steps: int
) -> None:
    given = [each for each in billed(case) if each.quantity]
    assume(len(given) > 1)
    at, places = place % len(given), PLACES[case[0]]
    amount = EXACT.add(given[at].amount or Decimal(0), steps * Decimal(1).scaleb(-places))
    given[at] = given[at]._replace(amount=amount)
    found = [each for each in unit_price_deviations(given) if len(each.deviating) < each.lines]  # two alone apart
    is_whole = not any(exponent(each.amount) < 0 for each in given)
    alike = most_alike(given, 0 if is_whole else places)
    expected = len(given) - alike if alike > 1 else 0
    assert [len(each.deviating) for each in found] == ([expected] if expected else [])


def test_a_line_rounded_down_and_then_doubled_is_doubled_among_lines_rounded_up() -> None:
    """0.0855 a unit: 1215.76896 was rounded down to 1215.76, and twice that is 3 cents less than twice the price."""
    quantities = ["14219.52", "1158.756", "4379.348", "2078.347", "8412.021"]
    (found,) = unit_price_deviations(lines(quantities, ["2431.52", "99.08", "374.44", "177.70", "719.23"]))
    assert (numbers(found), [each.line for each in found.doubled]) == ([0], [0])
    assert not unit_price_deviations(lines(quantities, ["1215.76", "99.08", "374.44", "177.70", "719.23"]))


@given(cases, st.integers(0, 11), st.sampled_from([2, 3, 10]))
def test_a_deviating_line_that_was_multiplied_after_rounding_is_doubled(
    case: tuple[str, Decimal, list[tuple[Decimal, str, int, int]]], place: int, factor: int
) -> None:
    given = [each for each in billed(case) if each.quantity]
    assume(len(given) > 1)
    at = place % len(given)
    given[at] = given[at]._replace(amount=EXACT.multiply(given[at].amount or Decimal(0), factor))
    right = {each.line for each in given if each is not given[at]}
    for found in unit_price_deviations(given):
        if numbers(found) == [given[at].line] and any(each.amount for each in given if each.line in right):
            # of two lines either may be the usual one
            assert found.doubled == found.deviating or 2 * len(found.deviating) >= found.lines


def test_each_price_and_currency_is_compared_for_itself_and_nothing_of_no_quantity() -> None:
    found = [
        line(1, Decimal(10), Decimal(1), "EUR", "a"),
        line(2, Decimal(10), Decimal(2), "EUR", "b"),
        line(3, Decimal(10), Decimal(3), "JPY", "a"),
        line(4, Decimal(0), Decimal(7), "EUR", "a"),
        line(5, Decimal(-10), Decimal(-1), "EUR", "a"),
    ]
    assert not unit_price_deviations(found)
    (odd,) = unit_price_deviations([*found, line(6, Decimal(-10), Decimal("1.00"), "EUR", "a")])
    assert (odd.key, odd.currency, numbers(odd), [each.line for each in odd.doubled]) == ("a", "EUR", [6], [6])


@pytest.mark.parametrize("currency", ["JPY", "EUR", "KWD", "USD", "eur"])
def test_amounts_without_decimals_are_rounded_to_whole_units(currency: str) -> None:
    """15.4 a unit: 15, 31 and 46 are rounded; beside 15.40 they are not, but in yen."""
    whole = ["15", "31", "46", "1540"]
    assert not unit_price_deviations(lines(["1", "2", "3", "100"], whole, currency))
    assert not unit_price_deviations(lines(["1", "2", "3"], ["15.4", "30.8", "46.2"], currency))
    (fee,) = unit_price_deviations(lines(["1", "1", "1"], ["2", "5", "2"], currency))
    assert (numbers(fee), [each.line for each in fee.doubled]) == ([1], [1])
    (odd,) = unit_price_deviations(lines(["1", "2", "3", "100"], [*whole[:3], "3080"], currency))
    assert (numbers(odd), [each.line for each in odd.doubled]) == ([3], [3])
    mixed = unit_price_deviations(lines(["1", "2", "3", "4"], ["15", "30", "46", "61.60"], currency))
    assert bool(mixed) == (currency != "JPY")


ROUNDED_QUANTITIES = ("21540", "7580", "100140", "3", "-1920", "1233820")
"""Quantities of lines, each within 5 of 21538, 7576, 100136, 5, -1922 and 1233821, of which 1.25 a unit are charged."""

CHARGED = ("26922.50", "9470.00", "125170.00", "6.25", "-2402.50", "1542276.25")


def test_rounded_quantities_within_the_tolerance_have_one_unit_price() -> None:
    given = lines(ROUNDED_QUANTITIES, CHARGED)
    assert not unit_price_deviations(given, Decimal(5))
    assert unit_price_deviations(given, Decimal(1))


@pytest.mark.parametrize("wrong", range(len(CHARGED)))
@pytest.mark.parametrize("factor", ["2", "10", "-1"])
def test_a_doubled_line_of_a_rounded_quantity_is_high(wrong: int, factor: str) -> None:
    amounts = list(CHARGED)
    amounts[wrong] = str(Decimal(CHARGED[wrong]) * Decimal(factor))
    found = unit_price_deviations(lines(ROUNDED_QUANTITIES, amounts), Decimal(5))
    if ROUNDED_QUANTITIES[wrong] == "3" and factor != "10":  # 0 to 8 units, 12.50 is the price of 10, -6.25 of a credit
        assert [each.deviating for each in found] in ([], [(lines(ROUNDED_QUANTITIES, amounts)[wrong],)])
    else:
        assert [(numbers(each), [line.line for line in each.doubled]) for each in found] == [([wrong], [wrong])]


@given(cases, st.decimals("0.001", 500, places=3), st.randoms(use_true_random=False))
def test_lines_of_one_price_agree_however_quantities_are_rounded_within_the_tolerance(
    case: tuple[str, Decimal, list[tuple[Decimal, str, int, int]]], tolerance: Decimal, draw: random.Random
) -> None:
    def rounded(quantity: Decimal) -> Decimal:
        return EXACT.add(quantity, EXACT.multiply(tolerance, Decimal(draw.randint(-100, 100)) / 100))

    given = [each._replace(quantity=rounded(each.quantity)) for each in billed(case)]
    kept = [each for each, right in zip(given, billed(case), strict=True) if each.quantity * right.quantity > 0]
    assert not unit_price_deviations(kept, tolerance)


def test_prices_by_tiers_are_not_called_doubled() -> None:
    """Where most lines are free, no price is the usual one to be doubled."""
    (free,) = unit_price_deviations(lines(["900", "800", "700", "5000"], ["0", "0", "0.00", "20"]))
    assert (numbers(free), free.doubled) == ([3], ())


@pytest.mark.parametrize("amounts", [["42.53", "0.00", "8.09", "17.20"], ["100", "250"]])
def test_lines_that_all_differ_have_no_usual_unit_price(amounts: list[str]) -> None:
    """Taxes and fees: one line for each customer, each of another amount."""
    assert not unit_price_deviations(lines(["1"] * len(amounts), amounts))
    (found,) = unit_price_deviations(lines(["1"] * (len(amounts) + 1), [*amounts, amounts[0]]))
    assert len(numbers(found)) == len(amounts) - 1


@pytest.mark.parametrize("factor", ["2", "10", "0.1", "-1"])
@pytest.mark.parametrize("sign", [1, -1])
def test_of_two_lines_alone_no_one_says_which_is_right(factor: str, sign: int) -> None:
    """Nothing was said of them, though of three lines the one was high."""
    charged = [sign * Decimal(amount) for amount in ("14.61", "11.91")]
    given = [line(at, Decimal(QUANTITIES[at]), amount) for at, amount in enumerate(charged)]
    assert not unit_price_deviations(given)
    given[1] = given[1]._replace(amount=(charged[1] * Decimal(factor)).quantize(Decimal("0.01")))
    (found,) = unit_price_deviations(given)
    assert (numbers(found), found.doubled) == ([0, 1], ())
    given[1] = given[1]._replace(amount=charged[1] * Decimal("1.5"))
    assert not unit_price_deviations(given), "as by tiers"


def test_floats_that_were_written_out_agree() -> None:
    quantities = [1, 3, 7, 70, 700]
    amounts = [repr(0.1 * each) for each in quantities]
    assert not unit_price_deviations(lines([str(each) for each in quantities], amounts))


def test_lines_without_a_price_key_are_compared_by_their_metric() -> None:
    def charged(number: int, amount: str, price: str | None = None) -> InvoiceLine:
        return InvoiceLine(
            number, uuid.UUID(int=number), None, "tokens", price, None, None, None, Decimal(10), Decimal(amount), "EUR"
        )

    found = [charged(number, "1.00") for number in range(1, 5)]
    assert not unit_price_deviations([*found, charged(5, "2.00", "another")])
    (odd,) = unit_price_deviations([*found, charged(5, "10.00"), charged(6, "1.00", "another")])
    assert (odd.column, odd.key, numbers(odd), [each.line for each in odd.doubled]) == (
        "metric_key",
        "tokens",
        [5],
        [5],
    )


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1), (0, 2, 1, 3), (3, 1, 0, 2)])
def test_two_unit_prices_of_as_many_lines_are_tied_whatever_their_order(order: tuple[int, ...]) -> None:
    amounts = ("10.00", "10.10", "20.40", "20.60")
    every = lines(("100", "101", "102", "103"), amounts)
    (found,) = unit_price_deviations([every[number] for number in order])
    assert sorted(numbers(found)) == [2, 3]
    assert found.tied is not None
    assert found.tied.line in (2, 3)
    (alone,) = unit_price_deviations([*every, line(4, Decimal(50), Decimal("5.00"))])
    assert (sorted(numbers(alone)), alone.tied) == ([2, 3], None)


def test_a_small_line_that_fits_either_price_does_not_say_which_of_two_is_right() -> None:
    """0.10 for one unit is 0.10 and 0.105: of the other two lines either may be wrong."""
    for amounts in (("10.50", "0.10", "10.20"), ("10.00", "0.10", "10.71")):
        (found,) = unit_price_deviations(lines(("100", "1", "102"), amounts))
        assert found.tied is not None
