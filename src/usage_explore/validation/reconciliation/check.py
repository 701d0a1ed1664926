"""Check: invoice lines against the usage that they bill, to the last digit.

Usage is recomputed by customer and whatever the lines tell apart (see `invoices`), and each key compared with the sum
of its lines. A usage table knows what usage cost us, not what it is sold for: invoiced amounts are therefore not
compared with costs. A difference is worth its quantity at its own lines' amount by quantity; and lines of one price key
that charge different unit prices are findings, as are lines in another currency than their usage is charged in.

With lines that tell wallets apart, usage that names no wallet goes where the preferences send it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from usage_explore.decimals import plain
from usage_explore.formatting import counted, data_value, listed, percent, span_in
from usage_explore.query.describe import group_name
from usage_explore.query.filters import GROUPS, dimension_group
from usage_explore.query.queries import Period
from usage_explore.validation.check import Check, Examination, Outcome
from usage_explore.validation.finding import Finding
from usage_explore.validation.reconciliation.compare import (
    DECIMALS,
    STATUSES,
    Key,
    Row,
    compare,
    explain,
    passes,
    placed,
    total,
    value,
)
from usage_explore.validation.reconciliation.currencies import KNOWN, SHARED, in_unusual_currencies
from usage_explore.validation.reconciliation.findings import NAME, Telling, item, worth
from usage_explore.validation.reconciliation.invoices import KEY_COLUMNS, InvoiceLine, Invoices
from usage_explore.validation.reconciliation.uninvoiced import CROWD, MOSTLY
from usage_explore.validation.reconciliation.unit_prices import DOUBLE, Deviation, deviations, unit_price
from usage_explore.validation.reconciliation.usage import repeats, statement, usage
from usage_explore.validation.totals import part

if TYPE_CHECKING:
    import pandas as pd

MOST = 100
"""Findings of differences; the note sums up the others, the sheet has them all."""

MOST_PRICES = 20
"""Findings of unit prices."""

MOST_CURRENCIES = 40
"""Findings of lines in another currency."""


@dataclass(slots=True)
class _Sorted:
    """The lines by what they have to do with the period; `filtered` are those its filters leave out."""

    compared: list[InvoiceLine] = field(default_factory=list)
    filtered: list[InvoiceLine] = field(default_factory=list)
    outside: list[InvoiceLine] = field(default_factory=list)
    across: list[InvoiceLine] = field(default_factory=list)


def examine(examination: Examination) -> Outcome:
    """Every key of usage and of lines compared.

    `sheet`: one row per key, differences first. Columns: `customer_id`, `subscription_id`, `metric_key`, `price_key`,
    `wallet_currency` (str, missing where the key has none or the lines do not tell it apart), `lines`,
    `events` (int64), `invoiced`, `recomputed` (`Decimal` or None), `difference` (`Decimal`, invoiced less recomputed),
    `status`, `explained_by` (str, "" where nothing accounts for it), `amount` (`Decimal` or None: what lines charge),
    `currency` (str), `amount_difference` (`Decimal` or None: what the difference is worth).
    """
    invoices, period = cast("Invoices", examination.invoices), examination.period  # it is what the check needs
    if untold := _untold(examination, invoices):
        return _nothing_compared(examination, f"the period is filtered by {untold}, which the lines do not tell apart")
    lines = _sorted(invoices.lines, period)
    if not lines.compared and (lines.outside or lines.across):
        return _nothing_compared(examination, f"all {counted(len(invoices.lines), 'line')} are of other periods")
    columns = invoices.columns
    used = usage(examination, columns)
    examination.progress(0.4)
    rows = compare(lines.compared, used, _key_of(columns), invoices.tolerance)
    explain(rows, {}, invoices.tolerance)
    open_ones = [row for row in rows if row.may_be_explained]
    explain(open_ones, repeats(examination, columns, {row.key[0] for row in open_ones}), invoices.tolerance)
    examination.progress(0.8)
    value(rows, lambda key: item(columns, key))
    telling = Telling(examination, columns, rows, invoices.tolerance)
    told, rest = telling.findings(MOST)
    currencies = in_unusual_currencies(telling)
    prices = deviations(lines.compared)
    priced = [_price_finding(examination, rows, columns, each) for each in prices[:MOST_PRICES]]
    return Outcome(
        findings=(*told, *currencies[:MOST_CURRENCIES], *priced),
        looked_at=len(rows),
        sheet=_sheet(rows, columns),
        note=" ".join(
            _notes(
                examination,
                invoices,
                lines,
                rows,
                rest,
                len(prices[MOST_PRICES:]),
                len(currencies[MOST_CURRENCIES:]),
            )
        ),
    )


def _key_of(columns: tuple[str, ...]) -> Callable[[InvoiceLine], Key]:
    def key(line: InvoiceLine) -> Key:
        return (line.customer_id, *(getattr(line, name) for name in columns))

    return key


def _untold(examination: Examination, invoices: Invoices) -> str:
    """The filters of the period that cannot be put to lines, in words."""
    period = examination.period
    named_groups = {name for name in GROUPS if getattr(period, name)}
    named_groups |= {dimension_group(key) for key, _ in period.dimensions} | set(period.missing)
    for name, values in period.exclude:
        named_groups |= set(values) if name == "missing" else {name}
    told = {"customer_id", *invoices.columns}
    if examination.preferences is not None:
        told.discard("wallet_currency")  # filtered is what events name, told apart where they go
    return listed([group_name(name) for name in named_groups - told])


def _sorted(lines: Iterable[InvoiceLine], period: Period) -> _Sorted:
    found = _Sorted()
    for line in lines:
        place = placed(line, period)
        if place == "outside":
            found.outside.append(line)
        elif not passes(line, period):
            found.filtered.append(line)
        else:
            (found.compared if place == "inside" else found.across).append(line)
    return found


def _nothing_compared(examination: Examination, why: str) -> Outcome:
    """One finding instead of as many as there are keys: invoices that were not compared are not right."""
    since, until = examination.period.span
    span = span_in(since, until, examination.period.zone)
    finding = Finding(
        check=NAME,
        severity="high",
        sentence=f"No invoice line was compared with the usage, {span}: {why}.",
        since=since,
        until=until,
        events=examination.totals.events,
        question=examination.aggregate_question(),
        share=Decimal(1),
    )
    return Outcome(findings=(finding,), note=f"Nothing was compared: {why}.")


def _price_finding(examination: Examination, rows: list[Row], columns: tuple[str, ...], found: Deviation) -> Finding:
    since, until = examination.period.span
    place = columns.index(found.column) + 1
    customers = {line.customer_id for line in found.deviating}
    whose = customers.pop() if len(customers) == 1 else None
    concerned = [row for row in rows if row.key[place] == found.key and whose in (None, row.key[0])]
    first = (found.doubled or found.deviating)[0]
    currency = "" if found.currency is None else f" {data_value(found.currency)}"
    keyed: dict[str, Any] = {found.column: found.key}
    span = span_in(since, until, examination.period.zone)
    charge = "charges" if len(found.deviating) == 1 else "charge"
    return Finding(
        check=NAME,
        severity="high" if found.doubled else "medium",
        sentence=f"{counted(len(found.deviating), 'line')} of {found.lines:,} of"
        f" {found.column.removesuffix('_key')} {data_value(found.key)}, {span}, {charge} another unit price than the"
        f" others: line {first.line:,} about {plain(unit_price(first))}{currency}, where line {found.usual.line:,}"
        f" and most others are charged about {plain(unit_price(found.usual))}{currency}.",
        since=since,
        until=until,
        events=sum(row.events for row in concerned),
        question=examination.aggregate_question(metric="sum_quantity", customer_id=whose, **keyed),
        share=part(len(found.deviating), found.lines),
        customer_id=whose,
        **keyed,
        facts=tuple(
            (what, ", ".join(f"{line.line}" for line in held[:20]))
            for what, held in (
                ("deviating lines", found.deviating),
                ("charged twice or more, or with the other sign", found.doubled),
            )
            if held
        ),
    )


def _notes(
    examination: Examination,
    invoices: Invoices,
    lines: _Sorted,
    rows: list[Row],
    rest: list[list[Row]],
    prices: int,
    currencies: int,
) -> Iterable[str]:
    """How it was compared, and whatever was left aside, in sentences."""
    matched = sum(row.status == "matched" for row in rows)
    by = listed(["customer", *(group_name(name) for name in invoices.columns)], most=5)
    yield f"{matched:,} of {counted(len(rows), 'total')} by {by} match, tolerance {plain(invoices.tolerance)}."
    if examination.closed_until < examination.period.span[1]:
        yield "The period is not over: its usage goes on."
    for held, why in (
        (lines.outside, "of other periods"),
        (lines.across, "of periods that reach beyond this one"),
        (lines.filtered, "that the period's filters leave out"),
    ):
        if held:
            quantity = plain(total(*(line.quantity for line in held)))
            yield f"{counted(len(held), 'line')} {why}, quantity {quantity}, {_were(held)} left aside."
    several = sum(len(row.lines) > 1 for row in rows)
    if several:
        yield f"{counted(several, 'total')} {'has' if several == 1 else 'have'} several lines, which were added up."
    if "wallet_currency" in invoices.columns:
        place = invoices.columns.index("wallet_currency") + 1
        unknown = sum(row.events for row in rows if row.key[place] is None)
        if unknown:
            yield f"{counted(unknown, 'event')} without a wallet went to none: no preference says where."
    if rest:
        amounts = worth(row for group in rest for row in group)
        worth_words = ", ".join(f"{plain(amount)} {data_value(currency)}" for currency, amount in amounts)
        more = f", worth {worth_words}" if amounts else ""
        yield f"{counted(len(rest), 'smaller finding')} more, see the sheet{more}."
    if currencies:
        yield f"{counted(currencies, 'smaller finding')} more of lines in another currency."
    without = sum(line.amount is not None and line.currency is None for line in lines.compared)
    if without:
        yield f"The currency of {counted(without, 'line')} with an amount is unknown, and was not compared."
    if prices:
        yield f"{counted(prices, 'price')} more with different unit prices."
    if invoices.ignored:
        yield f"Columns that were not looked at: {listed(invoices.ignored, most=20)}."


def _were(lines: list[InvoiceLine]) -> str:
    return "was" if len(lines) == 1 else "were"


def _sheet(rows: list[Row], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    order = {status: place for place, status in enumerate(STATUSES)}
    rows = sorted(rows, key=lambda row: (order[row.status], *(_text(part) or "" for part in row.key)))
    keys = {name: [_text(row.key[place]) for row in rows] for place, name in enumerate(("customer_id", *columns))}
    found = {name: pd.Series(keys.get(name, [None] * len(rows)), dtype="str") for name in ("customer_id", *KEY_COLUMNS)}
    for name, read, kind in _SHEET:
        found[name] = pd.Series([read(row) for row in rows], dtype=kind)
    return pd.DataFrame(found)


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
    ("amount_difference", lambda row: row.worth, "object"),
)
"""The sheet's columns after the key's: name, what a row has there, dtype."""


def _text(value: object) -> str | None:
    return None if value is None else str(value)


CHECK = Check(
    name=NAME,
    title="Reconciliation",
    means="The invoice bills something else than was used.",
    parameters={
        "tolerance": "invoiced and used quantity may differ by 0, or by what the invoices were read with",
        "key": "compared by customer and each of subscription, metric, price and wallet that the lines tell apart",
        "explained": "late events or duplicates account for a difference when they come to all of it, within the"
        " tolerance: then it is medium, else high",
        "open period": "while the period is not over, no difference is high",
        "no lines at all": f"more than {CROWD} customers without any line that are {percent(MOSTLY)} or more of those"
        " with usage are one finding",
        "worth": "a difference at its lines' amount by quantity, exact, or rounded half to even to"
        f" {DECIMALS} decimals where no decimal is; without a line at the one unit price that its price, or else"
        " metric, has on all other lines",
        "unit price": "lines of one price key and currency have one unit price, to within one unit of the last decimal"
        " of each line's amount, zeros at its end left out, and at least the currency's smallest unit; high where half"
        f" of the lines or more agree and another is charged {DOUBLE} times their price or more, or with the other"
        " sign, else medium",
        "currency": "a line in another currency than the wallets its usage goes to, pinned or by the preferred-currency"
        " cascade, is high; where no wallet is known, so that all goes to one, in another than most of these lines of"
        f" the customer too; a customer's only one in another than {percent(SHARED)} of the price's other lines, of"
        f" {KNOWN} at least, medium",
        "most": f"the {MOST} largest differences, {MOST_CURRENCIES} findings of currencies and {MOST_PRICES} prices are"
        " told, the sheet has all differences",
    },
    unit="totals of usage or lines",
    statement=statement,
    examine=examine,
    needs="invoices",
)
