"""Control totals in the place of others: those of customer A on the lines of B, those of B on A's, or in a circle; or
events in the column of quantities, and these, as whole numbers, in that of events.

Customers are swapped where each one's totals of a metric are, on every day and to the last digit, what exactly one
other of those that differ used, and so on back to the first. Small differences are easily alike: all of them together,
each in units of its last decimal, must be no coincidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from typing import NamedTuple, cast
from uuid import UUID

from usage_explore.decimals import difference, exact_product, total
from usage_explore.formatting import counted, listed, span_in
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination, Finding, Severity
from usage_explore.validation.control.compare import NAME, Row, Run, Usage
from usage_explore.validation.control.factors import MIN_FACTOR_SHARE
from usage_explore.validation.control.placed import Amounts, Control, Subject
from usage_explore.validation.periods import part
from usage_explore.validation.usage_sums import events_share, metric_filter, valid_filters

BOUNDS = CheckBounds(NAME)

# fmt: off
MIN_SWAPPED_EVIDENCE = BOUNDS.add("min_swapped_evidence", 1000, "factor", 1, 10**12,
    "Product of the differences of customers whose control totals are swapped, each in units of its last decimal and "
    "one more, from which they are.")

MAX_TRIED_CUSTOMERS = BOUNDS.add("max_tried_customers", 500, "customers", 0, 100_000,
    "Customers whose control totals of a metric differ, up to which it is tried whether they are swapped.")
# fmt: on

SWAPPED = "swapped customers"
"""The cause of the rows, in the sheet."""

COLUMNS = "swapped columns"

_MAX_NAMED = 3
"""Swapped customers that a sentence names."""

_Of = tuple[str | None, str | None]
"""Metric and currency of totals."""
_Totals = Mapping[date, Row]


class Swap(NamedTuple):
    """Customers, whose usage the totals of each of them are, and the rows of these metrics."""

    usage_of: Mapping[UUID, UUID]
    rows: list[Row]


def swaps(rows: Iterable[Row], usage: Usage) -> list[Swap]:
    """The customers whose control totals are swapped; `usage` is that of every day and subject."""
    groups: dict[_Of, dict[UUID, dict[date, Row]]] = {}
    for row in rows:
        if (customer := row.subject.customer_id) is not None:
            of = row.subject.metric_key, row.subject.currency
            groups.setdefault(of, {}).setdefault(customer, {})[row.day] = row
    used = {of: _used(of, totals, usage) for of, totals in groups.items()}
    circles = chain.from_iterable(_circles(totals, used[of]) for of, totals in groups.items())
    found: list[Swap] = []
    for circle in {frozenset(one.items()): one for one in circles}.values():
        members = [
            row
            for of, totals in groups.items()
            if all(_are(totals.get(customer, {}), used[of].get(other, {})) for customer, other in circle.items())
            for customer in circle
            for row in totals.get(customer, {}).values()
        ]
        found.append(Swap(circle, members))
    certain = [swap for swap in found if _evidence(swap.rows) >= MIN_SWAPPED_EVIDENCE()]
    every = [customer for swap in certain for customer in swap.usage_of]
    return [swap for swap in certain if all(every.count(customer) == 1 for customer in swap.usage_of)]


def _used(of: _Of, totals: Mapping[UUID, _Totals], usage: Usage) -> dict[UUID, dict[date, Amounts]]:
    """The usage of the customers of totals, on the days that these have."""
    days = {day for of_customer in totals.values() for day in of_customer}
    found: dict[UUID, dict[date, Amounts]] = {}
    for (day, subject), amounts in usage.items():
        if subject.customer_id is not None and (subject.metric_key, subject.currency) == of and day in days:
            found.setdefault(subject.customer_id, {})[day] = amounts
    return found


def _circles(totals: Mapping[UUID, _Totals], used: Mapping[UUID, Mapping[date, Amounts]]) -> Iterator[dict[UUID, UUID]]:
    """Customers with differing totals, each of whom has those that exactly the next one used."""
    differing = [
        customer
        for customer, rows in totals.items()
        if any(row.status in ("missing", "surplus") for row in rows.values())
    ]
    if len(differing) > MAX_TRIED_CUSTOMERS():
        return
    after: dict[UUID, UUID] = {}
    for customer in differing:
        others = [other for other in differing if _are(totals[customer], used.get(other, {}))]
        if len(others) == 1 and others[0] != customer:
            after[customer] = others[0]
    seen: set[UUID] = set()
    for first in after:
        circle, at = [first], after[first]
        while at in after and at not in circle and at not in seen:
            circle.append(at)
            at = after[at]
        if at == first:
            yield {customer: after[customer] for customer in circle}
        seen.update(circle)


def _are(totals: _Totals, used: Mapping[date, Amounts]) -> bool:
    """Whether totals are this usage on all days."""
    nothing = Amounts(0)
    with_total = {day: row for day, row in totals.items() if row.control is not None}
    return all(
        Row(day, row.subject, row.control, used.get(day, nothing)).status == "matched"
        for day, row in with_total.items()
    ) and all(day in with_total or not amounts.events for day, amounts in used.items())


def _evidence(rows: Iterable[Row]) -> Decimal:
    """The differences of rows, each in units of its last decimal and one more, multiplied."""
    factors = []
    for row in rows:
        if row.status in ("missing", "surplus"):
            exponent = row.lacking.normalize().as_tuple().exponent
            places = max(0, -exponent) if isinstance(exponent, int) else 0
            factors.append(row.lacking.copy_abs().scaleb(places) + 1)
    return exact_product(factors)


def exchanged_columns(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """The rows, in which the columns of totals whose `events` are quantities and the other way round are exchanged; and
    these rows: all of a metric, if nearly all of its totals are so, else those alone.

    A quantity that is the usage's but for its decimals is left out: the number of events alone is then compared.
    """
    found: list[Row] = []
    exchanged: list[Row] = []
    groups: dict[_Of, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.subject.metric_key, row.subject.currency), []).append(row)
    for members in groups.values():
        both = [row for row in members if row.control and None not in (row.control.events, row.control.quantity)]
        fitting = [row for row in both if row.status in ("missing", "surplus") and _is_exchanged(row)]
        is_common = len(fitting) >= MIN_FACTOR_SHARE() * len(both) and len(both) == sum(
            row.control is not None for row in members
        )
        if fitting and exact_product(map(_crosswise_evidence, fitting)) >= MIN_SWAPPED_EVIDENCE():
            swapped = {id(row): _exchanged(row) for row in (members if is_common else fitting)}
            members = [swapped.get(id(row), row) for row in members]
            exchanged += swapped.values()
        found += members
    return found, [row for row in exchanged if row.control is not None]


def _is_exchanged(row: Row) -> bool:
    return row.control is not None and row.control.quantity == row.used.events and _is_cut(row)


def _is_cut(row: Row) -> bool:
    """Whether the events of a total are the quantity of the usage, as whole numbers of each line."""
    control = cast("Control", row.control)
    off = Decimal(difference(control.events or 0, row.used.quantity or 0))
    return off.copy_abs() < control.lines


def _crosswise_evidence(row: Row) -> Decimal:
    """How far both columns are off, in whole numbers and one more, multiplied: each agrees with the other by itself."""
    control, used = cast("Control", row.control), row.used
    off = ((control.events or 0, used.events or 0), (control.quantity or 0, used.quantity or 0))
    return exact_product(Decimal(difference(one, other)).copy_abs().to_integral_value() + 1 for one, other in off)


def _exchanged(row: Row) -> Row:
    control = row.control
    if control is None or control.quantity is None or control.quantity != control.quantity.to_integral_value():
        return row
    quantity = None if _is_cut(row) else Decimal(control.events or 0)
    return replace(row, control=replace(control, events=int(control.quantity), quantity=quantity))


def columns_finding(examination: Examination, run: Run, span: Callable[..., tuple[datetime, datetime]]) -> Finding:
    """One finding on totals whose columns of events and quantity are exchanged; `span` gives the times of days."""
    rows, (customer,) = run.rows, run.customers if len(run.customers) == 1 else (None,)
    whose = f" of customer {customer}" if customer else ""
    matched, events = sum(row.status == "matched" for row in rows), sum(row.used.events or 0 for row in rows)
    since, until = span(examination, run.days)
    return Finding(
        check=NAME,
        kind=COLUMNS,
        severity="medium",
        sentence="The columns events and quantity of"
        f" {counted(len(rows), 'control total')} of {listed(run.metrics)}{whose} are swapped,"
        f" {span_in(since, until, examination.period.zone)}: of {matched:,} of {counted(len(rows), 'total')} the"
        " quantity is exactly the number of events. They are compared the other way round here.",
        since=since,
        until=until,
        events=events,
        metric_key=run.metrics[0] if len(run.metrics) == 1 else None,
        customer_id=customer,
        question=examination.aggregate_question(
            since=since,
            until=until,
            bucket="day",
            **metric_filter(run.metrics),
            **valid_filters(customer_id=customer),
        ),
        facts=(("cause", COLUMNS), ("control totals", f"{len(rows):,}")),
        **events_share(examination, events),
    )


def swap_share(swap: Swap) -> Decimal:
    """The largest share of a metric's control totals that the differences are, unsigned."""
    groups: dict[Subject, list[Row]] = {}
    for row in swap.rows:
        if row.control is not None:
            groups.setdefault(row.subject._replace(customer_id=None), []).append(row)
    shares = []
    for rows in groups.values():
        measure = next((row.measure for row in rows if row.status != "matched"), rows[0].measure)
        differences = total(row.lacking_of(measure).copy_abs() for row in rows)
        shares.append(part(differences, Run(rows).sums(measure)[0]))
    return max(shares, default=Decimal(0))


