"""The series of an aggregate from its points: ranked, folded into Other, and filled with zeros, in Python.

For few points: planning a statement of DuckDB that does the same takes longer. It is `statement.ranked`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import repeat
from typing import Any, NamedTuple

from usage_explore.decimals import Number, exact_sum
from usage_explore.extract.statement import Measure, Tail
from usage_explore.query.limits import MAX_METRIC_KEYS, MAX_POINTS
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import SeriesKind

Point = tuple[int | None, str | None, Number | None]
"""A row of `statement.points`: bucket, key and value; of a metric key neither bucket nor value."""


class Row(NamedTuple):
    """A row of an aggregate: a series by rank, or with `kind` None only what all rows have in common."""

    series_count: int
    metrics: int
    metric_keys: Sequence[str]
    kind: SeriesKind | None
    key: str | None
    total: Any
    members: int
    with_missing: bool
    points: Sequence[Any]
    divisor: Any = None
    divisors: Sequence[Any] = ()


def tail_points(tail: Tail, measure: Measure) -> Iterator[Point]:
    """The points of the tail as of `statement.points`; they may repeat."""
    zero = _zero(measure)
    texts = [text for name in measure.sums for text in tail.sums.get(name, ())]
    values = [exact_sum((Decimal(text),), zero) for text in texts] if measure.sums else tail.events
    yield from zip(tail.buckets, tail.keys or repeat(None), values, strict=False)
    counted = zip(tail.metric_keys, tail.costed if measure.costed else repeat(1), strict=False)
    yield from ((None, metric_key, None) for metric_key in {metric_key for metric_key, events in counted if events})


def ranked(
    points: Iterable[Point],
    query: AggregateQuery,
    size: int,
    measure: Measure,
    only: Sequence[str | None] | None = None,
) -> list[Row]:
    """The rows of a resolved query of `size` buckets, not of a ratio, from rows of `statement.points`.

    They may repeat a point. `only`: the keys of the series (None for missing) beside Other, by default the `top`
    largest.
    """
    zero = _zero(measure)
    by_key: defaultdict[str | None, dict[int, Number]] = defaultdict(dict)
    metric_keys: set[str | None] = set()
    for bucket, key, value in points:
        if bucket is None or value is None:
            metric_keys.add(key)
        else:
            cells = by_key[key]
            cells[bucket] = exact_sum((cells[bucket], value), zero) if bucket in cells else value
    if not measure.metrics and query.group_by == "metric_key":
        metric_keys = {*by_key}
    metrics = len(metric_keys - {None})
    if not measure.metrics and query.group_by != "metric_key":
        metrics = min(len(by_key), 1)
        metric_keys = {*query.metric_key[:metrics]}
    keys = sorted(key for key in metric_keys if key is not None) if metrics <= MAX_METRIC_KEYS else []
    if not measure.grouped and not by_key:
        by_key[None] = {}
    totals = {key: exact_sum(cells.values(), zero) for key, cells in by_key.items()}
    order = sorted(totals, key=lambda key: (key is None, key or ""))
    order.sort(key=totals.__getitem__, reverse=True)  # stable: equal totals stay in order of their keys
    kept = order[: query.top] if query.top and measure.grouped else order
    if only is not None and measure.grouped:
        kept = [key for key in sorted(only, key=lambda key: key is None) if key in totals]
    chosen = {*kept}
    folded = [key for key in order if key not in chosen]
    count = len(kept) + bool(folded)
    if not count or count * size > MAX_POINTS:
        return [Row(count, metrics, keys, None, None, None, 0, False, ())]
    rows = []
    for key in kept:
        kind: SeriesKind = "value" if key is not None else "missing" if measure.grouped else "all"
        members = 1 if kind == "all" else int(key is not None)
        rows.append(Row(count, metrics, keys, kind, key, totals[key], members, False, _filled(by_key[key], size, zero)))
    if folded:
        values: defaultdict[int, list[Number]] = defaultdict(list)
        for key in folded:
            for bucket, number in by_key[key].items():
                values[bucket].append(number)
        sums = {bucket: exact_sum(numbers, zero) for bucket, numbers in values.items()}
        members = sum(key is not None for key in folded)
        total = exact_sum((totals[key] for key in folded), zero)
        rows.append(Row(count, metrics, keys, "other", None, total, members, None in folded, _filled(sums, size, zero)))
    return rows


def _zero(measure: Measure) -> Number:
    """0 with as many decimal places as the values."""
    return Decimal((0, (0,), -measure.scales[0])) if measure.sums else 0


def _filled(cells: dict[int, Number], size: int, zero: Number) -> list[Number]:
    """The value of every bucket, from the first one on."""
    return [cells.get(bucket, zero) for bucket in range(1, size + 1)]
