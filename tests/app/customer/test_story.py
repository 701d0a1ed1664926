"""The numbers of the Customer page against sums of the same events in plain Python, in Decimal."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st

from support.generated_events import ORGANIZATION
from support.plain_events import JUNE, SINCE, SMALL, UNTIL, beside, event, store_of, total
from support.query_oracle import Row, utc
from usage_explore import AggregateQuery, EventQuery, Store, formatting
from usage_explore.app.cache import Source
from usage_explore.app.customer import tables
from usage_explore.app.customer.story import (
    MAX_METRIC_CHANGES,
    MAX_METRICS,
    Story,
    as_of_one_moment,
    bucket_of,
    movers,
    read_story,
)
from usage_explore.app.page_state import CustomerView
from usage_explore.charts import LIGHT
from usage_explore.comparison import Change
from usage_explore.db import ddl
from usage_explore.results.leaders import Leader, Leaderboard
from usage_explore.results.types import Comparison

AUGUST, AS_OF = utc(2026, 8, 1), utc(2026, 10, 3)
TWELVE_DIGITS = Context(prec=12, rounding=ROUND_HALF_EVEN)


def made() -> list[Row]:
    """Events of two customers in August and September, some of them late, of four metrics in three currencies."""
    random_ = random.Random(7)
    rows = [event(utc(2026, 7, 20), customer_id=SMALL)]
    for _ in range(900):
        occurred = AUGUST + timedelta(seconds=random_.randrange(61 * 86_400))
        september = occurred >= SINCE
        metric = random_.choice(["tokens", "tokens", "calls", "seconds"] + ["new one"] * september)
        currency = random_.choice(["USD", "USD", "EUR", None])
        amount = None if random_.random() < 0.2 else Decimal(random_.randrange(-5, 9_999)).scaleb(-7)
        rows.append(
            event(
                occurred,
                customer_id=random_.choice([JUNE, JUNE, SMALL]),
                metric_key=metric,
                quantity=Decimal(random_.choice([0, -3, 7, 12, 1_000])).scaleb(-2),
                ingested_at=occurred + timedelta(days=random_.choice([0, 0, 0, 40])),
                external_cost_amount=amount,
                external_cost_currency=currency if amount is not None else None,
                wallet_currency=random_.choice(["USD", None]),
                price_key=random_.choice(["p1", "p2", None]),
                dimensions=random_.choice(['{"model": "large"}', '{"model": "small"}', "{}"]),
            )
        )
    return rows


@pytest.fixture
def events() -> list[Row]:
    return made()


@pytest.fixture
def source(events_database_url: str, events_connection: ddl.Connection, events: list[Row]) -> Iterator[Source]:
    st.cache_resource.clear()
    store = store_of(events_connection, events_database_url, [*events, *beside(events)])
    yield Source(store, AS_OF)
    store.close()
    st.cache_resource.clear()


def story_of(source: Source, currency: str | None = None, **window: object) -> Story:
    view = CustomerView.of(_query(**(window or {"window": "2026-09"})), JUNE)
    story = read_story(as_of_one_moment(view, source), currency, source)
    assert story is not None
    return story


def _query(**window: object) -> AggregateQuery:
    return AggregateQuery(organization_id=ORGANIZATION, **window)


def known(events: list[Row], since: datetime = SINCE, until: datetime = UNTIL) -> list[Row]:
    return [
        row for row in events if row.customer_id == JUNE and since <= row.timestamp < until and row.ingested_at <= AS_OF
    ]


def spent(rows: list[Row], currency: str | None) -> list[Row]:
    return [row for row in rows if row.external_cost_amount is not None and row.external_cost_currency == currency]


def cost(rows: list[Row]) -> Decimal:
    return total(row.external_cost_amount for row in rows if row.external_cost_amount is not None)


def unit_cost(rows: list[Row]) -> Decimal | None:
    quantity = total(row.quantity for row in rows)
    return TWELVE_DIGITS.divide(cost(rows), quantity) if quantity else None


def of(rows: list[Row], metric: str) -> list[Row]:
    return [row for row in rows if row.metric_key == metric]


@pytest.mark.parametrize("currency", [None, "USD", "EUR", "no such"])
def test_metrics_costs_and_their_changes_are_the_oracles(
    source: Source, events: list[Row], currency: str | None
) -> None:
    page = story_of(source, currency)
    rows, before = known(events), known(events, AUGUST, SINCE)
    assert page.boards.total == len(rows)
    counts = Counter(row.metric_key for row in rows)
    assert [(metric.key, metric.events) for metric in page.metrics] == sorted(
        counts.items(), key=lambda item: (-item[1], item[0])
    )
    shown = currency if currency in ("USD", "EUR") else "USD"
    assert page.currency is not None
    assert page.currency.currency == shown
    assert {(one.currency, one.events, one.cost) for one in page.currencies} == {
        (name, len(spent(rows, name)), cost(spent(rows, name))) for name in ("USD", "EUR", None)
    }
    days = [SINCE + timedelta(days=number) for number in range(30)]
    for metric in page.metrics:
        mine, then = of(rows, metric.key), of(before, metric.key)
        assert metric.quantity.total == total(row.quantity for row in mine)
        assert [point.value for point in metric.quantity.points] == [
            total(row.quantity for row in mine if day <= row.timestamp < day + timedelta(days=1)) for day in days
        ]
        assert metric.change is not None
        assert (metric.change.now, metric.change.before) == (metric.quantity.total, total(row.quantity for row in then))
        money = metric.money
        assert money is not None
        paid, paid_then = spent(mine, shown), spent(then, shown)
        assert money.cost == cost(paid)
        assert money.series.total == unit_cost(paid)
        assert money.cost_change is not None
        assert money.unit_cost_change is not None
        assert (money.cost_change.now, money.cost_change.before) == (cost(paid), cost(paid_then))
        assert (money.unit_cost_change.now, money.unit_cost_change.before) == (unit_cost(paid), unit_cost(paid_then))
        for day, point in zip(days, money.series.points, strict=True):
            daily = [row for row in paid if day <= row.timestamp < day + timedelta(days=1)]
            assert point.ratio is not None
            assert point.ratio.cost == cost(daily)
            assert point.value == unit_cost(daily)


def _ratio(now: Decimal | None, before: Decimal | None) -> Decimal | None:
    if now is None or before is None or now == before:
        return None
    return abs((now - before) / before) if before else Decimal("Infinity")


@pytest.mark.parametrize("currency", [None, "EUR"])
def test_the_largest_changes_are_those_of_all_currencies(
    source: Source, events: list[Row], currency: str | None
) -> None:
    """The change of a cost in another currency than the page's was missing, also where it was the largest."""
    page = story_of(source, currency)
    now, before = known(events), known(events, AUGUST, SINCE)
    expected: dict[tuple[str, str, str | None], Decimal] = {}
    for metric in {row.metric_key for row in now}:
        mine, then = of(now, metric), of(before, metric)
        sums = [total(row.quantity for row in rows) for rows in (mine, then)]
        found = {(metric, "sum_quantity", None): _ratio(*sums)}
        for code in ("USD", "EUR", None):
            paid = [spent(rows, code) for rows in (mine, then)]
            found[metric, "sum_cost", code] = _ratio(*map(cost, paid))
            found[metric, "unit_cost", code] = _ratio(*map(unit_cost, paid))
        expected |= {key: ratio for key, ratio in found.items() if ratio is not None}
    shown = {(step.key, step.measure, step.currency) for step in page.changes}
    assert len(shown) == min(MAX_METRIC_CHANGES, len(expected))
    least = min(expected[key] for key in shown)
    assert all(ratio <= least + Decimal("1e-9") for key, ratio in expected.items() if key not in shown)
    assert {code for _, _, code in expected} == {"USD", "EUR", None}


