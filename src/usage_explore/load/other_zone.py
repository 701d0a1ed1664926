"""Whether a file without keys was loaded before with its times in another zone, or cut, and so counts twice.

Nothing but content tells: rows of two loads with equal organization, customer, metric, quantity and dimensions, the
first with the first, the second with the second, differ in time by the distance of two zones. Times are cut or rounded
where all of one load are on a `Grid`, such as whole seconds, and most of the other's are not: then both must have as
many rows of a content at each time of that grid.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, permutations
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Interval,
    Select,
    Text,
    and_,
    any_,
    case,
    cast,
    extract,
    func,
    literal,
    not_,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import array as pg_array

from usage_explore.sql.filters import array

MAX_DISTANCE = timedelta(hours=14)
"""Hours between the times of two zones for one local time; more are not looked for."""

ZONE_GRID_SECONDS = 900
"""Seconds; the distance of two zones is a multiple of it."""

MIN_ROWS = 10
"""Telling rows that must differ by the distance of two zones: fewer may do so by chance."""

MIN_SHARE = 0.9
"""Share of the telling rows which both loads have that must differ by the distance of two zones."""

MIN_COMMON_SHARE = 0.5
"""Share of the smaller load that must differ by the distance of two zones."""

_CLOCK_CHANGE = timedelta(hours=1)

_STEPS = (
    timedelta(milliseconds=1),
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
"""What times are cut or rounded to; Excel's are rounded to milliseconds where they are read."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

COLUMNS = ("id", "timestamp", "ingested_at", "organization_id", "customer_id", "metric_key", "quantity", "dimensions")
"""Of the rows without a key that are compared; those of one load have one `ingested_at`."""

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
        origin = literal(_EPOCH, time.type)
        return func.date_bin(
            literal(self.step, Interval), time + literal(self.added, Interval), origin, type_=time.type
        )


class Copies(NamedTuple):
    """How a load repeats an earlier one: its times are cut to a grid, or the earlier one's, or they differ by zones.

    `distances` are those of two zones, one or, over a change of clocks, two; zero where times are cut. `rows` is the
    number of the repeated ones.
    """

    grid: Grid | None
    distances: frozenset[timedelta]
    rows: int


class Apart(NamedTuple):
    """Rows of two loads that differ by one distance in time, and how many of these are telling.

    A row tells two loads from two meters that send the same at other times if quantities of its customer's metric
    differ, or its time is off the minute; where times are cut, off the quarter of an hour, and not of a metric that
    comes evenly.
    """

    rows: int
    telling: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows of one load: their first and last time, number, and how many of them are on each grid of `_STEPS`."""

    first: datetime
    last: datetime
    rows: int
    on_grids: Sequence[int]

    def overlaps(self, other: Loaded) -> bool:
        """Whether the two have at least half of the shorter one's time in common."""
        shorter = min(self.last - self.first, other.last - other.first)
        common = min(self.last, other.last) - max(self.first, other.first)
        return bool(shorter) and 2 * common >= shorter

    def grid(self, finer: Loaded) -> timedelta | None:
        """The step of the grid that all times are on, and at most half of the finer load's; None if there is none."""
        steps = [number for number, on in enumerate(self.on_grids) if on == self.rows]
        return _STEPS[steps[-1]] if steps and 2 * finer.on_grids[steps[-1]] <= finer.rows else None


def copied_loads(
    rows: FromClause, read: Read, is_asked: Callable[[Pair], bool] = lambda pair: True
) -> dict[Pair, Copies]:
    """The loads among rows with these `COLUMNS` whose rows an earlier load has in another zone, or on another grid."""
    loads = {load: Loaded(*spans) for load, *spans in read(_loads(rows))}
    compared: dict[Grid | None, list[Pair]] = defaultdict(list)
    for pair in filter(is_asked, _overlapping(loads)):
        compared[None].append(pair)
        for coarse, fine in permutations(pair):
            if step := loads[coarse].grid(loads[fine]):
                compared[Grid(step, timedelta())].append(pair)
                compared[Grid(step, step / 2)].append(pair)
    found: dict[Pair, Copies] = {}
    for grid, pairs in compared.items():
        apart: dict[Pair, dict[timedelta | None, Apart]] = defaultdict(dict)
        for load, earlier, distance, *counts in read(_counted(rows, pairs, grid)):
            apart[load, earlier][distance] = Apart(*counts)
        for pair, counts in apart.items():
            possible = {distance for distance in counts if distance is not None and bool(distance) == (grid is None)}
            distances = _distances(counts, possible, *(loads[load].rows for load in pair))
            if distances and pair not in found:
                found[pair] = Copies(grid, distances, sum(counts[distance].rows for distance in distances))
    return found


