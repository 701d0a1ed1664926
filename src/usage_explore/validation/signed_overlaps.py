"""Sign-offs whose periods have events in common: a change is counted in the last one that covers it.

A month may be signed in two time zones, or for all customers and then for one. An event that arrives late belongs to
the corrections of one of them, or billing would charge it several times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from usage_explore import formatting
from usage_explore.decimals import difference
from usage_explore.query import buckets
from usage_explore.query.queries import Period
from usage_explore.records.signoffs import Key, SignOff, period_words, signed_period
from usage_explore.validation.corrections import TakenOver, corrections
from usage_explore.validation.review import period_key
from usage_explore.validation.signed_amounts import amount_without
from usage_explore.validation.signed_periods import contains, covers, filter_values, has_filters_of, has_key, overlaps
from usage_explore.validation.signed_removals import TO_CHECK, with_digest
from usage_explore.validation.signed_usage import LATE, SIGNED_TWICE, Change, Changes, key_order
from usage_explore.validation.usage_sums import joined

if TYPE_CHECKING:
    from usage_explore.pricing.rating import Rating


@dataclass(frozen=True, slots=True)
class _Later:
    """The later sign-offs of a period that may have events of a signed one, newest first, with the changes since each.

    Without changes nothing but late events changed in the signed period.
    """

    signoffs: tuple[SignOff, ...]
    period: Period
    changes: tuple[Changes, ...]

    def change(self, key: Key) -> Change | None:
        """What changed since the oldest in the events of a key that it had signed, None without a change."""
        return _known_change(self.changes[-1], key) if self.changes else None

    def parts(self, key: Key) -> list[tuple[SignOff, Change]]:
        """That change by sign-off: from each to the next."""
        result, newer = [], None
        for one, changes in zip(self.signoffs, self.changes, strict=False):
            its = _known_change(changes, key)
            part = _without(its or Change(key, "changed or removed"), newer)
            result += [(one, part)] if _is_some(part) else []
            newer = its
        return result

    def holder(self, row: Change) -> SignOff:
        """The newest that has all of a change."""
        if row.amount is not None:
            return next((one for one in self.signoffs if one.amounts), self.signoffs[0])
        parts = self.parts(row.key)
        return parts[0][0] if len(parts) == 1 else self.signoffs[0]

    def is_compared(self, changes: Changes) -> bool:
        """Whether both have hashes of events, by which a key without a change is as it was signed."""
        return bool(self.changes) and not (self.changes[-1].content_note or changes.content_note)

    def may_have(self, changes: Changes, key: Key) -> bool:
        """Whether a change of known events of a key may be among its own: it is not if they are as it signed them."""
        return has_key(self.period, key) and (not self.is_compared(changes) or self.change(key) is not None)

    def has_all(self, changes: Changes, row: Change) -> bool:
        """Whether it has all of a change: nothing of it had been signed, and all is in its period."""
        if not self.is_compared(changes):
            return True
        its, slots = self.change(row.key), (changes.slots or {}, self.changes[-1].slots or {})
        period = signed_period(changes.signoff)
        there = {start: digest for start, digest in slots[1].items() if overlaps(period, start)}
        return (its is not None and its.digest == row.digest) or slots[0] == there

    def is_within(self, period: Period) -> bool | None:
        """Whether all of its changes of events that it had signed are in a period, or none; None if that is unknown."""
        changes = self.changes[-1] if self.changes else None
        if changes is None or not changes.slots or not _is_whole(changes):
            return None
        if not any(overlaps(period, start) for start in changes.slots):
            return False
        is_all = all(contains(period, start) for start in changes.slots)
        return True if is_all and has_filters_of(period, self.period) else None


def _known_change(changes: Changes, key: Key) -> Change | None:
    return next((row for row in changes.rows if row.key == key and row.reason not in LATE), None)


def _is_some(change: Change) -> bool:
    return bool(change.events or change.quantity or change.cost or change.digest)


def without_later(
    changes: Changes, later: Sequence[SignOff], rating: Rating | None = None, parts: Sequence[Changes] = ()
) -> Changes:
    """The changes without those that are, or may be, of later sign-offs that have a part of the events.

    What a later sign-off had signed is not among its changes, `parts`, and stays here. Late events are separated
    before. Other changes are separated by customer and metric, and by the quarters of an hour in which events changed:
    they are a later sign-off's if all of these are in its period, and it has as much. An amount goes with the usage
    that changed it, and is counted in a later sign-off only if that has amounts. Late events in both parts divide it by
    `rating`, if each unit has the same price; else their row says that it cannot be divided. `uncompared` counts what
    cannot be separated, such as a customer's metric with edits in both parts. What a retention policy removed is
    nothing to bill, and stays among the changes of each sign-off that has it, as does what cannot be distinguished from
    it. Of the oldest events that may have been deleted, each sign-off has its own: `parts` divides them. What that does
    not divide has a row to check without numbers.
    """
    if not later:
        return changes
    names = joined([f"{str(other.id)[:8]} ({period_words(other)})" for other in later])
    note = f"it has events in common with {names}, signed later: what changed in them since is counted there"
    by_period: dict[str, list[SignOff]] = {}
    for other in later:
        by_period.setdefault(period_key(signed_period(other)), []).append(other)
    by_id = {part.signoff.id: part for part in parts}
    others = [
        _Later(tuple(of_it), signed_period(of_it[0]), tuple(by_id[one.id] for one in of_it if one.id in by_id))
        for of_it in by_period.values()
    ]
    period = signed_period(changes.signoff)
    latest = [other.changes[0] for other in others if other.changes]
    rows, days = [row for row in changes.rows if row.reason == "arrived late"], False
    moved: list[tuple[tuple[SignOff, ...], Change]] = [((later[index],), row) for index, row in changes.shared]
    left: dict[str, list[Key]] = {"edits": [], "amounts": []}
    settled: set[Key] = set()

    def divide(row: Change, theirs: Sequence[tuple[SignOff, Change]]) -> bool:
        """Count a change here but for what later sign-offs have of it; whether something is left."""
        rest = _rest(row, theirs)
        rows.extend([rest] if rest else [])
        moved.extend(((one,), its) for one, its in theirs)
        settled.add(row.key)
        return rest is not None

    for row in changes.rows:
        if row.reason in LATE or row.reason == "expected amount":
            continue
        whose = _edit_of(changes, row, period, others)
        if _may_be_deleted(changes, row) and whose == "unknown":
            part = _common_part(changes, row, period, latest)
            taken = next((one for one in (part.rows if part else ()) if one.key == row.key and one.digest), None)
            if part is None:
                left["edits"].append(row.key)
            else:
                settled.add(row.key)
                moved += [((part.signoff,), replace(taken, reason=row.reason))] if taken else []
            if part is None or taken is None or taken.digest != row.digest:
                rows.append(_without(row, row, note=_UNDIVIDED) if part is None else _without(row, taken))
                days = days or part is not None
            continue
        if row.reason not in _REMOVED and (theirs := _divided(changes, row.key, others, period)):
            days = divide(row, theirs) or days
            continue
        if whose == "later" and (_may_be_deleted(changes, row) or row.reason not in _REMOVED):
            having = [other for other in others if other.may_have(changes, row.key)]
            theirs = [part for other in having for part in other.parts(row.key)]
            if fitting := [other for other in having if other.has_all(changes, row)]:
                is_known = fitting[0].is_compared(changes)
                moved.append(((fitting[0].holder(row),) if is_known else _holders(changes, row, others), row))
                settled.add(row.key)
            elif sum(part.digest for _, part in theirs) == row.digest:  # each has other events
                divide(row, theirs)
            else:
                left["edits"].append(row.key)
            continue
        is_in_doubt = row.reason in TO_CHECK
        if is_in_doubt and whose == "later":
            row = replace(row, reason="removed by retention or in a later sign-off")
        if whose == "own" or row.reason in _REMOVED:  # said in each sign-off
            rows.append(row)
            days = days or whose == "own"
            left["edits"] += [row.key] if is_in_doubt and whose == "unknown" else []
        else:
            left["edits"].append(row.key)
    for row in changes.rows:
        if row.reason != SIGNED_TWICE:
            continue
        # what changed in a later sign-off may be these events, which it had signed
        having = [] if row.key in settled else [other for other in others if other.change(row.key)]
        if all(other.is_within(period) is False for other in having):
            rows.append(row)
        elif theirs := _divided(changes, row.key, others, period):
            divide(row, theirs)
        else:
            left["edits"].append(row.key)
    for key in _only_there(changes, period, others):
        # such as an event that arrived before a later sign-off and was removed after it: both have the other change
        if theirs := _divided(changes, key, others, period):
            is_arrival = sum(its.events for _, its in theirs) < 0
            divide(Change(key, SIGNED_TWICE if is_arrival else "changed or removed"), theirs)
        else:
            left["edits"].append(key)
    with_amounts = [other for other in others if any(one.amounts for one in other.signoffs)]
    amounts: list[Change] = []
    changed_amounts = [row for row in changes.rows if row.amount is not None]
    in_both = {row.key[:2] for row in rows} & {row.key[:2] for _, row in moved}
    unchanged = changes.rated - {row.key for row in changed_amounts}  # what is added here may be taken off there
    zeros = [Change(key, "expected amount", amount=Decimal(0)) for key in unchanged if key[:2] in in_both]
    for row in [*changed_amounts, *sorted(zeros, key=lambda row: key_order(row.key))]:
        whose = _amount_of(changes, row, period, with_amounts, rows, moved, left["edits"])
        own = row.amount if whose == "own" else None
        is_lost = changes.has_other_prices or row.key[:2] in {key[:2] for key in left["edits"]}
        if whose == "unknown" and rating is not None and not is_lost:
            priced = [other for those, other in moved if all(one.amounts for one in those)]
            usage = [other for other in priced if other.key[:2] == row.key[:2]]
            own = amount_without(row, usage, rating) if usage else row.amount
        if own is None and whose == "unknown":
            left["amounts"].append(row.key)
            continue
        its = Decimal(difference(row.amount or Decimal(0), own or Decimal(0)))
        rows += [replace(row, amount=own)] if own else []
        amounts += [replace(row, amount=its)] if its else []
    for row in amounts:
        of_usage = {one.id for having, other in moved if other.key[:2] == row.key[:2] for one in having}
        holders = tuple(one for one in later if one.amounts and one.id in of_usage)
        moved.append((holders or _holders(changes, row, with_amounts), row))
    if any(row.reason == SIGNED_TWICE for row in rows):
        note += "; what had arrived before that is counted here, and in what was signed there: bill it once"
    if left["edits"]:
        edits = formatting.counted(len(left["edits"]), "other change")
        note += f"; {edits} of usage cannot be distinguished from those there"
    if left["amounts"]:
        changed = formatting.counted(len(left["amounts"]), "changed expected amount")
        note += f"; {changed} cannot be distinguished from those there"
    if any(left.values()):
        note += "; sign this period again to count them"
    where = joined([str(other.id)[:8] for other in later if other.amounts])
    unknown = f"its amount cannot be separated from that in {where}: sign this period again"
    undivided = {key[:2] for key in left["amounts"]}
    return replace(
        changes,
        rows=tuple(replace(row, note=unknown) if row.key[:2] in undivided else row for row in rows),
        days=_own_days(changes, period, [other.period for other in others]) if days else (),
        overlap_note=note,
        taken_over=_taken_over(moved, changes.wallets),
        uncompared=sum(map(len, left.values())),
        unpriced_events=0 if with_amounts else changes.unpriced_events,
    )


_REMOVED = TO_CHECK | {"removed by retention"}
"""Reasons of rows that are said in each sign-off that has them."""

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
    having = [(part, its) for part in parts if has_key(its := signed_period(part.signoff), row.key)]
    slots = changes.slots or {}
    shared = {start: slots[start] for start in slots if any(overlaps(its, start) for _, its in having)}
    part = next((one for one, its in having if one.slots == shared and has_filters_of(its, period)), None)
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


def _only_there(changes: Changes, period: Period, others: Sequence[_Later]) -> list[Key]:
    """The keys of which a later sign-off has changes of events of a period, which has none."""
    found: set[Key] = set()
    for other in others:
        if not other.is_compared(changes) or other.is_within(period) is False:
            continue
        slots = other.changes[-1].slots or {}
        here = {start: digest for start, digest in slots.items() if overlaps(period, start)}
        mine = {start: digest for start, digest in (changes.slots or {}).items() if overlaps(other.period, start)}
        if here != mine:
            keys = {row.key for row in other.changes[-1].rows if row.reason not in LATE | _REMOVED}
            found |= {key for key in keys if has_key(period, key)}
    own = {row.key for row in changes.rows if row.amount is None and row.reason != "arrived late"}
    return sorted(found - own, key=key_order)


def _rest(row: Change, theirs: Iterable[tuple[SignOff, Change]]) -> Change | None:
    """A change without what later sign-offs have of it; None if nothing is left."""
    for _, its in theirs:
        row = _without(row, its)
    is_counted = bool(row.events or row.quantity or row.cost)
    if row.reason in LATE or not row.digest:
        return row if is_counted else None
    return replace(row, reason="changed or removed" if is_counted else "edited")


def _divided(changes: Changes, key: Key, others: Sequence[_Later], period: Period) -> list[tuple[SignOff, Change]]:
    """What later sign-offs have of the changes of a key, if these are the same; [] if that is unknown.

    It is where one of several later periods had signed late events of another one: they may be what changed in it.
    """
    if any(row.key == key for _, row in changes.shared) and sum(has_key(other.period, key) for other in others) > 1:
        return []
    having = [(other, its.digest) for other in others if (its := other.change(key))]
    is_one = len({digest for _, digest in having}) == 1  # several that have the same events: the newest counts them
    return having[0][0].parts(key) if is_one and all(other.is_within(period) for other, _ in having) else []


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
        if has_filters_of(other, period)
        and filter_values(other, "customer_id") in (set(), filter_values(period, "customer_id"))
        and filter_values(other, "metric_key") in (set(), filter_values(period, "metric_key"))
    ]
    own = [start for start in changes.slots if not any(contains(other, start) for other in every)]
    days = {buckets.local_date(start, period.zone) for start in own}
    return tuple(day for day in changes.days if day in days)


Whose = Literal["own", "later", "unknown"]
"""Whether a change is counted in a sign-off, or in a later one that has a part of its events."""


def _by_periods(period: Period, others: Sequence[Period]) -> Whose | None:
    """Whose a change is where a later period has all events of the signed one, or none; None where it has a part."""
    if any(covers(other, period) for other in others):
        return "later"
    return None if others else "own"


def _edit_of(changes: Changes, row: Change, period: Period, later: Sequence[_Later]) -> Whose:
    """Whose a change of known events is, by the quarters of an hour in which any event of the period changed."""
    having = [other for other in later if has_key(other.period, row.key)]
    others = [other.period for other in having if other.may_have(changes, row.key)]
    if whose := _by_periods(period, others):
        return whose
    if not changes.slots:
        return "unknown"
    inside = [other for other in others if has_filters_of(other, period)]
    own: list[datetime] = []
    shared: list[datetime] = []
    for start in changes.slots:
        if any(contains(other, start) for other in inside):
            shared.append(start)
        elif not any(overlaps(other, start) for other in others):
            own.append(start)
        else:
            return "unknown"
    if not own or not shared:
        return "later" if shared else "own"
    if len(having) < len(later):
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


def _holders(changes: Changes, row: Change, later: Sequence[_Later]) -> tuple[SignOff, ...]:
    """The newest of the later sign-offs that has a change which one of them has; all that may, if that is unknown."""
    period = signed_period(changes.signoff)
    having = [other for other in later if has_key(other.period, row.key)]
    having = [other for other in having if row.amount is not None or other.may_have(changes, row.key)]
    inside = [other.period for other in having if has_filters_of(other.period, period)]
    shared = [start for start in changes.slots or () if any(contains(its, start) for its in inside)]
    for other in having:
        if covers(other.period, period):
            return (other.holder(row),)
        within = [start for start in shared if overlaps(other.period, start)]
        if other.period in inside and shared and within == shared:
            return (other.holder(row),)
        if within or not shared:
            break
    return tuple(other.holder(row) for other in having)


def _amount_of(
    changes: Changes,
    row: Change,
    period: Period,
    later: Sequence[_Later],
    rows: Iterable[Change],
    moved: Iterable[tuple[tuple[SignOff, ...], Change]],
    unknown: Collection[Key],
) -> Whose:
    """Whose a change of an expected amount is: that of the usage of its customer and metric that changed.

    `later` are the sign-offs that have amounts, `rows` the usage that is counted here, `moved` that of later ones,
    `unknown` the keys of which that is unknown.
    """
    whose = _by_periods(period, [other.period for other in later if has_key(other.period, row.key)])
    if whose == "own":
        return whose
    if any(key[:2] == row.key[:2] for key in unknown):
        return "unknown"
    found: set[Whose] = {"own" for own in rows if own.key[:2] == row.key[:2] and own.amount is None}
    of_later = [having for having, other in moved if other.key[:2] == row.key[:2]]
    found |= {"later" if any(one.amounts for one in having) else "own" for having in of_later}
    if whose and found <= {whose}:
        return whose
    return "unknown" if changes.has_other_prices or len(found) != 1 else found.pop()
