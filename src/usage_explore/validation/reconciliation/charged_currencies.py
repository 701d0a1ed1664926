"""Findings of invoice lines in unexpected currencies.

A line should charge in the currency of the wallet that its usage goes to, pinned or by the preferred-currency cascade.
The customer's usage without a known wallet all goes to one, so that lines of it in two currencies are wrong: most of
these lines say which is usual. But where nearly all of these lines are in the currency that others are charged the
price in, prices have their own currencies, and a line in that of its price is right, or a question.
Where they are all in one, nearly all lines that others have of the price say it, unless further customers are charged
in the same: then customers have their own currencies. Upper and lower case are one currency.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal
from uuid import UUID

from usage_explore.decimals import total
from usage_explore.formatting import counted, data_value, listed, span_in
from usage_explore.pricing.currencies import exact_money
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import SEVERITIES, Finding, Severity
from usage_explore.validation.inputs import NO_PREFERENCES, Preferences
from usage_explore.validation.periods import part
from usage_explore.validation.reconciliation.compare import Row, price_or_metric
from usage_explore.validation.reconciliation.differences import (
    MAX_LISTED_LINES,
    MAX_SINGLE_CUSTOMERS,
    NAME,
    Differences,
)
from usage_explore.validation.reconciliation.invoices import InvoiceLine
from usage_explore.validation.usage_sums import customers_words

BOUNDS = CheckBounds("reconciliation")

# fmt: off
MIN_PRICE_CURRENCY_SHARE = BOUNDS.add("min_price_currency_share", Decimal("0.8"), "share", 0, 1,
    "Share of a price's lines of other customers from which their currency is the usual one of the price.")

MIN_PRICE_LINES = BOUNDS.add("min_price_lines", 4, "lines", 1, 100000,
    "Lines of a price in one currency from which it may be the usual one of the price.")
# fmt: on

Reason = Literal["book", "pinned", "preference", "default", "customer", "some", "others", "alike", "price"]

_REASONS: dict[Reason, tuple[Severity, str]] = {
    "book": ("high", "the price book charges {usual}"),
    "pinned": ("high", "usage is pinned to wallet {usual}"),
    "preference": ("high", "the preferred currency is {usual}"),
    "default": ("high", "the organization's default currency is {usual}"),
    "customer": ("high", "most other lines of the customer are in {usual}"),
    "some": ("high", "other lines of the customer are in {usual}"),
    "others": ("high", "most other lines of the price are in {usual}"),
    "alike": (
        "medium",
        "most other lines of these customers are in {usual}; others' lines of the price are charged alike",
    ),
    "price": ("medium", "most other lines of the price are in {usual}"),
}
"""Severity and wording of each reason to expect another currency, the strongest first."""


@dataclass(slots=True)
class _PriceLines:
    """The lines of a price in each currency, and those of each customer."""

    lines: Counter[str] = field(default_factory=Counter)
    customers: dict[str, Counter[UUID]] = field(default_factory=dict)

    def add(self, line: InvoiceLine) -> None:
        """Count a line."""
        self.lines[_code(line)] += 1
        self.customers.setdefault(_code(line), Counter())[line.customer_id] += 1

    def of_others(self, customer: UUID) -> Counter[str]:
        """The lines of all customers but this one, in each currency."""
        return Counter({code: number - self.customers[code][customer] for code, number in self.lines.items()})


@dataclass(slots=True)
class _WrongCurrency:
    """Lines charged in a currency, where one of the `usual` ones was expected, and the rows of these lines."""

    charged: str
    usual: tuple[str, ...]
    reason: Reason
    lines: list[InvoiceLine] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def customers(self) -> set[UUID]:
        """The lines' customers."""
        return {line.customer_id for line in self.lines}


def currency_findings(differences: Differences) -> list[Finding]:
    """The lines in an unexpected currency, the gravest first.

    One finding for each customer; for all customers of one currency and reason if more than `MAX_SINGLE_CUSTOMERS`.
    One for all lines that charge an amount without a currency, where other lines have one.
    """
    lines = sum(1 for _ in _with_currency(differences.rows))
    findings = [
        _currency_finding(differences, wrong, part(len(wrong.lines), lines)) for wrong in _wrong_currencies(differences)
    ]
    if lines:
        findings += _without_currency_findings(differences)
    return sorted(
        findings,
        key=lambda finding: (list(SEVERITIES).index(finding.severity), -finding.share, finding.sentence),
    )


