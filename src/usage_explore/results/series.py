"""Series from the rows of the statement in `sql.aggregate`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from usage_explore.decimals import Number
from usage_explore.errors import Fault, NotExact, QueryError
from usage_explore.query.limits import MAX_POINTS
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import Point, Series


def series(
    rows: Sequence[Any], query: AggregateQuery, edges: tuple[datetime, ...], closed_until: datetime
) -> tuple[Series, ...]:
    """The series of the statement's rows; a bucket that ends after `closed_until` is not complete.

    Raises `QueryError` for more than `MAX_POINTS` points, `NotExact` for NaN or infinite sums.
    """
    since, until = query.span
    size = len(edges) - 1
    if rows[0].kind is None and rows[0].series_count:
        number = rows[0].series_count
        raise QueryError(
            [
                Fault(
                    "top",
                    f"the answer would have {number * size:,} points ({number:,} series × {size:,} buckets), more "
                    f"than {MAX_POINTS:,}; keep fewer series, use a larger bucket or a shorter window",
                )
            ]
        )
    result: list[Series] = []
    for row in rows:
        if row.kind is None:
            continue
        if query.metric == "sum_quantity" and not all(value.is_finite() for value in (row.total, *row.points)):
            raise NotExact(
                "Some quantities are NaN or infinite, so they have no exact sum; `usage-explore doctor` names them. "
                "Counting (metric=count) still works."
            )
        points = tuple(
            Point(
                start=start,
                end=end,
                value=cast("Number", value),
                complete=start >= since and end <= until and end <= closed_until,
            )
            for start, end, value in zip(edges, edges[1:], row.points, strict=False)
        )
        result.append(Series(row.kind, row.key, row.total, row.members, points))
    return tuple(result)
