"""Findings of usage that an invoice leaves out altogether: of a metric or price, and of many customers, without a line;
and of the lines of a metric or price that nobody used.

A metric that is on no line is left out of the invoice, not of each customer's; one without usage is a fee, or misspelt.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from usage_explore.decimals import total
from usage_explore.formatting import counted, data_value, in_sentence, listed, percent, span_in
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import MAX_FINDINGS_PER_CHECK, Finding
from usage_explore.validation.periods import part
from usage_explore.validation.reconciliation.compare import Row, amounts_by_currency, price_or_metric
from usage_explore.validation.reconciliation.differences import MAX_SINGLE_CUSTOMERS, NAME, Differences, money
from usage_explore.validation.reconciliation.invoices import Invoices, position
from usage_explore.validation.usage_sums import valid_filters

BOUNDS = CheckBounds(NAME)

# fmt: off
MIN_UNINVOICED_SHARE = BOUNDS.add("min_uninvoiced_share", Decimal("0.5"), "share", 0, 1,
    "Share of the customers with usage from which more than `MAX_SINGLE_CUSTOMERS` without any line are one "
    "finding.")

MIN_OMITTING_CUSTOMERS = BOUNDS.add("min_omitting_customers", 2, "customers", 1, 10000,
    "Customers with usage of a metric or price that is on no line, or with lines of one that nobody used, from which "
    "that is one finding.")
# fmt: on

_MAX_EXCLUDED_CUSTOMERS = 900
"""Customers that a query excludes; a filter has at most 1,000 values."""


class OneSided(NamedTuple):
    """Usage that is on no line, or lines without usage, in one finding."""

    finding: Finding
    rows: list[Row]


def omitted(differences: Differences, invoices: Invoices) -> Iterator[OneSided]:
    """The usage of customers without any line, if they are many, and that of each metric and price without one.

    A customer who used nothing but such metrics belongs to these, if others have lines.
    """
    missing = [
        row
        for row in differences.rows
        if row.status == "missing" and not row.explained_by and id(row) not in differences.reported
    ]
    names = [name for name in ("metric_key", "price_key") if name in differences.columns]
    absent = {name: _absent(differences, invoices, missing, name) for name in names}
    invoiced = {row.key[0] for row in differences.rows if row.lines}
    without_line = [row for row in missing if row.key[0] not in invoiced]
    customers = {
        row.key[0]
        for row in without_line
        if not invoiced or all(_value(differences, row, name) not in values for name, values in absent.items())
    }
    is_one_finding = len(customers) > MAX_SINGLE_CUSTOMERS() and (
        part(len(customers), len(differences.customers_with_usage)) >= MIN_UNINVOICED_SHARE()
    )
    if is_one_finding:
        rows = [row for row in without_line if row.key[0] in customers]
        yield OneSided(_customers_finding(differences, rows), rows)
        missing = [row for row in missing if row.key[0] not in customers]
    for name, values in absent.items():
        for value, rows in _of_several_customers(differences, missing, name, values):
            yield OneSided(_value_finding(differences, rows, name, value), rows)
            keys = {row.key for row in rows}
            missing = [row for row in missing if row.key not in keys]


def unused(differences: Differences) -> Iterator[OneSided]:
    """The lines of each metric and price of which no customer has usage, but those of customers who are unknown."""
    left = [
        row
        for row in differences.rows
        if row.status == "extra"
        and not row.explained_by
        and row.cause is None
        and row.key[0] not in differences.unknown
        and id(row) not in differences.reported
    ]
    for name in ("metric_key", "price_key"):
        if name not in differences.columns:
            continue
        used = {_value(differences, row, name) for row in differences.rows if row.usage is not None}
        values = {value for row in left if (value := _value(differences, row, name)) is not None} - used
        for value, rows in _of_several_customers(differences, left, name, values):
            yield OneSided(_unused_finding(differences, rows, name, value), rows)
            keys = {id(row) for row in rows}
            left = [row for row in left if id(row) not in keys]


def _of_several_customers(
    differences: Differences, rows: list[Row], name: str, values: set[str]
) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each of the values that `MIN_OMITTING_CUSTOMERS` have; none if the values are many."""
    by_value: dict[str, list[Row]] = {}
    for row in rows:
        if (value := _value(differences, row, name)) in values and value is not None:
            by_value.setdefault(value, []).append(row)
    for value, own in sorted(by_value.items()) if len(values) <= MAX_FINDINGS_PER_CHECK else ():
        if len({row.key[0] for row in own}) >= MIN_OMITTING_CUSTOMERS():
            yield value, own


