"""Running totals and comparisons equal a plain-Python oracle on both paths, and their own laws hold."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from support import extracts, generated_events, query_oracle
from support.database_servers import fresh_database
from support.query_oracle import EXACT, Row
from usage_explore import AggregateQuery, Store, connect
from usage_explore.db import ddl

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


@pytest.mark.parametrize("seed", range(30))
def test_a_comparison_is_the_oracle_s(store: Store, own: list[Row], seed: int) -> None:
    query, chosen = drawn(random.Random(seed))
    check(store, query, own, chosen)


@pytest.mark.parametrize("seed", range(100, 130))
def test_the_extract_s_comparison_is_the_oracle_s(extract_store: Store, fitting: list[Row], seed: int) -> None:
    query, chosen = drawn(random.Random(seed))
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
