"""Tables and views in the catalog: kind, size, columns, indexes, and how these differ from the documented ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Index, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from usage_explore.db import schema, timescale
from usage_explore.db.schema import events_table, split_name
from usage_explore.errors import TableMismatch
from usage_explore.sql import filters
from usage_explore.sql.identifiers import quoted

FITTING = {
    "uuid": ("uuid",),
    "text": ("text", "varchar"),
    "numeric": ("numeric",),
    "timestamptz": ("timestamptz",),
    "jsonb": ("jsonb",),
}
"""PostgreSQL's own types that are accepted for each documented type (domains count as their base type)."""

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

_HAS_COLUMNSTORE = """
SELECT EXISTS (SELECT FROM timescaledb_information.chunks
               WHERE hypertable_schema = %s AND hypertable_name = %s AND is_compressed)
"""

_INSTANT_COLUMNS = ("timestamp", "ingested_at")

_ATTRIBUTES = """
SELECT a.attname, CASE coalesce(b.typnamespace, t.typnamespace) WHEN 'pg_catalog'::regnamespace::oid
    THEN coalesce(b.typname, t.typname)::text ELSE format_type(a.atttypid, a.atttypmod) END, a.attnotnull
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

_HYPERTABLE = """
SELECT n.nspname FROM timescaledb_information.hypertables, pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb' AND hypertable_schema = %s AND hypertable_name = %s
"""
"""The schema of TimescaleDB's functions, which is any: CREATE EXTENSION timescaledb SCHEMA ts."""

READ_BY_VIEW = """pg_rewrite AS rule ON rule.ev_class = read.oid
  JOIN pg_depend AS need ON need.classid = 'pg_rewrite'::regclass::oid AND need.objid = rule.oid
    AND need.refclassid = 'pg_class'::regclass::oid"""
"""A join to `read`: what the view `read.oid` reads is `need.refobjid`."""

_CONTINUOUS_AGGREGATE = f"""
WITH RECURSIVE read AS (
    SELECT %s::oid AS oid
    UNION
    SELECT need.refobjid FROM read JOIN {READ_BY_VIEW})
SELECT format('%%I.%%I', hypertable_schema, hypertable_name)
FROM timescaledb_information.continuous_aggregates
JOIN pg_namespace AS n ON n.nspname = view_schema
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = view_name
JOIN read ON read.oid = c.oid
LIMIT 1
"""  # noqa: S608 - of constants
"""The hypertable of a continuous aggregate, or of one that a view reads."""

_DISTRIBUTION = """
SELECT column_to_column_name(logicalrelid, partkey) FROM pg_dist_partition
WHERE logicalrelid::oid = %s::oid AND partmethod = 'h'
"""

_INDEXES = """
SELECT i.relname, m.amname, x.indisunique AND x.indimmediate AND x.indpred IS NULL, x.indpred IS NULL,
       array_agg(coalesce(a.attname, '') ORDER BY k.n) FILTER (WHERE k.n <= x.indnkeyatts),
       array_agg((x.indoption[k.n - 1] & 1) = 1 ORDER BY k.n) FILTER (WHERE k.n <= x.indnkeyatts),
       array_agg(coalesce(a.attname, '') ORDER BY k.n)
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_am m ON m.oid = i.relam
CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
WHERE x.indrelid = %s::oid AND x.indisvalid
GROUP BY i.relname, m.amname, x.indisunique, x.indimmediate, x.indpred
ORDER BY i.relname
"""

_IS_DISTRIBUTED = "SELECT true FROM pg_dist_partition WHERE logicalrelid::oid = to_regclass(%(name)s)::oid"
_DISTRIBUTED_SIZE = "SELECT citus_total_relation_size(to_regclass(%(name)s))"
_SIZE = """
SELECT sum(pg_total_relation_size(place)) FROM (
    SELECT to_regclass(%(name)s) AS place UNION SELECT relid FROM pg_partition_tree(to_regclass(%(name)s))) AS places
"""

