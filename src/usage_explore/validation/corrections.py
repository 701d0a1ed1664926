"""What billing adds or takes off after a sign-off: usage that changed, in one row with its expected amount."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from usage_explore.decimals import total

if TYPE_CHECKING:
    from usage_explore.validation.signed_usage import Change, Reason

_Group = tuple[str, str, str | None]
"""Customer, metric and the wallet that its usage goes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What changed in a customer's usage of a metric in a wallet: the numbers now minus those that were signed.

    `quantity` and `cost` are None where no usage changed, but its expected amount, `amount` where that did not.
    `reasons` are those of the usage; "expected amount" if only that changed.
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

    @property
    def reason(self) -> str:
        """The reasons as text: `arrived late and edited`."""
        return " and ".join(self.reasons)

    @property
    def correction(self) -> Literal["supplement", "credit", "none"]:
        """Whether billing adds it or takes it off: by the sign of amount, else quantity, else cost, else events.

        "none" for events that were edited with the same sums and amount, and for removed ones that were used and
        billed.
        """
        if self.amount is None and set(self.reasons) <= {"edited", "removed by retention"}:
            return "none"
        for number in (self.amount, self.quantity, self.cost, Decimal(self.events)):
            if number is not None and (number.is_nan() or number > 0):
                return "supplement"
            if number is not None and number < 0:
                return "credit"
        return "supplement"


def corrections(rows: Iterable[Change], wallets: Mapping[UUID | None, str]) -> tuple[Correction, ...]:
    """The changes in rows whose sums are those of the changes: each event, cost and amount is in one row.

    An amount is in the row of the usage that changed with it. Where this has several reasons, they are one row, since
    an amount is not divided by them. Costs in several currencies have a row each, likewise amounts: the first of
    both are in one row. `wallets` are the preferred currencies by customer, of None the organization's: usage without a
    wallet goes there.
    """
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
    result: list[Correction] = []
    for group in sorted({*usage, *amounts}, key=lambda group: tuple(part or "" for part in group)):
        result += _of_group(group, usage.get(group, []), amounts.get(group, []))
    return tuple(result)


def _of_group(group: _Group, usage: Sequence[Change], amounts: Sequence[Change]) -> list[Correction]:
    if not amounts:
        return [_correction(row.key[2], [row], None) for row in usage]
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
    return Correction(
        customer_id=rows[0].key[0],
        metric_key=rows[0].key[1],
        wallet_currency=wallet,
        reasons=tuple(sorted({row.reason for row in usage or rows})),
        events=sum(row.events for row in usage),
        quantity=total(row.quantity for row in usage) if usage else None,
        cost=total(row.cost for row in usage) if usage else None,
        cost_currency=next((row.key[3] for row in usage if row.key[3] is not None), None),
        amount=None if amount is None else amount.amount,
        amount_currency=None if amount is None else amount.key[3],
    )
