"""Control totals by the days of another time zone: metrics whose totals match by these, and not by the period's.

Totals that differ both ways may be anything: a gateway that counts wrong, or days with other edges. So every time zone
is tried with the usage of the total that differs most, by quarters of an hour, and the one that makes most of its days
match is applied to the whole file. A metric has days of that zone if nearly all of its totals then match, and hardly
any that did no longer does. With a few events many zones do: of these UTC alone is tried, and must explain all. Where
no zone's days match, the totals may have the date of the day after, or before, all or those from a day on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import MAXYEAR, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Integer, func, select

from usage_explore.decimals import difference, total
from usage_explore.formatting import counted, listed
from usage_explore.formatting import date as date_words
from usage_explore.query import buckets
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.control.compare import (
    MIN_SHIFTED_DAYS,
    Compared,
    Measure,
    Row,
    Usage,
    by_subject,
    compare,
    statement,
    usage_of,
)
from usage_explore.validation.control.placed import Amounts, Placed, Subject, day_of, place
from usage_explore.validation.control.totals import ControlLine
from usage_explore.validation.periods import currency_codes, day_edges, zone_names

BOUNDS = CheckBounds("control_totals")

# fmt: off
MIN_ZONE_SHARE = BOUNDS.add("min_zone_share", Decimal("0.75"), "share", 0, 1,
    "Share of a metric's control totals that match by the days of another time zone, from which they are of that zone.")

MAX_ZONE_LOST = BOUNDS.add("max_zone_lost", Decimal("0.1"), "share", 0, 1,
    "Control totals that match by the days of the period's time zone alone, as a share of those that match by the days "
    "of the other one alone, up to which they are of that zone.")
# fmt: on

_QUARTER, _DAY = timedelta(minutes=15), timedelta(days=1)


class _Change(NamedTuple):
    """How a metric's control totals match by the days of two zones: of `totals`, by both, by one, or by neither."""

    totals: int
    gained: int
    lost: int
    matched: int

    @property
    def is_certain(self) -> bool:
        """Whether the totals are of the other zone."""
        enough = self.gained >= MIN_SHIFTED_DAYS() and self.lost <= MAX_ZONE_LOST() * self.gained
        return enough and self.matched >= MIN_ZONE_SHARE() * self.totals

    @property
    def may_be(self) -> bool:
        """Whether too few totals differ between the zones to say that they are not of the other one."""
        return self.lost <= self.gained < MIN_SHIFTED_DAYS()

    @property
    def is_alike(self) -> bool:
        """Whether all totals match by both zones."""
        return self.matched == self.totals and not self.gained


@dataclass(frozen=True)
class ByDays:
    """Control totals compared by the days of one time zone, that of the examination's period.

    `late` is by how much later than their day the totals are dated, where that is recognized, those dated `since` then.
    """

    examination: Examination
    lines: Sequence[ControlLine]
    placed: Placed
    compared: Compared
    usage: Usage
    summed: Callable[[Any], Usage]
    late: timedelta = timedelta(0)
    since: date = date.min

    def dated(self, day: date) -> date:
        """The date that the total of a day has."""
        return day + self.late if self.late and day + self.late >= self.since else day


def compared_by_days(examination: Examination, lines: Sequence[ControlLine]) -> ByDays:
    """The lines compared by the days of the examination's period."""
    period = examination.period
    placed = placed_in(examination, lines)
    days = [buckets.local_date(start, period.zone) for start in day_edges(period)[:-1]]
    grains = {subject.grain for _, subject in placed.controls}
    by_customer = any(has_customer for _, has_customer, _ in grains)

    def summed(make: Any) -> Usage:
        rows = examination.rows(make(examination.table, period, by_customer=by_customer))
        return usage_of(rows, days, grains)

    usage = summed(statement) if placed.controls else {}
    return ByDays(examination, lines, placed, compare(placed, usage), usage, summed)


def placed_in(examination: Examination, lines: Iterable[ControlLine]) -> Placed:
    """The lines by the days of the examination's period."""
    return place(lines, examination.period, examination.begins, examination.closed_until)


