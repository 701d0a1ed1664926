"""How large things are: table and indexes on disk, processes in memory; and the machine."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import psutil  # type: ignore[import-untyped]

from usage_explore.db.ddl import Connection
from usage_explore.db.schema import events_table

TABLE = events_table()

_PACKAGES = ("usage-explore", "sqlalchemy", "psycopg", "pandas", "streamlit", "duckdb", "chdb")

_TABLE = "SELECT pg_table_size('{table}'), pg_indexes_size('{table}')"
_HYPERTABLE = "SELECT table_bytes + toast_bytes, index_bytes FROM hypertable_detailed_size('{table}')"
_DISTRIBUTED = "SELECT citus_table_size('{table}'), citus_total_relation_size('{table}') - citus_table_size('{table}')"


def events(connection: Connection) -> dict[str, int]:
    """Bytes of the events table and of its indexes, wherever their parts are."""
    with connection.transaction():
        extensions = {name for (name,) in connection.execute("SELECT extname FROM pg_extension")}
        statement = _HYPERTABLE if "timescaledb" in extensions else _DISTRIBUTED if "citus" in extensions else _TABLE
        table, indexes = _row(connection, statement)
    return {"table": table, "indexes": indexes}


def _row(connection: Connection, statement: str) -> tuple[int, int]:
    row = connection.execute(statement.format(table=TABLE.name).encode()).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def server_memory(connection: Connection) -> float | None:
    """MiB of a server on this machine, shared pages counted once; None where it is elsewhere."""
    with connection.transaction():
        row = connection.execute("SELECT pg_backend_pid(), inet_server_addr() IS NULL").fetchone()
    if row is None or not row[1]:
        return None
    try:
        parent = psutil.Process(row[0]).parent()
        family = [parent, *parent.children(recursive=True)]
        return round(sum(process.memory_full_info().pss for process in family) / 2**20)
    except (psutil.Error, AttributeError):
        return None


def machine(connection: Connection) -> dict[str, Any]:
    """Where it ran: processors, memory, versions; no names and no places."""
    with connection.transaction():
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('shared_buffers'), current_setting('work_mem')"
        ).fetchone()
    server, buffers, work = row or ("", "", "")
    return {
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "postgresql": server.split()[0],
        "shared_buffers": buffers,
        "work_mem": work,
        "packages": {name: version(name) for name in _PACKAGES if _installed(name)},
    }


def _installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True