def copies(rows: FromClause, found: Mapping[Pair, Copies]) -> list[tuple[Grid | None, Select[Any]]]:
    """By grid a statement for the `id` and `timestamp` of the rows of the loads that were found."""
    statements = []
    for grid in {each.grid for each in found.values()}:
        of_grid = {pair: each.distances for pair, each in found.items() if each.grid == grid}
        p = _compared(rows, of_grid, grid).c
        same = (
            and_(p.load == load, p.earlier == earlier, p.apart.in_(distances))
            for (load, earlier), distances in of_grid.items()
        )
        statements.append((grid, select(p.timestamp, p.id).where(or_(*same))))
    return statements


def _distances(apart: Mapping[timedelta | None, Apart], possible: set[timedelta], *rows: int) -> frozenset[timedelta]:
    """The distances in time, among the `possible` ones, at which one load repeats the other; empty if it does not.

    `apart` counts the rows of the two loads by their distance in time; None for distances that no two zones have.
    `rows` are the numbers of rows of each load.
    """
    if not possible:
        return frozenset()
    usual = max(possible, key=lambda distance: apart[distance].telling)
    beside = max((usual - _CLOCK_CHANGE, usual + _CLOCK_CHANGE), key=lambda near: apart.get(near, Apart(0, 0)))
    found = frozenset({usual, beside} & possible)
    telling = sum(apart[distance].telling for distance in found)
    is_most = telling >= max(MIN_ROWS, MIN_SHARE * sum(counts.telling for counts in apart.values()))
    common = sum(apart[distance].rows for distance in found)
    return found if is_most and common >= MIN_COMMON_SHARE * min(rows) else frozenset()


def _loads(rows: FromClause) -> Select[Any]:
    """By their first row the loads' arrival, time of the first and the last row, rows, and those on each grid."""
    c = rows.c
    first, number = func.min(c.timestamp).label("first"), func.count().label("rows")
    on_grids = (func.count().filter(Grid(step, timedelta(0)).cut(c.timestamp) == c.timestamp) for step in _STEPS)
    return (
        select(c.ingested_at, first, func.max(c.timestamp).label("last"), number, pg_array(on_grids).label("on_grids"))
        .group_by(c.ingested_at)
        .having(number >= MIN_ROWS)
        .order_by(first, c.ingested_at)
    )


def _overlapping(loads: Mapping[datetime, Loaded]) -> Iterator[Pair]:
    """The pairs of loads, the later arrival first, that `Loaded.overlaps`; `loads` are in the order of first rows."""
    ordered = list(loads.items())
    for place, (load, loaded) in enumerate(ordered):
        for other, beside in islice(ordered, place + 1, None):
            if beside.first >= loaded.last:
                break
            if loaded.overlaps(beside):
                yield max(load, other), min(load, other)


def _counted(rows: FromClause, loads: Collection[Pair], grid: Grid | None) -> Select[Any]:
    """Numbers of rows, and of telling ones, by load, earlier load and distance, NULL where zones have none such."""
    c = _compared(rows, loads, grid).c
    on_grid = func.mod(extract("epoch", c.apart), ZONE_GRID_SECONDS) == 0
    is_of_zones = and_(c.apart.between(literal(-MAX_DISTANCE), literal(MAX_DISTANCE)), on_grid)
    distance = case((is_of_zones, c.apart)).label("distance")
    counts = func.count(), func.count().filter(c.telling)
    return select(c.load, c.earlier, distance, *counts).group_by(c.load, c.earlier, distance)


