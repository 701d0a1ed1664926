"""Amounts of invoice lines compared with those of the price book, and the findings that concern several customers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from usage_explore.decimals import difference, plain, total
from usage_explore.formatting import counted, data_value, in_sentence, listed, span_in
from usage_explore.pricing.usage import Rated, Unpriced
from usage_explore.validation.check import Examination, Finding
from usage_explore.validation.periods import part
from usage_explore.validation.reconciliation.causes import Charge, currency_words, is_rounding
from usage_explore.validation.reconciliation.compare import Row
from usage_explore.validation.reconciliation.differences import (
    MAX_LISTED_LINES,
    MAX_SINGLE_CUSTOMERS,
    NAME,
    Differences,
    amounts_by_currency,
)
from usage_explore.validation.reconciliation.expected import Expected

MAX_SINGLE_METRICS = 5
"""Metrics without a price for one reason that are findings of their own; more of them are one finding."""


def compare_amounts(rows: Iterable[Row]) -> list[Charge]:
    """Set expected rows' `amount_difference`, and the status of those whose amount alone is wrong: the wrong charges.

    A row is compared if all its lines have an amount, in the currencies of its expected amounts.
    """
    rows = list(rows)
    is_whole = not any(
        line.amount is not None and line.amount != line.amount.to_integral_value() for row in rows for line in row.lines
    )
    charges = []
    for row in rows:
        expected = row.expected
        if expected is None or not expected.is_priced:
            continue
        if not row.lines:
            row.currency, row.amount_difference = _largest(_negated(expected.amounts))
            if not any(expected.amounts.values()):
                row.status = "matched"
            continue
        invoiced = invoiced_amounts(row, expected)
        if invoiced is None or set(invoiced) - set(expected.amounts):
            continue
        differences = {
            currency: Decimal(difference(invoiced.get(currency, Decimal(0)), amount))
            for currency, amount in expected.amounts.items()
        }
        row.currency, row.amount_difference = _largest(differences)
        exact_too = {
            currency for currency, amount in expected.exact.items() if invoiced.get(currency, Decimal(0)) == amount
        }
        wrong = [currency for currency, value in differences.items() if value and currency not in exact_too]
        if not wrong:
            row.amount_difference = Decimal(0)
        elif row.status == "matched":
            row.status = "wrong amount"
            currency = row.currency or wrong[0]
            if len(expected.amounts) == 1:
                scale = expected.lines[0].part.price.scale
                unit = Decimal(1) if is_whole else Decimal(1).scaleb(-scale)
                lines = max(len(row.lines), len(expected.lines))
                amounts = invoiced[currency], expected.amounts[currency], expected.exact[currency]
                charges.append(Charge(row, currency, *amounts, unit, lines))
    return charges


def invoiced_amounts(row: Row, expected: Expected) -> dict[str, Decimal] | None:
    """The lines' amounts by currency; None if one has no amount. Without a currency it is the only expected one."""
    only = next(iter(expected.amounts)) if len(expected.amounts) == 1 else None
    amounts: dict[str, list[Decimal]] = {}
    for line in row.lines:
        currency = line.currency or only
        if line.amount is None or currency is None:
            return None
        amounts.setdefault(currency, []).append(line.amount)
    return {currency: total(values) for currency, values in amounts.items()}


def matches(row: Row, expected: Expected, tolerance: Decimal) -> bool:
    """Whether a row's lines are what is expected: quantity within the tolerance, and amount, apart from rounding."""
    invoiced = row.invoiced or Decimal(0)
    if all(abs(Decimal(difference(invoiced, quantity))) > tolerance for quantity in expected.quantities):
        return False
    amounts = invoiced_amounts(row, expected)
    if amounts is None or expected.unpriced or set(amounts) - set(expected.amounts):
        return True  # the amounts are not compared, or their currency is a finding of its own
    for currency, amount in expected.amounts.items():
        price = expected.lines[0].part.price
        given = amounts.get(currency, Decimal(0))
        unit, lines = Decimal(1).scaleb(-price.scale), max(len(row.lines), len(expected.lines))
        charge = Charge(row, currency, given, amount, expected.exact[currency], unit, lines)
        if given != amount and not is_rounding(charge):
            return False
    return True


