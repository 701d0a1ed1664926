"""Control totals that are all the same multiple of the usage: thousands, seconds or cents for units.

A factor is that of all totals of a metric, of those from a day to another, or of those of a customer; or of all but a
few, which are compared in the unit of the usage. Totals are rounded, and small ones are those by many a factor: all of
them together, each in units of its last decimal, must be no coincidence. Of a part of a metric's totals different
values must be none: of a steady hundred events a day, ten may have arrived on each of a few days.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple, cast
from uuid import UUID

from usage_explore.decimals import exact_product
from usage_explore.formatting import counted, data_value, listed, span_in
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination, Finding, Severity
from usage_explore.validation.control.compare import AGGREGATED, NAME, Measure, Row, Run, in_order
from usage_explore.validation.control.placed import Control, Subject
from usage_explore.validation.reconciliation.amounts import decimal
from usage_explore.validation.reconciliation.quantity_causes import UNIT_FACTORS
from usage_explore.validation.usage_sums import events_share, metric_filter, valid_filters

BOUNDS = CheckBounds(NAME)

# fmt: off
MIN_FACTOR_SHARE = BOUNDS.add("min_factor_share", Decimal("0.9"), "share", 0, 1,
    "Share of a metric's control totals that are one multiple of the usage, from which the unit differs.")

MIN_FACTOR_EVIDENCE = BOUNDS.add("min_factor_evidence", 1000, "factor", 1, 10**12,
    "Product of control totals that are a multiple of the usage, each in units of its last decimal, from which "
    "they are.")
# fmt: on

FACTOR = "another unit"
"""The cause of the rows, in the sheet."""

_FACTORS = (*UNIT_FACTORS, 10, 100, 10_000)

_MIN_TOTALS = 2

_MIN_PART_TOTALS = 5
"""Totals of a part of a metric's totals from which their unit may differ."""


class Multiple(NamedTuple):
    """Totals that are a factor times the usage, by one measure; `is_every`: all totals of the measure are.

    `within` has these and the few others of the same metrics, days and customers.
    """

    factor: Fraction
    measure: Measure
    run: Run
    is_every: bool
    within: list[Row]

    @property
    def words(self) -> str:
        """What the totals are: `1,000 times the usage`."""
        by, of = self.factor.numerator, self.factor.denominator
        return f"{by:,} times the usage" if of == 1 else f"the usage divided by {of:,}"


def multiples(rows: Iterable[Row]) -> list[Multiple]:
    """The totals that are a multiple of the usage, of all metrics that have the same factor together."""
    groups: dict[Subject, list[Row]] = {}
    numbers: dict[bool, int] = {}
    for row in rows:
        if row.control is not None and row.status != "not comparable":
            groups.setdefault(row.subject._replace(customer_id=None), []).append(row)
            is_cost = row.measure == "cost"
            numbers[is_cost] = numbers.get(is_cost, 0) + 1
    found: dict[tuple[Fraction, Measure], tuple[list[Row], list[Row]]] = {}
    for members in groups.values():
        wrong = [row for row in members if row.status != "matched"]
        measures = Counter(row.measure for row in wrong).most_common(1)
        fitting = {
            factor: [row for row in wrong if row.measure == measures[0][0] and _is_multiple(row, factor)]
            for whole in (_FACTORS if wrong else ())
            for factor in (Fraction(whole), Fraction(1, whole))
        }
        factor = max(fitting, key=lambda one: len(fitting[one]), default=Fraction(1))
        fits = {id(row) for row in fitting.get(factor, [])}
        for part in _parts(members, fits):
            multiplied, within = found.setdefault((factor, measures[0][0]), ([], []))
            multiplied += [row for row in part if id(row) in fits]
            within += part
    return [
        Multiple(*key, Run(multiplied), len(multiplied) == numbers[key[1] == "cost"], within)
        for key, (multiplied, within) in found.items()
    ]


def _parts(members: list[Row], fits: set[int]) -> list[list[Row]]:
    """All totals of a metric, if nearly all fit; else those from a day to another, of all or of single customers."""

    def is_common(part: list[Row], least: int) -> bool:
        return sum(id(row) in fits for row in part) >= max(Decimal(least), MIN_FACTOR_SHARE() * len(part))

    evidence = exact_product(_units(row) for row in members if id(row) in fits)
    if is_common(members, _MIN_TOTALS) and evidence >= MIN_FACTOR_EVIDENCE():
        return [members]
    by_customer: dict[UUID | None, list[Row]] = {}
    for row in members:
        by_customer.setdefault(row.subject.customer_id, []).append(row)
    found = []
    for part in (members, *by_customer.values()):
        days = [row.day for row in part if id(row) in fits]
        within = [row for row in part if days and min(days) <= row.day <= max(days)]
        different = {min(_units(row), _units(row, of_used=True)) for row in within if id(row) in fits}
        if is_common(within, _MIN_PART_TOTALS) and exact_product(different) >= MIN_FACTOR_EVIDENCE():
            found.append(within)
            if part is members:
                break
    return found


