"""From a resolved query to its explanation, in one transaction with one snapshot.

The search uses floats, and a sample if there are many events. Reported amounts are exact sums, by the database, of all
events of each cell. Every statement reads two windows, distinguished by the column `side`: 0 before, 1 after. With
`share` above 1 it reads one in `share` events, chosen by a hash of the id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import starmap
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Numeric,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)

from usage_explore.decimals import Number, difference, exact_sum
from usage_explore.errors import Fault, NotExact, QueryError
from usage_explore.explain.model import Codes, Floats, Leaves, Pair, Region, fold_values
from usage_explore.explain.result import Explanation, Peak, Where, build_parts
from usage_explore.explain.search import choose_regions, spread_evenly
from usage_explore.explain.single_values import Sums, settle
from usage_explore.explain.spans import Baseline, Span, spans
from usage_explore.files.values import InvalidValue, number_text
from usage_explore.formatting import date_and_time, duration
from usage_explore.query import buckets, filters, validators
from usage_explore.query.filters import DIMENSION, GROUPS
from usage_explore.query.queries import COST_METRICS, RATIOS, SUMS, AggregateQuery, EventQuery
from usage_explore.results.currencies import CurrencyCost, check_currencies, in_order
from usage_explore.sql.aggregate import currencies, sums, total_of
from usage_explore.sql.filters import conditions, expression, object_keys
from usage_explore.sql.filters import first as first_event

SAMPLE_EVENTS = 100_000
"""Events of both windows that are searched; of more, one in 2, 4, 8 and so on."""

MAX_DIMENSIONS = 20
"""Dimension keys that are searched, the most frequent ones."""

_MAX_DISTINCT_SHARE = 0.5
"""Largest ratio of a group's values to the leaves: a value that is nearly unique to its event explains nothing."""

_MIN_DISTINCT_LEAVES = 50
"""Leaves up to which a group is searched even if its values are unique."""


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


def explain(
    connection: Connection,
    table: Table,
    query: AggregateQuery,
    now: datetime,
    bucket: datetime | None,
    baseline: Baseline | tuple[datetime, datetime] | None,
    expected: Decimal | None,
) -> Explanation:
    """The change in a bucket of the resolved query, or in its whole window. See `Store.explain`."""
    if query.metric in RATIOS:
        raise QueryError([Fault("metric", f"{query.metric} is a ratio, whose change has no parts; use sum_cost")])
    windows = spans(query, now, bucket, baseline)
    sides = [
        query.replace(since=span.since, until=span.until, group_by="none") for span in (windows.before, windows.after)
    ]
    currency = _currency(connection, table, sides) if query.metric in COST_METRICS else None
    events = connection.execute(_count_statement(table, sides)).scalar_one()
    share = 1
    while events > share * SAMPLE_EVENTS:
        share *= 2
    values, notes = _values(connection, table, sides, share)
    if share > 1:
        notes.append(f"The search used one in {share} of the {events:,} events; the amounts are of all of them")
    if windows.cut:
        length = duration(windows.after.until - windows.after.since)
        notes.append(f"Both windows are cut to {length}, as the later one is incomplete")
    known = EventQuery(organization_id=query.organization_id, as_of=query.as_of)
    first = connection.execute(first_event(table, known)).scalar_one()
    if first is not None and windows.before.since < first:
        begin = date_and_time(first.astimezone(query.zone))
        notes.append(f"The window before is not wholly covered: events begin on {begin}, {query.timezone}")
    found, even = _regions(values, share, expected)
    found, sums = settle(found, lambda regions: _sums(connection, table, sides, values, regions, expected))
    regions = _shortened(connection, table, sides, values, found)
    parts = build_parts(sums, sides[1], regions, _always(values, found, sums), expected)
    peak = None
    if expected is None:
        first_cell = (parts.cells[0].where, parts.cells[0].without) if parts.cells else ((), ())
        peak = _peak(connection, table, sides, first_cell)
    return Explanation(
        query=sides[1],
        before=windows.before,
        after=windows.after,
        expected=expected,
        total=parts.total,
        cells=parts.cells,
        rest=parts.rest,
        groups=values.groups,
        notes=tuple(notes),
        currency=currency,
        is_even=even and not parts.cells,
        peak=peak,
    )


