"""Currencies of costs: half of a cost is found, and so is a currency where another is usual, whoever decides on it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, steady, store_of
from support.check_results import examine, shown
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.demo import Incident
from usage_explore.query.queries import Period
from usage_explore.validation import Finding

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def findings(store: Store, period: Period = SEPTEMBER) -> tuple[Finding, ...]:
    outcome = examine(store, "currencies", period).outcome
    assert outcome is not None
    return outcome.findings


def cost(currency: str | None, amount: str | None = "0.25") -> dict[str, Any]:
    return {
        "external_cost_amount": None if amount is None else Decimal(amount),
        "external_cost_currency": currency,
    }


def test_an_amount_without_a_currency_and_the_reverse(events_database_url: str) -> None:
    events = steady(0, SINCE, UNTIL, HOUR, **cost("EUR")) + steady(1, SINCE, UNTIL, HOUR, metric="free")
    events += steady(1, SINCE, SINCE + 12 * HOUR, HOUR, **cost(None, "-0.1"))
    events += steady(2, SINCE, SINCE + 3 * HOUR, HOUR, metric="seats\x1b[2J", **cost("EUR", None))
    with store_of(events_database_url, events) as store:
        amount, currency = findings(store)
        assert (amount.severity, amount.customer_id, amount.metric_key) == ("medium", CUSTOMERS[1], "calls")
        assert (amount.events, shown(store, amount), amount.amounts) == (12, 12, ())
        assert dict(amount.facts)["cost without a currency"] == "-1.2"
        assert (currency.severity, currency.events, shown(store, currency)) == ("low", 3, 3)
        assert "\x1b" not in currency.sentence


def test_one_currency_everywhere_and_a_few_costs_in_another(events_database_url: str) -> None:
    events = [each for who in range(3) for each in steady(who, SINCE, SINCE + 10 * DAY, HOUR, **cost("EUR"))]
    events += steady(1, SINCE + DAY, SINCE + DAY + 11 * HOUR, HOUR, **cost("USD"))
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.severity, found.events, found.amounts) == ("medium", 11, (("USD", Decimal("2.75")),))
        assert "everywhere" in found.sentence


def by_region(region: str, currency: str, hours: int, **given: Any) -> list[Row]:
    return [
        row
        for who in range(4)
        for row in steady(who, SINCE, SINCE + hours * HOUR, HOUR, dimensions={"region": region}, **cost(currency))
    ]


def test_where_a_dimension_decides_its_values_are_compared(events_database_url: str) -> None:
    usual = by_region("us", "USD", 200) + by_region('e"u\n', "EUR", 200)
    with store_of(events_database_url, usual) as store:
        assert not findings(store)


def test_a_value_in_another_currency_is_found(events_database_url: str) -> None:
    events = by_region("us", "USD", 200) + by_region('e"u\n', "EUR", 200)
    events += steady(2, SINCE + DAY, SINCE + 3 * DAY, 4 * HOUR, dimensions={"region": 'e"u\n'}, **cost("USD"))
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.severity, found.events, found.customer_id) == ("medium", 12, CUSTOMERS[2])
        assert found.amounts == (("USD", Decimal("3.00")),)
        assert found.question.dimensions == (("region", ('e"u\n',)),)
        assert "\n" not in found.sentence


def test_where_the_customer_decides_customers_are_compared(events_database_url: str) -> None:
    events = [
        row
        for who in range(6)
        for row in steady(who, SINCE, SINCE + 10 * DAY, HOUR, **cost("EUR" if who % 2 else "USD"))
    ]
    events += steady(3, SINCE + DAY, SINCE + DAY + 5 * HOUR, HOUR, **cost("USD"))
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.severity, found.events, found.customer_id) == ("low", 5, CUSTOMERS[3])
        assert "for this customer" in found.sentence


def test_where_nothing_decides_mixed_currencies_are_usual(events_database_url: str) -> None:
    events = [
        row
        for who in range(4)
        for at, currency in enumerate(("EUR", "USD"))
        for row in steady(who, SINCE + at * HOUR / 2, SINCE + 10 * DAY, HOUR, **cost(currency))
    ]
    with store_of(events_database_url, events) as store:
        assert not findings(store)


BEFORE = SINCE - 50 * DAY


def test_a_currency_that_changes_for_a_customers_whole_period_is_found(events_database_url: str) -> None:
    events = [row for who in (1, 2) for row in steady(who, BEFORE, UNTIL, 4 * HOUR, **cost("USD"))]
    events += steady(3, BEFORE, SINCE, 4 * HOUR, **cost("USD")) + steady(3, SINCE, UNTIL, 4 * HOUR, **cost("EUR"))
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.severity, found.events, found.customer_id) == ("medium", 180, CUSTOMERS[3])
        assert found.amounts == (("EUR", Decimal("45.00")),)
        assert "for this customer 100 % of costs in the 56 days before the period were in USD" in found.sentence


def test_a_currency_that_changes_for_everything_or_a_price_is_found(events_database_url: str) -> None:
    events = [
        row
        for who in range(2)
        for price, currency in (("a", "GBP"), ("b", "EUR"))
        for row in [
            *steady(who, BEFORE, SINCE, 4 * HOUR, price_key=price, **cost("GBP")),
            *steady(who, SINCE, UNTIL, 4 * HOUR, price_key=price, **cost(currency)),
        ]
    ]
    with store_of(events_database_url, events) as store:
        (found,) = findings(store)
        assert (found.severity, found.events, found.customer_id) == ("medium", 360, None)
        assert "where price is b 100 % of costs in the 56 days before the period were in GBP" in found.sentence
        (alone,) = findings(store, SEPTEMBER.replace(price_key="b"))
        assert (alone.severity, alone.events) == ("medium", 360)
        assert "everywhere 100 % of costs in the 56 days before the period were in GBP" in alone.sentence


def in_yen(**given: Any) -> list[Row]:
    """Four customers in USD for months, and a new one that is in JPY alone."""
    events = [row for who in range(4) for row in steady(who, BEFORE, UNTIL, 4 * HOUR, **cost("USD"))]
    return events + steady(5, SINCE, UNTIL, 4 * HOUR, **{**cost("JPY"), **given})


def test_a_new_customer_in_a_currency_that_the_organization_never_had(events_database_url: str) -> None:
    with store_of(events_database_url, in_yen()) as store:
        (found,) = findings(store)
        assert (found.severity, found.kind, found.customer_id) == ("medium", "new", CUSTOMERS[5])
        assert (found.events, shown(store, found), found.amounts) == (180, 180, (("JPY", Decimal("45.00")),))
        assert "no cost before the period (it had USD)" in found.sentence
        (alone,) = findings(store, SEPTEMBER.replace(customer_id=CUSTOMERS[5]))
        assert alone.sentence == found.sentence
        for wallets in ({CUSTOMERS[5]: "JPY"}, {"default": "JPY"}):
            assert examine(store, "currencies", SEPTEMBER, wallets=wallets).is_clean
        assert not examine(store, "currencies", SEPTEMBER, wallets={CUSTOMERS[5]: "USD"}).is_clean
        october = SEPTEMBER.replace(since=UNTIL, until=UNTIL + 30 * DAY)
        assert not findings(store, october)


def test_a_new_currency_that_the_wallet_has(events_database_url: str) -> None:
    with store_of(events_database_url, in_yen(wallet_currency="jpy")) as store:
        assert not findings(store)


def test_upper_and_lower_case_are_one_currency_and_said(events_database_url: str) -> None:
    events = [row for who in range(2) for row in steady(who, BEFORE, UNTIL, 4 * HOUR, **cost("USD"))]
    events += steady(1, SINCE, SINCE + 20 * HOUR, HOUR, **cost("usd"))
    with store_of(events_database_url, events) as store:
        validation = store.validate(SEPTEMBER, checks=["currencies"])
        (found,) = validation.findings
        assert (found.severity, found.events, found.customer_id) == ("low", 20, CUSTOMERS[1])
        assert "The currency USD is written in 2 ways: USD (360 events) and usd (20 events)" in found.sentence
        assert validation.totals.costs == {"USD": Decimal("95.00")}
        assert found.amounts == (("USD", Decimal("5.00")),)


def test_costs_in_lower_case_are_in_the_wallets_currency(events_database_url: str) -> None:
    events = steady(1, SINCE, UNTIL, 4 * HOUR, wallet_currency="USD", **cost("usd"))
    with store_of(events_database_url, events) as store:
        assert examine(store, "wallets", SEPTEMBER).is_clean


def test_the_demo_is_clean(planted_demo: tuple[Store, Period, list[Incident]]) -> None:
    store, period, _ = planted_demo
    assert not findings(store, period)
