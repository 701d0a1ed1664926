"""Which dimensions the rollup keeps, and at which grain: measured from each organization's newest events.

A dimension's *share* is how many rollup rows one event needs, its summary's included; it has a summary where that takes
half the rows or fewer. Few values keep hours; many, such as customers, keep
days; what would hardly shrink, such as a request's own id, is left out. All of an organization's dimensions together
stay within a budget, the cheapest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.decimals import decimal_context, ratio
from usage_explore.rollup.catalog import Entry
from usage_explore.sql.identifiers import identifier
from usage_explore.sql.rollup_plan import COLUMNS, DAY, HOUR, KEYS, NONE

SAMPLE = 100_000
"""Newest events of an organization that are measured."""

MAX_MEASURED_KEYS = 200
"""Dimension keys of an organization that are measured: the most frequent ones of the sample. Each is a value per event,
so the keys of one event, such as 100,000 of a JSON object, must not decide how long this takes. Others are not kept:
the events answer them."""

MOST_HOURLY = Decimal("0.08")
MOST_DAILY = Decimal("0.15")
BUDGET = Decimal("0.40")
"""Rollup rows per event: of one dimension by the hour, by the day, and of all together. A row takes about as much room
as half an event, its index included."""

LONGEST_VALUE = 500
"""Bytes of a value beyond which its dimension is left out: the index could not hold it."""

_COLUMNS = ", ".join(f"('{name}', e.{name}::text)" for name in COLUMNS)

_MEASURE = f"""
WITH sample AS MATERIALIZED (
    SELECT * FROM {{events}}
    WHERE organization_id = %(organization)s AND timestamp >= '1970-01-01Z' AND timestamp < '2200-01-01Z'
      AND ingested_at >= '1970-01-01Z' AND ingested_at < '2200-01-01Z'
    ORDER BY timestamp DESC, id DESC LIMIT {SAMPLE}
), keys AS (
    SELECT key FROM sample,
        jsonb_object_keys(CASE jsonb_typeof(dimensions) WHEN 'object' THEN dimensions END) AS k (key)
    WHERE key <> '' GROUP BY key ORDER BY count(*) DESC, key LIMIT {MAX_MEASURED_KEYS}
), parts AS (
    SELECT v.dimension, v.value, e.metric_key, date_bin('1 hour', e.timestamp, '1970-01-01') AS hour,
           date_bin('1 hour', e.ingested_at, '1970-01-01') AS ingested
    FROM sample e, LATERAL (
        VALUES ('none', NULL), {_COLUMNS}
        UNION ALL SELECT 'dim:' || keys.key, e.dimensions ->> keys.key FROM keys
        UNION ALL SELECT 'keys', k.key
            FROM jsonb_object_keys(CASE jsonb_typeof(e.dimensions) WHEN 'object' THEN e.dimensions END) AS k (key)
    ) AS v (dimension, value)
), hours AS (
    SELECT dimension, value, metric_key, hour, ingested FROM parts GROUP BY 1, 2, 3, 4, 5
), days AS (
    SELECT dimension, value, metric_key, date_bin('1 day', hour, '1970-01-01') AS day,
           date_bin('1 day', ingested, '1970-01-01') AS ingested, count(*) AS hours
    FROM hours GROUP BY 1, 2, 3, 4, 5
), totals AS (
    SELECT dimension, value, count(*) AS days, sum(hours) AS hours FROM days GROUP BY 1, 2, day, ingested
)
SELECT dimension, sum(hours)::bigint, sum(days)::bigint, count(*), coalesce(max(octet_length(value)), 0),
       (SELECT count(*) FROM sample)
