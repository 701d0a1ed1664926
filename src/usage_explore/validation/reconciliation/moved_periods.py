"""Lines that have the usage of another period: all those of a customer that differ, and none that is exact.

A wrong line is easily off by what lies between some two periods: with a few events a day there are many, and one of
them gives any small number. So a period is recognized by all lines of a customer together. A line that is exact, while
the other period would change it, speaks against that; the lines that it explains must outnumber those that it does not;
and together they must be no coincidence (`MIN_EVIDENCE`): a line counts as much as there are numbers that the periods
could have given it, and the less the more of the tried periods give its number.

A period that is recognized so explains more: usage of a single day that has no line, lines without usage, and what
looks like a swap of two customers (`period_echoes`); and quantities that are no sum, see `rated_periods`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from usage_explore.decimals import difference, total
from usage_explore.formatting import span_in
from usage_explore.validation.reconciliation.causes import (
    MAX_SHIFT,
    MIN_MOVED_EVENTS,
    MIN_SHIFTED_ROWS,
    PERIOD,
    SAME_DIFFERENCE,
    Cause,
    Moved,
    Shift,
    UsageAtEnds,
    set_cause,
    shifts,
)
from usage_explore.validation.reconciliation.compare import QUANTITY_STATUSES, QUARTER, Row
from usage_explore.validation.reconciliation.recomputed_causes import MIN_EVIDENCE

_UNLIKELY = 10
"""How many times as much evidence a shift needs that is neither of whole days nor to UTC, as there are
many more of those."""

_HOUR_QUARTERS = 4


@dataclass(frozen=True, eq=False)
class _Line:
    """A row with the change of its quantity by each shift that changes it, and how much evidence its number is."""

    row: Row
    changes: Mapping[Shift, Decimal]
    moved: Mapping[Shift, int]
    fitting: frozenset[Shift]
    evidence: float


@dataclass(frozen=True)
class Recognized:
    """A shift that is a cause, of some customers, or of the invoice: None. `alike` explain the same `rows`."""

    shift: Shift
    customers: frozenset[object] | None
    rows: list[Row]
    alike: tuple[Shift, ...] = ()

    def concerns(self, row: Row) -> bool:
        """Whether it may be the cause of further rows of the row's customer."""
        return self.customers is None or row.key[0] in self.customers


def period_causes(
    rows: Iterable[Row],
    at_ends: UsageAtEnds,
    added: Callable[[Row, Moved], Decimal | None],
    tolerance: Decimal,
    span: tuple[datetime, datetime],
    zone: ZoneInfo,
) -> list[Recognized]:
    """Set the cause of open rows of customers that are invoiced the usage of a moved period.

    `rows` are all rows of the customers whose quantity is a sum, exact ones too. `added` is the change of a row's
    quantity by a shift. A shift that is the cause of most lines is one of the invoice.
    """
    utc = in_utc(span, zone)
    tried = _tried(span, zone, utc)
    customers: dict[object, list[_Line]] = {}
    for row in rows:
        if row.lines and row.usage is not None and row.usage.quantity.is_finite() and row.key in at_ends:
            customers.setdefault(row.key[0], []).append(_line(row, at_ends, added, tried, tolerance))
    claims = {shift: _claims(shift, customers, tolerance) for shift in tried}

    def rank(shift: Shift) -> tuple[object, ...]:
        lines = sum(map(len, claims[shift].values()))
        is_of_zone = not shift.is_of_days and shift in _of_zones(span, zone)
        return -lines, shift != utc, not shift.is_of_days, not is_of_zone, abs(shift.start) + abs(shift.end), shift

    wrong = sum(_is_wrong(line.row) for lines in customers.values() for line in lines)
    recognized = []
    ranked = sorted(filter(claims.__getitem__, tried), key=rank)
    for shift in ranked:
        lines = [line for of_customer in claims[shift].values() for line in of_customer]
        is_likely = shift.is_of_days or shift == utc
        evidence = 1.0
        for line in lines:
            evidence = min(evidence * line.evidence, 1e300)
        enough = (
            evidence >= MIN_EVIDENCE() * (1 if is_likely else _UNLIKELY)
            and sum(line.moved[shift] for line in lines) >= MIN_MOVED_EVENTS()
            and (shift.is_of_days or len(lines) >= MIN_SHIFTED_ROWS())
            and not any(line.row.cause and line.row.cause.name != SAME_DIFFERENCE for line in lines)
        )
        for line in lines if enough else ():
            set_cause(line.row, period_cause(shift.moved(span), span, zone))
        if enough and lines:
            of_customers = None if 2 * len(lines) > wrong else frozenset(claims[shift])
            alike = tuple(other for other in ranked if other != shift and claims[other] == claims[shift])
            recognized.append(Recognized(shift, of_customers, [line.row for line in lines], alike))
    return recognized


