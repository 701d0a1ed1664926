"""What makes an answer another one than was meant: several values written as one, a name that no event has.

A wrong name is no error, since the next event may bring it; but its answer of zero must not pass for an answer about
usage. So the names in it are looked up once more, in the newest events, and what is suspicious is a warning.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, Subquery, Table, func, select, true
from sqlalchemy.exc import DBAPIError

from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.base import Question
from usage_explore.query.filters import DIMENSION, NOT, TEXT_COLUMNS, dimension_group
from usage_explore.sql import filters

SAMPLE = 10_000
"""Events that are looked at for what a name could have meant, the newest ones."""

_MOST_VALUES = 1_000
_PATIENCE = "2s"
_PACKAGE = str(Path(__file__).parents[1])


class HintWarning(UserWarning):
    """An answer may be empty, or without a filter's effect, by mistake."""


def warn(words: str) -> None:
    """Warn the line outside this package that asked, each time: a cell of a notebook may run again."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    warnings.warn_explicit(words, HintWarning, frame.f_code.co_filename, frame.f_lineno)


def check_commas(connection: Connection, table: Table, query: Question, *, empty: bool, escaped: bool) -> None:
    """Refuse a value with commas that no event has, where events have a part of it: a list written as one value.

    Only a value that stands alone: who wrote a list of several values knows how. Of an answer that is not `empty`, or
    not known yet, only excluded values are suspicious. `escaped` metric keys come from a link or request, whose commas
    separate values unless escaped: there a comma is meant. Raises `QueryError`.
    """
    faults = []
    for name, group, values in _filters(query):
        if not (empty or name.startswith(NOT)) or (escaped and group == "metric_key"):
            continue
        if len(values) > 1 or "," not in values[0] or _exist(connection, table, query, group, values):
            continue
        parts = tuple(dict.fromkeys(part for each in values[0].split(",") if (part := each.strip())))
        if parts and _exist(connection, table, query, group, parts):
            said = (
                f"no event has {validators.shorten(values[0])}, but some have a part of it; several values are a list "
            )
            said += f"such as {validators.shorten(list(parts))}, in a link metric_key=a,b or a repeated parameter"
            faults.append(Fault(validators.named(name), said))
    if faults:
        raise QueryError(faults)


def suspicious(connection: Connection, table: Table, query: Question, group_by: str, *, empty: bool) -> list[str]:
    """What the question of an organization may have meant otherwise: dimensions that no recent event has.

    Also values that no recent event has, but nearly: excluded ones, and of an `empty` answer all. Dimensions are
    looked up where the answer is empty, or would be the same without the filter: where they, or values, must be absent.
    """
    absent = {*query.missing, *(group for name, groups in query.exclude if name == "missing" for group in groups)}
    absent |= {name for name, _ in query.exclude}
    named = [each for each in _filters(query) if empty or each[0].startswith(NOT)]
    groups = {*absent, *(group for _, group, _ in named), group_by}
    dimensions = {group for group in groups if group.startswith(DIMENSION)}
    if not named and not dimensions:
        return []
    try:
        with connection.begin_nested():
            connection.execute(select(func.set_config("statement_timeout", _PATIENCE, true())))
            found = _unknown_dimensions(connection, table, query, dimensions)
            return [*found, *_slips(connection, table, query, named)]
    except DBAPIError:  # a hint is worth two seconds, and no error
        return []


def _filters(query: Question) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The parameters with texts: their name, the group they are about, their values."""
    yield from ((name, name, values) for name in TEXT_COLUMNS if (values := getattr(query, name)))
    yield from ((dimension_group(key), dimension_group(key), values) for key, values in query.dimensions)
    for name, values in query.exclude:
        if name in TEXT_COLUMNS or name.startswith(DIMENSION):
            yield NOT + name, name, values


def _exist(connection: Connection, table: Table, query: Question, group: str, values: tuple[str, ...]) -> bool:
    """Whether the question's organization has an event with one of the values."""
    given = {"dimensions": {group: values}} if group.startswith(DIMENSION) else {group: values}
    asked = Question(organization_id=query.organization_id, **given)
    found = select(select(table.c.id).where(*filters.conditions(table, asked)).exists())
    return bool(connection.execute(found).scalar_one())


def _recent(table: Table, query: Question) -> Subquery:
    """The organization's newest events."""
    own = filters.scope(table.c.organization_id, query)
    return select(table).where(own).order_by(table.c.timestamp.desc(), table.c.id.desc()).limit(SAMPLE).subquery()


def _unknown_dimensions(connection: Connection, table: Table, query: Question, groups: set[str]) -> Iterator[str]:
    if not groups:
        return
    recent = _recent(table, query)
    keys = filters.object_keys(recent)
    found = connection.execute(select(keys.c.key).distinct().join_from(recent, keys, true()).limit(_MOST_VALUES))
    known = {DIMENSION + key for key in found.scalars()}
    for group in sorted(groups - known):
        near = validators.did_you_mean(group, known)
        yield f"{validators.named(group)}: none of the newest {SAMPLE:,} events has it{near}"


def _slips(
    connection: Connection, table: Table, query: Question, named: list[tuple[str, str, tuple[str, ...]]]
) -> Iterator[str]:
    """Values that no recent event has, but one that is nearly the same, or that contains them."""
    recent = _recent(table, query)
    for name, group, values in named:
        found = connection.execute(select(filters.expression(recent, group)).distinct().limit(_MOST_VALUES))
        known = {value for value in found.scalars() if value is not None}
        for value in values[:3]:
            if value not in known and (near := validators.did_you_mean(value, known) or _longer(value, known)):
                said = validators.shorten(value)
                yield f"{validators.named(name)}: none of the newest {SAMPLE:,} events has {said}{near}"


def _longer(value: str, known: set[str]) -> str:
    """`, did you mean x or y?` for the first known values that contain this one, or nothing."""
    longer = sorted(each for each in known if value.lower() in each.lower()) if len(value) > 1 else []
    return f", did you mean {' or '.join(map(validators.named, longer[:3]))}?" if longer else ""
