"""The amounts of `store.explain` are exact: each equals that of plain Python, and together they are the change."""

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
from support.demo_database import ACME
from support.query_oracle import EXACT, Row, utc
from usage_explore import AggregateQuery, Store, connect
from usage_explore.charts import image
from usage_explore.db import ddl
from usage_explore.errors import NotExact, QueryError
from usage_explore.explain import Cell, Explanation, run
from usage_explore.explain.run import number as parsed_expected
from usage_explore.explain.run import peak_run
from usage_explore.explain.spans import spans
from usage_explore.formatting import exact

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def acme(demo_url: str) -> Iterator[Store]:
    with connect(demo_url, ACME) as opened:
        yield opened


@pytest.fixture
def explained(events_connection: ddl.Connection, events_database_url: str) -> Iterator[Any]:
    """A function: insert the given rows, and explain 2 June, which has 60 events like 26 May."""
    opened: list[Store] = []

    def explain(more: list[Row], query: AggregateQuery | None = None, **options: Any) -> Explanation:
        generated_events.insert(events_connection, usual(utc(2026, 5, 26)) + usual(utc(2026, 6, 2)) + more)
        opened.append(connect(events_database_url, generated_events.ORGANIZATION))
        query = query or AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4))
        return opened[-1].explain(query, **{"bucket": utc(2026, 6, 2, 12), **options})

    yield explain
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


def check(explanation: Explanation, held: list[Row]) -> None:
    """Every number is that of plain Python, and the contributions sum to the change."""
    counted = explanation.query.metric == "count"

    def measured(chosen: list[Row], since: datetime, until: datetime) -> Decimal:
        total = Decimal(0)
        for row in chosen:
            if since <= row.timestamp < until:
                total = EXACT.add(total, Decimal(1) if counted else row.quantity)
        return total

    inside = [row for row in held if row.organization_id == generated_events.ORGANIZATION]
    spans = [(span.since, span.until) for span in (explanation.before, explanation.after)]
    seen: set[Any] = set()
    for cell in explanation.cells:
        chosen = [row for row in inside if has(cell, row)]
        within = {row.id for row in chosen if any(since <= row.timestamp < until for since, until in spans)}
        assert not seen & within
        seen |= within
        assert [measured(chosen, *span) for span in spans] == [cell.before, cell.after]
    assert [measured(inside, *span) for span in spans] == [explanation.total.before, explanation.total.after]
    total = Decimal(0)
    for part in (*explanation.cells, explanation.rest):
        total = EXACT.add(total, Decimal(part.contribution))
    assert total == explanation.change


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
        for options in ({"baseline": pairs}, {"bucket": centre, "baseline": "before"}, {"expected": 7 + number}):
            explanation = store.explain(query, **options)
            if "expected" not in options:
                check(explanation, own)
            assert sum(Decimal(1) for _ in explanation.frame.itertuples()) == len(explanation.cells) + 1
            parts = [Decimal(part.contribution) for part in (*explanation.cells, explanation.rest)]
            total = Decimal(0)
            for part in parts:
                total = EXACT.add(total, part)
            assert total == explanation.change
            named += len(explanation.cells)
            for cell in explanation.cells:
                counted = [store.count(cell.events(span)) for span in (explanation.before, explanation.after)]
                if metric == "count" and "expected" not in options:
                    assert counted == [cell.before, cell.after]
                assert (not counted[0] and counted[1] > 0) == cell.is_new
                assert (counted[0] > 0 and not counted[1]) == cell.is_gone
    assert named


def test_the_total_is_that_of_the_aggregate(store: Store) -> None:
    query = AggregateQuery(since=utc(2026, 5, 31), until=utc(2026, 6, 2), metric="sum_quantity", metric_key="a,b")
    explanation = store.explain(query)
    assert explanation.total.after == store.aggregate(query).total
    assert explanation.query.metric_key == ("a,b",)
    assert all(cell.question.metric_key == ("a,b",) for cell in explanation.cells)


