"""Whether a file was loaded before with its times in another zone, or cut, and so counts twice; one has no keys.

Equal content shows it: rows of two loads with equal organization, customer, metric, quantity and dimensions (of
those that both loads have, `folded`), the first with the first, the second with the second, differ in time by the
distance of two zones. Times are cut or rounded where all of one load are on a `Grid`, such as whole seconds, and a
third of the other's are not: then both must have as many rows of a content at each time of that grid.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Interval,
    Numeric,
    Select,
    Text,
    and_,
    any_,
    case,
    cast,
    extract,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import array as pg_array
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from usage_explore.load.loaded_again import folded
from usage_explore.sql.filters import array

MAX_DISTANCE = timedelta(hours=14)
"""Hours between the times of two zones for one local time; more are not looked for."""

_GRID_SECONDS, _ZERO = cast(900, Numeric), cast(0, Numeric)
"""Seconds; the distance of two zones is a multiple of it."""

MIN_ROWS = 10
"""Rows of evidence that must differ by the distance of two zones: fewer may do so by chance."""

MIN_SHARE = 0.9
"""Share of the rows of evidence which both loads have that must differ by the distance of two zones."""

MIN_COMMON_SHARE = 0.5
"""Share of the smaller load that must differ by the distance of two zones."""

_CLOCK_CHANGE = timedelta(hours=1)

_STEPS = (
    timedelta(milliseconds=1),
    timedelta(seconds=1),
    *(timedelta(minutes=minutes) for minutes in (1, 5, 10, 15, 30, 60)),
    timedelta(days=1),
)
"""What times are cut or rounded to; Excel's are rounded to milliseconds where they are read."""

_MAX_ZONE_STEP = timedelta(minutes=1)
"""Cut to more, the times of two zones do not differ by the distance of these."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_KEY = "idempotency_key"
COLUMNS = (
    *("id", "timestamp", "ingested_at", "organization_id", "customer_id", "metric_key", "quantity", "dimensions", _KEY),
)
"""Of the rows that are compared; those of one load have one `ingested_at`."""


Pair = tuple[datetime, datetime]
"""The arrivals of a load and of an earlier one."""

Read = Callable[[Select[Any]], Iterable[Any]]
"""Runs a statement, and returns its rows."""


class Grid(NamedTuple):
    """A grid of times, such as whole seconds, and what is added before times are cut to it: half of it to round."""

    step: timedelta
    added: timedelta

    def cut(self, time: ColumnElement[datetime]) -> ColumnElement[datetime]:
        """The time as the grid has it."""
        if self == EXACT:
            return time
        origin = literal(_EPOCH, time.type)
        return func.date_bin(
            literal(self.step, Interval), time + literal(self.added, Interval), origin, type_=time.type
        )


EXACT = Grid(timedelta.resolution, timedelta())
"""The grid that all times are on."""


class Comparison(NamedTuple):
    """Two loads' rows by their times on a grid: `in_zones`, at any distance in their order, else at the same time."""

    grid: Grid
    in_zones: bool


class Copies(NamedTuple):
    """How a load repeats an earlier one: on which grid, at which distances, and without which dimensions.

    `distances` are those of two zones, one or, over a change of clocks, two; zero where times are cut alone. `rows` is
    the number of the repeated ones. `but` are the columns that one of the two loads has alone.
    """

    comparison: Comparison
    distances: frozenset[timedelta]
    rows: int
    but: frozenset[str]


class Apart(NamedTuple):
    """Rows of two loads that differ by one distance in time, and how many of these are evidence.

    A row is evidence of a repeated load, not of two meters that send the same at other times, if at most half of its
    customer's metric have its quantity (in the other load, where it is the only one), or its time is no whole minute;
    where times are cut, no quarter of an hour, and not of a metric whose rows come at equal intervals.
    """

    rows: int
    evidence: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows of one load: their first and last time, number, and how many of them are on each grid of `_STEPS`.

    `without_key` says whether some of them have no key of their own.
    """

    first: datetime
    last: datetime
    rows: int
    on_grids: Sequence[int]
    without_key: bool

    def overlaps(self, other: Loaded) -> bool:
        """Whether the two have at least half of the shorter one's time in common, of that beside the other one's."""
        shorter = min(one.beside(another) for one, another in ((self, other), (other, self)))
        common = min(self.last, other.last) - max(self.first, other.first)
        return shorter > timedelta() and 2 * common >= shorter

    def beside(self, other: Loaded) -> timedelta:
        """How long its rows are in the other one's time, or `MAX_DISTANCE` from it."""
        return min(self.last, other.last + MAX_DISTANCE) - max(self.first, other.first - MAX_DISTANCE)

    def grid(self, finer: Loaded) -> timedelta | None:
        """The step of the grid that all times are on, and at most two thirds of the finer load's; None if none is."""
        steps = [number for number, on in enumerate(self.on_grids) if on == self.rows]
        return _STEPS[steps[-1]] if steps and 3 * finer.on_grids[steps[-1]] <= 2 * finer.rows else None