FROM totals GROUP BY 1
"""  # noqa: S608 - our own column names


@dataclass(frozen=True, slots=True)
class Measured:
    """A dimension in the sample: rollup rows per event at each grain and by the day with the metrics added up, and the
    longest value's bytes.
    """

    dimension: str
    hourly: Decimal
    daily: Decimal
    total: Decimal
    longest: int

    def summary(self, grain: timedelta) -> Decimal | None:
        """Rows per event of its summary; None where that would not be much shorter."""
        rows, summary = (self.daily, self.total) if grain == DAY else (self.hourly, self.daily)
        return summary if 2 * summary <= rows else None


def measure(connection: Connection, events: Table, organization_id: UUID) -> list[Measured]:
    """Every column and the `MAX_MEASURED_KEYS` most frequent dimension keys of the organization's newest events.

    Belongs into a transaction.
    """
    before = connection.execute("SELECT current_setting('enable_sort')").fetchone()
    # hashing takes a third of the time; the planner cannot know how few the groups are, and would sort
    connection.execute("SELECT set_config('enable_sort', 'off', true)")
    rows = connection.execute(
        sql.SQL(_MEASURE).format(events=identifier(events)), {"organization": organization_id}
    ).fetchall()
    connection.execute("SELECT set_config('enable_sort', %s, true)", before)
    return [
        Measured(dimension, ratio(hours, size), ratio(days, size), ratio(totals, size), longest)
        for dimension, hours, days, totals, longest, size in rows
    ]


@decimal_context()
def choose(organization_id: UUID, found: Iterable[Measured], before: Iterable[Entry], now: datetime) -> list[Entry]:
    """New lines of the catalogue for what was measured: what is kept stays as it is, what was set by hand too."""
    fixed = {entry.dimension: entry for entry in before if entry.is_fixed}
    spent = sum((entry.share or Decimal(0) for entry in fixed.values() if entry.grain), Decimal(0))
    chosen: list[Entry] = []
    for measured in sorted(found, key=_cost):
        if measured.dimension in fixed:
            there = fixed[measured.dimension]
            summary = there.summary or bool(there.grain and measured.summary(there.grain))
            chosen.append(replace(there, share=_share(measured, there), summary=summary, chosen_at=now))
            continue
        grain, share, summary = None, measured.daily, False
        reason: str | None = f"it needs {measured.daily:.2f} rows per event, more than {MOST_DAILY}"
        if measured.longest > LONGEST_VALUE:
            reason = f"a value is {measured.longest:,} bytes long, more than {LONGEST_VALUE}"
        else:
            for fine, needed, most in ((HOUR, measured.hourly, MOST_HOURLY), (DAY, measured.daily, MOST_DAILY)):
                if needed > most or (fine, measured.dimension) == (HOUR, KEYS):  # keys are counted, never drawn
                    continue
                more = measured.summary(fine) or Decimal(0)
                if spent + needed + more > BUDGET:
                    more = Decimal(0)  # then without a summary
                if spent + needed + more <= BUDGET:
                    grain, share, reason, summary = fine, needed + more, None, more > 0
                    spent += share
                    break
                reason = f"others need less room, and all together {BUDGET} rows per event at most"
        chosen.append(
            Entry(
                organization_id=organization_id,
                dimension=measured.dimension,
                grain=grain,
                watermark=None,
                summary=summary,
                by_hand=False,
                share=round(share, 6),
                reason=reason,
                chosen_at=now,
            )
        )
    return chosen


def _share(measured: Measured, entry: Entry) -> Decimal | None:
    """What a dimension that stays needs now; its last share where that is not measured."""
    if entry.grain is None:
        return round(measured.daily, 6)
    found = {HOUR: measured.hourly, DAY: measured.daily}.get(entry.grain)
    return entry.share if found is None else round(found + (measured.summary(entry.grain) or 0), 6)


def _cost(measured: Measured) -> tuple[bool, Decimal]:
    """What all others build on first, then the cheapest at the grain it would have."""
    hourly = measured.hourly <= MOST_HOURLY and measured.dimension != KEYS
    share = measured.hourly if hourly else measured.daily
    return measured.dimension not in (NONE, KEYS), share
