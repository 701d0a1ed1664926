"""A build copies the events row for row, value for value."""

from __future__ import annotations

import dataclasses
import json
import random
import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from extract.small_extract import DAY, HOUR, NOON, ORGANIZATION, Extract, event, smaller
from support.database_servers import kind
from support.query_oracle import Row, utc
from usage_explore import AggregateQuery, LeaderboardQuery, connect
from usage_explore.db import ddl
from usage_explore.extract import folder, manifest
from usage_explore.extract.folder import ExtractBusy

TEXTS = [
    "",
    " ",
    "NULL",
    "a,b",
    'say "so"',
    "two\nlines",
    "\r\n",
    "\\.",
    "\\N",
    "größe",
    "日本",
    "'",
    "\x1f",
    "x" * 5_000,
]
DIMENSIONS = [
    "{}",
    "[]",
    '["model"]',
    "3",
    '"model"',
    "null",
    '{"model": null}',
    '{"model": ""}',
    '{"model": "a\\nb\\"c\\\\"}',
    '{"model": 1.10}',
    '{"model": 1e400}',
    '{"model": true, "region": {"a": [1, 2.50, null]}}',
    '{"model": "größe", "": "no name", "a.b": "dot", "d0": "a name like a column", "$": "x"}',
    '{"it\'s": "quoted", "100%": "%s", "{}": "{}"}',
]


def test_every_value_of_every_column_is_the_events(extract: Extract) -> None:
    rows = [event(NOON + timedelta(microseconds=number)) for number in range(3)]
    for column in ("metric_key", "price_key", "idempotency_key", "external_cost_currency", "wallet_currency"):
        rows += [event(**{column: text}) for text in TEXTS]
    rows += [event(dimensions=text) for text in DIMENSIONS]
    rows += [event(dimensions=json.dumps({"model": text, text: "as a key"})) for text in TEXTS if text != "\x1f"]
    rows += [event(product_id=uuid.UUID(int=2**128 - 1), subscription_id=uuid.UUID(int=0))]
    amounts = [
        "0",
        "-0",
        "-1.50",
        "0.000001",
        "123456789012345678901234567890.123456",
        "-99999999999999999999",
        "1.0000000000",
    ]
    rows += [event(quantity=Decimal(text), external_cost_amount=Decimal(text)) for text in amounts]
    times = [utc(1970, 1, 1), utc(2199, 12, 31, 23) + timedelta(microseconds=1), NOON - timedelta(microseconds=1)]
    rows += [event(time, ingested_at=NOON) for time in times]
    extract.add(*rows)
    outside = 0
    if kind(extract.url) != "timescaledb":  # a hypertable cannot hold them
        extract.execute("UPDATE usage_events SET timestamp = '0044-03-15 BC' WHERE id = %s", rows[0].id)
        extract.execute("UPDATE usage_events SET timestamp = 'infinity' WHERE id = %s", rows[1].id)
        outside = 2
    report = extract.refresh(NOON + HOUR)
    assert report.rows == report.manifest.rows == len(rows) - outside
    assert report.manifest.unfit == ""
    extract.check()


@pytest.mark.parametrize(
    ("amounts", "width"),
    [
        (["1", "20"], (18, 0)),
        (["1.500", "2"], (18, 2)),
        (["0.123"], (18, 4)),
        (["1234567890123.123456"], (38, 6)),
        (["1." + "0" * 60], (18, 0)),
        (["0." + "1" * 38], (38, 38)),
        (["9" * 38], (38, 0)),
        (["9" * 37 + ".5"], (38, 1)),
    ],
)
def test_decimals_are_as_wide_as_they_need(extract: Extract, amounts: list[str], width: tuple[int, int]) -> None:
    extract.add(*(event(quantity=Decimal(text)) for text in amounts))
    extract.refresh(NOON + HOUR)
    (segment,) = extract.manifest.segments
    assert segment.layout.quantity == width
    extract.check()


