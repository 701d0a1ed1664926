"""Amounts of invoice lines against a price book: what is right matches, each kind of mistake is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from support.billing_events import CUSTOMERS, SINCE, UNTIL, event
from support.check_results import shown
from support.generated_events import ORGANIZATION
from support.query_oracle import Row, utc
from usage_explore import Store
from usage_explore.db import ddl
from usage_explore.db.names import Entry, upsert
from usage_explore.db.schema import names_table
from usage_explore.decimals import total
from usage_explore.errors import QueryError
from usage_explore.pricing.currencies import exact_money
from usage_explore.query.queries import Period
from usage_explore.validation import Finding, Validation
from usage_explore.validation.handover import ticket
from usage_explore.validation.review import identities
from usage_explore.validation.similar import Similar

Make = Callable[[list[Row]], Store]
SEPTEMBER = Period(since=SINCE, until=UNTIL, as_of=utc(2026, 10, 20))
TIERS = "1000:0.10;10000:0.08;:0.05"
STAIRCASE = {"metric_key": "calls", "model": "staircase", "tiers": TIERS, "currency": "USD"}
PER_UNIT = {"metric_key": "calls", "unit_amount": "0.10", "currency": "USD"}
USED = (5000, 1234, 12, 20_001)
"""Calls of customers 0 to 3."""


def usage(*quantities: int, metric: str = "calls", **given: Any) -> list[Row]:
    """Two events per customer that add up to its quantity."""
    noon = SINCE + timedelta(days=3, hours=12)
    return [
        event(who, noon + timedelta(days=day), metric, quantity=Decimal(part), **given)
        for who, quantity in enumerate(quantities)
        for day, part in enumerate((quantity - 1, 1))
    ]


def line(who: int, quantity: object, amount: object, metric: str = "calls", **more: Any) -> dict[str, Any]:
    fields = {"customer_id": str(CUSTOMERS[who]), "metric_key": metric, "quantity": str(quantity)}
    return {**fields, "amount": None if amount is None else str(amount), "currency": "USD", **more}


def validated(store: Store, lines: list[dict[str, Any]], *prices: dict[str, Any], **given: Any) -> Validation:
    period = given.pop("period", SEPTEMBER)
    frame = pd.DataFrame(lines, dtype="str")
    return store.validate(period, checks=["reconciliation"], invoices=frame, prices=list(prices) or None, **given)


def only(validation: Validation) -> Finding:
    (finding,) = validation.findings
    return finding


def sheet(validation: Validation, name: str) -> list[Any]:
    table = validation.sheet("reconciliation")
    assert table is not None
    table = table.sort_values("customer_id")
    return [None if value is None or value != value else value for value in table[name]]


AMOUNTS = ("420.00", "118.72", "1.20", "1320.05")
"""What the calls of customers 0 to 3 cost by staircase."""


def right(amounts: tuple[str, ...] = AMOUNTS) -> list[dict[str, Any]]:
    return [line(who, quantity, amount) for who, (quantity, amount) in enumerate(zip(USED, amounts, strict=True))]


def test_right_lines_match_and_all_amounts_are_checked(make: Make) -> None:
    validation = validated(make(usage(*USED)), right(), STAIRCASE)
    assert validation.results[0].is_clean
    assert validation.unchecked == ()
    assert sheet(validation, "expected_amount") == [Decimal(amount) for amount in AMOUNTS]
    assert "4 of 4 amounts are those of the price book" in validation.results[0].outcome.note  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("aggregation", "shown", "wrong", "billed"),
    [("max", 5003, "sum", 5003), ("max", 5002, "sum", 5003), ("sum", 5003, "count", 2)],
)
def test_another_aggregation_than_the_price_s_is_named(
    make: Make, aggregation: str, shown: int, wrong: str, billed: int
) -> None:
    price = {**PER_UNIT, "aggregation": aggregation, "unit_amount": "0.37"}
    amount = str(Decimal("0.37") * billed)
    validation = validated(make(usage(5003)), [line(0, shown, amount)], price)
    assert sheet(validation, "explained_by") == ["another aggregation"]
    assert f"by the {wrong}, while the price takes the {aggregation}" in only(validation).sentence


def test_ten_times_too_high_is_high_and_said_once(make: Make) -> None:
    tenfold = tuple(str(Decimal(amount) * 10) for amount in AMOUNTS)
    finding = only(validated(make(usage(*USED)), right(tenfold), STAIRCASE))
    assert finding.severity == "high"
    assert "4 totals of 4 customers" in finding.sentence
    assert (
        "are charged 18,599.70 USD, but 1,859.97 USD is expected: each is 10 times the expected amount."
        in finding.sentence
    )
    assert finding.amounts == (("USD", Decimal("16739.73")),)
    assert (finding.share, finding.share_of) == (Decimal(9), "expected amount in USD")
    assert dict(finding.facts)["cause"] == "factor 10"


def test_one_cause_of_too_much_and_too_little_says_both_not_their_net(make: Make) -> None:
    """Ten times a credit is too little, ten times a charge too much."""
    quantities = (500, 700, 900, -400)
    tenfold = [line(who, quantity, str(quantity)) for who, quantity in enumerate(quantities)]
    finding = only(validated(make(usage(*quantities)), tenfold, PER_UNIT))
    assert (
        "are charged 1,890.00 USD too much and 360.00 USD too little: each is 10 times the expected" in finding.sentence
    )
    assert (finding.too_high, finding.too_low) == ((("USD", Decimal(1890)),), (("USD", Decimal(360)),))


def test_one_amount_ten_times_too_high_is_named_with_its_factor(make: Make) -> None:
    finding = only(validated(make(usage(5000)), [line(0, 5000, "4200")], STAIRCASE))
    assert finding.severity == "high"
    assert "is charged 4,200.00 USD for calls" in finding.sentence
    assert "but 420.00 USD is expected for 5,000: that is 10 times the expected amount." in finding.sentence
    assert finding.customer_id == CUSTOMERS[0]


def test_amounts_of_cents_join_the_common_factor_but_have_none_of_their_own(make: Make) -> None:
    """0.004 and 0.006 are 0 and 0.01 rounded: ten times that is 0 and 0.10."""
    price = {**PER_UNIT, "unit_amount": "0.002"}
    store = make(usage(2, 3, 5000, 7000, 9000))
    quantities = (2, 3, 5000, 7000, 9000)
    amounts = ("0", "0.1", "100", "140", "180")
    lines = [
        line(who, quantity, amount) for who, (quantity, amount) in enumerate(zip(quantities, amounts, strict=True))
    ]
    finding = only(validated(store, lines, price))
    assert "4 totals of 4 customers" in finding.sentence
    assert "each is 10 times the expected amount" in finding.sentence
    alone = [{**item, "amount": right} for item, right in zip(lines, ("0", "0.1", "10", "14", "18"), strict=True)]
    assert (
        "no other price or tier of the price book, nor a factor of the whole, gives that"
        in only(validated(store, alone, price)).sentence
    )


def test_small_amounts_that_rounding_gives_too_join_the_common_factor(make: Make) -> None:
    """Ten events of 0.001 are 0.01, and each rounded up 0.10: ten times as much, as the other amounts are."""
    small, large = range(4), range(4, 8)
    at = SINCE + timedelta(days=3)
    rows = [event(who, at + timedelta(minutes=n), quantity=Decimal(1)) for who in small for n in range(10)]
    rows += [event(who, at + timedelta(hours=1), quantity=Decimal(1000 * who)) for who in large]
    price = {**PER_UNIT, "unit_amount": "0.001"}
    echoes, store = [line(who, 10, "0.10") for who in small], make(rows)
    finding = only(validated(store, [*echoes, *(line(who, 1000 * who, 10 * who) for who in large)], price))
    assert "8 totals of 8 customers" in finding.sentence
    assert "each is 10 times the expected amount" in finding.sentence
    right = validated(store, [*echoes, *(line(who, 1000 * who, who) for who in large)], price)
    assert "the amounts of single events, each rounded up" in only(right).sentence


def test_a_wrong_amount_has_a_share_of_the_expected_amount_and_says_what_is_too_much_and_too_little(make: Make) -> None:
    """420 of 1,859.97 are expected of the first, whose quantity is right: no share of the quantity."""
    amounts = ("630.00", "18.72", "0.20", "1300.05")  # 210 too much; 100, 1 and 20 too little
    validation = validated(make(usage(*USED)), right(amounts), STAIRCASE)
    findings = validation.findings
    by_customer = {finding.customer_id: finding for finding in findings}
    first = by_customer[CUSTOMERS[0]]
    assert first.share_of == "expected amount in USD"
    assert round(first.share, 6) == round(Decimal(210) / Decimal("1859.97"), 6)
    assert (first.too_high, first.too_low) == ((("USD", Decimal(210)),), ())
    row = Similar(tuple(findings))
    assert row.amounts == {}
    assert (row.too_high, row.too_low) == ({"USD": Decimal(210)}, {"USD": Decimal(121)})
    of_one = Similar(tuple(replace(finding, customer_id=CUSTOMERS[0]) for finding in findings))
    assert (of_one.are_apart, of_one.too_high, of_one.too_low) == (False, row.too_high, row.too_low)
    assert first.to_dict("")["too_high"] == {"USD": "210"}
    assert "Invoiced too little: 20.00 USD" in ticket(validation, by_customer[CUSTOMERS[3]], "")


@pytest.mark.parametrize(("typed", "near"), [(0x10C1, 0xC1), (0xC17, 0xC1), (0xAAAAAA, None)])
def test_a_customer_without_any_event_is_said_to_be_unknown_with_the_nearest_known_id(
    make: Make, events_connection: ddl.Connection, typed: int, near: int | None
) -> None:
    """One digit more, the digits moved, or nothing alike; a customer of another month, or with a name, is known."""
    store = make([*usage(10, 20), event(2, SINCE - timedelta(days=40), quantity=Decimal(1))])
    lines = [line(0, 10, "1.00"), line(1, 20, "2.00"), line(2, 30, "3.00")]
    unknown = {**line(1, 20, "2.00"), "customer_id": str(UUID(int=typed))}
    by_customer = {one.customer_id: one.sentence for one in validated(store, [*lines, unknown], PER_UNIT).findings}
    assert "is not known" not in by_customer[CUSTOMERS[2]]
    meant = "" if near is None else f" of customer {UUID(int=near)}"
    words = f"; customer {UUID(int=typed)} is not known: no event and no name; a typing error{meant}?"
    assert by_customer[UUID(int=typed)].endswith(words)
    upsert(
        events_connection, names_table(None, store.table), ORGANIZATION, [Entry("customer", UUID(int=typed), "", "A")]
    )
    events_connection.execute("GRANT SELECT ON usage_names TO public")
    events_connection.commit()
    assert "is not known" not in only(validated(store, [*lines[:2], unknown], PER_UNIT)).sentence


@pytest.mark.parametrize("prices", [(), ({**STAIRCASE, "metric_key": "other"},)])
def test_a_wrong_quantity_at_a_right_amount_without_a_price_is_told_as_a_quantity(
    make: Make, prices: tuple[dict[str, Any], ...]
) -> None:
    """1,000 calls cost 100.00, as those of the others do; the line says 3,000."""
    store = make(usage(1000, 1234, 2000))
    rest = [line(1, 1234, "123.40"), line(2, 2000, "200.00")]
    finding = only(validated(store, [line(0, 3000, "100.00"), *rest], *prices))
    assert "is invoiced 3,000 of calls, 1–30 Sep 2026, but used 1,000: 2,000 too much" in finding.sentence
    assert "the quantity alone is wrong" in finding.sentence
    assert (finding.amounts, finding.quantity, finding.share_of) == ((), Decimal(2000), "quantity of calls")
    both = only(validated(store, [line(0, 3000, "300.00"), *rest], *prices))
    assert both.amounts == both.too_high == (("USD", Decimal(200)),)
    neither = validated(store, [line(0, 3000, "500.00"), *rest], *prices).findings
    found = next(finding for finding in neither if finding.kind.startswith("over"))
    assert "alone" not in found.sentence
    assert bool(found.amounts) == (not prices), "with a price book that has none for it, it is not valued"


def test_a_wrong_quantity_at_the_expected_amount_says_so(make: Make) -> None:
    store = make(usage(1000))
    finding = only(validated(store, [line(0, 3000, "100.00")], PER_UNIT))
    assert "but used 1,000: 2,000 too much, at the amount that is expected" in finding.sentence
    assert (finding.amounts, finding.share_of) == ((), "quantity of calls")
    little = only(validated(store, [line(0, 1001, "900.00")], PER_UNIT))
    assert "1 too much, and 800.00 USD too much" in little.sentence
    assert (little.share, little.share_of) == (Decimal(8), "expected amount in USD"), "not 0.1 % of the quantity"


def test_a_common_tax_is_a_common_factor(make: Make) -> None:
    taxed = tuple(str((Decimal(amount) * Decimal("1.19")).quantize(Decimal("0.01"))) for amount in AMOUNTS)
    finding = only(validated(make(usage(*USED)), right(taxed), STAIRCASE))
    assert "each is 1.19 times the expected amount" in finding.sentence


def test_without_a_price_book_the_headline_says_that_amounts_are_not_checked(make: Make) -> None:
    from usage_explore.validation.report import wording

    validation = validated(make(usage(5000)), [line(0, 5000, "4200")])
    assert validation.counts()["high"] == 0
    assert validation.unchecked == ("amounts not checked: no price book was given",)
    assert wording.verdict(validation).endswith("; amounts not checked: no price book was given")
    assert validation.to_dict()["unchecked"] == ["amounts not checked: no price book was given"]


def test_lines_without_a_currency_are_no_clean_result(make: Make) -> None:
    from usage_explore.validation.report import wording

    validation = validated(make(usage(5000)), [line(0, 5000, "420", currency=None)], STAIRCASE)
    assert not validation.findings
    words = "currency of 1 line with an amount not checked: none is given"
    assert validation.unchecked == (words,)
    assert wording.verdict(validation).endswith(f"; {words}")


def test_lines_without_an_amount_are_said_to_be_unchecked(make: Make) -> None:
    validation = validated(make(usage(5000, 12)), [line(0, 5000, "420"), line(1, 12, None)], STAIRCASE)
    assert validation.results[0].is_clean
    assert validation.unchecked == ("amounts of 1 of 2 invoiced totals not checked",)


@pytest.mark.parametrize(
    ("aggregation", "quantity"), [("max", 4999), ("latest", 1), ("count", 2), ("unique:dim:user", 1), ("sum", 5000)]
)
def test_a_line_billed_by_its_aggregation_matches(make: Make, aggregation: str, quantity: int) -> None:
    store = make(usage(5000, dimensions={"user": "u"}))
    price = {**PER_UNIT, "aggregation": aggregation}
    assert validated(store, [line(0, quantity, Decimal(quantity) / 10)], price).results[0].is_clean
    wrong = only(validated(store, [line(0, quantity + 1, Decimal(quantity + 1) / 10)], price))
    assert (wrong.severity, wrong.quantity) == ("high", 1)
    assert wrong.amounts == (("USD", Decimal("0.10")),)


def test_a_line_may_show_packages_or_what_is_left_after_the_included_quantity(make: Make) -> None:
    store = make(usage(5000))
    package = {**PER_UNIT, "model": "package", "package_size": 300, "unit_amount": 2}
    for quantity in (17, 5000):
        assert validated(store, [line(0, quantity, 34)], package).results[0].is_clean
    assert validated(store, [line(0, 4900, 490)], {**PER_UNIT, "included_quantity": 100}).results[0].is_clean


def test_what_is_no_currency_is_refused_with_its_line_and_column(make: Make) -> None:
    """ "Euro" and "12" were currencies of their own, of which nothing was compared."""
    store, given = make(usage(*USED)), (" usd ", "Euro", "12", "Credits")
    lines = [line(who, USED[who], USED[who], currency=text) for who, text in enumerate(given)]
    with pytest.raises(QueryError) as raised:
        validated(store, lines, {**PER_UNIT, "currency": "credits", "scale": 2})
    said = str(raised.value)
    assert "line 2: currency: 'EURO' is no ISO 4217 code of three letters" in said
    assert "line 3: currency: '12'" in said
    assert "USD" not in said
    assert "CREDITS" not in said


def test_another_currency_than_the_book_s_is_high(make: Make) -> None:
    validation = validated(make(usage(5000)), [line(0, 5000, "420", currency="EUR")], STAIRCASE)
    assert (sheet(validation, "status"), sheet(validation, "currency")) == (["wrong currency"], ["EUR"])
    assert sheet(validation, "explained_by") == ["expected in USD"]
    assert sheet(validation, "expected_amount") == sheet(validation, "amount_difference") == [None]
    assert validation.results[0].outcome is not None
    assert validation.results[0].outcome.note.startswith("0 of 1 total ")
    finding = only(validation)
    assert finding.severity == "high"
    assert "is charged in EUR, but the price book charges USD" in finding.sentence


@pytest.mark.parametrize("wallet", [{}, {"wallet_currency": "USD"}])
@pytest.mark.parametrize(("amount", "too_high"), [("5420.00", "5000.00"), ("20.00", "0"), ("420.01", "0.01")])
@pytest.mark.parametrize("quantity", [0, 1000])
def test_a_line_in_another_currency_hides_no_wrong_amount(
    make: Make, quantity: int, amount: str, too_high: str, wallet: dict[str, str]
) -> None:
    """0.00 EUR beside the right 420.00 USD is a currency; beside another amount in USD, that is a finding, too."""
    store = make(usage(5000, wallet_currency="USD"))
    other = line(0, quantity, "0.00", currency="EUR", **wallet)
    charged = only(validated(store, [line(0, 5000 - quantity, "420.00", **wallet), other], STAIRCASE))
    assert charged.kind == "charged in EUR"
    validation = validated(store, [line(0, 5000 - quantity, amount, **wallet), other], STAIRCASE)
    (wrong,) = (finding for finding in validation.findings if finding.kind != charged.kind)
    assert len(validation.findings) == 2
    assert f"{exact_money(Decimal(amount), 'USD')} for calls" in wrong.sentence
    assert wrong.severity == "high"
    assert dict(wrong.amounts) == {"USD": abs(Decimal(amount) - 420)}
    assert dict(wrong.too_high or ()) == ({"USD": Decimal(too_high)} if Decimal(too_high) else {})
    assert sheet(validation, "status") == ["wrong amount"]


def test_wallets_are_compared_with_their_own_prices(make: Make) -> None:
    events = [*usage(500, wallet_currency="USD"), *usage(300, wallet_currency="JPY")]
    prices = (PER_UNIT, {**PER_UNIT, "currency": "JPY", "unit_amount": 15})
    lines = [
        line(0, 500, "50", wallet_currency="USD"),
        line(0, 300, "4500", wallet_currency="JPY", currency="JPY"),
    ]
    store = make(events)
    assert validated(store, lines, *prices).results[0].is_clean
    swapped = only(validated(store, [lines[0], {**lines[1], "amount": "4501"}], *prices))
    assert swapped.wallet_currency == "JPY"
    together = [line(0, 500, "50"), line(0, 300, "4500", currency="JPY")]
    assert validated(store, together, *prices).results[0].is_clean


@pytest.mark.parametrize("billed", ["2", "3"])
def test_two_units_of_two_wallets_are_never_added(make: Make, billed: str) -> None:
    """Two users in the customer's dollars, and 13.358 GB pinned to francs, which have no price: not 15.358."""
    noon = SINCE + timedelta(days=3, hours=12)
    events = [event(0, noon, "storage", dimensions={"user": user}) for user in "aab"]
    francs = event(0, noon, "storage", quantity=Decimal("13.358"), wallet_currency="CHF")
    price = {"metric_key": "storage", "unit_amount": "0.10", "currency": "USD", "aggregation": "unique:dim:user"}
    prices = (price, {**price, "currency": "JPY"})
    store = make([*events, francs])
    lines = [line(0, billed, Decimal(billed) / 10, "storage")]
    validation = validated(store, lines, *prices, wallets={"default": "USD"})
    assert sorted(map(str, sheet(validation, "recomputed"))) == ["13.358", "2"]
    assert set(sheet(validation, "status")) == {"no price", "matched" if billed == "2" else "over-billed"}
    if billed == "2":
        assert validation.results[0].is_clean
        return
    finding = only(validation)
    assert "is invoiced 3 of storage, no wallet, " in finding.sentence
    assert ("compared", "invoiced 3, used 2") in finding.facts
    assert finding.events == shown(store, finding) == 3
    francs_line = line(0, "20", None, "storage", currency="CHF")
    both = validated(store, [line(0, 2, "0.20", "storage"), francs_line], *prices, wallets={"default": "USD"})
    assert "is invoiced 20 of storage, wallet CHF, " in only(both).sentence
    assert only(both).events == shown(store, only(both)) == 1


