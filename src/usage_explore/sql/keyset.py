"""Keyset pages of events, fast for filters that many events pass and for filters that few pass.

No plan suits both: scanning the paging index in order is fast if many events pass, and reads most of the table if few
do; fetching all passing events and sorting them is fast if there are few. So a filtered page first scans a few events
of the index, scans more if the first scan promises a full page, and else fetches and sorts all passing events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, FromClause, Row, Select, Table, select

from usage_explore.query.cursor import Position
from usage_explore.query.queries import EventQuery
from usage_explore.sql.filters import expression, filters, page, page_before

FIRST_SCAN_EVENTS, LONG_SCAN_EVENTS = 2_000, 10_000
"""Events of the index that the first and the second scan read before all passing events are fetched and sorted."""

_MAX_SHORTFALL = 2
"""The long scan is skipped if the page needs more than this many times the events that it would find."""

_INDEXED = ("organization_id", "customer_id", "occurred_after", "occurred_before", "as_of")
"""Parameters that an index serves in page order, or that exclude hardly any events."""

_Rows = Sequence[Row[Any]]


def rows_after(
    connection: Connection, table: Table, query: EventQuery, rows: int, after: Position | None = None
) -> _Rows:
    """Up to `rows` events after a position, newest first."""
    return _rows(connection, query, rows, lambda query, limit: page(table, query, limit, after), newest_first=True)


def rows_before(connection: Connection, table: Table, query: EventQuery, rows: int, before: Position) -> _Rows:
    """Up to `rows` events at or before a position, nearest first, which is oldest first."""
    return _rows(connection, query, rows, lambda query, limit: page_before(table, query, limit, before))


def _rows(
    connection: Connection,
    query: EventQuery,
    rows: int,
    statement: Callable[[EventQuery, int | None], Select[Any]],
    *,
    newest_first: bool = False,
) -> _Rows:
    given = query.given()
    if not given.keys() - {*_INDEXED, "limit", "cursor"}:
        return connection.execute(statement(query, rows)).all()
    plain = EventQuery(**{name: value for name, value in given.items() if name in _INDEXED})
    for scanned in (FIRST_SCAN_EVENTS, LONG_SCAN_EVENTS):
        scan = statement(plain, scanned).subquery("scan")
        passing = select(scan).where(*filters(partial(expression, scan), query))
        page_rows = connection.execute(_ordered(passing, scan, newest_first).limit(rows)).all()
        if len(page_rows) == rows:
            return page_rows
        if len(page_rows) * (LONG_SCAN_EVENTS // FIRST_SCAN_EVENTS) * _MAX_SHORTFALL < rows:
            break
    passing_rows = statement(query, None).cte("passing").prefix_with("MATERIALIZED", dialect="postgresql")
    return connection.execute(_ordered(select(passing_rows), passing_rows, newest_first).limit(rows)).all()


def _ordered(statement: Select[Any], source: FromClause, newest_first: bool) -> Select[Any]:
    columns = (source.c.timestamp, source.c.id)
    return statement.order_by(*(column.desc() if newest_first else column for column in columns))
