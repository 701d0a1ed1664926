"""Cost and unit cost: exact, in one currency, and the same from the extract and from the events."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from extract.small_extract import Extract, event
from support import generated_events
from support.query_oracle import Row, utc
from usage_explore import AggregateQuery, EventQuery, LeaderboardQuery, QueryError, Store, connect
from usage_explore.comparison import compare
from usage_explore.db import ddl
from usage_explore.decimals import unit_cost
from usage_explore.errors import NotExact
from usage_explore.results import frames

DAY = timedelta(days=1)
FIRST = utc(2026, 10, 1)
WINDOW = {"since": FIRST, "until": FIRST + 3 * DAY}

LATER = FIRST + 31 * DAY
"""After the watermark of the extract."""


def costed(amount: str | None, quantity: str, day: int = 0, currency: str | None = "USD", **columns: Any) -> Row:
    """An event of a day of the window, with a cost."""
    return event(
        FIRST + day * DAY,
        external_cost_amount=None if amount is None else Decimal(amount),
        external_cost_currency=currency,
        quantity=Decimal(quantity),
        **columns,
    )


class Both:
    """The store with an extract of the older events, and the store without."""

    def __init__(self, store: Store, extract: Extract) -> None:
        self.fast = store
        self.raw = dataclasses.replace(store, extracts=None)
        self.extract = extract

    def add(self, *rows: Row) -> None:
        self.extract.add(*rows)

    def refresh(self) -> None:
        self.extract.refresh(FIRST + 30 * DAY)

    def aggregate(self, **parameters: Any) -> Any:
        """The answer, the same on both paths."""
        query = AggregateQuery(**{**WINDOW, **parameters})
        fast, raw = self.fast.aggregate(query), self.raw.aggregate(query)
        assert fast.served.path == "extract"
        assert (fast.series, fast.total, fast.currencies) == (raw.series, raw.total, raw.currencies)
        return fast


@pytest.fixture
def both(events_database_url: str, events_connection: ddl.Connection, tmp_path: Path) -> Iterator[Both]:
    with connect(events_database_url, generated_events.ORGANIZATION, home=tmp_path) as store:
        yield Both(store, Extract(events_database_url, events_connection, tmp_path))


def values(series: Any) -> list[Decimal | None]:
    return [point.value for point in series.points]


def test_sums_and_ratios_of_sums(both: Both) -> None:
    both.add(
        costed("1", "3", 0, metric_key="a"),
        costed("1", "4", 0, metric_key="b"),
        costed(None, "100", 0, metric_key="a"),  # no cost: not in the divisor
        costed("2.5", "2", 1, metric_key="a"),
        costed("-0.5", "-2", 1, metric_key="a"),  # the quantities add up to 0
        costed("7", "9", 2, metric_key="c"),
        costed(None, "5", 2, metric_key="d", currency=None),
    )
    both.refresh()
    cost = both.aggregate(metric="sum_cost", group_by="metric_key", top=0)
    assert cost.currency == "USD"
    assert {series.key: series.total for series in cost.series} == {"c": 7, "a": 3, "b": 1, "d": 0}
    assert both.aggregate(metric="sum_cost").total == cost.total == 11
    ratio = both.aggregate(metric="unit_cost", group_by="metric_key", top=0)
    assert [series.key for series in ratio.series] == ["c", "a", "b", "d"]  # as ranked by cost
    a = ratio.series[1]
    assert values(a) == [Decimal("0.333333333333"), None, None]
    assert a.total == 1  # 3 / 3, not the mean of the buckets
    assert ratio.series[3].total is None
    assert values(ratio.series[3]) == [None, None, None]
    whole = both.aggregate(metric="unit_cost")
    assert values(whole.series[0]) == [Decimal("0.285714285714"), None, Decimal("0.777777777778")]
    assert whole.total == whole.series[0].total == ratio.total == Decimal("0.6875")  # 11 / 16
    assert ratio.adds == "adds 3 metrics"
    assert not cost.adds
    folded = both.aggregate(metric="unit_cost", group_by="metric_key", top=1)
    other = folded.series[1]
    assert (other.kind, other.total) == ("other", Decimal("0.571428571429"))  # 4 / 7
    point = other.points[0]
    assert both.fast.count(folded.events_at(other, point.start, point.end)) == 3


def test_metrics_without_a_cost_are_not_added_up(both: Both) -> None:
    """Of a cost, `metrics` counts those that have one, before the watermark of the extract and after it."""
    both.add(
        costed("1", "3", metric_key="a", customer_id=generated_events.CUSTOMERS[0]),
        costed(None, "3", metric_key="b", customer_id=generated_events.CUSTOMERS[0], currency=None),
        costed("0", "3", metric_key="c", customer_id=generated_events.CUSTOMERS[1]),
    )
    both.refresh()

    def metrics(metric: str, **parameters: Any) -> int:
        answer = both.aggregate(metric=metric, **parameters)
        assert answer.to_dict()["metrics"] == answer.metrics
        return int(answer.metrics)

    groups = ("none", "metric_key", "customer_id")
    for metric in ("unit_cost", "sum_cost"):
        assert [metrics(metric, group_by=group) for group in groups] == [2, 2, 2]
        assert [metrics(metric, metric_key=key) for key in ("a", "b", ["a", "b"], "nothing")] == [1, 0, 1, 0]
    assert metrics("sum_quantity") == 3
    assert both.aggregate(metric="unit_cost", metric_key=["a", "b"]).adds == ""
    both.add(
        costed(None, "1", metric_key="d", currency=None, ingested_at=LATER),
        costed("2", "1", metric_key="b", ingested_at=LATER),
    )
    for metric in ("unit_cost", "sum_cost"):
        assert [metrics(metric, group_by=group) for group in groups] == [3, 3, 3]
    for store in (both.fast, both.raw):
        assert store.leaderboards(LeaderboardQuery(**WINDOW, metric="sum_cost")).metrics == 3
        assert store.leaderboards(LeaderboardQuery(**WINDOW)).metrics == 4


def test_the_ratio_is_rounded_once_whatever_the_callers_context() -> None:
    assert unit_cost(Decimal("123456789012.5"), Decimal(1)) == Decimal("123456789012")
    assert unit_cost(Decimal("123456789013.5"), Decimal(1)) == Decimal("123456789014")
    assert unit_cost(Decimal("1000000000005000000000000000000000001"), Decimal("1e30")) == Decimal("1000000.00001")
    with localcontext(prec=3):
        assert unit_cost(Decimal(2), Decimal(3)) == Decimal("0.666666666667")
    assert str(unit_cost(Decimal(0), Decimal(-3))) == "0"
    assert unit_cost(Decimal(0), Decimal(0)) is None


def test_costs_in_several_currencies_are_never_added(both: Both) -> None:
    both.add(
        *(costed("1", "1", day, "USD") for day in (0, 1)),
        costed("5", "1", 0, "EUR"),
        costed("1", "1", 1, "usd"),
        costed("1", "1", 1, None),
        costed(None, "1", 1, "GBP"),  # no cost, so no currency of a cost
    )
    both.refresh()
    for metric in ("sum_cost", "unit_cost"):
        for store in (both.fast, both.raw):
            with pytest.raises(QueryError) as refused:
                store.aggregate(AggregateQuery(**WINDOW, metric=metric))
            (fault,) = refused.value.faults
            assert fault.parameter == "external_cost_currency"
            assert fault.message == (
                "the costs of these events are in 4 currencies, which do not add up: USD (2 events), EUR (1 event), "
                "usd (1 event) and 1 more; choose one, such as external_cost_currency=USD, or "
                "group_by=external_cost_currency"
            )
    assert [(cost.currency, cost.events, cost.cost) for cost in both.fast.currencies()] == [
        ("USD", 2, Decimal(2)),
        ("EUR", 1, Decimal(5)),
        ("usd", 1, Decimal(1)),
        (None, 1, Decimal(1)),
    ]
    assert both.fast.currencies(EventQuery(metric_key="none")) == []
    chosen = {"USD": {"external_cost_currency": "USD"}, None: {"missing": "external_cost_currency"}}
    for currency, filters in chosen.items():
        answer = both.aggregate(metric="sum_cost", **filters)
        assert (answer.currency, answer.to_dict()["currency"]) == (currency, currency)
        assert answer.total == (2 if currency else 1)
    others = both.aggregate(
        metric="sum_cost", exclude={"external_cost_currency": ["USD", "usd"], "missing": ["external_cost_currency"]}
    )
    assert (others.currency, others.total) == ("EUR", 5)
    grouped = both.aggregate(metric="sum_cost", group_by="external_cost_currency")
    assert [(series.kind, series.key, series.total) for series in grouped.series] == [
        ("value", "EUR", 5),
        ("value", "USD", 2),
        ("value", "usd", 1),
        ("missing", None, 1),
        ("value", "GBP", 0),
    ]
    assert (grouped.total, grouped.currency, grouped.adds_up) == (None, None, False)
    with pytest.raises(QueryError, match="top: would fold 3 currencies into Other"):
        both.fast.aggregate(AggregateQuery(**WINDOW, metric="sum_cost", group_by="external_cost_currency", top=1))
    first = AggregateQuery(since=FIRST, until=FIRST + DAY, metric="sum_cost", external_cost_currency="EUR")
    assert both.fast.aggregate(first).currency == "EUR"
    assert both.aggregate(metric="sum_cost", external_cost_currency="CHF").currency == "CHF"  # none, of that currency
    assert both.aggregate(metric="count").currency is None
    boards = both.fast.leaderboards(LeaderboardQuery(**WINDOW, metric="sum_cost", external_cost_currency="USD"))
    assert (boards.total, boards.currency, boards.to_dict()["currency"]) == (2, "USD", "USD")
    with pytest.raises(QueryError, match="external_cost_currency: the costs"):
        both.fast.leaderboards(LeaderboardQuery(**WINDOW, metric="sum_cost"))


def test_frames_and_files_have_the_gaps(both: Both) -> None:
    both.add(costed("1", "3", 0), costed(None, "1", 1), costed("1", "0", 2))
    both.refresh()
    answer = both.aggregate(metric="unit_cost")
    third = Decimal("0.333333333333")
    assert (
        list(answer.frame["value"]) == list(answer.pivot()["All"]) == list(answer.wide()["All"]) == [third, None, None]
    )
    plot = answer.plot_frame["value"]
    assert plot.dtype == "float64"
    assert list(plot.isna()) == [False, True, True]
    rows = list(csv.DictReader(io.StringIO(frames.to_csv(answer).decode())))
    assert [row["value"] for row in rows] == ["0.333333333333", "", ""]
    table = parquet.read_table(pa.BufferReader(frames.to_parquet(answer)))
    assert table.column("value").to_pylist() == [third, None, None]
    assert table.schema.field("value").type == pa.decimal128(38, 12)
    (series,) = answer.to_dict()["series"]
    assert series["total"] == "0.666666666667"
    assert [point["value"] for point in series["points"]] == ["0.333333333333", None, None]
    assert "total 0.666666666667 USD" in repr(answer)
    assert isinstance(answer._repr_html_(), str)
    assert pd.isna(frames.totals(both.aggregate(metric="unit_cost", metric_key="none"))["total"].iloc[0])


def test_a_comparison_is_a_ratio_of_the_other_periods_sums_in_the_same_currency(both: Both) -> None:
    query = AggregateQuery(
        since=FIRST + 2 * DAY, until=FIRST + 3 * DAY, metric="unit_cost", group_by="metric_key", top=1
    )
    both.add(
        costed("1", "1", 0, metric_key="a"),  # older, so that the period before is whole
        costed("3", "1", 1, metric_key="a"),
        costed("1", "2", 1, metric_key="b"),
        costed("2", "2", 1, metric_key="c"),
        costed("9", "1", 2, metric_key="a"),
        costed("3", "1", 2, metric_key="b"),
    )
    both.refresh()
    found = compare(both.fast, both.fast.aggregate(query))
    assert not isinstance(found, str)
    assert (found.total.now, found.total.before) == (6, Decimal("1.2"))  # 12 / 2, 6 / 5
    assert [(change.now, change.before) for change in found.series] == [(9, 3), (3, Decimal("0.75"))]
    both.add(costed("1", "1", 1, "EUR", metric_key="a", ingested_at=LATER))
    assert compare(both.fast, both.fast.aggregate(query)) == (
        "not compared with the 1 day before: its costs are in other currencies"
    )
    only = query.replace(metric="sum_cost", metric_key="b")
    both.add(costed("1", "1", 0, "EUR", metric_key="b", ingested_at=LATER))
    later = only.replace(since=FIRST + DAY, until=FIRST + 2 * DAY)
    both.add(costed("1", "1", -1, metric_key="old", ingested_at=LATER))
    assert compare(both.fast, both.fast.aggregate(later)) == (
        "not compared with the 1 day before: its costs are in other currencies"
    )


def test_a_running_unit_cost_divides_the_running_sums_and_is_compared(both: Both) -> None:
    both.add(
        costed("1", "1", 0, metric_key="a"),
        costed("3", "2", 1, metric_key="a"),
        costed("9", "1", 2, metric_key="a"),
        costed("5", "1", 3, metric_key="b"),
    )
    both.refresh()
    query = AggregateQuery(since=FIRST + 2 * DAY, until=FIRST + 4 * DAY, metric="unit_cost", cumulative=True)
    for store in (both.fast, both.raw):
        answer = store.aggregate(query.replace(compare="previous"))
        assert [point.value for point in answer.series[0].points] == [9, 7]  # 9 / 1, 14 / 2
        found = answer.comparison
        assert found is not None
        assert (found.total.now, found.total.before) == (7, Decimal("1.33333333333"))  # 4 / 3
        points = found.series[0].points
        assert [point and point.before for point in points] == [1, Decimal("1.33333333333")]
        assert [point and point.absolute for point in points] == [8, Decimal("5.66666666667")]
        by_metric = store.aggregate(query.replace(compare="previous", group_by="metric_key")).comparison
        assert by_metric is not None
        assert [(change.key, change.now, change.before) for change in by_metric.series] == [
            ("a", 9, Decimal("1.33333333333")),
            ("b", 5, None),
        ]
        assert by_metric.series[1].absolute is None
        assert by_metric.series[1].ratio is None
        assert "null" in json.dumps(by_metric.to_dict()["series"][1]["change"])
        answer.chart()
        assert b"1.33333333333" in frames.to_csv(answer)


def test_costs_in_another_currency_are_an_error_of_compare_and_a_sentence_elsewhere(both: Both) -> None:
    both.add(costed("1", "1", 0, "EUR"), costed("3", "2", 1), costed("3", "2", 1, "EUR", metric_key="b"))
    query = AggregateQuery(since=FIRST + DAY, until=FIRST + 2 * DAY, metric="sum_cost", compare="previous")
    for store in (both.fast, both.raw):
        usd = query.replace(exclude={"metric_key": ["b"]})
        for refused in (usd, usd.replace(metric="unit_cost"), usd.replace(group_by="metric_key")):
            with pytest.raises(QueryError) as caught:
                store.aggregate(refused)
            (fault,) = caught.value.faults
            assert fault.parameter == "compare"
            assert fault.message == (
                "the costs of the other period are in EUR, those of the window in USD; "
                "filter to one external_cost_currency, or group by it"
            )
            # the app and tickets compare an answer without `compare`
            both.add(costed(None, "1", -1, metric_key="b"))  # older, so that the period before is whole
            assert compare(store, store.aggregate(refused.replace(compare=None))) == (
                "not compared with the 1 day before: its costs are in other currencies"
            )
        grouped = store.aggregate(query.replace(group_by="external_cost_currency")).comparison
        assert grouped is not None
        assert grouped.total.absolute is None
        assert {change.key: (change.now, change.before) for change in grouped.series} == {"USD": (3, 0), "EUR": (3, 1)}
        one = store.aggregate(
            query.replace(group_by="external_cost_currency", exclude={"metric_key": ["b"]})
        ).comparison
        assert one is not None
        assert [(change.label, change.now, change.before, change.absolute) for change in one.series] == [
            ("USD", 3, 0, 3),
            ("Other", 0, 1, -1),
        ]
        assert (one.total.before, one.total.absolute, one.total.ratio) == (None, None, None)


@pytest.mark.parametrize("metric", ["sum_cost", "unit_cost"])
def test_a_period_of_further_currencies_is_compared_by_currency_alone(both: Both, metric: str) -> None:
    both.add(costed("1", "1", 0, "EUR"), costed("2", "1", 0, "GBP"), costed("4", "1", 0), costed("3", "1", 1))
    query = AggregateQuery(since=FIRST + DAY, until=FIRST + 2 * DAY, metric=metric, compare="previous")
    for store in (both.fast, both.raw):
        for top in (0, 1, 8):
            grouped = store.aggregate(query.replace(group_by="external_cost_currency", top=top))
            found = grouped.comparison
            assert found is not None
            usd, other = found.series
            assert (usd.key, usd.now, usd.before, usd.absolute) == ("USD", 3, 4, -1)
            assert (other.kind, other.now, other.before) == ("other", None, None)
            assert found.total.absolute is None
            assert compare(store, grouped) == found
            grouped.chart()
        message = "compare: the costs of the other period are in EUR, GBP and USD, those of the window in USD"
        with pytest.raises(QueryError, match=message):
            store.aggregate(query)


@pytest.mark.parametrize("metric", ["sum_cost", "unit_cost"])
def test_other_of_one_currency_is_compared_exactly_one_of_several_is_not(both: Both, metric: str) -> None:
    both.add(
        costed("8", "1", 0),
        costed("7", "1", 0, "EUR"),
        costed("1", "1", 0, "GBP"),
        costed("9", "1", 1),
        costed("6", "1", 1, "EUR"),
        costed("3", "1", 1, "GBP"),
    )
    both.refresh()
    query = AggregateQuery(
        since=FIRST + DAY,
        until=FIRST + 2 * DAY,
        metric=metric,
        group_by="external_cost_currency",
        compare="previous",
    )
    for store in (both.fast, both.raw):
        for top in (2, 0):
            answer = store.aggregate(query.replace(top=top))
            assert answer.comparison is not None
            assert [(one.now, one.before, one.absolute) for one in answer.comparison.series] == [
                (9, 8, 1),
                (6, 7, -1),
                (3, 1, 2),
            ]
            assert (answer.comparison.series[-1].kind == "other") is (top == 2)
            assert [[point and point.before for point in one.points] for one in answer.comparison.series] == [
                [8],
                [7],
                [1],
            ]
            assert list(answer.frame["change"]) == [1, -1, 2]
            assert answer.comparison.total.absolute is None
    # a currency that only the other period folds, beside the one that the window folds
    both.add(costed("5", "1", 0, "CHF", ingested_at=LATER))
    for store in (both.fast, both.raw):
        found = store.aggregate(query.replace(top=2)).comparison
        assert found is not None
        assert [(one.now, one.before) for one in found.series] == [(9, 8), (6, 7), (None, None)]


def test_other_whose_currency_changes_is_not_compared(both: Both) -> None:
    """The window folds JPY, the other period folds GBP: their difference would subtract yen from pounds."""
    both.add(costed("8", "1", 0), costed("1", "1", 0, "GBP"), costed("9", "1", 1), costed("3", "1", 1, "JPY"))
    query = AggregateQuery(
        since=FIRST + DAY,
        until=FIRST + 2 * DAY,
        metric="sum_cost",
        group_by="external_cost_currency",
        top=1,
        compare="previous",
    )
    found = both.raw.aggregate(query).comparison
    assert found is not None
    assert [(one.now, one.before) for one in found.series] == [(9, 8), (None, None)]


def test_what_only_the_other_period_has_is_a_series_of_nothing_in_files(both: Both) -> None:
    both.add(*(costed(None, "2", 0, metric_key=key) for key in ("a", "b", "c")), costed(None, "5", 1, metric_key="a"))
    query = AggregateQuery(since=FIRST + DAY, until=FIRST + 2 * DAY, metric="sum_quantity", group_by="metric_key")
    answer = both.raw.aggregate(query.replace(compare="previous", top=0))
    assert answer.comparison is not None
    frame = answer.frame
    assert list(frame["label"]) == ["a", "Other"]
    assert list(answer.plot_frame["label"]) == ["a", "Other"]
    assert (sum(frame["value"]), sum(frame["earlier"]), sum(frame["change"])) == (5, 6, -1)
    rows = list(csv.DictReader(io.StringIO(frames.to_csv(answer).decode("utf-8-sig"))))
    assert [(row["kind"], row["value"], row["earlier"], row["change"]) for row in rows] == [
        ("value", "5", "2", "3"),
        ("other", "0", "4", "-4"),
    ]
    book = openpyxl.load_workbook(io.BytesIO(answer.xlsx("Acme", "", "")))
    heading, *lines = book["Long"].iter_rows(values_only=True)
    assert heading[-3:] == ("earlier start (UTC)", "earlier", "change")
    assert [line[-4:] for line in lines] == [
        (5, FIRST.replace(tzinfo=None), 2, 3),
        (0, FIRST.replace(tzinfo=None), 4, -4),
    ]
    facts = dict(row[:2] for row in book["Query"].iter_rows(values_only=True))
    assert (facts["Its total"], facts["Change"]) == (6, -1)


def test_costs_that_stopped_have_their_currency(both: Both) -> None:
    both.add(costed("5", "2", 0), costed(None, "1", 1))
    query = AggregateQuery(since=FIRST + DAY, until=FIRST + 2 * DAY, metric="sum_cost", compare="previous")
    for store in (both.fast, both.raw):
        answer = store.aggregate(query)
        assert (answer.currency, answer.total) == ("USD", 0)
        assert answer.comparison is not None
        assert answer.comparison.total.absolute == -5


def test_a_change_of_cost_is_explained_one_of_a_ratio_is_refused(both: Both) -> None:
    both.add(
        *(costed("1", "1", day, metric_key=key) for day in (0, 1) for key in ("a", "b", "c")),
        *(costed("20", "1", 1, metric_key="a", customer_id=generated_events.CUSTOMERS[0]) for _ in range(3)),
    )
    query = AggregateQuery(since=FIRST + DAY, until=FIRST + 2 * DAY, metric="sum_cost")
    explanation = both.fast.explain(query, baseline="before")
    assert (explanation.change, explanation.currency) == (60, "USD")
    assert explanation.cells[0].contribution == 60
    assert explanation.sentence.startswith("63 USD ")
    with pytest.raises(QueryError, match="metric: unit_cost is a ratio"):
        both.fast.explain(query.replace(metric="unit_cost"))
    both.add(costed("1", "1", 0, "EUR"))
    with pytest.raises(QueryError, match="external_cost_currency: the costs"):
        both.fast.explain(query, baseline="before")


def test_no_cost_at_all_is_hinted_at(both: Both) -> None:
    both.add(costed(None, "1", 0))
    both.refresh()
    for metric, value in (("sum_cost", Decimal(0)), ("unit_cost", None)):
        with pytest.warns(match="none of the query's events has a cost"):
            answer = both.fast.aggregate(AggregateQuery(**WINDOW, metric=metric))
        assert [answer.total, *values(answer.series[0])] == [value] * 4
        assert answer.hints == ("metric: none of the query's events has a cost (external_cost_amount)",)
    assert not both.fast.aggregate(AggregateQuery(**WINDOW)).hints


def test_odd_costs_are_an_error_and_long_ones_come_from_the_events(both: Both) -> None:
    both.add(costed("1e-20", "1", 0), costed("1e25", "1", 1))
    both.refresh()
    query = AggregateQuery(**WINDOW, metric="sum_cost")
    answer = both.fast.aggregate(query)
    assert answer.served.path == "events"
    assert answer.total == Decimal("10000000000000000000000000.00000000000000000001")
    both.add(costed("NaN", "1", 2, ingested_at=LATER))
    for metric in ("sum_cost", "unit_cost"):
        with pytest.raises(NotExact, match="costs are NaN"):
            both.fast.aggregate(query.replace(metric=metric))
    assert both.fast.aggregate(query.replace(metric="count")).total == 3