def copied_loads(
    rows: FromClause, read: Read, is_asked: Callable[[Pair], bool] = lambda pair: True
) -> dict[Pair, Copies]:
    """The loads among rows with these `COLUMNS` whose rows an earlier load has in another zone, or on another grid."""
    loads = {load: Loaded(*spans) for load, *spans in read(_loads(rows))}
    pairs = list(filter(is_asked, _overlapping(loads)))
    named = {load: set[str]() if loaded.without_key else {_KEY} for load, loaded in loads.items()}
    for load, name in read(_names(rows, {load for pair in pairs for load in pair})) if pairs else ():
        named[load].add(name)
    alike: dict[frozenset[str], list[Pair]] = defaultdict(list)
    for load, earlier in pairs:
        alike[frozenset(named[load] ^ named[earlier])].append((load, earlier))
    found: dict[Pair, Copies] = {}
    for but, chosen in alike.items():
        found |= _copied(rows, but, read, loads, chosen)
    return found


def _copied(
    rows: FromClause, but: frozenset[str], read: Read, loads: Mapping[datetime, Loaded], pairs: Collection[Pair]
) -> dict[Pair, Copies]:
    """Those of the pairs whose later load repeats the earlier one, by their rows without some columns."""
    compared: dict[Comparison, list[Pair]] = defaultdict(list)
    for pair in pairs:
        compared[Comparison(EXACT, True)].append(pair)
        for coarse, fine in permutations(pair):
            if step := loads[coarse].grid(loads[fine]):
                for grid in (Grid(step, timedelta()), Grid(step, step / 2)):
                    compared[Comparison(grid, False)].append(pair)
                    if step <= _MAX_ZONE_STEP:
                        compared[Comparison(grid, True)].append(pair)
    comparisons = list(compared)
    apart: dict[tuple[Pair, int], dict[timedelta | None, Apart]] = defaultdict(dict)
    for load, earlier, number, distance, *counts in read(_counted(rows, but, compared)):
        apart[(load, earlier), number][distance] = Apart(*counts)
    found: dict[Pair, Copies] = {}
    for (pair, number), counts in sorted(
        apart.items(), key=lambda item: (comparisons[item[0][1]].in_zones, item[0][1])
    ):
        in_zones = comparisons[number].in_zones
        possible = {distance for distance in counts if distance is not None and bool(distance) == in_zones}
        distances = _distances(counts, possible, *(loads[load].rows for load in pair))
        if distances and pair not in found:
            common = sum(counts[distance].rows for distance in distances)
            found[pair] = Copies(comparisons[number], distances, common, but)
    return found


def copies(rows: FromClause, found: Mapping[Pair, Copies]) -> CompoundSelect[Any]:
    """The `id` and `timestamp` of the rows of the loads that were found, and whether they are `in_zones`."""
    alike: dict[frozenset[str], dict[Pair, Copies]] = defaultdict(dict)
    for pair, copied in found.items():
        alike[copied.but][pair] = copied
    return union_all(*(_copies(rows, but, chosen) for but, chosen in alike.items()))


def _copies(rows: FromClause, but: frozenset[str], found: Mapping[Pair, Copies]) -> Select[Any]:
    compared: dict[Comparison, list[Pair]] = defaultdict(list)
    for pair, copied in found.items():
        compared[copied.comparison].append(pair)
    p = _compared(rows, but, compared).c
    comparisons = list(compared)
    same = (
        and_(p.load == load, p.earlier == earlier, p.comparison == comparisons.index(each), p.apart.in_(distances))
        for (load, earlier), (each, distances, *_) in found.items()
    )
    in_zones = p.comparison.in_([number for number, each in enumerate(comparisons) if each.in_zones])
    return select(p.timestamp, p.id, in_zones.label("in_zones")).where(or_(*same))