def _negated(amounts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {currency: amount.copy_negate() for currency, amount in amounts.items()}


def _largest(amounts: Mapping[str, Decimal]) -> tuple[str | None, Decimal | None]:
    if not amounts:
        return None, None
    currency = max(sorted(amounts), key=lambda code: abs(amounts[code]))
    return currency, amounts[currency]


def common_causes(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows that one cause explains and that are one finding: of rounding, of an amount, or of many customers."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.cause is not None:
            groups.setdefault((row.cause.name, row.cause.words), []).append(row)
    return [
        group
        for group in groups.values()
        if (len({row.key[0] for row in group}) > 1 and all(row.status == "wrong amount" for row in group))
        or len({row.key[0] for row in group}) > MAX_SINGLE_CUSTOMERS()
    ]


def common_finding(differences: Differences, rows: list[Row]) -> Finding:
    """One finding for rows of several customers with one cause."""
    examination = differences.examination
    cause = rows[0].cause
    assert cause is not None  # noqa: S101 - `common_causes` groups by it
    since, until = examination.period.span
    span = span_in(since, until, examination.period.zone)
    customers = {row.key[0] for row in rows}
    totals = f"{counted(len(rows), 'total')} of {counted(len(customers), 'customer')}, {span},"
    if all(row.status == "wrong amount" for row in rows):
        invoiced, expected = _sums(rows)
        what = f"are charged {currency_words(invoiced)}, but {currency_words(expected)} is expected"
    else:
        what = "are invoiced other quantities than were used"
    severity = cause.severity
    if severity == "high" and examination.closed_until < until:
        severity = "medium"
    shared = _shared(differences, rows)
    numbers = sorted(line.line for row in rows for line in row.lines)
    more = f" and {len(numbers) - MAX_LISTED_LINES:,} more" if len(numbers) > MAX_LISTED_LINES else ""
    return Finding(
        check=NAME,
        severity=severity,
        sentence=f"{totals} {what}: each is {cause.words}.",
        since=since,
        until=until,
        events=sum(row.events for row in rows),
        question=examination.aggregate_question(metric="sum_quantity", group_by="customer_id", **shared),
        amounts=amounts_by_currency(rows),
        share=part(len(rows), sum(bool(row.lines) for row in differences.rows)),
        share_of="invoiced totals",
        facts=(
            ("cause", cause.name),
            ("lines", ", ".join(f"{number:,}" for number in numbers[:MAX_LISTED_LINES]) + more),
            ("customers", listed(map(str, customers), most=20)),
        ),
        **shared,
    )


def _sums(rows: list[Row]) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """The invoiced and the expected amounts of rows by currency."""
    invoiced: dict[str, list[Decimal]] = {}
    expected: dict[str, list[Decimal]] = {}
    for row in rows:
        if row.expected is not None:
            for currency, amount in row.expected.amounts.items():
                expected.setdefault(currency, []).append(amount)
            for currency, amount in (invoiced_amounts(row, row.expected) or {}).items():
                invoiced.setdefault(currency, []).append(amount)
    return (
        {currency: total(values) for currency, values in invoiced.items()},
        {currency: total(values) for currency, values in expected.items()},
    )


def _shared(differences: Differences, rows: list[Row]) -> dict[str, Any]:
    """The metric and the price that all rows have."""
    shared = {}
    for index, name in enumerate(differences.columns, 1):
        values = {row.key[index] for row in rows}
        if name in ("metric_key", "price_key") and len(values) == 1 and (value := values.pop()):
            shared[name] = value
    return shared


@dataclass(slots=True)
class _Unpriced:
    """Usage that has no price for one reason."""

    customers: set[UUID] = field(default_factory=set)
    metrics: dict[str, list[Decimal]] = field(default_factory=dict)
    prices: set[str | None] = field(default_factory=set)
    events: int = 0

    def add(self, item: Unpriced) -> None:
        self.customers.add(item.customer_id)
        self.metrics.setdefault(item.metric_key, []).append(item.quantity)
        self.prices.add(item.price_key)
        self.events += item.events


def unpriced_findings(examination: Examination, rated: Rated) -> Iterator[Finding]:
    """A finding for each metric and reason of usage without a price; one for a reason that concerns many metrics."""
    reasons: dict[str, set[str]] = {}
    for item in rated.unpriced:
        reasons.setdefault(item.reason, set()).add(item.metric_key)
    groups: dict[tuple[str, str | None], _Unpriced] = {}
    for item in rated.unpriced:
        is_single = len(reasons[item.reason]) <= MAX_SINGLE_METRICS
        groups.setdefault((item.reason, item.metric_key if is_single else None), _Unpriced()).add(item)
    for (reason, metric), group in sorted(groups.items(), key=lambda entry: (-entry[1].events, str(entry[0]))):
        yield _unpriced_finding(examination, reason, metric, group)


def _unpriced_finding(examination: Examination, reason: str, metric: str | None, group: _Unpriced) -> Finding:
    since, until = examination.period.span
    customer = next(iter(group.customers)) if len(group.customers) == 1 else None
    price = next(iter(group.prices)) if len(group.prices) == 1 else None
    of = f"customer {customer}" if customer else counted(len(group.customers), "customer")
    what = counted(len(group.metrics), "metric") if metric is None else data_value(metric)
    filters: dict[str, Any] = {"customer_id": customer} | ({} if metric is None else {"metric_key": metric})
    if group.prices == {None}:
        filters["missing"] = examination.missing("price_key")
    elif None not in group.prices and len(group.prices) <= MAX_SINGLE_METRICS:
        filters["price_key"] = sorted(filter(None, group.prices))
    if metric is None:
        filters["group_by"] = "metric_key"
    quantities = {name: total(values) for name, values in group.metrics.items()}
    quantity = None if metric is None else quantities[metric]
    return Finding(
        check=NAME,
        severity="medium",
        sentence=f"{counted(group.events, 'event')} of {what} of {of},"
        f" {span_in(since, until, examination.period.zone)}, {'has' if group.events == 1 else 'have'} no price in the"
        f" price book{'' if quantity is None else f', quantity {in_sentence(quantity)}'}: {reason}; the amounts of"
        " its lines were not checked.",
        since=since,
        until=until,
        events=group.events,
        question=examination.aggregate_question(metric="sum_quantity", **filters),
        quantity=quantity if quantity is not None and quantity.is_finite() else None,
        share=part(group.events, examination.totals.events),
        share_of="all events",
        customer_id=customer,
        metric_key=metric,
        price_key=price,
        facts=tuple(
            (f"without a price: {data_value(name)}", plain(value))
            for name, value in sorted(quantities.items())[:MAX_LISTED_LINES]
        ),
    )


def amount_note(rows: list[Row]) -> str:
    """How many totals' amounts were compared with the price book, and which were not."""
    billed = [row for row in rows if row.lines and row.usage is not None]
    compared = [row for row in billed if row.expected and row.expected.is_priced and _has_amounts(row, row.expected)]
    right = sum(row.amount_difference == 0 for row in compared)
    note = f"{right:,} of {counted(len(compared), 'amount')} are those of the price book"
    left = len(billed) - len(compared)
    without = f"; {left:,} not checked: no amount or no price" if left else ""
    return f"{note}{without}."


def _has_amounts(row: Row, expected: Expected) -> bool:
    return invoiced_amounts(row, expected) is not None


def unchecked(rows: list[Row]) -> str:
    """How many totals' amounts were not compared with the price book; "" if all were."""
    billed = [row for row in rows if row.lines and row.usage is not None]
    left = sum(not (row.expected and row.expected.is_priced and _has_amounts(row, row.expected)) for row in billed)
    return f"amounts of {left:,} of {counted(len(billed), 'invoiced total')} not checked" if left else ""
