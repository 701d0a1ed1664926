"""Usage that is loaded again by other times: as daily sums of hourly rows, or as the rows of daily sums.

Rows of both are another hash, at other times and with other quantities; the sums of a customer's metric are equal, day
by day. Enough different sums, of half of the days that both have, are no chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg import sql

from usage_explore.db.ddl import Connection
from usage_explore.load.loaded_again import MIN_EVIDENCE

IS_AGGREGATED = (
    f"count(DISTINCT total) FILTER (WHERE total = other AND rows <> others) >= {MIN_EVIDENCE}"
    " AND 2 * count(*) FILTER (WHERE total = other) >= count(*)"
)
"""SQL for whether days of customers' metrics have the same usage twice, by their sums and numbers of rows.

`total` and `rows` are of the one, `other` and `others` of the other; days without usage are left out."""

_DAYS = """
WITH staged AS MATERIALIZED (
    SELECT organization_id, customer_id, metric_key, date_trunc('day'::text, timestamp, %(zone)s::text) AS day,
        sum(quantity) AS total, count(*) AS rows
    FROM {stage} GROUP BY 1, 2, 3, 4
), stored AS MATERIALIZED (
    SELECT t.organization_id, t.customer_id, t.metric_key, date_trunc('day'::text, t.timestamp, %(zone)s::text) AS day,
        sum(t.quantity) AS total, count(*) AS rows
    FROM {table} t JOIN (SELECT DISTINCT organization_id, customer_id, metric_key FROM staged) series
      USING (organization_id, customer_id, metric_key)
    LEFT JOIN pg_temp.usage_explore_known k
      ON k.organization_id = t.organization_id AND k.timestamp = t.timestamp AND k.id = t.id
    WHERE k.id IS NULL AND t.timestamp BETWEEN %(first)s AND %(last)s AND t.organization_id = ANY (%(organizations)s)
    GROUP BY 1, 2, 3, 4
), days AS (
    SELECT s.total, s.rows, t.total AS other, t.rows AS others
    FROM staged s JOIN stored t USING (organization_id, customer_id, metric_key, day)
    WHERE s.total <> 0::numeric OR t.total <> 0::numeric
)
SELECT (sum(rows) FILTER (WHERE total = other))::bigint FROM days HAVING {is_aggregated}
"""


def aggregated_rows(
    connection: Connection,
    stage: sql.Identifier,
    table: sql.Identifier,
    zone: ZoneInfo,
    organizations: Sequence[UUID],
    first: datetime,
    last: datetime,
) -> Iterator[str]:
    """The warning of staged rows whose sums by customer, metric and day of the zone are those of other stored events.

    The file's rows that the table has already are in `pg_temp.usage_explore_known`, and no longer staged.
    """
    statement = sql.SQL(_DAYS).format(stage=stage, table=table, is_aggregated=sql.SQL(IS_AGGREGATED))
    day = timedelta(days=1)
    span = {"organizations": [*organizations], "first": first - day, "last": last + day, "zone": zone.key}
    for (rows,) in connection.execute(statement, span).fetchall():
        yield (
            f"warning: {rows:,} rows have, by customer, metric and day, exactly the sums of stored events, and are more"
            " or fewer than these; loaded beside them. If it is the same usage by the hour and by the day, it is"
            " counted twice: load the file again with --replace-by and a column that both have, such as customer_id"
        )
