"""A period that is signed again: what the sign-off before had that the next one includes, or loses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID
from zoneinfo import ZoneInfo

from usage_explore import formatting
from usage_explore.decimals import decimal_context
from usage_explore.pricing.currencies import rounded_sums
from usage_explore.pricing.table import PRICES_TABLE
from usage_explore.records.signoffs import SignOff, UsageLine, signed_period
from usage_explore.validation.signed_amounts import amount_changes, amount_lines, rated_keys
from usage_explore.validation.signed_periods import last_signoff
from usage_explore.validation.signed_removals import Lines, Removals, by_cause, removals
from usage_explore.validation.signed_usage import Change, Changes, changed, key_order
from usage_explore.validation.usage_sums import joined

if TYPE_CHECKING:
    from usage_explore.pricing.rating import Rating


def next_signoff(signoff: SignOff, signed: Iterable[SignOff]) -> SignOff | None:
    """The first later sign-off of the same period, of sign-offs that are in order, newest first; None without one."""
    later = [other for other in signed if other.signed_at > signoff.signed_at]
    return last_signoff(later[::-1], signed_period(signoff))


@decimal_context()
def changes_until(
    signoff: SignOff, following: SignOff, exists_since: datetime | None = None, policy: datetime | None = None
) -> Changes:
    """What changed from a sign-off to the next one of its period, by the numbers that both froze.

    The next one includes it, so that it is among no later corrections. `exists_since` is the time before which events
    were removed, `policy` the one before which a retention policy did so: see `signed_usage.changes`. Amounts are
    compared if both sign-offs have some, by the same prices or those that were stored, and preferred currencies.
    """
    before, after = ({line.key: line for line in one.usage} for one in (signoff, following))
    has_hashes = signoff.hash_probe is not None and signoff.hash_probe == following.hash_probe
    rows: list[Change] = []
    for key in sorted({*before, *after}, key=key_order):
        none = UsageLine(key, 0, Decimal(0), Decimal(0))
        rows += changed(before.get(key, none), after.get(key, none), has_hashes)
    found: Removals | None = None
    if exists_since is not None:
        by_time: tuple[Lines, Lines] = (
            (signoff.slots, following.slots) if signoff.slots and following.slots else (signoff.days, following.days)
        )
        if all(by_time):
            found = removals(*by_time, exists_since, signed_period(signoff), has_hashes, policy)
        rows = by_cause(rows, found, policy)
    rows = [replace(row, reason="until signed again") if row.reason == "changed or removed" else row for row in rows]
    note = _not_comparable(signoff, following)
    basis = following.basis
    unpriced = None if basis is None else frozenset() if not basis.unpriced_events else basis.unpriced
    if exists_since is not None and policy is not None and signoff.amounts:
        note = f"events before {formatting.zoned(exists_since, ZoneInfo(signoff.timezone))} were removed"
    return Changes(
        signoff=signoff,
        now=following.as_of,
        rows=(*rows, *(() if note else amount_changes(signoff.amounts, following.amounts))),
        removed_before=exists_since,
        removals=found,
        amounts_note=note,
        wallets={} if basis is None else basis.wallets,
        rated=frozenset() if note or unpriced is None else rated_keys(following.amounts, unpriced),
    )


def _not_comparable(one: SignOff, other: SignOff) -> str:
    """Why the expected amounts of two sign-offs give no corrections; "" if they do, or if neither has amounts."""
    if bool(one.amounts) != bool(other.amounts):
        which, amounts = ("earlier", one.amount_totals) if one.amounts else ("later", other.amount_totals)
        return f"only the {which} sign-off has expected amounts, {_amounts(amounts)}"
    if not one.amounts:
        return ""
    if one.basis is None or other.basis is None:
        return "the two sign-offs may have other prices"
    # the table has other prices since, whose effect is a change; of two files each may be a part of the prices
    is_of_table = {basis.prices.rpartition(".")[2] for basis in (one.basis, other.basis)} == {PRICES_TABLE}
    if one.basis.prices_hash != other.basis.prices_hash and not is_of_table:
        return "the two sign-offs may have other prices"
    return "" if one.basis.wallets == other.basis.wallets else "the two sign-offs have other preferred currencies"


def lost_inputs(before: SignOff | None, rating: Rating | None) -> str:
    """Which prices or preferred currencies of the sign-off before are missing now, with both amounts; "" if none are.

    `the sign-off 1f0c2a91 by ana expected 90.00 EUR and 10.00 USD with preferred currencies of 3 customers, which are
    missing now: 10.00 USD would be expected`. Prices are missing where usage that had an amount has no price.
    """
    if before is None or not before.amounts:
        return ""
    if rating is None:
        return _both(before, " by a price book, which is missing now", None)
    given = before.basis.wallets if before.basis else {}
    unpriced = {(str(usage.customer_id), usage.metric_key) for usage in rating.unpriced}
    priced = {(line.key[0], line.key[1]) for line in before.amounts}
    metrics = {metric for _, metric in priced & (unpriced - {line.key[:2] for line in amount_lines(rating)})}
    prices = f"prices of {formatting.counted(len(metrics), 'metric')}" if metrics else ""
    what = _preferences([customer for customer in given if customer not in rating.wallets]) or prices
    return _both(before, f" with {what}, which are missing now", rating) if what else ""


def other_inputs(before: SignOff | None, rating: Rating | None) -> str:
    """What is expected by other prices or preferred currencies than at the sign-off before; "" if they are the same.

    Also "" where the amounts are the same nevertheless.
    """
    if before is None or before.basis is None or rating is None or dict(rating.totals) == before.amount_totals:
        return ""
    given, now = before.basis.wallets, rating.wallets
    other = _preferences([customer for customer, currency in now.items() if given.get(customer, currency) != currency])
    prices = "prices" if before.basis.prices_hash != rating.prices_hash else ""
    what = joined([*filter(None, (other, prices))])
    return _both(before, f", and {what} are others now", rating) if what else ""


def _preferences(customers: list[UUID | None]) -> str:
    """`preferred currencies of 3 customers and the organization`, or ""."""
    named = [formatting.counted(number, "customer")] if (number := len([*filter(None, customers)])) else []
    of = joined([*named, *(["the organization"] if None in customers else [])])
    return f"preferred currencies of {of}" if of else ""


def _both(before: SignOff, what: str, rating: Rating | None) -> str:
    """What the sign-off before expected, and what would be now."""
    name = f"the sign-off {str(before.id)[:8]} by {formatting.data_value(before.author)}"
    now = "nothing" if rating is None else _amounts(rating.totals)
    return f"{name} expected {_amounts(before.amount_totals)}{what}: {now} would be expected"


def _amounts(totals: Mapping[str, Decimal]) -> str:
    return joined(rounded_sums(totals.items())) or "nothing"
