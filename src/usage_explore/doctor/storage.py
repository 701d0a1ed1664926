"""Checks of how the table is stored: plain, a TimescaleDB hypertable, spread over Citus's workers."""

from __future__ import annotations

from datetime import timedelta

from usage_explore.db import citus, timescale
from usage_explore.db.catalog import Relation
from usage_explore.doctor.finding import Connection, Finding
from usage_explore.formatting import duration
from usage_explore.sql.identifiers import literal, quoted

_MANY_CHUNKS = 2_000
_EXTENSIONS = "SELECT extname FROM pg_extension WHERE extname IN ('timescaledb', 'citus') ORDER BY 1"
_WORKERS = "SELECT count(*) FROM pg_dist_node WHERE noderole = 'primary' AND shouldhaveshards"


def storage(connection: Connection, found: Relation) -> list[Finding]:
    """Any of them works and answers the same; what could be quicker is said."""
    if found.hypertable:
        return _hypertable(connection, found)
    if found.distributed:
        return _distributed(connection, found)
    there = {row[0] for row in connection.execute(_EXTENSIONS).fetchall()}
    if found.kind == "table" and "timescaledb" in there:
        return [
            Finding(
                "storage",
                "warning",
                "a plain table, although TimescaleDB is here",
                "usage-explore init --migrate  # nobody can use the table while its rows move",
            )
        ]
    if found.kind == "table" and "citus" in there:
        return [
            Finding(
                "storage",
                "warning",
                "a plain table on the coordinator, although Citus is here",
                "usage-explore init --distribute  # writers wait while its rows move",
            )
        ]
    return [Finding("storage", "ok", f"a plain {found.kind}, no hypertable; answers are the same")]


def _hypertable(connection: Connection, found: Relation) -> list[Finding]:
    now = timescale.state(connection, found.schema, found.name)
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
                f"{literal(quoted(found.name, found.schema))}, interval '{duration(fit)}');",
            )
        )
    elif now.chunks > _MANY_CHUNKS and fit > now.interval:
        findings.append(
            Finding(
                "chunks",
                "warning",
                f"{now.chunks:,} chunks make every statement slow to plan",
                f"For chunks made from now on: SELECT {schema}.set_chunk_time_interval("
                f"{literal(quoted(found.name, found.schema))}, interval '{duration(fit)}');",
            )
        )
    return [*findings, *_columnstore(connection, found, now)]


def _columnstore(connection: Connection, found: Relation, now: timescale.Hypertable) -> list[Finding]:
    if now.segment_by is None:
        if not timescale.has_columnstore(connection) or _walled(connection, found):
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
                f"For chunks that move from now on: ALTER TABLE {quoted(found.name, found.schema)}"
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


def _walled(connection: Connection, found: Relation) -> bool:
    """Whether row-level security is on, which TimescaleDB does not combine with the columnstore."""
    row = connection.execute("SELECT relrowsecurity FROM pg_class WHERE oid = %s", [found.oid]).fetchone()
    return bool(row and row[0])


def _distributed(connection: Connection, found: Relation) -> list[Finding]:
    row = connection.execute(_WORKERS).fetchone()
    workers = row[0] if row else 0
    said = f"spread by {found.distributed} over {workers:,} of Citus's nodes"
    if found.distributed == citus.COLUMN:
        return [Finding("storage", "ok", said)]
    return [
        Finding(
            "storage",
            "warning",
            f"{said}, so every question asks all of them, and nothing keeps (organization_id, timestamp, id) unique"
            " unless that column is in the index",
            f"SELECT alter_distributed_table({literal(quoted(found.name, found.schema))}, '{citus.COLUMN}');",
        )
    ]
