"""Outsized quantities: many times as large as any of the customer's metric before, however few events there are.

`unit_slips` and `shifts` judge days with many events; this compares single quantities, and so finds a wrong factor
in_loads a few events a day too.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Double,
    Numeric,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    case,
    func,
    literal,
    select,
)

from usage_explore.decimals import ratio
from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import day_edges, day_number, earlier

SIZE_HISTORY = timedelta(weeks=8)
"""Time before the period that says how large a customer's quantities are."""

MIN_OTHER_EVENTS = 1_000
"""Positive quantities of other customers before the period, at least, that a customer without history is compared with.
"""

MIN_HISTORY_QUANTITIES = 20
"""Positive quantities of a customer's metric before the period, at least, that say how large they are."""

MIN_HISTORY_SPAN = timedelta(days=5)
"""Time from the first to the last of these quantities, at least."""

OUTSIZED_RATIO = 30
"""A quantity is outsized from this many times the largest one before."""

MIN_OUTSIZED_EVENTS = 3
"""So many outsized quantities of a customer's metric are unusual; fewer may be the tail of a wide distribution."""

MIN_DEVIATIONS = 6
"""Fewer are unusual from this many standard deviations of the logarithms before, the customer's or the metric's."""

SMALLEST_DEVIATION = 0.05
"""The least standard deviation of logarithms: many customers send the same quantity every time."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large quantities are: the `largest`, and the `usual` largest of those that they are compared with.

    `deviations` is how many standard deviations of logarithms the largest lies above the mean of these.
    """

    customer_id: UUID
    metric_key: str
    largest: Decimal
    usual: Decimal
    deviations: float
    whose: str

    @property
    def threshold(self) -> Decimal:
        """The least outsized quantity."""
        return OUTSIZED_RATIO * self.usual

    @property
    def times(self) -> Decimal:
        """The largest quantity as a multiple of the usual largest."""
        return ratio(self.largest, self.usual)


def sizes(table: Table, period: Period) -> Select[Any]:
    """How large the positive quantities of a resolved period are, and those of the weeks before it.

    Columns: `customer_id`, `metric_key`, `largest` numeric (NULL without any in the period), then of those before:
    `before` bigint, `usual` numeric (the largest), `began`, `ended` timestamptz, and of their natural logarithms the
    number `logs` bigint, the sum `log_sum` and the sum of squares `log_squares` double precision.
    """
    c = table.c
    since = literal(period.span[0], c.timestamp.type)
    before = c.timestamp < since
    # beyond these a cast to double precision could fail
    in_range = c.quantity.between(literal(Decimal("1E-150"), Numeric), literal(Decimal("1E150"), Numeric))
    logarithm = case((in_range, func.ln(c.quantity.cast(Double)))).cast(Double)
    return (
        select(
            c.customer_id,
            c.metric_key,
            func.max(c.quantity).filter(~before).label("largest"),
            func.count().filter(before).label("before"),
            func.max(c.quantity).filter(before).label("usual"),
            func.min(c.timestamp).filter(before).label("began"),
            func.max(c.timestamp).filter(before).label("ended"),
            func.count(logarithm).filter(before).label("logs"),
            func.coalesce(func.sum(logarithm).filter(before), 0.0).label("log_sum"),
            func.coalesce(func.sum(logarithm * logarithm).filter(before), 0.0).label("log_squares"),
        )
        .where(*conditions(table, period.replace(since=earlier(period.span[0], SIZE_HISTORY))), *countable(table))
        .group_by(c.customer_id, c.metric_key)
    )


def outsized_days(table: Table, period: Period, thresholds: Sequence[Size]) -> Select[Any]:
    """The days with quantities from these thresholds on: `customer_id`, `metric_key`, `day`, `events`, `quantity`."""
    c = table.c
    bound = (
        func.unnest(
            array([size.customer_id for size in thresholds], Uuid()),
            array([size.metric_key for size in thresholds], Text()),
            array([size.threshold for size in thresholds], Numeric()),
        )
        .table_valued("customer_id", "metric_key", "threshold")
        .render_derived(name="thresholds")
    )
    b = bound.c
    day = day_number(c.timestamp, day_edges(period)).label("day")
    return (
        select(c.customer_id, c.metric_key, day, func.count().label("events"), func.sum(c.quantity).label("quantity"))
        .join_from(
            table,
            bound,
            and_(c.customer_id == b.customer_id, c.metric_key == b.metric_key, c.quantity >= b.threshold),
        )
        .where(*conditions(table, period), *countable(table))
        .group_by(c.customer_id, c.metric_key, day)
        .order_by(c.customer_id, c.metric_key, day)
    )


