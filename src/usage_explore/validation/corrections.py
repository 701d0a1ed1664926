"""What billing adds or takes off after a sign-off: usage that changed, in one row with its expected amount, and which
sign-off has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from usage_explore import formatting
from usage_explore.decimals import plain, total
from usage_explore.pricing.currencies import rounded_amount
from usage_explore.records.signoffs import Key, SignOff, period_words
from usage_explore.validation.signed_removals import TO_CHECK
from usage_explore.validation.usage_sums import joined

if TYPE_CHECKING:
    from usage_explore.names import Names
    from usage_explore.validation.signed_usage import Change, Reason

_Group = tuple[str, str, str | None]
"""Customer, metric and the wallet that its usage goes to."""

_NOT_BILLED = {"edited", "removed by retention", "removed by retention or in a later sign-off"}
"""Reasons of changes that are no correction by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What changed in a customer's usage of a metric in a wallet: the numbers now minus those that were signed.

    `quantity` is None where no usage changed, but its expected amount, `amount` where that did not; `cost` also where
    the usage has none.
    `reasons` are those of the usage; "expected amount" if only that changed. `note` says why the amount is unknown.
    """

    customer_id: str
    metric_key: str
    wallet_currency: str | None
    reasons: tuple[Reason, ...]
    events: int = 0
    quantity: Decimal | None = None
    cost: Decimal | None = None
    cost_currency: str | None = None
    amount: Decimal | None = None
    amount_currency: str | None = None
    note: str = ""

    @property
    def reason(self) -> str:
        """The reasons as text, with the note: `arrived late and edited`."""
        return "; ".join(filter(None, (" and ".join(self.reasons), self.note)))

    @property
    def correction(self) -> Literal["supplement", "credit", "check", "none"]:
        """Whether billing adds it or takes it off: by the sign of amount, else quantity, else cost, else events.

        "none" for events that were edited with the same sums and amount, and for those that a retention policy removed:
        they were used and billed. "check" where such events cannot be distinguished from others that are gone, with the
        amount of a credit if that is what they are.
        """
        if TO_CHECK & {*self.reasons}:
            return "check"
        if self.amount is None and set(self.reasons) <= _NOT_BILLED:
            return "none"
        for number in (self.amount, self.quantity, self.cost, Decimal(self.events)):
            if number is not None and (number.is_nan() or number > 0):
                return "supplement"
            if number is not None and number < 0:
                return "credit"
        return "supplement"

    def to_dict(self, names: Names) -> dict[str, Any]:
        """The row as JSON carries it: decimals as text."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("reasons", "note")}
        numbers = {name: decimal_text(fields[name]) for name in ("quantity", "cost", "amount")}
        name = names.name("customer_id", self.customer_id)
        start = {"correction": self.correction, "reason": self.reason, "customer_id": self.customer_id}
        return {**start, "customer_name": name, **fields, **numbers}


