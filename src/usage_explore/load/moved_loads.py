"""Stored loads that have the rows of a file that replaces in another time zone.

Rows of the file are looked up by their content among the stored events, up to 14 hours earlier or later: a load is one
of another zone where the times of most of their twins are those of the file's clock at one offset from UTC.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg import sql

from usage_explore.db.ddl import Connection

_SAMPLED_ROWS = 1_000
"""Rows of the file that are looked up."""

_MIN_ROWS = 3
"""Rows with a twin in the load: fewer are as far away by chance."""

_NEAR_ROWS = 20
"""Rows nearest to a time that say how far the twins are there."""

_CLOCK_CHANGE = timedelta(hours=1)

_TWINS = """
WITH s AS MATERIALIZED (SELECT * FROM {stage} ORDER BY hashint8(ordinal) LIMIT {rows})
SELECT t.ingested_at, s.timestamp, array_agg(DISTINCT s.timestamp - t.timestamp)
FROM {table} t JOIN s ON t.organization_id = s.organization_id AND t.customer_id = s.customer_id
     AND t.metric_key = s.metric_key AND t.quantity = s.quantity AND t.dimensions = s.dimensions
WHERE t.organization_id = ANY (%(organizations)s)
  AND t.timestamp BETWEEN %(first)s - interval '14 hours' AND %(last)s + interval '14 hours'
  AND t.timestamp BETWEEN s.timestamp - interval '14 hours' AND s.timestamp + interval '14 hours'
  AND mod(extract(epoch FROM s.timestamp - t.timestamp), 900) = 0
GROUP BY t.ingested_at, s.ordinal, s.timestamp
"""
"""By load and row of the file: how much later the row is than each of its twins, in quarters of an hour."""

_Twins = list[tuple[datetime, bool, set[timedelta]]]
"""Rows of the file: time, whether a twin in a load has it, and the offsets from UTC that give the twins' times."""


def moved_loads(
    connection: Connection,
    table: sql.Identifier,
    stage: sql.Identifier,
    span: Mapping[str, Any],
    times: Sequence[datetime],
    zone: ZoneInfo,
) -> dict[datetime, list[timedelta]]:
    """Arrivals of the loads in another zone than `zone`, the file's, with the offsets of theirs near each of the times.

    `span` has the staged rows' `organizations`, and the `first` and `last` of their times.
    """
    statement = sql.SQL(_TWINS).format(stage=stage, table=table, rows=_SAMPLED_ROWS)
    twins: dict[datetime, _Twins] = defaultdict(list)
    connection.execute("SET LOCAL enable_nestloop = off")  # the stored events are read once
    for load, time, later in connection.execute(statement, span):
        offset = time.astimezone(zone).utcoffset()
        twins[load].append((time, timedelta() in later, {offset + each for each in later}))
    connection.execute("SET LOCAL enable_nestloop TO DEFAULT")
    offsets = {load: _offsets(rows, times) for load, rows in twins.items()}
    return {load: found for load, found in offsets.items() if found}


def _offsets(twins: _Twins, times: Sequence[datetime]) -> list[timedelta]:
    """The offsets of the load's zone near each of the times; empty where nothing shows it, or it is the file's zone.

    It is the one that most rows would show, or, over a change of clocks, two parts of them.
    """
    rows = Counter(offset for *_, offsets in twins for offset in offsets)
    same = sum(is_same for _, is_same, _ in twins)
    usual = max(rows, key=lambda offset: rows[offset])
    beside = max((usual - _CLOCK_CHANGE, usual + _CLOCK_CHANGE), key=lambda offset: rows[offset])
    shown = [(time, offsets) for time, _, offsets in twins if offsets & {usual, beside}]
    others = max((number for offset, number in rows.items() if offset not in (usual, beside)), default=0)
    if same >= rows[usual] or len(shown) < max(_MIN_ROWS, len(twins) / 2) or 2 * others > len(shown):
        return []
    found = []
    for at in times:
        near = sorted(shown, key=lambda row: abs(row[0] - at))[:_NEAR_ROWS]
        found.append(usual if 2 * sum(usual in offsets for _, offsets in near) >= len(near) else beside)
    return found
