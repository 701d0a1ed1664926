"""Whether a file without keys was loaded before with its times in another zone, and so counts twice.

Nothing but content tells: rows of two loads with equal organization, customer, metric, quantity and dimensions, the
first with the first, the second with the second, differ in time by the distance of two zones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

MAX_DISTANCE = timedelta(hours=14)
"""Hours between the times of two zones for one local time; more are not looked for."""

ZONE_GRID_SECONDS = 900
"""Seconds; the distance of two zones is a multiple of it."""

MIN_ROWS = 10
"""Rows that must differ by the distance of two zones: fewer may do so by chance."""

MIN_SHARE = 0.9
"""Share of the telling rows of the smaller load that must differ by the distance of two zones."""

_CLOCK_CHANGE = timedelta(hours=1)

PAIRS: LiteralString = """
WITH rows AS (
    SELECT organization_id, customer_id, metric_key, quantity, coalesce(dimensions, '{{}}') AS dimensions, timestamp,
        'infinity'::timestamptz AS load
    FROM {stage} WHERE NOT keyed AND ingested_at IS NULL
    UNION ALL
    SELECT organization_id, customer_id, metric_key, quantity, coalesce(dimensions, '{{}}'), timestamp, ingested_at
    FROM {table}
    WHERE idempotency_key LIKE 'row:%%' AND organization_id = ANY (%(organizations)s)
      AND timestamp BETWEEN %(first)s::timestamptz - %(distance)s AND %(last)s::timestamptz + %(distance)s
), placed AS (
    SELECT rows.*,
        row_number() OVER (PARTITION BY organization_id, customer_id, metric_key, quantity, dimensions, load
                           ORDER BY timestamp) AS place,
        min(quantity) OVER series < max(quantity) OVER series OR extract(second FROM timestamp) <> 0 AS telling
    FROM rows WINDOW series AS (PARTITION BY organization_id, customer_id, metric_key, load)
), loads AS MATERIALIZED (
    SELECT load, min(timestamp) AS first, max(timestamp) AS last, count(*) FILTER (WHERE telling) AS telling
    FROM placed GROUP BY load HAVING count(*) FILTER (WHERE telling) >= %(min_rows)s
), pairs AS (
    SELECT stored.load, staged.timestamp - stored.timestamp AS apart, count(*) AS rows
    FROM placed staged JOIN placed stored USING (organization_id, customer_id, metric_key, quantity, dimensions, place)
    WHERE staged.load = 'infinity' AND stored.load < 'infinity' AND staged.telling AND staged.timestamp
      BETWEEN stored.timestamp - %(distance)s AND stored.timestamp + %(distance)s
    GROUP BY 1, 2
)
SELECT pairs.apart, pairs.rows, stored.load, stored.first, stored.last, stored.telling,
       staged.first, staged.last, staged.telling
FROM pairs JOIN loads stored USING (load) JOIN loads staged ON staged.load = 'infinity'
"""
"""Numbers of staged rows by stored load and distance in time, and both loads: first and last time, telling rows."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows of one load: their first and last time, and how many are telling.

    A row tells two loads from two meters that send the same at other times if quantities of its customer's metric
    differ, or its time is off the minute.
    """

    first: datetime
    last: datetime
    telling: int

    def overlaps(self, other: Loaded) -> bool:
        """Whether the two have at least half of the shorter one's time in common."""
        shorter = min(self.last - self.first, other.last - other.first)
        common = min(self.last, other.last) - max(self.first, other.first)
        return bool(shorter) and 2 * common >= shorter


def zone_distances(apart: Mapping[timedelta, int], one: Loaded, other: Loaded) -> set[timedelta]:
    """The distances of two zones by which the rows of two loads differ, one or, over a change of clocks, two.

    `apart` has the numbers of telling rows by what they differ. Empty if the loads are no copies of each other.
    """
    possible = {
        distance: rows
        for distance, rows in apart.items()
        if distance and abs(distance) <= MAX_DISTANCE and not distance % timedelta(seconds=ZONE_GRID_SECONDS)
    }
    if not possible or not one.overlaps(other):
        return set()
    usual = max(possible, key=lambda distance: possible[distance])
    beside = max((usual - _CLOCK_CHANGE, usual + _CLOCK_CHANGE), key=lambda distance: possible.get(distance, 0))
    found = {usual, beside} & set(possible)
    rows = sum(possible[distance] for distance in found)
    return found if rows >= max(MIN_ROWS, MIN_SHARE * min(one.telling, other.telling)) else set()


def rows_in_another_zone(pairs: Iterable[tuple[Any, ...]]) -> int:
    """The staged rows that a stored load has in another zone, of the rows of `PAIRS`."""
    apart: dict[datetime, dict[timedelta, int]] = defaultdict(dict)
    loads: dict[datetime, tuple[Loaded, Loaded]] = {}
    for distance, rows, load, *spans in pairs:
        apart[load][distance] = rows
        loads[load] = Loaded(*spans[:3]), Loaded(*spans[3:])
    return max(
        (sum(apart[load][distance] for distance in zone_distances(apart[load], *both)) for load, both in loads.items()),
        default=0,
    )
