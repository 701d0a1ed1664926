"""Answers in one form, so that they can be compared: totals and points of each series, exact, zeros left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from usage_explore import Aggregate, AggregateQuery
from usage_explore.results.leaders import Leaderboard

Row = tuple[datetime, str | None, Decimal | int]
"""Start of a bucket, key, value."""

Answer = dict[tuple[str, str | None], dict[datetime | str, Decimal]]
"""By kind and key: value by start of bucket, and the series' `total`."""


def ours(answer: Aggregate) -> Answer:
    """An answer of usage-explore."""
    found: Answer = {}
    for series in answer.series:
        points: dict[datetime | str, Decimal] = {
            point.start: Decimal(point.value) for point in series.points if point.value
        }
        found[series.kind, series.key] = points | {"total": Decimal(series.total)}
    return found


def folded(rows: Iterable[Row], query: AggregateQuery) -> Answer:
    """Another engine's rows of all groups, ranked and folded in Python as the question says."""
    keys: dict[str | None, dict[datetime, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for start, key, value in rows:
        keys[key][start] += Decimal(value)
    ranked = sorted(keys, key=lambda key: (-sum(keys[key].values()), key is None, key or ""))
    found: Answer = {}
    for position, key in enumerate(ranked):
        kind = "missing" if key is None else "value"
        if query.group_by == "none":
            kind = "all"
        elif query.top and position >= query.top:
            kind, key_shown = "other", None
            found.setdefault((kind, key_shown), {"total": Decimal(0)})
        series = found.setdefault((kind, None if kind == "other" else key), {"total": Decimal(0)})
        for start, value in keys[key].items():
            series[start] = series.get(start, Decimal(0)) + value
            series["total"] += value
    return {
        name: {at: value for at, value in series.items() if value or at == "total"} for name, series in found.items()
    }


def board(rows: Iterable[tuple[str | None, int]], query: AggregateQuery) -> Answer:
    """Another engine's rows of a leaderboard's group, by the query's `group_by`, ranked and folded in Python."""
    start = query.span[0]
    answer = folded(((start, None if key is None else str(key), value) for key, value in rows), query)
    return {name: {"total": points["total"]} for name, points in answer.items()}


def leaders(found: Leaderboard) -> Answer:
    """A leaderboard of usage-explore."""
    return {(row.kind, row.key): {"total": Decimal(row.total)} for row in found.leaders}


def difference(expected: Answer, found: Answer) -> str | None:
    """Where two answers differ, in words; None where they are equal to the last digit."""
    for name in expected.keys() | found.keys():
        left, right = expected.get(name), found.get(name)
        if left is None or right is None:
            return f"series {name} is only in one of them"
        for at in left.keys() | right.keys():
            if left.get(at) != right.get(at):
                return f"series {name} at {at}: {left.get(at)} and {right.get(at)}"
    return None
