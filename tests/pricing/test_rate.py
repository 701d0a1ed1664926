"""Rating a period: equal to plain Python over the same events for random books, and complete to the last digit."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from support import price_oracle
from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, store_of
from support.database_servers import fresh_database
from support.query_oracle import Row, utc
from support.random_books import LATE, METRICS, WALLETS, random_book, random_events, within
from support.thoroughness import seeds
from usage_explore import QueryError, Store
from usage_explore.errors import NotExact
from usage_explore.pricing.rating import RatedLine, Rating
from usage_explore.query.queries import Period


@pytest.fixture(scope="module")
def events() -> list[Row]:
    return random_events(1)


@pytest.fixture(scope="module")
def store(server_url: str, _template: str, events: list[Row]) -> Iterator[Store]:
    with fresh_database(server_url, _template) as url, store_of(url, events) as opened:
        yield opened


def complete(rating: Rating, events: list[Row]) -> None:
    """The lines and the usage without a price add up to the events, metric by metric, to the last digit."""
    count, quantity = Counter[str](), Counter[str]()
    for item in (*rating.lines, *rating.unpriced):
        count[item.metric_key] += item.events
        quantity[item.metric_key] += Fraction(item.quantity)  # type: ignore[assignment]
    assert count == Counter(row.metric_key for row in events)
    for metric in count:
        assert quantity[metric] == sum(Fraction(row.quantity) for row in events if row.metric_key == metric)
    assert rating.events == len(events)


def of_line(line: RatedLine) -> tuple[Any, ...]:
    usage = (line.customer_id, line.metric_key, line.since, line.until, line.events, Fraction(line.quantity))
    rated = (Fraction(line.billable_quantity), Fraction(line.exact_amount), line.amount)
    return (*usage, line.aggregation, line.currency, *rated)


def of_expected(line: price_oracle.Expected) -> tuple[Any, ...]:
    first = line.events[0]
    quantity = sum(Fraction(row.quantity) for row in line.events)
    usage = (first.customer_id, first.metric_key, line.since, line.until, len(line.events), quantity)
    return (*usage, line.price["aggregation"], line.price["currency"], line.billable, line.exact, line.amount)


@pytest.mark.parametrize("seed", seeds(range(30)))
def test_every_line_is_what_plain_python_rates(store: Store, events: list[Row], seed: int) -> None:
    book = random_book(seed)
    as_of = [None, utc(2026, 9, 20)][seed % 2]
    period = SEPTEMBER.replace(as_of=as_of or LATE)
    rows = within(events, as_of)
    rating = store.rate(period, prices=list(map(price_oracle.fields_of, book)), wallets=WALLETS)
    wallets = {uuid.UUID(key) if key != "default" else None: wallet for key, wallet in WALLETS.items()}
    expected, without = price_oracle.rate(book, rows, *SEPTEMBER.span, wallets)
    assert Counter(map(of_line, rating.lines)) == Counter(map(of_expected, expected))
    assert rating.unpriced_events == len(without)
    complete(rating, rows)
    for currency, amount in rating.totals.items():
        assert amount == sum(line.amount for line in expected if line.price["currency"] == currency)


def test_margins_are_of_one_currency_and_complete_usage(store: Store, events: list[Row]) -> None:
    """Costs are all in dollars (as usd and USD): no margin where revenue is in yen, or a part has no price."""
    prices = [
        {"metric_key": "calls", "unit_amount": "0.5", "currency": currency, "aggregation": "count"}
        for currency in ("USD", "JPY")
    ]
    margins = store.rate(SEPTEMBER.replace(as_of=LATE), prices=prices, wallets=WALLETS).margins
    wallets = {CUSTOMERS[1]: "JPY"}
    for customer in CUSTOMERS[:4]:
        for metric in METRICS:
            rows = [row for row in within(events) if row.customer_id == customer and row.metric_key == metric]
            own = {
                margin.currency: margin
                for margin in margins
                if (margin.customer_id, margin.metric_key) == (customer, metric)
            }
            cost = sum((row.external_cost_amount or 0 for row in rows), Decimal(0))
            assert own["USD"].cost == cost
            used = Counter(row.wallet_currency or wallets.get(customer, "USD") for row in rows)
            if metric == "tokens":
                assert own["USD"].revenue is None
                assert own["USD"].unpriced_events == len(rows)
                continue
            assert own["USD"].revenue == used["USD"] * Decimal("0.5")
            assert own["JPY"].revenue is not None
            assert own["JPY"].cost is None
            assert all(margin.margin is None for margin in own.values())
            first = own["JPY"]
            assert first.events_without_cost == sum(row.external_cost_amount is None for row in rows)
            assert (first.events_with_cost, own["USD"].events) == (0, None)
            assert own["USD"].events_with_cost == len(rows) - first.events_without_cost
    rating = store.rate(SEPTEMBER.replace(as_of=LATE), prices=prices, wallets=WALLETS)
    assert rating.margin_frame["events"].sum() == rating.events == len(within(events))
    assert rating.margin_frame["unpriced_events"].sum() == rating.unpriced_events
    usd = store.rate(SEPTEMBER.replace(as_of=LATE), prices=[{**prices[0], "price_key": None}], wallets=WALLETS)
    for margin in usd.margins:
        if margin.metric_key == "calls":
            assert margin.margin == margin.revenue - margin.cost  # type: ignore[operator]


def rating_of(
    make: Any, events: list[Row], *prices: dict[str, Any], period: Period = SEPTEMBER, **given: Any
) -> Rating:
    return make(events).rate(period.replace(as_of=LATE), prices=list(prices), **given)


PER_UNIT = {"metric_key": "calls", "unit_amount": "0.10", "currency": "USD"}


def test_a_key_without_a_price_is_said_and_never_0(make: Any) -> None:
    rating = rating_of(make, [event(0, SINCE), event(0, SINCE, "other", quantity=Decimal(7))], PER_UNIT)
    (line,), (unpriced,) = rating.lines, rating.unpriced
    assert (line.amount, rating.totals) == (Decimal("0.10"), {"USD": Decimal("0.10")})
    assert (unpriced.metric_key, unpriced.quantity, unpriced.reason) == ("other", 7, "no price covers it")
    assert "1 event without a price" in repr(rating)


def test_a_change_inside_the_period_splits_at_the_instant_and_tiers_restart(make: Any) -> None:
    """2,000 calls before and 2,000 after noon of the 15th: each part begins in the first tier."""
    noon = utc(2026, 9, 15, 12)
    events = [event(0, noon - timedelta(microseconds=1), quantity=Decimal(2000))]
    events += [event(0, noon, quantity=Decimal(2000))]
    old = {"metric_key": "calls", "currency": "USD", "model": "staircase", "tiers": "1000:0.10;:0.05"}
    new = {**old, "tiers": "1000:0.20;:0.05", "valid_from": noon}
    rating = rating_of(make, events, {**old, "valid_to": noon}, new)
    assert [(line.since, line.until, line.amount) for line in rating.lines] == [
        (SINCE, noon, Decimal("150.00")),
        (noon, UNTIL, Decimal("250.00")),
    ]


@pytest.mark.parametrize("edge", ["valid_from", "valid_to"])
@pytest.mark.parametrize("aggregation", ["sum", "unique:customer_id"])
def test_a_price_of_one_key_does_not_split_what_the_general_price_covers(
    make: Any, edge: str, aggregation: str
) -> None:
    """The price of `promo` holds in one half of September, its usage is in the other: one line, one minimum."""
    noon = utc(2026, 9, 15, 12)
    other_half = noon - timedelta(days=2) if edge == "valid_from" else noon + timedelta(days=2)
    events = [event(0, SINCE, price_key="p"), event(0, UNTIL - timedelta(hours=1), price_key="p")]
    general = {**PER_UNIT, "aggregation": aggregation, "minimum_amount": 50}
    promo = {**PER_UNIT, "price_key": "promo", edge: noon}
    (line,) = rating_of(make, [*events, event(0, other_half, price_key="promo")], general, promo).lines
    assert (line.since, line.until, line.events, line.amount) == (SINCE, UNTIL, 3, Decimal("50.00"))


def test_a_price_of_the_customer_splits_the_general_price_that_it_replaces(make: Any) -> None:
    days = [utc(2026, 9, day) for day in (5, 12, 20)]
    own = {**PER_UNIT, "customer_id": str(CUSTOMERS[0]), "valid_from": "2026-09-10", "valid_to": "2026-09-15"}
    lines = rating_of(make, [event(0, day) for day in days], {**PER_UNIT, "minimum_amount": 50}, own).lines
    assert [(line.since.day, line.amount) for line in lines] == [
        (1, Decimal("50.00")),
        (10, Decimal("0.10")),
        (15, Decimal("50.00")),
    ]


def test_a_date_is_a_midnight_of_the_period_s_zone(make: Any) -> None:
    edge = datetime(2026, 9, 14, 22, tzinfo=UTC)
    events = [event(0, edge - timedelta(seconds=1)), event(0, edge)]
    book = ({**PER_UNIT, "valid_to": "2026-09-15"}, {**PER_UNIT, "unit_amount": 1, "valid_from": date(2026, 9, 15)})
    berlin = Period(since=SINCE, until=UNTIL, timezone="Europe/Berlin")
    assert [line.amount for line in rating_of(make, events, *book, period=berlin).lines] == [
        Decimal("0.10"),
        Decimal("1.00"),
    ]


def test_the_most_specific_price_applies_and_a_customer_s_own_first(make: Any) -> None:
    events = [event(who, SINCE, price_key=key) for who in (0, 1) for key in ("p1", "p2")]
    own = {"metric_key": "calls", "unit_amount": 3, "currency": "USD", "customer_id": str(CUSTOMERS[1])}
    key = {**PER_UNIT, "price_key": "p1", "unit_amount": 2}
    rating = rating_of(make, events, PER_UNIT, key, own)
    assert [(line.customer_id, line.price_key, line.amount) for line in rating.lines] == [
        (CUSTOMERS[0], "p1", Decimal("2.00")),
        (CUSTOMERS[0], "p2", Decimal("0.10")),
        (CUSTOMERS[1], None, Decimal("6.00")),
    ]


def test_a_price_of_the_customer_with_the_nil_uuid_is_no_other_customer_s(make: Any) -> None:
    nil = uuid.UUID(int=0)
    own = {**PER_UNIT, "unit_amount": 3, "customer_id": str(nil)}
    rating = rating_of(make, [event(0, SINCE), event(0, SINCE, customer_id=nil)], PER_UNIT, own)
    assert {line.customer_id: line.amount for line in rating.lines} == {
        CUSTOMERS[0]: Decimal("0.10"),
        nil: Decimal("3.00"),
    }


def test_two_equally_specific_prices_are_an_error_naming_both(make: Any) -> None:
    by_key = {"price_key": "p1", "unit_amount": 2, "currency": "USD"}
    assert len(rating_of(make, [event(0, SINCE)], PER_UNIT, by_key).lines) == 1
    with pytest.raises(QueryError) as caught:
        rating_of(make, [event(0, SINCE, price_key="p1")], PER_UNIT, by_key)
    assert "price 1 (metric calls) and price 2 (price p1) are equally specific" in str(caught.value)


def test_equally_specific_prices_in_two_currencies_follow_the_wallet(make: Any) -> None:
    by_key = {"price_key": "p1", "unit_amount": 2, "currency": "KWD"}
    events = [event(0, SINCE, price_key="p1", wallet_currency=wallet) for wallet in ("USD", "KWD", "EUR")]
    rating = rating_of(make, events, PER_UNIT, by_key)
    assert rating.totals == {"KWD": Decimal("2.000"), "USD": Decimal("0.10")}
    assert [item.reason for item in rating.unpriced] == ["it has prices in KWD and USD, but its wallet is EUR"]


def test_prices_in_several_currencies_follow_the_wallet(make: Any) -> None:
    events = [event(0, SINCE), event(0, SINCE, wallet_currency="jpy"), event(0, SINCE, wallet_currency="GBP")]
    yen = {**PER_UNIT, "currency": "JPY", "unit_amount": 15}
    store = make(events)
    unknown = store.rate(SEPTEMBER.replace(as_of=LATE), prices=[PER_UNIT, yen])
    assert unknown.totals == {"JPY": Decimal(15)}
    assert {item.reason for item in unknown.unpriced} == {
        "it has prices in JPY and USD, and its wallet is unknown",
        "it has prices in JPY and USD, but its wallet is GBP",
    }
    known = store.rate(SEPTEMBER.replace(as_of=LATE), prices=[PER_UNIT, yen], wallets={"default": "USD"})
    assert known.totals == {"JPY": Decimal(15), "USD": Decimal("0.10")}
    single = store.rate(SEPTEMBER.replace(as_of=LATE), prices=[PER_UNIT])
    assert [line.wallet_currency for line in single.lines] == [None, "GBP", "jpy"]


def test_latest_is_the_last_event_by_time_then_arrival_then_id(make: Any) -> None:
    last = utc(2026, 9, 20)
    events = [
        event(0, last, quantity=Decimal(1), ingested_at=last + timedelta(days=1), id=uuid.UUID(int=(1 << 127) + 1)),
        event(0, last, quantity=Decimal(2), ingested_at=last + timedelta(days=1), id=uuid.UUID(int=(1 << 127) + 2)),
        event(0, last, quantity=Decimal(3), ingested_at=last, id=uuid.UUID(int=(1 << 127) + 3)),
        event(0, last - timedelta(days=1), quantity=Decimal(4), ingested_at=last + timedelta(days=2)),
    ]
    (line,) = rating_of(make, events, {**PER_UNIT, "aggregation": "latest"}).lines
    assert (line.billable_quantity, line.quantity) == (2, 10)


def test_nan_has_no_amount(make: Any) -> None:
    with pytest.raises(NotExact):
        rating_of(make, [event(0, SINCE, quantity=Decimal("NaN"))], {**PER_UNIT, "aggregation": "count"})


def test_without_a_book_rating_says_how_to_give_one(make: Any) -> None:
    with pytest.raises(QueryError, match=r"prices: there is no price book; .*--prices FILE"):
        make([event(0, SINCE)]).rate(SEPTEMBER)


def test_other_organizations_and_other_periods_are_not_rated(make: Any) -> None:
    events = [event(0, SINCE), event(0, UNTIL), event(0, SINCE - timedelta(microseconds=1))]
    events += [event(0, SINCE, organization_id=uuid.UUID(int=77))]
    (line,) = rating_of(make, events, PER_UNIT).lines
    assert line.events == 1


def test_frames_json_and_csv_have_the_same_numbers(make: Any, tmp_path: Path) -> None:
    events = [event(0, SINCE, quantity=Decimal("1234.5")), event(1, SINCE, "other")]
    book = {"metric_key": "calls", "currency": "USD", "model": "staircase", "tiers": "1000:0.10;:0.05:2"}
    rating = rating_of(make, events, book)
    row = rating.to_pandas().iloc[0]
    assert (row["amount"], row["exact_amount"]) == (Decimal("113.73"), Decimal("113.725"))
    assert row["since"] == SINCE
    assert [tier["quantity"] for tier in row["tiers"]] == [1000, Decimal("234.5")]
    assert list(rating.unpriced_frame["metric_key"]) == ["other"]
    document = json.loads(json.dumps(rating.to_dict()))
    assert document["totals"] == [{"currency": "USD", "amount": "113.73"}]
    assert document["lines"][0]["tiers"][1] == {
        "above": "1000",
        "up_to": None,
        "quantity": "234.5",
        "unit_amount": "0.05",
        "flat_amount": "2",
        "amount": "13.725",
        "packages": None,
    }
    assert document["unpriced"][0]["reason"] == "no price covers it"
    rating.to_csv(tmp_path / "lines.csv")
    text = (tmp_path / "lines.csv").read_text()
    assert "1000 x 0.1 = 100; 234.5 x 0.05 + 2 = 13.725" in text
    assert "113.73" in text
