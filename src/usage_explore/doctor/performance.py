"""Checks of speed: how the table is stored, its indexes, the planner's statistics and the server's settings."""

from __future__ import annotations

from datetime import timedelta

from psycopg import sql

from usage_explore.db import catalog, ddl, timescale
from usage_explore.db.catalog import ExistingIndex, Relation
from usage_explore.db.ddl import Connection
from usage_explore.doctor.finding import Finding
from usage_explore.formatting import duration
from usage_explore.sql.identifiers import literal, quoted

_MAX_CHUNKS = 2_000
_EXTENSIONS = "SELECT extname FROM pg_extension WHERE extname IN ('timescaledb', 'citus') ORDER BY 1"
_WORKERS = "SELECT count(*) FROM pg_dist_node WHERE noderole = 'primary' AND shouldhaveshards"


def storage(connection: Connection, relation: Relation) -> list[Finding]:
    """Plain table, TimescaleDB hypertable or Citus table: findings that make it faster; results are the same."""
    if relation.hypertable:
        return _hypertable(connection, relation)
    if relation.distributed:
        return _distributed(connection, relation)
    there = {row[0] for row in connection.execute(_EXTENSIONS).fetchall()}
    if relation.kind == "table" and "timescaledb" in there:
        return [
            Finding(
                "storage",
                "warning",
                "a plain table, although TimescaleDB is here",
                "usage-explore init --migrate  # nobody can use the table while its rows move",
            )
        ]
    if relation.kind == "table" and "citus" in there:
        return [
            Finding(
                "storage",
                "warning",
                "a plain table on the coordinator, although Citus is here",
                "usage-explore init --distribute  # writers wait while its rows move",
            )
        ]
    return [Finding("storage", "ok", f"a plain {relation.kind}, no hypertable; answers are the same")]


def _hypertable(connection: Connection, relation: Relation) -> list[Finding]:
    now = timescale.state(connection, relation.schema, relation.name)
    findings = [
        Finding(
            "storage",
            "ok",
            f"a TimescaleDB hypertable in {now.chunks:,} chunks of {duration(now.interval)}, {now.columnar:,} of them"
            " in the columnstore",
        )
    ]
    schema = timescale.extension(connection).as_string(connection)
    room = timescale.budget(connection)
    per_day = now.index_bytes / (now.interval / timedelta(days=1))
    fit = timescale.fitting(per_day, room) if per_day else now.interval
    if now.index_bytes > 2 * room and fit < now.interval:
        findings.append(
            Finding(
                "chunks",
                "warning",
                f"a new chunk's indexes take {now.index_bytes / 1e9:.1f} GB, more than a quarter of"
                f" effective_cache_size has room for ({room / 1e9:.1f} GB), so ingest slows down",
                f"For chunks made from now on: SELECT {schema}.set_chunk_time_interval("
                f"{literal(relation.sql_name)}, interval '{duration(fit)}');",
            )
        )
    elif now.chunks > _MAX_CHUNKS and fit > now.interval:
        findings.append(
            Finding(
                "chunks",
                "warning",
                f"{now.chunks:,} chunks make every statement slow to plan",
                f"For chunks made from now on: SELECT {schema}.set_chunk_time_interval("
                f"{literal(relation.sql_name)}, interval '{duration(fit)}');",
            )
        )
    return [*findings, *_columnstore(connection, relation, now)]


def _columnstore(connection: Connection, relation: Relation, now: timescale.Hypertable) -> list[Finding]:
    if now.segment_by is None:
        if not timescale.has_columnstore(connection) or _row_security(connection, relation):
            return []
        days = timescale.DEFAULT_COLUMNSTORE_AFTER.days
        return [
            Finding(
                "columnstore",
                "warning",
                "is not used; it takes about a seventh of the space, and aggregates read less",
                f"usage-explore init --columnstore-after {days}",
            )
        ]
    findings = []
    if timescale.SEGMENT_BY not in now.segment_by.replace(" ", "").split(","):
        findings.append(
            Finding(
                "columnstore",
                "warning",
                f"is segmented by {now.segment_by or 'nothing'}, so every look reads other organizations' rows",
                f"For chunks that move from now on: ALTER TABLE {relation.sql_name}"
                f" SET (timescaledb.segmentby = '{timescale.SEGMENT_BY}',"
                f" timescaledb.orderby = '{timescale.ORDER_BY}');",
            )
        )
    if now.after is None:
        findings.append(
            Finding(
                "columnstore",
                "warning",
                "is set up, but nothing moves there by itself",
                f"usage-explore init --columnstore-after {timescale.DEFAULT_COLUMNSTORE_AFTER.days}",
            )
        )
    return findings or [
        Finding(
            "columnstore", "ok", f"takes chunks once their events are older than {duration(now.after or timedelta(0))}"
        )
    ]


def _row_security(connection: Connection, relation: Relation) -> bool:
    """Whether row-level security is on, which excludes TimescaleDB's columnstore."""
    row = connection.execute("SELECT relrowsecurity FROM pg_class WHERE oid = %s::oid", [relation.oid]).fetchone()
    return bool(row and row[0])


def _distributed(connection: Connection, relation: Relation) -> list[Finding]:
    row = connection.execute(_WORKERS).fetchone()
    workers = row[0] if row else 0
    said = f"spread by {relation.distributed} over {workers:,} of Citus's nodes"
    if relation.distributed == ddl.DISTRIBUTION_COLUMN:
        return [Finding("storage", "ok", said)]
    return [
        Finding(
            "storage",
            "warning",
            f"{said}, so every question asks all of them, and nothing keeps (organization_id, timestamp, id) unique"
            " unless that column is in the index",
            f"SELECT alter_distributed_table({literal(relation.sql_name)}, '{ddl.DISTRIBUTION_COLUMN}');",
        )
    ]


