"""Costs of control totals that are there in another currency, to the last digit: that of one of both is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from usage_explore.decimals import difference, total
from usage_explore.formatting import data_value
from usage_explore.validation.control.compare import Row, Run, Status, Usage, across_customers
from usage_explore.validation.control.placed import Subject

_IN = "in "
"""Begins the cause of totals whose whole difference is there in another currency."""

_MIN_UNITS = 100
"""Units of the last decimal that a part of a total in another currency must have: fewer agree by chance."""

_MIN_TOTALS = 2
"""Totals of a metric and customer that are there in another currency, of which a further one is compared with both."""

At = tuple[date, Subject]


class InOtherCurrencies(NamedTuple):
    """The totals that are there in another currency, with their causes by `id`, and the rest, with theirs.

    Without the totals, and the usage without one, of the other currency that are too much by the same amount.
    """

    runs: list[Run]
    rest: list[Row]
    causes: dict[int, str]


def in_other_currencies(rows: list[Row], usage: Usage) -> InOtherCurrencies:
    """The totals whose missing cost is exactly what another currency has too much of at the day, metric and customer.

    Of a metric and customer that has some of these, the others are compared with what both currencies have.
    """
    at = {(row.day, row.subject): row for row in rows if row.measure == "cost"}
    codes = sorted({subject.currency for _, subject in usage if subject.currency is not None})
    found: dict[str, list[Row]] = {}
    counterparts = set[At]()
    for row in at.values():
        for code in codes if _is_less(row) and (row.day, row.subject) not in counterparts else ():
            other = row.subject._replace(currency=code)
            if code != row.subject.currency and _is_in(row, other, at, usage):
                found.setdefault(code, []).append(row)
                counterparts |= {(row.day, row.subject), (row.day, other)}
                break
    number = Counter((row.subject, code) for code, members in found.items() for row in members)
    usual = {subject: code for (subject, code), totals in number.items() if totals >= _MIN_TOTALS}
    causes: dict[int, str] = {}
    rest: dict[int, Row] = {id(row): row for row in rows}
    for row in at.values():
        if (there := usual.get(row.subject)) and (row.day, row.subject) not in counterparts:
            other = row.subject._replace(currency=there)
            both = _with_both(row, other, at, usage)
            if both is row:
                continue
            counterparts.add((row.day, other))
            if both.status == "matched":
                found[there].append(row)
                counterparts.add((row.day, row.subject))
            else:
                rest[id(row)] = both
                causes[id(both)] = f"with what is there in {data_value(there)}"
    for key in counterparts:
        if key in at:
            rest.pop(id(at[key]), None)
    runs = []
    for code, members in found.items():
        alike: dict[tuple[UUID | None, str | None, Status], list[Row]] = {}
        for row in sorted(members, key=lambda row: row.day):
            alike.setdefault((row.subject.customer_id, row.subject.currency, row.status), []).append(row)
        runs += across_customers([Run(each) for each in alike.values()])
        causes |= {id(row): f"{_IN}{data_value(code)}" for row in members}
    return InOtherCurrencies(runs, list(rest.values()), causes)


def is_explanation(cause: str) -> bool:
    """Whether all of a difference is there in another currency."""
    return cause.startswith(_IN)


def _is_less(row: Row) -> bool:
    """Whether a part of the total, or of its credit, is missing."""
    billed = row.control.cost if row.control is not None else None
    return billed is not None and bool(billed) and row.status == ("missing" if billed > 0 else "surplus")


def _too_much(other: Subject, day: date, at: Mapping[At, Row], usage: Usage) -> Decimal | None:
    """By how much the cost of a day and subject is beyond its total; None without any."""
    there = usage.get((day, other))
    if there is None or there.cost is None or not there.cost.is_finite():
        return None
    row = at.get((day, other))
    return there.cost if row is None or row.control is None else row.lacking.copy_negate()


def _is_in(row: Row, other: Subject, at: Mapping[At, Row], usage: Usage) -> bool:
    there = _too_much(other, row.day, at, usage)
    if there is None or row.control is None:
        return False
    counted = at.get((row.day, other))
    of_other = counted.control.rounding if counted is not None and counted.control is not None else Decimal(0)
    rounding = total((row.control.rounding, of_other))
    is_whole = not row.used.cost and not of_other
    return Decimal(difference(there, row.lacking)).copy_abs() <= rounding and (
        is_whole or row.lacking.copy_abs() >= _MIN_UNITS * rounding
    )


def _with_both(row: Row, other: Subject, at: Mapping[At, Row], usage: Usage) -> Row:
    """The row with what is there in the other currency, where that is nearer to the total."""
    there = _too_much(other, row.day, at, usage)
    if there is None or not _is_less(row):
        return row
    both = replace(row, used=replace(row.used, cost=total((row.used.cost or Decimal(0), there))))
    return both if both.lacking.copy_abs() < row.lacking.copy_abs() else row