@pytest.mark.each_value
@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "9" * 38 + ".5", "1E-39", "1E+38"])
@pytest.mark.parametrize("column", ["quantity", "external_cost_amount"])
def test_what_no_column_holds_leaves_the_organization_out(extract: Extract, column: str, amount: str) -> None:
    extract.add(event(), event(**{column: Decimal(amount)}))
    report = extract.refresh(NOON + HOUR)
    assert column in report.manifest.unfit
    assert (report.manifest.segments, report.manifest.watermark) == ((), None)
    assert list(extract.folder.glob("*.parquet")) == []
    extract.execute(f"UPDATE usage_events SET {column} = 2")
    assert extract.refresh(NOON + HOUR).manifest.unfit  # tried again after a day
    assert extract.refresh(NOON + HOUR, again=True).manifest.rows == 2
    extract.check()


def test_a_value_that_no_longer_fits_is_noticed_behind_the_watermark(extract: Extract) -> None:
    extract.add(event())
    extract.refresh(NOON + HOUR)
    extract.execute("UPDATE usage_events SET quantity = 'NaN'")
    report = extract.refresh(NOON + HOUR)
    assert report.manifest.unfit.startswith("quantity is NaN")
    assert report.manifest.watermark is None


def test_many_segments_have_all_rows_once(extract: Extract) -> None:
    draw = random.Random(5)
    rows = [
        event(NOON + timedelta(seconds=draw.randrange(90 * 86_400)), dimensions=draw.choice(DIMENSIONS))
        for _ in range(500)
    ]
    extract.add(*rows)
    with smaller(MAX_ROWS_PER_READ=40, MAX_SEGMENT_ROWS=100, MIN_SUMMARY_ROWS=10, _BLOCK_BYTES=2_000):
        report = extract.refresh(NOON + 100 * DAY)
        assert len(report.manifest.segments) > 4
        assert report.steps > 3
        extract.check()
        extract.add(*(event(NOON + 101 * DAY) for _ in range(3)))
        extract.refresh(NOON + 102 * DAY)
    extract.check()


def test_one_instant_of_ingestion_has_several_segments(extract: Extract) -> None:
    extract.add(*(event(NOON - number * HOUR, ingested_at=NOON) for number in range(100)))
    with smaller(MAX_ROWS_PER_READ=30, MAX_SEGMENT_ROWS=30):
        report = extract.refresh(NOON + HOUR)
    assert [segment.rows.rows for segment in report.manifest.segments] == [30, 30, 30, 10]
    extract.check()


def test_frequent_keys_have_columns_and_new_ones_get_them(extract: Extract) -> None:
    extract.add(*(event(dimensions=json.dumps({"model": "a", f"rare{number}": 1})) for number in range(200)))
    with smaller(MIN_SUMMARY_ROWS=10, MAX_SEGMENT_ROWS=150, MAX_ROWS_PER_READ=1000):
        extract.refresh(NOON + HOUR)
        assert extract.manifest.segments[-1].layout.dimensions == ("model",)
        extract.add(*(event(NOON + DAY, dimensions='{"model": "a", "region": "eu"}') for _ in range(100)))
        extract.refresh(NOON + 2 * DAY)
        extract.add(event(NOON + 3 * DAY, dimensions='{"region": "us"}'))
        extract.refresh(NOON + 4 * DAY)
    assert extract.manifest.segments[-1].layout.dimensions == ("model", "region")
    extract.check()


