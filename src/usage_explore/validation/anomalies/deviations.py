"""Deviations: steps in which a customer's usage of a metric left the detector's band, and by how much in all."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt

from usage_explore.detector import Anomaly, Detection, detect
from usage_explore.detector.anomalies import figure
from usage_explore.detector.breaks import MIN_LEVEL_LENGTH, MIN_LEVEL_SCORE, filled, while_away
from usage_explore.detector.ordering import runs
from usage_explore.detector.scoring import MIN_SEASONS_KNOWN
from usage_explore.query.queries import Metric
from usage_explore.validation.anomalies.series import MEASURES, Block, Floats, Grid, Step
from usage_explore.validation.bounds import CheckBounds

BOUNDS = CheckBounds("shifts")

# fmt: off
MIN_EVENTS = BOUNDS.add("min_events", 30, "events", 1, 1000000,
    "Events of a series in all, and events too many or missing, at least, for a deviation of the number of events.")

MIN_HOURLY_EVENTS = BOUNDS.add("min_hourly_events", 5, "events", 0, 1000000,
    "Events an hour, on average, from which a series is judged by the hour.")

MIN_QUANTITY_EVENTS = BOUNDS.add("min_quantity_events", 50, "events", 0, 1000000,
    "Events per step, on average, from which the quantity is judged too, whatever the number of events does: the "
    "sum of a few events that differ a hundredfold is no level. Of fewer it is where their number left its band as "
    "well.")

MIN_CHANGE = BOUNDS.add("min_change", 0.5, "share", 0, 1,
    "Share of the expected usage that a deviation differs by, at least: rises to 1.5 times, falls to a half.")

HIGH_SPIKE_SHARE = BOUNDS.add("high_spike_share", 0.2, "share", 0, 1,
    "Share of the series' usage in the period that a high spike adds, at least.")

HIGH_SPIKE_RATIO = BOUNDS.add("high_spike_ratio", 3.0, "factor", 1, 1000,
    "Least multiple of the expected value of a high spike.")

HIGH_DROP_SHARE = BOUNDS.add("high_drop_share", 0.1, "share", 0, 1,
    "Share of the series' usage in the period that a high drop takes, at least.")

HIGH_DROP_REST = BOUNDS.add("high_drop_rest", 0.2, "share", 0, 1,
    "Share of the expected value that a high drop leaves, at most.")

REGULAR = BOUNDS.add("min_regular_share", 0.2, "share", 0, 1,
    "Share of the other days or hours with usage, at least, for a spike to be high: other usage comes in bursts.")

MIN_OWN_SHARE = BOUNDS.add("min_own_share", 0.01, "share", 0, 1,
    "Share of a series' usage in the period that an incident differs by, at least.")

MIN_METRIC_SHARE = BOUNDS.add("min_metric_share", Decimal("0.001"), "share", 0, 1,
    "Share of the metric's usage in the period, over all customers, below which an incident is low.")
# fmt: on

SHORT_DAYS = 28
"""Days of use from which every weekday comes four times: a day is judged by three others, before or after."""

BESIDE_HOURS = 4
"""Hours before and after some within which their usage may have come instead."""

_MOVED_REST = 0.1
"""Part of an excess, or drop, that the hours beside leave at most where usage only moved."""

_WEEKS_BEFORE_RETURN = 5
_HALF_WAY = 0.5

Shape = Literal["spike", "drop", "rise", "fall"]
"""A spike and a drop end, a rise and a fall are new levels that last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One series outside its band: whose and which metric's, how it is measured, and when.

    `since` and `until` bound it, half-open; `bucket` is where it lies farthest out: `value`, `expected`, `low`, `high`
    are those of that bucket (of a new level: the usual ones after and before). `excess` is by how much all of it
    differs from what was expected, signed, and `in_period` how much of that lies in the period; `usual` what the series
    came to in the period without it, `used` the part of all other steps that had any usage.
    """

    customer_id: UUID | None
    metric_key: str
    measure: Metric
    step: Step
    shape: Shape
    since: datetime
    until: datetime
    bucket: datetime
    value: float
    expected: float
    low: float
    high: float
    excess: float
    in_period: float
    usual: float
    used: float
    reason: str
    is_sparse_sum: bool = False
    """A quantity of fewer than `MIN_QUANTITY_EVENTS` events a step: one large event makes it any multiple of usual."""

    on_first: float = 0.0
    """By how much the first day of the period differs, which the period may cut."""

    is_mean: bool = False
    """Whether `value` and `expected` are the means of all days after and before a new level, not of one week."""

    @property
    def span(self) -> tuple[datetime, datetime]:
        """`since` and `until`."""
        return self.since, self.until

    @property
    def lasts(self) -> bool:
        """Whether it is a new level."""
        return self.shape in ("rise", "fall")

    @property
    def rises(self) -> bool:
        """Whether there was more than expected."""
        return self.excess > 0

    @property
    def part(self) -> float:
        """How much it differs in the period, as a part of what the series came to without it."""
        if self.in_period * self.excess <= 0:
            return 0.0
        return abs(self.in_period) / self.usual if self.usual > 0 else float("inf")

    @property
    def change(self) -> float:
        """How much the farthest bucket differs, as a part of what was expected there."""
        return abs(self.value - self.expected) / self.expected if self.expected > 0 else float("inf")


def deviations(block: Block, grid: Grid, first: int) -> Iterator[Deviation]:
    """The deviations of a block's series from column `first` on."""
    known = max(1, int(np.count_nonzero(~grid.unknown)))
    events = np.nansum(block.values["count"], axis=1)
    enough = np.flatnonzero(events >= max(MIN_EVENTS(), MIN_HOURLY_EVENTS() * known if grid.step == "hour" else 0))
    counted = list(_judged(block, grid, first, "count", enough))
    yield from (deviation for _, deviation in counted)
    dense = set(np.flatnonzero(events >= MIN_QUANTITY_EVENTS() * known).tolist())
    moved = {row for row, _ in counted}
    for row, deviation in _judged(block, grid, first, "sum_quantity", np.array(sorted(dense | moved), np.intp)):
        if row in dense:
            yield deviation
        elif any(beside(deviation, other) for at, other in counted if at == row):
            yield replace(deviation, is_sparse_sum=True)


