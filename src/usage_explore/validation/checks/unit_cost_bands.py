"""The usual unit costs of each group of events, and the band beyond which a unit cost deviates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from math import ceil, log
from typing import Any

from usage_explore.decimals import total
from usage_explore.validation.bounds import CheckBounds

STEPS_PER_E = 200
"""Steps of the natural logarithm of a unit cost; one is about 0.5 %."""

BOUNDS = CheckBounds("unit_costs")

# fmt: off
MIN_GROUP_EVENTS = BOUNDS.add("min_group_events", 30, "events", 2, 1000000,
    "Events from which a group has a usual unit cost.")

MIN_HISTORY_EVENTS = BOUNDS.add("min_history_events", 200, "events", 1, 1000000,
    "Events before the period from which they alone say what is usual; with fewer, the period's do too.")

QUANTILES = (0.1, 0.9)
"""Quantiles of a group that its band is computed from: up to a tenth of the history may itself be wrong."""

BAND_WIDTH = BOUNDS.add("band_width", 2.5, "factor", 1, 100,
    "Distance of the band's edges from the median, in multiples of the distance of those quantiles.")

MIN_BAND_FACTOR = BOUNDS.add("min_band_factor", Decimal("1.5"), "factor", 1.01, 1000,
    "Factor between the median and the band's edges, at least.")

CONSTANT_QUANTILES = (0.01, 0.99)
"""Quantiles of the events before that lie within a step of the median where a unit cost is constant."""

MIN_CONSTANT_BAND_FACTOR = BOUNDS.add("min_constant_band_factor", Decimal("1.03"), "factor", 1.01, 1000,
    "Factor between a constant unit cost and the band's edges: an amount rounded to two or three digits differs by "
    "less, the change of a price by more.")

MAX_QUANTILE_FACTOR = BOUNDS.add("max_quantile_factor", 5, "factor", 1, 1000,
    "Factor between the quantiles up to which a group has a usual unit cost.")
# fmt: on

_RATE = Context(prec=12)


@dataclass(frozen=True, slots=True)
class Band:
    """A group's usual unit cost, and its lowest and highest usual step of the logarithm."""

    metric: str
    currency: str
    values: tuple[str | None, ...]
    usual: Decimal
    low: int
    high: int


def bands_of(rows: Iterable[Any]) -> tuple[list[Band], list[Band]]:
    """The bands of the groups with a usual unit cost, and of these the bands that events of the period are outside of.

    A group with too much spread has none: its cost does not depend on the quantity, or on something unknown.
    """
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        if row.step is not None:
            groups.setdefault((row.metric_key, row.currency, row.first_key, row.second_key), []).append(row)
    bands, left = [], []
    for (metric, currency, *values), members in groups.items():
        before = [row for row in members if row.before]
        is_constant = sum(row.events for row in before) >= MIN_GROUP_EVENTS() and _is_constant(before)
        known = before if is_constant or sum(row.events for row in before) >= MIN_HISTORY_EVENTS() else members
        if sum(row.events for row in known) < MIN_GROUP_EVENTS():
            continue
        middle, (low, high) = _quantile(known, 0.5), (_quantile(known, share) for share in QUANTILES)
        if high - low > STEPS_PER_E * log(MAX_QUANTILE_FACTOR()):
            continue
        min_distance = ceil(STEPS_PER_E * log(MIN_CONSTANT_BAND_FACTOR() if is_constant else MIN_BAND_FACTOR()))
        lowest = middle - max(min_distance, ceil(BAND_WIDTH() * (middle - low)))
        highest = middle + max(min_distance, ceil(BAND_WIDTH() * (high - middle)))
        usual_rows = [row for row in known if abs(row.step - middle) <= 1]
        usual = _RATE.divide(
            total(row.cost for row in usual_rows), total(row.quantity for row in usual_rows) or Decimal(1)
        )
        band = Band(metric, currency, tuple(values), usual, lowest, highest)
        bands.append(band)
        if any(not lowest <= row.step <= highest for row in members if not row.before):
            left.append(band)
    return bands, left


def _is_constant(rows: Sequence[Any]) -> bool:
    middle = _quantile(rows, 0.5)
    return all(abs(_quantile(rows, share) - middle) <= 1 for share in CONSTANT_QUANTILES)


def _quantile(rows: Sequence[Any], share: float) -> int:
    """The step up to which this share of the events lies."""
    left = share * sum(row.events for row in rows)
    for row in sorted(rows, key=lambda row: row.step):
        left -= row.events
        if left <= 0:
            return int(row.step)
    raise LookupError("a group without events")
