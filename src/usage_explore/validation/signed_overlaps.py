"""Sign-offs whose periods have events in common: a change is counted in the last one that covers it.

A month may be signed in two time zones, or for all customers and then for one. An event that arrives late belongs to
the corrections of one of them, or billing would charge it several times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from usage_explore import formatting
from usage_explore.errors import QueryError
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import Key, SignOff
from usage_explore.validation.review import period_key
from usage_explore.validation.signed_usage import Change, Changes, period_words, signed_period

_EXACT_COLUMNS = (*ID_COLUMNS, "metric_key", "price_key")
"""Columns whose filters have no event in common if their values have none."""

_NOT_FILTERS = {"since", "until", "window", "timezone", "as_of", "finalized_at", "organization_id"}


def latest_of_periods(signed: Iterable[SignOff]) -> list[SignOff]:
    """The last sign-off of each period, of sign-offs that are in order, newest first."""
    latest: dict[str, SignOff] = {}
    for one in signed:
        try:
            key = period_key(signed_period(one))
        except QueryError:
            key = one.params
        latest.setdefault(key, one)
    return list(latest.values())


def last_signoff(signed: Iterable[SignOff], period: Period) -> SignOff | None:
    """The last sign-off of a resolved period with its filters, of sign-offs that are in order, newest first."""
    key = period_key(period)

    def is_of_it(one: SignOff) -> bool:
        try:
            return period_key(signed_period(one)) == key
        except QueryError:
            return False

    return next(filter(is_of_it, signed), None)


def overlapping(signoff: SignOff, signed: Iterable[SignOff]) -> tuple[SignOff, ...]:
    """The later sign-offs of other periods that may have events of this one, as far as this version can read them."""
    period = signed_period(signoff)
    result = []
    for other in signed:
        if other.signed_at <= signoff.signed_at:
            continue
        try:
            later = signed_period(other)
        except QueryError:
            continue
        is_other = period_key(later) != period_key(period)
        if is_other and later.span[0] < period.span[1] and period.span[0] < later.span[1]:
            both = ((_filter_values(period, name), _filter_values(later, name)) for name in _EXACT_COLUMNS)
            if not any(one and two and not one & two for one, two in both):
                result.append(other)
    return tuple(result)


def without_later(changes: Changes, later: Sequence[SignOff]) -> Changes:
    """The changes without those that are, or may be, of later sign-offs that have a part of the events.

    Late events are separated before. Other changes and expected amounts are separated by customer and metric if the
    later sign-offs cover the whole time. Amounts are counted in a later sign-off only if it has amounts.
    """
    if not later:
        return changes
    names = formatting.listed([f"{str(other.id)[:8]} ({period_words(other)})" for other in later], most=3)
    note = f"it has events in common with {names}, signed later: what changed in them is counted there"
    late = [row for row in changes.rows if row.reason == "arrived late"]
    edits = [row for row in changes.rows if row.reason not in ("arrived late", "expected amount")]
    amounts = [row for row in changes.rows if row.reason == "expected amount"]
    priced = [other for other in later if other.amounts]
    kept_edits, kept_amounts = _told_apart(changes, edits, later), _told_apart(changes, amounts, priced)
    uncompared = 0
    if kept_edits is None:
        uncompared += sum(row.reason != "removed by retention" for row in edits)
        note += "; other changes than late events are not compared"
    if kept_amounts is None:
        uncompared += len(amounts)
        note += "; expected amounts are not compared"
    if None in (kept_edits, kept_amounts):
        note += "; sign this period again to compare them"
    return replace(
        changes,
        rows=(*late, *(kept_edits or ()), *(kept_amounts or ())),
        days=changes.days if kept_edits else (),
        overlap_note=note,
        uncompared=uncompared,
        unpriced_events=0 if priced else changes.unpriced_events,
    )


def _told_apart(changes: Changes, rows: Sequence[Change], later: Sequence[SignOff]) -> list[Change] | None:
    """The rows that are of no later sign-off; None if that is unknown."""
    period, others = signed_period(changes.signoff), [signed_period(other) for other in later]
    if not all(_covers(other, period) for other in others):
        return None
    return [row for row in rows if not any(_has(other, row.key) for other in others)]


def _filter_values(period: Period, name: str) -> set[Any]:
    """The values to which a period is filtered by a column; none without a filter."""
    value = getattr(period, name)
    return set(value) if isinstance(value, tuple) else set() if value is None else {value}


def _covers(later: Period, period: Period) -> bool:
    """Whether a later period has all events of a period of its customer and metrics, which are columns of rows."""
    given = period.given()
    others = {
        name: value
        for name, value in later.given().items()
        if name not in _NOT_FILTERS and name not in ("customer_id", "metric_key")
    }
    is_within = later.span[0] <= period.span[0] and period.span[1] <= later.span[1]
    return is_within and all(given.get(name) == value for name, value in others.items())


def _has(later: Period, key: Key) -> bool:
    """Whether a customer and metric are of a period."""
    customers, metrics = _filter_values(later, "customer_id"), later.metric_key
    return (not customers or UUID(key[0]) in customers) and (not metrics or key[1] in metrics)
