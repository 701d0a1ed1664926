"""Runs of a customer's quantities that are a multiple, or a fraction, of its usual ones, however few a day.

Days of many events show a wrong unit by their quartiles (`unit_errors`). This looks at single events in order of time,
so that a few events a day are enough over some weeks, and so is a part of the events, as of one sender among several.
The database sums the logarithms of each customer's metric before and in the period. Where those of the period lie
farther from the mean before than the spread before explains, the events themselves are read. An event is far if its
quantity is nearer to the multiple than to the usual median. The run is the stretch of events with the most evidence:
each far one counts the logarithm of how much likelier it is than before, each other one against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    Double,
    Numeric,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
)

from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.checks.sizes import (
    MIN_HISTORY_SPAN,
    SIZE_HISTORY,
    SMALLEST_DEVIATION,
    countable,
    size_rows,
)
from usage_explore.validation.periods import INSTANT, earlier

FACTORS = (60, 100, 1_000, 1_024, 3_600, 1_000_000, 1_048_576)
"""Factors between units: minutes and seconds, cents or percent, kilo, kibi, hours and seconds, mega, mebi."""

BOUNDS = CheckBounds("unit_slips")

# fmt: off
MIN_HISTORY = BOUNDS.add("min_history", 10, "events", 1, 1000000,
    "Positive quantities of a customer's metric before the period, at least, that say what is usual.")

MIN_MULTIPLE = BOUNDS.add("min_multiple", 10, "factor", 1, 1000000,
    "Times the usual median, at least, of a run of quantities that no unit explains.")

MIN_RUN_EVENTS = BOUNDS.add("min_run_events", 5, "events", 1, 100000,
    "Far events of a run, at least: fewer may be the tail of a wide distribution.")

MIN_FAR_SHARE = BOUNDS.add("min_far_share", 0.3, "share", 0, 1,
    "Share of the run's events that are far, at least: one of three senders with a wrong unit.")

FULL_SHARE = BOUNDS.add("full_share", 0.85, "share", 0, 1,
    "Share of the run's events that are far from which all of them are meant: with a wide spread the smallest ones "
    "of a multiple lie among the usual ones.")

MIN_EVIDENCE = BOUNDS.add("min_evidence", 14.0, "logarithm", 1, 200,
    "Natural logarithm of how much likelier the run is by a multiple than by chance: one in a million.")

MAX_EVIDENCE = BOUNDS.add("max_evidence", 6.0, "logarithm", 1, 200,
    "Evidence of one event, at most, so that no single one decides.")

MAX_USUAL_FAR_SHARE = BOUNDS.add("max_usual_far_share", 0.25, "share", 0, 1,
    "Share of the events before that are far, from which far ones say nothing.")

MIN_EXCESS_SPREAD = BOUNDS.add("min_excess_spread", 20.0, "squares", 1, 10000,
    "Squared distance of the period's logarithms from the mean before, beyond what their spread before makes, from "
    "which events are read. Five quantities times 10 have 26.")

SUSPECT_DEVIATIONS = BOUNDS.add("suspect_deviations", 3.0, "deviations", 1, 100,
    "That distance in standard deviations of a sum of squares, which it must reach as well.")

MAX_SUSPECTS = BOUNDS.add("max_suspects", 500, "series", 1, 100000,
    "Customers' metrics whose events are read, those with the largest distance.")

MAX_SERIES_EVENTS = 20_000
"""Events of a customer's metric that are read, about; of more a sample by their ids."""

MIN_MIXED_HISTORY = BOUNDS.add("min_mixed_history", 50, "events", 1, 1000000,
    "Events before, at least, where only a part of a run is far: fewer do not show how many always are.")

MAX_MIXED_FAR_SHARE = BOUNDS.add("max_mixed_far_share", 0.02, "share", 0, 1,
    "Share of the events before that are far, at most, where only a part of a run is far: of a wide distribution, or "
    "one with several peaks, some events always are.")
# fmt: on

_BOUNDARIES = (math.log(20) / 2, math.log(60) / 2, math.log(1_000) / 2)
_MEDIAN_ERROR = 1.2533  # standard error of a median, in those of the mean
_MAX_FACTOR_ERROR, _MOST_FACTOR_ERROR = math.log(1.5), math.log(2)
_RATIO_ERRORS = 3
_LOG_FACTORS = {math.log(factor): factor for factor in FACTORS}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Run:
    """Events from `first` to `last` whose quantities are `ratio` times the `usual` median, or `multiplies` is false and
    they are a fraction of it.

    `factors` are those of `FACTORS` that the ratio agrees with, the nearest first, none where no unit explains it.
    `boundary` lies between the usual median and the multiple: quantities beyond it are far.
    """

    customer_id: UUID
    metric_key: str
    first: datetime
    last: datetime
    multiplies: bool
    ratio: float
    factors: tuple[int, ...]
    usual: Decimal
    far_share: float
    boundary: Decimal

    @property
    def threshold(self) -> Decimal | None:
        """The bound of the quantities concerned, at least or at most; None where all events between are."""
        return None if self.far_share >= FULL_SHARE() else self.boundary

    @property
    def span(self) -> tuple[datetime, datetime]:
        """When its events occurred, half-open."""
        return self.first, self.last + INSTANT


