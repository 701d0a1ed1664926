"""Running totals and comparisons equal a plain-Python oracle on both paths, and their own laws hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import extracts, generated_events, query_oracle
from support.database_servers import fresh_database
from support.query_oracle import EXACT, Row
from support.random_filters import filters, with_filters
from usage_explore import AggregateQuery, Store, connect
from usage_explore.db import ddl

ours = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
groups = st.sampled_from(["none", "dim:model", "customer_id", "metric_key", "product_id"])
DAY = timedelta(days=1)


@st.composite
def windows(draw: st.DrawFn) -> tuple[str, datetime, datetime]:
    """A scene's zone and a window around its odd instant, on a local midnight or anywhere."""
    zone, centre = draw(st.sampled_from(generated_events.SCENES))
    since = centre - timedelta(microseconds=draw(st.integers(0, 3 * 86_400_000_000)))
    if draw(st.booleans()):
        since = midnight(since, ZoneInfo(zone))
    return zone, since, since + timedelta(microseconds=draw(st.integers(1, 4 * 86_400_000_000)))


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


WIDEST = Decimal("12345678901234567890.5")
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


@st.composite
def queries(draw: st.DrawFn, filtered: dict[str, list[str]]) -> AggregateQuery:
    """Queries with a comparison."""
    zone, since, until = draw(windows())
    compare = draw(st.sampled_from(["previous", "pair"]))
    if compare == "pair":
        start = since + timedelta(seconds=draw(st.integers(-5 * 86_400, 5 * 86_400)))
        end = start + timedelta(seconds=draw(st.integers(1, 4 * 86_400)))
        compare = f"{start.isoformat()}/{end.isoformat()}"
    known = draw(st.one_of(st.none(), st.integers(-2 * 86_400, 6 * 86_400)))
    return with_filters(AggregateQuery, filtered).replace(
        since=since,
        until=until,
        timezone=zone,
        bucket=draw(st.sampled_from(["hour", "day", "week"])),
        metric=draw(st.sampled_from(["count", "sum_quantity"])),
        group_by=draw(groups),
        top=draw(st.integers(0, 3)),
        as_of=None if known is None else until + timedelta(seconds=known),
        compare=compare,
        cumulative=draw(st.booleans()),
    )


@ours
@given(data=st.data(), chosen=filters())
def test_a_comparison_is_the_oracle_s(store: Store, own: list[Row], data: st.DataObject, chosen: Any) -> None:
    check(store, data.draw(queries(chosen)), own, chosen)


@ours
@given(data=st.data(), chosen=filters())
def test_the_extract_s_comparison_is_the_oracle_s(
    extract_store: Store, fitting: list[Row], data: st.DataObject, chosen: Any
) -> None:
    query = data.draw(queries(chosen))
    check(extract_store, query, fitting, chosen)
    assert extract_store.aggregate(query).served.because is None


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
    if other >= before_until:
        now = {"edges": [], "keys": {}}
    kept = {(s.kind, s.key) for s in answer.series if s.kind != "other"}
    rest = [key for key in before["keys"] if key not in kept]
    kinds = [(s.kind, s.key) for s in answer.series]
    assert [(s.kind, s.key) for s in found.series] == kinds + [("other", None)] * (
        bool(rest) and ("other", None) not in kinds
    )
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
