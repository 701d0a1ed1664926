"""Whether invoice lines are charged in the currency that their usage is charged in.

That is the currency of the wallet that the usage goes to: the pinned one, else that of the preferred-currency cascade.
Where neither is known, all of the customer's usage goes to one wallet, so that lines in two currencies are wrong: it is
the currency of most of these lines; of a customer's only one, that of nearly all lines of its price. Upper and lower
case are one currency.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from usage_explore.decimals import plain
from usage_explore.formatting import counted, data_value, listed, span_in
from usage_explore.validation.check import Examination
from usage_explore.validation.finding import SEVERITIES, Finding, Severity
from usage_explore.validation.reconciliation.compare import Row, total
from usage_explore.validation.reconciliation.findings import NAME, Telling, item
from usage_explore.validation.reconciliation.invoices import InvoiceLine
from usage_explore.validation.reconciliation.uninvoiced import CROWD
from usage_explore.validation.totals import part
from usage_explore.validation.wallet_preferences import NOBODY, Preferences

SHARED = Decimal("0.8")
"""From this part of a price's other lines on, of `KNOWN` at least, their currency is the usual one of the price."""

KNOWN = 4
"""Fewer lines of a price make no currency usual."""

Why = Literal["pinned", "preference", "default", "customer", "price"]

_WHY: dict[Why, tuple[Severity, str]] = {
    "pinned": ("high", "usage is pinned to wallet {usual}"),
    "preference": ("high", "the preferred currency is {usual}"),
    "default": ("high", "the organization's default currency is {usual}"),
    "customer": ("high", "most other lines of the customer are in {usual}"),
    "price": ("medium", "most other lines of the price are in {usual}"),
}
"""What speaks for another currency, the strongest first: how grave that is, and in words."""


@dataclass(slots=True)
class Misplaced:
    """Lines in the currency `charged` whose usage is charged in one of the `usual` ones, and the rows they are of."""

    charged: str
    usual: tuple[str, ...]
    why: Why
    lines: list[InvoiceLine] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def customers(self) -> set[UUID]:
        """Whose lines they are."""
        return {line.customer_id for line in self.lines}


def misplaced(rows: Iterable[Row], columns: tuple[str, ...], preferences: Preferences | None) -> Iterator[Misplaced]:
    """The lines in an unusual currency, together by customer, or where more than `CROWD` have the same by currencies.

    The wallets that usage names must be known of each row, see `Used.wallets`. Lines without a currency are left aside.
    """
    charged = [(row, line, _wallets(row, preferences or NOBODY)) for row, line in _charged(rows)]
    by_customer: dict[UUID, Counter[str]] = {}
    by_item: dict[str | None, Counter[str]] = {}
    for row, line, known in charged:
        if known is None:
            by_customer.setdefault(line.customer_id, Counter())[_code(line)] += 1
        by_item.setdefault(item(columns, row.key), Counter())[_code(line)] += 1
    found: dict[tuple[Any, ...], dict[UUID, Misplaced]] = {}
    for row, line, known in charged:
        given = known or _most(by_customer[line.customer_id], by_item[item(columns, row.key)])
        if given and _code(line) not in map(str.upper, given[0]):
            group = found.setdefault((_code(line), *given), {})
            each = group.setdefault(line.customer_id, Misplaced(_code(line), *given))
            each.lines.append(line)
            if row not in each.rows[-1:]:
                each.rows.append(row)
    for (charged, usual, why), group in found.items():
        if len(group) <= CROWD:
            yield from group.values()
            continue
        parts = group.values()
        lines = [line for each in parts for line in each.lines]
        yield Misplaced(charged, usual, why, lines, [row for each in parts for row in each.rows])


def in_unusual_currencies(telling: Telling) -> list[Finding]:
    """The lines in an unusual currency as findings, the gravest first."""
    found = misplaced(telling.rows, telling.columns, telling.examination.preferences)
    lines = sum(1 for _ in _charged(telling.rows))
    made = [_finding(telling, each, part(len(each.lines), lines)) for each in found]
    return sorted(made, key=lambda each: (list(SEVERITIES).index(each.severity), -each.share, each.sentence))


def _charged(rows: Iterable[Row]) -> Iterator[tuple[Row, InvoiceLine]]:
    return ((row, line) for row in rows for line in row.lines if line.currency is not None)


def _code(line: InvoiceLine) -> str:
    return (line.currency or "").upper()


def _wallets(row: Row, preferences: Preferences) -> tuple[tuple[str, ...], Why] | None:
    """The wallets that the usage of a row goes to, and what sends it there; None where that is unknown.

    A line without usage that names a wallet goes there.
    """
    customer: UUID = row.key[0]
    pins = row.used.wallets if row.used else {line.wallet_currency for line in row.lines}
    reached = [preferences.wallet(customer, pinned) for pinned in pins]
    wallets = {wallet for wallet, _ in reached if wallet is not None}
    hows = {how for _, how in reached}
    return (tuple(sorted(wallets)), next(why for why in _WHY if why in hows)) if wallets else None


def _most(customer: Counter[str], item: Counter[str]) -> tuple[tuple[str, ...], Why] | None:
    """The currency of most of a customer's lines, of equals the one that the price's lines have more often."""
    if customer.total() > 1:
        return (min(customer, key=lambda each: (-customer[each], -item[each], each)),), "customer"
    usual, lines = item.most_common(1)[0]
    return ((usual,), "price") if lines >= KNOWN and part(lines, item.total() - 1) >= SHARED else None


def _finding(telling: Telling, found: Misplaced, share: Decimal) -> Finding:
    examination, customers = telling.examination, found.customers
    since, until = examination.period.span
    severity, why = _WHY[found.why]
    first, amounts = found.lines[0], [line.amount for line in found.lines if line.amount is not None]
    whose = f"customer {first.customer_id}" if len(customers) == 1 else counted(len(customers), "customer")
    one = len(found.lines) == 1
    charges = f" charges {plain(first.amount)} {data_value(found.charged)}" if first.amount is not None else ""
    return Finding(
        check=NAME,
        severity=severity,
        sentence=f"{counted(len(found.lines), 'line')} of {whose}, {span_in(since, until, examination.period.zone)},"
        f" {'is' if one else 'are'} charged in {data_value(found.charged)}, but {why.format(usual=listed(found.usual))}"
        f": line {first.line:,}{charges}{'' if one else ' and others'}.",
        since=since,
        until=until,
        events=sum(row.events for row in found.rows),
        question=_question(examination, telling, found),
        amounts=((found.charged, total(*amounts)),) if amounts else (),
        share=share,
        customer_id=first.customer_id if len(customers) == 1 else None,
        facts=(
            ("lines", ", ".join(f"{line.line:,}" for line in found.lines[:20])),
            ("charged in", data_value(found.charged)),
            ("usual currency", listed(found.usual)),
        ),
    )


def _question(examination: Examination, telling: Telling, found: Misplaced) -> Any:
    """The usage that the lines bill; of several customers all usage, by customer."""
    if len(found.customers) == 1:
        return telling.question(found.rows)
    return examination.aggregate_question(metric="sum_quantity", group_by="customer_id")
