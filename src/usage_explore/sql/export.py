"""Statements of an export: pages of events as text, and the digits of their decimals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Numeric, Select, Subquery, Text, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

_RFC3339 = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


def texts(page: Select[Any], *, as_csv: bool) -> Select[Any]:
    """A page of events, newest first: `at` and `row_id` (the position), then the columns of the page as in a file.

    Decimals are plain text, times RFC 3339 in UTC for CSV, ids and JSON text.
    """
    rows = page.subquery()
    return select(
        rows.c.timestamp.label("at"), rows.c.id.label("row_id"), *(_written(column, as_csv) for column in rows.c)
    ).order_by(rows.c.timestamp.desc(), rows.c.id.desc())


def digits(page: Select[Any], decimals: tuple[str, ...]) -> Select[Any]:
    """Number of events, time and id of the last, then scale and largest amount of each of the decimals."""
    rows = page.subquery()
    last = func.array_agg(aggregate_order_by(rows.c.id, rows.c.timestamp, rows.c.id))[1]
    return select(func.count(), func.min(rows.c.timestamp), last, *_measures(rows, decimals))


def _measures(rows: Subquery, decimals: tuple[str, ...]) -> Iterator[ColumnElement[Any]]:
    for name in decimals:
        yield func.max(func.scale(func.trim_scale(rows.c[name])))
        yield func.max(func.abs(rows.c[name].cast(Numeric)))


def _written(column: ColumnElement[Any], as_csv: bool) -> ColumnElement[Any]:
    if isinstance(column.type, Numeric):
        return func.trim_scale(column).cast(Text)
    if isinstance(column.type, DateTime):
        return func.to_char(func.timezone("UTC", column), _RFC3339) if as_csv else column
    return column if isinstance(column.type, Text) else column.cast(Text)
