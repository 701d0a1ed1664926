"""Check: quantities in a wrong unit: 60, 100 or 1,000 times what the customer's own history has, or a fraction of it.

A wrong unit multiplies every quantity alike, so all quartiles of a day move by the same factor; a few very large
quantities, or a change in usage, move them differently. The database computes the quartiles of each day of a customer's
metric. Each day is compared with the days before it, relative to how much those differ among themselves; days with a
wrong unit are left out of the history. Runs of single events (`multiplied`) find the same where days have too few
events, where only a part of them has the wrong unit, and where it begins or ends within a day; what both find is one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from statistics import median, median_high
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Float, Numeric, Select, Table, and_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.decimals import plain, total
from usage_explore.formatting import counted, data_value, duration, percent, span_in
from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions
from usage_explore.validation import usage_sums
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    MAX_FINDINGS_PER_CHECK,
    SEVERITIES,
    Check,
    Examination,
    Finding,
    Outcome,
    Severity,
    limited,
)
from usage_explore.validation.checks.multiplied import BOUNDS as MULTIPLIED_BOUNDS
from usage_explore.validation.checks.multiplied import FACTORS, Run, judged_metrics, runs, spans_overlap
from usage_explore.validation.checks.multiplied import parameter as runs_parameter
from usage_explore.validation.checks.sizes import BOUNDS as SIZE_BOUNDS
from usage_explore.validation.periods import INSTANT, currency_codes, day_edges, day_number, earlier, part
from usage_explore.validation.usage_sums import (
    LARGE_SHARE,
    cost_facts,
    count_series,
    metrics_query,
    own_usage,
    quantity_share,
)

NAME = "unit_slips"  # in links, options and JSON

BOUNDS = CheckBounds(NAME)

# fmt: off
HISTORY = BOUNDS.add("history", timedelta(days=28), "days", 1, 400,
    "Time before the period in which a customer's history is looked for.")

MIN_HISTORY_DAYS = BOUNDS.add("min_history_days", 5, "days", 1, 400,
    "Days of a customer's metric before, at least, that a day is compared with.")

MAX_HISTORY_DAYS = BOUNDS.add("max_history_days", 28, "days", 1, 400,
    "Days of a customer's metric that a day is compared with, at most: its latest ones before.")

MIN_DAILY_EVENTS = BOUNDS.add("min_daily_events", 8, "events", 1, 100000,
    "Positive quantities of a day from which it is judged and part of the history.")

MIN_DEVIATION = BOUNDS.add("min_deviation", 5, "spreads", 1, 100,
    "Deviation of each quartile from the history, in multiples of the history's own spread.")

HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.01"), "share", 0, 1,
    "Share of the customer's quantity of the metric, too much or missing, from which a finding is high.")

MIN_HIGH_EVENTS = BOUNDS.add("min_high_events", 20, "events", 1, 1000000,
    "Events from which `HIGH_SHARE` is enough; fewer need `LARGE_SHARE`.")
# fmt: on

SMALLEST_QUANTITY = Decimal("1E-150")
"""The least positive quantity that runs of events are judged by."""

_MAX_FACTOR_ERROR = math.log(1.5)
"""Distance of each quartile from the factor, as a logarithm; more if the history's spread is larger."""

_MAX_UNIT_ERROR = 1.25
"""Factor between the ratio and the nearest unit up to which the unit is named as the reason."""

_MAX_FACTOR_ERROR_SPREADS = 2
"""Distance of each quartile from the factor, in multiples of the history's spread."""

_MIN_SPREAD = 0.05
"""Least spread of a history, as a logarithm: many customers send the same quantity every day."""

_MAX_SHIFT_DIFFERENCE = math.log(3)
"""Difference between the days of one error, as a logarithm; 60 and 1,000 differ by more."""

_RATIO_ERRORS = 3
"""Standard errors of the ratio within which a factor agrees with it."""

_MEDIAN_ERROR = 1.2533
"""Standard error of the median of many values, in those of the mean."""

_MAX_GAP = timedelta(days=1)
"""Time between a run of events and days in a wrong unit that are one error."""