def _wrong_currencies(differences: Differences) -> Iterator[_WrongCurrency]:
    columns = differences.columns
    preferences = differences.examination.inputs.preferences or NO_PREFERENCES
    used = (row for row in differences.rows if row.usage is not None)  # a line without usage is wrong in any currency
    charged = [(row, line, _wallets(row, preferences)) for row, line in _with_currency(used)]
    by_customer: dict[UUID, Counter[str]] = {}
    by_price: dict[str | None, _PriceLines] = {}
    for row, line, known in charged:
        if known is None:
            by_customer.setdefault(line.customer_id, Counter())[_code(line)] += 1
        by_price.setdefault(price_or_metric(columns, row.key), _PriceLines()).add(line)
    as_priced: dict[UUID, Counter[str]] = {}
    for row, line, known in charged:
        if known is None and len(by_customer[line.customer_id]) > 1:
            others = by_price[price_or_metric(columns, row.key)].of_others(line.customer_id)
            code = _code(line) if _usual(others) == _code(line) else ""
            as_priced.setdefault(line.customer_id, Counter())[code] += any(others.values())
    groups: dict[tuple[str, tuple[str, ...], Reason], dict[UUID, _WrongCurrency]] = {}
    for row, line, known in charged:
        expected = _booked(row, known) or known
        if expected is None:
            of_price, of_customer = by_price[price_or_metric(columns, row.key)], by_customer[line.customer_id]
            if len(of_customer) > 1:
                expected = _of_several(line, of_customer, of_price, as_priced[line.customer_id])
            else:
                expected = _of_price(of_customer, of_price, _code(line))
        if expected and _code(line) not in map(str.upper, expected[0]):
            key = (_code(line), *expected)
            wrong = groups.setdefault(key, {}).setdefault(line.customer_id, _WrongCurrency(*key))
            wrong.lines.append(line)
            if row not in wrong.rows[-1:]:
                wrong.rows.append(row)
    for key, group in groups.items():
        members = list(group.values())
        if len(members) <= MAX_SINGLE_CUSTOMERS() and key[-1] != "alike":
            yield from members
        else:
            yield _WrongCurrency(
                *key,
                [line for member in members for line in member.lines],
                [row for member in members for row in member.rows],
            )


def _booked(row: Row, known: tuple[tuple[str, ...], Reason] | None) -> tuple[tuple[str, ...], Reason] | None:
    """The currencies that the price book charges a row in, None if unknown; of usage without a price its wallets."""
    if row.expected is None or not row.expected.amounts:
        return None
    others = known[0] if known and row.expected.unpriced else ()
    return tuple(sorted({*row.expected.amounts, *others})), "book"


def _with_currency(rows: Iterable[Row]) -> Iterator[tuple[Row, InvoiceLine]]:
    return ((row, line) for row in rows for line in row.lines if line.currency is not None)


def _without_currency_findings(differences: Differences) -> Iterator[Finding]:
    """The lines whose amount has no currency, one finding of all customers; a zero needs none."""
    every = [(row, line) for row in differences.rows for line in row.lines]
    found = sorted(
        ((row, line) for row, line in every if line.amount and line.currency is None), key=lambda one: one[1].line
    )
    if not found:
        return
    examination = differences.examination
    since, until = examination.period.span
    number, of_all, first = len(found), counted(len(every), "line"), found[0][1]
    customers = {line.customer_id for _, line in found}
    yield Finding(
        check=NAME,
        kind="amount without a currency",
        severity="medium",
        sentence=f"{counted(number, 'line')} of {of_all}, {span_in(since, until, examination.period.zone)},"
        f" {'charges an amount' if number == 1 else 'charge amounts'} without a currency, which other lines have:"
        f" line {first.line:,}{'' if number == 1 else ' and others'}. Give each amount its currency.",
        since=since,
        until=until,
        events=sum({row.key: row.events for row, _ in found}.values()),
        question=examination.aggregate_question(metric="sum_quantity", group_by="customer_id"),
        share=part(number, len(every)),
        share_of="invoice lines",
        customer_id=first.customer_id if len(customers) == 1 else None,
        facts=(("lines", ", ".join(f"{line.line:,}" for _, line in found[:MAX_LISTED_LINES])),),
    )


def _code(line: InvoiceLine) -> str:
    return (line.currency or "").upper()


