"""Findings of invoice lines in unexpected currencies.

A line should charge in the currency of the wallet that its usage goes to, pinned or by the preferred-currency cascade.
Where no wallet is known, a line is in the currency of its customer, if that one has its own, else in that of its price:
whichever of both leaves the fewest lines in another one (see `_fit`). A line in neither is wrong, if nearly all
comparable lines are in the expected one; else it is a question, and so are lines of a customer who alone is charged in
a currency. Upper and lower case are one currency.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

from usage_explore.formatting import counted, listed, span_in
from usage_explore.pricing.currencies import exact_money
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import SEVERITIES, Finding, Severity, added_amounts
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

Reason = Literal["book", "pinned", "preference", "default", "customer", "others", "priced", "alike", "price", "unclear"]

_REASONS: dict[Reason, tuple[Severity, str]] = {
    "book": ("high", "the price book charges {usual}"),
    "pinned": ("high", "usage is pinned to wallet {usual}"),
    "preference": ("high", "the preferred currency is {usual}"),
    "default": ("high", "the organization's default currency is {usual}"),
    "customer": ("high", "most other lines of the customer are in {usual}"),
    "others": ("high", "most other lines of the price are in {usual}"),
    "priced": ("high", "most other lines of the price, of customers without a currency of their own, are in {usual}"),
    "alike": (
        "medium",
        "most other lines of these customers are in {usual}; others' lines of the price are charged alike",
    ),
    "price": ("medium", "most other lines of the price are in {usual}"),
    "unclear": ("medium", "the other lines of the customer and of the price do not tell whether that is right"),
}
"""Severity and wording of each reason to expect another currency, the strongest first."""


_Account = tuple[int, bool]
"""A customer's usage with known wallets, or without."""

_MAX_ROUNDS = 5


class _Charge(NamedTuple):
    """The currency of a line, in upper case."""

    account: _Account
    price: str | None
    code: str


class _Fit(NamedTuple):
    """The currency of each price, None if unknown, and of each account that has its own, or as well may have."""

    prices: dict[str | None, str | None]
    own: dict[_Account, str]
    either: dict[_Account, str]

    def expected(self, charge: _Charge) -> str | None:
        """The currency of a line's account, else of its price."""
        return self.own.get(charge.account, self.prices.get(charge.price))