_LOG_FACTORS = {sign * math.log(factor): (factor, sign) for factor in FACTORS for sign in (1, -1)}


@dataclass(frozen=True, slots=True)
class Day:
    """A day of one customer's metric: its number, and the quartiles, count, sum, first and last of its events."""

    number: int
    quartiles: Sequence[Decimal]
    events: int
    quantity: Decimal
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class UnitError:
    """Consecutive days with events whose quantities are `ratio` times the history's `usual` median.

    `factors` are those of `FACTORS` that the ratio agrees with, the nearest first: several if it is too uncertain to
    tell them apart, such as 1,000 and 1,024. They `multiply` the quantities or else divide them.
    """

    days: tuple[Day, ...]
    factors: tuple[int, ...]
    multiplies: bool
    ratio: float
    usual: Decimal

    def corrected(self, quantity: Decimal, factor: int | None = None) -> Decimal:
        """The quantity in the usual unit, by the factor, the nearest by default."""
        factor = factor or self.factors[0]
        return quantity / factor if self.multiplies else quantity * factor


@dataclass(slots=True)
class _CustomerError:
    """A unit error of one customer's metric: its days, its run of single events, or both; and what it comes to."""

    customer_id: UUID
    metric_key: str
    errors: list[UnitError]
    run: Run | None = None
    events: int = 0
    quantity: Decimal = Decimal(0)
    costs: dict[str | None, Decimal] = field(default_factory=dict)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """When its events occurred, half-open."""
        spans = [(error.days[0].first, error.days[-1].last + INSTANT) for error in self.errors]
        spans += [self.run.span] if self.run else []
        return min(since for since, _ in spans), max(until for _, until in spans)

    @property
    def multiplies(self) -> bool:
        """Whether the quantities are too large."""
        return self.run.multiplies if self.run else self.errors[0].multiplies

    @property
    def factors(self) -> tuple[int, ...]:
        """The factors that the ratio agrees with, the nearest first."""
        return self.run.factors if self.run else self.errors[0].factors

    @property
    def ratio(self) -> float:
        """How many times larger, or smaller, the quantities are."""
        if self.run:
            return self.run.ratio
        return self.errors[0].ratio if self.multiplies else 1 / self.errors[0].ratio

    @property
    def usual(self) -> Decimal:
        """The median before."""
        return self.errors[0].usual if self.errors else self.run.usual if self.run else Decimal(0)

    @property
    def threshold(self) -> Decimal | None:
        """The bound of the quantities concerned, None for all in the span."""
        return self.run.threshold if self.run else None

    def corrected(self, factor: int) -> Decimal:
        """The quantity in the usual unit by a factor."""
        return self.quantity / factor if self.multiplies else self.quantity * factor


def statement(table: Table, period: Period) -> Select[Any]:
    """The days of a resolved period, and of the history before it, with at least 8 positive quantities.

    Columns: `customer_id`, `metric_key`, `day` integer (of the edges of period and history), `events` bigint,
    `quartiles` numeric[], `quantity` numeric, `first`, `last` timestamptz. Ordered by customer, metric and day.
    """
    c = table.c
    widened = period.replace(since=earlier(period.span[0], HISTORY()))
    day = day_number(c.timestamp, day_edges(widened)).label("day")
    quartiles = func.percentile_disc(array((0.25, 0.5, 0.75), Float()))
    return (
        select(
            c.customer_id,
            c.metric_key,
            day,
            func.count().label("events"),
            quartiles.within_group(c.quantity).cast(ARRAY(Numeric)).label("quartiles"),
            func.sum(c.quantity).label("quantity"),
            func.min(c.timestamp).label("first"),
            func.max(c.timestamp).label("last"),
        )
        .where(*conditions(table, widened), c.quantity > 0, _is_finite(c.quantity))
        .group_by(c.customer_id, c.metric_key, day)
        .having(func.count() >= MIN_DAILY_EVENTS())
        .order_by(c.customer_id, c.metric_key, day)
    )


def _is_finite(quantity: ColumnElement[Decimal]) -> ColumnElement[bool]:
    """Whether it can be summed: PostgreSQL orders infinity and NaN after every number."""
    bounds = [literal(Decimal(bound), Numeric) for bound in ("-Infinity", "Infinity")]
    return and_(quantity > bounds[0], quantity < bounds[1])


