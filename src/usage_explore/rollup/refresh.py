"""Bring the rollup up to the watermark, a piece at a time; each piece is a transaction, so it can stop anywhere.

Several may run at once: they take turns, and each goes on where the rows are then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.db.engine import server_message
from usage_explore.errors import TableMismatch
from usage_explore.rollup import watermark
from usage_explore.rollup.catalog import (
    UNFIT,
    Entry,
    Piece,
    choose,
    empty,
    entries,
    fill,
    lock,
    merge,
    parameters,
    piece_of,
)
from usage_explore.sql.identifiers import identifier
from usage_explore.sql.rollup_plan import DAY, HOUR, INSTANT, floor, kept_table, rollup_table

Progress = Callable[[datetime, datetime, datetime], object]
"""Called with where a step began, how far the rows reach then, and how far they shall."""

_FIRST_STEP = DAY
_LONGEST_STEP = 64 * DAY
_QUICK, _SLOW, _TOO_SLOW = 2.0, 8.0, 60.0
"""Seconds of a step: the next one is longer, shorter, and shorter even than a day. A day that is read by the hour is
written hour by hour and merged afterwards, which trebles the work and leaves the index half empty."""
_MANY = 20_000

BY_THE_HOUR = 8 * DAY
"""How long the time of ingestion is kept by the hour, then by the day: late events come with many hours, so this makes
the rows a third as many. Dimensions kept by the day merge each day as soon as it is over."""
_UNFIT = (psycopg.errors.ProgramLimitExceeded, psycopg.errors.DataError)
"""What the events may hold and the rollup cannot: values too long for its index, sums and times out of range."""


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """What a refresh did: `rows` rows were added in `steps` steps, up to `watermark`."""

    rows: int
    steps: int
    watermark: datetime


def advance(connection: Connection, events: Table, target: datetime, progress: Progress | None = None) -> Refreshed:
    """Add what was ingested before `target`, which is cut to the hour, to every kept dimension."""
    target = floor(target, HOUR)
    step, rows, steps = _FIRST_STEP, 0, 0
    while True:
        began = time.monotonic()
        with connection.transaction():
            lock(connection, events)
            done = _step(connection, events, target, step)
        if done is None:
            break
        from_, reached, added = done
        rows, steps = rows + added, steps + 1
        if progress:
            progress(from_, reached, target)
        step = _paced(step, time.monotonic() - began)
    if rows >= _MANY:
        _settle_pages(connection, events)
    return Refreshed(rows=rows, steps=steps, watermark=target)


def renew(
    connection: Connection,
    events: Table,
    since: datetime | None,
    until: datetime | None,
    progress: Progress | None = None,
) -> int:
    """Make the rows of what was ingested in `[since, until)` anew, for every organization; the rows written.

    None is the beginning, and the watermark. It can stop anywhere: each piece is a transaction. Raises `TableMismatch`
    where the role may not see every event.
    """
    with connection.transaction():
        watermark.check_visible(connection, events)
        kept = [entry for entry in entries(connection, events) if entry.kept]
        last = max((entry.watermark for entry in kept if entry.watermark), default=None)
        if last is None:
            return 0
        end = min(until or last, last)
        first = since or _first(connection, events, end)
    rows, step, reached = 0, DAY, since
    while reached is None or reached < end:
        began, start = time.monotonic(), reached or first
        following = min(floor(start, DAY) + step, end)
        with connection.transaction():
            lock(connection, events)
            owners = sorted({entry.organization_id for entry in entries(connection, events)})
            rows += rebuild(connection, events, owners, reached, following)
        reached = following
        if progress:
            progress(start, reached, end)
        step = max(_paced(step, time.monotonic() - began), DAY)
    if rows >= _MANY:
        _settle_pages(connection, events)
    return rows


def rebuild(
    connection: Connection, events: Table, organizations: Sequence[UUID], since: datetime | None, until: datetime
) -> int:
    """Make the rows of what was ingested in `[since, until)` anew from the events; the rows written.

    Belongs into a transaction that holds the `lock`.
    """
    pieces = [
        piece
        for entry in entries(connection, events)
        if entry.organization_id in organizations and (kept := entry.kept)
        if (piece := piece_of(entry.organization_id, kept, since, until)).since is None or piece.since < piece.until
    ]
    if not pieces:
        return 0
    connection.execute(empty(events), parameters(pieces))
    return _fill(connection, events, pieces, fill(events))[0]


def add(connection: Connection, events: Table, source: sql.Identifier) -> int:
    """Add what `source`, a table with the events' columns, holds from before the watermarks; the rows written.

    For rows that are inserted behind the watermark: in the transaction that inserts them, which holds the `lock`. Where
    the table makes something else of what is inserted, it is read anew.
    """
    kept = [(entry.organization_id, each) for entry in entries(connection, events) if (each := entry.kept)]
    last = max((each.watermark for _, each in kept), default=None)
    found = sql.SQL(
        "SELECT organization_id, min(ingested_at), max(ingested_at) FROM {} WHERE ingested_at < %s GROUP BY 1"
    ).format(source)
    owners = {owner: times for owner, *times in connection.execute(found, [last])} if last else {}
    if owners and watermark.is_rewritten(connection, events):
        return sum(rebuild(connection, events, [owner], since, to + INSTANT) for owner, (since, to) in owners.items())
    pieces = [piece_of(owner, each, None, each.watermark) for owner, each in kept if owner in owners]
    return _fill(connection, events, pieces, fill(events, source))[0] if pieces else 0


def leave_out(connection: Connection, events: Table, entry: Entry, error: psycopg.Error) -> None:
    """No longer keep what proved not to fit: its rows go, and the reason is written down."""
    choose(connection, events, [replace(entry, grain=None, reason=UNFIT + server_message(error))])


def _fill(
    connection: Connection, events: Table, pieces: Sequence[Piece], statement: sql.Composed
) -> tuple[int, Sequence[Piece]]:
    """Run the filling; how many rows it added, and the pieces that fit. Others are left out from now on."""
    try:
        with connection.transaction():
            return connection.execute(statement, parameters(pieces)).rowcount, pieces
    except (*_UNFIT, psycopg.errors.InternalError_) as error:
        if isinstance(error, psycopg.errors.InternalError_) and not str(error).startswith("index row size "):
            raise  # Citus tells of a row its worker could not take in these words alone, without the code
        if len(pieces) == 1:
            (piece,) = pieces
            for entry in entries(connection, events):
                if (entry.organization_id, entry.dimension) == (piece.organization_id, piece.dimension):
                    leave_out(connection, events, entry, error)
            return 0, ()
    half = len(pieces) // 2
    halves = [_fill(connection, events, part, statement) for part in (pieces[:half], pieces[half:])]
    return sum(rows for rows, _ in halves), [piece for _, fitting in halves for piece in fitting]


def _step(
    connection: Connection, events: Table, target: datetime, step: timedelta
) -> tuple[datetime, datetime, int] | None:
    """Build the dimensions that are furthest behind, up to the next ones.

    Where that began, how far they are then, and the rows added; None where nothing is behind.
    """
    kept = [entry for entry in entries(connection, events) if entry.grain is not None]
    behind = [entry for entry in kept if entry.watermark is None or entry.watermark < target]
    if not behind:
        return None
    marks = {entry.watermark for entry in behind}
    mark = None if None in marks else min(mark for mark in marks if mark is not None)
    chosen = [entry for entry in behind if entry.watermark == mark]
    following = _next(connection, events, chosen, mark, target)
    until = min(
        target,
        *(other for other in marks if other is not None and (mark is None or other > mark)),
        floor(following, DAY if step >= DAY else HOUR) + step,
    )
    pieces: Sequence[Piece] = [_piece(entry, until, target) for entry in chosen]
    added, pieces = _fill(connection, events, pieces, fill(events))
    before = {(entry.organization_id, entry.dimension): entry.days_until for entry in chosen}
    over = [
        replace(piece, since=days, until=piece.days_until)
        for piece in pieces
        if (days := before[piece.organization_id, piece.dimension]) and mark and days < min(mark, piece.days_until)
    ]
    if over:
        connection.execute(merge(events), parameters(over))
    if pieces:
        connection.execute(
            sql.SQL(
                "UPDATE {} k SET watermark = p.until, days_until = p.days_until"
                " FROM unnest(%(owners)s::uuid[], %(dimensions)s::text[], %(until)s::timestamptz[],"
                " %(days_until)s::timestamptz[]) AS p (organization_id, dimension, until, days_until)"
                " WHERE k.organization_id = p.organization_id AND k.dimension = p.dimension"
            ).format(identifier(kept_table(events))),
            parameters(pieces),
        )
    return following, until, added


def _piece(entry: Entry, until: datetime, target: datetime) -> Piece:
    """From the watermark on; days of ingestion that are over and no longer looked at by the hour become one slot."""
    assert entry.grain is not None  # noqa: S101 - only kept entries are built
    days = min(floor(until, DAY), floor(target, DAY) - (timedelta(0) if entry.grain == DAY else BY_THE_HOUR))
    return Piece(
        organization_id=entry.organization_id,
        dimension=entry.dimension,
        grain=entry.grain,
        since=entry.watermark,
        until=until,
        days_until=max(days, entry.days_until or days),
        summary=entry.summary,
    )


def _next(
    connection: Connection, events: Table, chosen: Sequence[Entry], mark: datetime | None, target: datetime
) -> datetime:
    """When the next event was ingested, of those that are missing; never before 1970, nor after `target`.

    Raises `TableMismatch` where Citus has no rollup of the events.
    """
    statement = sql.SQL(
        "SELECT least(min(greatest(first, '1970-01-01')), %(target)s)"
        " FROM (SELECT DISTINCT organization_id FROM {} WHERE organization_id = ANY (%(organizations)s)) AS o (id),"
        " LATERAL (SELECT ingested_at FROM {} WHERE organization_id = o.id AND ingested_at >= %(mark)s::timestamptz"
        " ORDER BY ingested_at LIMIT 1) AS e (first)"
    ).format(identifier(kept_table(events)), identifier(events))
    values = {
        "organizations": sorted({entry.organization_id for entry in chosen}),
        "mark": mark.isoformat() if mark else "-infinity",
        "target": target,
    }
    try:
        row = connection.execute(statement, values).fetchone()
    except psycopg.errors.FeatureNotSupported as error:
        raise TableMismatch(
            f"{events.fullname}: Citus can have a rollup only of a table that is distributed by organization_id, which"
            " `usage-explore init --distribute` makes of one that is not distributed; questions are answered from the"
            " events"
        ) from error
    assert row is not None  # noqa: S101 - an aggregate has one row
    found: datetime = row[0]
    return found


def _first(connection: Connection, events: Table, end: datetime) -> datetime:
    """When the first event was ingested, in the table or in the rollup; never before 1970, nor after `end`."""
    row = connection.execute(
        sql.SQL(
            "SELECT least(greatest(least((SELECT min(ingested_at) FROM {}), (SELECT min(ingested) FROM {})),"
            " '1970-01-01'), %s)"
        ).format(identifier(events), identifier(rollup_table(events))),
        [end],
    ).fetchone()
    assert row is not None  # noqa: S101 - a select without FROM has one row
    found: datetime = row[0]
    return found


def _paced(step: timedelta, took: float) -> timedelta:
    """The next step, after one that took so many seconds: whole hours."""
    if took < _QUICK:
        return min(step * 2, _LONGEST_STEP)
    shorter = max(step // 2 // HOUR * HOUR, HOUR)
    return shorter if took > (_SLOW if shorter >= DAY else _TOO_SLOW) else step


def _settle_pages(connection: Connection, events: Table) -> None:
    """Fresh statistics, and answers that need not visit the table."""
    connection.autocommit = True
    try:
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(identifier(rollup_table(events))))
    finally:
        connection.autocommit = False
