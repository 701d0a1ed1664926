"""Deviations of all customers together that are one customer's: left to that customer's own series, or given its name.

The sum over all customers leaves its band when one large or bursty customer does what it often does. The customer that
accounts for over half of the difference is compared with its own history: if it had as much in a span of the same
length before, or its own series deviates too, nothing is reported of all; else the deviation is that customer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import numpy as np

from usage_explore.detector.anomalies import figure
from usage_explore.query.queries import Metric, Period
from usage_explore.validation.anomalies.bursts import columns_of, largest
from usage_explore.validation.anomalies.deviations import (
    HIGH_SPIKE_RATIO,
    MIN_EVENTS,
    Deviation,
    excess_in_period,
    used_share,
)
from usage_explore.validation.anomalies.series import MEASURES, Block, Floats, Grid, blocks
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.usage_sums import metric_filter

BOUNDS = CheckBounds("shifts")

# fmt: off
DOMINANT_SHARE = BOUNDS.add("dominant_share", 0.5, "share", 0, 1,
    "Share of the difference of all customers together from which it is one customer's.")
# fmt: on

MAX_QUERIED_SPANS = 100
"""Deviations of all customers together that are queried for the customers behind them, those that differ most."""

MAX_JUDGED_CUSTOMERS = 50
"""Customers whose own series by the hour are read for comparison."""


@dataclass(slots=True)
class UsualUsage:
    """The mean of each customer's metric in a step of the time before the period: measure, metric, customer."""

    means: dict[Metric, dict[str, dict[UUID, float]]] = field(default_factory=dict)

    def add(self, block: Block, first: int) -> None:
        """Add the customers of a block, from the columns before `first`, or from all where there are none."""
        until = first or len(block.values["count"][0])
        with np.errstate(invalid="ignore"):
            for measure in MEASURES:
                values = block.values[measure][:, :until]
                known = np.maximum(1, np.count_nonzero(~np.isnan(values), axis=1))
                means = np.nansum(values, axis=1) / known
                for customer, metric, mean in zip(block.customers, block.metrics, means.tolist(), strict=True):
                    if customer is not None and mean:
                        self.means.setdefault(measure, {}).setdefault(metric, {})[customer] = mean

    def of(self, measure: Metric, metric: str) -> Mapping[UUID, float]:
        """The means of a metric by customer."""
        return self.means.get(measure, {}).get(metric, {})


def attributed(
    examination: Examination, candidates: Sequence[Deviation], usual: UsualUsage, days: Grid, hours: Grid
) -> list[Deviation]:
    """The deviations; those of all customers that are one customer's are left out, or have its id.

    A customer without usage before the period has no series of its own that could deviate: it is named.
    """
    whole = [one for one in candidates if one.customer_id is None]
    if not whole or examination.period.customer_id is not None:
        return list(candidates)
    own = [one for one in candidates if one.customer_id is not None]
    kept: list[Deviation] = []
    open_questions: dict[UUID, list[Deviation]] = {}
    ranked = sorted(whole, key=lambda one: -one.part)
    for deviation in ranked[:MAX_QUERIED_SPANS]:
        customer = _dominant(examination, deviation, usual)
        if customer is None:
            kept.append(deviation)
        elif deviation.rises and not _reported(customer, deviation, own):
            open_questions.setdefault(customer, []).append(deviation)
    kept += ranked[MAX_QUERIED_SPANS:]
    kept += _named(examination, open_questions, days, hours)
    return own + kept


def _reported(customer: UUID, deviation: Deviation, own: Iterable[Deviation]) -> bool:
    return any(
        one.customer_id == customer
        and one.metric_key == deviation.metric_key
        and one.rises == deviation.rises
        and one.since < deviation.until
        and deviation.since < one.until
        for one in own
    )


def _dominant(examination: Examination, deviation: Deviation, usual: UsualUsage) -> UUID | None:
    """The customer that accounts for over half of the difference; None if none does."""
    query = examination.aggregate_question(
        since=deviation.since,
        until=deviation.until,
        bucket="week",
        metric=deviation.measure,
        group_by="customer_id",
        top=0,
        **metric_filter([deviation.metric_key]),
    )
    if not query.metric_key:  # a name that no query can filter by
        return None
    series, *_ = examination.paths.aggregate(query)
    values = {UUID(one.key): float(one.number) for one in series if one.key is not None}
    means = usual.of(deviation.measure, deviation.metric_key)
    expected, mean = sum(values.values()) - deviation.excess, sum(means.values())
    scale = max(0.0, expected) / mean if mean > 0 else 0.0
    for customer in values.keys() | means.keys():
        difference = values.get(customer, 0.0) - scale * means.get(customer, 0.0)
        if difference * deviation.excess > 0 and abs(difference) > DOMINANT_SHARE() * abs(deviation.excess):
            return customer
    return None


def _named(
    examination: Examination, questions: Mapping[UUID, list[Deviation]], days: Grid, hours: Grid
) -> Iterator[Deviation]:
    """The deviations that are far beyond all that their customer ever had, with its id."""
    customers = sorted(questions)[:MAX_JUDGED_CUSTOMERS]
    for grid in (days, hours):
        mine = [one for one in customers if any(each.step == grid.step for each in questions[one])]
        if not mine:
            continue
        for block in blocks(examination, grid, "customer_id", mine):
            for row, (customer, metric) in enumerate(zip(block.customers, block.metrics, strict=True)):
                for deviation in questions[customer] if customer is not None else ():
                    if deviation.metric_key == metric and deviation.step == grid.step:
                        values = block.values[deviation.measure][row]
                        if is_record(values, grid, deviation, block.values["count"][row]):
                            yield _own(replace(deviation, customer_id=customer), values, grid, examination.period)


def _own(deviation: Deviation, values: Floats, grid: Grid, period: Period) -> Deviation:
    """The deviation with the customer's numbers in place of those of all: the mean and largest of its steps before."""
    inside = columns_of(grid, deviation)
    before = values[: inside[0]]
    before = before[~np.isnan(before)]
    before = before[np.flatnonzero(before)[0] :] if before.any() else np.zeros(1)
    span = values[inside[0] : inside[-1] + 1]
    farthest = 0 if deviation.lasts else int(np.nanargmax(span))
    value = float(np.nanmedian(span[: grid.season]) if deviation.lasts else span[farthest])
    expected, high = float(before.mean()), float(before.max())
    excess = float(np.nansum(span - expected))
    first = next(at for at, end in enumerate(grid.ends) if end is not None and end > period.span[0])
    in_period = excess_in_period(values, np.full(len(span), expected), inside[0], first)
    return replace(
        deviation,
        bucket=grid.starts[inside[0] + farthest] or deviation.bucket,
        value=value,
        expected=expected,
        low=float(before.min()),
        high=high,
        excess=excess,
        in_period=in_period,
        usual=float(np.nansum(values[first:])) - in_period,
        used=used_share(values, inside[0], inside[-1] + 1),
        reason=f"above {figure(high)}, the most of any {deviation.step} of the customer before",
    )


def is_record(values: Floats, grid: Grid, deviation: Deviation, counts: Floats) -> bool:
    """Whether a span has `HIGH_SPIKE_RATIO` times as much as any span of its length before, and `MIN_EVENTS` events."""
    inside = columns_of(grid, deviation)
    if not inside:
        return False
    first, length = inside[0], inside[-1] + 1 - inside[0]
    events = float(np.nansum(counts[first : first + length]))
    amount = float(np.nansum(values[first : first + length]))
    return events >= MIN_EVENTS() and amount >= HIGH_SPIKE_RATIO() * largest(values[:first], length)
