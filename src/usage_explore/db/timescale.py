"""TimescaleDB: the hypertable, its chunk interval, and the columnstore.

Inserts are fast while the indexes of the current chunk are in memory. So the chunk interval is the longest whose
indexes (about 325 bytes per event) fit in a quarter of `effective_cache_size`: 3.4 million events with PostgreSQL's
default of 4 GB. Shorter chunks than necessary cost planning time for each chunk that a query reads.

The columnstore is segmented by organization, because every statement is about one, and ordered as pages are, so that a
page reads one batch of 1,000 events of one chunk. Measured on 3 million events, in ms:

    segment by; order by                     size    first page   30 days by metric   a common metric, 90 days
    (rowstore, for comparison)              1500 MB      0.3           141                   205
    organization; timestamp, id              225 MB      0.6            61                   124
    organization; timestamp                  225 MB       28            32                    86
    organization, metric; timestamp, id      222 MB      1.5            43                    62
    organization, customer; timestamp, id    475 MB      4.1            75                   404

Segmenting by metric, too, speeds up queries for one metric, which an extract answers anyway, but makes small batches
for small organizations. By customer, batches are no longer full.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from usage_explore.db.schema import INDEX_BYTES, StorageOptions
from usage_explore.errors import SettingsMismatch

Connection = psycopg.Connection[tuple[Any, ...]]

DEFAULT_INTERVAL = timedelta(days=7)
"""Chunk interval for an unknown volume: TimescaleDB's default."""

DEFAULT_COLUMNSTORE_AFTER = timedelta(days=7)
"""Most late events arrive before; inserts into the columnstore are slower."""

SEGMENT_BY = "organization_id"
ORDER_BY = "timestamp DESC, id DESC"

_INTERVALS = tuple(timedelta(hours=hours) for hours in (1, 2, 3, 4, 6, 8, 12, 24, 48, 72, 7 * 24, 14 * 24, 28 * 24))
_CACHE_FRACTION = 4
"""Divisor of `effective_cache_size` for the indexes of the current chunk."""

_COLUMNSTORE_SINCE = (2, 18)

_log = logging.getLogger(__name__)

_HIDING = """
SELECT name FROM pg_settings
WHERE (name = 'timescaledb.restoring' AND setting = 'on')
   OR (name IN ('timescaledb.enable_columnarscan', 'timescaledb.enable_transparent_decompression') AND setting = 'off')
ORDER BY name
"""
"""The settings in force with which statements do not see the rows of the columnstore."""

_STATE = """
SELECT d.time_interval,
       (SELECT h.segmentby FROM timescaledb_information.hypertable_columnstore_settings h
        WHERE h.hypertable::oid = to_regclass(format('%%I.%%I', d.hypertable_schema, d.hypertable_name))::oid),
       (SELECT h.orderby FROM timescaledb_information.hypertable_columnstore_settings h
        WHERE h.hypertable::oid = to_regclass(format('%%I.%%I', d.hypertable_schema, d.hypertable_name))::oid),
       (SELECT (j.config ->> 'compress_after'::text)::interval FROM timescaledb_information.jobs j
        WHERE j.hypertable_schema = d.hypertable_schema AND j.hypertable_name = d.hypertable_name
          AND j.proc_name IN ('policy_compression', 'policy_columnstore')),
       (SELECT count(*) FROM timescaledb_information.chunks c
        WHERE c.hypertable_schema = d.hypertable_schema AND c.hypertable_name = d.hypertable_name),
       (SELECT count(*) FROM timescaledb_information.chunks c
        WHERE c.hypertable_schema = d.hypertable_schema AND c.hypertable_name = d.hypertable_name
          AND c.is_compressed)
FROM timescaledb_information.dimensions d
WHERE d.hypertable_schema = %s AND d.hypertable_name = %s AND d.dimension_number = 1
"""

_LARGEST = """
SELECT max(s.index_bytes)
FROM (SELECT c.chunk_schema, c.chunk_name FROM timescaledb_information.chunks c
      WHERE c.hypertable_schema = %s AND c.hypertable_name = %s AND NOT c.is_compressed
      ORDER BY c.range_end DESC LIMIT 5) newest
CROSS JOIN LATERAL (SELECT pg_indexes_size(to_regclass(format('%%I.%%I', chunk_schema, chunk_name))) AS index_bytes) s
"""