def test_the_values_that_changed_most_are_the_oracles(source: Source, events: list[Row]) -> None:
    page = story_of(source)
    rows, before = known(events), known(events, AUGUST, SINCE)
    assert isinstance(page.compared, Comparison)
    assert (page.compared.since, page.compared.until) == (AUGUST, SINCE)
    assert page.movers is not None
    assert (page.movers.whole.now, page.movers.whole.before) == (len(rows), len(before))
    assert not page.movers.partial
    groups = {
        "metric_key": lambda row: row.metric_key,
        "price_key": lambda row: row.price_key,
        "wallet_currency": lambda row: row.wallet_currency,
        "external_cost_currency": lambda row: row.external_cost_currency,
        "dim:model": lambda row: row.dimensions[11:-2] or None,
    }
    steps = {}
    for group, key in groups.items():
        now_counts, then_counts = (Counter(map(key, side)) for side in (rows, before))
        changes = {one: now_counts[one] - then_counts[one] for one in {*now_counts, *then_counts}}
        ranked = sorted(
            (one for one in changes if changes[one]), key=lambda one: (-abs(changes[one]), one is None, one)
        )
        for one in ranked[:2]:
            if 2 * abs(changes[one]) >= abs(changes[ranked[0]]):
                steps[group, one] = changes[one]
    expected = sorted(steps, key=lambda item: (-abs(steps[item]), item[0], item[1] is None, item[1] or ""))[:8]
    assert [(mover.group, mover.key) for mover in page.movers.movers] == expected
    assert [mover.difference for mover in page.movers.movers] == [steps[item] for item in expected]


