"""The status of the rollup in words, and its comparison with the events, a day of ingestion at a time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Table

from usage_explore.console import Justify, table
from usage_explore.db.catalog import table_size
from usage_explore.db.ddl import Connection
from usage_explore.formatting import size
from usage_explore.rollup import catalog
from usage_explore.rollup.catalog import COLUMNS, ROWS, Entry, Piece, entries, parameters
from usage_explore.sql.identifiers import identifier
from usage_explore.sql.rollup_plan import DAY, HOUR, SUMMARY, kept_table, rollup_table

FEW = 5
"""Organizations that are shown one by one; more are summed."""


_COLUMNS: tuple[tuple[str, Justify], ...] = (
    ("dimension", "left"),
    ("slots", "left"),
    ("chosen", "left"),
    ("rows", "right"),
    ("size", "right"),
    ("per event", "right"),
    ("", "left"),
)

SAMPLE = 10
"""Days of ingestion that are compared where not all are."""

KEPT = 100
"""Differences that are described; further ones are only counted."""

_TOGETHER = 7

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

_DAYS = """
SELECT DISTINCT greatest(date_bin('1 day', ingested, '1970-01-01'), '1970-01-01') FROM (
    SELECT e.ingested_at AS ingested FROM {events} e WHERE e.ingested_at < %(watermark)s
    UNION ALL SELECT r.ingested FROM {rollup} r WHERE r.ingested < %(watermark)s
) AS both_sides ORDER BY 1
"""

_COMPARE = """
WITH raw ({columns}) AS ({rows}), rolled AS (
    SELECT r.organization_id, r.dimension, r.value, r.metric_key, r.slot, r.ingested,
           sum(r.events) AS events, sum(r.quantity) AS quantity
    FROM {rollup} r JOIN unnest(%(owners)s::uuid[], %(dimensions)s::text[], %(since)s::timestamptz[],
                                %(until)s::timestamptz[]) AS p (organization_id, dimension, since, until)
      ON r.organization_id = p.organization_id AND r.dimension IN (p.dimension, {summary} || p.dimension)
     AND r.ingested >= p.since AND r.ingested < p.until
    GROUP BY 1, 2, 3, 4, 5, 6
)
SELECT coalesce(a.organization_id, b.organization_id), coalesce(a.dimension, b.dimension), coalesce(a.value, b.value),
       coalesce(a.metric_key, b.metric_key), coalesce(a.slot, b.slot)::text, coalesce(a.ingested, b.ingested)::text,
       coalesce(a.events, 0), coalesce(b.events, 0)::bigint, a.quantity, b.quantity, count(*) OVER ()
FROM raw a FULL JOIN rolled b
  ON a.organization_id = b.organization_id AND a.dimension = b.dimension AND a.metric_key = b.metric_key
 AND a.slot = b.slot AND a.ingested = b.ingested
 AND coalesce(a.value, '') = coalesce(b.value, '') AND (a.value IS NULL) = (b.value IS NULL)
WHERE a.events IS DISTINCT FROM b.events OR a.quantity IS DISTINCT FROM b.quantity
ORDER BY 1, 2, 6, 5, 3, 4 LIMIT %(most)s
"""

_ASTRAY = """
SELECT r.organization_id, r.dimension, r.value, r.metric_key, r.slot::text, r.ingested::text,
       0::bigint, r.events, NULL::numeric, r.quantity, count(*) OVER ()
FROM {rollup} r LEFT JOIN {kept} k
  ON k.organization_id = r.organization_id
 AND (r.dimension = k.dimension OR r.dimension = {summary} || k.dimension AND k.summary)
