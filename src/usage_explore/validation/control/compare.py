"""Control totals beside the usage of the same day, metric and customer, in exact numbers, and runs of days that differ.

SQL sums the usage by day; all else is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from math import sqrt
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import FromClause, Select, Table, func, select

from usage_explore.decimals import difference, total
from usage_explore.formatting import counted, listed
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.checks.duplicates import superfluous
from usage_explore.validation.control.placed import Amounts, Control, Placed, Subject
from usage_explore.validation.periods import currency_codes, day_edges, day_number, part

NAME = "control_totals"

BOUNDS = CheckBounds(NAME)

# fmt: off
TOLERANCE = BOUNDS.add("tolerance", Decimal(0), "share", 0, 1,
    "Share of a control total up to which a difference of events or quantity still matches.")

LIKE_RATIO = BOUNDS.add("like_ratio", Decimal("1.5"), "factor", 1, 100,
    "Days of one metric are one finding if their differing shares are within this factor, or if chance explains it: "
    "three standard deviations of the number of differing events.")

MAX_SINGLE_CUSTOMERS = BOUNDS.add("max_single_customers", 3, "customers", 0, 10_000,
    "Customers that differ in one metric on the same days and are findings of their own; more of them are one.")

MIN_SHIFTED_DAYS = BOUNDS.add("min_shifted_days", 5, "days", 2, 10_000,
    "Days with more and with fewer events than counted, from which they are one finding: of another time zone's days, "
    "where these match, else of totals that differ both ways.")
# fmt: on

_DEVIATIONS = 3
"""Standard deviations of a number of differing events that are chance; also the number of them that a day may lack by
chance, if none of them is expected with a probability of 5 % (exp(-3))."""

Measure = Literal["events", "quantity", "cost"]

AGGREGATED: Mapping[Measure, Literal["count", "sum_quantity", "sum_cost"]] = {
    "events": "count",
    "quantity": "sum_quantity",
    "cost": "sum_cost",
}
"""The metric of an aggregate that adds up each measure."""

Status = Literal["missing", "surplus", "no control total", "not comparable", "matched"]

STATUSES: tuple[Status, ...] = ("missing", "surplus", "no control total", "not comparable", "matched")
"""In the order of the sheet: fewer events, quantity or cost than the control total, more, usage of a day and metric
without a control total while the file has both, usage with NaN or infinite quantities, equal within the tolerance."""


@dataclass(frozen=True)
class Row:
    """A control total (None: there is none) beside the usage of its day and subject (`used`)."""

    day: date
    subject: Subject
    control: Control | None
    used: Amounts

    @cached_property
    def measure(self) -> Measure:
        """What differs first: of usage the number of events, or their quantity if that number matches or is unknown."""
        if self.subject.currency is not None:
            return "cost"
        return "events" if self.control is None or self._lacks("events") else "quantity"

    @cached_property
    def lacking(self) -> Decimal:
        """The control total less the usage, by the measure; negative for a surplus."""
        return self.lacking_of(self.measure)

    def lacking_of(self, measure: Measure) -> Decimal:
        """The control total less the usage; 0 if the lines leave it blank."""
        counted = None if self.control is None else getattr(self.control, measure)
        if counted is None:
            return Decimal(0)
        return Decimal(difference(counted, getattr(self.used, measure) or 0))

    @cached_property
    def share(self) -> Decimal:
        """The difference as a share of the control total, unsigned; 1 of a control total of 0."""
        return part(self.lacking, getattr(self.control, self.measure) or 0)

    @cached_property
    def status(self) -> Status:
        """How both compare."""
        if self.control is None:
            return "no control total"
        if not all(value.is_finite() for value in (self.used.quantity, self.used.cost) if value is not None):
            return "not comparable"
        if not self._lacks(self.measure):
            return "matched"
        return "missing" if self.lacking > 0 else "surplus"

    def _lacks(self, measure: Measure) -> bool:
        lacking = self.lacking_of(measure)
        if measure == "cost" and self.control is not None and self.control.is_cost_of(self.used.cost or Decimal(0)):
            return False
        whole = Decimal(getattr(self.control, measure) or 0).copy_abs()
        return bool(lacking) and not lacking.copy_abs() <= TOLERANCE() * whole


@dataclass(slots=True)
class Run:
    """Days of one or more subjects that differ alike: all missing, all surplus, or all without a control total."""

    rows: list[Row]

    @property
    def first(self) -> Row:
        """Any of its rows, for what they have in common."""
        return self.rows[0]

    @property
    def days(self) -> list[date]:
        """The days that differ, in order."""
        return sorted({row.day for row in self.rows})

    @property
    def metrics(self) -> list[str]:
        """The metrics, in order; none of a cost of all metrics."""
        return sorted({row.subject.metric_key for row in self.rows if row.subject.metric_key is not None})

    @property
    def customers(self) -> set[UUID]:
        """The customers; none if the totals are of all customers."""
        return {row.subject.customer_id for row in self.rows if row.subject.customer_id is not None}

    def sums(self, measure: Measure) -> tuple[Decimal, Decimal]:
        """The sums of control totals and of usage."""
        counted = total(Decimal(getattr(row.control, measure, None) or 0) for row in self.rows)
        return counted, total(Decimal(getattr(row.used, measure) or 0) for row in self.rows)

    def sides(self, measure: Measure) -> tuple[Decimal, Decimal]:
        """What is missing in some rows, and what is too much in others."""
        lacking = [row.lacking_of(measure) for row in self.rows]
        surplus = total(amount.copy_negate() for amount in lacking if amount < 0)
        return total(amount for amount in lacking if amount > 0), surplus

    def gross(self, measure: Measure) -> Decimal:
        """The differences of all rows, unsigned."""
        return total(self.sides(measure))

    @property
    def share(self) -> Decimal:
        """The difference as a share of the control totals, unsigned."""
        counted, used = self.sums(self.first.measure)
        return part(Decimal(difference(counted, used)), counted)

    def overlaps(self, other: Run) -> bool:
        """Whether both have a day within the other's time."""
        return self.days[0] <= other.days[-1] and other.days[0] <= self.days[-1]

    def continues(self, row: Row) -> bool:
        """Whether a later day differs alike: in the same direction and measure, by a like share."""
        last = self.first
        if (row.status, row.measure) != (last.status, last.measure):
            return False
        return row.status == "no control total" or is_like(self, Run([row]))