def test_a_runaway_customer_is_named_with_its_key(acme: Store) -> None:
    query = AggregateQuery(since=utc(2026, 9, 1), until=utc(2026, 9, 29))
    explanation = acme.explain(query, utc(2026, 9, 16))
    first = explanation.cells[0]
    known = dict((*first.where, *first.always))
    assert {"customer_id", "dim:api_key"} <= set(known)
    assert first.contribution > explanation.change * Decimal("0.9")
    name = explanation.names.name("customer_id", known["customer_id"])
    assert name
    assert f"customer is {name}" in explanation.sentence
    assert "on Wed 16 Sep 2026 against" in explanation.sentence
    assert acme.count(first.question) == first.after


def test_a_new_value_and_a_gone_one_are_named(explained: Any) -> None:
    new = [
        event(utc(2026, 6, 2, 9, number), metric_key=generated_events.METRICS[0], dimensions='{"model": "brand new"}')
        for number in range(59)
    ]
    gone = [event(utc(2026, 5, 26, 9, number), metric_key="old", dimensions='{"model": "m1"}') for number in range(20)]
    explanation = explained(new + gone)
    named = {cell.where: cell for cell in explanation.cells}
    assert named[("dim:model", "brand new"),].is_new
    assert named[("metric_key", "old"),].is_gone
    assert explanation.change == 39
    assert explanation.rest.contribution == 0
    assert [cell.contribution for cell in explanation.cells] == [59, -20]
    assert [cell.label for cell in explanation.cells if cell.without] == []


@pytest.mark.parametrize("overlap", [0, 1])
def test_a_condition_is_named_only_if_it_excludes_events(explained: Any, overlap: int) -> None:
    def made(at: datetime, number: int, **values: Any) -> Row:
        customer = generated_events.CUSTOMERS[number % 4]
        return event(at, customer_id=customer, dimensions=f'{{"model": "m{number % 5}"}}', **values)

    grown = [made(utc(2026, 6, 2, 9, number), number, price_key="rush", metric_key="b") for number in range(59)]
    new = [
        made(utc(2026, 6, 2, 10, number), number, metric_key="fresh", price_key="rush" if number < overlap else None)
        for number in range(40)
    ]
    usually = [made(utc(2026, 5, 26, 9, number), number, price_key="rush", metric_key="b") for number in range(9)]
    explanation = explained([*grown, *new, *usually])
    wheres = {cell.where for cell in explanation.cells}
    assert wheres == {(("price_key", "rush"),), (("metric_key", "fresh"),)}
    assert sum(cell.contribution for cell in explanation.cells) == explanation.change == 90
    excluding = [cell for cell in explanation.cells if cell.without]
    assert len(excluding) == overlap
    assert (" is not " in explanation.sentence) == bool(overlap)
    check(explanation, [*grown, *new, *usually, *usual(utc(2026, 5, 26)), *usual(utc(2026, 6, 2))])


def test_the_share_of_nothing_in_a_decrease_is_zero_without_a_sign(explained: Any) -> None:
    explanation = explained([event(utc(2026, 5, 26, 9, number), metric_key="old") for number in range(20)])
    assert (explanation.change, explanation.rest.contribution) == (-20, 0)
    assert str(explanation.rest.share) == "0"


def test_one_huge_event_is_named(explained: Any) -> None:
    more = [
        event(utc(2026, 6, 2, 9), customer_id=generated_events.CUSTOMERS[2], quantity=Decimal("1e9"), metric_key="huge")
    ]
    query = AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4), metric="sum_quantity")
    explanation = explained(more, query)
    assert explanation.cells[0].where == (("metric_key", "huge"),)
    assert explanation.cells[0].contribution == Decimal("1e9")


