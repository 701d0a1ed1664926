"""Changes to a question, as pure functions: presets, filters added and removed, drilling into a series."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from usage_explore.answers import Aggregate
from usage_explore.query import buckets
from usage_explore.query.base import Question
from usage_explore.query.describe import group_name
from usage_explore.query.filters import DIMENSION, ID_COLUMNS, TEXT_COLUMNS, dimension_group, dimension_key
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import Series

_Q = TypeVar("_Q", bound=Question)

Test = Literal["is", "is not", "is missing", "is not missing"]
TESTS: tuple[Test, ...] = ("is", "is not", "is missing", "is not missing")

PRESETS = {
    "24h": "24 h",
    "7d": "7 d",
    "30d": "30 d",
    "90d": "90 d",
    "this_month": "This month",
    "last_month": "Last month",
    "custom": "Custom",
}
"""The windows on offer, and what they are called."""


@dataclass(frozen=True)
class Filter:
    """One filter of a question: a group, a test and the values it takes."""

    group: str
    test: Test
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = group_name(self.group)
        if not self.values:
            return f"{name} {self.test}"
        shown = [short_value(self.group, value) for value in self.values[:2]]
        more = len(self.values) - len(shown)
        return f"{name} {self.test} {', '.join(shown)}{f' and {more} more' if more else ''}"


def short_value(group: str, value: str) -> str:
    """A value as a chip shows it: ids by their first eight digits, the empty text as (empty)."""
    if group in ID_COLUMNS:
        return f"{value[:8]}…"
    return named_value(value if len(value) <= 40 else f"{value[:39]}…")


def named_value(value: str) -> str:
    """What to call a value: the empty text (empty), one that is spelled so in quotes."""
    return f'"{value}"' if value == "(empty)" else value or "(empty)"


def filters(query: Question) -> list[Filter]:
    """Every filter of the question, in the order the sentence names them."""
    found = []
    for name in (*ID_COLUMNS, *TEXT_COLUMNS):
        value = getattr(query, name)
        if value:
            found.append(Filter(name, "is", value if isinstance(value, tuple) else (str(value),)))
    found += [Filter(dimension_group(key), "is", values) for key, values in query.dimensions]
    found += [Filter(group, "is missing") for group in query.missing]
    for name, values in query.exclude:
        if name == "missing":
            found += [Filter(group, "is not missing") for group in values]
        else:
            found.append(Filter(name, "is not", values))
    return found


def with_filter(query: _Q, added: Filter) -> _Q:
    """The question with a filter; one of the same group and test is replaced."""
    query = without_filter(query, added)
    match added.test:
        case "is missing":
            return query.replace(missing=(*query.missing, added.group))
        case "is not missing":
            excluded = dict(query.exclude)
            return query.replace(exclude={**excluded, "missing": (*excluded.get("missing", ()), added.group)})
        case "is not":
            return query.replace(exclude={**dict(query.exclude), added.group: added.values})
    if added.group.startswith(DIMENSION):
        key = dimension_key(added.group)
        return query.replace(dimensions={**dict(query.dimensions), key: added.values})
    return query.replace(**{added.group: added.values[0] if added.group in ID_COLUMNS else added.values})


def without_filter(query: _Q, removed: Filter) -> _Q:
    """The question without the filter of that group and test."""
    match removed.test:
        case "is missing":
            return query.replace(missing=tuple(group for group in query.missing if group != removed.group) or None)
        case "is not missing":
            excluded = dict(query.exclude)
            left = tuple(group for group in excluded.pop("missing", ()) if group != removed.group)
            return query.replace(exclude={**excluded, "missing": left} if left else excluded or None)
        case "is not":
            excluded = {name: values for name, values in query.exclude if name != removed.group}
            return query.replace(exclude=excluded or None)
    if removed.group.startswith(DIMENSION):
        key = dimension_key(removed.group)
        return query.replace(dimensions={name: values for name, values in query.dimensions if name != key} or None)
    return query.replace(**{removed.group: None})


def without_filters(query: _Q) -> _Q:
    """The question about all events of its organization; `as_of` stays."""
    for each in filters(query):
        query = without_filter(query, each)
    return query


def without_group(query: _Q, group: str) -> _Q:
    """The question without any filter on the group: what a picker's values are counted in."""
    for each in filters(query):
        if each.group == group:
            query = without_filter(query, each)
    return query


def into(answer: Aggregate, asked: AggregateQuery, series: Series) -> AggregateQuery:
    """The question narrowed to the events of one series, Other included; the window stays as it was asked."""
    behind = answer.events_at(series)
    names = [name for name in Question.model_fields if name != "organization_id"]
    changes: dict[str, Any] = {name: getattr(behind, name) for name in names}
    fields = Question.model_fields
    return asked.replace(**{name: None if value == fields[name].default else value for name, value in changes.items()})


def preset(query: AggregateQuery) -> str | None:
    """Which preset the question's window is; None for a relative window that is not on offer."""
    if query.window:
        return query.window
    if isinstance(query.since, datetime) or isinstance(query.until, datetime):
        return "custom"
    name, _, rounding = str(query.since).removeprefix("-").partition("/")
    fits = rounding in ("", query.bucket[0]) and query.until == "now"
    return name if name in PRESETS and fits else None


def with_preset(query: AggregateQuery, name: str, now: datetime) -> AggregateQuery:
    """The question over a preset's window, begun on a bucket edge of the zone; custom starts from what is shown."""
    if name == "custom":
        since, until = query.resolve(now).span
        return query.replace(window=None, since=since, until=until)
    if name in ("this_month", "last_month"):
        return query.replace(window=name)
    if name == "24h" and query.bucket != "hour":
        query = query.replace(bucket="hour")
    return query.replace(window=None, since=f"-{name}/{query.bucket[0]}", until=None)


def with_extent(query: AggregateQuery, first: datetime, last: datetime) -> AggregateQuery:
    """The question over the whole local days from the first to the last event."""
    zone = query.zone
    since = buckets.day_start(first.astimezone(zone).date(), zone)
    until = buckets.day_start(last.astimezone(zone).date() + timedelta(days=1), zone)
    bucket = "week" if until - since > timedelta(days=buckets.MAX_AGGREGATE_BUCKETS) else "day"
    return query.replace(window=None, since=since, until=until, bucket=bucket)


def with_bucket(query: AggregateQuery, bucket: str) -> AggregateQuery:
    """The question in another bucket; a relative window stays on a bucket edge."""
    name = preset(query)
    if name in (None, "custom", "this_month", "last_month"):
        return query.replace(bucket=bucket)
    return query.replace(bucket=bucket, since=f"-{name}/{bucket[0]}")