def is_like(run: Run, other: Run) -> bool:
    """Whether two runs have like shares: within `LIKE_RATIO`, or within chance of the number of differing events."""
    one, two = run.share, other.share
    low, high = sorted((one, two))
    if high <= low * LIKE_RATIO():
        return True
    if run.first.measure != "events":
        return False
    variance = 0.0
    for each in (run, other):
        counted, used = map(float, each.sums("events"))
        variance += abs(counted - used) / counted**2 if counted else 0.0
    return abs(float(one) - float(two)) <= _DEVIATIONS * sqrt(variance)


def statement(table: Table, period: Period, *, by_customer: bool = False) -> Select[Any]:
    """The usage of a resolved period by day of its time zone, metric and currency of the cost, and by customer.

    Columns: `day` integer (from 0, of the days that the period touches), `metric_key`, `customer_id` (with
    `by_customer`), `currency` text (upper case, NULL without one), `events` bigint, `quantity` and `cost` numeric.
    """
    return _summed(table, period, by_customer=by_customer).where(*conditions(table, period))


def late_statement(table: Table, period: Period, *, by_customer: bool = False) -> Select[Any]:
    """The same of the period's events that arrived after its `as_of`."""
    late = conditions(table, period.replace(as_of=None))
    return _summed(table, period, by_customer=by_customer).where(*late, table.c.ingested_at > period.as_of)