def test_without_wallets_the_currency_of_the_lines_says_which_price_applies(make: Make) -> None:
    """The price has two currencies, the usage no wallet: a customer billed in yen is rated in yen."""
    prices = (PER_UNIT, {**PER_UNIT, "currency": "JPY", "unit_amount": 15})
    lines = [line(0, 500, "50"), line(1, 300, "4500", currency="JPY")]
    store = make(usage(500, 300))
    assert validated(store, lines, *prices).results[0].is_clean
    wrong = only(validated(store, [lines[0], {**lines[1], "amount": "30"}], *prices))
    assert "is charged 30 JPY for calls" in wrong.sentence
    against = only(validated(store, lines, *prices, wallets={"default": "USD"}))
    assert "is charged in JPY, but the price book charges USD" in against.sentence


def test_usage_without_a_price_is_left_unchecked_and_its_quantity_compared(make: Make) -> None:
    events = [*usage(5000), *usage(7, metric="other", price_key=None)]
    store = make(events)
    validation = validated(store, [line(0, 5000, "420"), line(0, 7, "1", "other")], STAIRCASE)
    assert validation.results[0].is_clean
    assert validation.unchecked == ("amounts of 1 of 2 invoiced totals not checked",)
    assert only(validated(store, [line(0, 5000, "420"), line(0, 8, "1", "other")], STAIRCASE)).quantity == 1


