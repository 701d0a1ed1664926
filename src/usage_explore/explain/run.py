"""From a resolved query to its explanation, in one transaction with one snapshot.

The search uses floats, and a sample if there are many events. Reported amounts are exact sums of all events of each
cell. Both come from the extract, or from the events if it cannot answer, with the same result.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import numpy as np

from usage_explore.decimals import Number, difference, exact_sum
from usage_explore.errors import Fault, NotExact, QueryError
from usage_explore.explain.from_events import CellSum, Condition, EventSums
from usage_explore.explain.from_extract import ExtractSums
from usage_explore.explain.leaf_sums import MAX_LEAVES, LeafColumns, LeafSums, Texts, scale_before
from usage_explore.explain.model import Codes, Floats, Leaves, Pair, Region, fold_values
from usage_explore.explain.result import Explanation, Peak, Where, build_parts, filters_of
from usage_explore.explain.search import choose_regions, spread_evenly
from usage_explore.explain.single_values import Sums, settle
from usage_explore.explain.spans import Baseline, Span, Spans, spans
from usage_explore.extract import retention
from usage_explore.extract.engine import ExtractUnusable
from usage_explore.extract.routing import Paths
from usage_explore.files.values import InvalidValue, number_text
from usage_explore.formatting import date_and_time, duration
from usage_explore.query import filters, validators
from usage_explore.query.filters import DIMENSION, GROUPS
from usage_explore.query.queries import COST_METRICS, RATIOS, AggregateQuery
from usage_explore.results.currencies import CurrencyCost, check_currencies, in_order

SAMPLE_EVENTS = 100_000
"""Events of both windows that are searched; of more, one in 2, 4, 8 and so on."""

MAX_DIMENSIONS = 20
"""Dimension keys that are searched, the most frequent ones."""

_MAX_DISTINCT_SHARE = 0.5
"""Largest ratio of a group's values to the leaves: a value that is nearly unique to its event explains nothing."""

_MIN_DISTINCT_LEAVES = 50
"""Leaves up to which a group is searched even if its values are unique."""


_MAX_FLOAT = Decimal("1e300")
"""Amounts in a unit, up to which floats have room for sums."""

MIN_PEAK_DAYS, MAX_PEAK_DAYS = 3, 400
"""Days of a window in which the days of the change are looked for."""

_MAX_PEAK_SHARE, _MIN_PEAK_PART = Decimal(1) / 3, Decimal("0.8")
"""Largest part of the window's days, and least part of the change, that a named run of days has."""


@dataclass(frozen=True, slots=True)
class _Values:
    """The leaves: `codes` has a column per group, of indexes into its `values`; None, for no value, is one of them.

    `before` and `after` are amounts as multiples of `unit`; `known` has the index of each value.
    """

    groups: tuple[str, ...]
    codes: Codes
    values: tuple[list[str | None], ...]
    before: Floats
    after: Floats
    unit: Decimal
    known: tuple[dict[str | None, int], ...]


class _Reader(Protocol):
    """The sums of the events of two windows; see `from_events.EventSums`."""

    def keys(self, share: int, most: int) -> list[str]: ...
    def leaves(self, groups: Sequence[str], share: int) -> LeafColumns: ...
    def sums(self, cells: Sequence[Condition], groups: Sequence[str]) -> list[CellSum]: ...
    def overlaps(self, excluded: Sequence[tuple[Where, tuple[str, str | None]]]) -> list[bool]: ...


def explain(
    paths: Paths,
    query: AggregateQuery,
    bucket: datetime | None,
    baseline: Baseline | tuple[datetime, datetime] | None,
    expected: Decimal | None,
) -> Explanation:
    """The change in a bucket of the resolved query, or in its whole window. See `Store.explain`."""
    if query.metric in RATIOS:
        raise QueryError([Fault("metric", f"{query.metric} is a ratio, whose change has no parts; use sum_cost")])
    windows = spans(query, paths.now, bucket, baseline)
    sides = [
        query.replace(since=span.since, until=span.until, group_by="none", compare=None, cumulative=None)
        for span in (windows.before, windows.after)
    ]
    currency = _currency(paths, sides) if query.metric in COST_METRICS else None
    try:
        return _explained(paths, ExtractSums.of(paths, sides), sides, windows, currency, expected)
    except ExtractUnusable:
        tables = [paths.table] * len(sides)
        return _explained(paths, EventSums(paths.connection, tables, sides), sides, windows, currency, expected)


