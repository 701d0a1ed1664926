"""How large things are: tables, indexes and rollup on disk, processes in memory; and the machine."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.database import TABLE
from usage_explore.writing import Connection

_PACKAGES = ("usage-explore", "sqlalchemy", "psycopg", "pandas", "streamlit", "duckdb", "chdb")

_RELATIONS = """
SELECT pg_table_size(e.oid), pg_indexes_size(e.oid), pg_table_size(r.oid), pg_indexes_size(r.oid),
       (SELECT count(*) FROM {table}_rollup)
FROM pg_class e, pg_class r WHERE e.oid = to_regclass('{table}') AND r.oid = to_regclass('{table}_rollup')
"""

_HYPERTABLE = "SELECT table_bytes + toast_bytes, index_bytes FROM hypertable_detailed_size('{table}')"

_KEPT = """
SELECT dimension, grain::text, share FROM {table}_rollup_kept WHERE organization_id = %s ORDER BY share
"""


def tables(connection: Connection, organization_id: Any, kind: str) -> dict[str, Any]:
    """Bytes of table, indexes and rollup, the rollup's rows, and what it keeps of an organization."""
    with connection.transaction():
        row = connection.execute(_RELATIONS.format(table=TABLE.name).encode()).fetchone()
        kept = connection.execute(_KEPT.format(table=TABLE.name).encode(), [organization_id]).fetchall()
        assert row is not None
        table, indexes = row[:2]
        if kind == "timescaledb":
            found = connection.execute(_HYPERTABLE.format(table=TABLE.name).encode()).fetchone()
            table, indexes = found or row[:2]
        elif kind == "citus":
            found = connection.execute(
                "SELECT citus_table_size(%s), citus_total_relation_size(%s)", [TABLE.name, TABLE.name]
            ).fetchone()
            table, indexes = (found[0], found[1] - found[0]) if found else row[:2]
    return {
        "table": table,
        "indexes": indexes,
        "rollup": row[2] + row[3],
        "rollup_rows": row[4],
        "rollup_of_raw": round((row[2] + row[3]) / (table + indexes), 4),
        "rollup_of_table": round((row[2] + row[3]) / table, 4),
        "kept": {name: grain or "left out" for name, grain, _ in kept},
    }


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