def beside(one: Deviation, other: Deviation) -> bool:
    """Whether they are to the same side, and share a time."""
    return one.rises == other.rises and one.since < other.until and other.since < one.until


def _judged(
    block: Block, grid: Grid, first: int, measure: Metric, rows: npt.NDArray[np.intp]
) -> Iterator[tuple[int, Deviation]]:
    """The deviations of some of a block's rows, with the number of the row."""
    if len(rows):
        # each a group of its own: a customer's metrics are joined later, as an incident with the numbers of each
        learnt = block.learnt[measure][rows] if block.learnt else None
        values = block.values[measure][rows]
        detection = detect(values, grid.season, groups=np.arange(len(rows)), learned=learnt)
        yield from _of_detection(detection, rows, block, grid, first, measure)
        short = np.flatnonzero(days_of_use(values) < SHORT_DAYS) if grid.step == "day" else rows[:0]
        if len(short):
            learnt = learnt[short] if learnt is not None else None
            by_day = detect(values[short], 1, groups=np.arange(len(short)), learned=learnt)
            unjudged = np.isnan(detection.score[short])
            yield from _records(by_day, unjudged, rows[short], block, grid, first, measure)


def days_of_use(values: Floats) -> npt.NDArray[np.intp]:
    """The days from the first use of each series to its last one."""
    used = np.nan_to_num(values) != 0
    days = values.shape[1] - used.argmax(axis=1) - used[:, ::-1].argmax(axis=1)
    return np.where(used.any(axis=1), days, 0)


