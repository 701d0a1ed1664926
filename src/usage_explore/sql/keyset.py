"""A page of events in milliseconds, however rare the events are that the filters let through.

No plan is good for both kinds of filter: down the paging index is quick when many events pass, and endless when hardly
any do; gathering all that pass and sorting them is quick when there are few. So a filtered page first takes a glance
down the index, walks on within bounds where that found enough to hope for a whole page, and gathers only when neither
filled it: then few events pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, FromClause, Row, Select, Table, select

from usage_explore.query.cursor import Position
from usage_explore.query.queries import EventQuery
from usage_explore.sql.filters import expression, filters, page, page_before

GLANCE, WALK = 2_000, 10_000
"""Events that are looked at down the index, at first and at most, before those that pass are gathered."""

_HOPE = 2
"""A walk is taken unless it would have to find so many times what the glance promises."""

_IN_ORDER = ("organization_id", "customer_id", "occurred_after", "occurred_before", "as_of")
"""What an index finds in the order of a page, or what hardly ever leaves an event out."""

_Rows = Sequence[Row[Any]]


def rows_after(
    connection: Connection, table: Table, query: EventQuery, rows: int, after: Position | None = None
) -> _Rows:
    """Up to `rows` events after a position, newest first."""
    return _rows(connection, query, rows, lambda query, most: page(table, query, most, after), newest_first=True)


def rows_before(connection: Connection, table: Table, query: EventQuery, rows: int, before: Position) -> _Rows:
    """Up to `rows` events at or before a position, nearest first, which is oldest first."""
    return _rows(connection, query, rows, lambda query, most: page_before(table, query, most, before))


def _rows(
    connection: Connection,
    query: EventQuery,
    rows: int,
    statement: Callable[[EventQuery, int | None], Select[Any]],
    *,
    newest_first: bool = False,
) -> _Rows:
    given = query.given()
    if not given.keys() - {*_IN_ORDER, "limit", "cursor"}:
        return connection.execute(statement(query, rows)).all()
    plain = EventQuery(**{name: value for name, value in given.items() if name in _IN_ORDER})
    for looked_at in (GLANCE, WALK):
        walked = statement(plain, looked_at).subquery("walked")
        passing = select(walked).where(*filters(partial(expression, walked), query))
        found = connection.execute(_ordered(passing, walked, newest_first).limit(rows)).all()
        if len(found) == rows:
            return found
        if len(found) * (WALK // GLANCE) * _HOPE < rows:
            break
    gathered = statement(query, None).cte("gathered").prefix_with("MATERIALIZED", dialect="postgresql")
    return connection.execute(_ordered(select(gathered), gathered, newest_first).limit(rows)).all()


def _ordered(statement: Select[Any], source: FromClause, newest_first: bool) -> Select[Any]:
    columns = (source.c.timestamp, source.c.id)
    return statement.order_by(*(column.desc() if newest_first else column for column in columns))