def _distances(apart: Mapping[timedelta | None, Apart], possible: set[timedelta], *rows: int) -> frozenset[timedelta]:
    """The distances in time, among the `possible` ones, at which one load repeats the other; empty if it does not.

    `apart` counts the rows of the two loads by their distance in time; None for distances that no two zones have.
    `rows` are the numbers of rows of each load.
    """
    if not possible:
        return frozenset()
    usual = max(possible, key=lambda distance: apart[distance].evidence)
    beside = max((usual - _CLOCK_CHANGE, usual + _CLOCK_CHANGE), key=lambda near: apart.get(near, Apart(0, 0)))
    found = frozenset({usual, beside} & possible)
    evidence = sum(apart[distance].evidence for distance in found)
    is_most = evidence >= max(MIN_ROWS, MIN_SHARE * sum(counts.evidence for counts in apart.values()))
    common = sum(apart[distance].rows for distance in found)
    return found if is_most and common >= MIN_COMMON_SHARE * min(rows) else frozenset()


def _loads(rows: FromClause) -> Select[Any]:
    """By their first row the loads' arrival and what `Loaded` has of them."""
    c = rows.c
    without_key = func.bool_or(c.idempotency_key.like("row:%"))
    first, number = func.min(c.timestamp).label("first"), func.count().label("rows")
    on_grids = (func.count().filter(Grid(step, timedelta(0)).cut(c.timestamp) == c.timestamp) for step in _STEPS)
    return (
        select(c.ingested_at, first, func.max(c.timestamp).label("last"), number, pg_array(on_grids).label("on_grids"))
        .add_columns(without_key)
        .group_by(c.ingested_at)
        .having(number >= MIN_ROWS)
        .order_by(first, c.ingested_at)
    )


def _overlapping(loads: Mapping[datetime, Loaded]) -> Iterator[Pair]:
    """The pairs of loads, the later arrival first, that `Loaded.overlaps`; `loads` are in the order of first rows.

    Two loads of which all rows have keys are no pair: of live events there are many such.
    """
    keyed: list[datetime] = []
    without: list[datetime] = []
    for load, loaded in loads.items():
        without = [other for other in without if loads[other].last > loaded.first]
        if loaded.without_key:
            keyed = [other for other in keyed if loads[other].last > loaded.first]
        for other in (*without, *(keyed if loaded.without_key else ())):
            if loaded.overlaps(loads[other]):
                yield max(load, other), min(load, other)
        (without if loaded.without_key else keyed).append(load)


def _names(rows: FromClause, loads: Collection[datetime]) -> Select[Any]:
    """The loads, each with the names of its rows' dimensions."""
    c = rows.c
    within = c.ingested_at == any_(array(loads, c.ingested_at.type))
    return select(c.ingested_at, func.jsonb_object_keys(c.dimensions)).where(within).distinct()


def _without(rows: FromClause, names: Collection[str]) -> FromClause:
    """The rows without these dimensions, if any."""
    if not names:
        return rows
    c = rows.c
    dimensions = c.dimensions.op("-", return_type=JSONB())(array(names, Text())).label("dimensions")
    return select(*(dimensions if name == "dimensions" else c[name] for name in COLUMNS)).subquery()


def _counted(rows: FromClause, but: frozenset[str], compared: Mapping[Comparison, Collection[Pair]]) -> Select[Any]:
    """Numbers of rows, and of those of evidence, by load, earlier load, number of the comparison, and distance.

    The distance is NULL where zones have none such.
    """
    c = _compared(rows, but, compared).c
    on_grid = func.mod(extract("epoch", c.apart), _GRID_SECONDS) == _ZERO
    is_of_zones = and_(c.apart.between(literal(-MAX_DISTANCE), literal(MAX_DISTANCE)), on_grid)
    by = [c.load, c.earlier, c.comparison, case((is_of_zones, c.apart)).label("distance")]
    return select(*by, func.count(), func.count().filter(c.evidence)).group_by(*by)


