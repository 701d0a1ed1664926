"""Rows without keys that equal stored events of another source, and so are not loaded, among rows that are new.

A file that overlaps an earlier one, or is a part of it, has all rows of the common time, or the earlier one has: of its
customers' metrics, be they those of one region alone. Of two sources without a column that names them few rows are
equal, such as one call in the same second, and the rest of both is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import sql

from usage_explore.db.ddl import Connection

_SKIPPED = """
WITH known AS MATERIALIZED (
    SELECT DISTINCT t.organization_id, t.customer_id, t.metric_key, t.timestamp, t.id, t.ingested_at
    FROM pg_temp.usage_explore_known k JOIN {table} t USING (organization_id, timestamp, id)
    WHERE t.idempotency_key LIKE 'row:%%'
      AND t.timestamp BETWEEN %(first)s AND %(last)s AND t.organization_id = ANY (%(organizations)s)
), common AS MATERIALIZED (
    SELECT organization_id, customer_id, metric_key, min(timestamp) AS first, max(timestamp) AS last
    FROM known GROUP BY organization_id, customer_id, metric_key
)
SELECT (SELECT count(*) FROM known),
    (SELECT count(*) FROM {stage} s JOIN common USING (organization_id, customer_id, metric_key)
     WHERE NOT s.keyed AND s.timestamp BETWEEN common.first AND common.last),
    (SELECT count(*) FROM {table} t JOIN common USING (organization_id, customer_id, metric_key)
     WHERE t.timestamp BETWEEN common.first AND common.last AND t.organization_id = ANY (%(organizations)s)
       AND t.timestamp BETWEEN %(first)s AND %(last)s AND t.ingested_at IN (SELECT ingested_at FROM known))
"""
"""Rows there already; new rows of their time and series; and events there of the loads that have them."""


def skipped_rows(
    connection: Connection, stage: sql.Identifier, table: sql.Identifier, span: Mapping[str, Any]
) -> Iterator[str]:
    """The warning of rows that are less than half of the file's, and of the earlier loads', in their common time.

    `span` has the file's `organizations`, and the `first` and `last` of its times.
    """
    statement = sql.SQL(_SKIPPED).format(stage=stage, table=table)
    [(known, new, stored)] = connection.execute(statement, span).fetchall()
    if known < new and 2 * known < stored:
        yield (
            f"warning: {known:,} rows without a key equal stored events and are not loaded, among more new rows of"
            " their customers, metrics and time: right if they are the same usage; lost if the file is of another"
            " source. Then load both files with a column that names the source, or with --set product_id=NAME, and the"
            " first one with --replace-by customer_id, too, which deletes all events of its customers and months"
        )
