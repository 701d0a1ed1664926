"""Amounts of invoice lines compared with those of the price book, and the findings that concern several customers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import MAX_PREC, Context, Decimal
from fractions import Fraction
from math import inf
from typing import Any

from usage_explore.decimals import difference, total
from usage_explore.formatting import counted, listed, span_in
from usage_explore.pricing.currencies import exact_sums, scale
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import corrections_command
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    CHANGED_AFTER_SIGN_OFF,
    EARLIER_SIGN_OFF,
    SIGN_OFF_FACT,
    SINCE_SIGN_OFF,
    Examination,
    Finding,
    added_amounts,
    signed_words,
)
from usage_explore.validation.periods import part
from usage_explore.validation.reconciliation.causes import (
    AGGREGATION,
    BEYOND_AGGREGATION,
    EVENT_ROUNDING,
    FACTOR,
    MIN_COMMON_AMOUNTS,
    MIXED_AGGREGATIONS,
    PERIOD,
    REPEATED,
    SWAPPED,
    SWAPPED_TOTALS,
    UNIT,
    Cause,
    Charge,
    is_rounding,
    set_cause,
)
from usage_explore.validation.reconciliation.compare import (
    Key,
    Row,
    amounts_by_currency,
    price_or_metric,
    too_much_and_too_little,
)
from usage_explore.validation.reconciliation.differences import (
    MAX_LISTED_LINES,
    MAX_SINGLE_CUSTOMERS,
    NAME,
    Differences,
    worth,
)
from usage_explore.validation.reconciliation.expected import (
    Expected,
    compared_amounts,
    invoiced_amounts,
    known_amounts,
    of_part,
)
from usage_explore.validation.reconciliation.invoices import InvoiceLine, decimals_of
from usage_explore.validation.usage_sums import customers_words, joined

REPEATED_WORDS = "the used quantity without repeated lines, which equal another one in everything"
"""The cause of several totals with repeated lines; that of a single one names the lines."""

SWAPPED_WORDS = "what another one of them used, or is to pay"
"""The cause of the totals of swapped customers; that of a single one names the other customer."""

MAX_NAMED_SWAPPED = 3
"""Swapped customers that are named."""

ROUNDED_DECIMALS = 12
"""Decimals of an amount with more than `_MAX_EXACT_DECIMALS`, such as a third; rounded half to even."""

_MAX_EXACT_DECIMALS = 60

_OF_TWO = (EVENT_ROUNDING, MIXED_AGGREGATIONS, PERIOD, REPEATED, SWAPPED, SWAPPED_TOTALS)
"""Causes of two totals that are one finding."""

_EXACT = Context(prec=MAX_PREC)

BOUNDS = CheckBounds("reconciliation")

# fmt: off
MIN_WHOLE_AMOUNTS = BOUNDS.add("min_whole_amounts", 10, "amounts", 1, 1000000,
    "Amounts without decimals, and none with, from which all are taken as rounded to whole units of the currency.")
# fmt: on


def compare_amounts(rows: Iterable[Row]) -> list[Charge]:
    """Set expected rows' `amount_difference`, and the status of those whose amount alone is wrong: the wrong charges.

    A row is compared in the currencies of its expected amounts, if all its lines have an amount and one of them is in
    such a currency.
    """
    rows = list(rows)
    given = [line.amount for row in rows for line in row.lines if line.amount is not None]
    is_whole = len(given) >= MIN_WHOLE_AMOUNTS() and all(amount == amount.to_integral_value() for amount in given)
    charges = []
    for row in rows:
        expected = row.expected
        if expected is not None and not row.lines and row.status == "matched" and any(expected.amounts.values()):
            row.status = "missing"  # such as the minimum of no quantity, or one within the tolerance
        if expected is None or not expected.is_priced:
            continue
        if not row.lines:
            row.amount_differences = {currency: amount.copy_negate() for currency, amount in expected.amounts.items()}
            row.currency, row.amount_difference = _largest(row.amount_differences)
            if not any(expected.amounts.values()):
                row.status = "matched"
            continue
        invoiced = compared_amounts(row, expected)
        if invoiced is None:
            _compare_known(row, expected)
            continue
        differences = {
            currency: Decimal(difference(invoiced.get(currency, Decimal(0)), amount))
            for currency, amount in expected.amounts.items()
        }
        row.currency, row.amount_difference = _largest(differences)
        row.amount_differences = differences
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
                unit = Decimal(1) if is_whole else expected.smallest(currency)
                lines = _rounded_lines(row, expected, currency)
                amounts = invoiced[currency], expected.amounts[currency], expected.exact[currency]
                charges.append(Charge(row, currency, *amounts, unit, lines))
    return charges


def _compare_known(row: Row, expected: Expected) -> None:
    """Mark a row whose lines with an amount charge more than is expected of all, whatever the others do."""
    without = [f"{line.line:,}" for line in row.lines if line.amount is None]
    known = {} if row.status != "matched" or not without else known_amounts(row, expected)
    more = {
        code: Decimal(difference(known[code], amount))
        for code, amount in expected.amounts.items()
        if amount >= 0 and known.get(code, amount) > total((amount, expected.smallest(code) * len(row.lines)))
    }
    if more:
        row.status, row.amount_differences = "wrong amount", more
        row.currency, row.amount_difference = _largest(more)
        which = f"line {without[0]}, which has" if len(without) == 1 else f"lines {listed(without)}, which have"
        set_cause(row, Cause("lines without an amount", "high", f"without {which} no amount"))


def set_amounts(rows: Iterable[Row], columns: tuple[str, ...]) -> None:
    """Set the `amount_difference` and the `currency` of rows: the difference at their own lines' amount by quantity.

    A row without lines takes the unit price of all lines of its `price_or_metric`, unless they have several. The amount
    of a wrong quantity is right if it fits the used one; of usage without a price in the book it is unknown unless it
    fits the invoiced one. Lines without usage in several currencies charge each of their amounts too much.
    """
    rows = list(rows)
    decimals = _decimals(line for row in rows for line in row.lines)
    prices_of: dict[str | None, set[tuple[str | None, Fraction]]] = {}
    without_lines = []
    for row in rows:
        amount, invoiced = row.amount, row.invoiced
        if row.expected is not None and row.expected.is_priced:
            continue  # its amounts were compared
        if row.status == "extra" and (amount is None or not invoiced):
            charged = ((line.currency, line.amount) for line in row.lines)
            row.amount_differences = added_amounts(
                [[(code, paid) for code, paid in charged if code is not None and paid is not None]]
            )
            row.currency, row.amount_difference = _largest(row.amount_differences)
            continue
        if amount is not None:
            row.currency = row.lines[0].currency
        if row.cause is not None and row.cause.name in (BEYOND_AGGREGATION, MIXED_AGGREGATIONS):
            continue  # the sum, from which it differs, is not what is billed
        of_sign_off = (CHANGED_AFTER_SIGN_OFF, EARLIER_SIGN_OFF)
        if row.cause is not None and row.cause.severity != "high" and row.cause.name not in of_sign_off:
            continue  # no price says that another quantity is to be billed
        if row.amount_fits == "used":
            row.amount_difference = Decimal(0)
            continue
        is_quantity_wrong = row.status in ("over-billed", "under-billed")
        if is_quantity_wrong and row.expected is not None and row.amount_fits != "invoiced":
            continue
        if amount is not None and invoiced:
            price = Fraction(amount) / Fraction(invoiced)
            prices_of.setdefault(price_or_metric(columns, row.key), set()).add((row.currency, price))
            if row.difference.is_finite():
                _set_value(row, price, decimals)
        elif row.status == "missing":
            without_lines.append(row)
    for row in without_lines:
        prices = prices_of.get(price_or_metric(columns, row.key), set())
        if len(prices) == 1:
            ((row.currency, price),) = prices
            _set_value(row, price, decimals)


def _decimals(lines: Iterable[InvoiceLine]) -> dict[str | None, int | None]:
    """The decimals that the amounts in each currency are rounded to; None where some have more than the currency."""
    decimals: dict[str | None, int | None] = {}
    for line in lines:
        if line.amount is not None:
            usual = scale(line.currency or "")
            usual = 2 if usual is None else usual
            is_rounded = decimals_of(line.amount.normalize(_EXACT)) <= usual
            decimals[line.currency] = usual if is_rounded and decimals.get(line.currency, usual) is not None else None
    return decimals


def _set_value(row: Row, price: Fraction, decimals: Mapping[str | None, int | None]) -> None:
    """Set the amount of a difference at a unit price of lines: exact, or with the decimals that their amounts have.

    The unit price of a rounded amount is an estimate. Of less than the last decimal two digits are left.
    """
    exact = decimal(price * Fraction(row.difference))
    places = decimals.get(row.currency)
    if places is None:
        row.amount_difference = exact
        return
    rounded = round(exact, max(places, 1 - exact.adjusted()) if abs(exact) < Decimal(1).scaleb(-places) else places)
    row.amount_difference, row.is_estimate = rounded, rounded != exact


def decimal(value: Fraction) -> Decimal:
    """The fraction to the last digit, or rounded to 12 decimals if it has more than 60."""
    denominator, twos, fives = value.denominator, 0, 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    places = max(twos, fives)
    if denominator != 1 or places > _MAX_EXACT_DECIMALS:
        return decimal(round(value, ROUNDED_DECIMALS))
    return _EXACT.scaleb(Decimal(value.numerator * 10**places // value.denominator), -places)


def mark_other_currencies(rows: Iterable[Row]) -> None:
    """Say in the sheet of matching rows with a line in a currency in which nothing is expected which one is expected.

    The findings of currencies name them; their amounts cannot be compared.
    """
    for row in rows:
        if row.status == "matched" and row.lines and row.expected is not None and row.expected.is_priced:
            others = sorted(set(invoiced_amounts(row, row.expected) or ()) - set(row.expected.amounts))
            if others:
                row.status, row.currency = "wrong currency", others[0]
                row.explained_by = f"expected in {' and '.join(sorted(row.expected.amounts))}"


def matches(row: Row, expected: Expected, tolerance: Decimal) -> bool:
    """Whether a row's lines are what is expected: quantity within the tolerance, and amount, apart from rounding."""
    invoiced = row.invoiced or Decimal(0)
    if all(abs(Decimal(difference(invoiced, quantity))) > tolerance for quantity in expected.quantities):
        return False
    amounts = compared_amounts(row, expected)
    if amounts is None or expected.unpriced:
        return True  # the amounts are not compared, or their currency is a finding of its own
    for currency, amount in expected.amounts.items():
        given = amounts.get(currency, Decimal(0))
        lines = _rounded_lines(row, expected, currency)
        charge = Charge(row, currency, given, amount, expected.exact[currency], expected.smallest(currency), lines)
        if given != amount and not is_rounding(charge):
            return False
    return True


