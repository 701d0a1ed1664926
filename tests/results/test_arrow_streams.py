"""Answers and pages are frames to every library that reads Arrow, exact to the last digit."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from usage_explore import AggregateQuery, EventQuery, LeaderboardQuery, Store

WINDOW = {"since": datetime(2026, 3, 1, tzinfo=UTC), "until": datetime(2026, 11, 10, tzinfo=UTC)}


@pytest.mark.parametrize("metric", ["count", "sum_quantity", "unit_cost"])
@pytest.mark.parametrize("compare", [None, "previous"])
def test_an_aggregate_is_its_frame(store: Store, metric: str, compare: str | None) -> None:
    answer = store.aggregate(
        AggregateQuery(
            **WINDOW,
            metric=metric,
            compare=compare,
            group_by="dim:model",
            external_cost_currency="USD",
            quantity_max=200,
        )
    )
    table = pa.table(answer)
    assert sorted(table.column_names) == sorted(answer.frame.columns)
    for name in answer.frame:
        assert table[name].to_pylist() == [None if value != value else value for value in _values(answer.frame[name])]
    assert str(table["value"].type).startswith("int64" if metric == "count" else "decimal128(38")


def _values(column: Any) -> list[Any]:
    import pandas as pd

    return [None if pd.isna(value) else value for value in column.tolist()]


def test_pages_and_events_have_the_same_table(store: Store) -> None:
    query = EventQuery(limit=100, quantity_max=200)
    page, events = store.events(query), store.read(query)
    table = pa.table(page)
    assert table.column_names == pa.table(events).column_names
    whole = pa.table(events).slice(0, 100)
    for name in table.column_names:
        if name != "dimensions":
            assert table[name].to_pylist() == whole[name].to_pylist()
    assert pa.table(events).equals(events.table)
    with duckdb.connect() as connection:
        total = connection.sql("SELECT sum(quantity) FROM page").fetchall()[0][0]  # by its name in this function
    assert total == sum((event.quantity for event in page.events), Decimal(0))


def test_leaderboards_are_their_frame(store: Store) -> None:
    boards = store.leaderboards(LeaderboardQuery(**WINDOW, metric="sum_quantity", quantity_max=200))
    table = pa.table(boards)
    assert table.column_names == list(boards.frame.columns)
    assert table["total"].to_pylist() == boards.frame["total"].tolist()
    assert table["share"].to_pylist() == boards.frame["share"].tolist()


@pytest.mark.parametrize("metric", ["count", "sum_quantity", "unit_cost"])
def test_polars_reads_answers_exactly(store: Store, metric: str) -> None:
    query = AggregateQuery(
        **WINDOW, metric=metric, group_by="dim:model", external_cost_currency="USD", quantity_max=200
    )
    answer = store.aggregate(query)
    frame = pl.DataFrame(answer)
    assert frame.height == len(answer.frame)
    assert frame["value"].to_list() == _values(answer.frame["value"])
    assert isinstance(frame["value"].dtype, pl.Int64 if metric == "count" else pl.Decimal)
    assert frame["start"].to_list() == [start.to_pydatetime() for start in answer.frame["start"]]
    page = store.events(EventQuery(limit=50, quantity_max=200))
    events = pl.DataFrame(page)
    assert [str(event.id) for event in page.events] == events["id"].to_list()
    assert [event.quantity for event in page.events] == events["quantity"].to_list()
    whole = store.read(EventQuery(quantity_max=200))
    assert pl.DataFrame(whole)["quantity"].to_list() == whole.table["quantity"].to_pylist()
    boards = store.leaderboards(LeaderboardQuery(**WINDOW, metric="sum_quantity", quantity_max=200))
    assert pl.DataFrame(boards)["total"].to_list() == boards.frame["total"].tolist()