@dataclass(frozen=True, slots=True)
class Hypertable:
    """A hypertable's settings: how long a chunk is, the columnstore's, the age at which chunks move there.

    `segment_by` is None without a columnstore, `after` None without a policy; `chunks` of which `columnar` are in
    the columnstore. `index_bytes` are the indexes of the largest of the five newest chunks that are not.
    """

    interval: timedelta
    segment_by: str | None
    order_by: str | None
    after: timedelta | None
    chunks: int
    columnar: int
    index_bytes: int


def hidden_rows(connection: psycopg.Connection[Any]) -> str:
    """Why statements of the connection do not see all rows, and what to do; "" where they do."""
    found = [name for (name,) in connection.execute(_HIDING)]
    if not found:
        return ""
    names = " and ".join(found)
    fix = "end the restore with SELECT timescaledb_post_restore()" if "timescaledb.restoring" in found else "reset it"
    return (
        f"TimescaleDB hides the rows of the columnstore by the setting {names} of the role, the database or the server;"
        f" {fix}"
    )


def expect_all_rows(connection: psycopg.Connection[Any]) -> None:
    """Close a new connection and raise `SettingsMismatch` if its statements do not see all rows."""
    if not (reason := hidden_rows(connection)):
        connection.rollback()
        return
    connection.close()
    raise SettingsMismatch(f"{reason}.")


def available(connection: Connection) -> bool:
    """Whether this database has TimescaleDB, creating the extension where the server offers it."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'),"
        " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
        " AND EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.max_background_workers')"  # it is preloaded
    ).fetchone()
    installed, offered = row or (False, False)
    if installed or not offered:
        return bool(installed)
    try:
        with connection.transaction():
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except psycopg.errors.InsufficientPrivilege:
        _log.warning(
            "TimescaleDB is on this server, but this role may not create its extension; the events table is a plain one"
        )
        return False
    return True


def extension(connection: Connection) -> sql.Identifier:
    """The schema of TimescaleDB's functions, which is any and may be outside the search path."""
    row = connection.execute(
        "SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'timescaledb'"
    ).fetchone()
    assert row is not None  # noqa: S101 - looked for before
    return sql.Identifier(row[0])


def size(connection: Connection, name: sql.Identifier) -> int | None:
    """The bytes of a hypertable's chunks with their indexes; None if it is no hypertable."""
    row = connection.execute("SELECT to_regclass('timescaledb_information.hypertables') IS NOT NULL").fetchone()
    if not (row and row[0]):
        return None
    row = connection.execute(
        sql.SQL(
            "SELECT {}.hypertable_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " JOIN timescaledb_information.hypertables ON hypertable_schema = nspname AND hypertable_name = relname"
            " WHERE c.oid = to_regclass(%s)::oid"
        ).format(extension(connection)),
        [name.as_string(connection)],
    ).fetchone()
    return int(row[0] or 0) if row else None


def has_columnstore(connection: Connection) -> bool:
    """Whether this TimescaleDB has a columnstore: 2.18 or newer, under the Timescale licence."""
    row = connection.execute(
        "SELECT extversion, current_setting('timescaledb.license', true) FROM pg_extension"
        " WHERE extname = 'timescaledb'"
    ).fetchone()
    if row is None:
        return False
    version = tuple(int(part) for part in row[0].split("-")[0].split(".")[:2])
    return version >= _COLUMNSTORE_SINCE and row[1] == "timescale"


def state(connection: Connection, schema: str, name: str) -> Hypertable:
    """The settings of the hypertable `schema.name`."""
    row: tuple[Any, ...] | None = connection.execute(_STATE, [schema, name]).fetchone()
    assert row is not None  # noqa: S101 - the caller knows that it is one
    interval, segment_by, order_by, after, chunks, columnar = row
    largest = connection.execute(_LARGEST, [schema, name]).fetchone()
    index_bytes = int(largest[0] or 0) if largest else 0
    return Hypertable(interval, segment_by, order_by, after, chunks, columnar, index_bytes)


