"""Running totals and comparisons equal a plain-Python oracle on both paths, and their own laws hold."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from pyarrow import parquet

from support import extracts, generated_events, query_oracle
from support.database_servers import fresh_database
from support.query_oracle import EXACT, Row, utc
from support.thoroughness import seeds
from usage_explore import AggregateQuery, QueryError, Store, charts, connect, describe
from usage_explore.answers import Aggregate
from usage_explore.charts import labels
from usage_explore.db import ddl
from usage_explore.results import frames
from usage_explore.results.types import Change, Comparison

DAY = timedelta(days=1)


def midnight(instant: datetime, zone: ZoneInfo) -> datetime:
    """The first instant of the local day, from the oracle's walk through time."""
    return query_oracle.edges(instant, instant + timedelta(microseconds=1), "day", zone)[0]


def running(values: list[Decimal]) -> list[Decimal]:
    """Each value plus all before it."""
    total, result = Decimal(0), []
    for value in values:
        total = EXACT.add(total, value)
        result.append(total)
    return result


def oracle(rows: list[Row], query: AggregateQuery, since: datetime, until: datetime) -> dict[str, Any]:
    """Every key's total and values in a window, running if the query is cumulative, and the edges."""
    if since >= until:
        return {"edges": [], "keys": {}}
    zone = ZoneInfo(query.timezone)
    found = query_oracle.aggregate(
        rows,
        since=since,
        until=until,
        bucket=query.bucket,
        zone=zone,
        metric=query.metric,
        group_by=query.group_by,
        top=0,
    )
    keys = {
        (series["kind"], series["key"]): (series["total"], [value for _, _, value in series["points"]])
        for series in found
    }
    if query.cumulative:
        keys = {key: (total, running(values)) for key, (total, values) in keys.items()}
    return {"edges": query_oracle.edges(since, until, query.bucket, zone), "keys": keys}


def of_series(side: dict[str, Any], series: Any, kept: set[Any]) -> tuple[Decimal, list[Decimal]]:
    """The total and values of one series of the answer: Other is what is not kept."""
    size = len(side["edges"]) - 1
    chosen = [
        entry
        for key, entry in side["keys"].items()
        if (key not in kept if series.kind == "other" else key == (series.kind, series.key))
    ]
    total, values = Decimal(0), [Decimal(0)] * max(size, 0)
    for entry in chosen:
        total = EXACT.add(total, entry[0])
        values = [EXACT.add(*pair) for pair in zip(values, entry[1], strict=True)]
    return total, values


def earlier_window(query: AggregateQuery, closed: datetime) -> tuple[datetime, datetime, datetime]:
    """(since, until) of the other period, and the end of what is compared, for windows shorter than a month."""
    since, until = query.span
    zone = ZoneInfo(query.timezone)
    end = until
    if query.compare == "previous":
        first = midnight(since, zone)
        if since == first:
            edges = query_oracle.edges(since, until, "day", zone)
            before = query_oracle.edges(since - (len(edges) + 2) * DAY, since, "day", zone)
            other, other_until, end = before[-len(edges)], since, edges[-1]
        else:
            other, other_until = since - (until - since), since
    else:
        other, other_until = (query_oracle_time(edge) for edge in str(query.compare).split("/"))
    now_until, before_until = min(until, closed), min(other_until, closed)
    if now_until < end or before_until < other_until:
        elapsed = max(min(now_until - since, before_until - other), timedelta(0))
        now_until, before_until = since + elapsed, other + elapsed
    return other, before_until, now_until


def query_oracle_time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


WIDEST = Decimal("1234567890.5")
"""The largest quantity that an extract can hold beside the smallest generated ones."""


@pytest.fixture(scope="module")
def fitting(own: list[Row]) -> list[Row]:
    """The generated rows with quantities that fit an extract."""
    return [dataclasses.replace(row, quantity=min(row.quantity, WIDEST)) for row in own]