def _currency(connection: Connection, table: Table, sides: Sequence[AggregateQuery]) -> str | None:
    """The currency of the costs of both windows. Raises `QueryError` for several."""
    found: dict[str | None, CurrencyCost] = {}
    for side in sides:
        for cost in starmap(CurrencyCost, connection.execute(currencies(table, side))):
            known = found.get(cost.currency, CurrencyCost(cost.currency, 0, Decimal(0)))
            found[cost.currency] = cost._replace(events=cost.events + known.events)
    check_currencies(in_order(found.values()))
    return next(iter(found), None)


def _values(
    connection: Connection, table: Table, sides: Sequence[AggregateQuery], share: int
) -> tuple[_Values, list[str]]:
    keys = [row.key for row in connection.execute(_keys_statement(table, sides, share, MAX_DIMENSIONS + 1))]
    notes = []
    if len(keys) > MAX_DIMENSIONS:
        notes.append(f"Only the {MAX_DIMENSIONS} most frequent dimensions were searched")
    groups = [*GROUPS, *(DIMENSION + key for key in keys[:MAX_DIMENSIONS] if _is_group(key))]
    rows = connection.execute(_leaves_statement(table, sides, groups, share)).all()
    kept, codes, values, unique = [], [], [], []
    for column_index, group in enumerate(groups, start=2):
        texts = np.array([row[column_index] for row in rows], dtype=object)
        column, named = pd.factorize(texts, sort=True, use_na_sentinel=True)
        known: list[str | None] = list(named)
        if (column < 0).any():
            column = np.where(column < 0, len(known), column)
            known.append(None)
        if len(rows) > _MIN_DISTINCT_LEAVES and len(known) > _MAX_DISTINCT_SHARE * len(rows):
            unique.append(group)
        elif len(known) > 1:
            kept.append(group)
            codes.append(column.astype(np.int64))
            values.append(known)
    if unique:
        notes.append(f"Not searched, because nearly every event has its own value: {', '.join(map(ascii, unique))}")
    before, after, unit = _amounts(rows)
    stacked = np.array(codes, dtype=np.int64).reshape(len(codes), len(rows)).T
    # the database gives rows in any order, on which no answer may depend
    order = np.lexsort((before, *stacked.T))
    stacked, before, after = stacked[order], before[order], after[order]
    indexes = tuple({value: code for code, value in enumerate(of)} for of in values)
    return _Values(tuple(kept), stacked, tuple(values), before, after, unit, indexes), notes


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


def _amounts(rows: Sequence[Any]) -> tuple[Floats, Floats, Decimal]:
    """The amounts of the rows before and after as multiples of the largest, as floats have bounds; and the largest."""
    values = [Decimal(row.value) for row in rows]
    if not all(value.is_finite() for value in values):
        raise NotExact.not_finite()
    largest = max((value.copy_abs() for value in values), default=Decimal(0)) or Decimal(1)
    amounts = np.array([float(value / largest) for value in values])
    later = np.array([row.side == 1 for row in rows], dtype=bool)
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
    connection: Connection,
    table: Table,
    sides: Sequence[AggregateQuery],
    values: _Values,
    regions: Sequence[Region],
    expected: Decimal | None,
) -> Sums:
    """The sums of all events of the regions. Values that the sample lacks are added to `values`."""
    cells = [(_where(values, region.where), _where(values, region.without)) for region in regions]
    rows = connection.execute(_sums_statement(table, sides, cells, values.groups)).all()
    rows = sorted(rows, key=lambda row: (row.board, row.key is None, row.key or "", row.side, row.cell))
    zero: Number = 0 if sides[1].metric == "count" else Decimal(0)
    events = [0] * (len(regions) + 1), [0] * (len(regions) + 1)
    amounts = [zero] * (len(regions) + 1), [zero] * (len(regions) + 1)
    if not all(Decimal(row.value).is_finite() for row in rows):
        raise NotExact.not_finite()
    unit = max((Decimal(row.value).copy_abs() for row in rows), default=Decimal(0)) or Decimal(1)
    whole = [row for row in rows if row.board < 0]
    for row in whole:
        events[row.side][row.cell], amounts[row.side][row.cell] = row.events, row.value
    scale, earlier = 1.0, exact_sum(amounts[0], zero)
    if expected is not None and earlier > 0 < expected:
        scale = min(1e9, float(expected / Decimal(earlier)))
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


