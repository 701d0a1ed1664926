"""Check: invoice lines against the usage that they bill, to the last digit.

Usage is recomputed by customer and the columns that the lines have (see `invoices`), and each total is compared with
the sum of its lines. External costs are what usage costs us, not its price: invoiced amounts are not compared with
them. A difference is valued at its own lines' amount by quantity. Different unit prices within one price key, and
unexpected currencies, are findings of their own (see `charges`).

If the lines name wallets, usage without one is counted in the wallet that the customer's preferences send it to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from usage_explore.decimals import plain, total
from usage_explore.formatting import counted, listed, percent, span_in
from usage_explore.query.describe import group_name
from usage_explore.query.filters import GROUPS, dimension_group
from usage_explore.query.queries import Period
from usage_explore.validation.check import (
    MAX_FINDINGS_PER_CHECK,
    Check,
    Examination,
    Finding,
    Outcome,
    limited,
    limited_findings,
)
from usage_explore.validation.reconciliation import charges, differences
from usage_explore.validation.reconciliation.charges import (
    DOUBLED_FACTOR,
    MIN_PRICE_CURRENCY_SHARE,
    MIN_PRICE_LINES,
    currency_findings,
    unit_price_deviations,
    unit_price_finding,
)
from usage_explore.validation.reconciliation.compare import (
    ROUNDED_DECIMALS,
    STATUSES,
    Key,
    Row,
    compare,
    duplicates_by_key,
    explain,
    passes_filters,
    position,
    set_amounts,
    statement,
    usage_by_key,
)
from usage_explore.validation.reconciliation.differences import (
    MAX_SINGLE_CUSTOMERS,
    MIN_UNINVOICED_SHARE,
    NAME,
    Differences,
)
from usage_explore.validation.reconciliation.invoices import KEY_COLUMNS, InvoiceLine, Invoices

if TYPE_CHECKING:
    import pandas as pd


@dataclass(slots=True)
class _Lines:
    """The lines to compare; those excluded by the period's filters, outside the period, or reaching beyond it."""

    compared: list[InvoiceLine] = field(default_factory=list)
    filtered: list[InvoiceLine] = field(default_factory=list)
    outside: list[InvoiceLine] = field(default_factory=list)
    across: list[InvoiceLine] = field(default_factory=list)


def examine(examination: Examination) -> Outcome:
    """Compare every total of usage or lines.

    `sheet`: one row per total, differences first. Columns: `customer_id`, `subscription_id`, `metric_key`, `price_key`,
    `wallet_currency` (str, missing if the total has none or the lines lack the column), `lines`, `events` (int64),
    `invoiced`, `recomputed` (`Decimal` or None), `difference` (`Decimal`, invoiced less recomputed), `status`,
    `explained_by` (str, "" if nothing explains it), `amount` (`Decimal` or None, of the lines), `currency` (str),
    `amount_difference` (`Decimal` or None: the difference at the lines' unit price).
    """
    period = examination.period
    invoices = cast("Invoices", examination.inputs.invoices)  # `needs` says that it is given
    if filters := _filters_without_column(examination, invoices):
        return _nothing_compared(examination, f"the period is filtered by {filters}, which the lines do not tell apart")
    lines = _sorted(invoices.lines, period)
    if not lines.compared and (lines.outside or lines.across):
        return _nothing_compared(examination, f"all {counted(len(invoices.lines), 'line')} are of other periods")
    columns, tolerance = invoices.columns, invoices.tolerance
    usage = usage_by_key(examination, columns)
    examination.progress(0.4)
    rows = compare(lines.compared, usage, _key_of(columns), tolerance)
    explain(rows, {}, tolerance)  # by late events alone: only what is left needs the search for duplicates
    unexplained = [row for row in rows if row.is_open]
    explain(unexplained, duplicates_by_key(examination, columns, {row.key[0] for row in unexplained}), tolerance)
    examination.progress(0.8)
    set_amounts(rows, columns)
    differences = Differences(examination, columns, rows, tolerance)
    findings, more = differences.findings()
    currencies, more_currencies = limited_findings(currency_findings(differences), "findings of currencies")
    prices, more_prices = limited(
        unit_price_deviations(lines.compared, tolerance),
        "prices with different unit prices",
        lambda rest: counted(sum(len(price.deviating) for price in rest), "line"),
    )
    return Outcome(
        findings=(*findings, *currencies, *(unit_price_finding(differences, price) for price in prices)),
        looked_at=len(rows),
        sheet=_sheet(rows, columns),
        note=" ".join(
            (
                *_compared_notes(examination, invoices, lines, rows),
                *(f"{note}." for note in (more, more_currencies, more_prices) if note),
                *_ignored_notes(invoices, lines),
            )
        ),
    )


