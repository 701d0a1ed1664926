"""What `store.explain` tells is exact: every number equals that of plain Python, and together they are the change."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from support import generated_events, hostile_values, query_oracle
from support.demo_database import ACME, demo_database
from support.query_oracle import EXACT, Row, utc
from usage_explore import AggregateQuery, Store, connect
from usage_explore.charts import image
from usage_explore.db import ddl
from usage_explore.errors import NotExact, QueryError
from usage_explore.explain import Cell, Explanation
from usage_explore.explain.spans import spans

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def acme(server_url: str, _template: str) -> Iterator[Store]:
    with demo_database(server_url, _template) as url:
        store = connect(url, ACME)
        yield store
        store.close()


@pytest.fixture
def telling(events_connection: ddl.Connection, events_database_url: str) -> Iterator[Any]:
    """A function: insert these rows, and ask for 2 June, a day of 60 events like 26 May was, explained."""
    opened: list[Store] = []

    def tell(more: list[Row], query: AggregateQuery | None = None, **asked: Any) -> Explanation:
        generated_events.insert(events_connection, usual(utc(2026, 5, 26)) + usual(utc(2026, 6, 2)) + more)
        opened.append(connect(events_database_url, generated_events.ORGANIZATION))
        query = query or AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4))
        return opened[-1].explain(query, **{"bucket": utc(2026, 6, 2, 12), **asked})

    yield tell
    for store in opened:
        store.close()


def event(at: datetime, **values: Any) -> Row:
    made = generated_events._row(random.Random(str(uuid.uuid4())), at)
    fixed = {
        "organization_id": generated_events.ORGANIZATION,
        "ingested_at": at,
        "id": uuid.uuid4(),
        "dimensions": "{}",
    }
    usual = {"customer_id": generated_events.CUSTOMERS[0], "product_id": None, "metric_key": "a", "price_key": None}
    return dataclasses.replace(made, **{**fixed, **usual, "wallet_currency": None, "quantity": Decimal(1), **values})


def usual(day: datetime) -> list[Row]:
    return [
        event(
            day + timedelta(minutes=number),
            customer_id=generated_events.CUSTOMERS[number % 4],
            metric_key=generated_events.METRICS[number % 3],
            dimensions=f'{{"model": "m{number % 5}"}}',
        )
        for number in range(60)
    ]


def check(found: Explanation, held: list[Row]) -> None:
    """Every number is that of plain Python, and the contributions sum to the change."""
    counted = found.query.metric == "count"

    def measured(chosen: list[Row], since: datetime, until: datetime) -> Decimal:
        total = Decimal(0)
        for row in chosen:
            if since <= row.timestamp < until:
                total = EXACT.add(total, Decimal(1) if counted else row.quantity)
        return total

    inside = [row for row in held if row.organization_id == generated_events.ORGANIZATION]
    spans = [(span.since, span.until) for span in (found.before, found.after)]
    seen: set[Any] = set()
    for cell in found.cells:
        chosen = [row for row in inside if has(cell, row)]
        within = {row.id for row in chosen if any(since <= row.timestamp < until for since, until in spans)}
        assert not seen & within
        seen |= within
        assert [measured(chosen, *span) for span in spans] == [cell.before, cell.after]
    assert [measured(inside, *span) for span in spans] == [found.total.before, found.total.after]
    total = Decimal(0)
    for part in (*found.cells, found.rest):
        total = EXACT.add(total, Decimal(part.contribution))
    assert total == found.change


def has(cell: Cell, row: Row) -> bool:
    return all(query_oracle.group_text(row, group) == value for group, value in cell.where) and not any(
        query_oracle.group_text(row, group) == value for group, value in cell.without
    )


@pytest.mark.parametrize("metric", ["count", "sum_quantity"])
def test_every_number_is_exact(store: Store, own: list[Row], metric: str) -> None:
    named = 0
    for number, (zone, centre) in enumerate(generated_events.SCENES):
        query = AggregateQuery(since=centre - DAY, until=centre + DAY, metric=metric, timezone=zone)
        pairs = (centre - 2 * DAY, centre - DAY)
        for asked in ({"baseline": pairs}, {"bucket": centre, "baseline": "before"}, {"expected": 7 + number}):
            found = store.explain(query, **asked)
            if "expected" not in asked:
                check(found, own)
            assert sum(Decimal(1) for _ in found.frame.itertuples()) == len(found.cells) + 1
            parts = [Decimal(part.contribution) for part in (*found.cells, found.rest)]
            total = Decimal(0)
            for part in parts:
                total = EXACT.add(total, part)
            assert total == found.change
            named += len(found.cells)
            for cell in found.cells:
                counted = [store.count(cell.events(span)) for span in (found.before, found.after)]
                if metric == "count" and "expected" not in asked:
                    assert counted == [cell.before, cell.after]
                assert (not counted[0] and counted[1] > 0) == cell.is_new
                assert (counted[0] > 0 and not counted[1]) == cell.is_gone
    assert named


def test_the_total_is_that_of_the_aggregate(store: Store) -> None:
    query = AggregateQuery(since=utc(2026, 5, 31), until=utc(2026, 6, 2), metric="sum_quantity", metric_key="a,b")
    found = store.explain(query)
    assert found.total.after == store.aggregate(query).total
    assert found.query.metric_key == ("a,b",)
    assert all(cell.question.metric_key == ("a,b",) for cell in found.cells)


def test_a_runaway_customer_is_named_with_its_key(acme: Store) -> None:
    query = AggregateQuery(since=utc(2026, 9, 1), until=utc(2026, 9, 29))
    found = acme.explain(query, utc(2026, 9, 16))
    first = found.cells[0]
    known = dict((*first.where, *first.always))
    assert {"customer_id", "dim:api_key"} <= set(known)
    assert first.contribution > found.change * Decimal("0.9")
    assert str(known["customer_id"]) in found.sentence
    assert "on Wed 16 Sep 2026 against" in found.sentence
    assert acme.count(first.question) == first.after


def test_a_new_value_and_a_gone_one_are_named(telling: Any) -> None:
    new = [
        event(utc(2026, 6, 2, 9, number), metric_key=generated_events.METRICS[0], dimensions='{"model": "brand new"}')
        for number in range(59)
    ]
    gone = [event(utc(2026, 5, 26, 9, number), metric_key="old", dimensions='{"model": "m1"}') for number in range(20)]
    found = telling(new + gone)
    named = {cell.where: cell for cell in found.cells}
    assert named[("dim:model", "brand new"),].is_new
    assert named[("metric_key", "old"),].is_gone
    assert found.change == 39
    assert found.rest.contribution == 0
    assert [cell.contribution for cell in found.cells] == [59, -20]


def test_the_share_of_nothing_in_a_decrease_is_zero_without_a_sign(telling: Any) -> None:
    found = telling([event(utc(2026, 5, 26, 9, number), metric_key="old") for number in range(20)])
    assert (found.change, found.rest.contribution) == (-20, 0)
    assert str(found.rest.share) == "0"


def test_one_huge_event_is_named(telling: Any) -> None:
    more = [
        event(utc(2026, 6, 2, 9), customer_id=generated_events.CUSTOMERS[2], quantity=Decimal("1e9"), metric_key="huge")
    ]
    query = AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4), metric="sum_quantity")
    found = telling(more, query)
    assert found.cells[0].where == (("metric_key", "huge"),)
    assert found.cells[0].contribution == Decimal("1e9")


def test_a_credit_is_a_change_like_any_other(telling: Any) -> None:
    more = [event(utc(2026, 6, 2, 9, number), price_key="credit", quantity=Decimal(-100)) for number in range(9)]
    query = AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4), metric="sum_quantity")
    found = telling(more, query)
    assert found.cells[0].where == (("price_key", "credit"),)
    assert found.change == found.cells[0].contribution == Decimal(-900)


def test_an_expected_number_takes_the_place_of_the_window_before(telling: Any) -> None:
    more = [event(utc(2026, 6, 2, 9, number), price_key="new") for number in range(30)]
    found = telling(more, expected=Decimal("61.5"))
    assert found.total.before == Decimal("61.5")
    assert found.change == Decimal("28.5")
    assert found.cells[0].where == (("price_key", "new"),)
    assert "61.5 expected" in found.sentence


def test_an_unfinished_month_is_compared_over_equal_lengths() -> None:
    march = AggregateQuery(since=utc(2026, 3, 1), until=utc(2026, 4, 1))
    found = spans(march, utc(2026, 3, 31, 5), None, None)
    assert found.cut
    assert (found.before.since, found.before.until) == (utc(2026, 2, 1), utc(2026, 3, 1))
    assert (found.after.since, found.after.until) == (utc(2026, 3, 1), utc(2026, 3, 29))


THURSDAY = utc(2026, 11, 26, 5) + timedelta(minutes=46)
MONDAY = utc(2026, 11, 23)


@pytest.mark.parametrize(
    "query",
    [
        AggregateQuery(bucket="week", since="-30d"),
        AggregateQuery(bucket="week", since="-30d", until=utc(2026, 12, 20)),
        AggregateQuery(bucket="week", since=utc(2026, 10, 27, 5), until=THURSDAY, as_of=THURSDAY),
        AggregateQuery(bucket="week", window="this_month"),
    ],
)
def test_an_unfinished_week_is_compared_with_the_same_days_of_the_week_before(query: AggregateQuery) -> None:
    found = spans(query.resolve(THURSDAY), THURSDAY, utc(2026, 11, 24), None)
    assert found.cut
    assert (found.after.since, found.after.until) == (MONDAY, THURSDAY)
    assert (found.before.since, found.before.until) == (MONDAY - 7 * DAY, THURSDAY - 7 * DAY)


@pytest.mark.parametrize("baseline", ["week", "before", None])
@pytest.mark.parametrize("bucket", ["hour", "day", "week"])
def test_a_bucket_that_the_window_cuts_is_compared_with_the_same_part_of_another(bucket: Any, baseline: Any) -> None:
    since, until = utc(2026, 6, 2, 9) + timedelta(minutes=20), utc(2026, 6, 2, 9) + timedelta(minutes=50)
    query = AggregateQuery(since=since, until=until, bucket=bucket)
    found = spans(query, utc(2026, 7, 1), since, baseline)
    usual = "before" if bucket == "week" else "week"
    back = {"hour": timedelta(hours=1), "day": DAY}.get(bucket) if (baseline or usual) == "before" else None
    assert (found.after.since, found.after.until) == (since, until)
    assert since - found.before.since == until - found.before.until == (back or 7 * DAY)
    assert found.cut


def test_a_week_with_a_clock_change_is_compared_with_the_whole_week_before() -> None:
    zone = ZoneInfo("Europe/Berlin")
    query = AggregateQuery(
        since=datetime(2026, 10, 1, tzinfo=zone),
        until=datetime(2026, 11, 9, tzinfo=zone),
        bucket="week",
        timezone="Europe/Berlin",
    )
    week = [datetime(2026, 10, day, tzinfo=zone) for day in (12, 19, 26)]
    for baseline in ("week", "before", None):
        found = spans(query, utc(2026, 12, 1), week[1], baseline)
        assert not found.cut
        assert [found.before.since, found.before.until, found.after.since, found.after.until] == [*week[:2], *week[1:]]


def test_whole_days_until_now_are_compared_with_the_same_hours_of_as_many_days() -> None:
    found = spans(AggregateQuery(since="-7d/d").resolve(THURSDAY), THURSDAY, None, None)
    assert (found.before.since, found.before.until) == (utc(2026, 11, 11), THURSDAY - 8 * DAY)


def test_a_window_before_the_first_event_is_said(telling: Any) -> None:
    window = utc(2026, 5, 20), utc(2026, 5, 27)
    assert telling([], baseline=window).notes == (
        "The window before is not wholly covered: events begin on 26 May 2026 00:00, UTC",
    )
    assert telling([], baseline="week").notes == ()


def test_windows_without_events(telling: Any) -> None:
    empty = telling([], bucket=utc(2026, 6, 3))
    assert (empty.change, empty.cells) == (0, ())
    assert "no value or pair of values stands out" in empty.sentence
    image(empty.chart(), "svg")


@pytest.mark.parametrize("value", [*hostile_values.SQL, *hostile_values.MARKUP, *hostile_values.UNICODE][::9])
def test_hostile_values_stay_values(telling: Any, value: str) -> None:
    more = [event(utc(2026, 6, 2, 9, number), price_key=value) for number in range(40)]
    found = telling(more)
    assert found.cells[0].where == (("price_key", value),)
    assert found.cells[0].after == 40
    assert image(found.chart(dark=True), "png").startswith(b"\x89PNG")
    assert found.to_dict()["cells"][0]["where"] == [{"group": "price_key", "value": value}]


def test_what_cannot_be_explained_is_an_error(telling: Any) -> None:
    for asked, name in (
        ({"bucket": utc(2026, 7, 1)}, "bucket"),
        ({"expected": 1.5}, "expected"),
        ({"expected": Decimal("NaN")}, "expected"),
        ({"baseline": "yesterday"}, "baseline"),
        ({"baseline": (utc(2026, 6, 1), utc(2026, 6, 1))}, "baseline"),
        ({"bucket": datetime(2026, 6, 2)}, "bucket"),  # noqa: DTZ001 - a naive time is the fault
    ):
        with pytest.raises(QueryError) as caught:
            telling([], **asked)
        assert caught.value.faults[0].parameter == name
    nan = [event(utc(2026, 6, 2), quantity=Decimal("NaN"))]
    with pytest.raises(NotExact):
        telling(nan, AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4), metric="sum_quantity"))


def test_a_day_is_compared_with_the_same_weekday_a_week_before(store: Store) -> None:
    query = AggregateQuery(since=utc(2026, 10, 20), until=utc(2026, 10, 30), timezone="Europe/Berlin")
    found = store.explain(query, utc(2026, 10, 25, 12))
    assert found.after.until - found.after.since == timedelta(hours=25)
    assert (found.before.since, found.before.until) == (
        datetime(2026, 10, 17, 22, tzinfo=UTC),
        datetime(2026, 10, 18, 22, tzinfo=UTC),
    )
