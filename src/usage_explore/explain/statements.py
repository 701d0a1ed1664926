"""The statements of an explanation: the dimensions in use, the leaves to search, and the exact numbers of the cells.

Every statement reads two windows, told apart by the column `side`: 0 before, 1 after. With `share` above 1 only one in
so many events is read, chosen by a hash of its id: enough to search in, while the numbers told are of all events.
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

from usage_explore.query.queries import AggregateQuery
from usage_explore.sql.filters import conditions, expression, object_keys

Where = tuple[tuple[str, str | None], ...]
"""(group, value) pairs; None where it is absent."""


def size(table: Table, sides: Sequence[AggregateQuery]) -> Select[Any]:
    """How many events both windows have together: `events` bigint."""
    counted = union_all(
        *(select(func.count().label("events")).select_from(table).where(*conditions(table, side)) for side in sides)
    ).subquery()
    return select(func.sum(counted.c.events).cast(BigInteger).label("events"))


def keys(table: Table, sides: Sequence[AggregateQuery], share: int, most: int) -> Select[Any]:
    """The dimension keys in use, most frequent first, at most `most`: `key` text, `events` numeric."""
    found = []
    for side in sides:
        names = object_keys(table)
        found.append(
            select(names.c.key.label("key"), func.count().label("events"))
            .join_from(table, names, true())
            .where(*conditions(table, side), *_sampled(table, share), names.c.key != "")
            .group_by(names.c.key)
        )
    both = union_all(*found).subquery()
    events = func.sum(both.c.events)
    return (
        select(both.c.key, events.label("events"))
        .group_by(both.c.key)
        .order_by(events.desc(), both.c.key.collate("C"))
        .limit(most)
    )


def leaves(table: Table, sides: Sequence[AggregateQuery], groups: Sequence[str], share: int) -> Any:
    """Each combination of values: `side`, `value` (the question's metric), then a text column per group, in order."""
    found = []
    for number, side in enumerate(sides):
        columns = [expression(table, group).cast(Text).label(f"g{place}") for place, group in enumerate(groups)]
        found.append(
            select(literal(number, Integer).label("side"), _measured(table, side).label("value"), *columns)
            .where(*conditions(table, side), *_sampled(table, share))
            .group_by(*columns)
        )
    return union_all(*found)


def cells(
    table: Table, sides: Sequence[AggregateQuery], regions: Sequence[tuple[Where, Where]], groups: Sequence[str]
) -> Any:
    """The exact numbers: `side`, `cell`, `events`, `value`; the cell is the region's number, or how many there are.

    A region is what it has and what it has not; the last cell is everything else. For each group, in order, follow
    `low`, `high` text and `there` bigint: the first and the last value of the cell's events in code-point order, and
    how many events have one.
    """
    inside = [_inside(table, region) for region in regions]
    cell: ColumnElement[int] = literal(len(regions), Integer)
    if inside:
        cell = case(*((condition, literal(number, Integer)) for number, condition in enumerate(inside)), else_=cell)
    found = []
    for number, side in enumerate(sides):
        columns: list[ColumnElement[Any]] = []
        for place, group in enumerate(groups if inside else ()):
            value = expression(table, group).cast(Text).collate("C")
            columns += [
                func.min(value).filter(or_(*inside)).label(f"low{place}"),
                func.max(value).filter(or_(*inside)).label(f"high{place}"),
                func.count(value).filter(or_(*inside)).label(f"there{place}"),
            ]
        rows = (
            select(cell.label("cell"), func.count().label("events"), _measured(table, side).label("value"), *columns)
            .where(*conditions(table, side))
            .group_by("cell")
            .subquery()
        )
        found.append(select(literal(number, Integer).label("side"), *rows.c))
    return union_all(*found)


def _measured(table: Table, query: AggregateQuery) -> ColumnElement[Any]:
    return func.count() if query.metric == "count" else func.sum(table.c.quantity).cast(Numeric)


def _sampled(table: Table, share: int) -> list[ColumnElement[bool]]:
    if share == 1:
        return []
    hashed = func.uuid_hash_extended(table.c.id, literal(0, BigInteger), type_=BigInteger())
    return [hashed.op("&")(literal(share - 1, BigInteger)) == 0]


def _inside(table: Table, region: tuple[Where, Where]) -> ColumnElement[bool]:
    where, without = region
    found = []
    for group, value in where:
        column = expression(table, group)
        found.append(column.is_(None) if value is None else column == _typed(column, value))
    for group, value in without:
        column = expression(table, group)
        found.append(column.is_not(None) if value is None else or_(column.is_(None), column != _typed(column, value)))
    return and_(*found)


def _typed(column: ColumnElement[Any], value: str) -> Any:
    return UUID(value) if isinstance(column.type, Uuid) else value