def in_units(rows: list[Row]) -> tuple[list[Multiple], list[Row]]:
    """The totals that are a multiple of the usage, and what is left of all in its unit: other rows, and quantities
    beside multiples of the number of events, which may be of another unit themselves.
    """
    found = multiples(rows)
    quantities = [
        replace(row, control=replace(row.control, events=None))
        for one in found
        for row in one.run.rows
        if one.measure == "events" and row.control is not None and row.control.quantity is not None
    ]
    is_every = all(one.is_every for one in found)
    more = [one._replace(is_every=is_every and one.is_every) for one in multiples(quantities)]
    of_subjects = {row.subject: one for one in more for row in one.run.rows}
    left = [_in_unit(row, one) if (one := of_subjects.get(row.subject)) else row for row in left_over(rows, found)]
    return [*found, *more], in_order([*left, *left_over(quantities, more)])


def left_over(rows: Iterable[Row], multiplied: Iterable[Multiple]) -> list[Row]:
    """The rows that are none of the multiples; further wrong totals among them, in the unit of the usage."""
    beside = {id(row): one for one in multiplied for row in one.within}
    done = {id(row) for one in multiplied for row in one.run.rows}
    left = [(row, beside.get(id(row))) for row in rows if id(row) not in done]
    return [row if one is None else _in_unit(row, one) for row, one in left]


def _in_unit(row: Row, multiple: Multiple) -> Row:
    """A total divided by the factor, where that is nearer to the usage."""
    measure = multiple.measure
    number = None if row.control is None else getattr(row.control, measure)
    if number is None or row.status not in ("missing", "surplus"):
        return row
    value: Decimal | int = decimal(Fraction(number) / multiple.factor)
    if measure == "events" and Decimal(value) != (value := int(value)):
        return row
    in_unit: dict[str, Any] = {measure: value}
    other = replace(row, control=replace(cast("Control", row.control), **in_unit))
    return other if other.lacking_of(measure).copy_abs() < row.lacking_of(measure).copy_abs() else row


def _is_multiple(row: Row, factor: Fraction) -> bool:
    """Whether a total is this multiple of the usage, as it is rounded to its last decimal."""
    total, used = _numbers(row)
    exponent = total.as_tuple().exponent
    half = Fraction(row.control.lines if row.control else 1, 2) * Fraction(10) ** int(exponent)
    return abs(Fraction(total) - Fraction(used) * factor) <= (half if factor < 1 or row.measure == "cost" else 0)


def _numbers(row: Row) -> tuple[Decimal, Decimal]:
    return Decimal(getattr(row.control, row.measure) or 0), Decimal(getattr(row.used, row.measure) or 0)


def _units(row: Row, *, of_used: bool = False) -> Decimal:
    """A total, or its usage, in units of its last decimal; 1 for 0."""
    number = _numbers(row)[of_used]
    exponent = number.as_tuple().exponent
    return max(Decimal(1), number.copy_abs().scaleb(-int(exponent)))


def factor_finding(
    examination: Examination, multiple: Multiple, span: tuple[datetime, datetime], severity: Severity
) -> Finding:
    """One finding on control totals that are a multiple of the usage, between the times of `span`."""
    run, measure = multiple.run, multiple.measure
    currencies = {row.subject.currency for row in run.rows if row.subject.currency is not None}
    (currency,) = currencies if len(currencies) == 1 else (None,)
    of_what = listed(filter(None, (listed(run.metrics), data_value(currency) if currency else "")))
    (customer,) = run.customers if len(run.customers) == 1 else (None,)
    whose = f" of customer {customer}" if customer else ""
    subject = f" of {'costs' if measure == 'cost' else measure}{f' of {of_what}' if of_what else ''}{whose}"
    which = "Every control total" if multiple.is_every else f"{counted(len(run.rows), 'control total')}"
    are = "is" if multiple.is_every else "are each"
    affected = sum(row.used.events or 0 for row in run.rows)
    since, until = span
    return Finding(
        check=NAME,
        kind=f"{FACTOR}, {measure}",
        severity=severity,
        sentence=f"{which}{subject}, {span_in(since, until, examination.period.zone)}, {are} {multiple.words}: the unit"
        " differs.",
        since=since,
        until=until,
        events=affected,
        metric_key=run.metrics[0] if len(run.metrics) == 1 else None,
        customer_id=customer,
        question=examination.aggregate_question(
            since=since,
            until=until,
            bucket="day",
            metric=AGGREGATED[measure],
            **(metric_filter(run.metrics) if run.metrics else {}),
            **valid_filters(customer_id=customer),
        ),
        facts=(("cause", FACTOR), ("control totals", f"{len(run.rows):,}")),
        **events_share(examination, affected),
    )