def by_days_of_zone(own: ByDays, lines: Sequence[ControlLine]) -> tuple[ByDays | None, frozenset[str | None]]:
    """The totals by the days of another time zone, or with other dates, and the metrics that are of these; None and
    none if there are none.
    """
    suspects = both_ways(own.compared.rows, has_costs=True)
    zone = _likely_zone(own.examination, lines, suspects)
    others = [_by_zone(own, lines, zone.key)] if zone is not None else []
    moved = ((late, since) for late in (_DAY, -_DAY) if (since := _dated_since(own, late)))
    for other in (*others, *(_dated(own, lines, late, since) for late, since in moved)):
        if metrics := _metrics_of(own, other):
            return other, metrics
    return (None, frozenset()) if zone is not None else _few_by_utc(own, lines)


def _metrics_of(own: ByDays, other: ByDays) -> frozenset[str | None]:
    """The metrics whose totals are of the other days; none if those of none are certainly."""
    of_metrics = _changes(own.compared.rows, other)
    metrics = frozenset(metric for metric, change in of_metrics.items() if change.is_certain)
    if not metrics:
        return metrics
    # fewer than `min_shifted_days` totals of a metric decide nothing: they are by the days of the others' zone
    metrics |= {metric for metric, change in of_metrics.items() if change.may_be and not change.is_alike}
    # metrics that match alike by both, such as those of noon, are of that zone too
    alike = (metric for metric, change in of_metrics.items() if change.is_alike)
    return metrics if len(metrics | {*alike}) < len(of_metrics) else frozenset(of_metrics)


def _dated_since(own: ByDays, late: timedelta) -> date | None:
    """The date from which most totals match the usage of the day `late` before it, and not that of it; None of few."""
    gained: Counter[date] = Counter()
    for row in own.compared.rows:
        if row.control is not None:
            used = own.usage.get((row.day - late, row.subject), Amounts(0))
            gained[row.day] += (replace(row, used=used).status == "matched") - (row.status == "matched")
    # no total may move to the date of one that stays
    starts = [day for day in sorted(gained) if late < timedelta(0) or day - late not in gained]
    sums = {since: sum(gained[day] for day in gained if day >= since) for since in starts}
    since = max(sums, key=lambda day: sums[day], default=date.min)
    return since if sums.get(since, 0) >= MIN_SHIFTED_DAYS() else None


def _dated(own: ByDays, lines: Sequence[ControlLine], late: timedelta, since: date) -> ByDays:
    """The totals compared by the dates that are `late` before their own, where that is `since` or later."""
    zone = own.examination.period.zone
    inner = [line for line in lines if line.day.year > 1 and (line.until or line.day).year < MAXYEAR]
    moved = [
        line._replace(day=line.day - late, until=line.until and line.until - late)
        if (day := day_of(line, zone)) and day >= since
        else line
        for line in inner
    ]
    return replace(compared_by_days(own.examination, moved), late=late, since=since)


def rows_since(by_days: ByDays, metrics: frozenset[str | None], since: date) -> list[Row]:
    """The control totals of metrics that are dated `since` or later."""
    rows = (row for row in by_days.compared.rows if row.control is not None and row.subject.metric_key in metrics)
    return [row for row in rows if by_days.dated(row.day) >= since]


def other_days_words(own: ByDays, other: ByDays, metrics: str, rows: Sequence[Row], before: Sequence[Row]) -> str:
    """The sentence that totals are of other days, by the rows of these and by those of the period's days."""
    matched, matched_before = (sum(row.status == "matched" for row in members) for members in (rows, before))
    of = f"{matched:,} of {counted(len(rows), 'total')} of {metrics}"
    these = f"{matched_before:,} of {len(before):,}"
    if other.late:
        when, side = ("late", "before") if other.late > timedelta(0) else ("early", "after")
        is_part = any(row.day < other.since for row in own.compared.rows if row.control is not None)
        since = f" from {date_words(datetime.combine(other.since, time.min))} on" if is_part else ""
        return (
            f"The control totals are dated a day {when}{since}: {of} match the usage of the day {side}, by their dates"
            f" {these} do. Each is compared with that day here; give it the date of its day."
        )
    begin = "begin" if matched - matched_before >= MIN_SHIFTED_DAYS() else "seem to begin"
    return (
        f"The days of the control totals {begin} at another time than those of {own.examination.period.timezone}:"
        f" by the days of {other.examination.period.timezone} {of} match, by these {these}. Validate in the time zone"
        " of the totals."
    )


def _by_zone(own: ByDays, lines: Sequence[ControlLine], zone: str) -> ByDays:
    period = own.examination.period.replace(timezone=zone)
    return compared_by_days(replace(own.examination, period=period), lines)


