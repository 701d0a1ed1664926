"""Control totals of the demo as its gateway would have counted them, with a loss to find."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from usage_explore.decimals import plain
from usage_explore.query import buckets
from usage_explore.query.base import expect
from usage_explore.query.queries import AggregateQuery, Metric, Period

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    import pandas as pd

    from usage_explore.store import Store

LOST_METRIC = "tokens_in"
"""Metric of which events never arrived."""

LOST_PERCENT = 3
"""Per cent of the events, and of their quantity, that the gateway counted and that never arrived."""

FIRST_LOST_DAY, LOST_DAYS = 10, 5
"""The first day of the period with the loss, from 1, and the number of days."""


def totals(store: Store, period: Period, *, loss: bool = True) -> pd.DataFrame:
    """The control totals of a period by day of its time zone and metric, in their order.

    Columns: `day` (str, date), `metric_key` (str), `events` (int64), `quantity` (str, exact decimal). With `loss` the
    gateway counted more than arrived: `LOST_PERCENT` of `LOST_METRIC` on `LOST_DAYS` days. `frame.to_csv(path,
    index=False)` is exact.

    Raises what `Store.aggregate` raises, and `QueryError` for a `period` that is not a `Period`.
    """
    import pandas as pd

    resolved = expect(Period, period).resolve(store.now())
    events, quantities = _by_day(store, resolved, "count"), _by_day(store, resolved, "sum_quantity")
    first = buckets.local_date(resolved.span[0], resolved.zone)
    rows = []
    for (day, metric), number in sorted(events.items()):
        quantity = Decimal(quantities[day, metric])
        counted = int(number)
        if loss and metric == LOST_METRIC and FIRST_LOST_DAY - 1 <= (day - first).days < FIRST_LOST_DAY - 1 + LOST_DAYS:
            counted += round(counted * LOST_PERCENT / (100 - LOST_PERCENT))
            quantity += round(quantity * LOST_PERCENT / (100 - LOST_PERCENT))
        if counted:
            rows.append((day.isoformat(), metric, counted, plain(quantity)))
    return pd.DataFrame(rows, columns=["day", "metric_key", "events", "quantity"])


def _by_day(store: Store, period: Period, metric: Metric) -> Mapping[tuple[date, str], int | Decimal]:
    since, until = period.span
    query = AggregateQuery(
        since=since,
        until=until,
        timezone=period.timezone,
        metric=metric,
        group_by="metric_key",
        top=0,
        as_of=period.as_of,
    )
    return {
        (buckets.local_date(point.start, period.zone), str(series.key)): point.number
        for series in store.aggregate(query).series
        for point in series.points
    }