def decimal_text(number: Decimal | None) -> str | None:
    """A number as JSON and CSV carry it, written plainly; NaN and infinities by their names."""
    return None if number is None else plain(number) if number.is_finite() else str(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """Corrections of a signed period that are in a later sign-off of another period, and are billed with that one.

    `signoffs` is that sign-off; several if it is one of these and unknown which.
    """

    signoffs: tuple[SignOff, ...]
    corrections: tuple[Correction, ...]

    def amounts(self) -> list[tuple[str | None, Decimal]]:
        """The expected amounts with their currencies, a line each."""
        return [(line.amount_currency, line.amount) for line in self.corrections if line.amount is not None]

    @property
    def sentence(self) -> str:
        """`2 corrections (+2.00 USD) are in sign-off 1f0c2a91 (1–30 Sep 2026, UTC, signed by ana)`.

        Without expected amounts the external cost is named, and without that the number of events.
        """
        numbers = money_words(self.amounts())
        if not numbers:
            costs = ((line.cost_currency, line.cost) for line in self.corrections if line.cost is not None)
            numbers = [f"external cost {text}" for text in money_words(costs)]
        events = sum(line.events for line in self.corrections)
        numbers = numbers or [formatting.signed_events(events)]
        names = [
            f"{str(one.id)[:8]} ({period_words(one)}, signed by {formatting.data_value(one.author)})"
            for one in self.signoffs
        ]
        where = f"sign-off {names[0]}" if len(names) == 1 else f"one of the sign-offs {joined(names)}"
        verb = "is" if len(self.corrections) == 1 else "are"
        return f"{formatting.counted(len(self.corrections), 'correction')} ({', '.join(numbers)}) {verb} in {where}"

    def to_dict(self, names: Names) -> dict[str, Any]:
        """The corrections as JSON carries them, with the ids of the sign-offs."""
        return {
            "sign_offs": [str(one.id) for one in self.signoffs],
            "sentence": self.sentence,
            "rows": [line.to_dict(names) for line in self.corrections],
        }


def money_words(amounts: Iterable[tuple[str | None, Decimal]]) -> list[str]:
    """What is added and what is taken off by currency, never their net: `+5.00 and -3.00 USD`."""
    sums: dict[str, tuple[list[Decimal], list[Decimal]]] = {}
    for currency, amount in amounts:
        over, under = sums.setdefault(currency or "(no currency)", ([], []))
        if amount:
            (under if amount.is_finite() and amount < 0 else over).append(amount)
    return [
        f"{' and '.join(_cents(total(part), currency) for part in parts if part)} {currency}"
        for currency, parts in sorted(sums.items())
        if any(parts)
    ]


def _cents(amount: Decimal, currency: str) -> str:
    """An amount to the cent with its sign, `+0.42`; one below a cent with four digits, `+0.0034`."""
    text = rounded_amount(amount, currency)
    if amount.is_finite() and not text.lstrip("-")[0].isdigit():
        text = formatting.short(amount)
    return f"+{text}" if text[0].isdigit() else text


def corrections(
    rows: Iterable[Change], wallets: Mapping[UUID | None, str], rated: Iterable[Key] = ()
) -> tuple[Correction, ...]:
    """The changes in rows whose sums are those of the changes: each event, cost and amount is in one row.

    An amount is in the row of the usage that changed with it. Where this has several reasons, they are one row, since
    an amount is not divided by them. Costs in several currencies have a row each, likewise amounts: the first of
    both are in one row. `wallets` are the preferred currencies by customer, of None the organization's: usage without a
    wallet goes there. `rated` are the customers, metrics, wallets and currencies of which all usage has a price: where
    their amount did not change it is 0, as of usage within an included quantity; other usage has an unknown amount.
    """
    from usage_explore.validation.signed_usage import Change

    usage: dict[_Group, list[Change]] = {}
    amounts: dict[_Group, list[Change]] = {}
    for row in rows:
        customer, metric, wallet, _ = row.key
        if row.amount is None:
            if wallet is None:
                wallet = wallets.get(UUID(customer), wallets.get(None))
            usage.setdefault((customer, metric, wallet), []).append(row)
        else:
            amounts.setdefault((customer, metric, wallet), []).append(row)
    for customer, metric, wallet, currency in sorted(rated, key=lambda key: key[3] or ""):
        group = customer, metric, wallet
        if _is_billed(usage.get(group, ())) and not any(row.amount for row in amounts.get(group, ())):
            zero = Change((customer, metric, wallet, currency), "expected amount", amount=Decimal(0))
            amounts.setdefault(group, []).append(zero)
    result: list[Correction] = []
    for group in sorted({*usage, *amounts}, key=lambda group: tuple(part or "" for part in group)):
        result += _of_group(group, usage.get(group, []), amounts.get(group, []))
    return tuple(result)


def _is_billed(usage: Sequence[Change]) -> bool:
    """Whether usage changed, of a known amount, that is not only edited with the same sums, or removed."""
    return not {row.reason for row in usage} <= _NOT_BILLED and not any(row.note for row in usage)


def _of_group(group: _Group, usage: Sequence[Change], amounts: Sequence[Change]) -> list[Correction]:
    if not amounts:
        return [_correction(group[2], [row], None) for row in usage]
    by_currency: dict[str | None, list[Change]] = {}
    for row in usage:
        by_currency.setdefault(row.key[3], []).append(row)
    if len(by_currency) == 2 and None in by_currency and not any(row.cost for row in by_currency[None]):
        free = by_currency.pop(None)  # events without a cost beside those of a currency
        next(iter(by_currency.values())).extend(free)
    costs = [by_currency[currency] for currency in sorted(by_currency, key=lambda code: (code is None, code or ""))]
    return [_correction(group[2], rows or (), amount) for rows, amount in zip_longest(costs, amounts)]


def _correction(wallet: str | None, usage: Sequence[Change], amount: Change | None) -> Correction:
    """The row of usage with costs in one currency, and of an amount; one of both may be missing."""
    rows = [*usage, *([amount] if amount else [])]
    cost, currency = (
        total(row.cost for row in usage),
        next((row.key[3] for row in usage if row.key[3] is not None), None),
    )
    return Correction(
        customer_id=rows[0].key[0],
        metric_key=rows[0].key[1],
        wallet_currency=wallet,
        reasons=tuple(sorted({row.reason for row in usage or rows})),
        events=sum(row.events for row in usage),
        quantity=total(row.quantity for row in usage) if usage else None,
        cost=cost if cost or currency else None,
        cost_currency=currency,
        amount=None if amount is None else amount.amount,
        amount_currency=None if amount is None else amount.key[3],
        note=next((row.note for row in usage if row.note), "") if amount is None else "",
    )
