"""The names of ids beside results: events, series and leaderboards with the names that a directory has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from usage_explore.names import NAME_COLUMNS, Names
from usage_explore.query.base import Query
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.leaders import Leaderboard
from usage_explore.results.types import Event, Series, SeriesChange

_S = TypeVar("_S", Series, SeriesChange)


def filtered_ids(query: Query) -> list[tuple[str, str]]:
    """(column, id) of every customer, product and subscription in the query's filters."""
    chosen = [(name, str(value)) for name in ID_COLUMNS if (value := getattr(query, name))]
    return chosen + [(name, value) for name, values in query.exclude if name in ID_COLUMNS for value in values]


def event_ids(events: Iterable[Event]) -> Iterator[tuple[str, UUID]]:
    """(column, id) of every id in the events that may have a name."""
    for event in events:
        for column in NAME_COLUMNS.values():
            if (id_ := getattr(event, column)) is not None:
                yield column, id_


def named_events(events: Sequence[Event], names: Names) -> tuple[Event, ...]:
    """The events with their names."""
    if not names:
        return tuple(events)
    named = []
    for event in events:
        found: dict[str, Any] = {
            name: names.name(column, getattr(event, column)) for name, column in NAME_COLUMNS.items()
        }
        named.append(replace(event, **found))
    return tuple(named)


def named_boards(boards: Iterable[Leaderboard], names: Names) -> tuple[Leaderboard, ...]:
    """The leaderboards with the names of their ids."""
    return tuple(
        replace(board, leaders=tuple(replace(row, name=names.name(board.group, row.key)) for row in board.leaders))
        if names and board.group in ID_COLUMNS
        else board
        for board in boards
    )


def named_series(series: tuple[_S, ...], query: AggregateQuery, names: Names) -> tuple[_S, ...]:
    """The series with their names."""
    if not names or query.group_by not in ID_COLUMNS:
        return series
    return tuple(replace(item, name=names.name(query.group_by, item.key)) for item in series)
