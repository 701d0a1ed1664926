"""Hints about queries that probably mean something else: several values as one, a name or a window without events.

An unknown name is no error, because the next event may have it; but an empty answer must not pass for an answer about
usage. So the names of a query with an empty answer are looked up in the newest events, and its window is compared with
the times of the organization's first and last event. Answers carry the hints as sentences; Python also warns of them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Subquery, Table, exists, func, select, true
from sqlalchemy.exc import DBAPIError

from usage_explore.errors import Fault, QueryError
from usage_explore.formatting import MAX_VALUE_CHARACTERS, shortened, zoned
from usage_explore.query import validators
from usage_explore.query.base import Query, Windowed
from usage_explore.query.filters import DIMENSION, NOT, TEXT_COLUMNS, Texts, dimension_group
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.sql import filters

SAMPLE_EVENTS = 10_000
"""Newest events of the organization in which names are looked up."""

_MAX_SAMPLE_VALUES = 1_000
"""Distinct values or dimension keys of the sample that names are compared with."""

_MAX_HINTED_VALUES = 3
"""Values of one filter that are looked up, and similar ones that a hint names."""

_MAX_JOINED_VALUES = 4
"""Values that may have been one metric key with commas: all their orders are looked up."""

_TIMEOUT = "2s"
"""PostgreSQL's statement_timeout for the look-up; without an answer by then there is no hint."""

_PACKAGE = str(Path(__file__).parents[1])


class HintWarning(UserWarning):
    """A name or the window of the query is probably a mistake: the answer is empty, or the filter has no effect."""


class _TextFilter(NamedTuple):
    parameter: str
    group: str
    values: Texts