def earlier_sign_off_causes(
    examination: Examination,
    rows: Iterable[Row],
    known: Callable[[Period], Mapping[Key, Expected]],
    tolerance: Decimal,
) -> None:
    """Set the cause of open rows that are invoiced what had arrived by a sign-off before the last one.

    `known` gives what is expected of the period as of another time. What came until the period was signed again may
    have been billed apart: the lines are not wrong for certain.
    """
    left, period = [row for row in rows if row.is_open], examination.period.replace(finalized_at=None)
    for signoff in examination.earlier_signoffs if left else ():
        keys = known(period.replace(as_of=signoff.as_of))
        fitting = [row for row in left if matches(row, of_part(row, keys.get(row.key, Expected())), tolerance)]
        if not fitting:
            continue
        words = (
            f"what had arrived by {signed_words(signoff, examination.period.zone)}, which was signed again;"
            f" `{corrections_command(signoff, is_one_of_several=examination.is_one_of_several)}` has what came between"
        )
        (_, last), now = examination.signed_span or (None, None), known(period)
        signed = known(period.replace(as_of=last))
        if any(signed.get(row.key) != now.get(row.key) for row in fitting):
            words += ", and `after_finalization` what came after that: the differences are both together"
        for row in fitting:
            set_cause(row, Cause(EARLIER_SIGN_OFF, "medium", words))
        left = [row for row in left if row.cause is None]