def unit_errors(days: Iterable[Day]) -> Iterator[UnitError]:
    """The unit errors among the days of one customer's metric, given in order."""
    history: deque[tuple[float, ...]] = deque(maxlen=MAX_HISTORY_DAYS())
    medians: deque[Decimal] = deque(maxlen=MAX_HISTORY_DAYS())
    run: list[tuple[Day, float]] = []
    for day in days:
        logs = tuple(map(_log, day.quartiles))
        shift = _shift(logs, history)
        if run and (shift is None or abs(shift - run[0][1]) > _MAX_SHIFT_DIFFERENCE):
            yield _unit_error(run, history, medians)
            run = []
        if shift is None:
            history.append(logs)
            medians.append(day.quartiles[1])
        else:
            run.append((day, shift))
    if run:
        yield _unit_error(run, history, medians)


def _shift(logs: tuple[float, ...], history: deque[tuple[float, ...]]) -> float | None:
    """The logarithm of the factor by which a day's quartiles are shifted; None if it has no unit error."""
    if len(history) < MIN_HISTORY_DAYS():
        return None
    shifts, spreads = [], []
    for index, value in enumerate(logs):
        before = [quartiles[index] for quartiles in history]
        shift, spread = value - median(before), max(_MIN_SPREAD, _spread(before))
        if abs(shift) <= MIN_DEVIATION() * spread:
            return None  # as of most days: the other quartiles need no median
        shifts.append(shift)
        spreads.append(spread)
    day_shift = median(shifts)
    factor = min(_LOG_FACTORS, key=lambda log: abs(log - day_shift))
    for shift, spread in zip(shifts, spreads, strict=True):
        if abs(shift - factor) > max(_MAX_FACTOR_ERROR, _MAX_FACTOR_ERROR_SPREADS * spread):
            return None
    return day_shift


def _unit_error(
    run: list[tuple[Day, float]], history: Sequence[tuple[float, ...]], medians: Sequence[Decimal]
) -> UnitError:
    shifts = [shift for _, shift in run]
    shift = median(shifts)
    spread = max(_spread([logs[1] for logs in history]), _spread(shifts))
    error = _MEDIAN_ERROR * spread * math.sqrt(1 / len(shifts) + 1 / len(history))
    nearest, *others = sorted(_LOG_FACTORS, key=lambda log: abs(log - shift))
    # quantities of few values, such as whole numbers, have a spread of 0: then the nearest one's error is the measure
    most = max(_RATIO_ERRORS * error, 2 * abs(nearest - shift))
    agreeing = [nearest, *(log for log in others if abs(log - shift) <= most and log * nearest > 0)]
    factors = tuple(_LOG_FACTORS[log][0] for log in agreeing)
    return UnitError(tuple(day for day, _ in run), factors, nearest > 0, math.exp(shift), median_high(medians))


def _spread(values: Sequence[float]) -> float:
    """The robust standard deviation: 1.4826 times the median distance from the median."""
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def _log(quantity: Decimal) -> float:
    """The logarithm of a positive quantity, however large or small."""
    number = float(quantity)
    return math.log(number) if 1e-300 < number < 1e300 else float(quantity.ln())


