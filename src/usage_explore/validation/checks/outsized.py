"""Outsized quantities: many times as large as any of the customer's metric before, however few events there are.

`unit_slips` and `shifts` judge days with many events; this compares single quantities, and so finds a wrong factor
in_loads a few events a day too.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Numeric,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    func,
    select,
)
from sqlalchemy.sql.selectable import TableValuedAlias

from usage_explore.decimals import ratio
from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.checks.multiplied import MIN_MULTIPLE, Run, runs
from usage_explore.validation.checks.sizes import (
    MIN_HISTORY_QUANTITIES,
    MIN_HISTORY_SPAN,
    SIZE_HISTORY,
    SMALLEST_DEVIATION,
    countable,
    size_rows,
)
from usage_explore.validation.periods import day_edges, day_number, earlier

BOUNDS = CheckBounds("quantities")

# fmt: off
MIN_OTHER_EVENTS = BOUNDS.add("min_outsized_other_events", 1_000, "events", 1, 100000000,
    "Positive quantities of other customers before the period, at least, that a customer without history is "
    "compared with.")

OUTSIZED_RATIO = BOUNDS.add("outsized_ratio", 30, "factor", 1, 1000000,
    "A quantity is outsized from this many times the largest one before.")

MIN_OUTSIZED_EVENTS = BOUNDS.add("min_outsized_events", 3, "events", 1, 100000,
    "So many outsized quantities of a customer's metric are unusual; fewer may be the tail of a wide distribution.")

MIN_DEVIATIONS = BOUNDS.add("min_deviations", 6, "deviations", 1, 100,
    "Fewer are unusual from this many standard deviations of the logarithms before, the customer's or the metric's.")

MAX_EARLIER = BOUNDS.add("max_earlier_outsized", 2, "events", 0, 100,
    "Outsized quantities in the weeks before, at most, that make none usual in the period.")

MIN_EARLIER_RATIO = BOUNDS.add("min_earlier_ratio", 3, "factor", 1, 1000,
    "Times as many outsized quantities as in the weeks before, at least, are unusual in the period.")

MONTH_RATIO = BOUNDS.add("month_ratio", 10, "factor", 1, 1000000,
    "A single quantity is outsized, however wide the distribution, from this many times all that was usual in as "
    "long a time as the period: it alone is billed as ten such periods.")

MIN_MONTH_QUANTITIES = BOUNDS.add("min_month_quantities", 10, "events", 1, 1000000,
    "Quantities before the period, at least, that say what was usual in such a time.")

MIN_MONTH_HISTORY = BOUNDS.add("min_month_history", timedelta(days=28), "days", 1, 400,
    "Time since the first quantity before the period, at least, from which they say what was usual in such a time.")

MIN_MONTH_DEVIATIONS = BOUNDS.add("min_month_deviations", 3.5, "deviations", 0, 100,
    "Standard deviations of the logarithms before, at least, of such a quantity.")
# fmt: on

_MAX_LOOKED_UP = 200
"""Customers' metrics of which outsized quantities before the period are looked up: those with the largest in it."""

_BEFORE = "the customer's weeks before"


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
    bound: Decimal | None = None
    """The least outsized quantity; by default `OUTSIZED_RATIO` times the usual largest."""
    earlier: int = 0
    """How many as large ones came in the weeks before, which `usual` leaves out."""
    run: Run | None = None
    """The run of quantities that are a multiple of the usual median, if they are outsized for that."""

    @property
    def threshold(self) -> Decimal:
        """The least outsized quantity."""
        return OUTSIZED_RATIO() * self.usual if self.bound is None else self.bound

    @property
    def least_events(self) -> int:
        """Outsized quantities in the period, at least, that are unusual however wide the distribution is."""
        return max(MIN_OUTSIZED_EVENTS(), MIN_EARLIER_RATIO() * self.earlier)

    @property
    def times(self) -> Decimal:
        """The largest quantity as a multiple of the usual largest; of a run, its multiple of the usual median."""
        return ratio(self.largest, self.usual) if self.run is None else Decimal(format(self.run.ratio, ".4g"))


def _thresholds(sizes: Sequence[tuple[UUID, str, Decimal]]) -> TableValuedAlias:
    """A quantity for each customer's metric, as the table `thresholds`."""
    customers, metrics, quantities = zip(*sizes, strict=True)
    return (
        func.unnest(array(customers, Uuid()), array(metrics, Text()), array(quantities, Numeric()))
        .table_valued("customer_id", "metric_key", "threshold")
        .render_derived(name="thresholds")
    )


def largest_before(table: Table, period: Period, largest: Sequence[tuple[UUID, str, Decimal]]) -> Select[Any]:
    """How many quantities of the weeks before a resolved period are near the `largest` of some customers' metrics.

    Columns: `customer_id`, `metric_key`, `near` bigint, those beyond the largest by `OUTSIZED_RATIO`, and `usual`
    numeric, the largest of the others (NULL without any).
    """
    c, bound = table.c, _thresholds([(customer, metric, size / OUTSIZED_RATIO()) for customer, metric, size in largest])
    is_near = c.quantity > bound.c.threshold
    before = period.replace(since=earlier(period.span[0], SIZE_HISTORY()), until=period.span[0])
    return (
        select(
            c.customer_id,
            c.metric_key,
            func.count().filter(is_near).label("near"),
            func.max(c.quantity).filter(~is_near).label("usual"),
        )
        .join_from(table, bound, and_(c.customer_id == bound.c.customer_id, c.metric_key == bound.c.metric_key))
        .where(*conditions(table, before), *countable(table))
        .group_by(c.customer_id, c.metric_key)
    )


