"""Usage that is loaded again by other times: as daily sums of hourly rows, or as the rows of daily sums.

Rows of both are another hash, at other times and with other quantities; the sums of a customer's metric are equal, day
by day. Enough different sums, of half of the days that both have, are no chance, but for constants: two servers that
run each hour have equal sums, by the hour and by the day. Rows that name another server or product are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg import sql

from usage_explore.db.ddl import Connection
from usage_explore.load.loaded_again import AMOUNT_NAMES, MIN_EVIDENCE, PATTERNS

_MAX_CONSTANTS = 3
"""Different sums of a customer's metric that its constants give, such as those of weekdays and weekends."""

IS_AGGREGATED = f"""(
    2 * count(*) FILTER (WHERE total = other) >= count(*)
    AND (count(DISTINCT total) FILTER (
            WHERE total = other AND rows <> others AND mod(total, nullif(finest, 0::numeric)) <> 0::numeric)
            >= {MIN_EVIDENCE}
        OR count(DISTINCT (customer_id, metric_key, total)) FILTER (WHERE total = other AND rows <> others)
            >= {MIN_EVIDENCE} + {_MAX_CONSTANTS - 1}
                * count(DISTINCT (customer_id, metric_key)) FILTER (WHERE total = other AND rows <> others)))
"""
"""SQL for whether days of customers' metrics have the same usage twice, by their sums and numbers of rows.

`total` and `rows` are of the one, `other` and `others` of the other, `finest` is the largest quantity of the one where
it is smaller; days without usage are left out. Different sums are evidence where they are no multiples of it, as those
of constants are, or more of a customer's metric than its constants have."""

_INTERVALS = "interval|granularity|resolution|duration|period|bucket|window|hour|day|date|time"
"""Parts of the names of dimensions that hourly and daily rows of the same usage have with other values."""

LABELS = f"""(
    coalesce((SELECT jsonb_object_agg(lower(key), CASE
                  WHEN value ~ '{PATTERNS["number"]}'::text THEN trim_scale(value::numeric)::text
                  ELSE lower(btrim(value)) END)
              FROM jsonb_each_text(dimensions)
              WHERE value !~ '{PATTERNS["date"]}'::text AND key !~* '{_INTERVALS}'::text
                AND NOT (value ~ '{PATTERNS["number"]}'::text AND key ~* '{AMOUNT_NAMES}'::text)), '{{}}'::jsonb)
    || jsonb_strip_nulls(jsonb_build_object('product_id '::text, product_id, 'subscription_id '::text, subscription_id,
        'price_key '::text, price_key, 'external_cost_currency '::text, upper(external_cost_currency),
        'wallet_currency '::text, wallet_currency)))"""  # noqa: S608  constants alone
"""SQL for what a row is of, such as a server or product: its columns, and dimensions that are no amounts or times."""

_DAYS = """
WITH staged AS MATERIALIZED (
    SELECT organization_id, customer_id, metric_key, date_trunc('day'::text, timestamp, %(zone)s::text) AS day,
        sum(quantity) AS total, count(*) AS rows, max(abs(quantity)) AS largest
    FROM {stage} GROUP BY 1, 2, 3, 4
), stored AS MATERIALIZED (
    SELECT organization_id, customer_id, metric_key, date_trunc('day'::text, timestamp, %(zone)s::text) AS day,
        sum(quantity) AS total, count(*) AS rows, max(abs(quantity)) AS largest
    FROM {others} GROUP BY 1, 2, 3, 4
), days AS (
    SELECT customer_id, metric_key, s.total, s.rows, t.total AS other, t.rows AS others,
        least(s.largest, t.largest) AS finest
    FROM staged s JOIN stored t USING (organization_id, customer_id, metric_key, day)
    WHERE (s.total <> 0::numeric OR t.total <> 0::numeric)
      AND (organization_id, customer_id, metric_key) NOT IN (SELECT * FROM ({apart}) AS apart)
)
SELECT (sum(rows) FILTER (WHERE total = other))::bigint FROM days HAVING {is_aggregated}
"""

_OTHERS = """(
    SELECT t.* FROM {table} t
    JOIN (SELECT DISTINCT organization_id, customer_id, metric_key FROM {stage}) series
      USING (organization_id, customer_id, metric_key)
    LEFT JOIN pg_temp.usage_explore_known k
      ON k.organization_id = t.organization_id AND k.timestamp = t.timestamp AND k.id = t.id
    WHERE k.id IS NULL AND t.timestamp BETWEEN %(first)s AND %(last)s AND t.organization_id = ANY (%(organizations)s)
) AS others"""
"""The stored events of the file's customers' metrics in its time that are none of the file's rows."""

_NONE = "SELECT NULL::uuid, NULL::uuid, NULL::text WHERE false"

_APART = """
SELECT organization_id, customer_id, metric_key FROM (
    SELECT organization_id, customer_id, metric_key, key, bool_or(staged) AS staged, bool_or(stored) AS stored
    FROM (
        SELECT organization_id, customer_id, metric_key, {labels} AS labels, true AS staged, false AS stored
        FROM {stage}
        UNION ALL
        SELECT organization_id, customer_id, metric_key, {labels}, false, true FROM {others}) AS rows,
        jsonb_each_text(labels) AS label
    GROUP BY organization_id, customer_id, metric_key, key, value) AS of_value
GROUP BY organization_id, customer_id, metric_key, key
HAVING bool_or(staged) AND bool_or(stored) AND NOT bool_or(staged AND stored)
"""
"""The customers' metrics of which the file names other servers, products or the like than all stored events."""


def aggregated_rows(
    connection: Connection,
    stage: sql.Identifier,
    table: sql.Identifier,
    span: Mapping[str, Any],
    zone: ZoneInfo,
) -> Iterator[str]:
    """The warning of staged rows whose sums by customer, metric and day of the zone are those of other stored events.

    The file's rows that the table has already are in `pg_temp.usage_explore_known`, and no longer staged. `span` has
    the file's `organizations`, and the `first` and `last` of its times.
    """
    others = sql.SQL(_OTHERS).format(stage=stage, table=table)
    apart = sql.SQL(_APART).format(stage=stage, others=others, labels=sql.SQL(LABELS))
    day = timedelta(days=1)
    values = {**span, "first": span["first"] - day, "last": span["last"] + day, "zone": zone.key}
    rows = 0
    for but in (sql.SQL(_NONE), apart):  # labels are read where sums are equal
        statement = sql.SQL(_DAYS).format(stage=stage, others=others, apart=but, is_aggregated=sql.SQL(IS_AGGREGATED))
        found = connection.execute(statement, values).fetchone()
        if found is None:
            return
        (rows,) = found
    yield (
        f"warning: {rows:,} rows have, by customer, metric and day, exactly the sums of stored events, and are more"
        " or fewer than these; loaded beside them. If it is the same usage by the hour and by the day, it is"
        " counted twice, and one of the two has to go. If this file has all days of its months, load the file again"
        " with --replace-by customer_id --replace-by metric_key, else so load the other: what the file lacks of these"
        " customers' metrics in its months is deleted"
    )