def finalized_statement(
    table: Table,
    period: Period,
    *,
    by_customer: bool = False,
    after: datetime | None = None,
    until: datetime | None = None,
) -> Select[Any]:
    """The same of the period's events that arrived `after` a time, by default its `finalized_at`, `until` another."""
    later = [*conditions(table, period), table.c.ingested_at > (after or period.finalized_at)]
    later += [] if until is None else [table.c.ingested_at <= until]
    return _summed(table, period, by_customer=by_customer).where(*later)


def duplicates_statement(table: Table, period: Period, *, by_customer: bool = False) -> Select[Any]:
    """The same of the period's superfluous events: of one idempotency key all but the first to arrive."""
    return _summed(superfluous(table, period), period, by_customer=by_customer)


def _summed(source: FromClause, period: Period, *, by_customer: bool = False) -> Select[Any]:
    c = source.c
    currency = currency_codes(c.external_cost_currency)
    by = [day_number(source.c.timestamp, day_edges(period)).label("day"), c.metric_key, currency.label("currency")]
    by += [c.customer_id] if by_customer else []
    return select(
        *by,
        func.count().label("events"),
        func.sum(c.quantity).label("quantity"),
        func.sum(c.external_cost_amount).label("cost"),
    ).group_by(*by)


Usage = Mapping[tuple[date, Subject], Amounts]


def usage_of(rows: Iterable[Any], days: Sequence[date], grains: Iterable[tuple[bool, bool, bool]]) -> Usage:
    """The rows of a statement, whose days are these, summed by day and the subjects of each grain of control totals."""
    usage: dict[tuple[date, Subject], Amounts] = {}
    wanted = list(grains)
    for row in rows:
        customer = getattr(row, "customer_id", None)
        for by_metric, by_customer, by_currency in wanted:
            if by_currency and (row.cost is None or row.currency is None):
                continue
            subject = Subject(
                row.metric_key if by_metric else None,
                customer if by_customer else None,
                row.currency if by_currency else None,
            )
            sums = usage.setdefault((days[row.day], subject), Amounts())
            sums.add(row.events, row.quantity, row.cost if by_currency else None)
    return usage


@dataclass(frozen=True, slots=True)
class Compared:
    """The rows in order of subject and day; usage of subjects, and days, without any control total of their grain."""

    rows: list[Row]
    uncounted: dict[Subject, int]
    unlisted_days: set[date]

    def uncounted_words(self) -> list[str]:
        """What the uncounted usage is of: "metric calls", "21 customers", "other usage of 1 customer", "costs in EUR".

        A customer may have totals of another metric, a metric of another currency.
        """
        given = {row.subject for row in self.rows if row.control is not None}
        known = {subject.customer_id for subject in given} - {None}
        customers = {subject.customer_id for subject in self.uncounted} - {None}
        known_metrics = {subject.metric_key for subject in given if subject.customer_id is None}
        metrics = {
            subject.metric_key: subject.metric_key in known_metrics
            for subject in self.uncounted
            if subject.customer_id is None
            and subject.metric_key is not None
            and not (subject.currency and subject.metric_key in known_metrics)
        }
        new = [metric for metric, is_known in metrics.items() if not is_known]
        others = [metric for metric, is_known in metrics.items() if is_known]
        if customers & known:
            others.append(counted(len(customers & known), "customer"))
        currencies = dict.fromkeys(subject.currency for subject in self.uncounted if subject.currency)
        return [
            *([f"metric{'s'[: len(new) > 1]} {listed(new)}"] if new else []),
            *([counted(len(customers - known), "customer")] if customers - known else []),
            *([f"other usage of {listed(others)}"] if others else []),
            *([f"costs in {listed(currencies)}"] if currencies else []),
        ]