def warn(message: str) -> None:
    """Warn at the caller's line outside this package, every time: a notebook's cell may run again."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    warnings.warn_explicit(message, HintWarning, frame.f_code.co_filename, frame.f_lineno)


def check_commas(connection: Connection, table: Table, query: Query, *, empty: bool, escaped: bool) -> None:
    """Raise `QueryError` for a list that was written as one value, and for a metric key that was split at its comma.

    That is: no event has the value, but some have a part of it between commas; or no event has any of the metric keys,
    but some have them joined with commas. `empty` means that the answer is empty or not known yet; otherwise only
    exclusions are checked. `escaped` means that the query comes from a link or request, where a metric key has a comma
    only if it was escaped: then the comma is part of the key.
    """
    faults = []
    for parameter, group, values in _text_filters(query):
        if not (empty or parameter.startswith(NOT)):
            continue
        if len(values) == 1:
            split = group != "metric_key" or not escaped
            message = _list_as_value(connection, table, query, group, values[0]) if split else ""
        else:
            message = _value_as_list(connection, table, query, values) if group == "metric_key" else ""
        if message:
            faults.append(Fault(validators.named(parameter), message))
    if faults:
        raise QueryError(faults)


def _list_as_value(connection: Connection, table: Table, query: Query, group: str, value: str) -> str:
    """The fault of a value that is a list, such as `price_key="p1,p2"`; blank for others."""
    parts = tuple(dict.fromkeys(part for item in value.split(",") if (part := item.strip())))
    if "," not in value or not parts or _exist(connection, table, query, group, (value,)):
        return ""
    if not _exist(connection, table, query, group, parts):
        return ""
    return (
        f"no event has {validators.shorten(value)}, but some have a part of it; several values are a list "
        f"such as {validators.shorten(list(parts))}, in a link metric_key=a,b or a repeated parameter"
    )


def _value_as_list(connection: Connection, table: Table, query: Query, values: Texts) -> str:
    """The fault of metric keys that are one with commas, such as `metric_key=a,b` in a link; blank for others."""
    if len(values) > _MAX_JOINED_VALUES or _exist(connection, table, query, "metric_key", values):
        return ""
    for order in permutations(values):
        joined = ",".join(order)
        if _exist(connection, table, query, "metric_key", (joined,)):
            escaped = shortened(joined.replace("\\", "\\\\").replace(",", "\\,"), MAX_VALUE_CHARACTERS)
            return (
                f"no event has {' or '.join(map(validators.shorten, values))}, but some have "
                f"{validators.shorten(joined)}; in a link write metric_key={escaped}, in Python one text"
            )
    return ""


def suspicious(connection: Connection, table: Table, query: Query, *, empty: bool) -> tuple[str, ...]:
    """Sentences about a query that probably means something else, none without a reason to think so.

    - Values of filters, if a similar or longer value exists: of exclusions, and if the answer is `empty` of all.
    - Dimensions: of exclusions and `missing`, whose answer would be the same without them; and if the answer is `empty`
      of all filters and of `group_by`.
    - The window of an `empty` answer, if the organization has no events in it: see `_outside`.
    - An `empty` answer of an organization all of whose rows have impossible times: see `_impossible`.

    Names are looked up in the newest events; names that none of them has are reported. No sentence if that takes long.
    """
    absent = {*query.missing, *(group for name, groups in query.exclude if name == "missing" for group in groups)}
    absent |= {name for name, _ in query.exclude}
    text_filters = [item for item in _text_filters(query) if empty or item.parameter.startswith(NOT)]
    group_by = {query.group_by} if empty and isinstance(query, AggregateQuery) else set()
    groups = {*absent, *(item.group for item in text_filters), *group_by}
    dimensions = {group for group in groups if group.startswith(DIMENSION)}
    window = _window(query) if empty else None
    if not text_filters and not dimensions and not empty:
        return ()
    try:
        with connection.begin_nested():
            connection.execute(select(func.set_config("statement_timeout", _TIMEOUT, true())))
            if not empty and _all_occur(connection, table, query, dimensions, text_filters):
                return ()
            unknown = _unknown_dimensions(connection, table, query, dimensions)
            misspelled = _misspelled(connection, table, query, text_filters)
            outside = _outside(connection, table, query, window) if window else ""
            impossible = _impossible(connection, table, query) if empty else ""
            return (*unknown, *misspelled, *filter(None, [outside, impossible]))
    except DBAPIError:  # a hint is not worth an error
        return ()


class _Window(NamedTuple):
    since: datetime | None
    until: datetime | None
    zone: ZoneInfo
    parameters: tuple[str, ...]


def _window(query: Query) -> _Window | None:
    """The times that an answer is limited to, and the parameters that do so; None without."""
    if isinstance(query, Windowed):
        return _Window(*query.span, query.zone, ("since", "until"))
    if not isinstance(query, EventQuery):
        return None
    given = {"occurred_after": query.occurred_after, "occurred_before": query.occurred_before}
    parameters = tuple(name for name, value in given.items() if value is not None)
    return _Window(query.occurred_after, query.occurred_before, ZoneInfo("UTC"), parameters) if parameters else None


def _outside(connection: Connection, table: Table, query: Query, window: _Window) -> str:
    """For a window before or after all events of the organization: a sentence that says when it has some; else blank.

    With `as_of`, the events known then count.
    """
    known = EventQuery(organization_id=query.organization_id, as_of=query.as_of)
    first, last = connection.execute(filters.extent(table, known)).one()
    since, until, zone, parameters = window
    if first is None or ((until is None or first < until) and (since is None or last >= since)):
        return ""
    times = "".join(
        f" {word} {zoned(time, zone)}"
        for word, time in ((("from", since), ("to", until)) if since else (("before", until),))
        if time is not None
    )
    return (
        f"There are no events{times}{' on' if until is None else ''}; this organization's events lie between"
        f" {zoned(first, zone)} and {zoned(last, zone)}: pass {' and '.join(parameters)}"
    )


def _impossible(connection: Connection, table: Table, query: Query) -> str:
    """For an organization that has rows, but none with possible times: a sentence that says so; else blank."""
    own = EventQuery(organization_id=query.organization_id)
    rows = select(exists().where(filters.scope(table.c.organization_id, own)))
    if connection.execute(filters.first(table, own)).scalar() is not None or not connection.execute(rows).scalar():
        return ""
    return (
        "All rows of this organization have times outside 1970 to 2200, or none, so no query returns them;"
        " `usage-explore doctor` names them"
    )


def _text_filters(query: Query) -> Iterator[_TextFilter]:
    for name in TEXT_COLUMNS:
        if values := getattr(query, name):
            yield _TextFilter(name, name, values)
    for key, values in query.dimensions:
        yield _TextFilter(dimension_group(key), dimension_group(key), values)
    for name, values in query.exclude:
        if name in TEXT_COLUMNS or name.startswith(DIMENSION):
            yield _TextFilter(NOT + name, name, values)


def _exist(connection: Connection, table: Table, query: Query, group: str, values: Texts) -> bool:
    """Whether the query's organization has an event with one of the values."""
    filter_ = {"dimensions": {group: values}} if group.startswith(DIMENSION) else {group: values}
    of_organization = Query(organization_id=query.organization_id, **filter_)
    statement = select(select(table.c.id).where(*filters.conditions(table, of_organization)).exists())
    return bool(connection.execute(statement).scalar_one())


