"""Stored loads that have the rows of a file that replaces in another time zone.

Rows of the file are looked up by their content among the stored events, up to 26 hours earlier or later: a load is one
of the zone whose clock gives the times of most of their twins for the file's clock times.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from psycopg import sql

from usage_explore.db.ddl import Connection

_SAMPLED_ROWS = 1_000
"""Rows of the file that are looked up."""

_MIN_ROWS = 3
"""Rows with a twin in the load: fewer are as far away by chance."""

MAX_APART = timedelta(hours=26)
"""Distance of the times that the same clock has in two time zones."""

_TWINS = """
WITH s AS MATERIALIZED (SELECT * FROM {stage} ORDER BY hashint8(ordinal) LIMIT {rows})
SELECT t.ingested_at, s.timestamp, array_agg(DISTINCT s.timestamp - t.timestamp)
FROM {table} t JOIN s ON t.organization_id = s.organization_id AND t.customer_id = s.customer_id
     AND t.metric_key = s.metric_key AND t.quantity = s.quantity AND t.dimensions = s.dimensions
WHERE t.organization_id = ANY (%(organizations)s)
  AND t.timestamp BETWEEN %(first)s - %(apart)s AND %(last)s + %(apart)s
  AND t.timestamp BETWEEN s.timestamp - %(apart)s AND s.timestamp + %(apart)s
  AND mod(extract(epoch FROM s.timestamp - t.timestamp), 900::numeric) = 0::numeric
GROUP BY t.ingested_at, s.ordinal, s.timestamp
"""
"""By load and row of the file: how much later the row is than each of its twins, in quarters of an hour."""

_Twins = list[tuple[datetime, set[timedelta]]]
"""Rows of the file with twins: the time on the file's clock, and the offsets from UTC that give the twins' times."""


def moved_loads(
    connection: Connection, table: sql.Identifier, stage: sql.Identifier, span: Mapping[str, Any], zone: ZoneInfo
) -> dict[datetime, str]:
    """Arrivals of the loads in another zone than `zone`, the file's, with the names of theirs.

    `span` has the staged rows' `organizations`, and the `first` and `last` of their times.
    """
    statement = sql.SQL(_TWINS).format(stage=stage, table=table, rows=_SAMPLED_ROWS)
    twins: dict[datetime, _Twins] = defaultdict(list)
    same: Counter[datetime] = Counter()
    connection.execute("SET LOCAL enable_nestloop = off")  # the stored events are read once
    for load, time, later in connection.execute(statement, {**span, "apart": MAX_APART}):
        local = time.astimezone(zone)
        twins[load].append((local.replace(tzinfo=None), {local.utcoffset() + each for each in later}))
        same[load] += timedelta() in later
    connection.execute("SET LOCAL enable_nestloop TO DEFAULT")
    zones = {load: _zone(rows, same[load]) for load, rows in twins.items()}
    return {load: name for load, name in zones.items() if name}


def _zone(twins: _Twins, same: int) -> str:
    """The name of the load's zone; empty where nothing shows one, or `same` rows have twins in the file's zone."""
    rows = Counter(offset for _, offsets in twins for offset in offsets)
    if same == len(twins) or len(twins) < _MIN_ROWS:
        return ""
    common = {offset for offset, _ in rows.most_common(2)}
    best, shown, shown_offsets = "", same, set[timedelta]()
    for name in ("UTC", *sorted(name for name in available_timezones() if "/" in name)):
        zone = ZoneInfo(name)
        if not {zone.utcoffset(time) for time, _ in (twins[0], twins[-1])} & common:
            continue
        fits: list[timedelta] = []
        for time, offsets in twins:
            own = {zone.utcoffset(time.replace(fold=fold)) for fold in (0, 1)} & offsets
            fits += [one for one in own if one is not None][:1]
        if len(fits) > shown:
            best, shown, shown_offsets = name, len(fits), set(fits)
    others = max((number for offset, number in rows.items() if offset not in shown_offsets), default=0)
    return "" if shown < max(_MIN_ROWS, len(twins) / 2) or 2 * others > shown else best
