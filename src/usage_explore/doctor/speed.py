"""Checks of what makes it quick: which indexes the table has, what the planner knows, how much the server caches."""

from __future__ import annotations

from psycopg import sql

from usage_explore.db import citus, timescale
from usage_explore.db import indexes as indexed
from usage_explore.db.catalog import Relation
from usage_explore.db.indexes import Existing
from usage_explore.doctor.finding import Connection, Finding
from usage_explore.sql.identifiers import quoted

_PURPOSE = {
    "page": "paging an organization's events",
    "customer": "one customer's events",
    "cover": "aggregates that need not visit the table",
    "ingested": "finding what was learned since an instant",
    "subscription": "the events of a subscription that has few",
    "product": "the events of a product that has few",
    "metric": "the events of a metric that has few",
    "price": "the events of a price that has few",
    "dimensions": "the events of a dimension's value that has few",
}

_ANALYZED_FROM = 100_000_000
"""Bytes below which it does not matter what the planner knows."""

_SKIP_SCAN_SINCE = 180_000


def indexes(connection: Connection, found: Relation) -> list[Finding]:
    """The indexes the statements are made for, and ones that lead PostgreSQL 18 astray."""
    if found.kind not in ("table", "partitioned table"):
        return [
            Finding("index", "ok", f"a {found.kind} has none of its own; the indexes of the tables behind it serve")
        ]
    there = indexed.existing(connection, found)
    return [*_wanted(there, found), *_unique(there), *_astray(there, found, connection.info.server_version)]


def _wanted(there: list[Existing], found: Relation) -> list[Finding]:
    findings = []
    for wanted in indexed.wanted(found):
        purpose = _PURPOSE[indexed.purpose(wanted)]
        serving = [index.name for index in there if index.serves(wanted)]
        if serving:
            findings.append(Finding("index", "ok", f"{serving[0]} serves {purpose}"))
        else:
            warning = ";  -- blocks writes while it is made" if indexed.blocks(wanted, found) else ";"
            cure = indexed.create(wanted, found) + warning
            if any(index.falls_short_of(wanted) for index in there):
                cure = f"usage-explore init  # replaces {wanted.name}, which lacks columns that are read since"
            findings.append(Finding("index", "warning", f"none serves {purpose}, so every look reads more", cure))
    return findings


def _unique(there: list[Existing]) -> list[Finding]:
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


def _astray(there: list[Existing], found: Relation, version: int) -> list[Finding]:
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
        if index.method == "btree"
        and index.whole
        and index.keys[0] == "organization_id"
        and index.keys[1:2] not in ((), ("timestamp",), ("ingested_at",), ("id",))
    ]


def statistics(connection: Connection, found: Relation) -> list[Finding]:
    """What the planner knows of the rows: is it fresh, and does it know which organization has which values."""
    if found.kind != "table":
        return []
    findings = []
    size = connection.execute("SELECT pg_table_size(%s::oid)", [found.oid]).fetchone()
    if found.rows < 0 and not found.hypertable and size and size[0] > _ANALYZED_FROM:
        findings.append(
            Finding(
                "statistics",
                "warning",
                "the planner has never looked at the table",
                f"ANALYZE {quoted(found.name, found.schema)};",
            )
        )
    missing = indexed.missing_statistics(connection, found)
    if missing:
        statements = [f"{each.as_string(connection)};" for each in indexed.create_statistics(found, missing)]
        findings.append(
            Finding(
                "statistics",
                "warning",
                "the planner takes organizations and what they use for independent, so that looking for what only"
                " others use reads everything",
                "\n".join([*statements, f"ANALYZE {quoted(found.name, found.schema)};"]),
            )
        )
    return findings or [Finding("statistics", "ok", "the planner knows which organization uses what")]


_SETTINGS = """
SELECT pg_size_bytes(current_setting('shared_buffers')), pg_size_bytes(current_setting('work_mem')),
       current_setting('random_page_cost')::float8,
       CASE WHEN %(sized)s THEN pg_table_size(%(oid)s::oid) ELSE 0 END
"""
_MEGABYTE = 1_048_576
_LARGE = 1024 * _MEGABYTE
"""Bytes of a table below which the settings do not matter."""


def settings(connection: Connection, found: Relation) -> list[Finding]:
    """Server settings whose defaults are small for a table of a gigabyte or more."""
    row = connection.execute(
        _SETTINGS, {"oid": found.oid, "sized": found.kind == "table" and not found.hypertable}
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    buffers, work, page_cost, size = row
    if found.hypertable or found.kind == "partitioned table":
        name = sql.Identifier(found.schema, found.name)
        size = timescale.size(connection, name) or citus.size(connection, name)
    if size < _LARGE:
        return []
    findings = []
    if buffers <= 128 * _MEGABYTE:
        findings.append(
            Finding(
                "settings",
                "warning",
                f"shared_buffers is {buffers // _MEGABYTE} MB, the default, for {size / 1e9:.1f} GB of events",
                "ALTER SYSTEM SET shared_buffers = '…';  -- a quarter of the machine's memory; then restart",
            )
        )
    if work <= 4 * _MEGABYTE:
        findings.append(
            Finding(
                "settings",
                "warning",
                f"work_mem is {work // _MEGABYTE} MB, the default, so wide aggregates sort on disk",
                "ALTER ROLE … SET work_mem = '64MB';",
            )
        )
    if page_cost >= 4:
        findings.append(
            Finding(
                "settings",
                "warning",
                f"random_page_cost is {page_cost:g}, made for spinning disks: aggregates of one metric visit the table"
                " where an index would do",
                "On SSDs: ALTER SYSTEM SET random_page_cost = 1.1; SELECT pg_reload_conf();",
            )
        )
    return findings or [Finding("settings", "ok", "cache, sorting memory and page costs suit the table's size")]
