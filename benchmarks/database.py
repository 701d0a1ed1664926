"""The rows in PostgreSQL: table, indexes and statistics, each step timed; made once for the same rows."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.csv
from psycopg import sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from benchmarks import sizes
from benchmarks.rows import Rows
from usage_explore.db import StorageOptions, ddl
from usage_explore.db.ddl import Connection
from usage_explore.db.schema import COLUMNS, events_table, indexes

Say = Callable[[str], object]

TABLE = events_table()
PAGING = f"{TABLE.name}_page"


@dataclass(frozen=True)
class Loaded:
    """What making the database took, in seconds by step, and how large it was then."""

    seconds: dict[str, float] = field(default_factory=dict)
    disk: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, say: Say) -> Iterator[None]:
        """Say what is done now, and take the time."""
        say(f"{name} …")
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)


def prepare(
    connection: Connection, rows: Rows, say: Say, *, distribute: bool = False, extract_only: bool = False
) -> Loaded:
    """The database of these rows: made, unless it is there. Another table of that name is refused.

    A hypertable's older chunks are in the columnstore; with `distribute` the table is spread over Citus's workers. With
    `extract_only` it has only the indexes that an extract and its newest events need.
    """
    found = _marker(connection)
    if found is None:
        loaded = _load(connection, rows, say, distribute, extract_only)
        loaded.disk.update(sizes.events(connection))
        _mark(connection, rows, loaded)
        return loaded
    if found["rows"] != _described(rows):
        raise SystemExit(f"{TABLE.name} is there and holds something else ({found['rows']}); name another database")
    return Loaded(found["seconds"], found["disk"])


def copy(connection: Connection, events: pa.Table) -> None:
    """COPY events into the table."""
    text = io.BytesIO()
    pyarrow.csv.write_csv(events, text, pyarrow.csv.WriteOptions(include_header=False))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(TABLE.name), sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    )
    with connection.cursor().copy(statement) as writer:
        writer.write(text.getbuffer())


def run(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    """A statement outside of any transaction, such as VACUUM; its rows."""
    connection.autocommit = True
    try:
        done = connection.execute(statement.encode())
        return done.fetchall() if done.description else []
    finally:
        connection.autocommit = False


def _load(connection: Connection, rows: Rows, say: Say, distribute: bool, extract_only: bool) -> Loaded:
    loaded = Loaded()
    ddl.ensure_schema(connection, TABLE.name, StorageOptions(distribute=distribute))
    later = indexes(TABLE)[1:]
    with connection.transaction():
        for index in later:
            connection.execute(f"DROP INDEX {index.name}")
    if extract_only:
        later = tuple(index for index in later if index.name == f"{TABLE.name}_ingested")
    with loaded.step(f"copy {rows.number:,} events, with the paging index", say):
        for chunk in rows.chunks():
            with connection.transaction():
                copy(connection, chunk)
    with loaded.step(f"make {len(later)} more indexes", say):
        for index in later:
            with connection.transaction():
                connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
                connection.execute(str(CreateIndex(index).compile(dialect=postgresql.dialect())))
    if (job := _columnstore_job(connection)) is not None:
        with loaded.step("move older chunks to the columnstore", say):
            run(connection, f"CALL run_job({job})")
    with loaded.step("vacuum and analyze", say):
        run(connection, f"VACUUM ANALYZE {TABLE.name}")
    return loaded


def _columnstore_job(connection: Connection) -> int | None:
    """The job that moves chunks to TimescaleDB's columnstore; None where there is none."""
    with connection.transaction():
        if not ddl.is_hypertable(connection, TABLE.name):
            return None
        row = connection.execute(
            "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = %s"
            " AND proc_name IN ('policy_compression', 'policy_columnstore')",
            [TABLE.name],
        ).fetchone()
    return row[0] if row else None


def _described(rows: Rows) -> dict[str, Any]:
    return {"number": rows.number, "seed": rows.seed, "until": rows.until.isoformat()}


def _mark(connection: Connection, rows: Rows, loaded: Loaded) -> None:
    words = json.dumps({"rows": _described(rows), "seconds": loaded.seconds, "disk": loaded.disk})
    with connection.transaction():
        connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(sql.Identifier(TABLE.name), sql.Literal(words)))


def _marker(connection: Connection) -> dict[str, Any] | None:
    """What this module wrote about the table; None where there is no table."""
    with connection.transaction():
        row = connection.execute(
            "SELECT to_regclass(%s) IS NOT NULL, obj_description(to_regclass(%s))", [TABLE.name, TABLE.name]
        ).fetchone()
    there, words = row or (False, None)
    if not there:
        return None
    if not (words or "").startswith('{"rows"'):
        raise SystemExit(f"{TABLE.name} is there and is not the benchmark's; name another database")
    found: dict[str, Any] = json.loads(words)
    return found