def test_usage_with_neither_price_nor_line_hides_no_wrong_amount(make: Make) -> None:
    """A book of one metric of two: the other one's usage is one finding without a price, not one for each customer."""
    store = make([*usage(*USED), *usage(*USED, metric="seats")])
    lines = right(("420.00", "1187.20", "1.20", "1320.05"))
    found = store.validate(
        SEPTEMBER, checks=["reconciliation", "unpriced"], invoices=pd.DataFrame(lines, dtype="str"), prices=[STAIRCASE]
    )
    assert [finding.check for finding in found.findings] == ["reconciliation", "unpriced"]
    assert "10 times the expected amount" in found.findings[0].sentence
    table = found.sheet("reconciliation")
    assert table is not None
    assert list(table["status"]) == ["wrong amount", *["no price"] * 4, *["matched"] * 3]
    notes = [result.outcome.note for result in found.results if result.outcome]
    assert any("4 totals have neither a price nor an invoice line" in note for note in notes)


def test_a_missing_line_is_found_where_other_customers_are_billed_for_the_metric_without_a_price(make: Make) -> None:
    store = make([*usage(*USED), *usage(*USED, metric="seats")])
    seats = [line(customer, quantity, str(Decimal(quantity) / 100), "seats") for customer, quantity in enumerate(USED)]
    lines = [*right(), *seats[1:]]
    finding = only(validated(store, lines, STAIRCASE))
    assert "has no invoice line for seats" in finding.sentence


def test_what_a_customer_without_lines_should_be_billed_is_said_by_currency(make: Make) -> None:
    events = [*usage(*USED), *usage(*USED, metric="seats"), *usage(*USED[:2], metric="users")]
    prices = (PER_UNIT, {**PER_UNIT, "metric_key": "seats", "currency": "JPY", "unit_amount": 3})
    others = [line(who, used, Decimal(used) / 10) for who, used in enumerate(USED) if who]
    others += [line(who, used, used * 3, "seats", currency="JPY") for who, used in enumerate(USED) if who]
    others.append(line(1, USED[1], None, "users"))
    finding = only(validated(make(events), others, *prices))
    said = (
        "have no invoice line, for which 15,000 JPY and 500.00 USD is expected, and more for 1 total without a price: "
    )
    assert said in finding.sentence


@pytest.mark.parametrize(
    ("amount", "quantity", "worth"),
    [("33.34", 99, "3.03"), ("33.3333", 99, "3.0303"), ("0.07", 91, "0.00077"), ("9.90", 99, "0.90")],
)
def test_the_value_of_a_wrong_quantity_has_no_more_digits_than_its_amounts(
    make: Make, amount: str, quantity: int, worth: str
) -> None:
    """Without a price book, 33.34 for 99 instead of 90 was 3.030909090909 too much."""
    finding = only(validated(make(usage(90)), [line(0, quantity, amount)]))
    assert finding.amounts == (("USD", Decimal(worth)),)


def test_the_amount_of_a_missing_line_is_said_with_and_without_a_price_book(make: Make) -> None:
    store, others = make(usage(*USED)), (1, 2, 3)
    single = only(validated(store, [line(who, USED[who], None) for who in others], PER_UNIT))
    assert ": 5,000 was used in 2 events, for which 500.00 USD is expected" in single.sentence
    estimated = only(validated(store, [line(who, USED[who], USED[who]) for who in others]))
    assert ": 5,000 was used in 2 events, 5,000.00 USD too little" in estimated.sentence


def test_all_customers_without_lines_are_said_with_the_amount_that_is_expected(make: Make) -> None:
    every = validated(make(usage(*[100] * 12)), [line(20, 1, "0.10")], PER_UNIT).findings
    (finding,) = (finding for finding in every if finding.kind == "uninvoiced customers")
    assert "100 % of all events, for which 120.00 USD is expected; the invoices may be incomplete." in finding.sentence


def test_each_currency_of_a_wrong_total_is_named(make: Make) -> None:
    """Usage of two wallets, lines that tell none apart: both amounts are wrong."""
    events = [*usage(500, wallet_currency="USD"), *usage(300, wallet_currency="JPY")]
    prices = (PER_UNIT, {**PER_UNIT, "currency": "JPY", "unit_amount": 15})
    lines = [line(0, 500, "51"), line(0, 300, "4400", currency="JPY")]
    finding = only(validated(make(events), lines, *prices))
    assert "is charged 4,400 JPY and 51.00 USD for calls" in finding.sentence
    assert "but 4,500 JPY and 50.00 USD is expected" in finding.sentence
    assert finding.amounts == (("JPY", Decimal(100)), ("USD", Decimal("1.00")))


@pytest.mark.parametrize(
    "price",
    [
        {**PER_UNIT, "included_quantity": "100"},
        {**PER_UNIT, "minimum_amount": "45"},
        {**PER_UNIT, "unit_amount": "0.0149"},
        {**STAIRCASE, "tiers": "200:0.10;:0.05"},
        {**PER_UNIT, "aggregation": "max"},
    ],
    ids=["included", "minimum", "rounding", "staircase", "max"],
)
@pytest.mark.parametrize("other", ["EUR", None])
def test_lines_without_wallets_have_the_sum_of_what_each_wallet_is_rated(
    make: Make, price: dict[str, Any], other: str | None
) -> None:
    """`rate` applies the terms to each wallet's usage; its lines, added up by customer, are right."""
    store = make([*usage(501, wallet_currency="USD"), *usage(301, wallet_currency=other)])
    rated = store.rate(SEPTEMBER, prices=[price])
    amount, billable = (total(getattr(one, name) for one in rated.lines) for name in ("amount", "billable_quantity"))
    assert len(rated.lines) == 2
    validation = validated(store, [line(0, billable, amount)], price)
    assert not validation.findings
    assert sheet(validation, "expected_amount") == [amount]


@pytest.mark.parametrize(("included", "amount"), [(None, "80.20"), ("100", "70.20")])
def test_an_invoice_that_rates_all_wallets_in_one_line_is_named(make: Make, included: str | None, amount: str) -> None:
    store = make([*usage(501, 7, wallet_currency="USD"), *usage(301, wallet_currency="EUR")])
    price = {**PER_UNIT, **({"included_quantity": included} if included else {})}
    validation = validated(store, [line(0, 802, amount), line(1, 7, "0.00" if included else "0.70")], price)
    if included is None:
        assert not validation.findings
        return
    finding = explained(validation, "wallets in one line", severity="medium")
    assert "charged 70.20 USD for calls" in finding.sentence
    assert "but 60.20 USD is expected" in finding.sentence
    assert "all the customer's wallets costs in one line" in finding.sentence


@pytest.mark.parametrize("step", [1, -1])
def test_each_line_of_an_expected_amount_is_named_in_one_order(make: Make, step: int) -> None:
    """JSON and the app show facts by their names, and the database returns usage in any order."""
    events = [*usage(500, wallet_currency="USD"), *usage(300, wallet_currency="JPY")][::step]
    prices = (PER_UNIT, {**PER_UNIT, "currency": "JPY", "unit_amount": 15})[::step]
    finding = only(validated(make(events), [line(0, 799, "51")], *prices))
    facts = dict(finding.facts)
    assert len(facts) == len(finding.facts)
    words = ["price 1: 500 x 0.1 = 50", "price 2: 300 x 15 = 4500"]
    if step < 0:
        words = ["price 1: 300 x 15 = 4500", "price 2: 500 x 0.1 = 50"]
    assert [facts["expected by"], facts["expected by (2)"]] == words


@pytest.mark.parametrize("step", [1, -1])
def test_the_decimals_of_another_currency_hide_no_wrong_amount(make: Make, step: int) -> None:
    """90 USD and 4,500 JPY are right without the late events; 90.90 USD is no rounding, though 0.90 JPY would be."""
    at, late = SINCE + timedelta(days=3), utc(2026, 10, 3)
    events = [
        event(0, at, quantity=Decimal(900), wallet_currency="USD"),
        event(0, at, quantity=Decimal(300), wallet_currency="JPY"),
        event(0, at, quantity=Decimal(4100), wallet_currency="USD", ingested_at=late),
    ]
    prices = (PER_UNIT, {**PER_UNIT, "currency": "JPY", "unit_amount": 15})[::step]
    store, period = make(events), SEPTEMBER.replace(finalized_at=utc(2026, 10, 2))
    yen = line(0, 300, "4500", currency="JPY")
    explained(validated(store, [line(0, 900, "90"), yen], *prices, period=period), "late events", severity="medium")
    assert only(validated(store, [line(0, 900, "90.90"), yen], *prices, period=period)).severity == "high"


def test_usage_that_costs_nothing_needs_no_line(make: Make) -> None:
    assert not validated(make(usage(50, 5000)), [line(1, 5000, "490")], {**PER_UNIT, "included_quantity": 100}).findings


