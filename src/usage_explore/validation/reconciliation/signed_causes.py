"""Lines that have what was signed, while the usage under the sign-off was changed or removed since.

What arrived late is known by its time. An event that `load --replace` or a statement changed, added with an earlier
`ingested_at` or removed is in no finding, only in the sign-off's corrections, which have exactly the difference: named,
it is not credited twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from uuid import UUID

from usage_explore.decimals import difference, total
from usage_explore.validation.check import CHANGED_AFTER_SIGN_OFF, Examination, added_amounts, signed_words
from usage_explore.validation.reconciliation.causes import Cause, set_cause
from usage_explore.validation.reconciliation.compare import Row
from usage_explore.validation.reconciliation.invoices import InvoiceLine

_Key = tuple[UUID, str | None, str | None]
"""Customer, metric, and wallet where lines name it."""

_OPEN = ("over-billed", "under-billed", "missing", "extra")


def changed_after_sign_off_causes(
    examination: Examination, columns: tuple[str, ...], rows: Sequence[Row], tolerance: Decimal
) -> None:
    """Set the cause of rows whose lines have the quantity, and the amounts if known, that the last sign-off has.

    Of the same customer and metric, and wallet where lines name it: with further columns, all of these rows together.
    """
    signed = examination.signoffs[0] if examination.signoffs else None
    if signed is None or not signed.usage or "metric_key" not in columns:
        return
    preferences = examination.inputs.preferences
    by_wallet = "wallet_currency" in columns

    def signed_key(customer: str, metric: str, named: str | None) -> _Key:
        id_ = UUID(customer)
        known = named if preferences is None else preferences.destination(id_, named)
        return id_, metric, known if by_wallet else None

    usage: dict[_Key, list[tuple[int, Decimal]]] = {}
    for line in signed.usage:
        usage.setdefault(signed_key(*line.key[:3]), []).append((line.events, line.quantity))
    amounts: dict[_Key, list[tuple[str, Decimal]]] = {}
    for priced in signed.amounts:
        amounts.setdefault(signed_key(*priced.key[:3]), []).append((priced.key[3] or "", priced.amount))
    groups: dict[_Key, list[Row]] = {}
    metric, wallet = columns.index("metric_key") + 1, columns.index("wallet_currency") + 1 if by_wallet else 0
    for row in rows:
        groups.setdefault((row.key[0], row.key[metric], row.key[wallet] if wallet else None), []).append(row)
    words = (
        f"what {signed_words(signed, examination.period.zone)} has; the usage was changed since, and"
        f" `usage-explore signoffs {str(signed.id)[:8]} --csv FILE.csv` has exactly this difference"
    )
    for key, group in groups.items():
        left = [row for row in group if row.status in _OPEN and not row.explained_by]
        if not left or any(row.wallets is not None for row in group):
            continue
        lines = [line for row in group for line in row.lines]
        was = usage.get(key, [])
        is_count = any(row.expected is not None and row.expected.counts_events for row in group)
        quantity = Decimal(sum(events for events, _ in was)) if is_count else total(number for _, number in was)
        off = Decimal(difference(total(line.quantity for line in lines), quantity))
        if off.is_finite() and abs(off) <= tolerance and _has_amounts(lines, amounts.get(key, [])):
            for row in left:
                set_cause(row, Cause(CHANGED_AFTER_SIGN_OFF, "medium", words))


def _has_amounts(lines: Iterable[InvoiceLine], signed: Sequence[tuple[str, Decimal]]) -> bool:
    """Whether lines have the signed amounts, as far as both are known."""
    billed = [(line.currency, line.amount) for line in lines]
    known = [(currency, amount) for currency, amount in billed if currency is not None and amount is not None]
    return not signed or len(known) < len(billed) or added_amounts([known]) == added_amounts([signed])
