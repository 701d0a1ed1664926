"""The wallet preview: it sums to the period's usage, row for row what a plain cascade gives; what it finds."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, event, steady, store_of
from support.check_results import examine, shown
from support.generated_events import NEIGHBOUR
from support.query_oracle import EXACT, Row
from usage_explore.validation import Result

HOUR = timedelta(hours=1)
PREFERENCES = {str(CUSTOMERS[1]): "EUR", CUSTOMERS[2]: "USD", "default": "GBP"}


def mixed() -> list[Row]:
    draw = random.Random(9)
    found = []
    for _ in range(800):
        currency = draw.choice(["EUR", "USD", None, 'C"\n<b>'])
        found.append(
            event(
                draw.randrange(4),
                SINCE + timedelta(minutes=draw.randrange(-2_000, 45_000)),
                draw.choice(["calls", "seats"]),
                quantity=Decimal(draw.choice(["1", "-2.5", "0.000000000000000001", "12345678901234567890123456789.5"])),
                wallet_currency=draw.choice(["EUR", "USD", "", None, None]),
                external_cost_amount=draw.choice([None, Decimal("0.1"), Decimal("12345678901234567890123456789.1")]),
                external_cost_currency=currency,
            )
        )
    return found


def cascade(row: Row, preferences: dict[Any, str]) -> tuple[str | None, str]:
    wanted = {str(customer): currency for customer, currency in preferences.items()}
    if row.wallet_currency is not None:
        return row.wallet_currency, "pinned"
    if str(row.customer_id) in wanted:
        return wanted[str(row.customer_id)], "preference"
    return (wanted["default"], "default") if "default" in wanted else (None, "unknown")


def sheet_of(result: Result) -> pd.DataFrame:
    assert result.outcome is not None
    assert result.outcome.sheet is not None
    return result.outcome.sheet


@pytest.mark.parametrize("preferences", [PREFERENCES, {CUSTOMERS[1]: "EUR"}, None])
def test_the_sheet_is_the_periods_usage_through_the_cascade(
    events_database_url: str, preferences: dict[Any, str] | None
) -> None:
    events = mixed()
    cells: dict[Any, list[Any]] = defaultdict(lambda: [0, Decimal(0), {}])
    for row in events:
        if SEPTEMBER.span[0] <= row.timestamp < SEPTEMBER.span[1]:
            cell = cells[str(row.customer_id), *cascade(row, preferences or {}), row.metric_key]
            cell[0] += 1
            cell[1] = EXACT.add(cell[1], row.quantity)
            if row.external_cost_amount is not None:
                currency = row.external_cost_currency
                name = "cost without currency" if currency is None else f"cost {currency.upper()}"
                cell[2][name] = EXACT.add(cell[2].get(name, Decimal(0)), row.external_cost_amount)
    with store_of(events_database_url, events) as store:
        sheet = sheet_of(examine(store, "wallets", SEPTEMBER, wallets=preferences))
    assert len(sheet) == len(cells)
    for line in sheet.to_dict("records"):
        wallet = None if pd.isna(line["wallet"]) else line["wallet"]
        count, quantity, costs = cells[line["customer_id"], wallet, line["how"], line["metric_key"]]
        found = {name: value for name, value in line.items() if name.startswith("cost ") and value is not None}
        assert (line["events"], line["quantity"], found) == (count, quantity, costs)


def test_only_the_organizations_usage_in_the_period_as_it_was_known(events_database_url: str) -> None:
    late = event(0, SINCE, ingested_at=SINCE + timedelta(days=20), wallet_currency="EUR")
    events = [late, event(0, SINCE, wallet_currency="USD"), event(0, SINCE, organization_id=NEIGHBOUR)]
    with store_of(events_database_url, events) as store:
        before = sheet_of(examine(store, "wallets", SEPTEMBER.replace(as_of=SINCE + timedelta(days=10))))
        after = sheet_of(examine(store, "wallets", SEPTEMBER))
    assert before[["wallet", "events"]].values.tolist() == [["USD", 1]]
    assert after[["wallet", "events"]].values.tolist() == [["EUR", 1], ["USD", 1]]


def test_what_has_no_wallet_is_one_finding_without_preferences_and_each_customers_with_them(
    events_database_url: str,
) -> None:
    hour = timedelta(hours=1)
    events = [each for who in range(3) for each in steady(who, SINCE, SINCE + 20 * hour, hour)]
    events += steady(2, SINCE, SINCE + 5 * hour, hour, wallet_currency="EUR")
    with store_of(events_database_url, events) as store:
        (one,) = examine(store, "wallets", SEPTEMBER).outcome.findings  # type: ignore[union-attr]
        assert (one.severity, one.events, shown(store, one)) == ("low", 60, 60)
        found = examine(store, "wallets", SEPTEMBER, wallets={CUSTOMERS[0]: "EUR"}).outcome.findings  # type: ignore[union-attr]
        assert {each.customer_id for each in found} == set(CUSTOMERS[1:3])
        for each in found:
            assert (each.severity, each.events, shown(store, each)) == ("high", 20, 20)
        assert examine(store, "wallets", SEPTEMBER, wallets={"default": "EUR"}).is_clean


def test_a_customer_in_two_wallets_is_found_with_what_goes_where(events_database_url: str) -> None:
    hour = timedelta(hours=1)
    events = steady(0, SINCE, SINCE + 100 * hour, hour, wallet_currency="EUR")
    events += steady(0, SINCE, SINCE + 20 * hour, hour, wallet_currency="USD", quantity=Decimal("2.5"))
    with store_of(events_database_url, events) as store:
        (found,) = examine(store, "wallets", SEPTEMBER).outcome.findings  # type: ignore[union-attr]
        assert (found.severity, found.customer_id, found.events) == ("medium", CUSTOMERS[0], 120)
        assert found.share == Decimal(50) / Decimal(150)
        assert "EUR (100 events) and USD (20 events)" in found.sentence
        assert shown(store, found) == 120


def test_few_events_that_are_much_of_it_are_as_grave_as_many(events_database_url: str) -> None:
    hour = timedelta(hours=1)
    events = steady(0, SINCE, SINCE + 5 * hour, hour, wallet_currency="EUR")
    events += steady(0, SINCE, SINCE + 3 * hour, hour, wallet_currency="USD")
    events += steady(1, SINCE, SINCE + 4 * hour, hour)
    with store_of(events_database_url, events) as store:
        outcome = examine(store, "wallets", SEPTEMBER, wallets={CUSTOMERS[0]: "EUR"}).outcome
        assert outcome is not None
        assert {(each.severity, each.customer_id, each.events) for each in outcome.findings} == {
            ("medium", CUSTOMERS[0], 8),
            ("high", CUSTOMERS[1], 4),
        }


def test_a_wallet_in_another_currency_than_its_costs(events_database_url: str) -> None:
    hour = timedelta(hours=1)
    dollars = {"external_cost_amount": Decimal("0.1"), "external_cost_currency": "USD"}
    events = steady(0, SINCE, SINCE + 30 * hour, hour, wallet_currency="EUR", **dollars)
    events += steady(1, SINCE, SINCE + 90 * hour, hour, wallet_currency="USD", **dollars)
    events += steady(2, SINCE, SINCE + 3 * hour, hour, wallet_currency="GBP", **dollars)
    with store_of(events_database_url, events) as store:
        found = examine(store, "wallets", SEPTEMBER).outcome.findings  # type: ignore[union-attr]
        mine, stray = found
        assert (mine.severity, mine.customer_id, mine.amounts) == ("medium", CUSTOMERS[0], (("USD", Decimal("3.0")),))
        assert (stray.severity, stray.events, stray.wallet_currency) == ("low", 3, "GBP")
        assert [shown(store, each) for each in found] == [30, 3]


def test_suppliers_that_all_bill_in_another_currency_are_one_finding(events_database_url: str) -> None:
    dollars = {"external_cost_amount": Decimal("0.1"), "external_cost_currency": "USD", "wallet_currency": "EUR"}
    events = [row for who in range(5) for row in steady(who, SINCE, SINCE + timedelta(days=1), HOUR, **dollars)]
    with store_of(events_database_url, events) as store:
        (found,) = examine(store, "wallets", SEPTEMBER).outcome.findings  # type: ignore[union-attr]
        assert (found.severity, found.events, found.customer_id) == ("low", 120, None)
        assert shown(store, found) == 120


@pytest.mark.parametrize("preferences", [None, {CUSTOMERS[5]: "EUR"}])
def test_what_has_no_wallet_is_shown_within_the_periods_own_filter(
    events_database_url: str, preferences: dict[Any, str] | None
) -> None:
    events = [event(0, SINCE + HOUR * each, price_key=None if each < 30 else "p") for each in range(100)]
    events.append(event(0, SINCE - HOUR, wallet_currency="EUR"))
    with store_of(events_database_url, events) as store:
        result = examine(store, "wallets", SEPTEMBER.replace(missing="price_key"), wallets=preferences)
        assert result.outcome is not None
        (found,) = result.outcome.findings
        assert (found.events, shown(store, found)) == (30, 30)


def test_where_no_event_ever_has_a_wallet_it_is_skipped_with_the_reason(events_database_url: str) -> None:
    events = steady(0, SINCE, SINCE + timedelta(days=1), HOUR)
    events += steady(0, SINCE, SINCE + timedelta(days=1), HOUR, organization_id=NEIGHBOUR, wallet_currency="EUR")
    with store_of(events_database_url, events) as store:
        result = examine(store, "wallets", SEPTEMBER)
        assert result.skipped == "no event of the organization has a wallet currency, and no preferences were given"
        given = examine(store, "wallets", SEPTEMBER, wallets={"default": "EUR"})
        assert given.outcome is not None
        assert given.outcome.looked_at == 1
