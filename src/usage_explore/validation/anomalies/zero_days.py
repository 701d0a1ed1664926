"""Days without any event of a customer, or of all customers, that otherwise had events on every day.

Such a day is clear evidence even of little usage, whose changes are not judged otherwise: all metrics count together.
Usage with days off, such as weekends or holidays, in the four weeks before is not judged, and usage that varies so much
that a day without events may be chance neither. Longer silences of a customer are left to the check of silences.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select

from usage_explore.decimals import plain
from usage_explore.detector.breaks import MIN_SILENCE_DAYS
from usage_explore.detector.ordering import runs
from usage_explore.formatting import counted, short, span, span_in
from usage_explore.query import buckets, validators
from usage_explore.sql.filters import conditions
from usage_explore.validation.anomalies.series import Block, Floats, Grid
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination, Finding, Severity
from usage_explore.validation.periods import INSTANT
from usage_explore.validation.usage_sums import events_share

BOUNDS = CheckBounds("shifts")

# fmt: off
HISTORY_DAYS = BOUNDS.add("zero_history_days", 28, "days", 7, 400,
    "Days before, each with events, that say that usage is regular, and how much of it is usual.")

MAX_CHANCE = BOUNDS.add("max_chance", 1e-6, "probability", 0.000000000001, 0.1,
    "Probability of the days without events by the usage of those days, at most.")

HIGH_SHARE = BOUNDS.add("high_zero_share", Decimal("0.1"), "share", 0, 1,
    "Share of a customer's events in the period, missing, from which its days without events are high.")

MEDIUM_SHARE = BOUNDS.add("medium_zero_share", Decimal("0.001"), "share", 0, 1,
    "Share of all events of the period, missing, from which other ones are medium.")
# fmt: on


def min_usual_events() -> int:
    """Usual events a day from which a day without events is reported; more if the days differ by more than chance."""
    return math.ceil(-math.log(MAX_CHANCE()))


_CHART_MARGIN, _HOURS_MARGIN = 28, 4
"""Days that a chart shows before and after, by days and by hours."""

_WEEK = 7
_DAY = timedelta(days=1)

Counts = dict[UUID | None, npt.NDArray[np.float32]]
"""Events by day: of each customer, and under None of all together."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The day or hour beside days or hours without events: its usual events, and how many of them did not come."""

    usual: float = 0.0
    missing: float = 0.0

    @classmethod
    def of(cls, usual: float, counted: float) -> Beside:
        """Of a day with `counted` events; nothing is missing of one that is unknown (NaN)."""
        missing = usual - counted
        return cls(usual, missing) if missing > 0 else cls()

    def until(self, share: float) -> float:
        """The events missing in the `share` of it that had none: no more than usually come in as long a time."""
        return min(self.missing, self.usual * share)


@dataclass(frozen=True, slots=True)
class ZeroDays:
    """Days without events, `since` to `until`, half-open: a customer's, or of all customers together (None).

    `usual` events would have come on those in the period. `counted` is how many came on all other days of the period.
    `hours` is the number of hours where they are no whole days, `density` how many times as many events usually come in
    them as in others of the day. `beside` are the days, or hours, before and after.
    """

    customer_id: UUID | None
    since: datetime
    until: datetime
    days: int
    usual: float
    counted: float
    hours: int = 0
    density: float = 1.0
    beside: tuple[Beside, Beside] = (Beside(), Beside())

    @property
    def span(self) -> tuple[datetime, datetime]:
        """`since` and `until`."""
        return self.since, self.until

    def overlaps(self, since: datetime, until: datetime) -> bool:
        """Whether the half-open span has a time in common."""
        return self.since < until and since < self.until


def add_counts(counts: Counts, block: Block) -> None:
    """Add the events of a block's customers, and of all together."""
    for customer, row in zip(block.customers, block.values["count"], strict=True):
        for owner in {customer, None}:
            counts[owner] = counts[owner] + row if owner in counts else row.astype(np.float32)