def swap_finding(examination: Examination, swap: Swap, span: tuple[datetime, datetime], severity: Severity) -> Finding:
    """One finding on customers whose control totals are swapped, between the times of `span`."""
    run = Run([row for row in swap.rows if row.control is not None])
    customers = sorted(swap.usage_of, key=str)
    are_two = len(customers) == 2
    whose = (
        listed(f"customer {customer}" for customer in customers)
        if len(customers) <= _MAX_NAMED
        else counted(len(customers), "customer")
    )
    differing = sum(row.status != "matched" for row in run.rows)
    events = sum(row.used.events or 0 for row in run.rows)
    since, until = span
    return Finding(
        check=NAME,
        kind=SWAPPED,
        severity=severity,
        sentence=f"The control totals of {whose} are swapped, {span_in(since, until, examination.period.zone)}:"
        f" {counted(len(run.rows), 'total')} of {listed(run.metrics)} are exactly what"
        f" {'the other one' if are_two else 'another one of them'} used; {differing:,} differ from what their own"
        " customer used.",
        since=since,
        until=until,
        events=events,
        metric_key=run.metrics[0] if len(run.metrics) == 1 else None,
        question=examination.aggregate_question(
            since=since, until=until, group_by="customer_id", **metric_filter(run.metrics)
        ),
        facts=tuple((f"the totals of {customer}", f"used by {swap.usage_of[customer]}") for customer in customers[:20]),
        **events_share(examination, events),
    )