def examine(examination: Examination) -> Outcome:
    """The unit errors with a day in the period, by customer and metric; partial if some had too few events to judge."""
    period = examination.period
    if examination.closed_until <= period.span[0]:
        return Outcome()
    closed = period.replace(until=examination.closed_until)
    errors: list[_CustomerError] = []
    judged_days = 0
    judged = judged_metrics(examination)
    rows = examination.extracted_rows(statement(examination.table, closed))
    for (customer, metric), members in groupby(rows, key=attrgetter("customer_id", "metric_key")):
        days = [Day(row.day, row.quartiles, row.events, row.quantity, row.first, row.last) for row in members]
        inside_days = sum(day.last >= period.span[0] for day in days[MIN_HISTORY_DAYS() :])
        judged_days += inside_days
        if inside_days:
            judged.add((customer, metric))
        for of_days in unit_errors(days):
            inside = tuple(
                replace(day, first=max(day.first, period.span[0])) for day in of_days.days if day.last >= period.span[0]
            )
            if inside:
                errors.append(_CustomerError(customer, metric, [replace(of_days, days=inside)]))
    errors = _with_runs(errors, runs(examination))
    for error in errors:
        error.events, error.quantity, error.costs = _totals(examination, error)
    ranked = sorted(zip(_severities(examination, errors), errors, strict=True), key=lambda pair: _rank(*pair))
    shown, more = limited(ranked, "unit errors", lambda rest: counted(sum(error.events for _, error in rest), "event"))
    notes = [more] if more else []
    series = count_series(examination, closed)
    if sparse := series - len(judged):
        notes.append(
            f"{sparse:,} of {series:,} customers' metrics not judged: no day of at least {MIN_DAILY_EVENTS()} positive"
            f" quantities after {MIN_HISTORY_DAYS()} such days"
        )
    return Outcome(
        findings=tuple(_finding(examination, severity, error) for severity, error in shown),
        looked_at=judged_days,
        note="; ".join(notes),
        is_partial=sparse > 0,
    )


def _with_runs(errors: list[_CustomerError], every: Iterable[Run]) -> list[_CustomerError]:
    """The errors of days and those of runs of single events; what is one error is one of these."""
    result = errors
    for run in every:
        same = [
            error
            for error in result
            if (error.customer_id, error.metric_key, error.multiplies)
            == (run.customer_id, run.metric_key, run.multiplies)
            and error.run is None
            and spans_overlap(error.span, run.span, _MAX_GAP)
        ]
        result = [error for error in result if error not in same]
        if not run.factors:  # single events show that no unit explains it: the check of quantities reports it
            continue
        days = [error for found in same for error in found.errors]
        result.append(_CustomerError(run.customer_id, run.metric_key, days if run.threshold is None else [], run))
    return result


def _severities(examination: Examination, errors: list[_CustomerError]) -> list[Severity]:
    usage = own_usage(examination, {error.customer_id for error in errors})
    severities: list[Severity] = []
    for error in errors:
        wrong = part(error.quantity - error.corrected(error.factors[0]), usage[error.customer_id, error.metric_key][1])
        severities.append(
            "high" if wrong >= (HIGH_SHARE() if error.events >= MIN_HIGH_EVENTS() else LARGE_SHARE()) else "medium"
        )
    return severities


def _rank(severity: Severity, error: _CustomerError) -> tuple[Any, ...]:
    return list(SEVERITIES).index(severity), -error.events, error.customer_id, error.metric_key, error.span


def _finding(examination: Examination, severity: Severity, error: _CustomerError) -> Finding:
    customer, metric = error.customer_id, error.metric_key
    since, until = error.span
    days = [day for of_days in error.errors for day in of_days.days]
    compared = "times" if error.multiplies else "times smaller than"
    if error.run is None:
        what = f"on {counted(len(days), 'day')} all quartiles of the quantities are"
    elif error.threshold is None:
        what = "the quantities are"
    else:
        what = f"{percent(Decimal(str(round(error.run.far_share, 3))))} of the quantities in that time are"
    medians = ", ".join(plain(day.quartiles[1]) for day in days[: MAX_HISTORY_DAYS()])
    bound: dict[str, object] = {}
    if error.threshold is not None:
        bound = {"quantity_min" if error.multiplies else "quantity_max": error.threshold}
        if not error.multiplies:
            bound["quantity_min"] = SMALLEST_QUANTITY
    return Finding(
        check=NAME,
        severity=severity,
        sentence=f"{counted(error.events, 'event')} of customer {customer}, {data_value(metric)},"
        f" {span_in(since, until, examination.period.zone)}: {what} about {error.ratio:,.0f} {compared} those of the"
        f" customer's days before, {_unit_words(error)}.",
        since=since,
        until=until,
        events=error.events,
        quantity=error.quantity,
        amounts=tuple(sorted((currency, cost) for currency, cost in error.costs.items() if currency is not None)),
        **quantity_share(examination, {metric: error.quantity}),
        customer_id=customer,
        metric_key=metric,
        question=metrics_query(
            examination, [metric], customer_id=customer, occurred_after=since, occurred_before=until, **bound
        ),
        facts=(
            ("unit wrong by", f"{'×' if error.multiplies else '÷'}{factor_words(error.factors)}"),
            ("usual median", plain(error.usual)),
            *((("medians of the days", medians),) if medians else ()),
            ("quantity in the usual unit, about", " or ".join(_corrected(error))),
            *cost_facts(error.costs),
        ),
    )