def _few_by_utc(own: ByDays, lines: Sequence[ControlLine]) -> tuple[ByDays | None, frozenset[str | None]]:
    """The totals by the days of UTC, and the metrics with totals that lack and usage that exceeds, none of it by UTC.

    None and none if there are none, or if a total of any metric matches by the period's days alone.
    """
    differing = {metric for metric, signs in _deviations(own).items() if len(signs) > 1}
    if not differing or _edges(own.examination.period, ZoneInfo("UTC")) == day_edges(own.examination.period):
        return None, frozenset()
    other = _by_zone(own, lines, "UTC")
    changes = _changes(own.compared.rows, other)
    metrics = frozenset(metric for metric in differing - _deviations(other).keys() if metric in changes)
    if not metrics or any(change.lost for change in changes.values()):
        return None, frozenset()
    return other, metrics


def _deviations(by_days: ByDays) -> dict[str | None, set[bool]]:
    """By metric, whether totals lack usage (True), and usage exceeds them or has none on its day (False)."""
    found: dict[str | None, set[bool]] = {}
    subjects = {subject for _, subject in by_days.placed.controls if subject.currency is None}
    for row in by_days.compared.rows:
        if row.control is not None and row.subject in subjects and row.status != "matched":
            found.setdefault(row.subject.metric_key, set()).add(row.status == "missing")
    for day, subject in by_days.usage.keys() - by_days.placed.controls.keys():
        if day in by_days.placed.days and subject in subjects:
            found.setdefault(subject.metric_key, set()).add(False)
    return found


def both_ways(rows: Iterable[Row], *, has_costs: bool = False) -> list[list[Row]]:
    """The differing rows of each subject that has some that lack and some that exceed, on half of its days or more."""
    found = []
    for members in by_subject(row for row in rows if has_costs or row.measure != "cost"):
        differing = [row for row in members if row.status in ("missing", "surplus")]
        if len(differing) >= max(MIN_SHIFTED_DAYS(), len(members) / 2) and len({row.status for row in differing}) > 1:
            found.append(differing)
    return found


def unfinished_days(examination: Examination, placed: Placed) -> list[date]:
    """The days of all lines if each of them is still to end as of the examination; else none."""
    zone, end = examination.period.zone, examination.period.as_of or examination.now
    if placed.controls or placed.outside or placed.unplaceable:
        return []
    days = sorted(placed.partial)
    begins = (buckets.day_start(day, zone) >= examination.period.span[0] for day in days)
    ends = (buckets.day_start(day + timedelta(days=1), zone) > end for day in days)
    return days if all(begins) and all(ends) else []


def not_compared(own: ByDays, other: ByDays | None, metrics: frozenset[str | None]) -> Iterator[str]:
    """The lines that were not compared: those of the metrics by the other days, the rest by the period's own."""
    if other is None:
        yield from left_out(own.examination, own.placed)
        return
    for by_days, is_other in ((own, False), (other, True)):
        lines = [line for line in by_days.lines if (line.metric_key in metrics) is is_other]
        days = f"days of {other.examination.period.timezone}" if is_other and not other.late else "days"
        yield from left_out(by_days.examination, placed_in(by_days.examination, lines), days)


def left_out(examination: Examination, placed: Placed, days: str = "days") -> Iterator[str]:
    """The lines that were not compared; `days` are their days."""
    zone = examination.period.timezone
    if placed.outside:
        yield f"{counted(placed.outside, 'line')} of {days} outside the period {were(placed.outside)} not compared."
    if placed.partial:
        lines = sum(placed.partial.values())
        gone = "" if examination.exists_since is None else ", or of removed events"
        yield (
            f"{counted(lines, 'line')} of {days_words(sorted(placed.partial))} {were(lines)} not compared: {days}"
            f" partly outside the period, or not over{gone}."
        )
    if placed.unplaceable:
        yield (
            f"{counted(placed.unplaceable, 'line')} {were(placed.unplaceable)} not compared: the time is not within"
            f" one day of {zone}; give totals by day of {zone}, or validate in the time zone of the totals."
        )


def were(number: int) -> str:
    """`was` of one, `were` of several."""
    return "was" if number == 1 else "were"


def days_words(days: Iterable[date]) -> str:
    """`2026-09-03 and 2026-09-04`."""
    return listed(day.isoformat() for day in days)