def _compared(rows: FromClause, but: frozenset[str], compared: Mapping[Comparison, Collection[Pair]]) -> CTE:
    """The rows of each pair's later load, `id` and `timestamp`, that have a counterpart in the earlier one.

    They have its customer, metric, quantity and dimensions, `but` some, `folded`, compared by a hash of 64 bits.
    `comparison` is the place among those given, `apart` the distance in time, `evidence` as `Apart` has it. All rows
    are read once.
    """
    read = _read(_without(rows, but), {load for pairs in compared.values() for pair in pairs for load in pair})
    r = read.c
    several = select(r.content).group_by(r.content).having(func.min(r.ingested_at) < func.max(r.ingested_at))
    shared = _kept(select(read).where(r.content.in_(several)))
    s = shared.c
    pairs = set().union(*compared.values())
    asked = _asked(pairs, s.timestamp).subquery("asked")
    spans = _kept(
        select(r.ingested_at, func.min(r.timestamp).label("first"), func.max(r.timestamp).label("last")).group_by(
            r.ingested_at
        )
    )

    def beside(own: ColumnElement[Any], other: ColumnElement[Any]) -> FromClause:
        """The rows of one side of the pairs that are in the other side's time, or `MAX_DISTANCE` from it, numbered."""
        span = spans.alias()
        place = func.row_number().over(partition_by=[s.content, own, other], order_by=[s.timestamp, s.id])
        within = s.timestamp.between(span.c.first - literal(MAX_DISTANCE), span.c.last + literal(MAX_DISTANCE))
        return (
            select(shared, other.label("other"), place.label("place"))
            .join(asked, own == s.ingested_at)
            .join(span, span.c.ingested_at == other)
            .where(within)
            .subquery()
        )

    later, earlier = beside(asked.c.load, asked.c.earlier), beside(asked.c.earlier, asked.c.load)
    same = and_(
        *(later.c[name] == earlier.c[name] for name in ("content", "place")),
        later.c.ingested_at == earlier.c.other,
        later.c.other == earlier.c.ingested_at,
    )
    in_order = _kept(
        select(*(later.c[column.name] for column in s), later.c.other.label("earlier"))
        .add_columns(earlier.c.timestamp.label("time_there"), earlier.c.varied.label("varied_there"))
        .join(earlier, same)
    )
    return union_all(
        *(
            (
                _in_zones(read, in_order, *each)
                if each[0].in_zones
                else _at_once(read, shared, *each, are_keys_equal=not but)
            ).add_columns(literal(number).label("comparison"))
            for number, each in enumerate(compared.items())
        )
    ).cte()


def _kept(statement: Select[Any]) -> CTE:
    return statement.cte().prefix_with("MATERIALIZED", dialect="postgresql")


def _in_zones(read: CTE, in_order: CTE, comparison: Comparison, pairs: Collection[Pair]) -> Select[Any]:
    """The rows with the one of the earlier load that has the same number of those with this content in its load."""
    c, grid = in_order.c, comparison.grid
    apart = (grid.cut(c.timestamp) - grid.cut(c.time_there)).label("apart")
    varied = func.coalesce(c.varied, c.varied_there, false())
    return select(*_columns(read, in_order, grid, varied), c.earlier, apart).where(
        tuple_(c.ingested_at, c.earlier).in_(_asked(pairs, c.timestamp))
    )


def _at_once(
    read: CTE, shared: CTE, comparison: Comparison, pairs: Collection[Pair], *, are_keys_equal: bool
) -> Select[Any]:
    """The rows with one of the earlier load at the same time on the grid, if both loads have as many there.

    A row without one, in the time that both loads have and with a content of both, has an `apart` of NULL. Of a load
    whose times are not on the grid, those on it are left out if equal rows have equal keys, and are written as in the
    other load: cut, they are the same row.
    """
    r, s, grid = read.c, shared.c, comparison.grid
    time = grid.cut(s.timestamp)
    alike: dict[str, Any] = {"partition_by": [s.content, s.ingested_at, time]}
    is_coarse = func.bool_and(_is_on(grid, r.timestamp))
    spans = (
        select(
            r.ingested_at, grid.cut(func.min(r.timestamp)).label("first"), grid.cut(func.max(r.timestamp)).label("last")
        )
        .add_columns(is_coarse.label("is_coarse"))
        .group_by(r.ingested_at)
        .cte()
    )
    span = spans.c
    coarse = select(span.ingested_at).where(span.is_coarse)
    there = select(s.written).where(s.ingested_at.in_(coarse)).distinct().subquery()
    is_kept = or_(not_(_is_on(grid, s.timestamp)), s.ingested_at.in_(coarse), there.c.written.is_(None))
    placed = (
        select(shared, time.label("time"))
        .add_columns(func.row_number().over(**alike, order_by=[s.timestamp, s.id]).label("place"))
        .add_columns(func.count().over(**alike).label("at_once"))
        .select_from(shared.outerjoin(there, there.c.written == s.written))
        .where(is_kept if are_keys_equal else true())
        .cte()
    )
    later, earlier = placed.alias(), placed.alias()
    c = select(placed.c.content, placed.c.ingested_at).distinct().subquery().c
    same = and_(*(later.c[name] == earlier.c[name] for name in ("content", "time", "place", "at_once")))
    varied = func.coalesce(later.c.varied, case((earlier.c.id.is_(None), true())), earlier.c.varied, false())
    return (
        select(
            *_columns(read, later, grid, varied),
            c.ingested_at.label("earlier"),
            (later.c.time - earlier.c.time).label("apart"),
        )
        .join(c.content.table, c.content == later.c.content)
        .join(spans, span.ingested_at == c.ingested_at)
        .outerjoin(earlier, and_(earlier.c.ingested_at == c.ingested_at, same))
        .where(
            tuple_(later.c.ingested_at, c.ingested_at).in_(_asked(pairs, s.timestamp)),
            later.c.time.between(span.first, span.last),
        )
    )