def explained(validation: Validation, name: str, *, severity: str = "high") -> Finding:
    finding = only(validation)
    assert finding.severity == severity, finding.sentence
    assert set(sheet(validation, "explained_by")) >= {name}
    return finding


def test_rounding_is_low_and_said_once(make: Make) -> None:
    """Half even for half up, and cut off: within a cent of the exact amount."""
    price = {**PER_UNIT, "unit_amount": "0.0125"}
    lines = [line(0, 501, "6.26"), line(1, 2, "0.02"), line(2, 503, "6.28")]
    finding = explained(validated(make(usage(501, 2, 503)), lines, price), "rounding", severity="low")
    assert "rounded in another way" in finding.sentence
    far = only(validated(make([]), [lines[0], line(1, 2, "0.03"), line(2, 503, "6.30")], price))
    assert far.severity == "high"


def test_late_events_explain_the_amount_too(make: Make) -> None:
    """The biller knew 900 of 5,000 units: 90.00 is right for these, 100.00 is not."""
    at, finalized = SINCE + timedelta(days=3), utc(2026, 10, 2)
    events = [event(0, at, quantity=Decimal(900)), event(0, at, quantity=Decimal(4100), ingested_at=utc(2026, 10, 3))]
    period = SEPTEMBER.replace(finalized_at=finalized)
    store = make(events)
    finding = explained(
        validated(store, [line(0, 900, "90")], STAIRCASE, period=period), "late events", severity="medium"
    )
    assert finding.amounts == (("USD", Decimal("330.00")),)
    wrong = only(validated(store, [line(0, 900, "100")], STAIRCASE, period=period))
    assert wrong.severity == "high"


def test_late_events_explain_a_maximum(make: Make) -> None:
    at = SINCE + timedelta(days=3)
    events = [event(0, at, quantity=Decimal(9)), event(0, at, quantity=Decimal(41), ingested_at=utc(2026, 10, 3))]
    period = SEPTEMBER.replace(finalized_at=utc(2026, 10, 2))
    price = {**PER_UNIT, "aggregation": "max"}
    explained(validated(make(events), [line(0, 9, "0.9")], price, period=period), "late events", severity="medium")


@pytest.mark.parametrize(("aggregation", "billed"), [("sum", 900), ("count", 1), ("max", 900), ("latest", 900)])
def test_duplicates_explain_the_amount_too(make: Make, aggregation: str, billed: int) -> None:
    """The key that was sent first counts: the copies are later and larger."""
    at = SINCE + timedelta(days=3)
    events = [event(0, at + timedelta(hours=n), quantity=Decimal(900 + n), idempotency_key="k") for n in range(3)]
    price = {**PER_UNIT, "aggregation": aggregation}
    validation = validated(make(events), [line(0, billed, Decimal(billed) / 10)], price)
    explained(validation, "duplicates", severity="medium")


def test_volume_instead_of_staircase_is_named(make: Make) -> None:
    finding = explained(validated(make(usage(5000)), [line(0, 5000, "400")], STAIRCASE), "volume instead of staircase")
    assert "that is the amount by volume, while metric calls is staircase (graduated)" in finding.sentence
    again = validated(make([]), [line(0, 5000, "420")], {**STAIRCASE, "model": "volume"})
    explained(again, "staircase instead of volume")


def test_a_wrong_tier_of_several_customers_is_one_finding(make: Make) -> None:
    lines = [line(0, 5000, "500"), line(1, 6000, "600")]
    finding = explained(validated(make(usage(5000, 6000)), lines, STAIRCASE), "wrong tier")
    assert "2 totals of 2 customers" in finding.sentence
    assert "the whole quantity at tier 1, 0.10 USD a unit" in finding.sentence


@pytest.mark.parametrize("cause", ["volume instead of staircase", "price change"])
def test_a_wrong_price_beside_a_right_one_of_a_product_is_named(make: Make, cause: str) -> None:
    """Calls of a product are billed right, 0.013 each; the others by volume, or as if their price had not changed."""
    batch = UUID(int=0xB0)
    product = {**PER_UNIT, "product_id": str(batch), "unit_amount": "0.013"}
    change = {"valid_to": "2026-09-05T00:00:00Z"}, {"valid_from": "2026-09-05T00:00:00Z", "unit_amount": "0.50"}
    prices = [STAIRCASE] if cause.startswith("volume") else [{**PER_UNIT, **each} for each in change]
    events = [*usage(5000, 1234, 7000, product_id=None), *usage(700, 900, 300, product_id=batch)]
    amounts = ("400.00", "98.72", "560.00") if cause.startswith("volume") else ("500.00", "123.40", "700.00")
    lines = [
        line(who, used, amount) for who, (used, amount) in enumerate(zip((5000, 1234, 7000), amounts, strict=True))
    ]
    lines += [line(who, used, to_cents(used * Decimal("0.013"))) for who, used in enumerate((700, 900, 300))]
    finding = only(validated(make(events), lines, product, *prices))
    assert finding.kind == cause
    assert finding.sentence.startswith("3 totals of 3 customers")


def test_the_former_price_is_named(make: Make) -> None:
    old = {**PER_UNIT, "valid_to": "2026-09-01"}
    new = {**PER_UNIT, "unit_amount": "0.13", "valid_from": "2026-09-01"}
    finding = explained(validated(make(usage(5000)), [line(0, 5000, "500")], old, new), "price change")
    assert "the quantity at the former price, valid until 1 Sep 2026" in finding.sentence


def test_a_change_that_the_invoice_ignores_is_named(make: Make) -> None:
    """4,999 units on the 4th, one on the 5th: the price changes between; all is billed at the later one."""
    old = {**PER_UNIT, "valid_to": "2026-09-05"}
    new = {**PER_UNIT, "unit_amount": "0.13", "valid_from": "2026-09-05"}
    store = make(usage(5000))
    assert validated(store, [line(0, 5000, "500.03")], old, new).results[0].is_clean
    finding = explained(validated(store, [line(0, 5000, "650")], old, new), "price change")
    assert "the whole quantity at the price that is valid from 5 Sep 2026" in finding.sentence


def test_a_customer_s_own_price_that_was_not_applied_is_named(make: Make) -> None:
    own = {**PER_UNIT, "unit_amount": "0.07", "customer_id": str(CUSTOMERS[0])}
    finding = explained(validated(make(usage(5000)), [line(0, 5000, "500")], PER_UNIT, own), "another price")
    assert "the amount at another price: price 1, metric calls" in finding.sentence


def test_general_prices_that_change_in_place_of_an_own_one_are_named(make: Make) -> None:
    """4,999 units on the 4th, one on the 5th: 499.90 and 0.13."""
    old = {**PER_UNIT, "valid_to": "2026-09-05"}
    new = {**PER_UNIT, "unit_amount": "0.13", "valid_from": "2026-09-05"}
    own = {**PER_UNIT, "unit_amount": "0.07", "customer_id": str(CUSTOMERS[0])}
    store = make(usage(5000))
    finding = explained(validated(store, [line(0, 5000, "500.03")], old, new, own), "another price")
    assert finding.sentence.endswith("that is the amount at the general prices, while the customer has an own one.")
    other = only(validated(store, [line(0, 5000, "511.37")], old, new, own))
    assert "no other price or tier" in other.sentence


@pytest.mark.parametrize(
    ("terms", "amount", "cause"),
    [({"included_quantity": 100}, "500", "included quantity"), ({"minimum_amount": 800}, "500", "minimum")],
)
def test_terms_that_were_not_applied_are_named(make: Make, terms: dict[str, Any], amount: str, cause: str) -> None:
    explained(validated(make(usage(5000)), [line(0, 5000, amount)], {**PER_UNIT, **terms}), cause)


@pytest.mark.parametrize("prices", [(), (PER_UNIT,)])
def test_a_line_that_is_billed_twice_is_named(make: Make, prices: tuple[dict[str, Any], ...]) -> None:
    lines = [line(0, 5000, "500"), line(1, 1234, "123.4"), line(0, 5000, "500")]
    validation = validated(make(usage(5000, 1234)), lines, *prices)
    finding = only(validation)
    assert finding.severity == "high"
    assert "that is the used quantity without a repeated line: line 3 is the same as line 1" in finding.sentence
    unequal = validated(make(usage(5000, 1234)), [*lines[:2], line(0, 5000, "400")], *prices)
    assert unequal.findings
    assert not any("repeated" in found.sentence for found in unequal.findings)


@pytest.mark.parametrize("is_priced", [False, True])
@pytest.mark.parametrize(("billed_twice", "others"), [(1, 2), (3, 0), (2, 1), (12, 2)])
def test_a_customer_that_is_billed_twice_is_one_finding(
    make: Make, is_priced: bool, billed_twice: int, others: int
) -> None:
    """All its lines twice; and all customers' together where the whole invoice is there twice, or that of many."""
    metrics, customers = ("calls", "bytes", "seats"), range(billed_twice + others)
    noon = SINCE + timedelta(days=3, hours=12)
    rows = [event(who, noon, m, quantity=Decimal(100 + who)) for who in customers for m in metrics]
    lines = []
    for row in rows:
        each = {"customer_id": str(row.customer_id), "metric_key": row.metric_key, "quantity": str(row.quantity)}
        currency = ("EUR", "USD")[row.customer_id.int % 2]
        lines.append({**each, "amount": str(row.quantity / 10), "currency": currency})
    twice = [each for each in lines if UUID(each["customer_id"]).int < 0xC0 + billed_twice]
    prices = [{**PER_UNIT, "metric_key": m, "currency": code} for m in metrics for code in ("EUR", "USD")]
    findings = validated(make(rows), lines + twice, *(prices if is_priced else ())).findings
    is_together = not others or billed_twice > 10
    assert [finding.kind for finding in findings] == ["repeated line"] * (1 if is_together else billed_twice)
    for finding in findings:
        assert finding.severity == "high"
        assert "the used quantity without repeated lines" in finding.sentence
        mine = [each for each in twice if finding.customer_id in (None, UUID(each["customer_id"]))]
        sums: dict[str, Decimal] = {}
        for each in mine:
            sums[each["currency"]] = sums.get(each["currency"], Decimal(0)) + Decimal(each["amount"])
        assert dict(finding.amounts) == dict(finding.too_high) == sums
        assert all(f"{exact_money(amount, code)} too much" in finding.sentence for code, amount in sums.items())


