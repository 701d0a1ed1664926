"""The expected amounts under a sign-off: what was signed, by what it was computed, and what differs since."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from usage_explore import formatting
from usage_explore.decimals import difference, total
from usage_explore.pricing.amounts import rate
from usage_explore.pricing.currencies import rounded_sums
from usage_explore.records.signoffs import AmountBasis, AmountLine, Key
from usage_explore.validation.signed_usage import Change, Changes, key_order
from usage_explore.validation.usage_sums import joined

if TYPE_CHECKING:
    from usage_explore.pricing.rating import Rating


def amount_lines(rating: Rating) -> tuple[AmountLine, ...]:
    """The expected amounts of a rating by customer, metric, wallet and currency."""
    sums: dict[Key, list[Decimal]] = {}
    for line in rating.lines:
        key = str(line.customer_id), line.metric_key, line.wallet_currency, line.currency
        sums.setdefault(key, []).append(line.amount)
    return tuple(AmountLine(key, total(sums[key])) for key in sorted(sums, key=key_order))


def amount_basis(rating: Rating) -> AmountBasis:
    """What the amounts of a rating were computed by."""
    return AmountBasis(
        prices=rating.source,
        prices_hash=rating.prices_hash,
        wallets=rating.wallets,
        unpriced_events=rating.unpriced_events,
        unpriced=_unpriced(rating),
    )


def rated_keys(amounts: Iterable[AmountLine], unpriced: frozenset[tuple[str, str]]) -> frozenset[Key]:
    """The keys of amounts but those of customers' metrics with usage that has no price."""
    return frozenset(line.key for line in amounts if line.key[:2] not in unpriced)


def _unpriced(rating: Rating) -> frozenset[tuple[str, str]]:
    return frozenset((str(usage.customer_id), usage.metric_key) for usage in rating.unpriced)


_GIVE = "give the price book of the sign-off"
NO_BOOK = f"there is no price book; {_GIVE}"
"""Why amounts are not compared without one."""


def with_amounts(changes: Changes, rating: Rating, *, is_given: bool) -> Changes:
    """The changes with those of the expected amounts, by a price book that was given, or by the stored one.

    Not compared are amounts that were signed by a book that is not stored with those of the stored one, and those of
    usage that was signed without any book, which may be billed by other prices: the note says what is expected now.
    """
    basis, signed = changes.signoff.basis, changes.signoff.amounts
    if basis is None and not signed:
        expected = joined(rounded_sums(rating.totals.items()))
        return replace(changes, amounts_note=f"none were signed, {expected} would be expected now" if expected else "")
    if (
        basis is not None
        and signed
        and not is_given
        and (basis.prices, basis.prices_hash) != (rating.source, rating.prices_hash)
    ):
        is_stored = basis.prices == rating.source  # the table has other prices since: their effect is a change
        if not is_stored and basis.prices_hash != rating.prices_hash:
            note = (
                f"they were signed by the price book {formatting.data_value(basis.prices)}, and {rating.source} has"
                f" other prices; {_GIVE}"
            )
            return replace(changes, amounts_note=note)
    lines = amount_lines(rating)
    more = 0 if basis is None else rating.unpriced_events - basis.unpriced_events
    return replace(
        changes,
        rows=(*changes.rows, *amount_changes(signed, lines)),
        unpriced_events=more,
        has_other_prices=basis is None or basis.prices_hash != rating.prices_hash or basis.wallets != rating.wallets,
        wallets=rating.wallets,
        rated=rated_keys(lines, _unpriced(rating)),
    )


def amount_changes(signed: Iterable[AmountLine], now: Iterable[AmountLine]) -> tuple[Change, ...]:
    """The expected amounts now minus those that were signed, where they differ."""
    before, after = ({line.key: line.amount for line in lines} for lines in (signed, now))
    differences = {
        key: Decimal(difference(after.get(key, Decimal(0)), before.get(key, Decimal(0))))
        for key in sorted({*before, *after}, key=key_order)
    }
    return tuple(Change(key, "expected amount", amount=amount) for key, amount in differences.items() if amount)


def amount_without(change: Change, late: Iterable[Change], rating: Rating) -> Decimal | None:
    """A changed amount without late events of its customer and metric; None where their part depends on the others.

    That is so unless one price with the same amount for each unit covers the usage. The rest is rounded as the whole.
    """
    customer, metric, wallet, _ = change.key
    lines = [line for line in rating.lines if (str(line.customer_id), line.metric_key) == (customer, metric)]
    mine = [line for line in lines if line.wallet_currency == wallet]
    has_unpriced = any((str(usage.customer_id), usage.metric_key) == (customer, metric) for usage in rating.unpriced)
    is_by_wallet = all(line.wallet_currency is not None for line in lines)
    if change.amount is None or has_unpriced or len(mine) != 1 or not (is_by_wallet or len(lines) == 1):
        return None
    line, price = mine[0], mine[0].price
    is_added = price.model == "per_unit" and price.aggregation in ("sum", "count")
    if not is_added or price.included_quantity or price.minimum_amount or any(tier.flat_amount for tier in price.tiers):
        return None
    preferred = rating.wallets.get(UUID(customer), rating.wallets.get(None))
    taken = [row for row in late if not is_by_wallet or (row.key[2] or preferred) == wallet]
    units = total(Decimal(row.events) if price.aggregation == "count" else row.quantity for row in taken)
    now = rate(price, Decimal(difference(line.billable_quantity, units))).amount
    return Decimal(difference(change.amount, Decimal(difference(line.amount, now))))