@pytest.mark.parametrize("quantity", ["1E+310", "-1E+900"])
def test_an_event_of_more_digits_than_a_float_has_is_named(explained: Any, quantity: str) -> None:
    amount = Decimal(quantity)
    more = [event(utc(2026, 6, 2, 9), customer_id=generated_events.CUSTOMERS[2], quantity=amount, metric_key="huge")]
    query = AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4), metric="sum_quantity")
    explanation = explained(more, query)
    (cell,) = explanation.cells
    assert cell.where[0] in {("metric_key", "huge"), ("customer_id", str(generated_events.CUSTOMERS[2]))}
    assert EXACT.subtract(cell.after, cell.before) == cell.contribution == amount
    assert explanation.total.contribution == amount


def test_a_credit_is_a_change_like_any_other(explained: Any) -> None:
    more = [event(utc(2026, 6, 2, 9, number), price_key="credit", quantity=Decimal(-100)) for number in range(9)]
    query = AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4), metric="sum_quantity")
    explanation = explained(more, query)
    assert explanation.cells[0].where == (("price_key", "credit"),)
    assert explanation.change == explanation.cells[0].contribution == Decimal(-900)


def test_an_expected_number_takes_the_place_of_the_window_before(explained: Any) -> None:
    more = [event(utc(2026, 6, 2, 9, number), price_key="new") for number in range(30)]
    explanation = explained(more, expected=Decimal("61.5"))
    assert explanation.total.before == Decimal("61.5")
    assert explanation.change == Decimal("28.5")
    assert explanation.cells[0].where == (("price_key", "new"),)
    assert "61.5 expected" in explanation.sentence


def test_one_event_is_singular_and_times_have_no_fractions(explained: Any) -> None:
    query = AggregateQuery(since=utc(2026, 6, 10), until=utc(2026, 6, 11, 12) + timedelta(seconds=1, microseconds=250))
    explanation = explained([event(utc(2026, 6, 10, 9))], query, bucket=None)
    assert explanation.total.after == 1
    assert explanation.sentence.startswith("1 event from 10 Jun 2026 00:00 to 11 Jun 2026 12:00:01 against ")
    assert ".00025" not in repr(explanation)


def test_an_unfinished_month_is_compared_over_equal_lengths() -> None:
    march = AggregateQuery(since=utc(2026, 3, 1), until=utc(2026, 4, 1))
    windows = spans(march, utc(2026, 3, 31, 5), None, None)
    assert windows.cut
    assert (windows.before.since, windows.before.until) == (utc(2026, 2, 1), utc(2026, 3, 1))
    assert (windows.after.since, windows.after.until) == (utc(2026, 3, 1), utc(2026, 3, 29))


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
    windows = spans(query.resolve(THURSDAY), THURSDAY, utc(2026, 11, 24), None)
    assert windows.cut
    assert (windows.after.since, windows.after.until) == (MONDAY, THURSDAY)
    assert (windows.before.since, windows.before.until) == (MONDAY - 7 * DAY, THURSDAY - 7 * DAY)


@pytest.mark.parametrize("baseline", ["week", "before", None])
@pytest.mark.parametrize("bucket", ["hour", "day", "week"])
def test_a_bucket_that_the_window_cuts_is_compared_with_the_same_part_of_another(bucket: Any, baseline: Any) -> None:
    since, until = utc(2026, 6, 2, 9) + timedelta(minutes=20), utc(2026, 6, 2, 9) + timedelta(minutes=50)
    query = AggregateQuery(since=since, until=until, bucket=bucket)
    windows = spans(query, utc(2026, 7, 1), since, baseline)
    usual = "before" if bucket == "week" else "week"
    back = {"hour": timedelta(hours=1), "day": DAY}.get(bucket) if (baseline or usual) == "before" else None
    assert (windows.after.since, windows.after.until) == (since, until)
    assert since - windows.before.since == until - windows.before.until == (back or 7 * DAY)
    assert windows.cut


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
        windows = spans(query, utc(2026, 12, 1), week[1], baseline)
        assert not windows.cut
        assert [windows.before.since, windows.before.until] == week[:2]
        assert [windows.after.since, windows.after.until] == week[1:]