def _always(values: _Values, regions: Sequence[Region], sums: Sums) -> list[Where]:
    """For each region the values of other groups that all its events have in both windows."""
    result = []
    for index, region in enumerate(regions):
        known = {dim for dim, _ in region.where}
        there = {dim: np.flatnonzero(counts[index]) for dim, counts in enumerate(sums.counts) if dim not in known}
        pairs = _where(values, [(dim, int(codes[0])) for dim, codes in there.items() if len(codes) == 1])
        result.append(tuple(pair for pair in pairs if pair[1] is not None))
    return result


def _peak(
    connection: Connection, table: Table, sides: Sequence[AggregateQuery], region: tuple[Where, Where]
) -> Peak | None:
    """The shortest run of days with most of a region's change, and its part; None if the change is spread over more.

    Days are compared by their position in the two windows.
    """
    query = sides[1]
    both = [buckets.edges(*side.span, "day", query.zone) for side in sides]
    days = min(len(edges) for edges in both) - 1
    if not MIN_PEAK_DAYS <= days <= MAX_PEAK_DAYS:
        return None
    names = SUMS[query.metric]
    amounts: list[dict[int, Number]] = []
    for side, edges in zip(sides, both, strict=True):
        selected = sums(table, side, _inside(table, region), edges=edges, sums=names)
        rows = connection.execute(selected).all()
        amounts.append({row.bucket - 1: getattr(row, names[0]) if names else row.events for row in rows})
    zero: Number = Decimal(0) if names else 0
    changes = [difference(amounts[1].get(day, zero), amounts[0].get(day, zero)) for day in range(days)]
    run = peak_run([Decimal(change) for change in changes])
    if run is None:
        return None
    since, until = query.span
    span = Span(max(since, both[1][run[0]]), min(until, both[1][run[1]]))
    return Peak(span, exact_sum(changes[run[0] : run[1]], zero))


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
    connection: Connection,
    table: Table,
    sides: Sequence[AggregateQuery],
    values: _Values,
    regions: Sequence[Region],
) -> list[tuple[Where, Where]]:
    """The regions without the excluded values that none of their events has in either window: they exclude nothing."""
    excluding = {(region.where, pair): Region((*region.where, pair)) for region in regions for pair in region.without}
    sampled = {key for key, both in excluding.items() if both.mask(values.codes).any()}
    unsure = [key for key in excluding if key not in sampled]
    if unsure:
        pairs = [(_where(values, where), _where(values, [pair])[0]) for where, pair in unsure]
        overlaps = connection.execute(_overlaps_statement(table, sides, pairs)).all()
        sampled |= {key for index, key in enumerate(unsure) if any(row[index] for row in overlaps)}
    return [
        (
            _where(values, region.where),
            _where(values, [pair for pair in region.without if (region.where, pair) in sampled]),
        )
        for region in regions
    ]


def _count_statement(table: Table, sides: Sequence[AggregateQuery]) -> Select[Any]:
    """The number of events of both windows: `events` bigint."""
    counted = union_all(
        *(select(func.count().label("events")).select_from(table).where(*conditions(table, side)) for side in sides)
    ).subquery()
    return select(func.sum(counted.c.events).cast(BigInteger).label("events"))


def _keys_statement(table: Table, sides: Sequence[AggregateQuery], share: int, max_keys: int) -> Select[Any]:
    """The `max_keys` most frequent dimension keys, most frequent first: `key` text, `events` numeric."""
    selects = []
    for side in sides:
        names = object_keys(table)
        selects.append(
            select(names.c.key.label("key"), func.count().label("events"))
            .join_from(table, names, true())
            .where(*conditions(table, side), *_sampled(table, share), names.c.key != "")
            .group_by(names.c.key)
        )
    both = union_all(*selects).subquery()
    events = func.sum(both.c.events)
    return (
        select(both.c.key, events.label("events"))
        .group_by(both.c.key)
        .order_by(events.desc(), both.c.key.collate("C"))
        .limit(max_keys)
    )


def _leaves_statement(table: Table, sides: Sequence[AggregateQuery], groups: Sequence[str], share: int) -> Any:
    """All combinations of values: `side`, `value` (of the query's metric), then a text column per group, in order."""
    selects = []
    for number, side in enumerate(sides):
        columns = [expression(table, group).cast(Text).label(f"g{index}") for index, group in enumerate(groups)]
        selects.append(
            select(literal(number, Integer).label("side"), _measured(table, side).label("value"), *columns)
            .where(*conditions(table, side), *_sampled(table, share))
            .group_by(*columns)
        )
    return union_all(*selects)