def test_a_summary_has_the_exact_sums_of_its_segment(extract: Extract) -> None:
    draw = random.Random(3)
    for _ in range(2):
        extract.add(
            *(
                event(
                    NOON + timedelta(minutes=draw.randrange(180)),
                    metric_key=draw.choice(["a", "b"]),
                    quantity=Decimal(draw.randrange(-500, 500)) / 100,
                    external_cost_amount=draw.choice([None, Decimal("0.1")]),
                    dimensions=json.dumps({"model": draw.choice(["x", "y"]), "user": draw.randrange(10_000)}),
                )
                for _ in range(400)
            )
        )
    with smaller(MIN_SUMMARY_ROWS=100):
        extract.refresh(NOON + DAY)
    (segment,) = extract.manifest.segments
    columns = {(summary.unit, summary.columns) for summary in segment.summaries}
    model = segment.layout.column("dim:model")
    assert (manifest.SLOT, ("metric_key",)) in columns
    assert {unit for unit, names in columns if model in names} == {manifest.HOUR, manifest.DAY}
    assert not any(segment.layout.column("dim:user") in summary.columns for summary in segment.summaries)
    for summary in segment.summaries:
        assert summary.file.rows * 4 <= segment.rows.rows
        listed = ", ".join(summary.columns)
        with duckdb.connect() as engine:
            (found,) = engine.execute(
                f"""SELECT count(*) FROM (
                    SELECT time, {listed}, events, quantity, costed, costed_quantity, external_cost_amount
                    FROM '{extract.folder / summary.file.name}'
                    INTERSECT SELECT ts // {summary.unit}, {listed}, count(*), sum(quantity),
                        count(external_cost_amount), sum(quantity) FILTER (external_cost_amount IS NOT NULL),
                        sum(external_cost_amount)
                    FROM '{extract.folder / segment.rows.name}' GROUP BY ALL)"""
            ).fetchall()
        assert found == (summary.file.rows,)


def test_dimensions_alone_have_a_summary_where_further_columns_make_it_long(extract: Extract) -> None:
    draw = random.Random(4)
    for _ in range(400):
        values = json.dumps({"model": draw.choice("xyz"), "region": draw.choice("eu"), "user": draw.randrange(10_000)})
        extract.add(event(dimensions=values, price_key=str(draw.randrange(10))))
    with smaller(MIN_SUMMARY_ROWS=100):
        extract.refresh(NOON + DAY)
    (segment,) = extract.manifest.segments
    model, region = segment.layout.column("dim:model"), segment.layout.column("dim:region")
    by_day = [each for each in segment.summaries if each.unit == manifest.DAY and {model, region} <= {*each.columns}]
    further, alone = sorted(by_day, key=lambda each: each.file.rows, reverse=True)
    assert "price_key" in further.columns
    assert (further.file.rows, alone.file.rows) == (60, 6)


def test_few_new_events_have_the_summaries_of_those_before(extract: Extract) -> None:
    """Every query read their rows in a scan of its own, which takes as long as 40,000 rows."""
    draw = random.Random(6)

    def add(number: int, at: datetime) -> None:
        models = [json.dumps({"model": draw.choice("xyz")}) for _ in range(number)]
        extract.add(*(event(at + timedelta(minutes=draw.randrange(600)), dimensions=model) for model in models))

    with smaller(MIN_SUMMARY_ROWS=100, MIN_KNOWN_ROWS=10):
        for number, days in ((400, 0), (20, 1), (5, 2)):
            add(number, NOON + days * DAY)
            extract.refresh(NOON + (days + 1) * DAY)
    long, short, shortest = extract.manifest.segments
    shapes = [(summary.unit, summary.columns) for summary in long.summaries]
    assert shapes
    assert [(summary.unit, summary.columns) for summary in short.summaries] == shapes
    assert not shortest.summaries
    extract.check()


def test_the_folder_is_the_owners_alone(extract: Extract) -> None:
    extract.add(event())
    extract.refresh(NOON + HOUR)
    for path in (extract.folder, extract.folder.parent, extract.folder.parent.parent):
        assert path.stat().st_mode & 0o777 == 0o700
    for path in extract.folder.glob("*.parquet"):
        assert path.stat().st_mode & 0o077 == 0


def test_one_refresh_at_a_time(extract: Extract) -> None:
    extract.add(event())
    with folder.writing(extract.folder), pytest.raises(ExtractBusy, match="another process"):
        extract.refresh(NOON + HOUR)
    extract.refresh(NOON + HOUR)
    extract.check()