def zero_days(counts: Mapping[UUID | None, Floats | npt.NDArray[np.float32]], grid: Grid, first: int) -> list[ZeroDays]:
    """The days from column `first` on without events of usage that is otherwise regular; those of all customers first.

    Days that are reported do not make the usage irregular; days without events before `first` do. A customer's are left
    out where all customers together have none. From three days on they are silences: a customer's are left out, and
    those of all customers at the end.
    """
    last = max((end for end in grid.ends if end is not None), default=None)
    whole = [
        days
        for days in (_of_row(None, counts[None], grid, first) if None in counts else ())
        if days.days < MIN_SILENCE_DAYS or days.until != last
    ]
    result = list(whole)
    for customer, row in counts.items():
        if customer is not None:
            result += [
                days
                for days in _of_row(customer, row, grid, first)
                if days.days < MIN_SILENCE_DAYS and not any(days.overlaps(one.since, one.until) for one in whole)
            ]
    return result


def _of_row(customer: UUID | None, row: Floats | npt.NDArray[np.float32], grid: Grid, first: int) -> Iterator[ZeroDays]:
    zero = row == 0
    if not zero[first:].any():
        return
    known = ~np.isnan(row)
    for _, start, end in runs(zero[np.newaxis]):
        before = np.flatnonzero(known[:start])[-HISTORY_DAYS() :]
        if len(before) < HISTORY_DAYS() or not (row[before] > 0).all():
            continue
        usual, is_chance = _usual(row, before, range(start, end))
        if end > first and not is_chance:
            known[start:end] = False  # later days are judged as if these were unknown
            since, until = grid.span(start, end)
            missing = sum(usual[max(0, first - start) :])
            beside = [
                Beside.of(_usual(row, before[before < start - 1], [day])[0][0], float(row[day]))
                if first <= day < len(row)
                else Beside()
                for day in (start - 1, end)
            ]
            counted_events = float(np.nansum(row[first:]))
            yield ZeroDays(customer, since, until, end - start, missing, counted_events, beside=(beside[0], beside[1]))


def _usual(
    row: Floats | npt.NDArray[np.float32], before: npt.NDArray[np.intp], days: Collection[int]
) -> tuple[list[float], bool]:
    """The usual events on each of the days, and whether there may be none on all of them by chance.

    The usual events of a day are the mean of the same weekdays before; chance is judged by that of all days if it is
    less. The variance beyond that of a Poisson distribution makes the distribution negative binomial.
    """
    phases = before % _WEEK
    means = np.array([row[before[phases == phase]].mean() for phase in range(_WEEK)])
    squares = (row[before] - means[phases]) ** 2 / means[phases]
    dispersion = max(1.0, float(squares.sum()) / (HISTORY_DAYS() - _WEEK))
    usual = [float(means[day % _WEEK]) for day in days]
    least = sum(min(expected, float(row[before].mean())) for expected in usual)
    weight = math.log(dispersion) / (dispersion - 1) if dispersion > 1 else 1.0
    return usual, least * weight < -math.log(MAX_CHANCE())


