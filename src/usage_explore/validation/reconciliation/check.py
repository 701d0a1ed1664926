"""Check: invoice lines against the usage that they bill, to the last digit.

Usage is recomputed by customer and the columns that the lines have (see `invoices`), and each total is compared with
the sum of its lines. With a price book the quantity is the billable one, by the price's aggregation, and the lines'
amounts and currencies are compared with the expected ones, too (see `expected`, `amounts`). Without one amounts are not
checked, and the result says so: external costs are what usage costs us, not its price. A difference is then valued at
its own lines' amount by quantity. Different unit prices within one price key without a known price, and unexpected
currencies, are findings of their own (`charges`, `charged_currencies`). `causes` recognizes what makes a line wrong.

If the lines name wallets, usage without one is counted in the wallet that the customer's preferences send it to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from usage_explore.decimals import plain, total
from usage_explore.formatting import counted, in_sentence, listed, percent, zoned
from usage_explore.pricing.book import PriceBook
from usage_explore.query.describe import group_name
from usage_explore.query.queries import Period
from usage_explore.validation.check import (
    AFTER_SIGN_OFF,
    MAX_FINDINGS_PER_CHECK,
    Check,
    Examination,
    Outcome,
    limited,
    limited_findings,
    signed_words,
)
from usage_explore.validation.given_lines import filters_without_column, nothing_compared, passes_filters
from usage_explore.validation.reconciliation import (
    amounts,
    causes,
    charged_currencies,
    charges,
    differences,
    recomputed_causes,
    uninvoiced,
)
from usage_explore.validation.reconciliation.amounts import (
    ROUNDED_DECIMALS,
    amount_note,
    common_causes,
    common_finding,
    compare_amounts,
    earlier_sign_off_causes,
    further_findings,
    is_of_repeated_lines,
    mark_other_currencies,
    matches,
    set_amounts,
    unchecked,
)
from usage_explore.validation.reconciliation.billed_since import billed_since, rows_billed_since
from usage_explore.validation.reconciliation.causes import (
    EVENT_ROUNDING,
    MIN_COMMON_AMOUNTS,
    MIN_COMMON_SHARE,
    MIN_MOVED_EVENTS,
    Cause,
    amount_causes,
    is_rounding,
    set_cause,
    shift_hours,
    swapped_amount_causes,
)
from usage_explore.validation.reconciliation.charged_currencies import (
    MIN_PRICE_CURRENCY_SHARE,
    MIN_PRICE_LINES,
    currency_findings,
)
from usage_explore.validation.reconciliation.charges import (
    DOUBLED_FACTOR,
    set_fitting_quantities,
    unit_price_deviations,
    unit_price_finding,
    without_usual_price,
)
from usage_explore.validation.reconciliation.compare import (
    BOTH,
    DUPLICATES,
    LATE,
    QUANTITY_STATUSES,
    STATUSES,
    Key,
    Row,
    compare,
    duplicates_by_key,
    explain,
    statement,
    usage_by_key,
)
from usage_explore.validation.reconciliation.differences import (
    MAX_SINGLE_CUSTOMERS,
    NAME,
    Differences,
)
from usage_explore.validation.reconciliation.expected import (
    Expected,
    PricedUsage,
    accept_other_quantity,
    adopt,
    billed_in,
    by_key,
    by_unit,
)
from usage_explore.validation.reconciliation.expected import explain as explain_by
from usage_explore.validation.reconciliation.invoices import KEY_COLUMNS, InvoiceLine, Invoices, position
from usage_explore.validation.reconciliation.part_causes import part_causes
from usage_explore.validation.reconciliation.quantity_causes import (
    UNIT_FACTORS,
    quantity_causes,
    swapped_causes,
)
from usage_explore.validation.reconciliation.rated_periods import beyond_periods, price_zone_causes
from usage_explore.validation.reconciliation.recomputed_causes import (
    alternative_amount_causes,
    event_rounding_causes,
    general_price_causes,
    one_wallet_causes,
)
from usage_explore.validation.reconciliation.signed_causes import (
    Signed,
    changed_after_sign_off_causes,
    compare_as_known,
    compare_quantities_as_known,
    expect_nothing_of_removed,
)
from usage_explore.validation.reconciliation.uninvoiced import MIN_UNINVOICED_SHARE, omitted, unused
from usage_explore.validation.unknown_customers import unknown_customers

if TYPE_CHECKING:
    import pandas as pd


NOT_CHECKED = "amounts not checked: no price book was given"
"""What the result says where amounts were compared with nothing."""


def _not_checked(examination: Examination) -> str:
    reason = examination.inputs.no_prices
    return f"amounts not checked: {reason.rstrip('.')}" if reason else NOT_CHECKED


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
    `invoiced`, `recomputed` (`Decimal` or None), `difference` (`Decimal`, invoiced less recomputed), `status` ("no
    price" is usage with neither a price nor a line for any customer),
    `explained_by` (str, "" if nothing explains it), `amount` (`Decimal` or None, of the lines), `currency` (str),
    `amount_difference` (`Decimal` or None: the difference at the lines' unit price). With a price book `recomputed` is
    the billable quantity, `expected_amount` (`Decimal` or None) that of `currency`, and `amount_difference` the
    invoiced less the expected amount.
    """
    period = examination.period
    invoices = cast("Invoices", examination.inputs.invoices)  # `needs` says that it is given
    filterable = {"customer_id", *invoices.columns}
    if examination.inputs.preferences is not None:
        filterable.discard("wallet_currency")  # the filter is on the wallet that events name, not on where they go
    if filters := filters_without_column(period, filterable):
        reason = f"the period is filtered by {filters}, which the lines do not tell apart"
        return nothing_compared(examination, NAME, "invoice line", reason)
    lines = _sorted(invoices.lines, period)
    if not lines.compared and (lines.outside or lines.across):
        reason = f"all {counted(len(invoices.lines), 'line')} are of other periods"
        return nothing_compared(examination, NAME, "invoice line", reason)
    if examination.exists_since is not None:
        reason = f"events before {zoned(examination.exists_since, period.zone)} were removed, and the lines bill them"
        return nothing_compared(examination, NAME, "invoice line", reason)
    columns, tolerance = invoices.columns, invoices.tolerance
    has_prices = examination.inputs.prices is not None
    signed = Signed.of(examination, columns)
    beyond: list[Row] = []
    if has_prices:
        rows, beyond = _with_prices(examination, lines.compared, invoices, signed)
    else:
        rows = _without_prices(examination, lines.compared, invoices, signed)
    examination.progress(0.8)
    set_fitting_quantities(rows, tolerance)
    set_amounts(rows, columns)
    if examination.signed is not None:
        words = f"what had arrived by {signed_words(examination.signed, period.zone)}"
        for row in rows:
            if row.explained_by == LATE and row.cause is None:
                set_cause(row, Cause(AFTER_SIGN_OFF, "medium", words))
    billed = rows_billed_since(examination, signed, rows, tolerance)
    given, used = {row.key[0] for row in rows if row.lines}, {row.key[0] for row in rows if row.usage is not None}
    unknown = unknown_customers(examination, given, used)
    unjudged = without_usual_price([line for row in rows if not row.amount_fits for line in row.lines], tolerance)
    every = Differences(examination, columns, rows, tolerance, beyond=beyond, unknown=unknown, unjudged=unjudged)
    common_groups = common_causes([*rows, *beyond])
    groups = [group for group in common_groups if not is_of_repeated_lines(group) or every.is_shown_exactly(group)]
    reported = frozenset(id(row) for group in groups for row in group)
    unreported = replace(every, reported=reported)
    gaps = [*omitted(unreported, invoices), *unused(unreported)]
    common = [*(common_finding(every, group) for group in groups), *(gap.finding for gap in gaps)]
    differences = replace(every, reported=reported.union(id(row) for gap in gaps for row in gap.rows))
    findings, others, more = differences.findings()
    charged, more_currencies = limited_findings(currency_findings(differences), "findings of currencies")
    compared = [row for row in rows if row.expected and row.expected.is_priced]
    of_book = {(line.metric_key, line.price_key) for row in compared for line in row.lines}
    priced = {
        line.line
        for row in rows
        for line in row.lines
        if (row.expected and row.expected.is_priced)
        or row.amount_fits == "used"  # its quantity alone is wrong
        or (row.usage is None and (line.metric_key, line.price_key) in of_book)
    }
    prices, more_prices = limited(
        unit_price_deviations((line for line in lines.compared if line.line not in priced), tolerance),
        "prices with different unit prices",
        lambda rest: counted(sum(len(price.deviating) for price in rest), "line"),
    )
    unit_prices = [unit_price_finding(differences, price) for price in prices]
    amounts_left = unchecked(rows) if has_prices else _not_checked(examination)
    mark_other_currencies(rows)
    return Outcome(
        findings=(
            *(*common, *findings, *further_findings(differences, others), *charged, *unit_prices),
            *billed_since(examination, signed, rows, billed),
        ),
        looked_at=len(rows),
        sheet=_sheet(rows, columns),
        unchecked="; ".join(filter(None, (invoices.left_out, amounts_left, _without_currency(lines)))),
        note=" ".join(
            (
                *_compared_notes(examination, invoices, lines, rows),
                *((amount_note(rows),) if has_prices else ()),
                *(f"{note}." for note in (more, more_currencies, more_prices) if note),
                *((f"Ignored columns: {listed(invoices.ignored, most=20)}.",) if invoices.ignored else ()),
            )
        ),
    )


