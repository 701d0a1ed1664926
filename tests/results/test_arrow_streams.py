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
from usage_explore.results import arrow

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
    assert pa.table(events).equals(arrow.plain(events.table).read_all())
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


def test_text_that_repeats_its_values_is_a_dictionary(store: Store) -> None:
    """The types follow from the columns' names alone, and frames of other libraries have text as text."""
    events = store.read(EventQuery(quantity_max=200))
    none = store.read(EventQuery(metric_key="nothing"))
    assert len(none) == 0
    assert none.table.schema.names == events.table.schema.names
    for name, kind in zip(events.table.schema.names, events.table.schema.types, strict=True):
        if name in ("id", "idempotency_key", "dimensions"):
            assert kind == pa.string()
        elif name not in (*arrow.DECIMALS, *arrow.TIMES):
            assert kind == pa.dictionary(pa.int32(), pa.string()), name
            assert none.table.schema.field(name).type == kind
            (chunk,) = events.table[name].chunks
            assert chunk.dictionary.to_pylist() == list(dict.fromkeys(filter(None, chunk.to_pylist())))
    assert pl.DataFrame(events)["customer_id"].dtype == pl.String
    with duckdb.connect() as connection:
        found = connection.sql("SELECT customer_id, count(*) AS n FROM events GROUP BY 1 ORDER BY 1").fetchall()
    expected: dict[str, int] = {}
    for id_ in events.table["customer_id"].to_pylist():
        expected[id_] = expected.get(id_, 0) + 1
    assert found == sorted(expected.items())


def test_tables_are_collected_as_they_come() -> None:
    """More values than two bytes number, NULLs, empty tables and decimals that are text, however they are cut."""
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("metric_key", pa.string()),
            pa.field("quantity", pa.string(), metadata={"usage-explore": "decimal kept as text: more than 38 digits"}),
            ("timestamp", pa.timestamp("us", tz="UTC")),
            ("customer_name", pa.string()),
        ]
    )
    size = 100_000
    keys = [None if row % 7 == 0 else f"metric {row % 70_001}" for row in range(size)]
    at = datetime(2026, 3, 1, tzinfo=UTC)
    columns = [[str(row) for row in range(size)], keys, ["1.5", None] * (size // 2), [at] * size, [None] * size]
    whole = pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema
    )
    once = arrow.collected(schema.empty_table(), [whole])
    cut = [whole.slice(0, 0), whole.slice(0, 1), whole.slice(1, 39_999), whole.slice(40_000)]
    for tables in (cut, [pa.concat_tables(cut)]):
        assert arrow.collected(schema.empty_table(), tables).equals(once, check_metadata=True)
    assert once["metric_key"].to_pylist() == keys
    assert len(once["metric_key"].chunk(0).dictionary) > 2**15
    assert arrow.plain(once).read_all().equals(whole, check_metadata=True)
    none = arrow.collected(schema.empty_table(), [])
    assert none.num_rows == 0
    assert none.schema.equals(once.schema, check_metadata=True)
    assert [str(kind) for kind in none.schema.types[:3]] == [
        "string",
        "dictionary<values=string, indices=int32, ordered=0>",
        "string",
    ]
    frame = arrow.to_pandas(once.slice(0, 3), str)
    assert [str(kind) for kind in frame.dtypes] == ["str", "str", "object", "datetime64[us, UTC]", "str"]


def test_a_collected_table_keeps_no_other_memory() -> None:
    """Columns of an imported batch are freed together, so none of them may stay."""
    rows = pa.table({"id": [str(row) for row in range(1000)], "metric_key": ["tokens"] * 1000})
    kept = arrow.collected(rows.schema.empty_table(), [rows])
    given = {buffer.address for buffer in rows["id"].chunk(0).buffers() if buffer}
    assert not given & {buffer.address for chunk in kept["id"].chunks for buffer in chunk.buffers() if buffer}