@pytest.mark.parametrize("prices", [(), (PER_UNIT,)])
def test_swapped_customers_are_named(make: Make, prices: tuple[dict[str, Any], ...]) -> None:
    lines = [line(0, 1234, "123.4"), line(1, 5000, "500")]
    validation = validated(make(usage(5000, 1234)), lines, *prices)
    assert set(sheet(validation, "explained_by")) == {"swapped customers"}
    (finding,) = validation.findings
    whose = f"2 totals of customer {CUSTOMERS[0]} and customer {CUSTOMERS[1]}, "
    assert (finding.severity, finding.sentence.startswith(whose)) == ("high", True)
    assert "each is what another one of them used" in finding.sentence
    assert "USD too much" in finding.sentence


@pytest.mark.parametrize("prices", [(), (PER_UNIT,)])
@pytest.mark.parametrize("customers", [3, 4])
def test_customers_swapped_in_a_circle_are_named(
    make: Make, prices: tuple[dict[str, Any], ...], customers: int
) -> None:
    """Each is billed what the next one used, as where a column was sorted without the others."""
    used = USED[:customers]
    lines = [line(who, quantity, Decimal(quantity) / 10) for who, quantity in enumerate((*used[1:], used[0]))]
    validation = validated(make(usage(*used)), lines, *prices)
    assert set(sheet(validation, "explained_by")) == {"swapped customers"}
    (finding,) = validation.findings
    whose = " and ".join(f"customer {each}" for each in CUSTOMERS[:3]) if customers == 3 else "4 customers"
    assert finding.sentence.startswith(f"{customers} totals of {whose}, ")
    assert "each is what another one of them used" in finding.sentence


@pytest.mark.parametrize("prices", [(), (PER_UNIT,)])
def test_a_line_on_another_customer_is_named_at_both(make: Make, prices: tuple[dict[str, Any], ...]) -> None:
    """One line of four is on the wrong customer: alone, or added to the line that this one has."""
    store = make(usage(*USED))
    for lines in (
        [line(0, 5000, "500"), line(0, 1234, "123.4"), line(2, 12, "1.2"), line(3, 20_001, "2000.1")],
        [line(0, 6234, "623.4"), line(2, 12, "1.2"), line(3, 20_001, "2000.1")],
    ):
        found = validated(store, lines, *prices).findings
        words = {finding.customer_id: finding.sentence for finding in found}
        assert f"what customer {CUSTOMERS[1]} used, who has no line for it" in words[CUSTOMERS[0]]
        assert f"what customer {CUSTOMERS[0]} is billed too much" in words[CUSTOMERS[1]]
        assert len(found) == 2


def test_a_short_number_is_not_said_to_be_another_customer_s(make: Make) -> None:
    lines = [line(0, 5012, None), line(1, 1234, None), line(3, 20_001, None)]
    assert all("what customer" not in finding.sentence for finding in validated(make(usage(*USED)), lines).findings)


def test_what_is_no_circle_is_no_swap(make: Make) -> None:
    """Two customers used the same, or the last one is not billed what the first used: nothing is certain."""
    ambiguous = [line(0, 1234, None), line(1, 12, None), line(2, 5000, None), line(3, 77, None)]
    validation = validated(make(usage(5000, 1234, 12, 1234)), ambiguous)
    assert set(sheet(validation, "explained_by")) == {""}
    open_end = [line(0, 1234, None), line(1, 12, None), line(2, 5001, None)]
    validation = validated(make([]), open_end)
    assert set(sheet(validation, "explained_by")) == {""}


@pytest.mark.parametrize("aggregation", ["sum", "count"])
@pytest.mark.parametrize(
    ("unit_amount", "amount", "words"),
    [("0.0149", "0.01", "half up"), ("0.0123", "0.02", "rounded up"), ("0.0199", "0.01", "cut off")],
)
def test_amounts_rounded_for_each_event_are_named(
    make: Make, aggregation: str, unit_amount: str, amount: str, words: str
) -> None:
    """2,500 events of one unit: each is rounded to a cent, where the price book rounds their sum."""
    at = SINCE + timedelta(days=3)
    store = make([event(0, at + timedelta(minutes=minute), quantity=Decimal(1)) for minute in range(2_500)])
    price = {**PER_UNIT, "unit_amount": unit_amount, "aggregation": aggregation}
    billed = Decimal(amount) * 2_500
    finding = explained(validated(store, [line(0, 2_500, billed)], price), "rounding per event")
    assert "the amounts of single events, each" in finding.sentence
    assert words in finding.sentence
    other = only(validated(store, [line(0, 2_500, billed + Decimal("0.02"))], price))
    assert "single events" not in other.sentence


def of_cents(seed: int, most: int) -> list[list[Row]]:
    """2 to 13 events each of 40 customers, of quantities with decimals."""
    draw = random.Random(seed)
    return [
        [
            event(who, SINCE + timedelta(hours=draw.randrange(700)), quantity=Decimal(draw.randrange(1, most)) / 100)
            for _ in range(draw.randrange(2, 14))
        ]
        for who in range(40)
    ]


PRICES = Decimal("0.0137"), Decimal("0.0191")
"""The amount of a unit before and after a change."""


def to_cents(amount: Decimal, rounding: str = ROUND_HALF_UP) -> Decimal:
    return amount.quantize(Decimal("0.01"), rounding)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("most", "severity"), [(40_000, "medium"), (4_000, "high")])
def test_cents_that_were_rounded_for_each_event_are_one_finding_as_grave_as_their_sum(
    make: Make, most: int, severity: str, seed: int
) -> None:
    """Some are off by less than a cent, which another way of rounding gives too, and some amounts look swapped."""
    price, lines, off = Decimal("0.0137"), [], []
    for who, events in enumerate(of_cents(seed, most)):
        quantity = total(row.quantity for row in events)
        billed = total(to_cents(row.quantity * price) for row in events)
        lines.append(line(who, quantity, billed))
        off.append(billed - to_cents(quantity * price))
    store = make([row for events in of_cents(seed, most) for row in events])
    finding = only(validated(store, lines, {**PER_UNIT, "unit_amount": str(price)}))
    assert (finding.kind, finding.severity) == ("rounding per event", severity)
    assert finding.sentence.startswith(f"{sum(map(bool, off))} totals of ")
    assert dict(finding.amounts) == {"USD": sum(map(abs, off))}
    assert dict(finding.too_high or ()) == {"USD": sum(each for each in off if each > 0)}


def test_cents_that_were_rounded_for_each_event_are_found_where_the_price_changes(make: Make) -> None:
    """As above, with another price from the 16th on: at either price, each event is rounded."""
    change = SINCE + timedelta(days=15)
    lines, wrong = [], 0
    for who, events in enumerate(of_cents(0, 40_000)):
        halves = [[row for row in events if (row.timestamp < change) is early] for early in (True, False)]
        costs = [[row.quantity * price for row in half] for half, price in zip(halves, PRICES, strict=True)]
        billed = total(to_cents(cost) for half in costs for cost in half)
        wrong += billed != total(to_cents(total(half)) for half in costs if half)
        lines.append(line(who, total(row.quantity for row in events), billed))
    moment = change.isoformat()
    ends = ({"valid_to": moment}, {"valid_from": moment})
    prices = [{**PER_UNIT, "unit_amount": str(price), **end} for price, end in zip(PRICES, ends, strict=True)]
    finding = only(validated(make([row for events in of_cents(0, 40_000) for row in events]), lines, *prices))
    assert (finding.kind, finding.severity) == ("rounding per event", "medium")
    assert finding.sentence.startswith(f"{wrong} totals of ")


@pytest.mark.parametrize("rounding", [ROUND_DOWN, ROUND_UP])
def test_cents_that_were_rounded_for_each_line_are_not_said_to_be_of_each_event(make: Make, rounding: str) -> None:
    price, lines = Decimal("0.0137"), []
    for who, events in enumerate(of_cents(3, 4_000)):
        quantity = total(row.quantity for row in events)
        lines.append(line(who, quantity, to_cents(quantity * price, rounding)))
    store = make([row for events in of_cents(3, 4_000) for row in events])
    finding = only(validated(store, lines, {**PER_UNIT, "unit_amount": str(price)}))
    assert (finding.kind, finding.severity) == ("rounding", "low")


def test_a_factor_near_one_is_written_with_its_digits(make: Make) -> None:
    lines = [line(who, used, Decimal(used) * Decimal("0.10004")) for who, used in enumerate((50_000, 25_000, 75_000))]
    finding = only(validated(make(usage(50_000, 25_000, 75_000)), lines, PER_UNIT))
    assert "each is 1.0004 times the expected amount" in finding.sentence


def test_two_cents_are_no_evidence_of_rounding_for_each_event(make: Make) -> None:
    """6.2875 is 6.29; two events of 502 and 1 units rounded up are 6.28 and 0.02."""
    price = {**PER_UNIT, "unit_amount": "0.0125"}
    finding = only(validated(make(usage(503)), [line(0, 503, "6.31")], price))
    assert "single events" not in finding.sentence


NOT_SUMS = pytest.mark.parametrize("aggregation", ["max", "latest", "unique:dim:user"])


def daily(who: int, aggregation: str) -> list[Row]:
    """An event an hour of 31 August to 1 October, with 40 new users a day; the quantities grow."""
    first = SINCE - timedelta(days=1)
    return [
        event(
            who,
            first + timedelta(minutes=30 * number),
            quantity=Decimal(number * (who + 3)) + Decimal("0.25"),
            dimensions={"user": f"u{number if number % 48 < 40 else 0}"},
        )
        for number in range(48 * 32)
    ]


def billed_by(aggregation: str, rows: list[Row], since: Any, until: Any) -> Decimal:
    within = [row for row in rows if since <= row.timestamp < until]
    if aggregation == "max":
        return max(row.quantity for row in within)
    if aggregation == "latest":
        return max(within, key=lambda row: row.timestamp).quantity
    return Decimal(len({str(row.dimensions) for row in within}))