def _key_of(columns: tuple[str, ...]) -> Callable[[InvoiceLine], Key]:
    def key(line: InvoiceLine) -> Key:
        return (line.customer_id, *(getattr(line, name) for name in columns))

    return key


def _filters_without_column(examination: Examination, invoices: Invoices) -> str:
    """The period's filters on columns that the lines do not have, in words; "" without any."""
    period = examination.period
    named_groups = {name for name in GROUPS if getattr(period, name)}
    named_groups |= {dimension_group(key) for key, _ in period.dimensions} | set(period.missing)
    for name, values in period.exclude:
        named_groups |= set(values) if name == "missing" else {name}
    columns = {"customer_id", *invoices.columns}
    if examination.inputs.preferences is not None:
        columns.discard("wallet_currency")  # the filter is on the wallet that events name, not on where they go
    return listed([group_name(name) for name in named_groups - columns])


def _sorted(lines: Iterable[InvoiceLine], period: Period) -> _Lines:
    groups = _Lines()
    for line in lines:
        where = position(line, period)
        if where == "outside":
            groups.outside.append(line)
        elif not passes_filters(line, period):
            groups.filtered.append(line)
        else:
            (groups.compared if where == "inside" else groups.across).append(line)
    return groups


def _nothing_compared(examination: Examination, reason: str) -> Outcome:
    """One finding that no line was compared, so that the check is not clean."""
    since, until = examination.period.span
    span = span_in(since, until, examination.period.zone)
    finding = Finding(
        check=NAME,
        severity="high",
        sentence=f"No invoice line was compared with the usage, {span}: {reason}.",
        since=since,
        until=until,
        events=examination.totals.events,
        question=examination.aggregate_question(),
        share=Decimal(1),
        share_of="all events",
    )
    return Outcome(findings=(finding,), note=f"Nothing was compared: {reason}.")


def _compared_notes(examination: Examination, invoices: Invoices, lines: _Lines, rows: list[Row]) -> Iterable[str]:
    """How the lines were compared, and which were not."""
    matched = sum(row.status == "matched" for row in rows)
    by = listed(["customer", *(group_name(name) for name in invoices.columns)], most=5)
    yield f"{matched:,} of {counted(len(rows), 'total')} by {by} match, tolerance {plain(invoices.tolerance)}."
    if examination.closed_until < examination.period.span[1]:
        yield "The period is not over: usage may still arrive."
    for group, reason in (
        (lines.outside, "of other periods"),
        (lines.across, "of periods that reach beyond this one"),
        (lines.filtered, "excluded by the period's filters"),
    ):
        if group:
            quantity = plain(total(line.quantity for line in group))
            were = "was" if len(group) == 1 else "were"
            yield f"{counted(len(group), 'line')} {reason}, quantity {quantity}, {were} not compared."
    if several := sum(len(row.lines) > 1 for row in rows):
        yield f"{counted(several, 'total')} {'has' if several == 1 else 'have'} several lines, which were summed."
    if "wallet_currency" in invoices.columns:
        index = invoices.columns.index("wallet_currency") + 1
        if unknown := sum(row.events for row in rows if row.key[index] is None):
            yield f"{counted(unknown, 'event')} without a wallet went to none: no preference applies."


