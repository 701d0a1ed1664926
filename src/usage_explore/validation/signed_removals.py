"""What is gone of a signed period where older events were removed: by that removal, or otherwise.

The removal is by retention, which is nothing to bill, where a policy of TimescaleDB explains it. Else it may be the
deletion of some of the oldest events, which is a credit: billing has to check.

Numbers and hashes of events are signed by quarter of an hour (in older sign-offs by day), customers and metrics only
for the whole period. So the events that are gone after the first event that exists are known by number and time. Whose
they are is known where hashes tell it: if the changed hashes of some customers' metrics add up to those of the later
quarters of an hour, these changed only there, and the others only before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import chain, combinations, islice
from typing import TYPE_CHECKING

from usage_explore import formatting
from usage_explore.query import buckets
from usage_explore.query.queries import Period
from usage_explore.query.validators import EARLIEST
from usage_explore.records.signoffs import SLOT, DayLine, SlotLine

if TYPE_CHECKING:
    from usage_explore.validation.signed_usage import Change, Reason

_RETENTION = "before {}, removed by retention"
_DELETED = f"{_RETENTION}, or deleted"

WORDS: dict[Reason, str] = {
    "removed by retention": f"{{}} {_RETENTION}",
    "removed by retention or deleted": f"{{}} {_DELETED}, which is a credit: billing has to check",
    "removed by retention or in a later sign-off": f"{{}} {_DELETED}; what is a credit is counted in a later sign-off",
}
"""What is said of rows of these reasons, with numbers and the time before which events were removed."""

MAX_TRIED_COMBINATIONS = 4096
"""Combinations of rows whose hashes are added up to find those of some quarters of an hour: all of 12 rows."""

REMOVED = {"removed by retention", "removed by retention or in a later sign-off"}
"""Reasons of which nothing is to be billed, nor signed again."""

IN_DOUBT = {"removed by retention or otherwise", "removed by retention or in a later sign-off"}
"""Reasons of rows of which some events may be gone otherwise than by retention, after the first one that exists."""

TO_CHECK = {"removed by retention or deleted", "removed by retention or otherwise"}
"""Reasons of rows of which billing has to find out how much is a credit."""

Lines = Sequence[SlotLine] | Sequence[DayLine]

_NOTHING = 0, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Removals:
    """What changed among the signed events before and after the first event that exists: numbers now minus signed.

    `at_boundary` are those of `before` in the quarter of an hour, or day, in which that event is: some may be of later
    removals. `has_less_before`: some quarter of an hour before has fewer events; `may_be_deleted`: one that no policy
    explains. `is_changed_after`: events after it changed; `digest_after` is by how much the sum of their hashes did,
    None if hashes cannot be compared.
    """

    before: int
    after: int
    at_boundary: int
    unit: str
    has_less_before: bool
    may_be_deleted: bool
    is_changed_after: bool
    digest_after: int | None

    def words(self, reason: Reason, boundary: str, rows: int) -> str:
        """What is gone before the boundary, and after it, for a reason in doubt, of which there are some rows."""
        cause = (_DELETED if self.may_be_deleted else _RETENTION).format(boundary)
        text = f"{formatting.signed_events(self.before)} {cause}"
        if reason == "removed by retention or in a later sign-off":
            credit = "is a credit or " if self.may_be_deleted else ""
            return f"{text}; what {credit}changed after that time is counted in a later sign-off"
        later = formatting.signed_events(self.after) if self.after else "events"
        totals = f"{formatting.counted(rows, 'total')} by customer and metric"
        return (
            f"{text}, and {later} after that time, changed or removed: whose they are is not known, so billing has to"
            f" check {totals}"
        )

    def boundary_words(self) -> str:
        """Which events before the boundary may be later removals; "" if none, or if billing checks all of them."""
        if self.at_boundary >= 0 or self.may_be_deleted:
            return ""
        events = formatting.signed_events(self.at_boundary)
        return f"{events} of these, in the {self.unit} of that time, may be later removals"


def removals(
    signed: Lines,
    now: Lines,
    first: datetime,
    period: Period,
    has_hashes: bool,
    policy: datetime | None,
) -> Removals | None:
    """The removals by the lines that were signed, and the same of now; None without lines.

    `first` is the time before which events were removed, `policy` the one before which a policy did, None without it.
    """
    if not signed:
        return None
    lines = [{_at(line): (line.events, line.digest) for line in each} for each in (signed, now)]
    by_slot = isinstance(signed[0], SlotLine)
    unit_of_first: date = first - (first - EARLIEST) % SLOT if by_slot else buckets.local_date(first, period.zone)
    is_inside = unit_of_first != first if by_slot else buckets.day_start(unit_of_first, period.zone) != first
    before = after = at_boundary = digest_after = 0
    has_less_before = may_be_deleted = is_changed_after = False
    for at in {*lines[0], *lines[1]}:
        (events, digest), (events_now, digest_now) = (each.get(at, _NOTHING) for each in lines)
        more = events_now - events
        if at > unit_of_first or (at == unit_of_first and not is_inside):
            after += more
            digest_after += digest_now - digest
            is_changed_after |= bool(more) or (has_hashes and digest_now != digest)
        else:
            before += more
            has_less_before |= more < 0
            may_be_deleted |= more < 0 and (policy is None or _start(at, period) >= policy)
            at_boundary += more if at == unit_of_first else 0
    return Removals(
        before=before,
        after=after,
        at_boundary=at_boundary,
        unit="quarter of an hour" if by_slot else "day",
        has_less_before=has_less_before,
        may_be_deleted=may_be_deleted,
        is_changed_after=is_changed_after,
        digest_after=digest_after if has_hashes else None,
    )


def _at(line: SlotLine | DayLine) -> date:
    return line.start if isinstance(line, SlotLine) else line.day


def _start(at: date, period: Period) -> datetime:
    return at if isinstance(at, datetime) else buckets.day_start(at, period.zone)


def by_cause(rows: Sequence[Change], found: Removals | None, policy: datetime | None) -> list[Change]:
    """The changes where older events were removed: each by that, otherwise, or by one of both, unknown which.

    Of sign-offs without numbers by time, fewer events are taken for removed ones, by a policy if there is one.
    """
    if found is not None and not found.has_less_before:
        return list(rows)
    may_be_deleted = policy is None if found is None else found.may_be_deleted
    if found is None or not found.is_changed_after:
        return [_removed(row, may_be_deleted) for row in rows]
    later = None if found.digest_after is None else with_digest(rows, found.digest_after)
    if later is None:
        return [_in_doubt(row) for row in rows]
    keys = {row.key for row in later}
    return [row if row.key in keys else _removed(row, may_be_deleted) for row in rows]


def _removed(row: Change, may_be_deleted: bool) -> Change:
    if row.reason != "changed or removed" or row.events >= 0:
        return row
    return replace(row, reason="removed by retention or deleted" if may_be_deleted else "removed by retention")


def _in_doubt(row: Change) -> Change:
    return replace(row, reason="removed by retention or otherwise") if row.reason == "changed or removed" else row


def with_digest(rows: Sequence[Change], digest: int) -> tuple[Change, ...] | None:
    """The rows whose changes of hashes add up to this one; None if there are none, or too many to try.

    Hashes have 64 bits: other rows do not add up to it by chance. A customer's metric that changed in both parts has no
    such rows, nor have the others then. Tried are the rows without fewer events, then few rows, and all but few.
    """
    changed = [row for row in rows if row.digest]
    whole = sum(row.digest for row in changed)
    few = chain.from_iterable(combinations(changed, number) for number in range(len(changed) + 1))
    kept = tuple(row for row in changed if row.events >= 0)
    for chosen in chain([kept], islice(few, MAX_TRIED_COMBINATIONS)):
        added = sum(row.digest for row in chosen)
        if added == digest:
            return tuple(chosen)
        if added == whole - digest:
            others = {row.key for row in chosen}
            return tuple(row for row in changed if row.key not in others)
    return None