@pytest.fixture(scope="module")
def extract_store(
    server_url: str, _template: str, fitting: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store with an extract of half of the rows, the others in its tail."""
    arrivals = sorted(row.ingested_at for row in fitting)
    with fresh_database(server_url, _template) as url:
        with ddl.connect(url) as connection:
            generated_events.insert(connection, fitting)
        home = tmp_path_factory.mktemp("extract")
        extracts.build(url, home, until=arrivals[len(arrivals) // 2])
        with connect(url, home=home) as opened:
            yield opened


FILTERS: tuple[dict[str, list[str]], ...] = (
    {},
    {},
    {"dim:model": ["large", "Other", ""]},
    {"not:dim:model": ["large"]},
    {"missing": ["product_id"]},
    {"wallet_currency": ["EUR"]},
)


def drawn(draw: random.Random) -> tuple[AggregateQuery, dict[str, list[str]]]:
    """A query with a comparison, around an odd instant of a zone's clock, and its filters."""
    zone, centre = draw.choice(generated_events.SCENES)
    since = centre - timedelta(microseconds=draw.randrange(3 * 86_400_000_000))
    if draw.random() < 0.5:
        since = midnight(since, ZoneInfo(zone))
    until = since + timedelta(microseconds=draw.randint(1, 4 * 86_400_000_000))
    compare = "previous"
    if draw.random() < 0.5:
        start = since + timedelta(seconds=draw.randint(-5 * 86_400, 5 * 86_400))
        compare = f"{start.isoformat()}/{(start + timedelta(seconds=draw.randint(1, 4 * 86_400))).isoformat()}"
    chosen = draw.choice(FILTERS)
    query = AggregateQuery.from_params([(name, value) for name, values in chosen.items() for value in values]).replace(
        since=since,
        until=until,
        timezone=zone,
        bucket=draw.choice(["hour", "day", "week"]),
        metric=draw.choice(["count", "sum_quantity"]),
        group_by=draw.choice(["none", "dim:model", "customer_id", "metric_key", "product_id"]),
        top=draw.randint(0, 3),
        as_of=draw.choice([None, until + timedelta(seconds=draw.randint(-2 * 86_400, 6 * 86_400))]),
        compare=compare,
        cumulative=draw.choice([False, True]),
    )
    return query, chosen


@pytest.mark.parametrize("seed", seeds(range(30)))
def test_a_comparison_is_the_oracle_s(store: Store, own: list[Row], seed: int) -> None:
    query, chosen = drawn(random.Random(seed))
    check(store, query, own, chosen)


@pytest.mark.parametrize("seed", seeds(range(100, 130)))
def test_the_extract_s_comparison_is_the_oracle_s(extract_store: Store, fitting: list[Row], seed: int) -> None:
    query, chosen = drawn(random.Random(seed))
    check(extract_store, query, fitting, chosen)
    assert extract_store.aggregate(query).served.because is None


@pytest.mark.parametrize("top", range(7))
def test_a_window_is_no_different_from_itself(store: Store, extract_store: Store, top: int) -> None:
    """Whichever values are kept or folded, among them the missing one and the empty text."""
    since, until = utc(2026, 3, 1), utc(2026, 4, 15)
    query = AggregateQuery(since=since, until=until, bucket="week", top=top, compare=(since, until))
    for group in ("dim:model", "dim:region", "wallet_currency"):
        for metric in ("count", "sum_quantity"):
            for one in (store, extract_store):
                answer, found = compared(one, **query.replace(group_by=group, metric=metric).given())
                assert [(item.kind, item.key) for item in found.series] == [
                    (item.kind, item.key) for item in answer.series
                ]
                for series, change in zip(answer.series, found.series, strict=True):
                    assert (change.now, change.before) == (series.total, series.total)
                    assert [point and point.before for point in change.points] == [p.value for p in series.points]


def check(store: Store, query: AggregateQuery, own: list[Row], chosen: dict[str, list[str]]) -> None:
    """The answer and its comparison agree with the oracle, to the last digit."""
    answer = store.aggregate(query)
    plain = store.aggregate(query.replace(cumulative=None, compare=None))
    assert [(s.kind, s.key, s.total) for s in answer.series] == [(s.kind, s.key, s.total) for s in plain.series]
    for series, bare in zip(answer.series, plain.series, strict=True):
        values = [Decimal(point.value) for point in bare.points]
        assert [point.value for point in series.points] == (running(values) if query.cumulative else values)
        assert [point.complete for point in series.points] == [point.complete for point in bare.points]
    found = answer.comparison
    assert found is not None
    visible = [row for row in own if query.as_of is None or row.ingested_at <= query.as_of]
    passes = query_oracle.predicate(chosen.items())
    rows = [row for row in visible if passes(row)]
    first = min((row.timestamp for row in visible), default=None)
    closed = answer.closed_until
    other, before_until, now_until = earlier_window(answer.query, closed)
    assert (found.since, found.until, found.now_until) == (other, before_until, now_until)
    assert found.partial == (first is None or other < first)
    now, before = oracle(rows, query, query.span[0], now_until), oracle(rows, query, other, before_until)
    kept = {(s.kind, s.key) for s in answer.series if s.kind != "other"}
    rest = [key for key in before["keys"] if key not in kept]
    kinds = [(s.kind, s.key) for s in answer.series]
    assert [(s.kind, s.key) for s in found.series] == kinds + [("other", None)] * (
        bool(rest) and ("other", None) not in kinds
    )
    if first is None or max(other, first) >= before_until:  # not begun, or before all that is known
        assert found.total == Change(None, None)
        assert {(series.now, series.before, *series.points) for series in found.series} <= {
            (None, None, *[None] * (len(answer.edges) - 1))
        }
        return
    for series in found.series:
        now_total, now_values = of_series(now, series, kept)
        total, values = of_series(before, series, kept)
        assert (series.now, series.before) == (now_total, total)
        assert series.absolute == EXACT.subtract(now_total, total)
        assert (series.ratio is None) == (total == 0)
        assert len(series.points) == len(answer.edges) - 1
        for index, point in enumerate(series.points):
            end = before["edges"][index + 1] if index < len(values) else None
            if index >= len(now_values) or end is None or first is None or end <= first:
                assert point is None
                continue
            assert point is not None
            assert (point.start, point.end) == (before["edges"][index], end)
            assert (point.now, point.before) == (now_values[index], values[index])
            assert point.complete == (point.start >= max(other, first) and point.end <= before_until)
    everything = sum_of(entry[0] for entry in before["keys"].values())
    assert found.total.before == everything == sum_of(Decimal(series.before) for series in found.series)


def sum_of(values: Any) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, value)
    return total