def _rounded_lines(row: Row, expected: Expected, currency: str) -> int:
    """The lines that may each be rounded: of the invoice in a currency, or of the price book."""
    return max(sum(line.currency in (None, currency) for line in row.lines), len(expected.lines))


def _largest(amounts: Mapping[str, Decimal]) -> tuple[str | None, Decimal | None]:
    if not amounts:
        return None, None
    currency = max(sorted(amounts), key=lambda code: abs(amounts[code]))
    return currency, amounts[currency]


def common_causes(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows that one cause explains and that are one finding: wrong amounts of several customers, several quantities
    by one period or factor, rows of many customers, those of swapped customers, or the repeated lines of a customer or
    of the whole invoice.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    repeated: list[Row] = []
    billed = 0
    for row in rows:
        billed += bool(row.lines)
        if row.cause is not None and row.cause.name == REPEATED:
            repeated.append(row)
        elif row.cause is not None:
            groups.setdefault((row.cause.name, row.cause.among or row.cause.words), []).append(row)
    is_whole = len(repeated) == billed or len({row.key[0] for row in repeated}) > MAX_SINGLE_CUSTOMERS()
    for row in repeated:
        groups.setdefault((REPEATED, None if is_whole else row.key[0]), []).append(row)
    return [
        group
        for group in groups.values()
        if (len({row.key[0] for row in group}) > 1 and all(row.status == "wrong amount" for row in group))
        or len(group) >= _least(group[0].cause)
        or len({row.key[0] for row in group}) > MAX_SINGLE_CUSTOMERS()
    ]


def is_of_repeated_lines(rows: list[Row]) -> bool:
    """Whether repeated lines are the common cause of rows."""
    return rows[0].cause is not None and rows[0].cause.name == REPEATED


def _least(cause: Cause | None) -> float:
    """Totals from which a cause is one of the whole invoice and one finding, though it is of one customer."""
    if cause is not None and cause.name in (*SINCE_SIGN_OFF, EARLIER_SIGN_OFF):
        return 1
    if cause is not None and (cause.name in _OF_TWO or (cause.name == AGGREGATION and cause.severity == "medium")):
        return 2
    if cause is None or not (cause.name in (AGGREGATION, UNIT) or cause.name.startswith(FACTOR)):
        return inf
    return MIN_COMMON_AMOUNTS()


def common_finding(differences: Differences, rows: list[Row]) -> Finding:
    """One finding for several rows with one cause, of one customer or more."""
    examination = differences.examination
    cause, signed = rows[0].cause, examination.signed
    if cause is not None and cause.name == CHANGED_AFTER_SIGN_OFF:
        signed = examination.kept_signoffs[0]
    assert cause is not None  # noqa: S101 - `common_causes` groups by it
    since, until = examination.period.span
    span = span_in(since, until, examination.period.zone)
    customers = {row.key[0] for row in rows}
    whose = customers_words(customers)
    if cause.among and 1 < len(customers) <= MAX_NAMED_SWAPPED:
        whose = " and ".join(f"customer {customer}" for customer in sorted(customers, key=str))
    totals, be = f"{counted(len(rows), 'total')} of {whose}, {span},", "is" if len(rows) == 1 else "are"
    words = REPEATED_WORDS if cause.name == REPEATED else SWAPPED_WORDS if cause.among else cause.words
    if all(row.status == "wrong amount" for row in rows):
        invoiced, expected = _sums(rows)
        sides = too_much_and_too_little(rows)
        if len(sides) > len(amounts_by_currency(rows)):  # sums would hide both
            what = f"{be} charged {joined(sides)}"
        else:
            what = f"{be} charged {exact_sums(invoiced)}, but {exact_sums(expected)} is expected"
        if len(moved := {row.of_period for row in rows}) == 1 and (moved_span := moved.pop()):
            what += f" for the usage of {span_in(*moved_span, examination.period.zone)}"
    else:
        amounts = " or amounts" if any(row.status == "wrong amount" for row in rows) else ""
        what = ", ".join((f"{be} invoiced other quantities{amounts} than were used", *too_much_and_too_little(rows)))
    shared = _shared(differences, rows)
    share = part(len(rows), sum(bool(row.lines) for row in differences.rows)), "invoiced totals"
    if all(row.status == "wrong amount" for row in rows):
        share = differences.amount_share(rows)
    numbers = sorted(line.line for row in rows for line in row.lines)
    more = f" and {len(numbers) - MAX_LISTED_LINES:,} more" if len(numbers) > MAX_LISTED_LINES else ""
    return Finding(
        check=NAME,
        kind=cause.name,
        severity=differences.severity(rows[0]),
        sentence=f"{totals} {what}: {differences.explained(rows, words)}.",
        since=since,
        until=until,
        events=sum(row.events for row in rows),
        question=differences.query(rows)
        if len(customers) == 1
        else examination.aggregate_question(metric="sum_quantity", group_by="customer_id", **shared),
        amounts=amounts_by_currency(rows),
        too_high=amounts_by_currency(rows, too_high=True),
        share=share[0],
        share_of=share[1],
        facts=(
            ("cause", cause.name),
            *(((SIGN_OFF_FACT, str(signed.id)),) if signed is not None and cause.name in SINCE_SIGN_OFF else ()),
            ("lines", ", ".join(f"{number:,}" for number in numbers[:MAX_LISTED_LINES]) + more),
            ("customers", listed(map(str, customers), most=20)),
        ),
        **shared,
    )


def further_findings(differences: Differences, groups: list[list[Row]]) -> list[Finding]:
    """One finding for the differences beyond those with one of their own; none if there are none, or if it is low."""
    if not groups or (severity := differences.severity(groups[0][0])) == "low":
        return []
    examination, rows = differences.examination, [row for group in groups for row in group]
    since, until = examination.period.span
    customers = {str(row.key[0]) for row in rows}
    totals = f"{len(rows):,} further totals of {counted(len(customers), 'customer')}"
    return [
        Finding(
            check=NAME,
            kind="further totals",
            severity=severity,
            sentence=f"{totals}, {span_in(since, until, examination.period.zone)}, differ from what was used or is"
            f" expected, {worth(groups)}: the sheet has them.",
            since=since,
            until=until,
            events=sum(row.events for row in rows),
            question=examination.aggregate_question(metric="sum_quantity", group_by="customer_id"),
            amounts=amounts_by_currency(rows),
            too_high=amounts_by_currency(rows, too_high=True),
            share=part(len(rows), sum(bool(row.lines) for row in differences.rows)),
            share_of="invoiced totals",
            facts=(("customers", listed(sorted(customers), most=20)),),
        )
    ]


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
    """The customer, the metric and the price that all rows have."""
    customers = {row.key[0] for row in rows}
    shared = {"customer_id": customers.pop()} if len(customers) == 1 else {}
    for index, name in enumerate(differences.columns, 1):
        values = {row.key[index] for row in rows}
        if name in ("metric_key", "price_key") and len(values) == 1 and (value := values.pop()):
            shared[name] = value
    return shared


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