def test_tables_add_up_to_all_events_and_costs(source: Source, events: list[Row]) -> None:
    page = story_of(source)
    rows = known(events)
    html = tables.drawn(page, LIGHT)
    for key in ("p1", "p2", None):
        mine = [row for row in rows if row.price_key == key]
        name = key or "(missing)"
        line = html.split(f">{name}</th>", html.count(f">{name}</th>"))[-1].split("</tr>")[0]
        assert f"<td>{len(mine):,}</td>" in line
        assert f"<td>{formatting.short(cost(spent(mine, 'USD')))}</td>" in line
    assert "Subscriptions" in html
    assert "Cost, USD" in html


def test_everything_is_as_of_one_moment(source: Source, events: list[Row]) -> None:
    page = story_of(source)
    assert page.query.as_of == AS_OF
    for query in (page.quantities.query, page.boards.query, page.page.query):
        assert query.as_of == AS_OF
    assert page.costs is not None
    assert page.costs.query.as_of == AS_OF
    newest = sorted(known(events), key=lambda row: (row.timestamp, row.id), reverse=True)[:10]
    assert [one.id for one in page.page.events] == [row.id for row in newest]
    earlier = utc(2026, 9, 20)
    pinned = story_of(source, window="2026-09", as_of=earlier)
    assert pinned.query.as_of == earlier
    assert pinned.boards.total == sum(row.ingested_at <= earlier for row in known(events))


def test_no_events_in_the_window_is_no_story(source: Source) -> None:
    view = CustomerView.of(_query(window="2026-06"), JUNE)
    assert read_story(as_of_one_moment(view, source), None, source) is None


def test_an_unfinished_window_compares_equal_elapsed_time(source: Source, events: list[Row]) -> None:
    middle = Source(source.store, utc(2026, 9, 16))
    view = CustomerView.of(_query(window="this_month"), JUNE)
    page = read_story(as_of_one_moment(view, middle), None, middle)
    assert page is not None
    assert page.movers is not None

    def until(rows: list[Row], since: datetime) -> int:
        return sum(
            row.customer_id == JUNE
            and since <= row.timestamp < since + timedelta(days=15)
            and row.ingested_at <= middle.now
            for row in rows
        )

    assert (page.movers.whole.now, page.movers.whole.before) == (until(events, SINCE), until(events, AUGUST))


@pytest.mark.parametrize(
    ("days", "bucket"),
    [(1, "hour"), (3, "hour"), (4, "day"), (92, "day"), (101, "week"), (800, "week"), (801, "month")],
)
def test_buckets_fit_the_window(days: int, bucket: str) -> None:
    assert bucket_of(timedelta(days=days)) == bucket


def test_a_customer_of_a_thousand_metrics_is_bounded(
    events_database_url: str, events_connection: ddl.Connection
) -> None:
    st.cache_resource.clear()
    rows = [event(SINCE + timedelta(hours=number), metric_key=f"metric {number}") for number in range(700)]
    rows += [event(SINCE + timedelta(minutes=number), metric_key=f"metric {number}") for number in range(1_000)]
    with store_of(events_connection, events_database_url, rows) as store:
        page = story_of(Source(store, AS_OF))
    st.cache_resource.clear()
    assert len(page.metrics) == MAX_METRICS
    assert page.further_metrics == 988
    assert [metric.events for metric in page.metrics] == [2] * MAX_METRICS
    assert len(page.quantities.series) == MAX_METRICS
    assert page.currency is None
    assert all(metric.money is None for metric in page.metrics)


def test_the_store_knows_the_times_of_a_customer(source: Source, events: list[Row]) -> None:
    store: Store = source.store
    mine = [row.timestamp for row in events if row.customer_id == JUNE]
    assert store.extent(EventQuery(customer_id=JUNE)) == (min(mine), max(mine))
    assert store.extent(EventQuery(customer_id=ORGANIZATION)) is None
    assert store.extent() == (utc(2026, 7, 20), max(row.timestamp for row in events))


def test_a_dimension_that_is_new_was_missing_before() -> None:
    def boards(total: int, omitted: int, *made: Leaderboard) -> Any:
        return SimpleNamespace(boards=made, total=total, omitted=omitted)

    one = Leaderboard("dim:new", 1, (Leader("missing", None, 989, None, 1), Leader("value", "a", 1, None, 1)))
    found = movers(boards(990, 0, one), boards(980, 0))
    assert [(mover.key, mover.change) for mover in found.movers] == [(None, Change(989, 980))]
    unknown = movers(boards(990, 0, one), boards(980, 3))
    assert (unknown.movers, unknown.partial) == ((), True)
