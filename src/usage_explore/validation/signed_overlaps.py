"""Sign-offs whose periods have events in common: a change is counted in the last one that covers it.

A month may be signed in two time zones, or for all customers and then for one. An event that arrives late belongs to
the corrections of one of them, or billing would charge it several times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from usage_explore import formatting
from usage_explore.decimals import difference
from usage_explore.query import buckets
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import SLOT, Key, SignOff
from usage_explore.validation.corrections import TakenOver, corrections
from usage_explore.validation.signed_amounts import amount_without
from usage_explore.validation.signed_periods import filter_values
from usage_explore.validation.signed_removals import TO_CHECK, with_digest
from usage_explore.validation.signed_usage import Change, Changes, period_words, signed_period
from usage_explore.validation.usage_sums import joined

if TYPE_CHECKING:
    from usage_explore.pricing.rating import Rating

_NOT_FILTERS = {"since", "until", "window", "timezone", "as_of", "finalized_at", "organization_id"}


def without_later(
    changes: Changes, later: Sequence[SignOff], rating: Rating | None = None, parts: Sequence[Changes] = ()
) -> Changes:
    """The changes without those that are, or may be, of later sign-offs that have a part of the events.

    Late events are separated before. Other changes are separated by customer and metric, and by the quarters of an hour
    in which events changed: they are a later sign-off's if all of these are in its period. An amount goes with the
    usage that changed it, and is counted in a later sign-off only if that has amounts. Late events in both parts divide
    it by `rating`, if each unit has the same price; else their row says that it cannot be divided. `uncompared` counts
    what cannot be separated, such as a customer's metric with edits in both parts. What a retention policy removed is
    nothing to bill, and stays among the changes of each sign-off that has it, as does what cannot be distinguished from
    it. Of the oldest events that may have been deleted, each sign-off has its own: `parts`, what changed in the later
    sign-offs, divides them. What that does not divide has a row to check without numbers.
    """
    if not later:
        return changes
    names = joined([f"{str(other.id)[:8]} ({period_words(other)})" for other in later])
    note = f"it has events in common with {names}, signed later: what changed in them is counted there"
    rows, days = [], False
    moved: list[tuple[tuple[SignOff, ...], Change]] = [((later[index],), row) for index, row in changes.shared]
    amounts = []
    left = {"edits": 0, "amounts": 0}
    undivided: set[tuple[str, str]] = set()
    divided: dict[Key, tuple[SignOff, Change] | None] = {}
    period, periods = signed_period(changes.signoff), [signed_period(other) for other in later]
    priced = [each for each, other in zip(periods, later, strict=True) if other.amounts]
    for row in changes.rows:
        if row.reason == "arrived late":
            rows.append(row)
            continue
        is_amount = row.reason == "expected amount"
        whose = _amount_of(changes, row, period, priced) if is_amount else _edit_of(changes, row, period, periods)
        if is_amount and whose == "unknown" and rating is not None:
            own = _own_amount(changes, row, period, later, priced, rating, divided)
            if own is not None and row.amount is not None:
                rows += [replace(row, amount=own)] if own else []
                rest = Decimal(difference(row.amount, own))
                amounts += [replace(row, amount=rest)] if rest else []
                continue
        if _may_be_deleted(changes, row) and whose == "unknown":
            part = _common_part(changes, row, period, parts)
            its = () if part is None else part.rows
            taken = next((one for one in its if one.key == row.key and one.digest), None)
            if part is None:
                left["edits"] += 1
            else:
                divided[row.key] = (part.signoff, replace(taken, reason=row.reason)) if taken else None
            if part is None or taken is None or taken.digest != row.digest:
                rows.append(_without(row, row, note=_UNDIVIDED) if part is None else _without(row, taken))
                days = days or part is not None
            continue
        if _may_be_deleted(changes, row) and whose == "later":
            moved.append((_holders(changes, row, later), row))
            continue
        is_in_doubt = row.reason in TO_CHECK
        is_removed = is_in_doubt or row.reason == "removed by retention"  # said in each sign-off
        if is_in_doubt and whose == "later":
            row = replace(row, reason="removed by retention or in a later sign-off")
        if whose == "own" or is_removed:
            rows.append(row)
        if whose == "own":
            days = days or not is_amount
        elif is_removed:
            left["edits"] += is_in_doubt and whose == "unknown"
        elif whose == "unknown":
            left["amounts" if is_amount else "edits"] += 1
            undivided |= {row.key[:2]} if is_amount else set()
        elif is_amount:
            amounts.append(row)
        else:
            moved.append((_holders(changes, row, later), row))
    moved += [((having[0],), having[1]) for having in divided.values() if having]
    with_amounts = [other for other in later if other.amounts]
    for row in amounts:
        of_usage = {one.id for having, other in moved if other.key[:2] == row.key[:2] for one in having}
        holders = tuple(other for other in with_amounts if other.id in of_usage and _has(signed_period(other), row.key))
        moved.append((holders or _holders(changes, row, with_amounts), row))
    if left["edits"]:
        edits = formatting.counted(left["edits"], "other change")
        note += f"; {edits} of usage cannot be distinguished from those there"
    if left["amounts"]:
        changed = formatting.counted(left["amounts"], "changed expected amount")
        note += f"; {changed} cannot be distinguished from those there"
    if any(left.values()):
        note += "; sign this period again to count them"
    where = joined([str(other.id)[:8] for other in with_amounts])
    unknown = f"its amount cannot be separated from that in {where}: sign this period again"
    return replace(
        changes,
        rows=tuple(replace(row, note=unknown) if row.key[:2] in undivided else row for row in rows),
        days=_own_days(changes, period, periods) if days else (),
        overlap_note=note,
        taken_over=_taken_over(moved, changes.wallets),
        uncompared=sum(left.values()),
        unpriced_events=0 if priced else changes.unpriced_events,
    )


_UNDIVIDED = "how many of its events are gone apart from a later sign-off's is not known: sign this period again"


def _may_be_deleted(changes: Changes, row: Change) -> bool:
    """Whether a row of the oldest events may be a credit, which one sign-off alone may count."""
    if row.reason == "removed by retention or otherwise":
        return changes.removals is not None and changes.removals.may_be_deleted
    return row.reason == "removed by retention or deleted"


def _common_part(changes: Changes, row: Change, period: Period, parts: Sequence[Changes]) -> Changes | None:
    """The changes of the later sign-off that has all of a row's which later ones have, and no others; None if unknown.

    It is known where both have the same changes of hashes in the quarters of an hour that they have in common.
    """
    having = [(part, its) for part in parts if _has(its := signed_period(part.signoff), row.key)]
    slots = changes.slots or {}
    shared = {start: slots[start] for start in slots if any(_overlaps(its, start) for _, its in having)}
    part = next((one for one, its in having if one.slots == shared and _has_filters_of(its, period)), None)
    return part if part is not None and _is_whole(changes) and _is_whole(part) else None


def _without(row: Change, taken: Change | None, note: str = "") -> Change:
    """A change without a part of it."""
    if taken is None:
        return row
    return replace(
        row,
        events=row.events - taken.events,
        quantity=Decimal(difference(row.quantity, taken.quantity)),
        cost=Decimal(difference(row.cost, taken.cost)),
        digest=row.digest - taken.digest,
        note=note,
    )


def _is_whole(changes: Changes) -> bool:
    """Whether the quarters of an hour have all that changed: those that a policy removed are left out there."""
    return changes.slots is not None and sum(row.digest for row in changes.rows) == sum(changes.slots.values())


def _own_days(changes: Changes, period: Period, later: Sequence[Period]) -> tuple[date, ...]:
    """The changed days without those of which all changed quarters of an hour are those of a later period as well."""
    if not changes.slots:
        return changes.days
    every = [
        other
        for other in later
        if _has_filters_of(other, period)
        and filter_values(other, "customer_id") in (set(), filter_values(period, "customer_id"))
        and filter_values(other, "metric_key") in (set(), filter_values(period, "metric_key"))
    ]
    own = [start for start in changes.slots if not any(_contains(other, start) for other in every)]
    days = {buckets.local_date(start, period.zone) for start in own}
    return tuple(day for day in changes.days if day in days)


Whose = Literal["own", "later", "unknown"]
"""Whether a change is counted in a sign-off, or in a later one that has a part of its events."""


def _by_periods(period: Period, others: Sequence[Period]) -> Whose | None:
    """Whose a change is where a later period has all events of the signed one, or none; None where it has a part."""
    if any(_covers(other, period) for other in others):
        return "later"
    return None if others else "own"


def _edit_of(changes: Changes, row: Change, period: Period, later: Sequence[Period]) -> Whose:
    """Whose a change of known events is, by the quarters of an hour in which any event of the period changed."""
    others = [other for other in later if _has(other, row.key)]
    if whose := _by_periods(period, others):
        return whose
    if not changes.slots:
        return "unknown"
    inside = [other for other in others if _has_filters_of(other, period)]
    own: list[datetime] = []
    shared: list[datetime] = []
    for start in changes.slots:
        if any(_contains(other, start) for other in inside):
            shared.append(start)
        elif not any(_overlaps(other, start) for other in others):
            own.append(start)
        else:
            return "unknown"
    if not own or not shared:
        return "later" if shared else "own"
    if len(others) < len(later):
        return "unknown"  # other rows are of other sign-offs
    found = with_digest(changes.rows, sum(changes.slots[start] for start in own))
    return "unknown" if found is None else "own" if row in found else "later"


def _taken_over(
    moved: Iterable[tuple[tuple[SignOff, ...], Change]], wallets: Mapping[UUID | None, str]
) -> tuple[TakenOver, ...]:
    """The corrections of changes that later sign-offs have, by these sign-offs, the newest first."""
    rows: dict[tuple[UUID, ...], list[Change]] = {}
    holders = {}
    for signoffs, row in moved:
        key = tuple(one.id for one in signoffs)
        holders[key] = signoffs
        rows.setdefault(key, []).append(row)
    result = []
    for key, signoffs in sorted(holders.items(), key=lambda item: item[1][0].signed_at, reverse=True):
        lines = tuple(line for line in corrections(rows[key], wallets) if line.correction != "none")
        if lines:
            result.append(TakenOver(signoffs=signoffs, corrections=lines))
    return tuple(result)


def _holders(changes: Changes, row: Change, later: Sequence[SignOff]) -> tuple[SignOff, ...]:
    """The newest of the later sign-offs that has a change which one of them has; all that may, if that is unknown."""
    period = signed_period(changes.signoff)
    having = [(other, its) for other in later if _has(its := signed_period(other), row.key)]
    inside = [its for _, its in having if _has_filters_of(its, period)]
    shared = [start for start in changes.slots or () if any(_contains(its, start) for its in inside)]
    for other, its in having:
        if _covers(its, period):
            return (other,)
        within = [start for start in shared if _overlaps(its, start)]
        if its in inside and shared and within == shared:
            return (other,)
        if within or not shared:
            break
    return tuple(other for other, _ in having)


def _amount_of(changes: Changes, row: Change, period: Period, later: Sequence[Period]) -> Whose:
    """Whose a change of an expected amount is: that of the usage of its customer and metric that changed."""
    if whose := _by_periods(period, [other for other in later if _has(other, row.key)]):
        return whose
    same = [other for other in changes.rows if other.key[:2] == row.key[:2] and other.reason != "expected amount"]
    found = {"own" if other.reason == "arrived late" else _edit_of(changes, other, period, later) for other in same}
    found |= {"later"} if any(late.key[:2] == row.key[:2] for _, late in changes.shared) else set()
    if changes.has_other_prices or len(found) != 1:
        return "unknown"
    return found.pop()


def _own_amount(
    changes: Changes,
    row: Change,
    period: Period,
    later: Sequence[SignOff],
    priced: Sequence[Period],
    rating: Rating,
    divided: Mapping[Key, tuple[SignOff, Change] | None],
) -> Decimal | None:
    """The part of a changed amount that is not of events in later sign-offs; None if it cannot be divided.

    `priced` are the periods of those later sign-offs that have amounts, `divided` what they have of removed events.
    """
    same = [other for other in changes.rows if other.key[:2] == row.key[:2] and other.amount is None]
    known = [other for other in same if other.reason != "arrived late" and other.key not in divided]
    if changes.has_other_prices or any(_edit_of(changes, other, period, priced) != "own" for other in known):
        return None
    taken = [late for index, late in changes.shared if late.key[:2] == row.key[:2] and later[index].amounts]
    having = [of_key for key, of_key in divided.items() if of_key and key[:2] == row.key[:2]]
    taken += [one for other, one in having if other.amounts]
    return amount_without(row, taken, rating) if taken else row.amount


def _overlaps(period: Period, start: datetime) -> bool:
    """Whether a quarter of an hour has a part in a period."""
    return period.span[0] < start + SLOT and start < period.span[1]


def _contains(period: Period, start: datetime) -> bool:
    return period.span[0] <= start and start + SLOT <= period.span[1]


def _covers(later: Period, period: Period) -> bool:
    """Whether a later period has all events of a period of its customer and metrics, which are columns of rows."""
    is_within = later.span[0] <= period.span[0] and period.span[1] <= later.span[1]
    return is_within and _has_filters_of(later, period)


def _has_filters_of(later: Period, period: Period) -> bool:
    """Whether a later period has no other filters than a period, but by customer and metric."""
    given = period.given()
    others = {
        name: value
        for name, value in later.given().items()
        if name not in _NOT_FILTERS and name not in ("customer_id", "metric_key")
    }
    return all(given.get(name) == value for name, value in others.items())


def _has(later: Period, key: Key) -> bool:
    """Whether a customer and metric are of a period."""
    customers, metrics = filter_values(later, "customer_id"), later.metric_key
    return (not customers or UUID(key[0]) in customers) and (not metrics or key[1] in metrics)
