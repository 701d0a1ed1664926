"""How long a page takes in the server itself: planning and execution as EXPLAIN ANALYZE measures them."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.database import TABLE
from benchmarks.postgres_engines import UsageExplore
from benchmarks.questions import Paged
from usage_explore.db.ddl import Connection
from usage_explore.query.queries import decode_cursor
from usage_explore.sql import filters


def in_server(connection: Connection, engine: UsageExplore, asked: list[Paged], rounds: int) -> dict[str, Any]:
    """Median milliseconds by page, all of them asked in turns."""
    times: dict[str, list[float]] = {each.name: [] for each in asked}
    for each in asked:
        engine.before(each)
    for _ in range(rounds + 1):
        for each in asked:
            times[each.name].append(_explained(connection, engine, each))
    return {name: round(statistics.median(found[1:]), 2) for name, found in times.items()}


def _explained(connection: Connection, engine: UsageExplore, asked: Paged) -> float:
    query = engine.cursors.get(asked, asked.query)
    after = decode_cursor(query.cursor, query) if query.cursor else None
    statement = filters.to_sql(filters.page(TABLE, query, query.limit + 1, after))
    with connection.transaction():
        row = connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}".encode()).fetchone()
    assert row is not None
    plan = row[0][0]
    return float(plan["Planning Time"] + plan["Execution Time"])