def runs(examination: Examination) -> list[Run]:
    """The runs of the period, computed once for all checks of an examination."""
    if "multiplied" not in examination.shared:
        examination.shared["multiplied"] = list(_runs(examination))
    result: list[Run] = examination.shared["multiplied"]
    return result


def _runs(examination: Examination) -> Iterator[Run]:
    suspects = _suspects(size_rows(examination))
    if not suspects:
        return
    since = examination.period.span[0]
    rows = examination.rows(events_statement(examination.table, examination.period, suspects))
    for (customer, metric), members in groupby(rows, key=attrgetter("customer_id", "metric_key")):
        events = list(members)
        before = np.array([row.logarithm for row in events if row.timestamp < since])
        inside = [row for row in events if row.timestamp >= since]
        for found in stretches(before, np.array([row.logarithm for row in inside])):
            yield Run(
                customer,
                metric,
                inside[found.start].timestamp,
                inside[found.end - 1].timestamp,
                found.multiplies,
                math.exp(abs(found.shift)),
                found.factors,
                _quantity(found.usual),
                found.far_share,
                _quantity(found.boundary),
            )


def _quantity(logarithm: float) -> Decimal:
    return Decimal(format(math.exp(logarithm), ".6g"))


def _suspects(rows: Iterable[Any]) -> list[Any]:
    """The rows whose period has logarithms too far from the mean before, those with the largest distance."""
    ranked = []
    for row in rows:
        if not row.period_logs or row.logs < MIN_HISTORY() or row.ended - row.began < MIN_HISTORY_SPAN():
            continue
        mean = row.log_sum / row.logs
        variance = max(SMALLEST_DEVIATION() ** 2, row.log_squares / row.logs - mean * mean)
        number = row.period_logs
        distance = row.period_log_squares - 2 * mean * row.period_log_sum + number * mean * mean
        excess = distance - number * variance
        if excess >= max(MIN_EXCESS_SPREAD(), SUSPECT_DEVIATIONS() * variance * math.sqrt(2 * number)):
            ranked.append((-excess, str(row.customer_id), row.metric_key, row))
    return [row for *_, row in sorted(ranked, key=lambda item: item[:3])[: MAX_SUSPECTS()]]


def events_statement(table: Table, period: Period, suspects: Sequence[Any]) -> Select[Any]:
    """The positive quantities of some customers' metrics, of a resolved period and of the weeks before it.

    Columns: `customer_id`, `metric_key`, `timestamp`, `logarithm` double precision. Ordered by these.
    """
    c = table.c
    chosen = (
        func.unnest(
            array([row.customer_id for row in suspects], Uuid()),
            array([row.metric_key for row in suspects], Text()),
            array([math.ceil((row.logs + row.period_logs) / MAX_SERIES_EVENTS) for row in suspects], BigInteger()),
        )
        .table_valued("customer_id", "metric_key", "every")
        .render_derived(name="suspects")
    )
    s = chosen.c
    number = func.abs(func.hashtextextended(cast(c.id, Text), literal(0, BigInteger)) % s.every)
    in_range = c.quantity.between(literal(Decimal("1E-150"), Numeric), literal(Decimal("1E150"), Numeric))
    return (
        select(
            c.customer_id,
            c.metric_key,
            c.timestamp,
            case((in_range, func.ln(c.quantity.cast(Double)))).cast(Double).label("logarithm"),
        )
        .join_from(table, chosen, and_(c.customer_id == s.customer_id, c.metric_key == s.metric_key))
        .where(
            *conditions(table, period.replace(since=earlier(period.span[0], SIZE_HISTORY()))),
            *countable(table),
            in_range,
            or_(s.every == 1, number == 0),
        )
        .order_by(c.customer_id, c.metric_key, c.timestamp, c.id)
    )


@dataclass(frozen=True, slots=True)
class Stretch:
    """Events `start` to `end` of a series, half-open, that lie `shift` from the `usual` median, as logarithms."""

    start: int
    end: int
    shift: float
    factors: tuple[int, ...]
    usual: float
    boundary: float
    far_share: float
    evidence: float

    @property
    def multiplies(self) -> bool:
        """Whether the quantities are too large."""
        return self.shift > 0


def stretches(before: Floats, values: Floats) -> list[Stretch]:
    """The runs among the logarithms of a period, in order of time, by those before."""
    if len(before) < MIN_HISTORY():
        return []
    result: list[Stretch] = []
    left = [(0, len(values))]
    while left:
        start, end = left.pop()
        candidates = [
            found
            for boundary in _BOUNDARIES
            for side in (1.0, -1.0)
            if (found := _stretch(before, values, start, end, side * boundary)) is not None
        ]
        if candidates:
            best = max(candidates, key=lambda found: (bool(found.factors), found.evidence, found.end - found.start))
            result.append(best)
            left += [(start, best.start), (best.end, end)]
    return sorted(result, key=lambda found: found.start)