def countable(table: Table) -> list[ColumnElement[bool]]:
    """Positive and finite: in PostgreSQL's order infinity and NaN follow every number."""
    quantity = table.c.quantity
    return [quantity > 0, quantity < literal(Decimal("Infinity"), Numeric)]


def outsized_metrics(examination: Examination) -> tuple[list[Size], str]:
    """The customers' metrics with outsized quantities, and a note on those that could not be judged.

    A customer's metric with too few quantities before is compared with the other customers', if these have many.
    """
    rows = list(examination.rows(sizes(examination.table, examination.period)))
    others: dict[str, list[tuple[Decimal, UUID]]] = defaultdict(list)
    events: Counter[str] = Counter()
    squares: dict[str, float] = defaultdict(float)
    freedom: Counter[str] = Counter()
    for row in rows:
        events[row.metric_key] += row.before
        freedom[row.metric_key] += max(0, row.logs - 1)
        squares[row.metric_key] += _spread(row.logs, row.log_sum, row.log_squares)
        others[row.metric_key].append((max(filter(None, (row.largest, row.usual))), row.customer_id))
    largest = {metric: heapq.nlargest(2, result) for metric, result in others.items()}
    result: list[Size] = []
    judged = unjudged = 0
    for row in rows:
        if row.largest is None:
            continue
        usual, whose = row.usual, "the customer's weeks before"
        if row.before < MIN_HISTORY_QUANTITIES or row.ended - row.began < MIN_HISTORY_SPAN:
            beside = [quantity for quantity, customer in largest[row.metric_key] if customer != row.customer_id]
            if events[row.metric_key] - row.before < MIN_OTHER_EVENTS or not beside:
                unjudged += 1
                continue
            usual, whose = beside[0], "the other customers"
        judged += 1
        if row.largest >= OUTSIZED_RATIO * usual:
            variances = [squares[row.metric_key] / max(1, freedom[row.metric_key])]
            variances.append(_spread(row.logs, row.log_sum, row.log_squares) / max(1, row.logs - 1))
            above = float(row.largest.ln()) - (row.log_sum / row.logs if row.logs else float(usual.ln()))
            deviations = above / max(SMALLEST_DEVIATION, math.sqrt(max(variances)))
            result.append(Size(row.customer_id, row.metric_key, row.largest, usual, deviations, whose))
    note = (
        f"whether quantities are far too large was not judged for {unjudged:,} of"
        f" {judged + unjudged:,} customers' metrics: fewer than {MIN_HISTORY_QUANTITIES} positive quantities in"
        f" the {SIZE_HISTORY.days // 7} weeks before"
    )
    return result, note if unjudged else ""


def _spread(count: int, total: float, squares: float) -> float:
    """The sum of squared deviations from the mean."""
    return max(0.0, squares - total * total / count) if count else 0.0


def outsized(examination: Examination, sizes: Sequence[Size]) -> Iterator[tuple[Size, Any]]:
    """The days with outsized quantities, as rows of `outsized_days`; without those that may be chance."""
    if not sizes:
        return
    by_key = {(item.customer_id, item.metric_key): item for item in sizes}
    days = examination.rows(outsized_days(examination.table, examination.period, sizes))
    for key, members in groupby(days, key=attrgetter("customer_id", "metric_key")):
        rows, size = list(members), by_key[key]
        if size.deviations >= MIN_DEVIATIONS or sum(row.events for row in rows) >= MIN_OUTSIZED_EVENTS:
            yield from ((size, row) for row in rows)


PARAMETER = (
    f"{OUTSIZED_RATIO} times the largest of at least {MIN_HISTORY_QUANTITIES} positive quantities of the customer's"
    f" metric in the {SIZE_HISTORY.days // 7} weeks before, over {MIN_HISTORY_SPAN.days} days or more; with fewer, of"
    f" all other customers, if these have {MIN_OTHER_EVENTS:,} before, else not judged. {MIN_OUTSIZED_EVENTS} such"
    f" quantities, or one beyond {MIN_DEVIATIONS} standard deviations of the logarithms before"
)
"""The bounds in words, for the check's parameters."""