def _sums_statement(
    table: Table, sides: Sequence[AggregateQuery], regions: Sequence[tuple[Where, Where]], groups: Sequence[str]
) -> Any:
    """The exact amounts: `side`, `cell`, `board` integer, `key` text, `events` bigint, `value`.

    `regions` are pairs of the values that events have and those they have not. `cell` is the index of the region; for
    everything else it is the number of regions. `board` is the index of the group whose `key` the events have, -1 for
    all events of the cell. The table is read once.
    """
    leaves = []
    for number, side in enumerate(sides):
        columns = [expression(table, group).label(f"g{index}") for index, group in enumerate(groups)]
        measured = [func.count().label("events"), _measured(table, side).label("value")]
        selected = select(literal(number, Integer).label("side"), *columns, *measured).where(*conditions(table, side))
        leaves.append(selected.group_by(*columns) if columns else selected)
    leaf = union_all(*leaves).subquery("leaf")
    texts = [leaf.c[f"g{index}"].cast(Text).label(f"g{index}") for index in range(len(groups))]
    keys: dict[str, ColumnElement[Any]] = dict(zip(groups, texts, strict=True))
    cell: ColumnElement[int] = literal(len(regions), Integer)
    if regions:
        tests = [(_has(keys, region), literal(number, Integer)) for number, region in enumerate(regions)]
        cell = case(*tests, else_=cell)
    rows = select(leaf.c.side, leaf.c.events, leaf.c.value, *texts, cell.label("cell")).cte("rows")
    rows = rows.prefix_with("MATERIALIZED", dialect="postgresql")
    number_type = BigInteger() if sides[0].metric == "count" else Numeric()
    events, value = func.sum(rows.c.events).cast(BigInteger), func.sum(rows.c.value).cast(number_type)
    measured = [events.label("events"), value.label("value")]
    boards = [(-1, literal(None, Text)), *((index, rows.c[f"g{index}"]) for index in range(len(groups)))]
    return union_all(
        *(
            select(rows.c.side, rows.c.cell, literal(board, Integer).label("board"), key.label("key"), *measured)
            .where(rows.c.events > 0)
            .group_by(rows.c.side, rows.c.cell, *([key] if board >= 0 else []))
            for board, key in boards
        )
    )


def _has(keys: Mapping[str, ColumnElement[Any]], region: tuple[Where, Where]) -> ColumnElement[bool]:
    where, without = region
    return and_(
        true(),
        *(keys[group].is_not_distinct_from(literal(value, Text)) for group, value in where),
        *(keys[group].is_distinct_from(literal(value, Text)) for group, value in without),
    )


def _overlaps_statement(
    table: Table, sides: Sequence[AggregateQuery], excluded: Sequence[tuple[Where, tuple[str, str | None]]]
) -> Any:
    """A row per window; a boolean column per excluded value: whether an event with the values `where` has it, too."""
    tests = [_inside(table, ((*where, pair), ())) for where, pair in excluded]
    columns = [func.coalesce(func.bool_or(test), False).label(f"overlap{index}") for index, test in enumerate(tests)]
    return union_all(*(select(*columns).select_from(table).where(*conditions(table, side)) for side in sides))


def _measured(table: Table, query: AggregateQuery) -> ColumnElement[Any]:
    measure = total_of(table, query.metric)
    return measure if query.metric == "count" else measure.cast(Numeric)


def _sampled(table: Table, share: int) -> list[ColumnElement[bool]]:
    if share == 1:
        return []
    hashed = func.uuid_hash_extended(table.c.id, literal(0, BigInteger), type_=BigInteger())
    return [hashed.op("&")(literal(share - 1, BigInteger)) == 0]


def _inside(table: Table, region: tuple[Where, Where]) -> ColumnElement[bool]:
    where, without = region
    tests = []
    for group, value in where:
        column = expression(table, group)
        tests.append(column.is_(None) if value is None else column == _typed(column, value))
    for group, value in without:
        column = expression(table, group)
        tests.append(column.is_not(None) if value is None else or_(column.is_(None), column != _typed(column, value)))
    return and_(true(), *tests)


def _typed(column: ColumnElement[Any], value: str) -> Any:
    return UUID(value) if isinstance(column.type, Uuid) else value