def period_echoes(
    rows: Iterable[Row],
    at_ends: UsageAtEnds,
    added: Callable[[Row, Moved], Decimal | None],
    recognized: Iterable[Recognized],
    tolerance: Decimal,
    span: tuple[datetime, datetime],
    zone: ZoneInfo,
) -> None:
    """Set the cause of further rows that have exactly the usage of a period that is recognized.

    Of its customers, or of all for a period of the invoice, but of none with an exact row that it would change.
    """
    rows = [row for row in rows if row.key in at_ends and (row.usage is None or row.usage.quantity.is_finite())]
    for found in recognized:
        shift = found.shift
        cause = period_cause(shift.moved(span), span, zone)
        fitting, contradicted = [], set()
        for row in rows:
            usage = at_ends[row.key]
            start, end = _moved(usage, "start", shift.start), _moved(usage, "end", shift.end)
            both = Moved(start.moved + end.moved, start.events + end.events, total((start.quantity, end.quantity)))
            change = added(row, both)
            if not change or not change.is_finite():
                continue
            if row.status in ("matched", "wrong amount"):
                is_changed = change.copy_abs() > tolerance >= row.difference.copy_abs()  # else it costs nothing
                if is_changed and not _has(row, change, tolerance):
                    contradicted.add(row.key[0])
            elif row.status in QUANTITY_STATUSES and _has(row, change, tolerance):
                fitting.append(row)
        for row in fitting:
            if found.concerns(row) and may_be_of_period(row) and row.key[0] not in contradicted:
                set_cause(row, cause)


def late_echoes(
    rows: Iterable[Row],
    at_ends: UsageAtEnds,
    every: UsageAtEnds,
    recognized: Iterable[Recognized],
    span: tuple[datetime, datetime],
    zone: ZoneInfo,
) -> None:
    """Set the period of the invoice as the cause of rows that lack late events which it would lack anyway.

    `rows` are explained by late events, `at_ends` is what was known at finalization, `every` what has arrived since.
    """
    for found in recognized:
        start, end = found.shift
        for row in rows if found.customers is None else ():
            known, arrived = (
                _moved(usage.get(row.key, {}), "start", start).moved + _moved(usage.get(row.key, {}), "end", end).moved
                for usage in (at_ends, every)
            )
            if arrived > known:
                set_cause(row, period_cause(found.shift.moved(span), span, zone))


def may_be_of_period(row: Row) -> bool:
    """Whether a row has no other period yet, and is explained neither by late events nor by duplicates."""
    return not row.explained_by or (row.cause is not None and row.cause.name != PERIOD)