def _sample(table: Table, query: Query) -> Subquery:
    """The organization's newest events."""
    of_organization = filters.scope(table.c.organization_id, query)
    newest = select(table).where(of_organization).order_by(table.c.timestamp.desc(), table.c.id.desc())
    return newest.limit(SAMPLE_EVENTS).subquery()


def _all_occur(
    connection: Connection, table: Table, query: Query, groups: set[str], text_filters: list[_TextFilter]
) -> bool:
    """Whether the sample has each dimension, and each value that is looked up: found by the first event that has it."""
    sample = _sample(table, query)
    present = [filters.expression(sample, group).is_not(None) for group in sorted(groups)]
    equal = [
        filters.expression(sample, group) == value
        for _, group, values in text_filters
        for value in values[:_MAX_HINTED_VALUES]
    ]
    probes = [select(sample.c.id).where(condition).exists() for condition in (*present, *equal)]
    return all(connection.execute(select(*probes)).one())


def _unknown_dimensions(connection: Connection, table: Table, query: Query, groups: set[str]) -> Iterator[str]:
    if not groups:
        return
    sample = _sample(table, query)
    keys = filters.object_keys(sample)
    distinct = select(keys.c.key).distinct().join_from(sample, keys, true()).limit(_MAX_SAMPLE_VALUES)
    known = {DIMENSION + key for key in connection.execute(distinct).scalars()}
    for group in sorted(groups - known):
        similar = validators.did_you_mean(group, known)
        yield f"{validators.named(group)}: none of the newest {SAMPLE_EVENTS:,} events has it{similar}"


def _misspelled(connection: Connection, table: Table, query: Query, text_filters: list[_TextFilter]) -> Iterator[str]:
    """Values that no event of the sample has, if it has a similar one, or one that contains it."""
    sample = _sample(table, query)
    for parameter, group, values in text_filters:
        distinct = select(filters.expression(sample, group)).distinct().limit(_MAX_SAMPLE_VALUES)
        known = {value for value in connection.execute(distinct).scalars() if value is not None}
        whole = {value for value in known if validators.named(value) == value}
        for value in values[:_MAX_HINTED_VALUES]:
            if value not in known and (
                similar := validators.did_you_mean(value, whole) or _longer(value, known, whole)
            ):
                events = f"none of the newest {SAMPLE_EVENTS:,} events has {validators.shorten(value)}"
                yield f"{validators.named(parameter)}: {events}{similar}"


def _longer(value: str, known: set[str], whole: set[str]) -> str:
    """`, did you mean x or y?` for the first values that contain this one, blank without any.

    Only the `whole` ones, which are written to the last character, can be queried as they are named; of others, such as
    a long list or object in JSON, the hint only says that they contain the value.
    """
    longer = sorted(item for item in known if value.lower() in item.lower()) if len(value) > 1 else []
    if not longer:
        return ""
    if named := [item for item in longer if item in whole][:_MAX_HINTED_VALUES]:
        return f", did you mean {' or '.join(named)}?"
    return ", only longer values contain it"