def test_whole_days_until_now_are_compared_with_the_same_hours_of_as_many_days() -> None:
    windows = spans(AggregateQuery(since="-7d/d").resolve(THURSDAY), THURSDAY, None, None)
    assert (windows.before.since, windows.before.until) == (utc(2026, 11, 11), THURSDAY - 8 * DAY)


def test_a_window_before_the_first_event_is_said(explained: Any) -> None:
    window = utc(2026, 5, 20), utc(2026, 5, 27)
    assert explained([], baseline=window).notes == (
        "The window before is not wholly covered: events begin on 26 May 2026 00:00, UTC",
    )
    assert explained([], baseline="week").notes == ()


def test_a_change_of_everything_is_spread_evenly(explained: Any) -> None:
    days = ((utc(2026, 5, 26), 9), (utc(2026, 6, 2), 12))
    explanation = explained([each for day, times in days for _ in range(times) for each in usual(day)])
    assert (explanation.total.before, explanation.total.after) == (600, 780)
    assert explanation.cells == ()
    assert explanation.is_even
    assert "a change of +180 (+30.0 %), spread evenly" in explanation.sentence
    assert explanation.to_dict()["is_even"] is True


def test_five_of_eight_values_that_doubled_are_one_part_of_the_sentence(explained: Any) -> None:
    more = [
        event(day + timedelta(seconds=number), dimensions=f'{{"plan": "p{number % 8}"}}')
        for day, often in ((utc(2026, 5, 26), 1), (utc(2026, 6, 2), 2))
        for number in range(8 * 60)
        for _ in range(often if number % 8 < 5 else 1)
    ]
    explanation = explained(more)
    assert {cell.where for cell in explanation.cells} == {(("dim:plan", f"p{number}"),) for number in range(5)}
    assert "+300 (100 % of the change) where plan is one of 5 values, p0, p1, p2, p3 and p4" in explanation.sentence
    assert not explanation.is_even


def changes_by_value(explanation: Explanation, held: list[Row]) -> dict[tuple[str, str | None], list[int]]:
    """The events outside all cells, before and after, of each value of the groups searched."""
    result: dict[tuple[str, str | None], list[int]] = {}
    for row in held:
        for place, span in enumerate((explanation.before, explanation.after)):
            if span.since <= row.timestamp < span.until and not any(has(cell, row) for cell in explanation.cells):
                for group in explanation.groups:
                    counts = result.setdefault((group, query_oracle.group_text(row, group)), [0, 0])
                    counts[place] += 1
    return result