def _ignored_notes(invoices: Invoices, lines: _Lines) -> Iterable[str]:
    """Amounts without a currency, and unknown columns."""
    if without := sum(line.amount is not None and line.currency is None for line in lines.compared):
        yield f"The currency of {counted(without, 'line')} with an amount is unknown, and was not compared."
    if invoices.ignored:
        yield f"Ignored columns: {listed(invoices.ignored, most=20)}."


def _sheet(rows: list[Row], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    rows = sorted(rows, key=lambda row: (STATUSES.index(row.status), *(_text(value) or "" for value in row.key)))
    keys = {name: [_text(row.key[index]) for row in rows] for index, name in enumerate(("customer_id", *columns))}
    sheet = {name: pd.Series(keys.get(name, [None] * len(rows)), dtype="str") for name in ("customer_id", *KEY_COLUMNS)}
    for name, read, dtype in _SHEET:
        sheet[name] = pd.Series([read(row) for row in rows], dtype=dtype)
    return pd.DataFrame(sheet)


_SHEET: tuple[tuple[str, Callable[[Row], Any], Any], ...] = (
    ("lines", lambda row: len(row.lines), "int64"),
    ("events", lambda row: row.events, "int64"),
    ("invoiced", lambda row: row.invoiced, "object"),
    ("recomputed", lambda row: row.recomputed, "object"),
    ("difference", lambda row: row.difference, "object"),
    ("status", lambda row: row.status, "str"),
    ("explained_by", lambda row: row.explained_by, "str"),
    ("amount", lambda row: row.amount, "object"),
    ("currency", lambda row: row.currency, "str"),
    ("amount_difference", lambda row: row.amount_difference, "object"),
)
"""The sheet's columns after those of the key: name, value of a row, dtype."""


def _text(value: object) -> str | None:
    return None if value is None else str(value)


CHECK = Check(
    name=NAME,
    title="Reconciliation",
    means="The invoice bills something else than was used.",
    parameters=lambda: {
        "tolerance": "largest difference of invoiced and used quantity that still matches: 0, or the one given with the"
        " invoices",
        "key": "compared by customer and those of subscription, metric, price and wallet that any line has",
        "explained": "a difference is medium if late events or duplicates make up all of it, within the tolerance; else"
        " high",
        "open period": "no difference is high in a period that is not over",
        "no lines at all": f"more than {MAX_SINGLE_CUSTOMERS()} customers without any line are one finding if they are"
        f" {percent(MIN_UNINVOICED_SHARE())} or more of those with usage",
        "worth": "a difference at its lines' amount by quantity; exact, or rounded half to even to"
        f" {ROUNDED_DECIMALS} decimals if no decimal is; without a line at the one unit price of all lines of its"
        " price, or else metric",
        "unit price": "lines of one price key and currency have one unit price, to within the tolerance of each line's"
        " quantity and one unit of the last decimal of its amount, trailing zeros ignored, and at least the currency's"
        " smallest unit, or less than 1 if no line of the price has decimals; high if half of the lines or more"
        f" (without decimals: more than half) agree and another charges {DOUBLED_FACTOR()} times their price or more,"
        " or"
        " with the other sign; else medium",
        "currency": "a line in another currency than the wallets of its usage, pinned or by the preferred-currency"
        " cascade, is high; so is one without a known wallet in another than most such lines of the customer, which all"
        " go to one wallet; a customer's only such line in another than"
        f" {percent(MIN_PRICE_CURRENCY_SHARE())} of the price's other lines, at least {MIN_PRICE_LINES()}, is medium",
        "most": f"the {MAX_FINDINGS_PER_CHECK} gravest of differences, of currencies and of unit prices; the sheet has"
        " all differences",
    },
    unit="totals of usage or lines",
    bounds=(*charges.BOUNDS, *differences.BOUNDS),
    statement=statement,
    examine=examine,
    needs="invoices",
)
"""Invoice lines against recomputed usage, total by total, in exact decimals."""