@dataclass(slots=True)
class _WrongCurrency:
    """Lines charged in a currency, where one of the `usual` ones was expected, and the rows of these lines."""

    reason: Reason
    usual: set[str] = field(default_factory=set)
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
    charges = [
        _Charge((line.customer_id.int, known is not None), price_or_metric(columns, row.key), _code(line))
        for row, line, known in charged
    ]
    expectation = _expectations(charges)
    groups: dict[tuple[str, tuple[str, ...], Reason], dict[UUID, _WrongCurrency]] = {}
    for (row, line, known), charge in zip(charged, charges, strict=True):
        expected = _booked(row, known) or known or expectation[charge]
        if expected and charge.code not in map(str.upper, expected[0]):
            usual, reason = expected
            key = ("" if reason == "unclear" else charge.code, () if reason == "price" else usual, reason)
            wrong = groups.setdefault(key, {}).setdefault(line.customer_id, _WrongCurrency(reason))
            wrong.usual.update(usual)
            wrong.lines.append(line)
            if row not in wrong.rows[-1:]:
                wrong.rows.append(row)
    for key, group in groups.items():
        members = list(group.values())
        if len(members) <= MAX_SINGLE_CUSTOMERS() and key[-1] not in ("alike", "unclear"):
            yield from members
        else:
            yield _WrongCurrency(
                key[-1],
                set().union(*(member.usual for member in members)),
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


def _counted(pairs: Iterable[tuple[Any, Any]]) -> defaultdict[Any, Counter[Any]]:
    found: defaultdict[Any, Counter[Any]] = defaultdict(Counter)
    for key, value in pairs:
        found[key][value] += 1
    return found


def _fit(charges: list[_Charge]) -> _Fit:
    """The currencies of prices and accounts by which the fewest lines are in another.

    An own currency that no other customer has counts as a line. Tried from the lines of all accounts, and from those of
    accounts in several currencies. A price of which accounts decide that as well may have an own one has no known one.
    """
    accounts = _counted((charge.account, charge.code) for charge in charges)
    fits: list[tuple[int, int, _Fit]] = []
    for lines in (charges, [charge for charge in charges if len(accounts[charge.account]) > 1]):
        fit = _Fit({}, {}, {})
        for _ in range(_MAX_ROUNDS):
            owners = Counter(code for account, code in fit.own.items() if not account[1])
            before, fit = fit, _Fit(_of_prices(lines), {}, {})
            unlike = _counted((each.account, each.code) for each in charges if fit.expected(each) != each.code)
            for account, wrong in unlike.items():
                for code in sorted(wrong):
                    number, every = accounts[account][code], accounts[account].total()
                    cost = every - number + (owners[code] <= (before.own.get(account) == code))
                    if cost == wrong.total():
                        fit.either[account] = code
                    elif 2 * number > every and cost < wrong.total():
                        fit.own[account] = code
            if fit.own == before.own:
                break
            lines = [charge for charge in charges if charge.account not in fit.own]
        others = sum(fit.expected(charge) != charge.code for charge in charges)
        fits.append((others + len(fit.own), others, fit))
    best = min(fits, key=lambda one: one[:2])[-1]
    others_say = _of_prices([charge for charge in charges if charge.account not in {*best.own, *best.either}])
    prices = {price: code if others_say.get(price, code) == code else None for price, code in best.prices.items()}
    return best._replace(prices=prices)


def _of_prices(charges: list[_Charge]) -> dict[str | None, str | None]:
    """The most common currency of each price's lines; of one line that of most lines of all, if any.

    Of equals that of most lines, if all of other prices are in it.
    """
    every = Counter(charge.code for charge in charges)
    main = next((code for code, number in every.items() if 2 * number > len(charges)), None)
    found = {}
    for price, codes in _counted((charge.price, charge.code) for charge in charges).items():
        (code, number), (_, second) = [*codes.most_common(2), ("", 0)][:2]
        is_main = not second or {*every - codes} <= {main}
        found[price] = code if number > max(1, second) else main if is_main else None
    return found


def _expectations(charges: list[_Charge]) -> dict[_Charge, tuple[tuple[str, ...], Reason] | None]:
    """The currency that each line should be in, of what is known of the others; None if it may be right."""
    fit = _fit(charges)
    accounts = _counted((charge.account, charge.code) for charge in charges)
    right = _counted((charge.account, charge.code) for charge in charges if fit.expected(charge) == charge.code)
    prices = _counted((charge.price, charge.code) for charge in charges)
    alike = _counted(((charge.price, fit.own.get(charge.account)), charge.code) for charge in charges)
    of_both = _counted(((charge.account, charge.price), charge.code) for charge in charges)
    payers = _counted(((charge.price, charge.code), charge.account[0]) for charge in charges)
    owners = _counted((code, account[0]) for account, code in (*fit.own.items(), *fit.either.items()))

    def of_mixed(charge: _Charge) -> tuple[tuple[str, ...], Reason] | None:
        """The currency of a customer, else of a price, for a customer whose lines are in several."""
        account, price, charged = charge
        own, expected, codes = fit.own.get(account), fit.expected(charge), accounts[account]
        usual = min(codes, key=lambda code: (-codes[code], code != expected, code))
        further = codes.total() - 1
        if own is None and account in fit.either:
            return (), "unclear"
        if expected == charged:
            is_alike = alike[price, own][charged] > of_both[account, price][charged]
            return ((usual,), "alike") if own is None and is_alike and 2 * right[account][usual] > further else None
        others, comparable = (each - of_both[account, price] for each in (prices[price], alike[price, own]))
        if comparable:
            is_clear = _usual(comparable) == expected or (own is not None and fit.prices.get(price) == charged)
        else:  # no price may have another currency than that of all
            is_clear = own is not None or {*fit.prices.values()} == {expected}
        is_most = usual == expected and 2 * codes[usual] > further > 1  # one other line is not most lines
        is_told = is_clear and right[account] and (is_most or comparable[expected] > 1)
        if expected is None or not is_told:
            return (), "unclear"
        is_main = 2 * others[expected] > others.total()
        return (expected,), "customer" if is_most else "others" if is_main else "priced"

    def of_price(charge: _Charge) -> tuple[tuple[str, ...], Reason] | None:
        """The most common currency of the price's lines, for the only customer who is charged in a single other one."""
        account, price, charged = charge
        usual, lines = prices[price].most_common(1)[0]
        customers = payers[price, charged]
        is_shared = len(customers) > 1 or len(owners[charged]) > (account[0] in owners[charged])
        if accounts[account].total() > 1 and (is_shared or len(payers[price, usual]) < MIN_PRICE_LINES()):
            return None
        own = customers.total() if len(customers) == 1 else 1
        is_usual = part(lines, prices[price].total() - own) >= MIN_PRICE_CURRENCY_SHARE()
        return ((usual,), "price") if lines >= MIN_PRICE_LINES() and is_usual else None

    found = {one: of_mixed(one) if len(accounts[one.account]) > 1 else of_price(one) for one in {*charges}}
    for pair in _pairs(charges):
        codes = {one.code for one in pair}
        if any((expected := found[one]) and expected[0] and codes >= {*expected[0]} for one in pair):
            found |= dict.fromkeys(pair, ((), "unclear"))  # each may be the wrong one
    return found


def _pairs(charges: list[_Charge]) -> Iterator[list[_Charge]]:
    """The lines of each price that has only two, of two accounts and in two currencies."""
    prices: dict[str | None, list[_Charge]] = {}
    for charge in charges:
        prices.setdefault(charge.price, []).append(charge)
    for lines in prices.values():
        if len(lines) == 2 and lines[0].account != lines[1].account and lines[0].code != lines[1].code:
            yield lines


def _currency_finding(differences: Differences, wrong: _WrongCurrency, share: Decimal) -> Finding:
    examination, customers = differences.examination, wrong.customers
    lines = sorted(wrong.lines, key=lambda line: line.line)  # the database returns usage in any order
    since, until = examination.period.span
    severity, reason = _REASONS[wrong.reason]
    first, codes = lines[0], Counter(map(_code, lines))
    amounts = added_amounts(((_code(line), line.amount),) for line in lines if line.amount is not None)
    charged = listed(codes if len(codes) == 1 else (f"{code} ({number:,})" for code, number in codes.items()))
    whose = customers_words(customers)
    charges = f" charges {exact_money(first.amount, _code(first))}" if first.amount is not None else ""
    query: AggregateQuery | EventQuery = (
        differences.query(wrong.rows)
        if len(customers) == 1
        else examination.aggregate_question(metric="sum_quantity", group_by="customer_id")
    )
    return Finding(
        check=NAME,
        kind=f"charged in {next(iter(codes))}" if wrong.reason != "unclear" else "charged in unclear currencies",
        severity=severity,
        sentence=f"{counted(len(lines), 'line')} of {whose}, {span_in(since, until, examination.period.zone)},"
        f" {'is' if len(lines) == 1 else 'are'} charged in {charged}, but"
        f" {reason.format(usual=listed(wrong.usual))}: line {first.line:,}{charges}"
        f"{'' if len(lines) == 1 else ' and others'}.",
        since=since,
        until=until,
        events=sum(row.events for row in wrong.rows),
        question=query,
        amounts=tuple(sorted(amounts.items())),
        share=share,
        share_of="invoice lines",
        customer_id=first.customer_id if len(customers) == 1 else None,
        facts=(
            ("lines", ", ".join(f"{line.line:,}" for line in lines[:MAX_LISTED_LINES])),
            ("charged in", charged),
            *([("usual currency", listed(wrong.usual, most=20))] if wrong.usual else []),
        ),
    )