def _compared(rows: FromClause, loads: Collection[Pair], grid: Grid | None) -> CTE:
    """The rows of each pair's later load, `id` and `timestamp`, that have a counterpart in the earlier one.

    They have its customer, metric, quantity and dimensions, which are compared by a hash of 64 bits. `apart` is the
    distance in time, `telling` as `Apart` has it. The counterpart is the row with the same number of those with this
    content in its load. Where times are cut, it is one at the same time, if both loads have as many there; a row
    without one, in the time that both loads have and with a content of both, has an `apart` of NULL.
    """
    read = _read(rows, {load for pair in loads for load in pair}, grid)
    r = read.c
    alike = [r.content, r.ingested_at] if grid is None else [r.content, r.ingested_at, r.time]
    several = select(r.content).group_by(r.content).having(func.min(r.ingested_at) < func.max(r.ingested_at))
    place = func.row_number().over(partition_by=alike, order_by=[r.timestamp, r.id]).label("place")
    columns = [place] if grid is None else [place, func.count().over(partition_by=alike).label("at_once")]
    placed = select(read, *columns).where(r.content.in_(several)).cte("placed")
    later, earlier = placed.alias("later"), placed.alias("earlier")
    instants = (array(each, rows.c.timestamp.type) for each in zip(*loads, strict=True))
    asked = select(*map(func.unnest, instants))  # one parameter each: a statement has 65,535 at most
    kept = [*(later.c[name] for name in ("id", "timestamp", "telling")), later.c.ingested_at.label("load")]
    if grid is None:
        apart = (later.c.timestamp - earlier.c.timestamp).label("apart")
        same = and_(later.c.content == earlier.c.content, later.c.place == earlier.c.place)
        pairs = select(*kept, earlier.c.ingested_at.label("earlier"), apart).join(earlier, same)
        return pairs.where(tuple_(later.c.ingested_at, earlier.c.ingested_at).in_(asked)).cte("pairs")
    span = select(r.ingested_at, func.min(r.time).label("first"), func.max(r.time).label("last"))
    spans = span.group_by(r.ingested_at).subquery().c
    contents = select(placed.c.content, placed.c.ingested_at).distinct().subquery()
    same = and_(*(later.c[name] == earlier.c[name] for name in ("content", "time", "place", "at_once")))
    c = contents.c
    return (
        select(*kept, c.ingested_at.label("earlier"), (later.c.time - earlier.c.time).label("apart"))
        .join(contents, c.content == later.c.content)
        .join(spans.first.table, spans.ingested_at == c.ingested_at)
        .outerjoin(earlier, and_(earlier.c.ingested_at == c.ingested_at, same))
        .where(
            tuple_(later.c.ingested_at, c.ingested_at).in_(asked),
            later.c.time.between(spans.first, spans.last),
        )
        .cte("pairs")
    )


def _read(rows: FromClause, loads: Collection[datetime], grid: Grid | None) -> CTE:
    """The rows of these loads that are compared, with a hash of their content, and whether they are telling.

    Of a load whose times are not on the grid, those on it are left out: cut, they are the same row, with the same key.
    """
    c = rows.c
    within: list[ColumnElement[bool]] = [c.ingested_at == any_(array(loads, c.ingested_at.type))]
    series = [c.organization_id, c.customer_id, c.metric_key, c.ingested_at]
    varied = select(*series).where(*within).group_by(*series).having(func.min(c.quantity) < func.max(c.quantity))
    time: ColumnElement[datetime] = c.timestamp if grid is None else grid.cut(c.timestamp)
    is_off: ColumnElement[bool] = extract("second", c.timestamp) != 0
    if grid is not None:
        even = _even(select(*series, time.label("time")).where(*within).cte("timed"))
        is_off = and_(func.mod(extract("epoch", time), ZONE_GRID_SECONDS) != 0, tuple_(*series).not_in(even))
        on_grid = Grid(grid.step, timedelta()).cut(c.timestamp) == c.timestamp
        coarse = select(c.ingested_at).where(*within).group_by(c.ingested_at).having(func.bool_and(on_grid))
        within.append(or_(not_(on_grid), c.ingested_at.in_(coarse)))
    content = tuple_(c.organization_id, c.customer_id, c.metric_key, func.trim_scale(c.quantity), c.dimensions)
    return (
        select(
            *(c[name] for name in ("id", "timestamp", "ingested_at")),
            time.label("time"),
            func.hashtextextended(cast(content, Text), 0).label("content"),
            or_(tuple_(*series).in_(varied), is_off).label("telling"),
        )
        .where(*within)
        .cte("read")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


def _even(timed: CTE) -> Select[Any]:
    """The series, all columns but `time`, of which most rows come as many at once and as long after the one before."""
    t = timed.c
    series = [column for column in timed.c if column.name != "time"]
    before = func.lag(t.time).over(partition_by=series, order_by=t.time)
    at_once = func.count().over(partition_by=[*series, t.time])
    steps = select(*series, (t.time - before).label("after"), at_once.label("at_once")).cte("steps")
    s = steps.c
    names = [column.name for column in series]
    alike = select(*(s[name] for name in names), func.count().label("rows")).group_by(*steps.c).cte("alike")
    a = alike.c
    of_series = [a[name] for name in names]
    total = func.sum(a.rows)
    return select(*of_series).group_by(*of_series).having(2 * func.max(a.rows) > total, total > 1)