def _records(
    detection: Detection,
    unjudged: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.intp],
    block: Block,
    grid: Grid,
    first: int,
    measure: Metric,
) -> Iterator[tuple[int, Deviation]]:
    """The spikes of series too short for weekdays: `HIGH_SPIKE_RATIO` times the largest other day, at least."""
    spikes = [one for one in detection if one.kind == "spike" and unjudged[one.series, one.start : one.end].all()]
    for spike in spikes:
        others = np.delete(detection.values[spike.series], slice(spike.start, spike.end))
        if spike.value >= HIGH_SPIKE_RATIO() * float(np.nanmax(others)):
            only = replace(detection, anomalies=(spike,))
            yield from _of_detection(only, rows, block, grid, first, measure)


def _of_detection(
    detection: Detection, rows: npt.NDArray[np.intp], block: Block, grid: Grid, first: int, measure: Metric
) -> Iterator[tuple[int, Deviation]]:
    for anomaly in detection:
        start, end, lasts = _extent(detection, anomaly)
        # new levels are reported by day; usage that begins or ends altogether, by the check of silences
        if lasts and (grid.step == "hour" or not (anomaly.value > 0 and anomaly.expected > 0)):
            continue
        # a new level is known after a week: what began less before the period was none in the period before
        if (start + grid.season - 1 if lasts else end - 1) < first:
            continue
        values = detection.values[anomaly.series]
        if lasts:
            end = _end_of_level(values, start, end, anomaly, grid.season)
        band = _lasting(anomaly) if lasts else _farthest(detection, anomaly.series, start, end)
        normal = detection.expected[anomaly.series, start:end]
        if lasts:
            normal = np.full(end - start, anomaly.expected)
        excess = float(np.nansum(values[start:end] - normal))
        in_period = excess_in_period(values, normal, start, first)
        least = max(MIN_CHANGE() * abs(float(np.nansum(normal))), MIN_EVENTS() if measure == "count" else 0.0)
        bucket = grid.starts[start + band.place]
        if bucket is None or not excess or abs(excess) < least or _is_return(values, start, end, grid.season):
            continue
        if grid.step == "hour" and _is_moved(values - detection.expected[anomaly.series], start, end, excess):
            continue
        since, until = grid.span(start, end)
        up, used = excess > 0, used_share(values, start, end)
        if up and not lasts and not used:  # all its usage, such as a batch each quarter: nothing says what is usual
            continue
        row = int(rows[anomaly.series])
        if up and measure in block.excess:
            bounded = _bounded(values[np.newaxis], first)[0, start:end]
            block.excess[measure][row, start:end] = np.maximum(0.0, np.nan_to_num(bounded - normal))
        yield (
            row,
            Deviation(
                customer_id=block.customers[row],
                metric_key=block.metrics[row],
                measure=measure,
                step=grid.step,
                shape=("rise" if up else "fall") if lasts else ("spike" if up else "drop"),
                since=since,
                until=until,
                bucket=bucket,
                value=band.value,
                expected=band.expected,
                low=band.low,
                high=band.high,
                excess=excess,
                in_period=in_period,
                on_first=float(np.nan_to_num(values[first] - normal[first - start])) if start <= first < end else 0.0,
                usual=float(np.nansum(values[first:])) - in_period,
                used=used,
                reason=anomaly.reason if lasts or "shift" not in anomaly.kind else _outside(band, end - start),
            ),
        )


def _is_moved(differences: Floats, start: int, end: int, excess: float) -> bool:
    """Whether the hours beside make up for an excess, or drop: usage that came some hours earlier or later than usual,
    such as a job by the clock of another zone after a clock change.
    """
    around = float(np.nansum(differences[max(0, start - BESIDE_HOURS) : end + BESIDE_HOURS]))
    return abs(around) < _MOVED_REST * abs(excess)


def excess_in_period(values: Floats, normal: Floats, start: int, first: int) -> float:
    """By how much values from `start` on differ from the `normal` ones, from column `first` on."""
    inside = normal[max(0, first - start) :]
    at = max(start, first)
    return float(np.nansum(values[at : at + len(inside)] - inside))