@NOT_SUMS
def test_another_period_of_what_is_no_sum_is_named(make: Make, aggregation: str) -> None:
    """Both customers are billed the days from 31 August to 29 September."""
    rows = {who: daily(who, aggregation) for who in (0, 1)}
    price = {**PER_UNIT, "aggregation": aggregation}
    lines = []
    for who in (0, 1):
        billed = billed_by(aggregation, rows[who], SINCE - timedelta(days=1), UNTIL - timedelta(days=1))
        if aggregation.startswith("unique"):  # the first day more and the last less: of the start alone
            billed = billed_by(aggregation, rows[who], SINCE - timedelta(days=1), UNTIL)
        lines.append(line(who, billed, billed / 10))
    store = make([*rows[0], *rows[1]])
    validation = validated(store, lines, price)
    assert set(sheet(validation, "explained_by")) == {"another period"}
    words = "31 Aug – 30 Sep 2026" if aggregation.startswith("unique") else "Sep 2026"
    assert all(words in finding.sentence for finding in validation.findings)


@NOT_SUMS
def test_a_small_difference_is_no_evidence_of_another_period(make: Make, aggregation: str) -> None:
    """3 instead of 2: the day before would give it, and so would much else."""
    rows = [
        event(0, SINCE + timedelta(days=day), quantity=Decimal(quantity), dimensions={"user": f"u{quantity}"})
        for day, quantity in ((-0.5, 3), (1, 1), (2, 2), (30.5, 3))
    ]
    price = {**PER_UNIT, "aggregation": aggregation}
    validation = validated(make(rows), [line(0, 3, "0.3")], price)
    assert set(sheet(validation, "explained_by")) == {""}


@pytest.mark.parametrize(
    ("aggregation", "billed", "words"),
    [
        ("max", 5000, "by the sum, while the price takes the max"),
        ("sum", 12, "by the count, while the price takes the sum"),
        ("unique:dim:user", 5000, "by the sum, while the price takes the unique"),
    ],
)
def test_another_aggregation_is_named(make: Make, aggregation: str, billed: int, words: str) -> None:
    quantities = (*[100] * 11, 3900)
    rows = [event(0, SINCE + timedelta(days=1 + day), quantity=Decimal(each)) for day, each in enumerate(quantities)]
    price = {**PER_UNIT, "aggregation": aggregation}
    validation = validated(make(rows), [line(0, billed, Decimal(billed) / 10)], price)
    finding = explained(validation, "another aggregation")
    assert words in finding.sentence
    assert finding.severity == "high"


def test_another_aggregation_of_all_customers_is_one_finding(make: Make) -> None:
    rows = [
        event(who, SINCE + timedelta(days=day), quantity=Decimal(50 + who)) for who in range(3) for day in (1, 2, 3)
    ]
    lines = [line(who, 150 + 3 * who, Decimal(150 + 3 * who) / 10) for who in range(3)]
    finding = only(validated(make(rows), lines, {**PER_UNIT, "aggregation": "max"}))
    assert finding.kind == "another aggregation"
    assert "3 totals of 3 customers" in finding.sentence


def test_an_amount_of_zero_is_not_that_of_the_number_of_events(make: Make) -> None:
    """Which rounds to 0 by a small price."""
    price = {**PER_UNIT, "unit_amount": "0.0000075"}
    used = tuple(3_000_000 + 1000 * who for who in range(4))
    validation = validated(make(usage(*used)), [line(who, each, "0") for who, each in enumerate(used)], price)
    assert "another aggregation" not in sheet(validation, "explained_by")


@pytest.mark.parametrize("prices", [(), (PER_UNIT,)])
def test_the_largest_quantities_in_place_of_the_sums_are_one_finding(
    make: Make, prices: tuple[dict[str, Any], ...]
) -> None:
    rows = [
        event(who, SINCE + timedelta(days=day), quantity=Decimal(50 + 7 * who + day))
        for who in range(4)
        for day in (1, 2)
    ]
    largest = [Decimal(52 + 7 * who) for who in range(4)]
    store = make(rows)
    finding = only(validated(store, [line(who, each, each / 10) for who, each in enumerate(largest)], *prices))
    assert finding.kind == "another aggregation"
    assert "4 totals of 4 customers" in finding.sentence
    if prices:
        assert finding.severity == "high"
        assert finding.sentence.endswith("each is by the max, while the price takes the sum.")
    else:  # the lines may be right
        assert (finding.severity, finding.amounts) == ("medium", ())
        assert finding.sentence.endswith(
            "are invoiced other quantities than were used: each is the largest quantity of an event rather than the"
            " sum, and no price book says which of them is billed."
        )
    # of one customer it may be a missing event
    lines = [line(who, 103 + 14 * who, Decimal(103 + 14 * who) / 10) for who in range(1, 4)]
    found = validated(store, [line(0, 52, "5.2"), *lines], *prices)
    assert "another aggregation" not in sheet(found, "explained_by")


@pytest.mark.parametrize(("amount", "label"), [("150.00", "metric calls"), ("225.00", "product")])
def test_the_whole_quantity_at_one_of_two_prices_of_one_time_is_no_price_change(
    make: Make, amount: str, label: str
) -> None:
    """Both prices are always valid: "the price that is valid always" named a change that there is not."""
    other = UUID(int=0xD7)
    prices = PER_UNIT, {**PER_UNIT, "product_id": str(other), "unit_amount": "0.15"}
    events = [*usage(1000), *usage(500, product_id=other)]
    finding = only(validated(make(events), [line(0, 1500, amount)], *prices))
    assert finding.kind == "wrong amount, another price"
    assert "that is the amount at another price: price" in finding.sentence
    assert label in finding.sentence.split("at another price: ")[1]


@pytest.mark.parametrize("prices", [(), (PER_UNIT, {**PER_UNIT, "currency": "EUR"})])
def test_swapped_quantities_of_a_customer_s_two_wallets_are_one_finding(
    make: Make, prices: tuple[dict[str, Any], ...]
) -> None:
    """Each was high, "duplicates do not account for it"; another line that is wrong stays a finding of its own."""
    events = [*usage(1000, 77, wallet_currency="USD"), *usage(600, wallet_currency="EUR")]
    lines = [
        line(0, 600, "100.00", wallet_currency="USD"),
        line(0, 1000, "60.00", wallet_currency="EUR", currency="EUR"),
        line(1, 85, "7.70", wallet_currency="USD"),
    ]
    found = {each.kind: each for each in validated(make(events), lines, *prices).findings if each.kind != "unit price"}
    swapped = found.pop("swapped totals")
    assert (swapped.severity, swapped.customer_id) == ("high", CUSTOMERS[0])
    assert "2 totals of customer" in swapped.sentence
    assert "each is what another one of them used" in swapped.sentence
    assert [(each.severity, each.customer_id) for each in found.values()] == [("high", CUSTOMERS[1])]


@pytest.mark.parametrize(
    ("amount", "words"), [("500.00", "but 376.60 USD too much"), ("50", "and 73.40 USD too little")]
)
def test_too_little_of_a_quantity_at_too_much_money_says_that_they_are_opposites(
    make: Make, amount: str, words: str
) -> None:
    """It was "758.473 too little, and 416.53 EUR too much", below the title under-billed."""
    finding = only(validated(make(usage(1234)), [line(0, 1201, amount)], PER_UNIT))
    assert f": 33 too little, {words}" in finding.sentence


def counted_lines(**more: Any) -> list[dict[str, Any]]:
    """The numbers of events of `few_events` at a price each."""
    return [line(who, 12 + who, Decimal(12 + who) * 2, **more) for who in range(5)]


def few_events() -> list[Row]:
    """12 to 16 calls of 3.5 of five customers, and a seat each."""
    rows = [event(who, SINCE, quantity=Decimal("3.5")) for who in range(5) for _ in range(12 + who)]
    return [*rows, *(event(who, SINCE, "seats") for who in range(5))]


@pytest.mark.parametrize("prices", [(), ({**PER_UNIT, "metric_key": "seats"},)])
def test_numbers_of_events_in_place_of_the_sums_are_one_medium_finding(
    make: Make, prices: tuple[dict[str, Any], ...]
) -> None:
    """Each customer's was high: "30 too little", with an amount that is not owed."""
    seats = [line(who, 1, "0.10", "seats") for who in range(5)]
    store = make(few_events())
    finding = only(validated(store, [*counted_lines(), *seats], *prices))
    assert (finding.kind, finding.severity, finding.amounts) == ("another aggregation", "medium", ())
    assert "5 totals of 5 customers" in finding.sentence
    words = "each is the number of events rather than the sum, and no price book says which of them is billed."
    assert finding.sentence.endswith(words)
    # a wrong number beside them stays high, and its difference from the sum has no value
    wrong = [line(0, 16, 32), *counted_lines()[1:], *seats]
    found = {each.severity: each for each in validated(store, wrong, *prices).findings}
    assert "4 totals of 4 customers" in found["medium"].sentence
    assert (found["high"].customer_id, found["high"].amounts) == (CUSTOMERS[0], ())
    assert found["high"].sentence.endswith("that is 4 more than the number of events, 12, which other lines have.")
    assert found["high"].kind == "beyond another aggregation"
    assert "too little" not in found["high"].sentence, "it is above what the others have, though below the sum"


def test_the_sum_of_one_customer_beside_numbers_of_events_of_the_others_is_named(make: Make) -> None:
    """Four times as much as the others pay, and nothing said so: the others were medium, and this line right."""
    seats = [line(who, 1, "0.10", "seats") for who in range(5)]
    finding = only(validated(make(few_events()), [line(0, 42, 84), *counted_lines()[1:], *seats]))
    assert (finding.kind, finding.severity, finding.amounts) == ("mixed aggregations", "high", ())
    assert "4 totals of 4 customers" in finding.sentence
    words = f"is the number of events, but the sum on the lines of {CUSTOMERS[0]}: one is wrong."
    assert finding.sentence.endswith(words)


@pytest.mark.parametrize("wrong", [[line(2, 49, 98)], [line(2, 14, 28)] * 2, [line(2, 21, 42)], []])
def test_two_of_three_numbers_of_events_are_most_lines(make: Make, wrong: list[dict[str, Any]]) -> None:
    """Both were high, "30 too little", with amounts, beside the sum, a repeated line or a wrong one, or alone."""
    rows = [row for row in few_events() if row.customer_id in CUSTOMERS[: 3 if wrong else 2]]
    seats = [line(who, 1, "0.10", "seats") for who in range(3 if wrong else 2)]
    found = validated(make(rows), [*counted_lines()[:2], *wrong, *seats]).findings
    two, *others = sorted(found, key=lambda each: each.customer_id is not None)
    assert "2 totals of 2 customers" in two.sentence
    assert {each.amounts for each in found} == {()}
    if wrong == [line(2, 49, 98)]:
        assert (two.severity, two.kind, others) == ("high", "mixed aggregations", [])
        assert two.sentence.endswith(
            f"is the number of events, but the sum on the lines of {CUSTOMERS[2]}: one is wrong."
        )
    else:
        assert (two.severity, two.kind) == ("medium", "another aggregation")
        named = [(each.severity, each.kind, each.customer_id) for each in others]
        assert named == ([("high", "beyond another aggregation", CUSTOMERS[2])] if wrong else [])