WHERE k.grain IS NULL OR k.watermark IS NULL OR r.ingested >= k.watermark
ORDER BY 1, 2, 6, 5, 3, 4 LIMIT %(most)s
"""
"""Rows of what is not kept, or from behind the watermark: none should be there."""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The catalogue with what it costs: `rows` by organization and dimension, `size` of all in bytes.

    `raw` is the size of the events with their indexes in bytes, None where the database does not say it.
    """

    entries: tuple[Entry, ...]
    rows: dict[tuple[UUID, str], int] = field(repr=False)
    size: int
    raw: int | None

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def overview(connection: Connection, events: Table) -> Overview:
    """Look at the rollup, which must be there. Counts its rows."""
    with connection.transaction():
        rows, kept = identifier(rollup_table(events)), identifier(kept_table(events))
        counted = connection.execute(
            sql.SQL("SELECT organization_id, dimension, count(*) FROM {} GROUP BY 1, 2").format(rows)
        ).fetchall()
        sizes = [table_size(connection, name) for name in (rows, kept, identifier(events))]
        return Overview(
            entries=tuple(entries(connection, events)),
            rows=_with_summaries(counted),
            size=sizes[0] + sizes[1],
            raw=sizes[2] or None,
        )


def _with_summaries(counted: Iterable[tuple[UUID, str, int]]) -> dict[tuple[UUID, str], int]:
    """The rows of each dimension, its summary's included."""
    rows: Counter[tuple[UUID, str]] = Counter()
    for owner, dimension, number in counted:
        rows[owner, dimension.removeprefix(SUMMARY)] += number
    return rows


def _lines(found: Overview) -> Iterator[str]:
    if not found.entries:
        yield "The rollup is empty: there are no events yet."
        return
    total = sum(found.rows.values())
    each = found.size / total if total else 0.0
    owners = sorted({entry.organization_id for entry in found.entries})
    for owner in owners if len(owners) <= FEW else ():
        yield f"Organization {owner}"
        yield from _table(
            (entry.dimension, _grain(entry.grain), _who(entry), rows, size(rows * each), _share(entry), _why(entry))
            for entry in found.entries
            if entry.organization_id == owner
            for rows in (found.rows.get((owner, entry.dimension), 0),)
        )
    if len(owners) > FEW:
        yield f"{len(owners):,} organizations"
        yield from _table(_summed(found, each))
    marks = {entry.watermark for entry in found.entries if entry.grain is not None}
    part = f", {found.size / found.raw:.1%} of the events'" if found.raw else ""
    yield f"{total:,} rows, {size(found.size)}{part}. {_reach(marks)}"


def _summed(found: Overview, each: float) -> Iterator[tuple[object, ...]]:
    for dimension in sorted({entry.dimension for entry in found.entries}):
        same = [entry for entry in found.entries if entry.dimension == dimension]
        grains = [_grain(entry.grain) for entry in same]
        kept = ", ".join(f"{grain} in {grains.count(grain):,}" for grain in sorted(set(grains)))
        rows = sum(found.rows.get((entry.organization_id, dimension), 0) for entry in same)
        shares = [entry.share for entry in same if entry.share is not None]
        share = f"{sum(shares) / len(shares):.3f}" if shares else ""
        reasons = sorted({_why(entry) for entry in same if entry.reason})
        more = f" (and {len(reasons) - 1:,} more reasons)" if len(reasons) > 1 else ""
        hands = {_who(entry) for entry in same}
        yield (
            dimension,
            kept,
            "/".join(sorted(hands)),
            rows,
            size(rows * each),
            share,
            reasons[0] + more if reasons else "",
        )


