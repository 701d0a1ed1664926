"""What the rollup keeps and what it costs, in words for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from psycopg import sql
from sqlalchemy import Table

from usage_explore.console import Justify, table
from usage_explore.db.catalog import table_size
from usage_explore.db.ddl import Connection
from usage_explore.formatting import size
from usage_explore.rollup.catalog import Entry, entries
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
