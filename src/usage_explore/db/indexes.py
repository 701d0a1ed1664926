"""A table's indexes in the catalog, and the statements for missing indexes and statistics objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Index, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from usage_explore.db import schema
from usage_explore.db.catalog import Relation

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
WHERE x.indrelid = %s AND x.indisvalid
GROUP BY i.relname, m.amname, x.indisunique, x.indimmediate, x.indpred
ORDER BY i.relname
"""

_STATISTICS = "SELECT stxname FROM pg_statistic_ext WHERE stxrelid = %s AND 'm' = ANY (stxkind)"


@dataclass(frozen=True, slots=True)
class Existing:
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


def existing(connection: psycopg.Connection[tuple[Any, ...]], found: Relation) -> list[Existing]:
    """The table's valid indexes, by name."""
    return [
        Existing(name, method, unique, whole, tuple(keys), tuple(descending), frozenset(columns))
        for name, method, unique, whole, keys, descending, columns in connection.execute(
            _INDEXES, [found.oid]
        ).fetchall()
    ]


def wanted(found: Relation) -> list[Index]:
    """The indexes that this table should have, without those on missing columns."""
    return [index for index in schema.indexes(named(found)) if all(name in found.columns for name in _columns(index))]


def missing_statistics(connection: psycopg.Connection[tuple[Any, ...]], found: Relation) -> dict[str, tuple[str, str]]:
    """The missing statistics objects, by name. Chunks of a hypertable cannot have any."""
    if found.hypertable or found.kind != "table":
        return {}
    existing = {row[0] for row in connection.execute(_STATISTICS, [found.oid]).fetchall()}
    return {name: columns for name, columns in schema.statistics(named(found)).items() if name not in existing}


def create_statistics(found: Relation, missing: dict[str, tuple[str, str]]) -> list[sql.Composed]:
    """The statements that create the statistics objects; ANALYZE fills them."""
    return [
        sql.SQL("CREATE STATISTICS {} (mcv) ON {} FROM {}").format(
            sql.Identifier(found.schema, name),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.Identifier(found.schema, found.name),
        )
        for name, columns in missing.items()
    ]


def named(found: Relation) -> Table:
    """The events table with the name and schema of the relation."""
    table = schema.events_table()
    table.name, table.schema = found.name, found.schema
    return table


def create(index: Index, found: Relation) -> str:
    """The statement that creates the index with the least locking for this kind of table.

    It cannot run in a transaction, except for a unique index on a hypertable or any on a partitioned table.
    """
    statement = str(CreateIndex(index).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    if blocks(index, found):
        return statement
    if found.hypertable:
        return f"{statement} WITH (timescaledb.transaction_per_chunk)"
    return statement.replace("INDEX ", "INDEX CONCURRENTLY ", 1)


def drop(name: str, found: Relation) -> sql.Composed:
    """The statement that drops an index, without blocking writers if this kind of table allows it."""
    blocked = found.hypertable or found.kind == "partitioned table"
    kind = sql.SQL("DROP INDEX {}" if blocked else "DROP INDEX CONCURRENTLY {}")
    return kind.format(sql.Identifier(found.schema, name))


def blocks(index: Index, found: Relation) -> bool:
    """Whether creating the index blocks writers."""
    return found.kind == "partitioned table" or (found.hypertable and bool(index.unique))


def purpose(index: Index) -> str:
    """The purpose of the index: the last word of its name."""
    return str(index.name).rpartition("_")[2]


def _columns(index: Index) -> list[str]:
    included = index.dialect_options["postgresql"]["include"] or ()
    return [*(_column(expression) for expression in index.expressions), *included]


def _column(expression: Any) -> str:
    """The name of the column that an index orders by."""
    return str(getattr(expression, "element", expression).name)