def _table(rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    yield from (f"  {line}" for line in table(_COLUMNS, texts))


def _reach(marks: set[datetime | None]) -> str:
    known = sorted(mark for mark in marks if mark is not None)
    if not known:
        return "Nothing is counted ahead yet."
    reach = f"Counted ahead: what was ingested before {known[-1]:%Y-%m-%d %H:%M} UTC"
    return f"{reach}; some dimensions are behind." if len(marks) > 1 else f"{reach}."


def _grain(grain: timedelta | None) -> str:
    return {None: "-", HOUR: "hour", DAY: "day"}.get(grain, "15m")


def _who(entry: Entry) -> str:
    return "by hand" if entry.by_hand else "measured"


def _share(entry: Entry) -> str:
    return "" if entry.share is None else f"{entry.share:.3f}"


def _why(entry: Entry) -> str:
    return f"left out: {entry.reason}" if entry.grain is None and entry.reason else ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key whose rows say something else than its events: `slot` and `ingested` as the database writes times."""

    organization_id: UUID
    dimension: str
    value: str | None
    metric_key: str
    slot: str
    ingested: str
    events: int
    rollup_events: int
    quantity: Decimal | None
    rollup_quantity: Decimal | None

    def __str__(self) -> str:
        value = "" if self.value is None else f" = {self.value!r}"
        return (
            f"{self.organization_id}  {self.dimension}{value}, metric {self.metric_key!r}, slot {self.slot}, ingested"
            f" {self.ingested}: {self.events:,} events with {_number(self.quantity)}, the rollup says"
            f" {self.rollup_events:,} with {_number(self.rollup_quantity)}"
        )


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a comparison found: `compared` of `days` days of ingestion, `differing` keys, the first `KEPT` of them."""

    days: int
    compared: int
    differing: int
    differences: tuple[Difference, ...] = field(repr=False)


def verify(
    connection: Connection,
    events: Table,
    *,
    sample: int | None = SAMPLE,
    draw: random.Random | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Verified:
    """Compare the rollup with the events: a random `sample` of the days of ingestion that have any, None for all.

    Each part is compared in one snapshot, so it may go on beside refreshes and writers. What was ingested at the
    watermark or later is not in the rollup, and not compared. `progress` is called with the parts done and all. The
    connection must not be in a transaction. There must be a rollup.
    """
    with _snapshot(connection):
        events = catalog.placed(connection, events)
        entries = catalog.entries(connection, events)
        watermark = max((entry.watermark for entry in entries if entry.kept and entry.watermark), default=None)
        days = _days(connection, events, watermark) if watermark else []
        found, differing = _asked(connection, _ASTRAY, events, {})
    chosen = days if sample is None else sorted((draw or random.Random()).sample(days, min(sample, len(days))))  # noqa: S311
    ranges = _ranges(chosen, _TOGETHER if sample is None else 1)
    for number, (since, until) in enumerate(ranges):
        if progress:
            progress(number, len(ranges))
        with _snapshot(connection):
            pieces = list(_pieces(catalog.entries(connection, events), since, until))
            if pieces:
                more, differ = _asked(connection, _COMPARE, events, parameters(pieces))
                found += more
                differing += differ
    if progress:
        progress(len(ranges), len(ranges))
    return Verified(days=len(days), compared=len(chosen), differing=differing, differences=tuple(found[:KEPT]))


@contextmanager
def _snapshot(connection: Connection) -> Iterator[None]:
    before, connection.isolation_level = connection.isolation_level, psycopg.IsolationLevel.REPEATABLE_READ
    try:
        with connection.transaction():
            yield
    finally:
        if not connection.closed:
            connection.isolation_level = before


def _ranges(days: Sequence[datetime], together: int) -> list[tuple[datetime, datetime]]:
    """The days, some at a time where all are compared: each look at the rollup reads its whole index."""
    parts = [days[place : place + together] for place in range(0, len(days), together)]
    return [(part[0], part[-1] + DAY) for part in parts]


def _days(connection: Connection, events: Table, watermark: datetime) -> list[datetime]:
    statement = sql.SQL(_DAYS).format(events=identifier(events), rollup=identifier(rollup_table(events)))
    return [day for (day,) in connection.execute(statement, {"watermark": watermark})]


def _pieces(entries: Sequence[catalog.Entry], since: datetime, until: datetime) -> Iterator[Piece]:
    """What each kept dimension holds of some days of ingestion; the first day is all before it, too."""
    for entry in entries:
        if (kept := entry.kept) and since < kept.watermark:
            yield Piece(
                entry.organization_id,
                kept.dimension,
                kept.grain,
                None if since == _BEGINNING else since,
                min(until, kept.watermark),
                kept.days_until,
                kept.summary,
            )


def _asked(
    connection: Connection, statement: LiteralString, events: Table, values: dict[str, Any]
) -> tuple[list[Difference], int]:
    composed = sql.SQL(statement).format(
        columns=COLUMNS,
        rows=sql.SQL(ROWS).format(events=identifier(events)),
        rollup=identifier(rollup_table(events)),
        kept=identifier(kept_table(events)),
        summary=sql.Literal(SUMMARY),
    )
    rows = connection.execute(composed, {**values, "most": KEPT}).fetchall()
    return [Difference(*row[:-1]) for row in rows], rows[0][-1] if rows else 0


def _number(quantity: Decimal | None) -> str:
    return "nothing" if quantity is None else format(quantity, "f")