def finding(examination: Examination, check: str, days: ZeroDays) -> Finding:
    """The finding on days without events, from the last event before to the first one after, exactly."""
    zone = examination.period.zone
    since, until = _span(examination, days)
    usual = _usual_of_weeks(examination, days, since, until)
    if usual is None:
        step = timedelta(hours=1) if days.hours else _DAY
        edges = zip(days.beside, ((days.since - since) / step, (until - days.until) / step), strict=True)
        usual = round(Decimal(days.usual + sum(beside.until(share) for beside, share in edges)))
    on = span(days.since.astimezone(zone), days.until.astimezone(zone))
    whose = "No customer has an event" if days.customer_id is None else f"Customer {days.customer_id} has no event"
    before = "there were" if days.customer_id is None else "it had"
    usually = f"some on each of the {HISTORY_DAYS()} days before"
    of_period = " of the period" if days.since < examination.period.span[0] else ""
    length, margin = ("days without events", counted(days.days, "day")), _CHART_MARGIN
    if days.hours:
        margin = _HOURS_MARGIN
        on = f"{days.since.astimezone(zone):%-d %b %Y %H:%M} to {days.until.astimezone(zone):%-d %b %Y %H:%M}"
        usually = "some in these hours of the weeks before"
        length = ("hours without events", counted(days.hours, "hour"))
    return Finding(
        check=check,
        severity=_severity(examination, days, usual),
        sentence=f"{whose} on {on}, while {before} {usually}: about {short(usual)} events{of_period} stayed away, from"
        f" {span_in(since, until, zone)}.",
        since=since,
        until=until,
        events=0,
        question=examination.aggregate_question(
            since=max(buckets.days_before(days.since, margin, zone), validators.EARLIEST),
            until=max(min(buckets.days_before(days.until, -margin, zone), examination.closed_until), days.until),
            bucket="hour" if days.hours else "day",
            metric="count",
            **({} if days.customer_id is None else {"customer_id": days.customer_id}),
        ),
        **events_share(examination, usual),
        customer_id=days.customer_id,
        facts=(
            length,
            ("measure", "events"),
            ("actual", "0"),
            ("expected", plain(usual)),
            ("excess", plain(-usual)),
        ),
        is_general=days.customer_id is None,
    )


def _severity(examination: Examination, days: ZeroDays, usual: Decimal | int) -> Severity:
    if days.customer_id is None:
        return "high"
    if usual >= HIGH_SHARE() * Decimal(days.counted):
        return "high"
    return "medium" if usual >= MEDIUM_SHARE() * examination.totals.events else "low"


def _usual_of_weeks(examination: Examination, days: ZeroDays, since: datetime, until: datetime) -> int | None:
    """The mean of the events at these times of the weeks before, of those that have any, in the period; None for hours,
    and for more than a week.
    """
    if days.hours or until - since > timedelta(days=_WEEK):
        return None
    table, period = examination.table, examination.period
    owner = [] if days.customer_id is None else [table.c.customer_id == days.customer_id]
    start, end = max(since, period.span[0]).astimezone(period.zone), until.astimezone(period.zone)
    counts = []
    for week in range(1, HISTORY_DAYS() // _WEEK + 1):
        earlier = period.replace(since=start - week * timedelta(days=_WEEK), until=end - week * timedelta(days=_WEEK))
        statement = select(func.count()).where(*conditions(table, earlier), *owner)
        counts.append(examination.connection.execute(statement).scalar_one())
    known = [number for number in counts if number]
    return round(Decimal(sum(known)) / len(known)) if known else None


def _span(examination: Examination, days: ZeroDays) -> tuple[datetime, datetime]:
    """From the last event before the days to the first one after them, or to where usage can be complete."""
    table, period = examination.table, examination.period
    time = table.c.timestamp
    owner = [] if days.customer_id is None else [table.c.customer_id == days.customer_id]

    def edge(value: object, since: datetime, until: datetime) -> datetime | None:
        around = conditions(table, period.replace(since=since, until=until))
        statement = select(value).where(*around, *owner)  # type: ignore[call-overload]
        result: datetime | None = examination.connection.execute(statement).scalar_one()
        return result

    last = edge(func.max(time), max(days.since - HISTORY_DAYS() * _DAY, validators.EARLIEST), days.since)
    end = examination.closed_until
    back = edge(func.min(time), days.until, end) if days.until < end else None
    return days.since if last is None else last + INSTANT, back or end


def parameter() -> str:
    """What is judged, for the check's parameters."""
    return (
        f"a customer with events on each of the {HISTORY_DAYS()} days before, all its metrics together, that has none"
        f" for a day or two, from about {min_usual_events()} usual events a day on: a probability of {MAX_CHANCE():g}"
        " at most, by the mean of the same weekdays and their variance; the same of all customers together, for any"
        " time: high"
    )
