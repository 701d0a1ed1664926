"""Stored events that a file which replaces misses, as they have its source spelled otherwise, or no source at all."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from usage_explore.db.ddl import Connection
from usage_explore.files.values import quoted
from usage_explore.load.scopes import Source, source_texts

_SPAN = """
WITH span AS MATERIALIZED (
    SELECT min(timestamp) AS first, max(timestamp) AS last, array_agg(DISTINCT organization_id) AS organizations
    FROM {stage})
"""

_SOURCES = "SELECT DISTINCT {texts} FROM {stage} s"

_STORED = """
SELECT DISTINCT {texts} FROM {table} t
WHERE t.organization_id = ANY ((SELECT organizations FROM span)::uuid[])
  AND t.timestamp BETWEEN (SELECT first FROM span) AND (SELECT last FROM span)
"""

_MET = """, met AS MATERIALIZED (
    SELECT DISTINCT t.organization_id, t.timestamp, t.customer_id, t.metric_key, t.quantity FROM {table} t
    WHERE t.timestamp BETWEEN (SELECT first FROM span) AND (SELECT last FROM span)
      AND t.organization_id = ANY ((SELECT organizations FROM span)::uuid[]) AND NOT ({texts}) IS NOT NULL)
SELECT count(*) FILTER (WHERE (s.organization_id, s.timestamp, s.customer_id, s.metric_key, s.quantity) IN (
           SELECT organization_id, timestamp, customer_id, metric_key, quantity FROM met)) * 2 >= count(*),
       count(*) FILTER (WHERE (s.organization_id, s.timestamp, s.customer_id, s.metric_key) IN (
           SELECT organization_id, timestamp, customer_id, metric_key FROM met)) * 2 >= count(*)
FROM {stage} s
"""
"""Whether half of the rows have a stored event without the columns, and whether with another quantity than theirs."""


def missed_source(connection: Connection, stage: sql.Identifier, table: sql.Identifier, columns: Sequence[str]) -> str:
    """Why the file would replace nothing of a source that is stored with another spelling; "" where none is so.

    A source that has stored events in the file's time under its own spelling is not looked at. Events without the
    columns are of the file if half of its rows have the customer, metric, time and quantity of one.
    """

    def rows(text: str, alias: str) -> list[Source]:
        statement = sql.SQL(_SPAN + text).format(stage=stage, table=table, texts=source_texts(alias, columns))
        return connection.execute(statement).fetchall()

    of_file = {*rows(_SOURCES, "s")}
    stored = {*rows(_STORED, "t")}
    new, others = of_file - stored, stored - of_file
    alike = {(*map(_folded, other),): other for other in others}
    for source in sorted(new, key=str):
        if (other := alike.get((*map(_folded, source),))) is not None:
            return (
                f"the file has {_named(columns, source, other)}, and stored events of its time have"
                f" {_named(columns, other, source)}, which would stay beside it. If it is the same source, write it in"
                " the file as it is stored; if it is another one, there is nothing to replace: load the file without"
                " --replace"
            )
    if new and any(None in other for other in others) and rows(_MET, "t")[0][0]:
        return (
            f"stored events without {' and '.join(columns)} have the customers, metrics, times and quantities of the"
            " file and would stay beside it; replace them by a column that they have, too, such as --replace-by"
            " customer_id"
        )
    return ""


def without_source(
    connection: Connection, stage: sql.Identifier, table: sql.Identifier, columns: Sequence[str]
) -> list[str]:
    """The warning of a file that replaces nothing beside stored events without the columns, at its customers' times."""
    statement = sql.SQL(_SPAN + _MET).format(stage=stage, table=table, texts=source_texts("t", columns))
    [(_, is_met)] = connection.execute(statement).fetchall()
    if not is_met:
        return []
    return [
        "warning: nothing was superseded: stored events have the customers, metrics and times of the rows, but no"
        f" {' or '.join(columns)}, and stay beside them. If the file restates them, they count twice: load it again"
        " with --replace-by and a column that they have, too, such as customer_id"
    ]


def _folded(value: object) -> object:
    """The text without differences of case, spaces around it, and zeros before a number."""
    if not isinstance(value, str):
        return value
    text = value.strip().casefold()
    return text.lstrip("0") if text.isdecimal() else text


def _named(columns: Sequence[str], source: Source, other: Source) -> str:
    """The columns in which the two differ, with the texts of the first."""
    pairs = zip(columns, source[1:], other[1:], strict=True)
    return ", ".join(f"{column} {quoted(text)}" for column, text, stored in pairs if text != stored)