def _end_of_level(values: Floats, start: int, end: int, anomaly: Anomaly, season: int) -> int:
    """The end of a new level: where four days are back nearer to what was usual before, else `end`."""
    usual = _before(values[:start], range(start, end), season)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = (values[start:end] / usual - 1) / (anomaly.value / anomaly.expected - 1)
    returns = [first for _, first, _ in runs((moved < _HALF_WAY)[np.newaxis], MIN_LEVEL_LENGTH) if first]
    return start + returns[0] if returns else end


def _is_return(values: Floats, start: int, end: int, season: int) -> bool:
    """Whether a rise or fall leads back to what was usual before another level of less than three weeks.

    Its first two weeks, at most, are compared with the same weekdays, or hours, of the five weeks before.
    """
    last = min(end, start + 2 * season)
    usual = float(np.sum(_before(values, range(start, last), season)))
    return abs(float(np.nansum(values[start:last])) - usual) < MIN_CHANGE() / 2 * usual


def _before(values: Floats, steps: range, season: int) -> Floats:
    """The medians of the same weekdays, or hours, of five weeks before each step; NaN where under three are known."""
    medians = []
    for step in steps:
        same = values[step % season : step : season][-_WEEKS_BEFORE_RETURN:]
        known = same[~np.isnan(same)]
        medians.append(float(np.median(known)) if len(known) >= MIN_SEASONS_KNOWN else np.nan)
    return np.array(medians)


@dataclass(frozen=True, slots=True)
class _Band:
    """A value beside what was expected, and where that is in the movement."""

    place: int
    value: float
    expected: float
    low: float
    high: float


def used_share(values: Floats, start: int, end: int) -> float:
    """The share of the known steps outside of `[start, end)` that have usage; 0 without known ones."""
    others = np.delete(values, slice(start, end))
    known = others[~np.isnan(others)]
    return float(np.mean(known != 0)) if len(known) else 0.0


def _outside(band: _Band, steps: int) -> str:
    side = "above" if band.value > band.high else "below"
    return f"{side} the band {figure(band.low)}–{figure(band.high)}, for {steps} steps"


def _lasting(anomaly: Anomaly) -> _Band:
    """The new level and the one before, with the band that it left: of single steps, or the narrower one of levels."""
    low, high = anomaly.low, anomaly.high
    if low <= anomaly.value <= high:
        half = MIN_LEVEL_SCORE * (high - anomaly.expected)
        low, high = anomaly.expected - half, anomaly.expected + half
    return _Band(0, anomaly.value, anomaly.expected, low, high)


def _farthest(detection: Detection, row: int, start: int, end: int) -> _Band:
    place = int(np.nanargmax(np.abs(detection.score[row, start:end])))
    at = row, start + place
    value, expected, low, high = (
        float(values_of[at]) for values_of in (detection.values, detection.expected, detection.low, detection.high)
    )
    return _Band(place, value, expected, low, high)


def _extent(detection: Detection, anomaly: Anomaly) -> tuple[int, int, bool]:
    """The columns of an anomaly, and whether it lasts: a long run outside that comes back is no new level."""
    if "shift" not in anomaly.kind:
        return anomaly.start, anomaly.end, False
    score = detection.score[anomaly.series, anomaly.start :]
    side = 1.0 if anomaly.kind == "shift_up" else -1.0
    inside = np.flatnonzero(~(score * side > 1))
    length = int(inside[0]) if len(inside) else len(score)
    if 0 < length < len(score):
        return anomaly.start, anomaly.start + length, False
    return anomaly.start, anomaly.end, True