def _columns(read: CTE, later: FromClause, grid: Grid, varied: ColumnElement[bool]) -> list[ColumnElement[Any]]:
    c = later.c
    return [c.id, c.timestamp, _is_evidence(read, c, grid, varied).label("evidence"), c.ingested_at.label("load")]


def _asked(pairs: Collection[Pair], time: ColumnElement[datetime]) -> Select[Any]:
    """The pairs, one parameter for each side: a statement has 65,535 at most."""
    sides = zip(("load", "earlier"), zip(*pairs, strict=True), strict=True)
    return select(*(func.unnest(array(each, time.type)).label(name) for name, each in sides))


def _is_on(grid: Grid, time: ColumnElement[datetime]) -> ColumnElement[bool]:
    return Grid(grid.step, timedelta()).cut(time) == time


def _is_evidence(
    read: CTE, row: ReadOnlyColumnCollection[str, Any], grid: Grid, varied: ColumnElement[bool]
) -> ColumnElement[bool]:
    """Whether a row is evidence of a repeated load, see `Apart`."""
    if grid == EXACT:
        return or_(varied, extract("second", row.timestamp) != _ZERO)
    r, time = read.c, grid.cut(row.timestamp)
    even = _even(select(r.series, grid.cut(r.timestamp).label("time")).cte())
    return or_(varied, and_(func.mod(extract("epoch", time), _GRID_SECONDS) != _ZERO, row.series.not_in(even)))


def _read(rows: FromClause, loads: Collection[datetime]) -> CTE:
    """The rows of these loads with hashes of their content and of their load's customer and metric, the series.

    `written` is that of the dimensions as they are, not `folded`. `varied` says whether at most half of the series have
    the quantity; NULL for the only row of one.
    """
    c = rows.c
    within = c.ingested_at == any_(array(loads, c.ingested_at.type))
    series = [c.organization_id, c.customer_id, c.metric_key, c.ingested_at]
    equal, every = (func.count().over(partition_by=columns) for columns in ([*series, c.quantity], series))
    content = tuple_(c.organization_id, c.customer_id, c.metric_key, func.trim_scale(c.quantity), folded(c.dimensions))
    return _kept(
        select(
            *(c[name] for name in ("id", "timestamp", "ingested_at")),
            func.hashtextextended(cast(content, Text), 0).label("content"),
            func.hashtextextended(cast(tuple_(*series), Text), 0).label("series"),
            func.hashtextextended(cast(c.dimensions, Text), 0).label("written"),
            case((every > 1, 2 * equal <= every)).label("varied"),
        ).where(within),
    )


def _even(timed: CTE) -> Select[Any]:
    """The `series` of which most rows come as many at one `time` and as long after the one before."""
    t = timed.c
    before = func.lag(t.time).over(partition_by=t.series, order_by=t.time)
    at_once = func.count().over(partition_by=[t.series, t.time])
    s = select(t.series, (t.time - before).label("after"), at_once.label("at_once")).cte().c
    a = select(s.series, func.count().label("rows")).group_by(s.series, s.after, s.at_once).cte().c
    total = func.sum(a.rows)
    return select(a.series).group_by(a.series).having(2 * func.max(a.rows) > total, total > 1)
