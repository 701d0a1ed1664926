"""Random histories of a table with an extract, and random queries about them, answered three ways."""

from __future__ import annotations

import csv
import dataclasses
import io
import random
import threading
import uuid
from collections import Counter
from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from support import generated_events, query_oracle
from support.query_oracle import Row, utc
from usage_explore import AggregateQuery, QueryError, connect
from usage_explore.db import ddl
from usage_explore.db.schema import COLUMNS, events_table
from usage_explore.extract import folder, refresh, watermark
from usage_explore.extract.connection import Resources
from usage_explore.load import load_files
from usage_explore.query.filters import CURRENCY

START = utc(2026, 10, 22)
"""When the first refresh of a history may be; its events occur from some days before to two weeks after."""

HOUR, DAY, INSTANT = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
ZONES = (*["UTC"] * 8, "Europe/Berlin", "America/Havana", "Asia/Kathmandu", "Australia/Lord_Howe")
TABLE = events_table()
WIDEST = Decimal("12345678901234567890.5")
"""Beside 15 decimal places of others, which 38 digits can hold."""

BOUNDS = ("ingested_after", "ingested_before", "quantity_min", "quantity_max")
TIMEOUT = timedelta(minutes=1)


class History:
    """A database whose clock, as far as `ingested_at` goes, is ours: every step moves it on, and events are added."""

    def __init__(self, url: str, seed: int, home: Path) -> None:
        self.draw = random.Random(seed)
        self.url, self.home = url, home
        self.connection = ddl.connect(url)
        self.clock = self.until = START
        self.rows: list[Row] = []
        self.steps: Counter[str] = Counter()
        source = folder.source(self.connection, url, TABLE)
        self.folder = source.folder(home, generated_events.ORGANIZATION)
        self.append(self.new(20))

    def close(self) -> None:
        self.connection.close()

    def step(self) -> None:
        """Something happens, mostly that events arrive and the extract is refreshed."""
        name = self.draw.choices(
            ["arrive", "advance", "backdate", "overlap", "race", "remove_oldest", "correct"], [6, 5, 3, 3, 1, 1, 2]
        )[0]
        self.steps[name] += 1
        getattr(self, name)()

    def refresh(self, until: datetime, connection: ddl.Connection | None = None) -> refresh.Report:
        """Refresh the extract up to a time of our clock."""
        target = refresh.Target(
            table=TABLE,
            organization_id=generated_events.ORGANIZATION,
            folder=self.folder,
            resources=Resources(memory=200_000_000, threads=1),
        )
        self.until = until
        return refresh.refresh(connection or self.connection, target, settle=timedelta(0), timeout=TIMEOUT, wait=30.0)

    def safe(self, *_: object) -> watermark.Safe:
        """What replaces `watermark.safe`, for this history's clock."""
        return watermark.Safe(until=self.until)

    def arrive(self) -> None:
        self.clock += self.draw.choice([timedelta(0), timedelta(minutes=7), HOUR, 30 * HOUR])
        self.append(self.new(self.draw.randint(5, 40)))

    def advance(self) -> None:
        self.clock += self.draw.choice([HOUR, 5 * HOUR, DAY, 3 * DAY])
        self.refresh(self.clock - self.draw.choice([timedelta(0), 2 * HOUR]))

    def backdate(self) -> None:
        """A file brings events that say they were ingested long ago; the extract takes them over at once or later."""
        made = [
            # a load writes currencies in capitals, and no text for an empty one
            dataclasses.replace(
                row,
                ingested_at=self.earlier(),
                external_cost_currency=(row.external_cost_currency or "").strip().upper() or None,
            )
            for row in self.new(self.draw.randint(1, 20))
        ]
        path = self.home / f"{uuid.uuid4().hex}.csv"
        path.write_text(_csv(made))
        (report,) = load_files(self.connection, TABLE, [path], home=self.home)
        assert report.loaded == len(made)
        self.rows += made
        if self.draw.random() < 0.5:
            self.refresh(self.clock)

    def overlap(self) -> None:
        """A transaction that began before a refresh, which stays behind it, commits after."""
        began = self.clock
        made = [dataclasses.replace(row, ingested_at=began + INSTANT) for row in self.new(8)]
        with ddl.connect(self.url) as other:
            _copy(other, made)
            self.clock += 3 * HOUR
            self.refresh(began)
            other.commit()
        self.rows += made

    def race(self) -> None:
        """Two refresh at once."""
        self.clock += 2 * DAY
        failures: list[BaseException] = []

        def run() -> None:
            try:
                with ddl.connect(self.url) as connection:
                    self.refresh(self.clock, connection)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures

    def remove_oldest(self) -> None:
        """A retention policy removes the oldest events; queries see that at once, the extract at its next refresh."""
        until = min(row.timestamp for row in self.rows) + self.draw.choice([HOUR, DAY])
        self.connection.execute("DELETE FROM usage_events WHERE timestamp < %s", [until])
        self.connection.commit()
        self.rows = [row for row in self.rows if row.timestamp >= until]
        if self.draw.random() < 0.5:
            self.refresh(self.clock)

    def correct(self) -> None:
        """Some recent events are deleted and others changed behind the watermark, which the next refresh sees."""
        recent = [row for row in self.rows if row.ingested_at > self.clock - 5 * DAY]
        chosen = self.draw.sample(recent, min(len(recent), 5))
        for index, row in enumerate(chosen):
            self.rows.remove(row)
            if index % 2:
                changed = dataclasses.replace(row, quantity=Decimal("1.5"))
                statement = "UPDATE usage_events SET quantity = 1.5 WHERE id = %s"
                self.rows.append(changed)
            else:
                statement = "DELETE FROM usage_events WHERE id = %s"
            self.connection.execute(statement, [row.id])
        self.connection.commit()
        self.refresh(self.clock)

    def new(self, number: int) -> list[Row]:
        """Events as they arrive now: mostly of the last days, some late, some stamped in the future, some twice."""
        made: list[Row] = []
        for _ in range(number):
            back = self.draw.choice([HOUR, DAY, DAY, 12 * DAY, -DAY])
            tick = (
                self.clock - timedelta(microseconds=self.draw.randrange(back // INSTANT))
                if back > timedelta(0)
                else (self.clock + timedelta(microseconds=self.draw.randrange(DAY // INSTANT)))
            )
            if self.draw.random() < 0.3:
                tick = self.edge(tick)
            row = generated_events._row(self.draw, tick)
            quantity = min(row.quantity, WIDEST)
            cost = {} if self.draw.random() < 0.3 else self.cost()
            made.append(dataclasses.replace(row, ingested_at=self.arrival(), quantity=quantity, **cost))
            if self.draw.random() < 0.1:
                made.append(dataclasses.replace(made[-1], id=uuid.UUID(int=self.draw.getrandbits(128))))
        return made

    def cost(self) -> dict[str, Any]:
        """A cost, now and then without a currency; or a currency without a cost."""
        amount = Decimal(self.draw.choice(["0.25", "3", "-1.5", "0", "0.000001", "19.99", "12345678901234.5"]))
        currency = self.draw.choice(["USD"] * 6 + ["EUR", "EUR", "usd", "USD ", "", None])
        return {
            "external_cost_amount": amount if self.draw.random() < 0.9 else None,
            "external_cost_currency": currency,
        }

    def append(self, made: list[Row]) -> None:
        generated_events.insert(self.connection, made)
        self.rows += made

    def arrival(self) -> datetime:
        """When something arrives that is written now: the clock never runs back."""
        return self.clock + self.draw.choice([timedelta(0), INSTANT, timedelta(minutes=59)])

    def earlier(self) -> datetime:
        """An instant in the past, often on the edge of a slot or beside it."""
        return self.edge(self.clock - timedelta(seconds=self.draw.randrange(12 * 86_400)))

    def edge(self, instant: datetime) -> datetime:
        return _floor(instant, self.draw.choice([INSTANT, HOUR, DAY])) + self.draw.choice(
            [timedelta(0), timedelta(0), INSTANT, -INSTANT]
        )

    def query(self) -> AggregateQuery:
        draw = self.draw
        bucket = draw.choice(["hour", "day", "day", "day", "week", "month"])
        since = self.edge(self.clock - timedelta(seconds=draw.randrange(12 * 86_400)))
        until = self.edge(since + draw.choice([2 * HOUR, DAY, 4 * DAY, 15 * DAY]) + timedelta(minutes=17))
        until = max(until, since + INSTANT)
        if draw.random() < 0.05:
            since, until = draw.choice([(utc(1980, 1, 1), utc(1980, 1, 3)), (utc(2150, 1, 1), utc(2150, 1, 2))])
        asked: dict[str, Any] = {
            "since": since,
            "until": until,
            "bucket": bucket,
            "timezone": draw.choice(ZONES),
            "metric": draw.choice(["count", "sum_quantity", "sum_cost", "unit_cost"]),
            "top": draw.choice([0, 1, 2, 8]),
            "group_by": draw.choice(
                ["none", "metric_key", "customer_id", "product_id", "dim:model", "dim:region", "external_cost_currency"]
            ),
            **draw.choice(
                [
                    {},
                    {"metric_key": tuple(draw.sample(generated_events.METRICS, 2))},
                    {"exclude": {"metric_key": ["Other"]}},
                ]
            ),
        }
        if draw.random() < 0.3:
            asked |= draw.choice(
                [
                    {"dimensions": {"model": draw.choice(["large", "Other", "", ["large", "Zebra"]])}},
                    {"customer_id": draw.choice(generated_events.CUSTOMERS)},
                    {"missing": ["product_id"]},
                    {"exclude": {"dim:model": ["large", "zebra"]}},
                    {"wallet_currency": ["EUR"]},
                ]
            )
        if draw.random() < 0.8 and asked["metric"] in ("sum_cost", "unit_cost"):
            asked |= draw.choice(
                [
                    *[{"external_cost_currency": ["USD"]}] * 4,
                    {"external_cost_currency": ["EUR", "USD"]},
                    {"missing": ["external_cost_currency"]},
                    {"external_cost_currency": [""]},
                    {"exclude": {"external_cost_currency": ["EUR", "usd", "USD ", ""], "missing": [CURRENCY]}},
                ]
            )
        if draw.random() < 0.4:
            asked |= self.own_values()
        if draw.random() < 0.4:
            known = draw.choice(self.rows).ingested_at + draw.choice([timedelta(0), -INSTANT])
            asked["as_of"] = draw.choice([known, self.edge(known), since, until])
        return AggregateQuery(**asked)

    def own_values(self) -> dict[str, Any]:
        """A filter on what is single events' own."""
        draw = self.draw
        some = [draw.choice(self.rows) for _ in range(draw.choice([1, 2, 60]))]
        least, most = sorted(
            draw.choice([*(row.quantity for row in some), Decimal("0.00000001"), Decimal("1e50")]) for _ in "ab"
        )
        arrived = sorted({self.edge(draw.choice(some).ingested_at) for _ in "ab"})
        return draw.choice(
            [
                {"id": [row.id for row in some]},
                {"idempotency_key": [row.idempotency_key for row in some]},
                {"exclude": {"id": [row.id for row in some]}},
                {"exclude": {"idempotency_key": [row.idempotency_key for row in some]}},
                {"quantity_min": least},
                {"quantity_max": most},
                {"quantity_min": least, "quantity_max": most},
                {"ingested_after": arrived[0]},
                {"ingested_before": arrived[-1]},
                {"ingested_after": arrived[0], "ingested_before": arrived[-1] + INSTANT},
            ]
        )


class Answers:
    """The store with its extract, the same without, and which path answered."""

    def __init__(self, url: str, home: Path) -> None:
        self.store = connect(url, home=home)
        self.fast = self.store.scoped(generated_events.ORGANIZATION)
        self.raw = dataclasses.replace(self.fast, extracts=None)
        self.paths: Counter[str] = Counter()
        self.refused = 0

    def close(self) -> None:
        self.store.close()

    def check(self, query: AggregateQuery, held: list[Row]) -> None:
        """All three agree to the last digit, or that costs in several currencies do not add up."""
        within = [row for row in matching(query, held) if query.span[0] <= row.timestamp < query.span[1]]
        found = query_oracle.currencies(within) if query.metric in ("sum_cost", "unit_cost") else set()
        if len(found) > 1 and (query.group_by != CURRENCY or folds_several(query, held, found)):
            self.refused += 1
            for store in (self.fast, self.raw):
                with pytest.raises(QueryError) as refused:
                    store.aggregate(query)
                (fault,) = refused.value.faults
                assert fault.parameter == ("top" if query.group_by == CURRENCY else CURRENCY)
                assert f"{len(found)} currencies" in fault.message or fault.parameter == "top"
            return
        fast, raw = self.fast.aggregate(query), self.raw.aggregate(query)
        assert set(fast.currencies) == set(raw.currencies) == found, query
        assert fast.total == raw.total, query
        if query.group_by == "none" or len(found) > 1:
            assert fast.total == (None if len(found) > 1 else fast.series[0].total)
        assert fast.served is not None
        assert raw.served is not None
        assert raw.served.path == "events"
        self.paths[fast.served.because or "extract"] += 1
        removed = fast.served.exists_since
        if removed or (query.since and query.until and fast.now < max(query.until, query.as_of or query.until)):
            assert _said(fast) == _said(raw), query
        else:
            assert fast.series == raw.series, query
        if removed:  # which the extract alone knows
            assert query.span[0] < removed
            first = min(row.timestamp for row in held if row.organization_id == generated_events.ORGANIZATION)
            assert removed >= first or removed.time() == time.min  # the end of the last removed event's day
        assert [_plain(series) for series in fast.series] == expected(query, held, fast.now, removed), query
        added = matching(query, held)
        if query.metric in ("sum_cost", "unit_cost"):
            added = [row for row in added if row.external_cost_amount is not None]
        assert fast.metrics == raw.metrics == query_oracle.metrics(added, *query.span), query


def folds_several(query: AggregateQuery, held: list[Row], found: set[str | None]) -> bool:
    """Whether Other would hold several of the currencies, of series ranked by cost."""
    series = expected(query, held, utc(2200, 1, 1))
    kept = {item["key"] for item in series if item["kind"] != "other"}
    return len(found - kept) > 1


def matching(query: AggregateQuery, held: list[Row]) -> list[Row]:
    """The rows that pass the question's filters and were known at its `as_of`, in any window."""
    known = query.as_of
    params = [
        (name, list(values))
        for name, values in [
            ("metric_key", query.metric_key),
            ("wallet_currency", query.wallet_currency),
            (CURRENCY, query.external_cost_currency),
            ("missing", query.missing),
            ("id", query.id),
            ("idempotency_key", query.idempotency_key),
            *((name, [str(getattr(query, name))]) for name in BOUNDS if getattr(query, name) is not None),
            ("customer_id", [str(query.customer_id)] if query.customer_id else []),
            *((f"dim:{key}", values) for key, values in query.dimensions),
            *((f"not:{name}", values) for name, values in query.exclude),
        ]
        if values
    ]
    passes = query_oracle.predicate(params)
    return [
        row
        for row in held
        if row.organization_id == generated_events.ORGANIZATION
        and (known is None or row.ingested_at <= known)
        and passes(row)
    ]


def expected(
    query: AggregateQuery, held: list[Row], now: datetime, removed: datetime | None = None
) -> list[dict[str, Any]]:
    """The oracle's answer, with `complete`, of which no bucket is that begins before `removed`."""
    since, until = query.span
    found = query_oracle.aggregate(
        matching(query, held),
        since=since,
        until=until,
        bucket=query.bucket,
        zone=ZoneInfo(query.timezone),
        metric=query.metric,
        group_by=query.group_by,
        top=query.top,
    )
    closed = min(now, query.as_of or now)
    for series in found:
        series["points"] = [
            (start, end, value, start >= max(since, removed or since) and end <= until and end <= closed)
            for start, end, value in series["points"]
        ]
    return found


def _plain(series: Any) -> dict[str, Any]:
    def number(value: Any) -> Decimal | None:
        return None if value is None else Decimal(value)

    points = [(point.start, point.end, number(point.value), point.complete) for point in series.points]
    return {"kind": series.kind, "key": series.key, "total": number(series.total), "points": points}


def _said(answer: Any) -> list[Any]:
    """An answer without `complete`, which time changes."""
    return [
        (s.kind, s.key, s.total, s.members, s.with_missing, [(p.start, p.end, p.value) for p in s.points])
        for s in answer.series
    ]


def _floor(instant: datetime, grain: timedelta) -> datetime:
    return instant - (instant - utc(1970, 1, 1)) % grain


def _copy(connection: ddl.Connection, made: list[Row]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY usage_events ({', '.join(COLUMNS)}) FROM STDIN") as copy:
        for row in made:
            copy.write_row([getattr(row, name) for name in COLUMNS])


def _csv(made: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in made:
        values = [getattr(row, name) for name in COLUMNS]
        writer.writerow(
            ["" if value is None else value.isoformat() if isinstance(value, datetime) else value for value in values]
        )
    return text.getvalue()