_STATISTICS = "SELECT stxname FROM pg_statistic_ext WHERE stxrelid = %s::oid AND 'm' = ANY (stxkind)"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of the catalog; `type` is the catalog's name of PostgreSQL's own types, such as `float8`."""

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view of the catalog.

    `rows` is the planner's estimate, negative without statistics; `distributed` the column by which Citus distributes
    it, else None; `aggregated` the hypertable of a continuous aggregate, or of one that a view reads.
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
    def why_aggregated(self) -> str:
        """Why a continuous aggregate, or a view that reads one, is no table of events; "" for any other."""
        if not self.aggregated:
            return ""
        return (
            f"it is or reads a continuous aggregate of {self.aggregated}: each of its rows adds up many events,"
            " so no question about events can be answered from it, and no view can make events of it"
        )

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
        connection, "timescaledb_information.continuous_aggregates", _CONTINUOUS_AGGREGATE, [oid]
    )
    distributed = _extension_value(connection, "pg_catalog.pg_dist_partition", _DISTRIBUTION, [oid])
    if functions:  # a hypertable's root has no rows; this adds up the chunks
        estimate = sql.SQL("SELECT {}.approximate_row_count(%s::oid::regclass)").format(sql.Identifier(functions))
        rows = (connection.execute(estimate, [oid]).fetchone() or (rows,))[0]
    is_columnar = functions and connection.execute(_HAS_COLUMNSTORE, [schema, table]).fetchone() == (True,)
    if is_columnar and not rows:  # what the planner makes of the size of columns is tens of times too much
        rows = -1
    elif readable and not is_columnar and (functions or kind != "r"):  # the planner estimates from the size
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
    connection: psycopg.Connection[tuple[Any, ...]],
    catalog: LiteralString,
    query: LiteralString,
    values: list[Any] | dict[str, Any],
) -> Any:
    """The first value of the query, None if the extension's catalog that it reads does not exist."""
    there = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [catalog]).fetchone()
    row = connection.execute(query, values).fetchone() if there and there[0] else None
    return row and row[0]


def table_size(connection: psycopg.Connection[tuple[Any, ...]], name: sql.Identifier) -> int:
    """The bytes of a table with its indexes, on all workers and in all chunks and partitions; zero for a view."""
    if chunks := timescale.size(connection, name):
        return chunks
    names = {"name": name.as_string(connection)}
    distributed = _extension_value(connection, "pg_catalog.pg_dist_partition", _IS_DISTRIBUTED, names)
    row = connection.execute(_DISTRIBUTED_SIZE if distributed else _SIZE, names).fetchone()
    return int(row[0] or 0) if row else 0


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


def misfits(current: Relation) -> list[str]:
    """A phrase for each documented column that is missing or of another type."""
    wrong = []
    for name, (type_, _) in documented().items():
        column = current.columns.get(name)
        if column is None:
            wrong.append(f"{name} is missing")
        elif column.type not in FITTING[type_]:
            wrong.append(f"{name} is {column.type} instead of {type_}")
    return wrong


@dataclass(frozen=True, slots=True)
class ExistingIndex:
    """A valid index: its key columns with their direction, and all its columns ("" for expressions).

    `whole` is False for a partial index.
    """

    name: str
    method: str
    unique: bool
    whole: bool
    keys: tuple[str, ...]
    descending: tuple[bool, ...]
    columns: frozenset[str]

    def falls_short_of(self, wanted: Index) -> bool:
        """Whether it is the wanted index of an older version: the same keys, fewer further columns."""
        keys = tuple(_column(expression) for expression in wanted.expressions)
        return self.name == wanted.name and self.keys == keys and self.columns < frozenset(_columns(wanted))

    def serves(self, wanted: Index) -> bool:
        """Whether a forward or backward scan can replace one of the wanted index."""
        options = wanted.dialect_options["postgresql"]
        keys = tuple(_column(expression) for expression in wanted.expressions)
        if options["using"] == "hash":
            return self.finds(keys[0])
        included = options["include"] or ()
        # The first key is always compared for equality, so its direction is free.
        one_way = included or len(set(self.descending[1 : len(keys)])) <= 1
        return bool(
            self.method == (options["using"] or "btree")
            and self.whole
            and self.keys[: len(keys)] == keys
            and one_way
            and self.columns.issuperset(included)
        )

    def finds(self, column: str) -> bool:
        """Whether it finds an organization's rows with one value of the column: a hash index, or a B-tree for it."""
        leading = self.keys[1:2] if self.method == "btree" and self.keys[0] == "organization_id" else self.keys[:1]
        return self.whole and self.method in ("hash", "btree") and leading == (column,)


def finds(connection: psycopg.Connection[tuple[Any, ...]], table_name: str, columns: Iterable[str]) -> bool:
    """Whether an index finds the rows with one value of any of the columns, however many rows the table has.

    False for a view, whose tables' indexes are not looked at, and for a hypertable: its columnstore has no such index.
    """
    current = relation(connection, table_name)
    if current is None or current.hypertable:
        return False
    existing = existing_indexes(connection, current)
    return any(index.finds(column) for column in columns for index in existing)