@pytest.mark.each_value
@pytest.mark.parametrize(("sample", "times"), [(1_000, 5), (100_000, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_no_value_outside_the_parts_moved_more_than_a_part(
    explained: Any, monkeypatch: pytest.MonkeyPatch, seed: int, sample: int, times: int
) -> None:
    monkeypatch.setattr(run, "SAMPLE_EVENTS", sample)
    draw = random.Random(seed)
    more = []
    for price in range(12):
        amounts = draw.choice([(60, 5), (5, 60), (30, 0), (0, 12), (40, 42), (9, 9)])
        for day, often in zip((utc(2026, 5, 26), utc(2026, 6, 2)), amounts, strict=True):
            more += [
                event(
                    day + timedelta(seconds=draw.randrange(86_400)),
                    price_key=f"p{price}",
                    customer_id=draw.choice(generated_events.CUSTOMERS[:4]),
                    dimensions=f'{{"model": "m{draw.randrange(5)}"}}',
                )
                for _ in range(often * times)
            ]
    explanation = explained(more)
    held = usual(utc(2026, 5, 26)) + usual(utc(2026, 6, 2)) + more
    check(explanation, held)
    assert explanation.cells
    least = min(abs(cell.contribution) for cell in explanation.cells)
    ordinary = explanation.rest.contribution / explanation.rest.before
    for pair, (before, after) in changes_by_value(explanation, held).items():
        as_all = 0 <= (after - before) / ordinary <= 2 * before if ordinary else after == before
        assert abs(after - before) <= least or as_all, pair


def test_windows_without_events(explained: Any) -> None:
    empty = explained([], bucket=utc(2026, 6, 3))
    assert (empty.change, empty.cells) == (0, ())
    assert "no value or pair of values stands out" in empty.sentence
    image(empty.chart(), "svg")


def test_changes_within_chance_are_said_to_be_so_and_not_to_be_even(explained: Any) -> None:
    """ "No value stands out" stood beside a region with four times the change, and two that fell."""
    before = {"south": (6920, 7789, 1935, 7604), "west": (10371, 10259, 2930, 10362), "us": (9643, 7784, 9047, 10216)}
    after = {"south": (17648, 14721, 7663, 5650), "west": (11161, 3228, 4782, 7056), "us": (10156, 7361, 7575, 3236)}
    query = AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4), metric="sum_quantity", metric_key="a")
    more = [
        event(day, customer_id=customer, quantity=Decimal(quantity), dimensions=f'{{"region": "{region}"}}')
        for day, quantities in ((utc(2026, 5, 26), before), (utc(2026, 6, 2), after))
        for region, of_customers in quantities.items()
        for customer, quantity in zip(generated_events.CUSTOMERS, of_customers, strict=False)
    ]
    explanation = explained(more, query)
    assert (explanation.cells, explanation.is_even) == ((), False)
    assert explanation.sentence.endswith("changed clearly more than by chance; some may have risen, others fallen.")


@pytest.mark.parametrize("value", [*hostile_values.SQL, *hostile_values.MARKUP, *hostile_values.UNICODE][::9])
def test_hostile_values_stay_values(explained: Any, value: str) -> None:
    more = [event(utc(2026, 6, 2, 9, number), price_key=value) for number in range(40)]
    explanation = explained(more)
    assert explanation.cells[0].where == (("price_key", value),)
    assert explanation.cells[0].after == 40
    assert image(explanation.chart(dark=True), "png").startswith(b"\x89PNG")
    written = explanation.to_dict()
    assert written["cells"][0]["where"] == [{"group": "price_key", "value": value}]
    pairs = [(name, text) for name, texts in written["query"].items() for text in texts]
    assert AggregateQuery.from_params(pairs) == explanation.query


def test_what_cannot_be_explained_is_an_error(explained: Any) -> None:
    for options, name in (
        ({"bucket": utc(2026, 7, 1)}, "bucket"),
        ({"expected": 1.5}, "expected"),
        ({"expected": Decimal("NaN")}, "expected"),
        ({"baseline": "yesterday"}, "baseline"),
        ({"baseline": (utc(2026, 6, 1), utc(2026, 6, 1))}, "baseline"),
        ({"bucket": datetime(2026, 6, 2)}, "bucket"),  # noqa: DTZ001 - a naive time is the fault
    ):
        with pytest.raises(QueryError) as caught:
            explained([], **options)
        assert caught.value.faults[0].parameter == name
    with pytest.raises(QueryError, match="is not one of week, before; or two times"):
        explained([], baseline="yesterday")
    nan = [event(utc(2026, 6, 2), quantity=Decimal("NaN"))]
    with pytest.raises(NotExact):
        explained(nan, AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4), metric="sum_quantity"))


def test_a_day_is_compared_with_the_same_weekday_a_week_before(store: Store) -> None:
    query = AggregateQuery(since=utc(2026, 10, 20), until=utc(2026, 10, 30), timezone="Europe/Berlin")
    explanation = store.explain(query, utc(2026, 10, 25, 12))
    assert explanation.after.until - explanation.after.since == timedelta(hours=25)
    assert (explanation.before.since, explanation.before.until) == (
        datetime(2026, 10, 17, 22, tzinfo=UTC),
        datetime(2026, 10, 18, 22, tzinfo=UTC),
    )


