"""The statements of an explanation: the dimensions in use, the leaves to search, and the exact amounts of the cells.

Every statement reads two windows, distinguished by the column `side`: 0 before, 1 after. With `share` above 1 it reads
one in `share` events, chosen by a hash of the id. That is enough for the search; reported amounts are of all events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
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

from usage_explore.explain.cells import Where
from usage_explore.query.queries import AggregateQuery
from usage_explore.sql.filters import conditions, expression, object_keys


def size(table: Table, sides: Sequence[AggregateQuery]) -> Select[Any]:
    """The number of events of both windows: `events` bigint."""
    counted = union_all(
        *(select(func.count().label("events")).select_from(table).where(*conditions(table, side)) for side in sides)
    ).subquery()
    return select(func.sum(counted.c.events).cast(BigInteger).label("events"))


def keys(table: Table, sides: Sequence[AggregateQuery], share: int, max_keys: int) -> Select[Any]:
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


def leaves(table: Table, sides: Sequence[AggregateQuery], groups: Sequence[str], share: int) -> Any:
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


def cells(
    table: Table, sides: Sequence[AggregateQuery], regions: Sequence[tuple[Where, Where]], groups: Sequence[str]
) -> Any:
    """The exact amounts: `side`, `cell` integer, `events` bigint, `value`.

    `regions` are pairs of the values that events have and those they have not. `cell` is the index of the region; for
    everything else it is the number of regions. Three columns per group follow, in order, with the group's index in
    their names: `low` and `high` text, the first and last value of the cell's events in code-point order, and
    `present` bigint, the number of events with a value.
    """
    inside = [_inside(table, region) for region in regions]
    cell: ColumnElement[int] = literal(len(regions), Integer)
    if inside:
        cell = case(*((condition, literal(number, Integer)) for number, condition in enumerate(inside)), else_=cell)
    selects = []
    for number, side in enumerate(sides):
        columns: list[ColumnElement[Any]] = []
        for index, group in enumerate(groups if inside else ()):
            value = expression(table, group).cast(Text).collate("C")
            columns += [
                func.min(value).filter(or_(*inside)).label(f"low{index}"),
                func.max(value).filter(or_(*inside)).label(f"high{index}"),
                func.count(value).filter(or_(*inside)).label(f"present{index}"),
            ]
        rows = (
            select(cell.label("cell"), func.count().label("events"), _measured(table, side).label("value"), *columns)
            .where(*conditions(table, side))
            .group_by("cell")
            .subquery()
        )
        selects.append(select(literal(number, Integer).label("side"), *rows.c))
    return union_all(*selects)


def _measured(table: Table, query: AggregateQuery) -> ColumnElement[Any]:
    return func.count() if query.metric == "count" else func.sum(table.c.quantity).cast(Numeric)


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
    return and_(*tests)


def _typed(column: ColumnElement[Any], value: str) -> Any:
    return UUID(value) if isinstance(column.type, Uuid) else value
