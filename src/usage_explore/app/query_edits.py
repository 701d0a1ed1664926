"""Changes to a query as pure functions: presets, filters added and removed, narrowing to a series."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from usage_explore import formatting
from usage_explore.answers import Aggregate
from usage_explore.names import NO_NAMES, Names
from usage_explore.query import buckets
from usage_explore.query.base import Query
from usage_explore.query.describe import group_name
from usage_explore.query.filters import CURRENCY, DIMENSION, ID_COLUMNS, TEXT_COLUMNS, dimension_group, dimension_key
from usage_explore.query.limits import MAX_AGGREGATE_BUCKETS
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import Series

_Q = TypeVar("_Q", bound=Query)

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
"""The windows that the Explore page offers, with their labels."""


_MAX_CHIP_CHARACTERS, _MAX_CHIP_VALUES = 40, 2


@dataclass(frozen=True)
class Filter:
    """One filter of a query: a group, a test, and the values of the tests "is" and "is not"."""

    group: str
    test: Test
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text(NO_NAMES)

    def text(self, names: Names) -> str:
        """The filter in a chip: "customer is Acme", "model is large, small and 3 more"."""
        name = group_name(self.group)
        if not self.values:
            return f"{name} {self.test}"
        shown = [short_value(self.group, value, names) for value in self.values[:_MAX_CHIP_VALUES]]
        more = len(self.values) - len(shown)
        return f"{name} {self.test} {', '.join(shown)}{f' and {more} more' if more else ''}"


def short_value(group: str, value: str, names: Names = NO_NAMES) -> str:
    """A value in a chip: an id's name or first eight digits, the empty text as (empty), at most 40 characters."""
    if group in ID_COLUMNS:
        return names.label(group, value)
    return named_value(formatting.cut(value, _MAX_CHIP_CHARACTERS))


def named_value(value: str) -> str:
    """A value in text: (empty) for the empty text, in quotes if the value itself is "(empty)"."""
    return f'"{value}"' if value == "(empty)" else value or "(empty)"


def filters(query: Query) -> list[Filter]:
    """Every filter of the query, in the order of `describe`."""
    result = []
    for name in (*ID_COLUMNS, *TEXT_COLUMNS):
        value = getattr(query, name)
        if value:
            result.append(Filter(name, "is", value if isinstance(value, tuple) else (str(value),)))
    result += [Filter(dimension_group(key), "is", values) for key, values in query.dimensions]
    result += [Filter(group, "is missing") for group in query.missing]
    for name, values in query.exclude:
        if name == "missing":
            result += [Filter(group, "is not missing") for group in values]
        else:
            result.append(Filter(name, "is not", values))
    return result


def with_filter(query: _Q, added: Filter) -> _Q:
    """The query with a filter, which replaces one of the same group and test."""
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
    """The query without the filter of that group and test."""
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
    """The query without filters; the organization and `as_of` stay."""
    for item in filters(query):
        query = without_filter(query, item)
    return query


def without_group(query: _Q, group: str) -> _Q:
    """The query without filters on the group, for the values that a picker offers."""
    for item in filters(query):
        if item.group == group:
            query = without_filter(query, item)
    return query


def in_currency(query: AggregateQuery, currency: str | None) -> AggregateQuery:
    """The query with only the costs in one currency, None for those without one."""
    query = without_group(query, CURRENCY)
    if currency is None:
        return with_filter(query, Filter(CURRENCY, "is missing"))
    return with_filter(query, Filter(CURRENCY, "is", (currency,)))


def narrowed(answer: Aggregate, query: AggregateQuery, series: Series) -> AggregateQuery:
    """The query filtered to the events of one series, which may be Other; its window stays relative if it is."""
    behind = answer.events_at(series)
    names = [name for name in Query.model_fields if name != "organization_id"]
    changes: dict[str, Any] = {name: getattr(behind, name) for name in names}
    fields = Query.model_fields
    return query.replace(**{name: None if value == fields[name].default else value for name, value in changes.items()})


def preset(query: AggregateQuery) -> str | None:
    """The preset of the query's window; None for a relative window that is not in `PRESETS`."""
    if query.window:
        return query.window
    if isinstance(query.since, datetime) or isinstance(query.until, datetime):
        return "custom"
    name, _, rounding = str(query.since).removeprefix("-").partition("/")
    fits = rounding in ("", query.bucket[0]) and query.until == "now"
    return name if name in PRESETS and fits else None


def with_preset(query: AggregateQuery, name: str, now: datetime) -> AggregateQuery:
    """The query over a preset's window, which starts at a bucket edge; "custom" keeps the window as absolute times."""
    if name == "custom":
        since, until = query.resolve(now).span
        return query.replace(window=None, since=since, until=until)
    if name in ("this_month", "last_month"):
        return query.replace(window=name)
    if name == "24h" and query.bucket != "hour":
        query = query.replace(bucket="hour")
    return query.replace(window=None, since=f"-{name}/{query.bucket[0]}", until=None)


def with_extent(query: AggregateQuery, first: datetime, last: datetime) -> AggregateQuery:
    """The query over the whole local days from the first to the last event."""
    zone = query.zone
    since = buckets.day_start(first.astimezone(zone).date(), zone)
    until = buckets.day_start(last.astimezone(zone).date() + timedelta(days=1), zone)
    bucket = "week" if until - since > timedelta(days=MAX_AGGREGATE_BUCKETS) else "day"
    return query.replace(window=None, since=since, until=until, bucket=bucket)


def with_bucket(query: AggregateQuery, bucket: str) -> AggregateQuery:
    """The query in another bucket; a relative window still starts at a bucket edge."""
    name = preset(query)
    if name in (None, "custom", "this_month", "last_month"):
        return query.replace(bucket=bucket)
    return query.replace(bucket=bucket, since=f"-{name}/{bucket[0]}")