def _wallets(row: Row, preferences: Preferences) -> tuple[tuple[str, ...], Reason] | None:
    """The wallets that the usage of a row goes to, and why; None if unknown."""
    customer: UUID = row.key[0]
    pinned = row.usage.wallets if row.usage else ()
    reached = [preferences.wallet(customer, currency) for currency in pinned]
    wallets = {wallet for wallet, _ in reached if wallet is not None}
    reasons = {reason for _, reason in reached}
    return (tuple(sorted(wallets)), next(reason for reason in _REASONS if reason in reasons)) if wallets else None


def _usual(lines: Counter[str]) -> str | None:
    """The currency of nearly all lines; None if there is none."""
    usual, number = lines.most_common(1)[0]
    return usual if number and part(number, lines.total()) >= MIN_PRICE_CURRENCY_SHARE() else None


def _of_several(
    line: InvoiceLine, customer: Counter[str], price: _PriceLines, as_priced: Counter[str]
) -> tuple[tuple[str, ...], Reason] | None:
    """The most common currency of a customer's lines, of equals the more common one of the price's lines.

    `as_priced` counts the lines in the currency of others' lines of their price, and as "" those in another one. Where
    nearly all further ones are in it, that one of this line's price is right; most of them may be in one other.
    """
    charged, others = _code(line), price.of_others(line.customer_id)
    usual = min(customer, key=lambda code: (-customer[code], -price.lines[code], code))
    of_price, further = _usual(others), as_priced.total() - any(others.values())
    priced = further - as_priced[""] + (of_price != charged and any(others.values()))
    is_most = 2 * customer[usual] > customer.total() - 1  # of the other lines
    if of_price is not None and further and part(priced, further) >= MIN_PRICE_CURRENCY_SHARE():
        if of_price == charged:
            return ((usual,), "alike") if 2 * as_priced[usual] > further else None
        if others[of_price] >= MIN_PRICE_LINES() and (of_price != usual or not is_most):
            return (of_price,), "others"
    return (usual,), "customer" if is_most else "some"


def _of_price(customer: Counter[str], price: _PriceLines, charged: str) -> tuple[tuple[str, ...], Reason] | None:
    """The most common currency of the price's lines of others, for a customer whose lines are all in one currency.

    If the customer has several lines, it must be the only one with that currency, and others as many as
    `MIN_PRICE_LINES`.
    """
    usual, lines = price.lines.most_common(1)[0]
    alike, several = price.customers[charged], customer.total() > 1
    if several and (len(alike) > 1 or len(price.customers[usual]) < MIN_PRICE_LINES()):
        return None
    own = alike.total() if len(alike) == 1 else 1
    is_usual = lines >= MIN_PRICE_LINES() and part(lines, price.lines.total() - own) >= MIN_PRICE_CURRENCY_SHARE()
    return ((usual,), "price") if is_usual else None


def _currency_finding(differences: Differences, wrong: _WrongCurrency, share: Decimal) -> Finding:
    examination, customers = differences.examination, wrong.customers
    lines = sorted(wrong.lines, key=lambda line: line.line)  # the database returns usage in any order
    since, until = examination.period.span
    severity, reason = _REASONS[wrong.reason]
    first, amounts = lines[0], [line.amount for line in lines if line.amount is not None]
    whose = customers_words(customers)
    charges = f" charges {exact_money(first.amount, wrong.charged)}" if first.amount is not None else ""
    query: AggregateQuery | EventQuery = (
        differences.query(wrong.rows)
        if len(customers) == 1
        else examination.aggregate_question(metric="sum_quantity", group_by="customer_id")
    )
    return Finding(
        check=NAME,
        kind=f"charged in {wrong.charged}",
        severity=severity,
        sentence=f"{counted(len(lines), 'line')} of {whose}, {span_in(since, until, examination.period.zone)},"
        f" {'is' if len(lines) == 1 else 'are'} charged in {data_value(wrong.charged)}, but"
        f" {reason.format(usual=listed(wrong.usual))}: line {first.line:,}{charges}"
        f"{'' if len(lines) == 1 else ' and others'}.",
        since=since,
        until=until,
        events=sum(row.events for row in wrong.rows),
        question=query,
        amounts=((wrong.charged, total(amounts)),) if amounts else (),
        share=share,
        share_of="invoice lines",
        customer_id=first.customer_id if len(customers) == 1 else None,
        facts=(
            ("lines", ", ".join(f"{line.line:,}" for line in lines[:MAX_LISTED_LINES])),
            ("charged in", data_value(wrong.charged)),
            ("usual currency", listed(wrong.usual)),
        ),
    )