_PURPOSE = {
    "page": "paging an organization's events",
    "customer": "one customer's events",
    "cover": "aggregates that need not visit the table",
    "ingested": "finding what was learned since an instant",
    "subscription": "the events of a subscription that has few",
    "product": "the events of a product that has few",
    "metric": "the events of a metric that has few",
    "price": "the events of a price that has few",
    "id": "finding an event by its id",
    "key": "finding the copies of an idempotency key",
    "dimensions": "the events of a dimension's value that has few",
}

_MIN_ANALYZED_BYTES = 100_000_000
"""Size of a table below which missing statistics do not matter."""

_SKIP_SCAN_VERSION = 180_000  # PostgreSQL 18, as in server_version_num


def indexes(connection: Connection, relation: Relation) -> list[Finding]:
    """The indexes that the statements need, and indexes that mislead PostgreSQL 18's planner."""
    if relation.kind not in ("table", "partitioned table"):
        return [
            Finding("index", "ok", f"a {relation.kind} has none of its own; the indexes of the tables behind it serve")
        ]
    there = catalog.existing_indexes(connection, relation)
    return [*_wanted(there, relation), *_unique(there), *_astray(there, relation, connection.info.server_version)]


def _wanted(there: list[ExistingIndex], relation: Relation) -> list[Finding]:
    findings = []
    for wanted in catalog.wanted_indexes(relation):
        purpose = _PURPOSE[catalog.index_purpose(wanted)]
        serving = [index.name for index in there if index.serves(wanted)]
        if serving:
            findings.append(Finding("index", "ok", f"{serving[0]} serves {purpose}"))
        else:
            warning = ";  -- blocks writes while it is made" if catalog.blocks_writers(wanted, relation) else ";"
            fix = catalog.create_index(wanted, relation) + warning
            if any(index.falls_short_of(wanted) for index in there):
                fix = f"usage-explore init  # replaces {wanted.name}, which lacks columns that are read since"
            findings.append(Finding("index", "warning", f"none serves {purpose}, so every look reads more", fix))
    return findings


def _unique(there: list[ExistingIndex]) -> list[Finding]:
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


def _astray(there: list[ExistingIndex], relation: Relation, version: int) -> list[Finding]:
    if version < _SKIP_SCAN_VERSION:
        return []
    drop = "DROP INDEX" if relation.hypertable or relation.kind == "partitioned table" else "DROP INDEX CONCURRENTLY"
    return [
        Finding(
            "index",
            "warning",
            f"{index.name} ({', '.join(index.keys)}) tempts PostgreSQL 18 into a skip scan on wide aggregates,"
            " which makes them several times slower",
            f"Where nothing else needs it: {drop} {quoted(index.name, relation.schema)};",
        )
        for index in there
        if index.method == "btree"
        and index.whole
        and index.keys[0] == "organization_id"
        and index.keys[1:2] not in ((), ("timestamp",), ("ingested_at",), ("id",))
    ]


def statistics(connection: Connection, relation: Relation) -> list[Finding]:
    """The planner's statistics: present, and with the dependence of values on the organization."""
    if relation.kind != "table":
        return []
    findings = []
    size = connection.execute("SELECT pg_table_size(%s::oid::regclass)", [relation.oid]).fetchone()
    if relation.rows < 0 and not relation.hypertable and size and size[0] > _MIN_ANALYZED_BYTES:
        findings.append(
            Finding(
                "statistics",
                "warning",
                "the planner has never looked at the table",
                f"ANALYZE {relation.sql_name};",
            )
        )
    missing = catalog.missing_statistics(connection, relation)
    if missing:
        statements = [f"{create.as_string(connection)};" for create in catalog.create_statistics(relation, missing)]
        findings.append(
            Finding(
                "statistics",
                "warning",
                "the planner takes organizations and what they use for independent, so that looking for what only"
                " others use reads everything",
                "\n".join([*statements, f"ANALYZE {relation.sql_name};"]),
            )
        )
    return findings or [Finding("statistics", "ok", "the planner knows which organization uses what")]


_SETTINGS = """
SELECT pg_size_bytes(current_setting('shared_buffers')), pg_size_bytes(current_setting('work_mem')),
       current_setting('random_page_cost')::float8,
       CASE WHEN %(sized)s THEN pg_table_size(%(oid)s::oid::regclass) ELSE 0 END
"""
_MEGABYTE = 1_048_576
_MIN_SIZE_FOR_SETTINGS_BYTES = 1024 * _MEGABYTE
"""Size of a table below which the server's settings do not matter."""


def settings(connection: Connection, relation: Relation) -> list[Finding]:
    """Settings that hide rows, and those whose defaults are too small for a table of 1 GiB or more."""
    if hidden := timescale.hidden_rows(connection):
        return [Finding("settings", "fault", hidden)]
    row = connection.execute(
        _SETTINGS, {"oid": relation.oid, "sized": relation.kind == "table" and not relation.hypertable}
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    buffers, work, page_cost, size = row
    if relation.hypertable or relation.kind == "partitioned table":
        name = sql.Identifier(relation.schema, relation.name)
        size = catalog.table_size(connection, name)
    if size < _MIN_SIZE_FOR_SETTINGS_BYTES:
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
