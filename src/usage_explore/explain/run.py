"""From a resolved question to its explanation, in one transaction that sees one snapshot.

The search works on floats, where there are many events on a sample; what is told is summed by the database over all
events of each cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Table

from usage_explore.errors import Fault, QueryError
from usage_explore.explain import statements
from usage_explore.explain.cells import Where
from usage_explore.explain.cuboids import Codes, Floats, Leaves, merged
from usage_explore.explain.result import Explanation
from usage_explore.explain.result_build import not_exact, tell
from usage_explore.explain.select import choose
from usage_explore.explain.spans import Baseline, spans
from usage_explore.formatting import duration
from usage_explore.query import filters, validators
from usage_explore.query.filters import DIMENSION, GROUPS
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.sql.filters import first as first_event

SAMPLE = 100_000
"""Of more events than this in both windows, one in two, four, eight … is searched."""

MOST_KEYS = 20
"""So many dimension keys are looked at, the most frequent ones."""

_UNIQUE = 0.5
"""A dimension with a value of its own for more than this part of the events tells nothing: it is left out."""

_FEW = 50
"""Fewer events than this cannot show that a dimension's values are unique."""


@dataclass(frozen=True, slots=True)
class _Values:
    """The leaves: `codes`, a column per group, of the `values` of that group; None is a value like any other.

    `before` and `after` are amounts in units of `unit`.
    """

    groups: tuple[str, ...]
    codes: Codes
    values: tuple[list[str | None], ...]
    before: Floats
    after: Floats
    unit: Decimal


def explain(
    connection: Connection,
    table: Table,
    query: AggregateQuery,
    now: datetime,
    bucket: datetime | None,
    baseline: Baseline | tuple[datetime, datetime] | None,
    expected: Decimal | None,
) -> Explanation:
    """What changed in a bucket of the resolved question, or in its whole window. See `Store.explain`."""
    found = spans(query, now, bucket, baseline)
    sides = [query.replace(since=span.since, until=span.until, group_by="none") for span in (found.before, found.after)]
    events = connection.execute(statements.size(table, sides)).scalar_one()
    share = 1
    while events > share * SAMPLE:
        share *= 2
    values, notes = _values(connection, table, sides, share)
    if share > 1:
        notes.append(
            f"The cells were found in one in {share} of the {events:,} events; their numbers are of all of them"
        )
    if found.cut:
        length = duration(found.after.until - found.after.since)
        notes.append(f"Both windows are cut to {length}, as the later one is incomplete")
    known = EventQuery(organization_id=query.organization_id, as_of=query.as_of)
    first = connection.execute(first_event(table, known)).scalar_one()
    if first is not None and found.before.since < first:
        clock = first.astimezone(query.zone).strftime("%Y-%m-%d %H:%M")
        notes.append(f"The window before is not wholly covered: events begin at {clock} {query.timezone}")
    regions = _regions(values, share, expected)
    rows = connection.execute(statements.cells(table, sides, regions, values.groups)).all()
    told = tell(rows, sides[1], regions, values.groups, expected)
    return Explanation(
        query=sides[1],
        before=found.before,
        after=found.after,
        expected=expected,
        total=told.total,
        cells=told.cells,
        rest=told.rest,
        groups=values.groups,
        notes=tuple(notes),
    )


def _values(
    connection: Connection, table: Table, sides: Sequence[AggregateQuery], share: int
) -> tuple[_Values, list[str]]:
    keys = [row.key for row in connection.execute(statements.keys(table, sides, share, MOST_KEYS + 1))]
    notes = []
    if len(keys) > MOST_KEYS:
        notes.append(f"Only the {MOST_KEYS} most frequent dimensions were looked at")
    groups = [*GROUPS, *(DIMENSION + key for key in keys[:MOST_KEYS] if _askable(key))]
    rows = connection.execute(statements.leaves(table, sides, groups, share)).all()
    kept, codes, values, unique = [], [], [], []
    for place, group in enumerate(groups, start=2):
        column, named = pd.factorize(np.array([row[place] for row in rows], dtype=object), use_na_sentinel=True)
        known: list[str | None] = list(named)
        if (column < 0).any():
            column = np.where(column < 0, len(known), column)
            known.append(None)
        if len(rows) > _FEW and len(known) > _UNIQUE * len(rows):
            unique.append(group)
        elif len(known) > 1:
            kept.append(group)
            codes.append(column.astype(np.int64))
            values.append(known)
    if unique:
        notes.append(f"Left out, as nearly every event has a value of its own: {', '.join(map(ascii, unique))}")
    before, after, unit = _amounts(rows)
    stacked = np.array(codes, dtype=np.int64).reshape(len(codes), len(rows)).T
    return _Values(tuple(kept), stacked, tuple(values), before, after, unit), notes


def number(expected: object) -> Decimal | None:
    """The expected number, exact. Raises `QueryError` for what is not a finite `Decimal` or `int`."""
    if expected is None:
        return None
    if isinstance(expected, bool) or not isinstance(expected, int | Decimal) or not Decimal(expected).is_finite():
        raise QueryError([Fault("expected", f"{validators.shorten(expected)} is not a finite Decimal or int")])
    return Decimal(expected)


def _askable(key: str) -> bool:
    try:
        filters.group(DIMENSION + key)
    except ValueError:
        return False
    return True


def _amounts(rows: Sequence[Any]) -> tuple[Floats, Floats, Decimal]:
    """What each row has before and after as parts of the largest, so that none is beyond a float; and the largest."""
    values = [Decimal(row.value) for row in rows]
    if not all(value.is_finite() for value in values):
        raise not_exact()
    largest = max((value.copy_abs() for value in values), default=Decimal(0)) or Decimal(1)
    amounts = np.array([float(value / largest) for value in values])
    later = np.array([row.side == 1 for row in rows], dtype=bool)
    return np.where(later, 0.0, amounts), np.where(later, amounts, 0.0), largest


def _regions(values: _Values, share: int, expected: Decimal | None) -> list[tuple[Where, Where]]:
    if not values.groups or not len(values.codes):
        return []
    codes, before, after = merged(values.codes, values.before, values.after)
    if expected is not None and before.sum() > 0 < expected:
        before = before * min(1e9, float(expected / share / values.unit) / before.sum())
    leaves = Leaves(codes, before, after)

    def named(pairs: Sequence[tuple[int, int]]) -> Where:
        return tuple((values.groups[dim], values.values[dim][code]) for dim, code in pairs)

    return [(named(region.where), named(region.without)) for region in choose(leaves)]