def _without_prices(
    examination: Examination, lines: list[InvoiceLine], invoices: Invoices, signed: list[Signed]
) -> list[Row]:
    """The lines compared with quantities."""
    columns, tolerance = invoices.columns, invoices.tolerance
    usage = usage_by_key(examination, columns)
    examination.progress(0.4)
    rows = compare(lines, usage, _key_of(columns), tolerance)
    explain(rows, {}, tolerance)  # by late events alone: only what is left needs the search for duplicates

    def known(signed: Period) -> dict[Key, Expected]:
        used = usage_by_key(replace(examination, period=signed), columns)
        return {key: Expected(of_key.quantity, of_key.quantity) for key, of_key in used.items()}

    earlier_sign_off_causes(examination, rows, known, tolerance)
    changed_after_sign_off_causes(examination, signed, rows, tolerance)
    unexplained = [row for row in rows if row.is_open]
    explain(unexplained, duplicates_by_key(examination, columns, {row.key[0] for row in unexplained}), tolerance)
    compare_quantities_as_known(next(iter(signed), None), rows, tolerance)
    quantity_causes(examination, columns, rows, tolerance)
    return rows


def _with_prices(
    examination: Examination, lines: list[InvoiceLine], invoices: Invoices, signed: list[Signed]
) -> tuple[list[Row], list[Row]]:
    """The lines compared with billable quantities and amounts; and what they charge beyond those of other periods."""
    columns, tolerance = invoices.columns, invoices.tolerance
    book, zone = cast("PriceBook", examination.inputs.prices), examination.period.zone
    usage = usage_by_key(examination, columns)
    examination.progress(0.2)
    priced = PricedUsage(examination, book, columns, billed_in(lines))
    rated = priced.rated()
    keys = by_key(rated, columns)
    has_late = any(used.late_events for used in usage.values())
    early = by_key(priced.at_finalization(), columns) if has_late else None
    adopt(usage, keys, early)
    examination.progress(0.5)
    rows = compare(lines, usage, _key_of(columns), tolerance)
    billed = {row.key[1:] for row in rows if row.lines}
    for row in rows:
        row.expected = keys.get(row.key)
    for last in signed[:1]:
        expect_nothing_of_removed(last, rated.resolution, rows)
    for row in rows:
        if early is not None and row.key in early and row.expected is not None:
            for code in row.expected.amounts:  # what lines charge in it is compared with what was known before, too
                early[row.key].amounts.setdefault(code, Decimal(0))
                early[row.key].exact.setdefault(code, Decimal(0))
    if "wallet_currency" not in columns:
        rows = [*by_unit(rows, early, priced.wallet, tolerance)]
    for row in rows:
        is_unpriced = row.expected is not None and not row.expected.lines and row.expected.unpriced
        if row.status == "missing" and is_unpriced and (row.key[1:] not in billed or row.wallets is not None):
            row.status = "no price"  # no customer is billed for it; the check of usage without a price counts it
        accept_other_quantity(row, tolerance)

    def is_right(row: Row, expected: Expected) -> bool:
        return matches(row, expected, tolerance)

    charges = compare_amounts(rows)
    alternatives = {} if early is None else {LATE: early}
    explain_by(rows, alternatives, {}, is_right)
    earlier_sign_off_causes(examination, rows, lambda signed: by_key(priced.rated(signed), columns), tolerance)
    changed_after_sign_off_causes(examination, signed, rows, tolerance)
    rounded = {id(charge.row) for charge in charges if is_rounding(charge)}
    one_wallet_causes(priced, columns, (row for row in rows if row.is_open and id(row) not in rounded), is_right)
    unexplained = [row for row in rows if row.is_open]
    duplicates = duplicates_by_key(examination, columns, {row.key[0] for row in unexplained})
    customers = {key[0] for key in duplicates}
    if customers:
        alternatives[DUPLICATES] = by_key(priced.once(customers, early=False), columns)
        if early is not None:
            alternatives[BOTH] = by_key(priced.once(customers, early=True), columns)
        explain_by(unexplained, alternatives, duplicates, is_right)
    again = compare_as_known(next(iter(signed), None), rows, early, tolerance, is_right)
    compared = {id(row) for row in again}
    charges = [charge for charge in charges if id(charge.row) not in compared] + compare_amounts(again)
    swapped_causes([row for row in rows if row.status in (*QUANTITY_STATUSES, "wrong amount") and not row.explained_by])
    for cause, expected in alternatives.items():
        alternative_amount_causes(cause, expected, [charge for charge in charges if not charge.row.explained_by])
    event_rounding_causes(examination, columns, [charge for charge in charges if not charge.row.explained_by])
    swapped_amount_causes([charge for charge in charges if not charge.row.explained_by])
    general_price_causes(priced, columns, [charge for charge in charges if not charge.row.explained_by])
    amount_causes([charge for charge in charges if charge.row.explained_by in ("", EVENT_ROUNDING)], book, zone)
    part_causes(charges)
    recognized = quantity_causes(examination, columns, rows, tolerance, priced)
    price_zone_causes(priced, columns, rows, charges, recognized)
    return rows, beyond_periods(priced, columns, rows, recognized)


