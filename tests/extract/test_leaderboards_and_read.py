"""Leaderboards, explanations, Arrow and exports: extract, events and plain Python agree over random histories."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from extract.table_histories import Answers, History, matching
from support import extracts, generated_events, query_oracle
from support.query_oracle import EXACT, Row
from support.thoroughness import cases, seeds
from usage_explore import AggregateQuery, EventQuery, LeaderboardQuery, QueryError, Store, connect
from usage_explore.db import ddl
from usage_explore.decimals import plain
from usage_explore.errors import NotExact
from usage_explore.explain import run
from usage_explore.explain.from_events import EventSums
from usage_explore.extract import leaderboards, read, segments, watermark
from usage_explore.extract.engine import Extracts, ExtractUnusable
from usage_explore.query.filters import GROUPS
from usage_explore.results import arrow


@contextmanager
def history(url: str, home: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[History, Answers]]:
    """A history of a few steps, after which the extract has segments with summaries, and a tail is in the table."""
    monkeypatch.setattr(segments, "MIN_SUMMARY_ROWS", 5)
    monkeypatch.setattr(segments, "MIN_KNOWN_ROWS", 2)
    for name in ("MAX_SUMMARY_SHARE", "MAX_HOURS_SHARE", "MAX_CUSTOMERS_SHARE", "MAX_KEPT_SHARE"):
        monkeypatch.setattr(segments, name, 1.0)
    monkeypatch.setattr(read, "_SLICE_EVENTS", 11)
    monkeypatch.setattr(read, "_PAGE_EVENTS", 7)
    made, answers = History(url, seed, home), Answers(url, home)
    monkeypatch.setattr(watermark, "safe", made.safe)
    try:
        for name in ("arrive", "advance", "arrive", "advance", "arrive"):
            getattr(made, name)()
        yield made, answers
    finally:
        answers.close()
        made.close()


def expected_boards(query: AggregateQuery, held: list[Row], top: int) -> dict[str, list[tuple[Any, ...]]]:
    """Per group: (kind, key, total, share, members, with_missing) by rank."""
    since, until = query.span
    rows = [row for row in matching(query, held) if since <= row.timestamp < until]
    measured = {
        "count": lambda row: Decimal(1),
        "sum_quantity": lambda row: row.quantity,
        "sum_cost": lambda row: row.external_cost_amount or Decimal(0),
    }
    amounts = [measured[query.metric](row) for row in rows]
    whole = sum(map(Fraction, amounts), Fraction(0))
    boards: dict[str, list[tuple[Any, ...]]] = {}
    for group in (*GROUPS, "dim:model", "dim:region"):
        totals: dict[str | None, Decimal] = {}
        for row, amount in zip(rows, amounts, strict=True):
            key = query_oracle.group_text(row, group)
            totals[key] = EXACT.add(totals.get(key, Decimal(0)), amount)
        if group not in GROUPS and not totals.keys() - {None}:
            continue
        ranked = sorted(totals, key=lambda key: (totals[key].copy_negate(), key is None, key or ""))
        board = [
            ("missing" if key is None else "value", key, totals[key], int(key is not None), False)
            for key in ranked[:top]
        ]
        if rest := ranked[top:]:
            total = Decimal(0)
            for key in rest:
                total = EXACT.add(total, totals[key])
            board.append(("other", None, total, sum(key is not None for key in rest), None in rest))
        boards[group] = [
            (kind, key, total, None if not whole else round(Fraction(total) / whole, 6), *more)
            for kind, key, total, *more in board
        ]
    return boards


@pytest.mark.each_value
@pytest.mark.parametrize("sample", [40, 100_000])
@pytest.mark.parametrize("seed", [1, 2])
def test_explanations(
    events_database_url: str, tmp_path: Path, seed: int, sample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums from the extract are those of the events; by a sample too, and of more leaves than memory holds."""
    monkeypatch.setattr(run, "SAMPLE_EVENTS", sample)
    most_leaves = run.MAX_LEAVES
    from_events: list[int] = []
    monkeypatch.setattr(run, "EventSums", lambda *args: (from_events.append(1), EventSums(*args))[1])
    explained = named = from_extract = 0
    causes: list[datetime] = []
    with history(events_database_url, tmp_path, seed, monkeypatch) as (made, answers):
        for customer in generated_events.CUSTOMERS[:2]:  # causes, in the extract and in the tail
            made.advance()
            some = made.new(1)[0]
            cause = dataclasses.replace(some, customer_id=customer, quantity=Decimal(9), external_cost_amount=None)
            causes.append(cause.timestamp)
            made.append([dataclasses.replace(cause, id=uuid4(), idempotency_key=uuid4().hex) for _ in range(40)])
        for number in range(cases(60)):
            query = made.query()
            if number % 2:
                at, metric = made.draw.choice(causes), made.draw.choice(["count", "sum_quantity"])
                span = {"since": at - timedelta(hours=5), "until": at + timedelta(hours=1)}
                query = AggregateQuery(**span, metric=metric, as_of=query.as_of, timezone=query.timezone)
            outcomes = []
            for store, leaves in product((answers.fast, answers.raw), (most_leaves, 0)):
                from_events.clear()
                monkeypatch.setattr(run, "MAX_LEAVES", leaves)
                try:
                    explanation = store.explain(query)
                except (QueryError, NotExact) as error:
                    outcomes.append(str(error))
                else:
                    outcomes.append(json.dumps(explanation.to_dict(), sort_keys=True))
                    named += bool(explanation.cells)
                    explained += 1
                    from_extract += not from_events
            assert len({*outcomes}) == 1, query
    assert explained > 20
    assert named > 1
    assert from_extract > 5


