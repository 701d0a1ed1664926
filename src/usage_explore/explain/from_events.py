"""The sums that an explanation needs, from the events: statements of the database over the two windows.

Each statement reads both windows, distinguished by the column `side`: 0 before, 1 after. With `share` above 1 it reads
one in `share` events, chosen by the MD5 of the id, which DuckDB computes alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Numeric,
    Text,
    Uuid,
    and_,
    case,
    func,
    literal,
    select,
    true,
    union_all,
)

from usage_explore.decimals import Number
from usage_explore.explain.leaf_sums import LeafColumns, Texts
from usage_explore.explain.result import Where
from usage_explore.query.queries import AggregateQuery
from usage_explore.sql.aggregate import total_of
from usage_explore.sql.filters import conditions, expression, object_keys

Condition = tuple[Where, Where]
"""The values that events have, and those that they have not."""

NO_BOARD = -1
"""The `board` of the sums of all events of a cell."""


class CellSum(NamedTuple):
    """The events of a cell in a window: all of them, or those whose group with the index `board` has the value `key`.

    `cell` is the index of the condition; for everything else it is the number of conditions.
    """

    side: int
    cell: int
    board: int
    key: str | None
    events: int
    value: Number


@dataclass(frozen=True, slots=True)
class EventSums:
    """The sums of the events of two resolved queries, `sides`, each in its own source: the table, or a part of it."""

    connection: Connection
    sources: Sequence[FromClause]
    sides: Sequence[AggregateQuery]

    def keys(self, share: int, most: int) -> list[str]:
        """The `most` most frequent dimension keys, most frequent first."""
        selects = []
        for source, side in zip(self.sources, self.sides, strict=True):
            names = object_keys(source)
            selects.append(
                select(names.c.key.label("key"), func.count().label("events"))
                .join_from(source, names, names.c.value.is_not(None))
                .where(*conditions(source, side), *_sampled(source, share), names.c.key != "")
                .group_by(names.c.key)
            )
        both = union_all(*selects).subquery()
        ordered = (func.sum(both.c.events).desc(), both.c.key.collate("C"))
        return list(
            self.connection.execute(select(both.c.key).group_by(both.c.key).order_by(*ordered).limit(most)).scalars()
        )

    def leaves(self, groups: Sequence[str], share: int) -> LeafColumns:
        """All combinations of values; a sum of no number is one, too."""
        selects = []
        for number, (source, side) in enumerate(zip(self.sources, self.sides, strict=True)):
            columns = [expression(source, group).cast(Text).label(f"g{index}") for index, group in enumerate(groups)]
            selects.append(
                select(
                    literal(number, Integer).label("side"),
                    func.count().label("events"),
                    _measured(source, side).label("value"),
                    *columns,
                )
                .where(*conditions(source, side), *_sampled(source, share))
                .group_by(*columns)
            )
        rows = self.connection.execute(union_all(*selects)).all()
        if not rows:
            return LeafColumns.none(len(groups))
        sides, events, amounts, *texts = zip(*rows, strict=True)
        return LeafColumns(
            np.array(sides, dtype=np.int64),
            np.array(events, dtype=np.int64),
            [*amounts],
            [*map(Texts.of, texts)],
        )

    def sums(self, cells: Sequence[Condition], groups: Sequence[str]) -> list[CellSum]:
        """The exact sums of all events, by cell, and by cell and value of each group. The table is read once."""
        leaves = []
        for number, (source, side) in enumerate(zip(self.sources, self.sides, strict=True)):
            columns = [expression(source, group).label(f"g{index}") for index, group in enumerate(groups)]
            measured = [func.count().label("events"), _measured(source, side).label("value")]
            selected = select(literal(number, Integer).label("side"), *columns, *measured)
            selected = selected.where(*conditions(source, side))
            leaves.append(selected.group_by(*columns) if columns else selected)
        leaf = union_all(*leaves).subquery("leaf")
        texts = [leaf.c[f"g{index}"].cast(Text).label(f"g{index}") for index in range(len(groups))]
        keys: dict[str, ColumnElement[Any]] = dict(zip(groups, texts, strict=True))
        cell: ColumnElement[int] = literal(len(cells), Integer)
        if cells:
            cell = case(*((_has(keys, each), literal(index, Integer)) for index, each in enumerate(cells)), else_=cell)
        rows = select(leaf.c.side, leaf.c.events, leaf.c.value, *texts, cell.label("cell")).cte("rows")
        rows = rows.prefix_with("MATERIALIZED", dialect="postgresql")
        number_type = BigInteger() if self.sides[0].metric == "count" else Numeric()
        events, value = func.sum(rows.c.events).cast(BigInteger), func.sum(rows.c.value).cast(number_type)
        boards = [(NO_BOARD, literal(None, Text)), *((index, rows.c[f"g{index}"]) for index in range(len(groups)))]
        selects = [
            select(rows.c.side, rows.c.cell, literal(board, Integer).label("board"), key.label("key"), events, value)
            .where(rows.c.events > 0)
            .group_by(rows.c.side, rows.c.cell, *([key] if board != NO_BOARD else []))
            for board, key in boards
        ]
        return [CellSum(*row) for row in self.connection.execute(union_all(*selects))]

    def overlaps(self, excluded: Sequence[tuple[Where, tuple[str, str | None]]]) -> list[bool]:
        """For each excluded value whether an event with the values before it has it, too."""
        selects = []
        for source, side in zip(self.sources, self.sides, strict=True):
            tests = [_inside(source, (*where, pair)) for where, pair in excluded]
            columns = [func.coalesce(func.bool_or(test), False).label(f"o{at}") for at, test in enumerate(tests)]
            selects.append(select(*columns).select_from(source).where(*conditions(source, side)))
        rows = self.connection.execute(union_all(*selects)).all()
        return [any(row[index] for row in rows) for index in range(len(excluded))]


def _has(keys: Mapping[str, ColumnElement[Any]], condition: Condition) -> ColumnElement[bool]:
    where, without = condition
    return and_(
        true(),
        *(keys[group].is_not_distinct_from(literal(value, Text)) for group, value in where),
        *(keys[group].is_distinct_from(literal(value, Text)) for group, value in without),
    )


def _inside(source: FromClause, where: Where) -> ColumnElement[bool]:
    columns = [(expression(source, group), value) for group, value in where]
    tests = [column.is_(None) if value is None else column == _typed(column, value) for column, value in columns]
    return and_(true(), *tests)


def _typed(column: ColumnElement[Any], value: str) -> Any:
    return UUID(value) if isinstance(column.type, Uuid) else value


def _measured(source: FromClause, query: AggregateQuery) -> ColumnElement[Any]:
    measure = total_of(source, query.metric)
    return measure if query.metric == "count" else measure.cast(Numeric)


def sample_bound(share: int) -> str:
    """The hexadecimal digits below which the first eight of one in `share` MD5 sums are; `share` is a power of two.

    >>> sample_bound(2), sample_bound(64)
    ('80000000', '04000000')
    """
    return f"{2**32 // share:08x}"


def _sampled(source: FromClause, share: int) -> list[ColumnElement[bool]]:
    if share == 1:
        return []
    return [func.md5(source.c.id.cast(Text)).collate("C") < sample_bound(share)]