def outsized_days(table: Table, period: Period, thresholds: Sequence[Size]) -> Select[Any]:
    """The days with quantities from these thresholds on: `customer_id`, `metric_key`, `day`, `events`, `quantity`."""
    c = table.c
    bound = _thresholds([(size.customer_id, size.metric_key, size.threshold) for size in thresholds])
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


def outsized_metrics(examination: Examination) -> tuple[list[Size], str]:
    """The customers' metrics with outsized quantities, and a note on those that could not be judged.

    A customer's metric with too few quantities before is compared with the other customers', if these have many.
    """
    rows = size_rows(examination)
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
    multiples = {
        (run.customer_id, run.metric_key): run for run in runs(examination) if run.multiplies and not run.factors
    }
    for row in rows:
        if row.largest is None:
            continue
        usual, whose, bound = row.usual, _BEFORE, None
        run = multiples.get((row.customer_id, row.metric_key))
        month = _usual_in_period(examination, row)
        if run is not None:
            bound = run.boundary
        elif month is not None and row.largest >= MONTH_RATIO() * month:
            bound = min(MONTH_RATIO() * month, OUTSIZED_RATIO() * usual)
        elif not _has_history(row):
            beside = [quantity for quantity, customer in largest[row.metric_key] if customer != row.customer_id]
            if events[row.metric_key] - row.before < MIN_OTHER_EVENTS() or not beside:
                unjudged += 1
                continue
            usual, whose = beside[0], "the other customers"
        judged += 1
        if bound is not None or row.largest >= OUTSIZED_RATIO() * usual:
            variances = [squares[row.metric_key] / max(1, freedom[row.metric_key])]
            variances.append(_spread(row.logs, row.log_sum, row.log_squares) / max(1, row.logs - 1))
            above = float(row.largest.ln()) - (row.log_sum / row.logs if row.logs else float(usual.ln()))
            deviations = above / max(SMALLEST_DEVIATION(), math.sqrt(max(variances)))
            size = Size(row.customer_id, row.metric_key, row.largest, usual, deviations, whose, bound, run=run)
            result.append(size)
    result += _beside_earlier(examination, rows, {(size.customer_id, size.metric_key) for size in result})
    note = (
        f"whether quantities are far too large was not judged for {unjudged:,} of"
        f" {judged + unjudged:,} customers' metrics: fewer than {MIN_HISTORY_QUANTITIES()} positive quantities in"
        f" the {SIZE_HISTORY().days // 7} weeks before"
    )
    return result, note if unjudged else ""


def _has_history(row: Any) -> bool:
    """Whether the customer's own quantities before the period say how large its are."""
    return bool(row.before >= MIN_HISTORY_QUANTITIES() and row.ended - row.began >= MIN_HISTORY_SPAN())


def _beside_earlier(examination: Examination, rows: Iterable[Any], known: Set[tuple[UUID, str]]) -> Iterator[Size]:
    """The customers' metrics whose weeks before have one or two outsized quantities, and no others as large."""
    candidates = {}
    for row in rows:
        key = row.customer_id, row.metric_key
        if row.largest is not None and key not in known and _has_history(row) and row.logs:
            times = float(row.largest.ln()) - row.log_sum / row.logs
            if times >= math.log(OUTSIZED_RATIO()):
                candidates[key] = times, row
    some = heapq.nlargest(_MAX_LOOKED_UP, candidates.values(), key=lambda pair: pair[0])
    if not some or not MAX_EARLIER():
        return
    largest = [(row.customer_id, row.metric_key, row.usual) for _, row in some]
    for found in examination.rows(largest_before(examination.table, examination.period, largest)):
        _, row = candidates[found.customer_id, found.metric_key]
        is_apart = found.usual is not None and found.near <= MAX_EARLIER()
        if is_apart and row.largest >= OUTSIZED_RATIO() * found.usual:
            yield Size(row.customer_id, row.metric_key, row.largest, found.usual, 0.0, _BEFORE, earlier=int(found.near))


def _usual_in_period(examination: Examination, row: Any) -> Decimal | None:
    """What the customer's metric usually comes to in as long a time as the period; None where too little is known."""
    if row.before < MIN_MONTH_QUANTITIES():
        return None
    since, until = examination.period.span
    known = since - row.began
    if known < MIN_MONTH_HISTORY():
        return None
    share = ratio(Decimal((until - since) // timedelta(seconds=1)), Decimal(known // timedelta(seconds=1)))
    return Decimal(row.quantity_before) * share


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
        least = MIN_DEVIATIONS() if size.bound is None else MIN_MONTH_DEVIATIONS()
        if size.run or size.deviations >= least or sum(row.events for row in rows) >= size.least_events:
            yield from ((size, row) for row in rows)


def parameter() -> str:
    """The bounds in words, for the check's parameters."""
    return (
        f"{OUTSIZED_RATIO()} times the largest of at least {MIN_HISTORY_QUANTITIES()} positive quantities of the"
        f" customer's metric in the {SIZE_HISTORY().days // 7} weeks before, over {MIN_HISTORY_SPAN().days} days or"
        f" more; with fewer, of all other customers, if these have {MIN_OTHER_EVENTS():,} before, else not judged."
        f" One or {MAX_EARLIER()} as large before make none usual where there are {MIN_EARLIER_RATIO()} times as many."
        f" {MIN_OUTSIZED_EVENTS()} such quantities, or one beyond {MIN_DEVIATIONS()} standard deviations of the"
        f" logarithms before. One that is {MONTH_RATIO()} times all that is usual in as long a time as the period, by"
        f" {MIN_MONTH_QUANTITIES()} quantities of {MIN_MONTH_HISTORY().days} days or more, beyond"
        f" {MIN_MONTH_DEVIATIONS()} deviations. A run of quantities (see runs of unit_slips) from {MIN_MULTIPLE()}"
        " times the usual median on that no unit explains"
    )