@pytest.mark.parametrize("number", [Decimal("1E+99999"), 10**5_000], ids=["Decimal", "int"])
def test_an_expected_number_of_too_many_digits_is_refused(number):
    with pytest.raises(QueryError, match=r"expected: .* has more than 1,000 digits before its decimal point"):
        parsed_expected(number)


@pytest.mark.parametrize("metric", ["count", "sum_quantity"])
def test_the_sentence_names_the_days_of_the_change(explained: Any, metric: str) -> None:
    days = [utc(2026, 6, day) for day in (8, 9)]
    quantity = Decimal("12.5")
    burst = [
        event(day + timedelta(minutes=number), metric_key="b", quantity=quantity)
        for day in days
        for number in range(90)
    ]
    even = [event(utc(2026, 5, 21) + number * DAY / 4, metric_key="b", quantity=Decimal(1)) for number in range(80)]
    query = AggregateQuery(since=utc(2026, 5, 31), until=utc(2026, 6, 10), metric=metric)
    explanation = explained([*burst, *even], query, bucket=None, baseline="before")
    assert explanation.peak is not None
    assert (explanation.peak.span.since, explanation.peak.span.until) == (days[0], utc(2026, 6, 10))
    expected = 180 if metric == "count" else 180 * quantity
    assert explanation.peak.contribution == expected
    assert f"+{int(expected):,} of it in 8–9 Jun 2026" in explanation.sentence
    assert explanation.to_dict()["peak"]["since"] == "2026-06-08T00:00:00Z"


def test_a_day_that_was_unusual_before_is_named_by_its_own_date(explained: Any) -> None:
    burst = [event(utc(2026, 5, 24) + timedelta(minutes=number), metric_key="b") for number in range(180)]
    even = [event(utc(2026, 5, 21) + number * DAY / 4, metric_key="b") for number in range(80)]
    query = AggregateQuery(since=utc(2026, 5, 31), until=utc(2026, 6, 10))
    explanation = explained([*burst, *even], query, bucket=None, baseline="before")
    assert explanation.peak is not None
    assert (explanation.peak.span.since, explanation.peak.span.until) == (utc(2026, 5, 24), utc(2026, 5, 25))
    assert explanation.peak.contribution == -180
    assert "-180 of it because of high amounts on Sun 24 May 2026" in explanation.sentence


def test_values_that_moved_are_named_where_the_search_names_none(explained: Any) -> None:
    """Costs of any size, of which one metric tripled and one fell to a third."""
    draw = random.Random(3)
    factors = {"m0": (1, 3), "m1": (3, 1), "m2": (2, 2), "m3": (2, 2)}
    more = [
        event(
            day + timedelta(minutes=number),
            metric_key=metric,
            customer_id=draw.choice(generated_events.CUSTOMERS[:4]),
            quantity=Decimal(factors[metric][place]) * draw.choice([1, 10, 100, 1_000]),
        )
        for place, day in enumerate((utc(2026, 5, 26), utc(2026, 6, 2)))
        for number, metric in enumerate(["m0", "m1", "m2", "m3"] * 100)
    ]
    query = AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4), metric="sum_quantity")
    explanation = explained(more, query)
    named = {value for cell in explanation.cells for group, value in cell.where if group == "metric_key"}
    assert {"m0", "m1"} <= named, explanation.sentence
    assert not named & {"m2", "m3"}


@pytest.mark.parametrize(
    ("changes", "run"),
    [
        ([0, 0, 0, 10, 0, 0], (3, 4)),
        ([0, -1, 0, -9, -10, 1], (3, 5)),
        ([5, 5, 5, 5, 5, 5], None),
        ([3, 0, 0, 3, 0, 3], None),
        ([0, 0, 0], None),
        ([10, -10, 0, 0], None),
        ([0, 0, 8, -1, 0, 0, 0, 0, 1], (2, 3)),
    ],
)
def test_a_run_of_days_is_named_if_it_is_short_and_has_most_of_the_change(
    changes: list[int], run: tuple[int, int] | None
) -> None:
    assert peak_run([Decimal(change) for change in changes]) == run