def test_a_few_numbers_of_few_events_are_told_by_how_far_the_sums_are(make: Make) -> None:
    """12, 9 and 7 events of 2,000.5 each: three were high on a right invoice, "23,994 too little"."""
    rows = [event(who, SINCE, quantity=Decimal("2000.5")) for who in range(3) for _ in range((12, 9, 7)[who])]
    finding = only(validated(make(rows), [line(who, number, number * 2) for who, number in enumerate((12, 9, 7))]))
    assert (finding.kind, finding.severity, finding.amounts) == ("another aggregation", "medium", ())


def test_numbers_of_events_of_one_customer_or_beside_sums_stay_high(make: Make) -> None:
    more = [event(who + 5, SINCE, quantity=Decimal("3.5")) for who in range(3) for _ in range(10)]
    store = make([*few_events(), *more])
    sums = [line(who, Decimal("3.5") * (12 + who), Decimal(7) * (12 + who)) for who in range(5)]
    others = [
        *(line(who + 5, 35, 70) for who in range(3)),
        *(line(who, 1, "0.10", "seats") for who in range(5)),
    ]
    found = [each for each in validated(store, [counted_lines()[0], *sums[1:], *others]).findings if each.amounts]
    assert {(each.severity, each.customer_id) for each in found} == {("high", CUSTOMERS[0])}
    found = validated(store, [*counted_lines()[:3], *sums[3:], *others]).findings
    finding = next(each for each in found if each.kind == "another aggregation")
    assert finding.severity == "high"
    assert "each is the number of events rather than the sum, which other lines have" in finding.sentence


def test_the_largest_quantity_in_another_wallet_is_part_of_the_finding(make: Make) -> None:
    """The last of four customers alone pays in yen."""
    prices = [{**PER_UNIT, "aggregation": "latest", **more} for more in ({}, {"currency": "JPY", "unit_amount": 15})]
    events, lines = [], []
    for who, wallet in enumerate(("USD", "USD", "USD", "JPY")):
        for day, used in ((1, 52 + 7 * who), (2, 40 + who)):
            at = SINCE + timedelta(days=day)
            events.append(event(who, at, quantity=Decimal(used), wallet_currency=wallet))
        amount = Decimal(52 + 7 * who) * (15 if wallet == "JPY" else Decimal("0.1"))
        lines.append(line(who, 52 + 7 * who, amount, currency=wallet, wallet_currency=wallet))
    finding = only(validated(make(events), lines, *prices))
    assert "4 totals of 4 customers" in finding.sentence
    assert finding.sentence.endswith("each is by the max, while the price takes the latest.")


def test_small_sums_in_place_of_maxima_are_part_of_the_finding(make: Make) -> None:
    rows = [event(who, SINCE + timedelta(days=day), quantity=Decimal(20)) for who in range(4) for day in (1, 2)]
    rows[-2:] = [event(3, SINCE + timedelta(days=day), quantity=Decimal("1.25")) for day in (1, 2)]
    lines = [*(line(who, 40, 4) for who in range(3)), line(3, Decimal("2.5"), Decimal("0.25"))]
    finding = only(validated(make(rows), lines, {**PER_UNIT, "aggregation": "max"}))
    assert "4 totals of 4 customers" in finding.sentence


def test_a_line_of_the_wrong_customer_is_named(make: Make) -> None:
    validation = validated(make(usage(5000)), [line(1, 5000, "500")], PER_UNIT)
    assert set(sheet(validation, "explained_by")) == {"swapped customers"}


@pytest.mark.parametrize("prices", [(), (PER_UNIT,)])
@pytest.mark.parametrize(
    ("quantity", "words"),
    [
        (5_000_000, "1,000 times the used quantity"),
        (5_120_000, "1,024 times the used quantity"),
        (5, "the used quantity divided by 1,000"),
        ("4.8828125", "the used quantity divided by 1,024"),
        (300_000, "60 times the used quantity"),
    ],
)
def test_another_unit_is_named(make: Make, prices: tuple[dict[str, Any], ...], quantity: object, words: str) -> None:
    lines = [line(0, quantity, Decimal(str(quantity)) / 10)]
    assert words in explained(validated(make(usage(5000)), lines, *prices), "another unit").sentence


def hourly(who: int, first: int, hours: int) -> list[Row]:
    """An event an hour, of growing quantity, from `first` hours after the start of September."""
    times = [SINCE + timedelta(hours=first + hour) for hour in range(hours)]
    return [event(who, at, quantity=Decimal(hour * hour + abs(first))) for hour, at in enumerate(times)]


@pytest.mark.parametrize("prices", [(), (PER_UNIT,)])
@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        (timedelta(days=1), timedelta(days=1), "2 Sep – 1 Oct 2026"),
        (timedelta(0), timedelta(days=-1), "1–29 Sep 2026"),
        (timedelta(days=-1), timedelta(0), "31 Aug – 30 Sep 2026"),
    ],
)
def test_a_period_that_is_a_day_off_is_named(
    make: Make, prices: tuple[dict[str, Any], ...], since: timedelta, until: timedelta, words: str
) -> None:
    events = [*hourly(0, -48, 96), *hourly(0, 24 * 28, 96)]
    billed = sum(row.quantity for row in events if SINCE + since <= row.timestamp < UNTIL + until)
    lines = [line(0, billed, billed / 10)]
    assert words in explained(validated(make(events), lines, *prices), "another period").sentence


def test_a_period_in_utc_instead_of_the_zone_is_named(make: Make) -> None:
    """Berlin's September begins two hours before that of UTC; two customers agree on the shift."""
    period = Period(
        since="2026-08-31T22:00:00Z", until="2026-09-30T22:00:00Z", timezone="Europe/Berlin", as_of=utc(2026, 10, 20)
    )
    events = [row for who in (0, 1) for row in (*hourly(who, -24, 48 + who), *hourly(who, 24 * 29, 48 + who))]
    lines = []
    for who in (0, 1):
        billed = sum(
            row.quantity for row in events if row.customer_id == CUSTOMERS[who] and SINCE <= row.timestamp < UNTIL
        )
        lines.append(line(who, billed, billed / 10))
    validation = validated(make(events), lines, PER_UNIT, period=period)
    assert set(sheet(validation, "explained_by")) == {"another period"}
    assert all("the period in UTC" in finding.sentence for finding in validation.findings)


def test_a_wrong_amount_without_a_known_cause_says_so(make: Make) -> None:
    finding = only(validated(make(usage(5000)), [line(0, 5000, "417.77")], STAIRCASE))
    assert finding.severity == "high"
    assert "no other price or tier of the price book, nor a factor of the whole, gives that" in finding.sentence
    assert dict(finding.facts)["expected by"] == "price 1: 1000 x 0.1 = 100; 4000 x 0.08 = 320"


def test_findings_of_one_customer_show_their_events(make: Make) -> None:
    store = make(usage(*USED))
    for finding in validated(store, [line(0, 5000, "417.77"), line(1, 77, "5")], STAIRCASE).findings:
        if finding.customer_id is not None:
            assert shown(store, finding) == finding.events


def test_a_period_that_is_not_over_has_no_high_amount(make: Make) -> None:
    finding = only(
        validated(
            make(usage(5000)), [line(0, 5000, "400")], STAIRCASE, period=SEPTEMBER.replace(as_of=utc(2026, 9, 20))
        )
    )
    assert finding.severity == "medium"


def test_the_stored_book_is_used(make: Make, events_connection: Any) -> None:
    from support.generated_events import ORGANIZATION
    from usage_explore.pricing.read import read_prices
    from usage_explore.pricing.table import replace_prices

    store = make(usage(5000))
    replace_prices(events_connection, store.table, ORGANIZATION, read_prices([STAIRCASE]))
    events_connection.commit()
    assert "volume" in only(validated(store, [line(0, 5000, "400")])).sentence


def test_findings_of_one_subject_are_told_apart_by_their_kind(make: Make) -> None:
    """Two customers' amounts are rounded otherwise, three others' ten times too high: two findings of all customers."""
    quantities = (501, 503, 5000, 7000, 9000)
    amounts = ("6.27", "6.28", "625", "875", "1125")
    pairs = enumerate(zip(quantities, amounts, strict=True))
    lines = [line(who, quantity, amount) for who, (quantity, amount) in pairs]
    findings = validated(make(usage(*quantities)), lines, {**PER_UNIT, "unit_amount": "0.0125"}).findings
    assert [(finding.severity, finding.kind) for finding in findings] == [("high", "factor 10"), ("low", "rounding")]
    assert len({identity.id for identity in identities(findings)}) == 2


def priced_lines(quantities: tuple[object, ...], amounts: tuple[object, ...]) -> list[dict[str, Any]]:
    return [line(who, quantity, amount) for who, (quantity, amount) in enumerate(zip(quantities, amounts, strict=True))]


CENTS = {**PER_UNIT, "unit_amount": "0.01"}


def test_amounts_that_are_all_a_cent_too_high_share_no_factor(make: Make) -> None:
    """126.18 for 126.17 and 5562.87 for 5562.86: 1.000001 is no factor of both."""
    used = (12_617, 556_286, 9_900)
    finding = only(validated(make(usage(*used)), priced_lines(used, ("126.18", "5562.87", "99.01")), CENTS))
    assert finding.kind == "same difference"
    assert "each is 0.01 USD more than expected" in finding.sentence


def test_a_difference_that_near_amounts_share_is_no_factor(make: Make) -> None:
    """1.0001 fits all, and so does 0.01 more."""
    used = (10_000, 10_100, 10_200)
    finding = only(validated(make(usage(*used)), priced_lines(used, ("100.01", "101.01", "102.01")), CENTS))
    assert finding.kind == "same difference"