def _absent(differences: Differences, invoices: Invoices, missing: list[Row], name: str) -> set[str]:
    """The metrics or prices of missing usage that no line of the period has, compared or not; none if they are many."""
    period = differences.examination.period
    given = {getattr(line, name) for line in invoices.lines if position(line, period) != "outside"}
    absent = {value for row in missing if (value := _value(differences, row, name)) is not None} - given
    return absent if len(absent) <= MAX_FINDINGS_PER_CHECK else set()


def _value(differences: Differences, row: Row, name: str) -> str | None:
    value: str | None = row.key[differences.columns.index(name) + 1]
    return value


def _value_finding(differences: Differences, rows: list[Row], name: str, value: str) -> Finding:
    """One finding on the usage of a metric or price that is on no line."""
    noun = name.removesuffix("_key")
    customers = {row.key[0] for row in rows}
    used = in_sentence(total(row.difference.copy_abs() for row in rows))
    others = {row.key[0] for row in differences.rows if _value(differences, row, name) == value} - customers
    return _finding(
        differences,
        rows,
        others,
        {name: value},
        kind=f"{noun} without a line",
        sentence=f"{noun.capitalize()} {data_value(value)} is on no line of the invoice, {_span(differences)}, though"
        f" {counted(len(customers), 'customer')} used {used} in {', '.join((_events(rows), *money(rows)))}.",
        facts=(("customers", listed(map(str, customers), most=20)),),
    )


def _unused_finding(differences: Differences, rows: list[Row], name: str, value: str) -> Finding:
    """One finding on the lines of a metric or price that nobody used."""
    noun = name.removesuffix("_key")
    customers = {row.key[0] for row in rows}
    lines = [line for row in rows for line in row.lines]
    invoiced = in_sentence(total(row.invoiced or Decimal(0) for row in rows))
    return _finding(
        differences,
        rows,
        set(),
        {name: value},
        kind=f"{noun} without usage",
        sentence=f"{noun.capitalize()} {data_value(value)} has no usage of any customer, {_span(differences)}, but"
        f" {counted(len(lines), 'line')} of {counted(len(customers), 'customer')} invoice"
        f" {', '.join((invoiced, *money(rows)))}: a fee that no event counts, or another {noun} than the"
        " usage has.",
        facts=(
            ("customers", listed(map(str, customers), most=20)),
            ("lines", listed([f"{line.line:,}" for line in lines], most=20)),
        ),
    )


def _customers_finding(differences: Differences, rows: list[Row]) -> Finding:
    """One finding on the usage of all customers without any line."""
    customers = {row.key[0] for row in rows}
    every = differences.customers_with_usage
    metrics = {dict(zip(differences.columns, row.key[1:], strict=True)).get("metric_key") for row in rows}
    of_all = percent(part(sum(row.events for row in rows), differences.examination.totals.events))
    return _finding(
        differences,
        rows,
        every - customers,
        {"metric_key": metrics.pop()} if len(metrics) == 1 else {},
        kind="uninvoiced customers",
        sentence=f"{len(customers):,} of {counted(len(every), 'customer')} with usage, {_span(differences)}, have no"
        f" invoice line at all: {_events(rows)} in {counted(len(rows), 'total')},"
        f" {', '.join((f'{of_all} of all events', *money(rows)))}; the invoices may be incomplete.",
        facts=(("customers without a line", listed(map(str, customers), most=20)),),
    )


def _finding(
    differences: Differences, rows: list[Row], others: set[UUID], subject: dict[str, Any], **words: Any
) -> Finding:
    """A finding on all usage of a subject, but not that of other customers."""
    examination = differences.examination
    since, until = examination.period.span
    excluded = {name: list(values) for name, values in examination.period.exclude}
    if 0 < len(others) <= _MAX_EXCLUDED_CUSTOMERS:
        excluded["customer_id"] = sorted({*excluded.get("customer_id", ()), *map(str, others)})
    has_one_unit = len({price_or_metric(differences.columns, row.key) for row in rows}) == 1
    share, share_of = differences.share_of(rows)
    filters = valid_filters(**subject)
    return Finding(
        check=NAME,
        severity=differences.severity(rows[0]),
        since=since,
        until=until,
        events=sum(row.events for row in rows),
        question=examination.aggregate_question(
            metric="sum_quantity", group_by="customer_id", exclude=excluded, **filters
        ),
        quantity=total(row.difference.copy_abs() for row in rows) if has_one_unit else None,
        amounts=amounts_by_currency(rows),
        too_high=amounts_by_currency(rows, too_high=True),
        share=share,
        share_of=share_of,
        **subject,
        **words,
    )


def _span(differences: Differences) -> str:
    period = differences.examination.period
    return span_in(*period.span, period.zone)


def _events(rows: list[Row]) -> str:
    return counted(sum(row.events for row in rows), "event")