def _explained(
    paths: Paths,
    reader: _Reader,
    sides: Sequence[AggregateQuery],
    windows: Spans,
    currency: str | None,
    expected: Decimal | None,
) -> Explanation:
    query = sides[1]
    events = sum(paths.count(side) for side in sides)
    share = 1
    while events > share * SAMPLE_EVENTS:
        share *= 2
    values, leaves, notes, common = _values(reader, share)
    if share > 1:
        notes.append(f"The search used one in {share} of the {events:,} events; the amounts are of all of them")
    if windows.cut:
        length = duration(windows.after.until - windows.after.since)
        notes.append(f"Both windows are cut to {length}, as the later one is incomplete")
    exists_since = next(filter(None, map(paths.exists_since, sides)), None)
    begins = exists_since or retention.events_begin(paths.connection, paths.table, query, paths.exists_since)
    notes += _not_covered(sides, begins, are_removed=exists_since is not None)
    found, even = _regions(values, share, expected)
    zero: Number = 0 if query.metric == "count" else Decimal(0)
    whole = None
    if values.groups and len(leaves.sides) * share <= MAX_LEAVES:
        every = leaves if share == 1 else reader.leaves(values.groups, 1)
        whole = LeafSums.of(every, values.values, values.known)
    found, sums = settle(
        found,
        lambda regions: whole.sums(regions, expected) if whole else _sums(reader, values, regions, expected, zero),
        is_even=even,
    )
    regions = _shortened(reader, values, found, whole)
    parts = build_parts(sums, query, regions, _always(values, found, sums), expected)
    if exists_since is not None:
        known = tuple(dataclasses.replace(cell, is_new=False, is_gone=False) for cell in parts.cells)
        parts = parts._replace(cells=known)
    are_all, filtered = share == 1, {*query.to_params()}
    is_alone = not (values.groups and all(map(any, sums.events)))
    peak = None
    if expected is None and exists_since is None:
        first_cell = (parts.cells[0].where, parts.cells[0].without) if parts.cells else ((), ())
        peak = _peak(paths, sides, *first_cell)
    return Explanation(
        query=query,
        before=windows.before,
        after=windows.after,
        expected=expected,
        total=parts.total,
        cells=parts.cells,
        rest=parts.rest,
        groups=values.groups,
        notes=tuple(notes),
        currency=currency,
        is_even=even and not parts.cells and exists_since is None,
        common=tuple(pair for pair in common if pair not in filtered) if are_all and is_alone else (),
        peak=peak,
        exists_since=exists_since,
    )


def _not_covered(sides: Sequence[AggregateQuery], begins: datetime | None, *, are_removed: bool) -> list[str]:
    """What is said of the windows, before and explained, that start before `begins`, the time of the first event."""
    names = [
        name
        for name, side in zip(("before", "explained"), sides, strict=True)
        if begins is not None and side.span[0] < begins
    ]
    if begins is None or not names:
        return []
    begin = f"{date_and_time(begins.astimezone(sides[0].zone))}, {sides[0].timezone}"
    if are_removed:
        return [
            f"Events before {begin} were removed: the numbers of the window {' and '.join(names)} are too small or 0,"
            " and what is new or gone is unknown"
        ]
    return [f"The window {names[0]} is not wholly covered: events begin on {begin}"]


def _currency(paths: Paths, sides: Sequence[AggregateQuery]) -> str | None:
    """The currency of the costs of both windows. Raises `QueryError` for several."""
    found: dict[str | None, CurrencyCost] = {}
    for side in sides:
        for cost in paths.costs(side):
            known = found.get(cost.currency, CurrencyCost(cost.currency, 0, Decimal(0)))
            found[cost.currency] = cost._replace(events=cost.events + known.events)
    check_currencies(in_order(found.values()))
    return next(iter(found), None)


def _values(reader: _Reader, share: int) -> tuple[_Values, LeafColumns, list[str], list[tuple[str, str]]]:
    """The values to search, the leaves with the groups searched, the limits of the search, and what all leaves have."""
    keys = reader.keys(share, MAX_DIMENSIONS + 1)
    notes = []
    if len(keys) > MAX_DIMENSIONS:
        notes.append(f"Only the {MAX_DIMENSIONS} most frequent dimensions were searched")
    groups = [*GROUPS, *(DIMENSION + key for key in keys[:MAX_DIMENSIONS] if _is_group(key))]
    leaves = reader.leaves(groups, share)
    number, unique = len(leaves.sides), []
    kept: dict[str, Texts] = {}
    common: list[tuple[str, str]] = []
    for group, texts in zip(groups, leaves.groups, strict=True):
        if number > _MIN_DISTINCT_LEAVES and len(texts.values) > _MAX_DISTINCT_SHARE * number:
            unique.append(group)
        elif len(texts.values) > 1:
            kept[group] = texts.in_order()
        else:
            common += [(group, value) for value in texts.values if value is not None]
    if unique:
        notes.append(f"Not searched, because nearly every event has its own value: {', '.join(map(ascii, unique))}")
    before, after, unit = _amounts(leaves)
    stacked = np.array([of.codes for of in kept.values()], dtype=np.int64).reshape(len(kept), number).T
    # the database gives rows in any order, on which no answer may depend
    order = np.lexsort((before, *stacked.T))
    stacked, before, after = stacked[order], before[order], after[order]
    values = tuple(of.values for of in kept.values())
    indexes = tuple({value: code for code, value in enumerate(of)} for of in values)
    searched = dataclasses.replace(leaves, groups=[*kept.values()])
    return _Values(tuple(kept), stacked, values, before, after, unit, indexes), searched, notes, common