@pytest.fixture
def hourly(events_database_url: str, events_connection: ddl.Connection, own: list[Row]) -> Iterator[Store]:
    """One event every hour from 10 January 2025 12:00 to 1 June 2026, quantity 1, known when it occurred."""
    start = utc(2025, 1, 10, 12)
    instants = [start + timedelta(hours=number) for number in range((utc(2026, 6, 1) - start) // timedelta(hours=1))]
    changes = {"metric_key": "a", "dimensions": "{}", "quantity": Decimal(1)}
    events = [
        dataclasses.replace(own[0], id=uuid4(), timestamp=instant, ingested_at=instant, **changes)
        for instant in instants
    ]
    generated_events.insert(events_connection, events)
    with connect(events_database_url) as opened:
        yield opened


def compared(store: Store, **parameters: Any) -> tuple[Aggregate, Comparison]:
    """An answer and its comparison."""
    answer = store.aggregate(AggregateQuery(**parameters))
    assert answer.comparison is not None
    return answer, answer.comparison


@pytest.mark.parametrize(
    ("timezone", "window", "compare", "other"),
    [
        # whole months: the calendar month before, and that of the year before, the longer one first
        ("UTC", ("2026-03-01", "2026-04-01"), "previous", ("2026-02-01", "2026-03-01")),
        ("Europe/Berlin", ("2026-03-01", "2026-04-01"), "year", ("2025-03-01", "2025-04-01")),
        ("UTC", ("2026-02-01", "2026-03-01"), "year", ("2025-02-01", "2025-03-01")),
        # a quarter: as many months before
        ("Europe/Berlin", ("2026-04-01", "2026-07-01"), "previous", ("2026-01-01", "2026-04-01")),
        ("UTC", ("2026-01-01", "2026-04-01"), "year", ("2025-01-01", "2025-04-01")),
        # days: a Monday is compared with a Monday
        ("Europe/Berlin", ("2026-03-23", "2026-03-30"), "previous", ("2026-03-16", "2026-03-23")),
        ("Europe/Berlin", ("2026-03-23", "2026-03-30"), "year", ("2025-03-24", "2025-03-31")),
        # the night in which Havana's clock shows midnight twice
        ("America/Havana", ("2025-11-01", "2025-11-03"), "previous", ("2025-10-30", "2025-11-01")),
    ],
)
def test_the_other_period_follows_the_zone_s_calendar(
    hourly: Store, timezone: str, window: tuple[str, str], compare: str, other: tuple[str, str]
) -> None:
    _, found = compared(
        hourly, since=window[0], until=window[1], timezone=timezone, compare=compare, as_of=utc(2026, 12, 1)
    )
    zone = ZoneInfo(timezone)
    named = AggregateQuery(since=other[0], until=other[1], timezone=timezone).span
    assert (found.since.astimezone(zone), found.until.astimezone(zone)) == named
    assert found.total.before == hourly.aggregate(AggregateQuery(since=named[0], until=named[1])).total


def test_a_longer_month_has_days_without_a_counterpart(hourly: Store) -> None:
    answer, found = compared(hourly, since="2026-03-01", until="2026-04-01", compare="previous")
    (series,) = found.series
    assert [point is None for point in series.points] == [False] * 28 + [True] * 3
    assert (series.now, series.before, found.total.absolute) == (31 * 24, 28 * 24, 3 * 24)
    frame = answer.frame
    assert list(frame.columns[-3:]) == ["earlier_start", "earlier", "change"]
    assert [str(frame[name].dtype) for name in frame.columns[-3:]] == ["datetime64[us, UTC]", "Int64", "Int64"]
    assert frame["earlier"].isna().tolist() == [False] * 28 + [True] * 3
    lines = frames.to_csv(answer).decode().splitlines()
    assert lines[1].endswith(',24,"2026-02-01T00:00:00+00:00",24,0') or lines[1].endswith(
        ',"24","2026-02-01T00:00:00+00:00","24","0"'
    )
    assert lines[-1].endswith(",,,")
    table = parquet.read_table(io.BytesIO(frames.to_parquet(answer)))
    assert table.column("earlier").to_pylist() == [24] * 28 + [None] * 3


def test_month_to_date_is_compared_with_as_much_of_the_month_before(hourly: Store) -> None:
    known = utc(2026, 3, 11, 11, 30)
    answer, found = compared(
        hourly, since="2026-03-01", until="2026-04-01", as_of=known, compare="previous", cumulative=True
    )
    (series,), (change,) = answer.series, found.series
    assert (found.since, found.until, found.now_until) == (utc(2026, 2, 1), utc(2026, 2, 11, 11, 30), known)
    assert [point.value for point in series.points] == [min(24 * day, 252) for day in range(1, 32)]
    assert series.total == 252
    assert [point and (point.now, point.before) for point in change.points] == [
        (min(24 * day, 252),) * 2 if day <= 11 else None for day in range(1, 32)
    ]
    assert change.points[10] is not None
    assert not change.points[10].complete
    assert found.label == "vs February 2026, each up to 10 days 11 hours in"
    # on the chart a running total ends with the last bucket that has begun
    assert [labels.has_not_begun(answer, index, 252) for index in range(31)] == [False] * 11 + [True] * 20


def test_a_month_beyond_the_end_of_the_one_before_is_cut(hourly: Store) -> None:
    _, found = compared(
        hourly, since="2026-03-01", until="2026-04-01", as_of=utc(2026, 3, 31, 5), compare="previous", bucket="week"
    )
    assert (found.until, found.now_until) == (utc(2026, 3, 1), utc(2026, 3, 29))
    assert found.total == Change(28 * 24, 28 * 24)
    # the week of the cut: both values are those before it
    assert sum(point.now for point in found.series[0].points if point) == 28 * 24


def test_a_period_before_the_first_event_is_partial_and_its_buckets_are_absent(hourly: Store) -> None:
    answer, found = compared(hourly, since="2025-01-13", until="2025-01-17", compare="previous")
    assert found.partial
    assert found.first_event == utc(2025, 1, 10, 12)
    assert found.label == "vs the 4 days before (partial: events begin on 10 Jan 2025 12:00)"
    assert [point and point.before for point in found.series[0].points] == [None, 12, 24, 24]
    assert [point and point.complete for point in found.series[0].points] == [None, False, True, True]
    body = answer.to_dict()["comparison"]
    assert body["partial"] is True
    assert body["series"][0]["points"][0] is None
    assert body["series"][0]["points"][1]["change"] == 12
    assert body["series"][0]["points"][1]["change_ratio"] == "1"
    _, whole = compared(hourly, since="2025-01-15", until="2025-01-17", compare="previous")
    assert not whole.partial
    # what was known then decides
    _, known = compared(hourly, since="2025-01-15", until="2025-01-17", compare="previous", as_of=utc(2025, 1, 10, 11))
    assert known.partial
    assert known.first_event is None
    assert known.total == Change(None, None)


def test_a_period_wholly_before_the_first_event_has_no_numbers(hourly: Store) -> None:
    answer, found = compared(hourly, window="2025-01", bucket="month", compare="previous", group_by="metric_key")
    assert answer.total > 0
    assert found.partial
    assert found.total == Change(None, None)
    assert [(series.now, series.before, series.points) for series in found.series] == [(None, None, (None,))]
    assert found.total.absolute is None


def test_a_window_that_has_not_begun_has_nothing_to_compare(hourly: Store) -> None:
    _, found = compared(
        hourly, since="2150-01-01", until="2150-02-01", compare="2026-01-01T00:00:00Z/2026-02-01T00:00:00Z"
    )
    assert not found.has_begun
    assert found.total == Change(None, None)
    assert {(series.now, series.before) for series in found.series} == {(None, None)}
    assert {point for series in found.series for point in series.points} == {None}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"since": "1970-01-02", "until": "1970-01-05", "compare": "previous"}, "compare: reaches before 1970-01-01"),
        (
            {"since": "2026-01-02", "until": "2026-01-05", "bucket": "hour"}
            | {"compare": "2025-01-01T00:00:00Z/2026-01-01T00:00:00Z"},
            "compare: covers more than 2,400 hours; shorten it, or use a larger bucket",
        ),
    ],
)
def test_a_period_that_cannot_be_compared_is_an_error(hourly: Store, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        hourly.aggregate(AggregateQuery(**parameters))


def test_the_rows_behind_a_running_total_begin_with_the_window(store: Store) -> None:
    since, until = utc(2026, 3, 27, 5), utc(2026, 3, 31, 7)
    query = AggregateQuery(
        since=since, until=until, timezone="Europe/Berlin", cumulative=True, group_by="dim:model", top=2
    )
    answer = store.aggregate(query)
    assert [series.kind for series in answer.series][-1] == "other"
    for series in answer.series:
        for point in series.points:
            behind = answer.events_at(series, point.start, point.end)
            assert store.count(behind) == point.value
            assert (behind.occurred_after, behind.occurred_before) == (since, min(point.end, until))


def test_the_parameters_are_the_same_in_links_and_python() -> None:
    query = AggregateQuery(cumulative=True, compare=(utc(2026, 1, 1), utc(2026, 2, 1)))
    assert query.compare == "2026-01-01T00:00:00Z/2026-02-01T00:00:00Z"
    assert AggregateQuery.from_params(query.query_string()) == query
    assert AggregateQuery.from_params("cumulative=false&compare=year").compare == "year"
    assert describe(query) == ("Running total of events per day, last 30 days, UTC, compared with 1–31 Jan 2026")
    for value, message in (
        ("yesterday", "is not one of previous, year"),
        ("2026-01-01T00:00:00Z/", "is blank"),
        ("2026-02-01T00:00:00Z/2026-01-01T00:00:00Z", "has a since that is not before its until"),
        ("2026-01-01/2026-02-01", "is not RFC 3339"),
        (("a", "b", "c"), "is not previous, year or two times"),
        (7, "is not previous, year or two times"),
    ):
        with pytest.raises(QueryError, match=f"^compare: .*{message}"):
            AggregateQuery(compare=value)
    with pytest.raises(QueryError, match=r"^cumulative: 'yes' is not one of true, false"):
        AggregateQuery(cumulative="yes")


@pytest.mark.parametrize("kind", ["bars", "lines", "area"])
def test_the_chart_has_the_other_period_as_a_thin_line(hourly: Store, kind: Any, validated_charts: None) -> None:
    answer, _ = compared(hourly, since="2026-03-01", until="2026-04-01", compare="previous")
    spec = answer.chart(kind=kind).to_dict()
    (line, *_) = [layer for layer in spec["layer"] if layer.get("data", {}).get("name") == "earlier"]
    rows = json.loads(line["data"]["values"])
    edges = [round(edge.timestamp() * 1000) for edge in answer.edges]
    if kind == "bars":
        assert {row["middle"] for row in rows} == set(edges[:29])
    else:
        assert [row["middle"] for row in rows] == [sum(pair) // 2 for pair in itertools.pairwise(edges[:29])]
    assert {row["high"] for row in rows} == {24.0}
    assert "Thin line: February 2026." in " ".join(spec["title"]["subtitle"])
    assert "vs February 2026: 672 before, +72 (+10.7 %)" in spec["description"]
    (bands,) = [layer for layer in spec["layer"] if layer.get("data", {}).get("name") == "buckets"]
    first, *_, last = json.loads(bands["data"]["values"])
    assert first["before_when"] == "Sun 1 Feb 2026, UTC"
    assert first["change"] == "24 before, 0 (0 %)"
    assert last["before_when"] == "no counterpart"
    assert charts.image(answer.chart(kind=kind, interactive=False), "svg")
    running = hourly.aggregate(answer.query.replace(cumulative=True)).chart(kind=kind).to_dict()
    assert any("running total" in str(layer["encoding"].get("y", {})) for layer in running["layer"])