@pytest.mark.parametrize("seed", seeds([1, 2]))
def test_leaderboards(events_database_url: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with history(events_database_url, tmp_path, seed, monkeypatch) as (made, answers):
        paths = set()
        for number in range(12):
            query, top = made.query(), made.draw.choice([1, 2, 5])
            if query.metric == "unit_cost":
                with pytest.raises(QueryError, match="unit_cost"):
                    answers.fast.leaderboards(query, top)
                query = query.replace(metric="sum_cost")
            if query.metric == "sum_cost":
                query = query.replace(missing=None, external_cost_currency="USD")
            fast, raw = answers.fast.leaderboards(query, top), answers.raw.leaderboards(query, top)
            assert (fast.boards, fast.total, fast.metrics) == (raw.boards, raw.total, raw.metrics), query
            found = {
                board.group: [
                    (
                        *(row.kind, row.key, row.total, row.share if row.share is None else Fraction(row.share)),
                        *(row.members, row.with_missing),
                    )
                    for row in board.leaders
                ]
                for board in fast.boards
            }
            expected = expected_boards(query, made.rows, top)
            assert {group: rows for group, rows in found.items() if rows} == {
                g: rows for g, rows in expected.items() if rows
            }
            if number < 4:
                of_series = answers.fast.aggregate(query.replace(group_by="metric_key", top=top))
                assert [(row.kind, row.key, row.total) for row in fast["metric_key"].leaders] == [
                    (series.kind, series.key, series.total) for series in of_series.series
                ]
            paths.add(fast.served.path)
        assert "extract" in paths
        everything = AggregateQuery(since="1970-01-01T00:00:00Z", until="2200-01-01T00:00:00Z", metric="sum_quantity")
        some = next(row for row in made.rows if row.organization_id == generated_events.ORGANIZATION)
        made.append(
            [
                dataclasses.replace(some, id=uuid4(), ingested_at=made.clock, dimensions=text)
                for text in ('{"fresh": "x", "none": null, "": "y"}', "[1]", '"text"')
            ]
        )
        late = answers.fast.leaderboards(everything.replace(metric="count"))
        assert late.served.because is None
        assert late.boards == answers.raw.leaderboards(everything.replace(metric="count")).boards
        assert [board.group for board in late.boards[len(GROUPS) :]] == ["dim:model", "dim:region", "dim:fresh"]
        monkeypatch.setattr(leaderboards, "MAX_LEADERBOARD_DIMENSIONS", 1)
        counts = answers.fast.leaderboards(everything.replace(metric="count"))
        assert counts.served.because is None
        assert counts.boards == answers.raw.leaderboards(everything.replace(metric="count")).boards
        few = answers.fast.leaderboards(everything)  # perhaps from the events: a sum may have more than 38 digits
        assert few.boards == answers.raw.leaderboards(everything).boards
        assert (len(few.boards), few.omitted) == (len(GROUPS) + 1, 2)
        assert few["dim:model"].values > 5
        assert pickle.loads(pickle.dumps(few)) == few
        frame = few.frame
        assert frame["total"].map(type).eq(Decimal).all()
        assert dict(frame.groupby("group")["total"].agg(lambda totals: sum(map(Fraction, totals)))) == {
            board.group: Fraction(few.total) for board in few.boards
        }
        with pytest.raises(QueryError, match="top"):
            answers.fast.leaderboards(everything, 51)
        with pytest.raises(KeyError):
            few["dim:nothing"]


def texts(rows: list[Row]) -> list[tuple[Any, ...]]:
    """The rows as in an export, in comparable form; `dimensions` is left to the comparison of the paths."""
    return [
        (str(row.id), str(row.customer_id), row.metric_key, plain(row.quantity), row.timestamp, row.ingested_at)
        for row in query_oracle.newest_first(rows)
    ]


def queries(made: History) -> list[EventQuery]:
    some = made.draw.choice(made.rows)
    return [
        EventQuery(),
        EventQuery(dimensions={"model": ["large", "Other"]}, as_of=some.ingested_at),
        EventQuery(occurred_after=made.clock - (made.clock - some.timestamp) / 2, exclude={"dim:region": "eu"}),
        EventQuery(metric_key="nothing"),
    ]


def matching_events(query: EventQuery, held: list[Row]) -> list[Row]:
    as_aggregate = AggregateQuery(**query.shared_with(AggregateQuery))
    return [
        row
        for row in matching(as_aggregate, held)
        if query.occurred_after is None or row.timestamp >= query.occurred_after
    ]


def read_both(fast: Store, raw: Store, query: EventQuery) -> pa.Table:
    """What both paths read, which is the same."""
    one, other = fast.read(query), raw.read(query)
    assert (one.served.path, other.served.path) == ("extract", "events"), one.served.because
    assert one.table.schema.equals(other.table.schema, check_metadata=True)
    assert one.table.equals(other.table), query
    return one.table


@pytest.mark.parametrize("seed", seeds([1, 2]))
def test_read_and_export(events_database_url: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with history(events_database_url, tmp_path, seed, monkeypatch) as (made, answers):
        fast, raw = answers.fast, answers.raw
        for query in queries(made):
            table = read_both(fast, raw, query)
            columns = ("id", "customer_id", "metric_key", "quantity", "timestamp", "ingested_at")
            found = [tuple(row[name] for name in columns) for row in table.to_pylist()]
            assert [(*row[:3], plain(Decimal(row[3])), *row[4:]) for row in found] == texts(
                matching_events(query, made.rows)
            )
            for suffix, options in (("csv", False), ("csv", True), ("parquet", False)):
                files = [tmp_path / f"{name}.{suffix}" for name in ("fast", "raw")]
                for store, path in zip((fast, raw), files, strict=True):
                    store.export(query, path, progress=False, escape_formulas=options)
                if suffix == "csv":
                    assert files[0].read_bytes() == files[1].read_bytes()
                else:
                    assert parquet.read_table(files[0]).equals(parquet.read_table(files[1]))
                    assert parquet.read_table(files[0]).equals(arrow.plain(table).read_all())
        page = fast.events(EventQuery(limit=17))
        rest = read_both(fast, raw, EventQuery(cursor=page.cursor))
        assert rest.num_rows == fast.count(EventQuery()) - 17
        assert [str(event.id) for event in page.events] + rest["id"].to_pylist() == read_both(fast, raw, EventQuery())[
            "id"
        ].to_pylist()
        assert b"".join(fast.export_csv(EventQuery())) == b"".join(raw.export_csv(EventQuery()))


def test_a_frame_is_that_of_the_pages(
    events_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with history(events_database_url, tmp_path, 3, monkeypatch) as (_, answers):
        events = answers.fast.read()
        pages = []
        page = answers.fast.events(EventQuery(limit=100))
        while page is not None:
            pages.append(page.frame)
            page = page.next()
        pd.testing.assert_frame_equal(events.to_pandas(), pd.concat(pages, ignore_index=True))
        assert pickle.loads(pickle.dumps(events)).table == events.table
        assert len(events) == len(events.table)


def test_a_file_that_breaks_midway_loses_nothing(
    events_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with history(events_database_url, tmp_path, 4, monkeypatch) as (_, answers):
        whole = answers.raw.read().table
        given = Extracts.arrow
        calls: list[str] = []

        def breaking(self: Extracts, *args: Any) -> pa.Table:
            calls.append("")
            if len(calls) == 3:
                raise ExtractUnusable("a file of it cannot be read")
            return given(self, *args)

        monkeypatch.setattr(Extracts, "arrow", breaking)
        events = answers.fast.read()
        assert len(calls) == 3
        assert events.served.because == "a file of it cannot be read"
        assert events.table.equals(whole)
        calls.clear()
        assert b"".join(answers.fast.export_csv(EventQuery())) == b"".join(answers.raw.export_csv(EventQuery()))
        assert len(calls) == 3


def test_a_result_that_memory_cannot_hold_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_explore.store.files._MAX_READ_EVENTS", 10)
    with pytest.raises(QueryError, match=r"query: has [0-9,]+ events, more than 10; narrow it, or use store\.export"):
        store.read()


def test_a_leaderboard_query_is_a_value() -> None:
    query = LeaderboardQuery(window="last_month", metric="sum_quantity", top=3)
    assert LeaderboardQuery.from_params(query.query_string()) == query
    assert eval(repr(query), {"LeaderboardQuery": LeaderboardQuery, "datetime": datetime}) == query
    with pytest.raises(QueryError, match="bucket: unknown parameter"):
        LeaderboardQuery.from_params("bucket=day")


@pytest.mark.each_value
@pytest.mark.parametrize("layout", [None, (18, 18), (38, 38)], ids=["as it is chosen", "of 0.1.0", "38 decimals"])
@pytest.mark.parametrize("steps", [1, 2], ids=["one segment", "merged ones"])
def test_numbers_below_one_keep_their_zero_in_csv(
    events_database_url: str,
    events_connection: ddl.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: tuple[int, int] | None,
    steps: int,
) -> None:
    """DuckDB writes .25 for 0.25 of a DECIMAL(18, 18), and .000 for 0, of which nothing was left without its zeros."""
    if layout is not None:
        monkeypatch.setattr(segments, "_widths", lambda *_: layout)
    for step in range(steps):
        for number in ("0.005772223377393575", "-0.25", "0", "0.1", "-0.000000000000000001"):
            at = datetime(2026, 3, 1 + step, tzinfo=UTC)
            extracts.add(
                events_connection,
                at,
                quantity=Decimal(number).copy_negate(),
                external_cost_amount=Decimal(number),
                external_cost_currency="USD",
                ingested_at=datetime.now(UTC),
            )
        events_connection.commit()
        extracts.build(events_database_url, tmp_path)
    with connect(events_database_url, organization_id=extracts.ORGANIZATION, home=tmp_path) as fast:
        raw = dataclasses.replace(fast, extracts=None)
        text = b"".join(fast.export_csv(EventQuery()))
        assert fast.read(EventQuery()).served.because is None
        assert text == b"".join(raw.export_csv(EventQuery()))
    rows = csv.DictReader(io.StringIO(text.decode()))
    assert sorted({row["external_cost_amount"] for row in rows}) == [
        "-0.000000000000000001",
        "-0.25",
        "0",
        "0.005772223377393575",
        "0.1",
    ]
