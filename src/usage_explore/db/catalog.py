"""What a table or view looks like in the catalog, and whether it fits the documented columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from usage_explore.db.schema import events_table, split_name
from usage_explore.errors import TableMismatch
from usage_explore.sql.identifiers import quoted

FITTING = {
    "uuid": ("uuid",),
    "text": ("text", "varchar"),
    "numeric": ("numeric",),
    "timestamptz": ("timestamptz",),
    "jsonb": ("jsonb",),
}
"""For each documented type, the catalog types that serve as it (domains count as their base type)."""

_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}

_RELATION = """
SELECT c.oid, n.nspname, c.relname, c.relkind,
       c.reltuples::bigint,
       has_table_privilege(c.oid, 'SELECT')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %(table)s AND c.relkind = ANY (%(kinds)s)
  AND CASE WHEN %(schema)s::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = %(schema)s END
"""

_INSTANTS = ("timestamp", "ingested_at")

_ATTRIBUTES = """
SELECT a.attname, coalesce(nullif(b.typname, ''), t.typname), a.attnotnull
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

_HYPERTABLE = """
SELECT n.nspname FROM timescaledb_information.hypertables, pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb' AND hypertable_schema = %s AND hypertable_name = %s
"""
"""The schema of TimescaleDB's functions, which may be any: CREATE EXTENSION timescaledb SCHEMA ts."""

_AGGREGATED = """
SELECT format('%%I.%%I', hypertable_schema, hypertable_name) FROM timescaledb_information.continuous_aggregates
WHERE view_schema = %s AND view_name = %s
"""

_DISTRIBUTION = """
SELECT column_to_column_name(logicalrelid, partkey) FROM pg_dist_partition WHERE logicalrelid = %s AND partmethod = 'h'
"""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One column as it is: its name, its catalog type (`float8`, `timestamptz`, …), its nullability."""

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """One table or view as it is.

    `rows` is the planner's estimate, negative when never analyzed; `distributed` is the column by which Citus spreads
    it over the workers, None where it does not; `aggregated` the hypertable that a continuous aggregate is made from.
    """

    oid: int
    schema: str
    name: str
    kind: str
    rows: int
    readable: bool
    hypertable: bool
    distributed: str | None
    columns: dict[str, Attribute]
    aggregated: str | None = None

    @property
    def sql_name(self) -> str:
        """Schema and name for SQL text, quoted where needed."""
        return quoted(self.name, self.schema)


def relation(connection: psycopg.Connection[tuple[Any, ...]], table_name: str) -> Relation | None:
    """The table or view called `name` or `schema.name`, as a statement of this session would find it."""
    schema, table = split_name(table_name)
    row = connection.execute(_RELATION, {"schema": schema, "table": table, "kinds": list(_KINDS)}).fetchone()
    if row is None:
        return None
    oid, schema, table, kind, rows, readable = row
    columns = {
        name: Attribute(name, type_, not required)
        for name, type_, required in connection.execute(_ATTRIBUTES, [oid]).fetchall()
    }
    functions = _look(connection, "timescaledb_information.hypertables", _HYPERTABLE, [schema, table])
    aggregated = _look(connection, "timescaledb_information.continuous_aggregates", _AGGREGATED, [schema, table])
    distributed = _look(connection, "pg_catalog.pg_dist_partition", _DISTRIBUTION, [oid])
    if functions:  # its root holds no rows: TimescaleDB asks the chunks
        estimate = sql.SQL("SELECT {}.approximate_row_count(%s::oid::regclass)").format(sql.Identifier(functions))
        rows = (connection.execute(estimate, [oid]).fetchone() or (rows,))[0]
    if readable and (functions or kind != "r"):  # what is not analyzed, or never is, the planner judges by its size
        name = sql.Identifier(schema, table)
        plan = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {}").format(name)).fetchone()
        rows = max(rows, plan[0][0]["Plan"]["Plan Rows"]) if plan else rows
    return Relation(oid, schema, table, _KINDS[kind], rows, readable, bool(functions), distributed, columns, aggregated)


def check_instants(connection: psycopg.Connection[tuple[Any, ...]], table_name: str) -> None:
    """Raise `TableMismatch` where the table's times are of a type that does not say which instants they are.

    Everything else that does not fit makes the database refuse a statement; these are compared as if they were UTC.
    """
    schema, table = split_name(table_name)
    row = connection.execute(_RELATION, {"schema": schema, "table": table, "kinds": list(_KINDS)}).fetchone()
    for name, type_, _ in connection.execute(_ATTRIBUTES, [row[0]]).fetchall() if row else ():
        if name in _INSTANTS and type_ not in FITTING["timestamptz"]:
            raise TableMismatch(
                f"{table_name}: the column {name} is of type {type_}, which does not say which instant it is; it must"
                " be timestamptz. `usage-explore doctor` prints the statements that make it so."
            )


def _look(
    connection: psycopg.Connection[tuple[Any, ...]], catalog: LiteralString, query: LiteralString, values: list[Any]
) -> Any:
    """The query's first value where an extension has brought the catalog it reads, else None."""
    there = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [catalog]).fetchone()
    row = connection.execute(query, values).fetchone() if there and there[0] else None
    return row and row[0]


def documented() -> dict[str, tuple[str, bool]]:
    """The documented columns, in order: catalog type, and whether NULL is allowed."""
    names = {
        "UUID": "uuid",
        "TEXT": "text",
        "NUMERIC": "numeric",
        "JSONB": "jsonb",
        "DATETIME": "timestamptz",
    }
    return {
        column.name: (names[type(column.type).__name__.upper()], bool(column.nullable))
        for column in events_table().columns
    }


def misfits(found: Relation) -> list[str]:
    """What is wrong with the columns, one phrase each; empty when every documented column fits."""
    wrong = []
    for name, (type_, _) in documented().items():
        column = found.columns.get(name)
        if column is None:
            wrong.append(f"{name} is missing")
        elif column.type not in FITTING[type_]:
            wrong.append(f"{name} is {column.type} instead of {type_}")
    return wrong