def budget(connection: Connection) -> int:
    """The bytes for the indexes of the current chunk: a quarter of effective_cache_size."""
    row = connection.execute(
        "SELECT pg_size_bytes(current_setting('effective_cache_size')) / %s", [_CACHE_FRACTION]
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return int(row[0])


def fitting(bytes_per_day: float, room: int) -> timedelta:
    """The longest of the intervals from an hour to four weeks whose indexes have at most `room` bytes."""
    fits = [interval for interval in _INTERVALS if bytes_per_day * (interval / timedelta(days=1)) <= room]
    return max(fits, default=_INTERVALS[0])


def interval_for(connection: Connection, events_per_day: float) -> timedelta:
    """The chunk interval for a volume, on this server."""
    return fitting(events_per_day * sum(INDEX_BYTES.values()), budget(connection))


def measured(connection: Connection, name: sql.Identifier) -> float | None:
    """Events per day of the table, from the first event to the last; None for fewer than 1,000 events."""
    row = connection.execute(
        sql.SQL(
            "SELECT count(*), min(timestamp), max(timestamp) FROM {}"
            " WHERE timestamp >= '1970-01-01Z' AND timestamp < '2200-01-01Z'"
        ).format(name)
    ).fetchone()
    events, first, last = row or (0, None, None)
    if events < 1_000 or not isinstance(first, datetime) or not isinstance(last, datetime):
        return None
    return float(events / max((last - first) / timedelta(days=1), 1))


def settle(
    connection: Connection, name: sql.Identifier, options: StorageOptions, *, migrate: bool = False
) -> timedelta:
    """Make a hypertable of the table, by the options; returns the chunk interval.

    With `migrate` its rows move into chunks, and it is locked meanwhile.
    """
    volume = options.events_per_day or (measured(connection, name) if migrate else None)
    interval = interval_for(connection, volume) if volume else DEFAULT_INTERVAL
    connection.execute(
        sql.SQL(
            "SELECT {0}.create_hypertable(%s::regclass, {0}.by_range('timestamp', %s::interval),"
            " create_default_indexes => false, migrate_data => %s)"
        ).format(extension(connection)),
        [name.as_string(connection), interval, migrate],
    )
    after = DEFAULT_COLUMNSTORE_AFTER if options.columnstore_after is None else options.columnstore_after
    if after and has_columnstore(connection):
        enable_columnstore(connection, name)
        set_policy(connection, name, after)
    return interval


def set_interval(connection: Connection, name: sql.Identifier, interval: timedelta) -> None:
    """Set the interval of new chunks."""
    connection.execute(
        sql.SQL("SELECT {}.set_chunk_time_interval(%s::regclass, %s::interval)").format(extension(connection)),
        [name.as_string(connection), interval],
    )


def enable_columnstore(connection: Connection, name: sql.Identifier) -> None:
    """Enable the columnstore, segmented and ordered for our statements."""
    connection.execute(
        sql.SQL(
            "ALTER TABLE {} SET (timescaledb.enable_columnstore = true,"
            " timescaledb.segmentby = {}, timescaledb.orderby = {})"
        ).format(name, sql.Literal(SEGMENT_BY), sql.Literal(ORDER_BY))
    )


def disable_columnstore(connection: Connection, name: sql.Identifier) -> None:
    """Disable the columnstore of a hypertable without chunks in it; row-level security requires that."""
    connection.execute(sql.SQL("ALTER TABLE {} SET (timescaledb.enable_columnstore = false)").format(name))


def set_policy(connection: Connection, name: sql.Identifier, after: timedelta) -> None:
    """Move chunks to the columnstore when their events are older than `after`; zero removes the policy."""
    table, schema = name.as_string(connection), extension(connection)
    connection.execute(
        sql.SQL("CALL {}.remove_columnstore_policy(%s::regclass, if_exists => true)").format(schema), [table]
    )
    if after:
        connection.execute(
            sql.SQL("CALL {}.add_columnstore_policy(%s::regclass, after => %s::interval)").format(schema),
            [table, after],
        )