def _stretch(before: Floats, values: Floats, start: int, end: int, boundary: float) -> Stretch | None:
    usual, side = float(np.median(before)), math.copysign(1.0, boundary)
    usual_share = (np.count_nonzero((before - usual) * side > abs(boundary)) + 0.5) / (len(before) + 1)
    far = (values[start:end] - usual) * side > abs(boundary)
    if usual_share > MAX_USUAL_FAR_SHARE() or np.count_nonzero(far) < MIN_RUN_EVENTS():
        return None
    first, last, evidence = _most(
        np.where(far, min(MAX_EVIDENCE(), math.log(0.5 / usual_share)), math.log(0.5 / (1 - usual_share)))
    )
    if np.mean(far[first:last]) >= FULL_SHARE():
        first, last = _edges(before, values[start:end], first, last)
    inside = far[first:last]
    far_share = float(np.mean(inside))
    if evidence < MIN_EVIDENCE() or np.count_nonzero(inside) < MIN_RUN_EVENTS() or far_share < MIN_FAR_SHARE():
        return None
    if far_share < FULL_SHARE() and (len(before) < MIN_MIXED_HISTORY() or usual_share > MAX_MIXED_FAR_SHARE()):
        return None
    run = values[start + first : start + last]
    run = run if far_share >= FULL_SHARE() else run[inside]
    shift = float(np.median(run)) - usual
    error = _MEDIAN_ERROR * _spread(before, usual) * math.sqrt(1 / len(run) + 1 / len(before))
    factors = _factors(abs(shift), error, 2 * abs(boundary))
    if not factors:
        shift = float(np.median(values[start + first : start + last])) - usual
        if shift < math.log(MIN_MULTIPLE()):
            return None
    return Stretch(start + first, start + last, shift, factors, usual, usual + boundary, far_share, evidence)


def _edges(before: Floats, values: Floats, first: int, last: int) -> tuple[int, int]:
    """The edges of a run of which all events are meant, by how much nearer each is to the run's median than to the
    usual one: a single far event behind some usual ones is none of it.
    """
    usual = float(np.median(before))
    shift = float(np.median(values[first:last])) - usual
    nearer = shift * (2 * (values[first:last] - usual) - shift) / (2 * _spread(before, usual) ** 2)
    start, end, _ = _most(np.clip(nearer, -MAX_EVIDENCE(), MAX_EVIDENCE()))
    return first + start, first + end


def _spread(values: Floats, middle: float) -> float:
    """The robust standard deviation of logarithms."""
    return max(SMALLEST_DEVIATION(), 1.4826 * float(np.median(np.abs(values - middle))))


def _factors(shift: float, error: float, least: float) -> tuple[int, ...]:
    """The factors of at least this logarithm that a shift agrees with, the nearest first; none if that is too far."""
    nearest, *others = sorted((log for log in _LOG_FACTORS if log >= least - 1e-9), key=lambda log: abs(log - shift))
    if abs(nearest - shift) > max(_MAX_FACTOR_ERROR, min(_MOST_FACTOR_ERROR, 2 * error)):
        return ()
    most = max(_RATIO_ERRORS * error, 2 * abs(nearest - shift))
    return tuple(_LOG_FACTORS[log] for log in (nearest, *(log for log in others if abs(log - shift) <= most)))


def _most(weights: Floats) -> tuple[int, int, float]:
    """The stretch with the largest sum, half-open, and the sum."""
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    lowest = np.minimum.accumulate(sums)
    gain = sums - lowest
    end = int(np.argmax(gain))
    start = int(np.flatnonzero(sums[: end + 1] == lowest[end])[-1])
    return start, end, float(gain[end])


def spans_overlap(one: tuple[datetime, datetime], other: tuple[datetime, datetime], apart: timedelta) -> bool:
    """Whether two half-open spans are no farther apart than this."""
    return one[0] < other[1] + apart and other[0] < one[1] + apart


def judged_metrics(examination: Examination) -> set[tuple[UUID, str]]:
    """The customers' metrics with quantities in the period, and enough before it to compare them with."""
    return {
        (row.customer_id, row.metric_key)
        for row in size_rows(examination)
        if row.period_logs and row.logs >= MIN_HISTORY() and row.ended - row.began >= MIN_HISTORY_SPAN()
    }


def parameter() -> str:
    """The bounds in words, for the check's parameters."""
    return (
        f"single events in order of time, with at least {MIN_HISTORY()} of the {SIZE_HISTORY().days // 7} weeks before:"
        f" {MIN_RUN_EVENTS()} or more that are nearer to the multiple than to the usual median, {MIN_FAR_SHARE():.0%}"
        f" of those in their time, and likelier by it than by chance by e^{MIN_EVIDENCE():g}; from {FULL_SHARE():.0%}"
        " on all events in that time are meant"
    )