@lru_cache(maxsize=8)
def _of_zones(span: tuple[datetime, datetime], zone: ZoneInfo) -> frozenset[Shift]:
    """The shifts to the period of any time zone."""
    clocks = [edge.astimezone(zone).replace(tzinfo=None) for edge in span]
    zones = [ZoneInfo(name) for name in available_timezones() if "/" in name]
    moved = ([clock.replace(tzinfo=other) - edge for clock, edge in zip(clocks, span, strict=True)] for other in zones)
    whole = (offsets for offsets in moved if not any(offset % QUARTER for offset in offsets))
    return frozenset(Shift(start // QUARTER, end // QUARTER) for start, end in whole)


def in_utc(span: tuple[datetime, datetime], zone: ZoneInfo) -> Shift | None:
    """The shift to the period in UTC; None if it is UTC's, or not of whole quarters of an hour up to `MAX_SHIFT`."""
    offsets = [edge.astimezone(zone).utcoffset() or timedelta(0) for edge in span]
    shift = Shift(*(offset // QUARTER for offset in offsets))
    is_whole = not any(offset % QUARTER for offset in offsets)
    return shift if is_whole and any(shift) and _is_within_bounds(shift) else None


def _is_within_bounds(shift: Shift) -> bool:
    return max(map(abs, shift)) * QUARTER <= MAX_SHIFT()


def _tried(span: tuple[datetime, datetime], zone: ZoneInfo, utc: Shift | None) -> list[Shift]:
    """The shifts by hours and days, to zones whose clocks change within, to those off by parts of an hour, to UTC."""
    hours = (0, *(shift.start for shift in shifts() if shift.start == shift.end))
    zones = [Shift(start, start + change) for start in hours for change in (-_HOUR_QUARTERS, _HOUR_QUARTERS)]
    zones += sorted(shift for shift in _of_zones(span, zone) if any(moved % _HOUR_QUARTERS for moved in shift))
    known = dict.fromkeys((*shifts(), *filter(_is_within_bounds, zones), *([utc] if utc else [])))
    return [shift for shift in known if any(shift) and shift.moved(span)[0] < shift.moved(span)[1]]


def _line(
    row: Row,
    at_ends: UsageAtEnds,
    added: Callable[[Row, Moved], Decimal | None],
    tried: list[Shift],
    tolerance: Decimal,
) -> _Line:
    usage = at_ends[row.key]
    starts = _all_moved(usage, "start", {shift.start for shift in tried})
    ends = _all_moved(usage, "end", {shift.end for shift in tried})
    changes: dict[Shift, Decimal] = {}
    moved: dict[Shift, int] = {}
    numbers: dict[tuple[int, int], Decimal] = {}
    for shift in tried:
        start, end = starts[shift.start], ends[shift.end]
        both = Moved(start.moved + end.moved, start.events + end.events, total((start.quantity, end.quantity)))
        change = added(row, both)
        if change and change.is_finite() and change.copy_abs() > tolerance:
            changes[shift], moved[shift] = change, both.moved
            numbers[start.events, end.events] = change  # one of all shifts that move the same events
    fitting = frozenset(shift for shift, change in changes.items() if _has(row, change, tolerance))
    return _Line(row, changes, moved, fitting, _evidence(row, list(numbers.values()), tolerance))


def _is_wrong(row: Row) -> bool:
    return row.is_open and row.status != "wrong amount"


def _moved(usage: Mapping[tuple[str, int], tuple[int, Decimal]], end: str, moved: int) -> Moved:
    """The effect of moving one end by quarters of an hour."""
    return _all_moved(usage, end, {moved})[moved]


def _all_moved(
    usage: Mapping[tuple[str, int], tuple[int, Decimal]], end: str, distances: Iterable[int]
) -> dict[int, Moved]:
    """The effect of moving one end by each of these quarters of an hour."""
    effects = {0: Moved(0, 0, Decimal(0))}
    for is_later in (True, False):
        sign = 1 if (end == "end") == is_later else -1
        events, quantity, reached = 0, Decimal(0), 0
        for moved in sorted((moved for moved in distances if moved and (moved > 0) == is_later), key=abs):
            between = range(min(reached, moved), max(reached, moved))
            within = [usage[end, quarter] for quarter in between if (end, quarter) in usage]
            events += sum(number for number, _ in within)
            quantity, reached = total((quantity, *(number for _, number in within))), moved
            effects[moved] = Moved(events, sign * events, quantity if sign > 0 else quantity.copy_negate())
    return effects


def _has(row: Row, change: Decimal, tolerance: Decimal) -> bool:
    """Whether the row's lines have its quantity with this change, as known at finalization."""
    known = (row.usage.quantity, row.usage.late.copy_negate()) if row.usage is not None else ()
    billed = total((*known, change))
    return Decimal(difference(billed, row.invoiced or Decimal(0))).copy_abs() <= tolerance


def _evidence(row: Row, changes: list[Decimal], tolerance: Decimal) -> float:
    """How many numbers the row could have had: those between the least and the largest change, in units of the last
    decimal that any of them has, but no more than the tried periods of other events by those of them that also fit.
    """
    if not changes:
        return 1.0
    places = [change.normalize().as_tuple().exponent for change in changes]
    unit = min(place for place in places if isinstance(place, int))
    span = Decimal(difference(max(*changes, Decimal(0)), min(*changes, Decimal(0))))
    possible = float(span.scaleb(-unit)) + 1
    also = sum(_has(row, change, tolerance) for change in changes) - 1
    return min(possible, len(changes) / also) if also > 0 else possible


def _claims(shift: Shift, customers: Mapping[object, list[_Line]], tolerance: Decimal) -> dict[object, list[_Line]]:
    """By customer, the open lines that a shift explains: none where it would change an exact one, or explains fewer of
    the lines than it does not.

    A line may have the shift's quantity, and by chance also what is billed of its own: 251 of 256 with 5 included.
    """
    claims = {}
    for customer, lines in customers.items():
        affected = [line for line in lines if shift in line.changes and shift not in line.fitting]
        if any(line.row.status in ("matched", "wrong amount") for line in affected):
            continue
        open_lines = [line for line in lines if _is_wrong(line.row)]
        fitting = [line for line in open_lines if shift in line.fitting]
        if fitting and 2 * len(fitting) > len(open_lines):
            by_chance = (line for line in lines if shift in line.fitting and line.row.status == "wrong amount")
            claims[customer] = [
                *fitting,
                *(line for line in by_chance if line.row.explained_by in ("", SAME_DIFFERENCE)),
            ]
    return claims


def period_cause(moved: tuple[datetime, datetime], span: tuple[datetime, datetime], zone: ZoneInfo) -> Cause:
    """The cause of a line that has the usage of another period than that of `span`."""
    words = f"the usage of {span_in(*moved, zone)}"
    utc = ZoneInfo("UTC")
    if tuple(_clock(end, utc) for end in moved) == tuple(_clock(end, zone) for end in span):
        words += ", the period in UTC"
    return Cause(PERIOD, "high", words)


def _clock(instant: datetime, zone: ZoneInfo) -> str:
    return instant.astimezone(zone).replace(tzinfo=None).isoformat()