def _unit_words(error: _CustomerError) -> str:
    factors = factor_words(error.factors)
    if max(error.ratio / error.factors[0], error.factors[0] / error.ratio) <= _MAX_UNIT_ERROR:
        return f"as a unit wrong by {factors} makes them"
    return f"which no usual unit explains: {factors} comes nearest"


def factor_words(factors: Iterable[int]) -> str:
    """`1,000 or 1,024`."""
    return " or ".join(f"{factor:,}" for factor in sorted(factors))


def _corrected(error: _CustomerError) -> list[str]:
    """The quantity in the usual unit by each factor that the ratio agrees with, smallest factor first."""
    return [plain(Decimal(f"{error.corrected(factor):.6g}")) for factor in sorted(error.factors)]


def _totals(examination: Examination, error: _CustomerError) -> tuple[int, Decimal, dict[str | None, Decimal]]:
    """Events, quantity, and cost by currency of the customer's events of the metric in the error's span."""
    c = examination.table.c
    since, until = error.span
    concerned = []
    if error.threshold is not None and error.multiplies:
        concerned = [c.quantity >= error.threshold, _is_finite(c.quantity)]
    elif error.threshold is not None:
        concerned = [c.quantity <= error.threshold, c.quantity >= SMALLEST_QUANTITY]
    rows = examination.connection.execute(
        select(
            currency_codes(c.external_cost_currency).label("currency"),
            func.count(),
            func.coalesce(func.sum(c.quantity).filter(_is_finite(c.quantity)), 0),
            func.sum(c.external_cost_amount),
        )
        .where(
            *conditions(examination.table, examination.period),
            c.customer_id == error.customer_id,
            c.metric_key == error.metric_key,
            c.timestamp >= since,
            c.timestamp < until,
            *concerned,
        )
        .group_by(currency_codes(c.external_cost_currency))
    ).all()
    costs = {row[0]: row[3] for row in rows if row[3] is not None}
    return sum(row[1] for row in rows), total(row[2] for row in rows), costs


CHECK = Check(
    name=NAME,
    title="Unit errors",
    means="Seconds sent as minutes, or bytes as kilobytes: the invoice is too high or too low by the factor.",
    parameters=lambda: {
        "factors": ", ".join(f"×{factor:,} and ÷{factor:,}" for factor in FACTORS),
        "history": f"the customer's latest {MAX_HISTORY_DAYS()} days of the metric before, at least"
        f" {MIN_HISTORY_DAYS()},"
        f" within {duration(HISTORY())} before the period; a day has at least {MIN_DAILY_EVENTS()} positive quantities",
        "factor": f"each that the ratio agrees with to {_RATIO_ERRORS} standard errors, of the spread of the days'"
        " medians; several, such as 1,000 or 1,024, if that does not tell them apart",
        "unit error": "all quartiles of a day are shifted from those of the history by the same factor, each by more"
        f" than {MIN_DEVIATION()} times the history's own spread",
        "runs": runs_parameter(),
        "high": f"at least {MIN_HIGH_EVENTS()} events, and the excess or shortfall is at least"
        f" {percent(HIGH_SHARE())} of"
        f" the customer's quantity of the metric; or fewer events and {percent(LARGE_SHARE())}; else medium",
        "most": f"the {MAX_FINDINGS_PER_CHECK} largest",
    },
    unit="days of a customer's metric",
    one="day of a customer's metric",
    bounds=(*BOUNDS, *MULTIPLIED_BOUNDS, *SIZE_BOUNDS, *usage_sums.BOUNDS),
    statement=statement,
    examine=examine,
)