def test_a_label_names_what_it_leaves_out(acme: Store) -> None:
    query = AggregateQuery(since=utc(2026, 9, 1), until=utc(2026, 9, 2)).resolve(acme.now())
    cell = Cell(
        where=(("metric_key", "a"),),
        without=(("dim:model", "x"), ("dim:model", None), ("dim:region", "eu")),
        always=(),
        before=1,
        after=2,
        share=None,
        is_new=False,
        is_gone=False,
        query=query,
    )
    assert cell.label == "metric is a, model is not x or (missing), region is not eu"
    assert cell.exclusions == "model is not x or (missing), region is not eu"
    many = dataclasses.replace(cell, without=tuple(("dim:model", name) for name in "xyzw"))
    assert many.label == "metric is a, model is not x, y and 2 more"
    few = dataclasses.replace(cell, without=cell.without[1:])
    assert few.label == "metric is a, model is not (missing), region is not eu"


def test_a_part_against_the_change_says_so_and_the_first_share_says_of_what(explained: Any) -> None:
    """Plan p0 grows by 200, p1 falls by 50: 133 % of the change, and 33 % against it."""
    before, after = utc(2026, 5, 26), utc(2026, 6, 2)
    amounts = {before: (100, 100, 300), after: (300, 50, 300)}
    sizes = {(day, plan): size for day, of in amounts.items() for plan, size in enumerate(of)}
    explanation = explained(
        [
            event(day + timedelta(seconds=number), dimensions=f'{{"plan": "p{plan}"}}')
            for (day, plan), size in sizes.items()
            for number in range(size)
        ]
    )
    assert ": +200 (133.3 % of the change) where " in explanation.sentence
    assert "; -50 (-33.3 %, against the change) where " in explanation.sentence
    assert [cell.is_against for cell in explanation.cells] == [False, True]


def test_a_headline_has_rounded_numbers_and_windows_to_the_minute(acme: Store) -> None:
    until = utc(2026, 9, 20, 10, 11, 12)
    costs = AggregateQuery(
        since=until - timedelta(days=5), until=until, metric="sum_cost", external_cost_currency="USD"
    )
    quantities = AggregateQuery(since=costs.since, until=until, metric="sum_quantity")
    for query, rounded in ((costs, "-1,070.02"), (quantities, "-1,070")):
        found = acme.explain(query)
        assert found.rounded_change(Decimal("-1070.0198710961")) == rounded
        assert found.rounded_change(found.change) in found.headline
        exactly = exact(found.change).lstrip("-+")
        assert (exactly in found.sentence, exactly in found.headline) == (True, False)
        assert ("10:11:12" in found.sentence, "10:11:12" in found.headline, "10:11" in found.headline) == (
            True,
            False,
            True,
        )


@pytest.mark.parametrize("regions", [("us",), ("us", "eu")])
def test_of_usage_that_is_wholly_new_the_values_that_all_of_it_has_are_named(
    explained: Any, regions: tuple[str, ...]
) -> None:
    """Nothing can differ where each group has one value: no value stood out, though all was of one model."""
    customer = uuid.uuid4()
    rows = [
        event(
            utc(2026, 6, 2, 10) + timedelta(minutes=number),
            customer_id=customer,
            metric_key="tokens",
            dimensions=f'{{"model": "md", "region": "{regions[number % len(regions)]}"}}',
        )
        for number in range(60)
    ]
    query = AggregateQuery(since=utc(2026, 6, 1), until=utc(2026, 6, 4), customer_id=str(customer))
    explanation = explained(rows, query)
    region = () if len(regions) > 1 else (("dim:region", "us"),)
    assert explanation.common == (("metric_key", "tokens"), ("dim:model", "md"), *region)
    where = "metric is tokens and model is md" if region == () else "metric is tokens and model is md and region is us"
    assert f"a change of +60, all of it where {where}" in explanation.sentence
    assert "no value" not in explanation.sentence
    assert explained([], AggregateQuery(since=query.since, until=query.until)).common == ()
