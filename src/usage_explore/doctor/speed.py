"""Checks of what makes it quick: how the table is stored, which indexes it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Index
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from usage_explore import schema
from usage_explore.doctor.finding import Connection, Finding, quoted
from usage_explore.shape import Relation

_INDEXES = """
SELECT i.relname, x.indisunique AND x.indimmediate AND x.indpred IS NULL, x.indpred IS NULL,
       array_agg(coalesce(a.attname, '') ORDER BY k.n) FILTER (WHERE k.n <= x.indnkeyatts),
       array_agg((x.indoption[k.n - 1] & 1) = 1 ORDER BY k.n) FILTER (WHERE k.n <= x.indnkeyatts),
       array_agg(coalesce(a.attname, '') ORDER BY k.n)
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_am m ON m.oid = i.relam AND m.amname = 'btree'
CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
WHERE x.indrelid = %s AND x.indisvalid
GROUP BY i.relname, x.indisunique, x.indimmediate, x.indpred
ORDER BY i.relname
"""

_PURPOSE = {
    "page": "paging an organization's events",
    "customer": "one customer's events",
    "cover": "aggregates that need not visit the table",
}

_SKIP_SCAN_SINCE = 180_000


@dataclass(frozen=True, slots=True)
class _Btree:
    """A valid index: its key columns with their direction, and every column it holds ("" for expressions)."""

    name: str
    unique: bool
    whole: bool
    keys: tuple[str, ...]
    descending: tuple[bool, ...]
    columns: frozenset[str]

    def serves(self, wanted: Index) -> bool:
        """Whether scanning it, forwards or backwards, does what the wanted index is for."""
        keys = tuple(_column(expression) for expression in wanted.expressions)
        included = wanted.dialect_options["postgresql"]["include"] or ()
        # The first key is always compared for equality, so its direction is free.
        one_way = included or len(set(self.descending[1 : len(keys)])) <= 1
        return bool(self.whole and self.keys[: len(keys)] == keys and one_way and self.columns.issuperset(included))


def storage(connection: Connection, found: Relation) -> list[Finding]:
    """Hypertable or not: either works."""
    if found.hypertable:
        return [Finding("storage", "ok", "a TimescaleDB hypertable")]
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')").fetchone()
    if row and row[0] and found.kind == "table":
        return [
            Finding(
                "storage",
                "warning",
                "a plain table, although TimescaleDB is here",
                f"SELECT create_hypertable('{quoted(found.name, found.schema)}', by_range('timestamp'),"
                " migrate_data => true);  -- locks the table while it moves",
            )
        ]
    return [Finding("storage", "ok", f"a plain {found.kind}, no hypertable; answers are the same")]


def indexes(connection: Connection, found: Relation) -> list[Finding]:
    """The indexes the statements are made for, and ones that lead PostgreSQL 18 astray."""
    if found.kind not in ("table", "partitioned table"):
        return [
            Finding("index", "ok", f"a {found.kind} has none of its own; the indexes of the tables behind it serve")
        ]
    there = [
        _Btree(name, unique, whole, tuple(keys), tuple(descending), frozenset(columns))
        for name, unique, whole, keys, descending, columns in connection.execute(_INDEXES, [found.oid]).fetchall()
    ]
    return [*_wanted(there, found), *_unique(there), *_astray(there, found, connection.info.server_version)]


def _wanted(there: list[_Btree], found: Relation) -> list[Finding]:
    table = schema.events_table()
    table.name, table.schema = found.name, found.schema
    findings = []
    for wanted in schema.indexes(table):
        if any(name not in found.columns for name in _columns(wanted)):
            continue
        purpose = _PURPOSE[str(wanted.name).rpartition("_")[2]]
        serving = [index.name for index in there if index.serves(wanted)]
        if serving:
            findings.append(Finding("index", "ok", f"{serving[0]} serves {purpose}"))
        else:
            findings.append(
                Finding("index", "warning", f"none serves {purpose}, so every look reads more", _create(wanted, found))
            )
    return findings


def _create(wanted: Index, found: Relation) -> str:
    statement = str(CreateIndex(wanted).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    if found.hypertable and not wanted.unique:
        return f"{statement} WITH (timescaledb.transaction_per_chunk);"
    if found.hypertable or found.kind == "partitioned table":
        return f"{statement};  -- blocks writes while it is made"
    return statement.replace("INDEX ", "INDEX CONCURRENTLY ", 1) + ";"


def _unique(there: list[_Btree]) -> list[Finding]:
    keyset = {"organization_id", "timestamp", "id"}
    if any(index.unique and keyset.issuperset(index.keys) for index in there):
        return []
    return [
        Finding(
            "index",
            "warning",
            "nothing keeps (organization_id, timestamp, id) unique; events that share all three can be lost"
            " between pages",
            "Make the paging index UNIQUE.",
        )
    ]


def _astray(there: list[_Btree], found: Relation, version: int) -> list[Finding]:
    if version < _SKIP_SCAN_SINCE:
        return []
    drop = "DROP INDEX" if found.hypertable or found.kind == "partitioned table" else "DROP INDEX CONCURRENTLY"
    return [
        Finding(
            "index",
            "warning",
            f"{index.name} ({', '.join(index.keys)}) tempts PostgreSQL 18 into a skip scan on wide aggregates,"
            " which makes them several times slower",
            f"Where nothing else needs it: {drop} {quoted(index.name, found.schema)};",
        )
        for index in there
        if index.whole and index.keys[0] == "organization_id" and index.keys[1:2] not in ((), ("timestamp",), ("id",))
    ]


def _columns(wanted: Index) -> list[str]:
    included = wanted.dialect_options["postgresql"]["include"] or ()
    return [*(_column(expression) for expression in wanted.expressions), *included]


def _column(expression: Any) -> str:
    """The name of the column that an index orders by."""
    return str(getattr(expression, "element", expression).name)