def _key_of(columns: tuple[str, ...]) -> Callable[[InvoiceLine], Key]:
    def key(line: InvoiceLine) -> Key:
        return (line.customer_id, *(getattr(line, name) for name in columns))

    return key


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
            quantity = in_sentence(total(line.quantity for line in group))
            were = "was" if len(group) == 1 else "were"
            yield f"{counted(len(group), 'line')} {reason}, quantity {quantity}, {were} not compared."
    if unpriced := sum(row.status == "no price" for row in rows):
        yield (
            f"{counted(unpriced, 'total')} {'has' if unpriced == 1 else 'have'} neither a price nor an invoice line;"
            " the findings of usage without a price count them."
        )
    if several := sum(len(row.lines) > 1 for row in rows):
        yield f"{counted(several, 'total')} {'has' if several == 1 else 'have'} several lines, which were summed."
    if "wallet_currency" in invoices.columns:
        index = invoices.columns.index("wallet_currency") + 1
        if unknown := sum(row.events for row in rows if row.key[index] is None):
            yield f"{counted(unknown, 'event')} without a wallet went to none: no preferred currency applies."


def _without_currency(lines: _Lines) -> str:
    """How many lines have an amount in a currency that is not known; "" if none has."""
    without = sum(line.amount is not None and line.currency is None for line in lines.compared)
    return f"currency of {counted(without, 'line')} with an amount not checked: none is given" if without else ""