def test_small_amounts_at_an_old_price_are_no_rounding(make: Make) -> None:
    """0.02 for 0.025 is the old price, as are 50 for 62.50, 70 for 87.50 and 90 for 112.50."""
    used = (5000, 7000, 9000, 2)
    old = {**PER_UNIT, "unit_amount": "0.01", "valid_to": "2026-09-01T00:00:00Z"}
    new = {**PER_UNIT, "unit_amount": "0.0125", "valid_from": "2026-09-01T00:00:00Z"}
    finding = only(validated(make(usage(*used)), priced_lines(used, ("50", "70", "90", "0.02")), old, new))
    assert finding.kind == "price change"
    assert "4 totals of 4 customers" in finding.sentence


def test_a_small_amount_at_an_old_price_stays_there_beside_others_that_are_a_cent_too_low(make: Make) -> None:
    """0.02 for 0.025, that is 0.03, is the old price as the first ones are, and a cent too low as the last ones are."""
    used = (5000, 7000, 9000, 2, 8000, 8800, 9600)
    amounts = ("50", "70", "90", "0.02", "99.99", "109.99", "119.99")
    old = {**PER_UNIT, "unit_amount": "0.01", "valid_to": "2026-09-01T00:00:00Z"}
    new = {**PER_UNIT, "unit_amount": "0.0125", "valid_from": "2026-09-01T00:00:00Z"}
    validation = validated(make(usage(*used)), priced_lines(used, amounts), old, new)
    assert sheet(validation, "explained_by") == [*["price change"] * 4, *["same difference"] * 3]


def test_amounts_that_are_cut_off_stay_rounding_beside_one_at_an_old_price(make: Make) -> None:
    used = (2, 6, 10, 5000)
    old = {**PER_UNIT, "unit_amount": "0.01", "valid_to": "2026-09-01T00:00:00Z"}
    new = {**PER_UNIT, "unit_amount": "0.0125", "valid_from": "2026-09-01T00:00:00Z"}
    validation = validated(make(usage(*used)), priced_lines(used, ("0.02", "0.07", "0.12", "50")), old, new)
    assert sorted(sheet(validation, "explained_by")) == ["price change", *["rounding"] * 3]


def test_amounts_that_are_all_a_cent_too_high_are_one_finding_in_each_currency(make: Make) -> None:
    used = (12_617, 556_286, 9_900, 11_111, 22_222, 33_333, 44_444)
    amounts = ("126.18", "5562.87", "99.01", "111.12", "222.23", "333.34", "444.45")
    lines = priced_lines(used, amounts)
    for each in lines[:3]:
        each["currency"] = "EUR"
    wallets = {str(each["customer_id"]): each["currency"] for each in lines}
    books = [{**CENTS, "currency": currency} for currency in ("EUR", "USD")]
    findings = validated(make(usage(*used)), lines, *books, wallets=wallets).findings
    assert [finding.kind for finding in findings] == ["same difference"] * 2
    assert sorted(finding.sentence.split(" total")[0] for finding in findings) == ["3", "4"]


def test_amounts_that_are_all_a_cent_too_high_are_no_rounding_where_cents_were_rounded_down(make: Make) -> None:
    """6.26 for 6.2525 is 0.01 more than 6.25, as are the others."""
    used = (5002, 5000, 7000, 9000)
    prices = {**PER_UNIT, "unit_amount": "0.00125"}
    finding = only(validated(make(usage(*used)), priced_lines(used, ("6.26", "6.26", "8.76", "11.26")), prices))
    assert finding.kind == "same difference"
    assert "4 totals of 4 customers" in finding.sentence


def test_cents_are_no_evidence_of_a_common_factor(make: Make) -> None:
    used = (5, 6, 7)
    findings = validated(make(usage(*used)), priced_lines(used, ("0.07", "0.09", "0.10")), CENTS).findings
    assert not any("times the expected amount" in finding.sentence for finding in findings)


def test_all_amounts_with_the_other_sign_are_one_finding(make: Make) -> None:
    finding = only(validated(make(usage(*USED)), right(tuple(f"-{amount}" for amount in AMOUNTS)), STAIRCASE))
    assert finding.severity == "high"
    assert "4 totals of 4 customers" in finding.sentence
    assert "each is -1 times the expected amount" in finding.sentence


def test_one_amount_with_the_other_sign_is_named(make: Make) -> None:
    finding = only(validated(make(usage(5000)), [line(0, 5000, "-420")], STAIRCASE))
    assert "that is -1 times the expected amount" in finding.sentence


@pytest.mark.parametrize("prices", [(), (PER_UNIT,)])
@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (10, "10 times the used quantity"),
        (-1, "the used quantity with the other sign"),
        (1000, "1,000 times the used quantity, as of another unit"),
        ("1.19", "1.19 times the used quantity"),
        ("0.1", "the used quantity divided by 10"),
    ],
)
def test_all_quantities_and_amounts_multiplied_are_one_finding(
    make: Make, prices: tuple[dict[str, Any], ...], factor: object, words: str
) -> None:
    quantities = [Decimal(str(factor)) * used for used in USED]
    lines = priced_lines(tuple(quantities), tuple(quantity / 10 for quantity in quantities))
    finding = only(validated(make(usage(*USED)), lines, *prices))
    assert finding.severity == "high"
    assert "4 totals of 4 customers" in finding.sentence
    assert finding.sentence.endswith(f"each is {words}.")


@pytest.mark.parametrize(
    ("used", "billed", "words"),
    [
        (369, 3690, ": that is 10 times the used quantity"),
        (369, 36_900, ": that is 100 times the used quantity"),
        (369, "36.9", ": that is the used quantity divided by 10"),
        (369, -369, ": that is the used quantity with the other sign"),
        (1, 10, "; duplicates do not account for it"),
    ],
)
def test_a_single_quantity_with_more_zeros_is_named_unless_it_is_a_coincidence(
    make: Make, used: int, billed: object, words: str
) -> None:
    store = make([event(0, SINCE + timedelta(days=3), quantity=Decimal(used))])
    assert words in only(validated(store, [line(0, billed, None)])).sentence


def test_a_line_without_usage_is_one_finding_whatever_its_currency(make: Make) -> None:
    lines = [line(0, 500, "50", wallet_currency="EUR", currency="EUR")]
    lines.append(line(0, 7, "1", "nothing", wallet_currency="EUR", currency="KWD"))
    store = make(usage(500, wallet_currency="EUR"))
    finding = only(validated(store, lines, {**PER_UNIT, "currency": "EUR"}))
    assert "but has no usage of it" in finding.sentence


def test_lines_without_usage_in_two_currencies_say_each_amount(make: Make) -> None:
    lines = [line(0, 5000, "420.00"), line(0, 1, "49.57", "vat", currency="EUR"), line(0, 1, "0.50", "vat")]
    finding = only(validated(make(usage(5000)), lines, STAIRCASE))
    assert finding.sentence.endswith("but has no usage of it, 49.57 EUR too much and 0.50 USD too much.")
    assert dict(finding.amounts) == dict(finding.too_high or ()) == {"EUR": Decimal("49.57"), "USD": Decimal("0.50")}


def test_most_others_are_only_said_to_agree_where_most_do(make: Make) -> None:
    """Unit prices of a tax: of five lines three are alike, then two."""
    store = make(usage(5000, 1234, 12, 20_001))
    for amounts, words in (
        (("5.25", "5.25", "5.25", "7.25", "8.25"), "and most others charge about 5.25 USD"),
        (("5.25", "5.25", "6.25", "7.25", "8.25"), "and 1 other charge about 5.25 USD"),
    ):
        taxes = [line(who, 1, amount, "vat") for who, amount in enumerate(amounts)]
        found = validated(store, [*right(), *taxes], STAIRCASE).findings
        assert any(words in finding.sentence for finding in found if finding.kind == "unit price")


def test_amounts_swapped_between_two_customers_are_named(make: Make) -> None:
    swapped = (AMOUNTS[1], AMOUNTS[0], *AMOUNTS[2:])
    validation = validated(make(usage(*USED)), right(swapped), STAIRCASE)
    (finding,) = validation.findings
    assert finding.sentence.startswith(f"2 totals of customer {CUSTOMERS[0]} and customer {CUSTOMERS[1]}, ")
    assert finding.sentence.endswith("each is what another one of them used, or is to pay.")
    assert finding.severity == "high"


def test_amounts_that_two_customers_may_have_swapped_are_not_said_to_be_another_s(make: Make) -> None:
    """Customers 1 and 2 are expected to pay the same and charged the same: it may be the amount of either."""
    used = (5000, 1234, 1234)
    lines = priced_lines(used, ("118.72", "420", "420"))
    validation = validated(make(usage(*used)), lines, STAIRCASE)
    assert "swapped customers" not in sheet(validation, "explained_by")


def test_a_swap_with_the_quantity_that_is_left_after_the_included_one_is_named(make: Make) -> None:
    """Customer 1 used 4,900, which is also what is left of 5,000 after the included 100."""
    price = {**PER_UNIT, "included_quantity": 100}
    validation = validated(make(usage(5000, 4900)), priced_lines((4900, 5000), ("480", "490")), price)
    assert set(sheet(validation, "explained_by")) == {"swapped customers"}
    assert len(validation.findings) == 1


@pytest.mark.parametrize("kind", ["late events", "duplicates"])
def test_a_right_quantity_with_the_amount_without_late_events_or_duplicates_is_named(make: Make, kind: str) -> None:
    at, late = SINCE + timedelta(days=3), utc(2026, 10, 3)
    more: dict[str, Any] = {"ingested_at": late} if kind == "late events" else {"idempotency_key": "k"}
    events = [event(0, at, quantity=Decimal(900), idempotency_key="k"), event(0, at, quantity=Decimal(4100), **more)]
    period = SEPTEMBER.replace(finalized_at=utc(2026, 10, 2))
    finding = explained(
        validated(make(events), [line(0, 5000, "90")], STAIRCASE, period=period), kind, severity="medium"
    )
    assert f"that is the amount without {kind}, while the quantity is that with them" in finding.sentence


def test_lines_without_usage_are_not_compared_with_each_other_where_the_book_has_their_price(make: Make) -> None:
    """Each is right by the book, with its flat amount; their unit prices differ, as do those of all lines."""
    flat = {**PER_UNIT, "flat_amount": "0.25"}
    right = [line(who, quantity, f"{quantity / 10 + 0.25:.2f}") for who, quantity in enumerate(USED[:2])]
    without = [line(2, 6, "0.85"), line(3, 800, "80.25")]
    validation = validated(make(usage(*USED[:2])), [*right, *without], flat)
    assert len(validation.findings) == 2
    assert all("but has no usage of it" in finding.sentence for finding in validation.findings)