def existing_indexes(connection: psycopg.Connection[tuple[Any, ...]], current: Relation) -> list[ExistingIndex]:
    """The table's valid indexes, by name."""
    return [
        ExistingIndex(name, method, unique, whole, tuple(keys), tuple(descending), frozenset(columns))
        for name, method, unique, whole, keys, descending, columns in connection.execute(
            _INDEXES, [current.oid]
        ).fetchall()
    ]


def wanted_indexes(current: Relation) -> list[Index]:
    """The indexes that this table should have, without those on missing columns and columns of another type."""
    return [index for index in schema.indexes(_table_named(current)) if _have(current, _columns(index))]


def missing_statistics(
    connection: psycopg.Connection[tuple[Any, ...]], current: Relation
) -> dict[str, tuple[str, str]]:
    """The missing statistics objects on columns that fit, by name. Chunks of a hypertable cannot have any."""
    if current.hypertable or current.kind != "table":
        return {}
    existing = {row[0] for row in connection.execute(_STATISTICS, [current.oid]).fetchall()}
    return {
        name: columns
        for name, columns in schema.statistics(_table_named(current)).items()
        if name not in existing and _have(current, columns)
    }


def _have(current: Relation, names: Iterable[str]) -> bool:
    """Whether the table has the documented columns, with fitting types."""
    types = documented()
    return all(name in current.columns and current.columns[name].type in FITTING[types[name][0]] for name in names)


def create_statistics(current: Relation, missing: dict[str, tuple[str, str]]) -> list[sql.Composed]:
    """The statements that create the statistics objects; ANALYZE fills them."""
    return [
        sql.SQL("CREATE STATISTICS {} (mcv) ON {} FROM {}").format(
            sql.Identifier(current.schema, name),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.Identifier(current.schema, current.name),
        )
        for name, columns in missing.items()
    ]


def _table_named(current: Relation) -> Table:
    """The events table with the name and schema of the relation."""
    table = schema.events_table()
    table.name, table.schema = current.name, current.schema
    return table


def create_index(index: Index, current: Relation) -> str:
    """The statement that creates the index with the least locking for this kind of table.

    It cannot run in a transaction, except for a unique index on a hypertable or any on a partitioned table.
    """
    statement = str(CreateIndex(index).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    if blocks_writers(index, current):
        return statement
    if current.hypertable:
        return f"{statement} WITH (timescaledb.transaction_per_chunk)"
    return statement.replace("INDEX ", "INDEX CONCURRENTLY ", 1)


def drop_index(name: str, current: Relation) -> sql.Composed:
    """The statement that drops an index, without blocking writers if this kind of table allows it."""
    blocked = current.hypertable or current.kind == "partitioned table"
    kind = sql.SQL("DROP INDEX {}" if blocked else "DROP INDEX CONCURRENTLY {}")
    return kind.format(sql.Identifier(current.schema, name))


def blocks_writers(index: Index, current: Relation) -> bool:
    """Whether creating the index blocks writers."""
    return current.kind == "partitioned table" or (current.hypertable and bool(index.unique))


def index_purpose(index: Index) -> str:
    """The purpose of the index: the last word of its name."""
    return str(index.name).rpartition("_")[2]


def _columns(index: Index) -> list[str]:
    included = index.dialect_options["postgresql"]["include"] or ()
    return [*(_column(expression) for expression in index.expressions), *included]


def _column(expression: Any) -> str:
    """The name of the column that an index orders by."""
    return str(getattr(expression, "element", expression).name)


def placed(connection: psycopg.Connection[tuple[Any, ...]], events: Table) -> Table:
    """The events table with the schema that it is in.

    Raises `TableMismatch` if there is none, or its times are without a zone.
    """
    existing = relation(connection, events.fullname)
    if existing is None:
        raise TableMismatch(
            f"{events.fullname}: does not exist; `usage-explore init` makes it, or name another --table"
        )
    check_instants(connection, f"{existing.schema}.{existing.name}")
    return events_table(f"{existing.schema}.{existing.name}")


def organizations(connection: psycopg.Connection[tuple[Any, ...]], events: Table) -> list[UUID]:
    """Every organization that has events."""
    try:
        with connection.transaction():
            return _organizations(connection, events, distributed=False)
    except psycopg.errors.FeatureNotSupported:  # by Citus
        return _organizations(connection, events, distributed=True)


def _organizations(connection: psycopg.Connection[tuple[Any, ...]], events: Table, *, distributed: bool) -> list[UUID]:
    statement = filters.to_sql(filters.organizations(events, distributed=distributed))
    return [owner for (owner,) in connection.execute(statement.encode())]