def number(expected: object) -> Decimal | None:
    """The expected number, exact. Raises `QueryError` unless it is a finite `Decimal` or `int` of few enough digits."""
    if expected is None:
        return None
    if isinstance(expected, bool) or not isinstance(expected, int | Decimal) or not Decimal(expected).is_finite():
        raise QueryError([Fault("expected", f"{validators.shorten(expected)} is not a finite Decimal or int")])
    try:
        return Decimal(number_text(expected))
    except InvalidValue as error:
        raise QueryError([Fault("expected", str(error))]) from None


def _is_group(key: str) -> bool:
    try:
        filters.group(DIMENSION + key)
    except ValueError:
        return False
    return True


def _amounts(leaves: LeafColumns) -> tuple[Floats, Floats, Decimal]:
    """The amounts of leaves before and after as multiples of the largest, as floats have bounds; and the largest."""
    values = [Decimal(amount) for amount in leaves.amounts]
    if not all(value.is_finite() for value in values):
        raise NotExact.not_finite()
    largest = max((value.copy_abs() for value in values), default=Decimal(0)) or Decimal(1)
    amounts = np.array([float(value / largest) for value in values])
    later = np.array(leaves.sides, dtype=bool)
    return np.where(later, 0.0, amounts), np.where(later, amounts, 0.0), largest


def _regions(values: _Values, share: int, expected: Decimal | None) -> tuple[list[Region], bool]:
    """The regions that account for the change; without any, whether it is spread evenly."""
    if not values.groups or not len(values.codes):
        return [], False
    codes, before, after = fold_values(values.codes, values.before, values.after)
    if expected is not None and before.sum() > 0 < expected:
        before = before * min(1e9, float(expected / share / values.unit) / before.sum())
    leaves = Leaves(codes, before, after)
    regions = choose_regions(leaves)
    return regions, not regions and spread_evenly(leaves)


def _where(values: _Values, pairs: Iterable[Pair]) -> Where:
    return tuple((values.groups[dim], values.values[dim][code]) for dim, code in pairs)


def _sums(
    reader: _Reader,
    values: _Values,
    regions: Sequence[Region],
    expected: Decimal | None,
    zero: Number,
) -> Sums:
    """The sums of all events of the regions. Values that the sample lacks are added to `values`."""
    cells = [(_where(values, region.where), _where(values, region.without)) for region in regions]
    found = reader.sums(cells, values.groups)
    rows = sorted(found, key=lambda row: (row.board, row.key is None, row.key or "", row.side, row.cell))
    events = [0] * (len(regions) + 1), [0] * (len(regions) + 1)
    amounts = [zero] * (len(regions) + 1), [zero] * (len(regions) + 1)
    unit = _unit(Decimal(row.value) for row in rows)
    whole = [row for row in rows if row.board < 0]
    for row in whole:
        events[row.side][row.cell], amounts[row.side][row.cell] = row.events, row.value
    scale = scale_before(expected, amounts[0])
    for row in rows:
        if row.board >= 0 and row.key not in values.known[row.board]:
            values.known[row.board][row.key] = len(values.values[row.board])
            values.values[row.board].append(row.key)
    shapes = [(len(regions) + 1, len(of)) for of in values.values]
    volumes, changes, counts = ([np.zeros(shape) for shape in shapes] for _ in range(3))
    for row in rows:
        if row.board >= 0:
            place = row.cell, values.known[row.board][row.key]
            amount = float(Decimal(row.value) / unit) * (1.0 if row.side else scale)
            counts[row.board][place] += row.events
            changes[row.board][place] += amount if row.side else -amount
            if not row.side:
                volumes[row.board][place] = amount
    return Sums(events, amounts, volumes, changes, counts)