def test_roles_and_tables_have_their_own_folders(
    extract: Extract, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    events_connection.execute("CREATE SCHEMA other")
    events_connection.execute("CREATE VIEW other.usage_events AS SELECT * FROM public.usage_events")
    from usage_explore.db.schema import events_table

    one = folder.source(events_connection, events_database_url, events_table("usage_events"))
    same = folder.source(events_connection, events_database_url, events_table("public.usage_events"))
    other = folder.source(events_connection, events_database_url, events_table("other.usage_events"))
    assert one.name == same.name
    assert one.system
    assert other.name != one.name
    events_connection.rollback()


def test_a_key_that_comes_late_has_a_column_in_the_segments_of_its_own_time(
    extract: Extract, events_database_url: str
) -> None:
    """A quiet first day, then keys that begin in the middle of one read, some odd ones, and small refreshes."""
    draw = random.Random(11)

    def some(number: int, day: int, **keys: Any) -> list[Row]:
        made = []
        for index in range(number):
            own = {key: value(index) if callable(value) else value for key, value in keys.items()}
            at = NOON + day * DAY + timedelta(seconds=index)
            made.append(event(at, quantity=Decimal(draw.randrange(1, 500)) / 100, dimensions=json.dumps(own)))
        return made

    odd = {"odd": lambda index: index % 2 or None, "": "no key"}
    late = {"a/b~c": lambda index: f"r{index % 3}", "größe'": lambda index: [None, 1.50, "x\\"][index % 3]}
    with smaller(MIN_KEY_ROWS=5, MIN_SUMMARY_ROWS=10, MAX_SEGMENT_ROWS=400, MAX_ROWS_PER_READ=100):
        extract.add(
            *some(150, 0, model="m"),
            *some(30, 9, **odd),
            *some(270, 10, model="m", **late),
        )
        extract.refresh(NOON + 20 * DAY)
        first = extract.manifest.segments
        extract.check()
        for segment in first:
            for row in extract.rows_of(segment):
                frequent = {key for key in row["texts"] if key in ("a/b~c", "größe'")}
                assert frequent <= {*segment.layout.dimensions}
        extract.add(*some(3, 20, model="m", once="x"), *some(2, 20, other=lambda index: "null" if index else None))
        extract.refresh(NOON + 21 * DAY)
        extract.add(*some(30, 21, model="m", newest=lambda index: "n" if index % 2 else "o"))
        extract.refresh(NOON + 22 * DAY)
        extract.check()
    layouts = [segment.layout.dimensions for segment in extract.manifest.segments]
    assert {"a/b~c", "größe'", "newest"} <= {*layouts[-1]}
    assert not {"once", "other"} & {key for layout in layouts for key in layout}
    # the columns of the segments are one list that grows, so that few layouts arise and small segments are merged
    longest = max(layouts, key=len)
    assert all(layout == longest[: len(layout)] for layout in layouts)
    with connect(events_database_url, ORGANIZATION, home=extract.home) as store:
        raw = dataclasses.replace(store, extracts=None)
        for group in ("dim:a/b~c", "dim:größe'", "dim:newest", "dim:once", "dim:odd", "dim:absent"):
            query = AggregateQuery(since=NOON, until=NOON + 30 * DAY, metric="sum_quantity", group_by=group, top=0)
            for asked in (query, query.replace(missing=group), query.replace(exclude={group: ["r1", "1.50", "n"]})):
                answer = store.aggregate(asked)
                assert answer.served.path == "extract"
                assert answer.series == raw.aggregate(asked).series
        board = LeaderboardQuery(since=NOON, until=NOON + 30 * DAY)
        assert store.leaderboards(board).boards == raw.leaderboards(board).boards
        assert store.dimension_keys() == raw.dimension_keys()


def test_columns_are_chosen_anew_where_the_old_ones_are_used_up(extract: Extract) -> None:
    limits = {"MIN_KEY_ROWS": 5, "MIN_SUMMARY_ROWS": 10, "MAX_COLUMNS_OF_KEYS": 3, "MAX_SEGMENT_ROWS": 30}
    with smaller(**limits):
        for number, keys in enumerate(("abc", "abx", "xyz", "xyz")):
            texts = json.dumps(dict.fromkeys(keys, "1"))
            extract.add(*(event(NOON + number * DAY, dimensions=texts) for _ in range(20)))
            extract.refresh(NOON + number * DAY + HOUR)
            extract.check()
    layouts = [{*segment.layout.dimensions} for segment in extract.manifest.segments]
    assert (layouts[0], layouts[-1]) == ({*"abc"}, {*"xyz"})