def _likely_zone(examination: Examination, lines: Sequence[ControlLine], suspects: list[list[Row]]) -> ZoneInfo | None:
    """The time zone by whose days most totals of the subject that differs on most days match; None if few do."""
    if not suspects:
        return None
    rows = max(suspects, key=lambda rows: (len(rows), str(rows[0].subject)))
    subject, measure = rows[0].subject, rows[0].measure
    usage = _by_quarter(examination, subject)
    own = [line for line in lines if (line.metric_key, line.customer_id) == subject[:2]]
    best: tuple[int, ZoneInfo] | None = None
    for zone in _zones(examination.period):
        in_zone = examination.period.replace(timezone=zone.key)
        placed = place(own, in_zone, examination.begins, examination.closed_until)
        matched = 0
        for (day, placed_subject), control in placed.controls.items():
            if placed_subject == subject and getattr(control, measure) is not None:
                used = _sum(usage, measure, buckets.day_start(day, zone), buckets.day_start(day + timedelta(1), zone))
                is_near = measure == "cost" and used.is_finite() and control.is_cost_of(used)
                matched += is_near or not difference(getattr(control, measure), used)
        if matched >= MIN_SHIFTED_DAYS() and (best is None or matched > best[0]):
            best = matched, zone
    return None if best is None else best[1]


def _changes(own: Iterable[Row], other: ByDays) -> dict[str | None, _Change]:
    """By metric, how its control totals match by the days of the period's and of another zone."""
    before, after = _matches(own), _matches(other.compared.rows, other.dated)
    counts: dict[str | None, list[int]] = {}
    for key in before.keys() & after.keys():
        count = counts.setdefault(key[1].metric_key, [0, 0, 0, 0])
        is_match, was = after[key], before[key]
        for index, is_counted in enumerate((True, is_match and not was, was and not is_match, is_match)):
            count[index] += is_counted
    return {metric: _Change(*count) for metric, count in counts.items()}


def _matches(rows: Iterable[Row], dated: Callable[[date], date] | None = None) -> dict[tuple[object, Subject], bool]:
    """Whether each total matches, by its date and subject."""
    return {
        (dated(row.day) if dated else row.day, row.subject): row.status == "matched"
        for row in rows
        if row.control is not None
    }


def _by_quarter(examination: Examination, subject: Subject) -> dict[datetime, Amounts]:
    """The usage, or cost, of a subject by quarter of an hour."""
    period, c = examination.period, examination.table.c
    quarter = func.floor(func.extract("epoch", c.timestamp) / _QUARTER.total_seconds()).cast(Integer).label("quarter")
    where = [c[name] == value for name, value in zip(("metric_key", "customer_id"), subject, strict=False) if value]
    where += [currency_codes(c.external_cost_currency) == subject.currency] if subject.currency is not None else []
    cost = func.sum(c.external_cost_amount).label("cost")
    sums: list[Any] = [quarter, func.count().label("events"), func.sum(c.quantity).label("quantity"), cost]
    usage = select(*sums).where(*conditions(examination.table, period), *where).group_by(quarter)
    zone = period.span[0].tzinfo
    return {
        datetime.fromtimestamp(row.quarter * _QUARTER.total_seconds(), zone): Amounts(
            row.events, row.quantity, row.cost
        )
        for row in examination.rows(usage)
    }


def _sum(usage: Mapping[datetime, Amounts], measure: Measure, since: datetime, until: datetime) -> Decimal:
    return total(Decimal(getattr(usage[at], measure) or 0) for at in _quarters(since, until) if at in usage)


def _quarters(since: datetime, until: datetime) -> Iterator[datetime]:
    at = since
    while at < until:
        yield at
        at += _QUARTER


def _zones(period: Period) -> list[ZoneInfo]:
    """One zone for each way to divide the period into days, other than the period's own; usual ones first."""
    own = day_edges(period)
    zones: dict[tuple[datetime, ...], ZoneInfo] = {}
    for name in zone_names():
        zone = ZoneInfo(name)
        edges = _edges(period, zone)
        if edges != own and all(edge.timestamp() % _QUARTER.total_seconds() == 0 for edge, _ in pairwise(edges)):
            zones.setdefault(edges, zone)
    return [*zones.values()]


def _edges(period: Period, zone: ZoneInfo) -> tuple[datetime, ...]:
    return day_edges(period.replace(timezone=zone.key))