def _unit(amounts: Iterable[Decimal]) -> Decimal:
    """The last digit of the amounts, of which floats hold whole numbers exactly; the largest if it needs too many."""
    known = [*amounts]
    if not all(amount.is_finite() for amount in known):
        raise NotExact.not_finite()
    last = Decimal(1).scaleb(min((int(amount.as_tuple().exponent) for amount in known), default=0))
    largest = max((amount.copy_abs() for amount in known), default=Decimal(0))
    return largest if largest > last * _MAX_FLOAT else last


def _always(values: _Values, regions: Sequence[Region], sums: Sums) -> list[Where]:
    """For each region the values of other groups that all its events have in both windows."""
    result = []
    for index, region in enumerate(regions):
        known = {dim for dim, _ in region.where}
        there = {dim: np.flatnonzero(counts[index]) for dim, counts in enumerate(sums.counts) if dim not in known}
        pairs = _where(values, [(dim, int(codes[0])) for dim, codes in there.items() if len(codes) == 1])
        result.append(tuple(pair for pair in pairs if pair[1] is not None))
    return result


def _peak(paths: Paths, sides: Sequence[AggregateQuery], where: Where, without: Where) -> Peak | None:
    """The shortest run of days with most of a region's change, and its part; None if the change is spread over more.

    Days are compared by their position in the two windows; the run is of the window in which it is more unusual. None,
    too, for a value that is too long for a filter.
    """
    try:
        narrowed = [side.replace(bucket="day", **filters_of(side, where, without)) for side in sides]
    except QueryError:
        return None
    both = [side.edges() for side in narrowed]
    days = min(len(edges) for edges in both) - 1
    if not MIN_PEAK_DAYS <= days <= MAX_PEAK_DAYS:
        return None
    amounts: list[list[Number]] = []
    for side in narrowed:
        ((every, *_), *_) = paths.aggregate(side)
        amounts.append([point.value or 0 for point in every.points])
    changes = [difference(after, before) for before, after in zip(*amounts, strict=False)]
    run = peak_run([Decimal(change) for change in changes])
    if run is None:
        return None
    # a change down is often that of a high day before, whose date the later day must not get
    unusual = [_distance(of[:days], run) for of in amounts]
    place = int(unusual[1] >= unusual[0])
    since, until = sides[place].span
    span = Span(max(since, both[place][run[0]]), min(until, both[place][run[1]]))
    return Peak(span, exact_sum(changes[run[0] : run[1]], changes[0] * 0))


def _distance(amounts: Sequence[Number], run: tuple[int, int]) -> Decimal:
    """How far the amount of a run of days is from as many median days."""
    own = sum((Decimal(amount) for amount in amounts[run[0] : run[1]]), Decimal(0))
    return (own - Decimal(statistics.median(map(Decimal, amounts))) * (run[1] - run[0])).copy_abs()


def peak_run(changes: Sequence[Decimal]) -> tuple[int, int] | None:
    """The `[first, last)` of the run whose change exceeds the even one most; None if it is long, or has too little."""
    total = sum(changes, Decimal(0))
    sign = 1 if total > 0 else -1
    even = total.copy_abs() / len(changes)
    best, start, height, result = Decimal(0), 0, Decimal(0), (0, 0)
    for place, change in enumerate(changes):
        if height <= 0:
            start, height = place, Decimal(0)
        height += sign * change - even
        if height > best:
            best, result = height, (start, place + 1)
    part = sign * sum(changes[result[0] : result[1]], Decimal(0))
    is_short = bool(total) and 0 < result[1] - result[0] <= _MAX_PEAK_SHARE * len(changes)
    return result if is_short and part >= _MIN_PEAK_PART * total.copy_abs() else None


def _shortened(
    reader: _Reader, values: _Values, regions: Sequence[Region], whole: LeafSums | None
) -> list[tuple[Where, Where]]:
    """The regions without the excluded values that none of their events has in either window: they exclude nothing."""
    excluding = {(region.where, pair): Region((*region.where, pair)) for region in regions for pair in region.without}
    codes = values.codes if whole is None else whole.codes
    known = {key for key, both in excluding.items() if both.mask(codes).any()}
    unsure = [key for key in excluding if key not in known] if whole is None else []
    if unsure:
        pairs = [(_where(values, where), _where(values, [pair])[0]) for where, pair in unsure]
        known |= {key for key, there in zip(unsure, reader.overlaps(pairs), strict=True) if there}
    return [
        (
            _where(values, region.where),
            _where(values, [pair for pair in region.without if (region.where, pair) in known]),
        )
        for region in regions
    ]
