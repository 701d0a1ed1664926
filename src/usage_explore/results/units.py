"""The metrics of a result, and the unit of their quantities: one if all of them have the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usage_explore.decimals import Number
from usage_explore.formatting import data_value
from usage_explore.query.describe import measure_name
from usage_explore.query.queries import COST_METRICS, METRICS, RATIOS

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData

QUANTITIES = ("sum_quantity", *RATIOS)
"""Measures with a unit of quantities: what is added up, or what a cost is divided by."""

_PLURAL = re.compile(r"(?<![^ -])[a-z]{3,}(?<!ie)(?<!che)(?<!she)(?<!sse)(?<!xe)(?<!ze)(?<![sxzuip])s$")
"""A last word whose singular is the word without its s, such as `tokens`; not `ms`, `Mbps`, `batches`."""


@dataclass(frozen=True, slots=True)
class AddedMetrics:
    """The different metrics of a result: their number, and their keys, or without all of them none."""

    number: int
    keys: tuple[str, ...] = ()


class HasUnit:
    """The unit of a result with `metrics`, their number, and `units`, those of the metrics that have one, by key."""

    __slots__ = ()

    metrics: int
    units: Mapping[str, str]
    query: Any

    @property
    def unit(self) -> str | None:
        """The unit of the quantities of all its metrics, None for several, for an unknown one, and without metrics."""
        return common_unit(self.metrics, self.units)

    @property
    def adds(self) -> str:
        """The warning for a sum without a unit: "adds 12 metrics in 3 units". Blank for counts, costs and one unit."""
        if self.metrics <= 1 or self.query.metric not in QUANTITIES or self.unit is not None:
            return ""
        units = len(set(self.units.values())) if len(self.units) == self.metrics else 0
        return f"adds {self.metrics:,} metrics" + (f" in {units:,} units" if units else "")


def common_unit(metrics: int, units: Mapping[str, str]) -> str | None:
    """The unit that all of a number of metrics have, if the `units` by metric are theirs."""
    different = set(units.values())
    return different.pop() if len(different) == 1 and len(units) == metrics else None


def value_name(answer: AggregateData, value: Number | None = None, of: str | None = None) -> str:
    """What the values are: `events`, `tokens`, `quantity` without a unit, `cost in USD`, `unit cost in USD per token`.

    After a value of 1 it is the singular: `event`, `token`. `of` is another unit than the answer's, blank for none.
    """
    unit = unit_text(answer.unit if of is None else of)
    metric = answer.query.metric
    if metric not in COST_METRICS:
        return measure_name(metric, value) if not unit or metric == "count" else unit if value != 1 else singular(unit)
    per = f" per {singular(unit)}" if unit and metric in RATIOS else ""
    name = METRICS[metric]
    if answer.currency is not None:
        return f"{name} in {data_value(answer.currency)}{per}"
    known = [code for code in answer.currencies if code is not None]
    if known:
        of_known = data_value(known[0]) if len(known) == 1 else f"{len(known):,} currencies"
        return f"{name} in {of_known}{per}{' and without a currency' if None in answer.currencies else ''}"
    return f"{name}{per}, without a currency" if answer.currencies else f"{name}{per}"


def unit_text(unit: str | None) -> str:
    """A unit on one printable line, the empty text without one."""
    return data_value(unit) if unit else ""


def singular(unit: str) -> str:
    """The unit after "per": `token` of `tokens`, `GB-hour` of `GB-hours`; as it is where that is not sure (`ms`)."""
    if _PLURAL.search(unit):
        return unit[:-1]
    return re.sub(r"(?<!\bse)ries$", "ry", unit)