def compare(placed: Placed, usage: Usage) -> Compared:
    """Each control total, and each usage of a day and subject that the file has, though not together."""
    subjects = {subject for _, subject in placed.controls}
    days = {(day, subject.grain) for day, subject in placed.controls}
    controls = placed.controls.items()
    rows = [Row(*at, control, usage.get(at, Amounts(0))) for at, control in controls]
    uncounted: dict[Subject, int] = {}
    unlisted: set[date] = set()
    for (day, subject), used in usage.items():
        if day not in placed.days or (day, subject) in placed.controls:
            continue
        if subject not in subjects:
            uncounted[subject] = uncounted.get(subject, 0) + (used.events or 0)
        elif (day, subject.grain) not in days:
            unlisted.add(day)
        else:
            rows.append(Row(day, subject, None, used))
    return Compared(in_order(rows), uncounted, unlisted)


def in_order(rows: Iterable[Row]) -> list[Row]:
    """The rows by subject and day, as `runs` takes them."""
    return sorted(rows, key=lambda row: (*map(str, row.subject), row.day))


def runs(rows: Iterable[Row]) -> list[Run]:
    """The rows that differ, those of one incident together; rows are in order of subject and day."""
    return _across_metrics(across_customers([run for members in by_subject(rows) for run in _runs(members)]))


def by_subject(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows of each subject."""
    groups: dict[Subject, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.subject, []).append(row)
    yield from groups.values()


def _runs(rows: Iterable[Row]) -> Iterator[Run]:
    """Consecutive days of one subject that differ alike; a day that matches by chance is part of them."""
    run: Run | None = None
    for row in rows:
        if row.status in ("matched", "not comparable"):
            if run is not None and not _is_chance(run, row):
                yield run
                run = None
        elif run is not None and run.continues(row):
            run.rows.append(row)
        else:
            if run is not None:
                yield run
            run = Run([row])
    if run is not None:
        yield run


def _is_chance(run: Run, matched: Row) -> bool:
    """Whether so few events of a day that matches would differ that it may have lost, or gained, none."""
    if run.first.measure != "events" or matched.control is None or matched.control.events is None:
        return False
    return run.share * matched.control.events < _DEVIATIONS


def across_customers(found: list[Run]) -> list[Run]:
    """Runs of many customers in one metric as one, and within those of all customers where the file has both."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in found:
        first = run.first
        subject = first.subject.metric_key, first.subject.currency
        groups.setdefault((first.status, first.measure, *subject), []).append(run)
    result: list[Run] = []
    for members in groups.values():
        whole = [run for run in members if not run.customers]
        rest = [run for run in members if run.customers and not any(run.overlaps(other) for other in whole)]
        result += whole
        for cluster in _overlapping(rest):
            customers = {customer for run in cluster for customer in run.customers}
            if len(customers) > MAX_SINGLE_CUSTOMERS():
                result.append(Run([row for run in cluster for row in run.rows]))
            else:
                result += cluster
    return result


def _overlapping(found: Iterable[Run]) -> Iterator[list[Run]]:
    """The runs in groups that follow each other without a day between them that none has."""
    group: list[Run] = []
    last = date.min
    for run in sorted(found, key=lambda run: run.days[0]):
        if group and run.days[0] > last:
            yield group
            group = []
        group.append(run)
        last = max(last, run.days[-1]) if len(group) > 1 else run.days[-1]
    if group:
        yield group


def _across_metrics(found: list[Run]) -> list[Run]:
    """Runs of several metrics with like shares on the same days, of the same customers, as one."""
    result: list[Run] = []
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in found:
        first = run.first
        if first.measure == "cost":
            result.append(run)
            continue
        same = (first.status, first.measure, run.days[0], run.days[-1], frozenset(run.customers))
        group = next((group for group in groups.setdefault(same, []) if is_like(group, run)), None)
        if group is None:
            groups[same].append(run)
        else:
            group.rows += run.rows
    return result + [run for members in groups.values() for run in members]