def with_sums(blocks: Iterable[Block], grid: Grid, first: int = 0) -> Iterator[Block]:
    """The blocks as they come, and last all their customers together, by metric.

    Where a customer fell silent for a while, the sum is learnt from as if it had not. Where one alone makes the sum
    fall or rise by `MIN_CHANGE` so, the sum is unknown: that customer's silence is a finding, and its drop. Where one
    customer makes half or more of all customers' excess (see `Block.excess`), the sum is without it: the excess is a
    finding of that customer. From column `first` on a customer adds no more than `HIGH_SPIKE_RATIO` times the largest
    of its values before: one wrong quantity is no usage of all.
    """
    sums: dict[str, dict[Metric, _Sum]] = {}
    for block in blocks:
        block.excess.update({measure: np.zeros_like(block.values[measure]) for measure in MEASURES})
        yield block
        for measure in MEASURES:
            values = _bounded(block.values[measure], first)
            away = np.nan_to_num(while_away(values, grid.season) - values)
            for row, metric in enumerate(block.metrics):
                so_far = sums.setdefault(metric, {}).setdefault(measure, _Sum(*np.zeros((5, len(grid.starts)))))
                so_far.values += values[row]
                so_far.away += away[row]
                so_far.most = np.maximum(so_far.most, away[row])
                so_far.excess += block.excess[measure][row]
                so_far.largest = np.maximum(so_far.largest, block.excess[measure][row])
    if sums:
        yield Block(
            customers=(None,) * len(sums),
            metrics=tuple(sums),
            values={measure: np.stack([sums_of[measure].known for sums_of in sums.values()]) for measure in MEASURES},
            learnt={measure: np.stack([sums_of[measure].learnt for sums_of in sums.values()]) for measure in MEASURES},
        )


def _bounded(values: Floats, first: int) -> Floats:
    if not first:
        return values
    largest = np.nan_to_num(values[:, :first]).max(axis=1, keepdims=True)
    bounded = values.copy()
    bounded[:, first:] = np.where(
        largest > 0, np.minimum(values[:, first:], HIGH_SPIKE_RATIO() * largest), values[:, first:]
    )
    return bounded


@dataclass(slots=True)
class _Sum:
    """All customers' usage of a metric, what silent ones would have used, and the most that one of these would have;
    the excess of those beyond their bands, and the largest of one of these.
    """

    values: Floats
    away: Floats
    most: Floats
    excess: Floats
    largest: Floats

    @property
    def usual(self) -> Floats:
        """The sums without the excess of a customer that makes half of all excess."""
        return self.values - np.where(self.largest >= self.excess / 2, self.largest, 0.0)

    @property
    def learnt(self) -> Floats:
        """What there would have been without silences."""
        return self.usual + self.away

    @property
    def known(self) -> Floats:
        """The sums, NaN where one customer's silence makes much of the difference."""
        alone = (self.away >= MIN_CHANGE() * self.learnt) & (self.most >= self.away / 2) & (self.away > 0)
        return np.where(alone, np.nan, self.usual)


def hourly(block: Block, hours: Grid, whole: Block, days: Grid) -> Block:
    """All customers together by the hour, as their days are: unknown, or with what is usual where much fell silent."""
    rows = {metric: row for row, metric in enumerate(whole.metrics)}
    columns = {start: column for column, start in enumerate(days.starts) if start is not None}
    starts = sorted(columns)
    of_day = [bisect_right(starts, start) - 1 if start is not None else -1 for start in hours.starts]
    column = np.array([columns[starts[index]] if index >= 0 else 0 for index in of_day], np.intp)
    # a metric whose first event lies in the unfinished day has hours, but no days to learn from
    order = [rows.get(metric, len(rows)) for metric in block.metrics]
    unknown = np.full((1, len(days.starts)), np.nan)
    values, learnt = {}, {}
    for measure in MEASURES:
        by_day, usual = (
            np.vstack([by_measure[measure], unknown])[order][:, column] for by_measure in (whole.values, whole.learnt)
        )
        silent = usual - np.nan_to_num(by_day) > MIN_CHANGE() / 2 * usual
        values[measure] = np.where(np.isnan(by_day) & ~np.isnan(usual), np.nan, block.values[measure])
        learnt[measure] = filled(block.values[measure], silent, hours.season)
    return Block(block.customers, block.metrics, values, learnt)
