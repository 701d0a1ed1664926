"""Whether a file without keys was loaded before with its times in another zone, and so counts twice.

Nothing but content tells: rows of two loads with equal organization, customer, metric, quantity and dimensions, the
first with the first, the second with the second, differ in time by the distance of two zones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString, NamedTuple

MAX_DISTANCE = timedelta(hours=14)
"""Hours between the times of two zones for one local time; more are not looked for."""

ZONE_GRID_SECONDS = 900
"""Seconds; the distance of two zones is a multiple of it."""

MIN_ROWS = 10
"""Telling rows that must differ by the distance of two zones: fewer may do so by chance."""

MIN_SHARE = 0.9
"""Share of the telling rows which both loads have that must differ by the distance of two zones."""

MIN_COMMON_SHARE = 0.5
"""Share of the smaller load that must differ by the distance of two zones."""

_CLOCK_CHANGE = timedelta(hours=1)

PAIRS: LiteralString = """
WITH telling AS (
    SELECT organization_id, customer_id, metric_key FROM {stage} WHERE NOT keyed
    GROUP BY 1, 2, 3 HAVING min(quantity) < max(quantity)
), rows AS (
    SELECT organization_id, customer_id, metric_key, quantity, dimensions, timestamp, NULL AS load,
        extract(second FROM timestamp) <> 0
        OR (organization_id, customer_id, metric_key) IN (SELECT * FROM telling) AS telling
    FROM {stage} WHERE NOT keyed AND ingested_at IS NULL
    UNION ALL
    SELECT organization_id, customer_id, metric_key, quantity, dimensions, timestamp, ingested_at, NULL
    FROM {table}
    WHERE idempotency_key LIKE 'row:%%' AND organization_id = ANY (%(organizations)s)
      AND timestamp BETWEEN %(first)s::timestamptz - %(distance)s AND %(last)s::timestamptz + %(distance)s
), read AS MATERIALIZED (
    SELECT hashtextextended(
        ROW(organization_id, customer_id, metric_key, trim_scale(quantity), dimensions)::text, 0) AS content,
        timestamp, load, telling
    FROM rows
), loads AS MATERIALIZED (
    SELECT load, min(timestamp) AS first, max(timestamp) AS last, count(*) AS rows
    FROM read GROUP BY load HAVING count(*) >= %(min_rows)s
), placed AS MATERIALIZED (
    SELECT content, timestamp, load, telling,
        row_number() OVER (PARTITION BY content, load ORDER BY timestamp) AS place
    FROM read
    WHERE content IN (SELECT content FROM read WHERE load IS NULL)
      AND content IN (SELECT content FROM read WHERE load IS NOT NULL)
), pairs AS (
    SELECT stored.load, staged.timestamp - stored.timestamp AS apart, staged.telling
    FROM placed staged JOIN placed stored USING (content, place)
    WHERE staged.load IS NULL AND stored.load IS NOT NULL
), counted AS (
    SELECT load, CASE WHEN apart BETWEEN - %(distance)s AND %(distance)s
                       AND mod(extract(epoch FROM apart), %(grid)s) = 0 THEN apart END AS apart,
        count(*) AS rows, count(*) FILTER (WHERE telling) AS telling
    FROM pairs GROUP BY 1, 2
)
SELECT counted.apart, counted.rows, counted.telling, stored.*, staged.first, staged.last, staged.rows
FROM counted JOIN loads stored USING (load) JOIN loads staged ON staged.load IS NULL
"""
"""Numbers of staged rows, and of telling ones, by stored load and distance in time, NULL where zones have none such;
and of both loads the first and last time and the rows. Content is compared by a hash of 64 bits."""


PARAMETERS = {"distance": MAX_DISTANCE, "min_rows": MIN_ROWS, "grid": ZONE_GRID_SECONDS}
"""Of `PAIRS`, beside those of the stage."""


class Apart(NamedTuple):
    """Rows of two loads that differ by one distance in time, and how many of these are telling.

    A row tells two loads from two meters that send the same at other times if quantities of its customer's metric
    differ, or its time is off the minute.
    """

    rows: int
    telling: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows of one load: their first and last time, and their number."""

    first: datetime
    last: datetime
    rows: int

    def overlaps(self, other: Loaded) -> bool:
        """Whether the two have at least half of the shorter one's time in common."""
        shorter = min(self.last - self.first, other.last - other.first)
        common = min(self.last, other.last) - max(self.first, other.first)
        return bool(shorter) and 2 * common >= shorter


def zone_distances(apart: Mapping[timedelta | None, Apart], one: Loaded, other: Loaded) -> set[timedelta]:
    """The distances of two zones by which the rows of two loads differ, one or, over a change of clocks, two.

    `apart` has rows by what they differ, None for all that no two zones differ by. Empty if the loads are no copies of
    each other.
    """
    possible = {distance: counts for distance, counts in apart.items() if distance}
    if not possible or not one.overlaps(other):
        return set()
    usual = max(possible, key=lambda distance: possible[distance].telling)
    beside = max((usual - _CLOCK_CHANGE, usual + _CLOCK_CHANGE), key=lambda near: possible.get(near, Apart(0, 0)))
    found = {usual, beside} & set(possible)
    telling = sum(possible[distance].telling for distance in found)
    is_most = telling >= max(MIN_ROWS, MIN_SHARE * sum(counts.telling for counts in apart.values()))
    rows = sum(possible[distance].rows for distance in found)
    return found if is_most and rows >= MIN_COMMON_SHARE * min(one.rows, other.rows) else set()


def rows_in_another_zone(pairs: Iterable[tuple[Any, ...]]) -> int:
    """The staged rows that a stored load has in another zone, of the rows of `PAIRS`."""
    apart: dict[datetime, dict[timedelta | None, Apart]] = defaultdict(dict)
    loads: dict[datetime, tuple[Loaded, Loaded]] = {}
    for distance, rows, telling, load, *spans in pairs:
        apart[load][distance] = Apart(rows, telling)
        loads[load] = Loaded(*spans[:3]), Loaded(*spans[3:])
    return max(
        (
            sum(apart[load][distance].rows for distance in zone_distances(apart[load], *both))
            for load, both in loads.items()
        ),
        default=0,
    )