def _sheet(rows: list[Row], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    rows = sorted(rows, key=lambda row: (STATUSES.index(row.status), *(_text(value) or "" for value in row.key)))
    keys = {name: [_text(row.key[index]) for row in rows] for index, name in enumerate(("customer_id", *columns))}
    if "wallet_currency" not in columns and any(row.wallets for row in rows):
        keys["wallet_currency"] = [" ".join(sorted(filter(None, row.wallets or ()))) or None for row in rows]
    sheet = {name: pd.Series(keys.get(name, [None] * len(rows)), dtype="str") for name in ("customer_id", *KEY_COLUMNS)}
    for name, read, dtype in _SHEET:
        sheet[name] = pd.Series([read(row) for row in rows], dtype=dtype)
    return pd.DataFrame(sheet)


def _expected_amount(row: Row) -> Decimal | None:
    if row.expected is None or not row.expected.is_priced or row.currency is None:
        return None
    return row.expected.amounts.get(row.currency)


_SHEET: tuple[tuple[str, Callable[[Row], Any], Any], ...] = (
    ("lines", lambda row: len(row.lines), "int64"),
    ("events", lambda row: row.usage.events if row.usage else 0, "int64"),
    ("invoiced", lambda row: row.invoiced, "object"),
    ("recomputed", lambda row: row.recomputed, "object"),
    ("difference", lambda row: row.difference, "object"),
    ("status", lambda row: row.status, "str"),
    ("explained_by", lambda row: row.explained_by, "str"),
    ("amount", lambda row: row.amount, "object"),
    ("currency", lambda row: row.currency, "str"),
    ("expected_amount", _expected_amount, "object"),
    ("amount_difference", lambda row: row.amount_difference, "object"),
)
"""The sheet's columns after those of the key: name, value of a row, dtype."""


def _text(value: object) -> str | None:
    return None if value is None else str(value)


_FACTORS = ", ".join(f"{factor:,}" for factor in UNIT_FACTORS)

CHECK = Check(
    name=NAME,
    title="Reconciliation",
    means="The invoice bills something else than was used, or another amount than the price book says.",
    parameters=lambda: {
        "tolerance": "largest difference of invoiced and used quantity that still matches: 0, or the one given with the"
        " invoices",
        "key": "compared by customer and those of subscription, metric, price and wallet that any line has",
        "explained": "a difference is medium if late events or duplicates make up all of it, within the tolerance; else"
        " high",
        "price book": "with one, quantities are billable ones (after the included quantity, or in packages, matches,"
        " too) and amounts those of the book, rounded half up to the currency's decimals for each line; an amount that"
        " is the exact one, rounded in another way, is low; usage without a price is medium",
        "causes": "a wrong line is recognized as a repeated one (equal to another in everything), swapped customers,"
        f" another unit ({_FACTORS} times or the reciprocal),"
        f" a period moved by up to {shift_hours()} hours (at least {MIN_MOVED_EVENTS()} events between; of maxima,"
        " latest and different values by days, or in UTC) or a month, amounts rounded for each event, a former, later"
        " or other price, volume instead of staircase, one tier for all, no included quantity or minimum, or a factor:"
        f" one that {MIN_COMMON_AMOUNTS()} amounts and {percent(MIN_COMMON_SHARE())} of the wrong ones share is one"
        " finding",
        "open period": "no difference is high in a period that is not over",
        "no lines at all": f"more than {MAX_SINGLE_CUSTOMERS()} customers without any line are one finding if they are"
        f" {percent(MIN_UNINVOICED_SHARE())} or more of those with usage; so is a metric or price that is on no line,"
        " while two customers or more used it",
        "worth": "a difference at its lines' amount by quantity: of amounts with the decimals of their currency an"
        " estimate with as many; of amounts with more decimals exact, or rounded half to even to"
        f" {ROUNDED_DECIMALS} decimals if no decimal is; without a line at the one unit price of all lines of its"
        " price, or else metric",
        "unit price": "lines of one price key and currency have one unit price, to within the tolerance of each line's"
        " quantity and one unit of the last decimal of its amount, trailing zeros ignored, and at least the currency's"
        " smallest unit, or less than 1 if no line of the price has decimals; high if half of the lines or more"
        f" (without decimals: more than half) agree and another charges {DOUBLED_FACTOR()} times their price or more,"
        " or with the other sign; else medium; where no two lines agree, none is the usual one",
        "currency": "a line in another currency than the wallets of its usage, pinned or by the preferred-currency"
        " cascade, is high; one without a known wallet is in its customer's own currency or in its price's, whichever"
        f" leaves the fewest lines in another: one in neither is high if {percent(MIN_PRICE_CURRENCY_SHARE())} of the"
        " comparable lines are in the expected one; lines that do not tell are one medium finding; where all such lines"
        " of a customer, and of no other, are in one currency, or a customer's only one is, a line in another than"
        f" {percent(MIN_PRICE_CURRENCY_SHARE())} of the price's other lines, at"
        f" least {MIN_PRICE_LINES()}, is medium",
        "most": f"the {MAX_FINDINGS_PER_CHECK} gravest of differences, of currencies and of unit prices; the sheet has"
        " all differences",
    },
    unit="totals of usage or lines",
    one="total of usage or lines",
    bounds=(
        *(*charges.BOUNDS, *charged_currencies.BOUNDS, *differences.BOUNDS, *uninvoiced.BOUNDS),
        *(*amounts.BOUNDS, *causes.BOUNDS, *recomputed_causes.BOUNDS),
    ),
    statement=statement,
    examine=examine,
    needs="invoices",
)
"""Invoice lines against recomputed usage, total by total, in exact decimals."""
