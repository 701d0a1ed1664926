"""Tables and views in PostgreSQL's catalog: kind, size, columns, and how these differ from the documented ones."""

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
"""The catalog types that are accepted for each documented type (domains count as their base type)."""

_RELATION_KINDS = {
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

_INSTANT_COLUMNS = ("timestamp", "ingested_at")

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
"""The schema of TimescaleDB's functions, which is any: CREATE EXTENSION timescaledb SCHEMA ts."""

_CONTINUOUS_AGGREGATE = """
SELECT format('%%I.%%I', hypertable_schema, hypertable_name) FROM timescaledb_information.continuous_aggregates
WHERE view_schema = %s AND view_name = %s
"""

_DISTRIBUTION = """
SELECT column_to_column_name(logicalrelid, partkey) FROM pg_dist_partition WHERE logicalrelid = %s AND partmethod = 'h'
"""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of the catalog; `type` is the catalog's name, such as `float8` or `timestamptz`."""

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view of the catalog.

    `rows` is the planner's estimate, negative if never analyzed; `distributed` the column by which Citus distributes
    it, else None; `aggregated` the hypertable of a continuous aggregate.
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
    """The table or view `name` or `schema.name`, resolved as in a statement of this session; None if there is none."""
    schema, table = split_name(table_name)
    row = connection.execute(_RELATION, {"schema": schema, "table": table, "kinds": list(_RELATION_KINDS)}).fetchone()
    if row is None:
        return None
    oid, schema, table, kind, rows, readable = row
    columns = {
        name: Attribute(name, type_, not required)
        for name, type_, required in connection.execute(_ATTRIBUTES, [oid]).fetchall()
    }
    functions = _extension_value(connection, "timescaledb_information.hypertables", _HYPERTABLE, [schema, table])
    aggregated = _extension_value(
        connection, "timescaledb_information.continuous_aggregates", _CONTINUOUS_AGGREGATE, [schema, table]
    )
    distributed = _extension_value(connection, "pg_catalog.pg_dist_partition", _DISTRIBUTION, [oid])
    if functions:  # a hypertable's root has no rows; this adds up the chunks
        estimate = sql.SQL("SELECT {}.approximate_row_count(%s::oid::regclass)").format(sql.Identifier(functions))
        rows = (connection.execute(estimate, [oid]).fetchone() or (rows,))[0]
    if readable and (functions or kind != "r"):  # the planner estimates from the size if there are no statistics
        name = sql.Identifier(schema, table)
        plan = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {}").format(name)).fetchone()
        rows = max(rows, plan[0][0]["Plan"]["Plan Rows"]) if plan else rows
    return Relation(
        oid, schema, table, _RELATION_KINDS[kind], rows, readable, bool(functions), distributed, columns, aggregated
    )


def check_instants(connection: psycopg.Connection[tuple[Any, ...]], table_name: str) -> None:
    """Raise `TableMismatch` if a time column has a type without a time zone.

    The database rejects statements on other mismatches, but would compare such times as if they were UTC.
    """
    schema, table = split_name(table_name)
    row = connection.execute(_RELATION, {"schema": schema, "table": table, "kinds": list(_RELATION_KINDS)}).fetchone()
    for name, type_, _ in connection.execute(_ATTRIBUTES, [row[0]]).fetchall() if row else ():
        if name in _INSTANT_COLUMNS and type_ not in FITTING["timestamptz"]:
            raise TableMismatch(
                f"{table_name}: the column {name} is of type {type_}, which does not say which instant it is; it must"
                " be timestamptz. `usage-explore doctor` prints the statements that convert it."
            )


def _extension_value(
    connection: psycopg.Connection[tuple[Any, ...]], catalog: LiteralString, query: LiteralString, values: list[Any]
) -> Any:
    """The first value of the query, None if the extension's catalog that it reads does not exist."""
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
    """A phrase for each documented column that is missing or of another type."""
    wrong = []
    for name, (type_, _) in documented().items():
        column = found.columns.get(name)
        if column is None:
            wrong.append(f"{name} is missing")
        elif column.type not in FITTING[type_]:
            wrong.append(f"{name} is {column.type} instead of {type_}")
    return wrong
