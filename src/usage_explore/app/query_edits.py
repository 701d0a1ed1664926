"""Changes to a query as pure functions: presets, filters added and removed, narrowing to a series."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Literal, TypeVar

from usage_explore import formatting
from usage_explore.errors import Fault, QueryError
from usage_explore.names import NO_NAMES, Names
from usage_explore.query import buckets
from usage_explore.query.base import EventFilters, Query, Windowed
from usage_explore.query.describe import group_name, own_bounds
from usage_explore.query.filters import (
    CURRENCY,
    DIMENSION,
    GROUPS,
    ID_COLUMNS,
    LOOKED_UP,
    TEXT_COLUMNS,
    dimension_group,
    dimension_key,
)
from usage_explore.query.limits import MAX_AGGREGATE_BUCKETS
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.query.url_params import to_pairs

_Q = TypeVar("_Q", bound=Query)

Action = Literal["only", "not"]
Test = Literal["is", "is not", "is missing", "is not missing"]

PRESETS = {
    "24h": "24 h",
    "7d": "7 d",
    "30d": "30 d",
    "90d": "90 d",
    "custom": "Custom",
}
"""The windows that the Explore page offers, with their labels: today and the days before it, or hours likewise.

Calendar windows have a box of their own."""

_PRESET_DAYS = {"7d": 7, "30d": 30, "90d": 90}


_MAX_CHIP_CHARACTERS, _MAX_CHIP_VALUES = 40, 2

_MAX_IDS = 8
"""Ids that are queried one by one."""


@dataclass(frozen=True)
class Filter:
    """One filter of a query: a group, a test, and the values of the tests "is" and "is not".

    A bound, such as `quantity_min`, is a group of its own with its `words`.
    """

    group: str
    test: Test
    values: tuple[str, ...] = ()
    words: str = ""

    def __str__(self) -> str:
        return self.text(NO_NAMES)

    def text(self, names: Names) -> str:
        """The filter in a chip: "customer is Acme", "model is large, small and 3 more"."""
        if self.words:
            return self.words
        name = group_label(self.group)
        if not self.values:
            return f"{name} {self.test}"
        shown = [short_value(self.group, value, names) for value in self.values[:_MAX_CHIP_VALUES]]
        if len(self.values) > 1:  # a comma would part a value in two
            shown = [f'"{text}"' if "," in text else text for text in shown]
        more = len(self.values) - len(shown)
        return f"{name} {self.test} {', '.join(shown)}{f' and {more} more' if more else ''}"


def group_label(group: str) -> str:
    """The name of a group in a list; a dimension with the name of a column says that it is a dimension."""
    if group == "none":
        return "nothing"
    name = group_name(group)
    columns = {group_name(column) for column in GROUPS}
    return f"{name} (dimension)" if group.startswith(DIMENSION) and name in columns else name


def short_value(group: str, value: str, names: Names = NO_NAMES) -> str:
    """A value in a chip: an id's name or first eight digits, the empty text as (empty), at most 40 characters."""
    if group in ID_COLUMNS:
        return names.label(group, value)
    if group == "id":
        return formatting.short_ids(value)
    return named_value(formatting.cut(value, _MAX_CHIP_CHARACTERS))


def named_value(value: str) -> str:
    """A value in text: (empty) for the empty text, in quotes if the value itself is "(empty)" or "(missing)"."""
    return f'"{value}"' if value in ("(empty)", "(missing)") else value or "(empty)"


def filters(query: Query, zone: tzinfo | None = None) -> list[Filter]:
    """Every filter of the query, in the order of `describe`; times are on the clock of `zone`."""
    result = []
    for name in (*ID_COLUMNS, *TEXT_COLUMNS, *(LOOKED_UP if isinstance(query, EventFilters) else ())):
        value = getattr(query, name)
        if value:
            result.append(Filter(name, "is", value if isinstance(value, tuple) else (str(value),)))
    if isinstance(query, EventFilters):
        bounds = dict(to_pairs(query))
        result += [Filter(name, "is", (bounds[name],), words) for name, words in own_bounds(query, zone).items()]
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
    return only(query, CURRENCY, currency)


def only(query: _Q, group: str, value: str | None) -> _Q:
    """The query for the events with this value of the group alone; None for the events without one.

    >>> only(EventQuery(exclude={"metric_key": ["a"]}), "metric_key", "b").to_params()
    (('metric_key', 'b'),)
    """
    added = Filter(group, "is missing") if value is None else Filter(group, "is", (value,))
    return with_filter(without_group(query, group), added)


def without_value(query: _Q, group: str, value: str | None) -> _Q:
    """The query without the events of this value of the group, beside what it excludes already."""
    if value is None:
        return with_filter(query, Filter(group, "is not missing"))
    excluded = next((item.values for item in filters(query) if (item.group, item.test) == (group, "is not")), ())
    return with_filter(query, Filter(group, "is not", tuple(dict.fromkeys((*excluded, value)))))


def values_of(query: Query, group: str) -> tuple[Action, tuple[str | None, ...]]:
    """The values of the query's filters on a group, "only" those or "not" those, None for missing; of both "only"."""
    found: dict[Action, list[str | None]] = {"only": [], "not": []}
    for item in filters(query):
        if item.group == group:
            found["not" if item.test.startswith("is not") else "only"] += item.values or (None,)
    action: Action = "not" if found["not"] and not found["only"] else "only"
    return action, tuple(found[action])


def with_values(query: _Q, group: str, values: tuple[str | None, ...], action: Action) -> _Q:
    """The query for the events with any of the values of the group, or with none of them; None is missing.

    They replace the filters on the group. Raises `QueryError` for "only" missing ones together with values, as no
    filter means that.

    >>> with_values(EventQuery(exclude={"metric_key": ["a"]}), "metric_key", ("b", "c"), "not").to_params()
    (('not:metric_key', 'b'), ('not:metric_key', 'c'))
    """
    query = without_group(query, group)
    present = tuple(value for value in values if value is not None)
    has_missing = None in values
    if action == "only" and has_missing and present:
        raise QueryError([Fault(group, "(missing) cannot be chosen together with values, only excluded with them")])
    if present:
        query = with_filter(query, Filter(group, "is" if action == "only" else "is not", present))
    if has_missing:
        query = with_filter(query, Filter(group, "is missing" if action == "only" else "is not missing"))
    return query


def of_values(query: AggregateQuery, values: list[str], *, missing: bool) -> list[AggregateQuery]:
    """The queries whose results have the series of these values of the query's group, and of the missing one.

    A filter takes several values, but of a group of ids only one: there is a query for each of up to `_MAX_IDS` ids,
    and the query itself for more.
    """
    group = query.group_by
    queries = [only(query, group, None)] if missing else []
    if group not in ID_COLUMNS:
        return queries + ([with_values(query, group, tuple(values), "only")] if values else [])
    return queries + [only(query, group, value) for value in values] if len(values) <= _MAX_IDS else [query]


def with_filters_of(query: AggregateQuery, other: AggregateQuery) -> AggregateQuery:
    """The query with the filters of another one in place of its own."""
    names = [name for name in Query.model_fields if name not in ("organization_id", "as_of")]
    return query.replace(**{name: getattr(other, name) or None for name in names})


def preset(query: AggregateQuery) -> str | None:
    """The preset of the query's window; None for another calendar window, and a relative one not in `PRESETS`."""
    if query.window:
        return query.window if query.window in PRESETS else None
    if isinstance(query.since, datetime) or isinstance(query.until, datetime):
        return "custom"
    return next((name for name in PRESETS if _since(name) == query.since), None) if query.until == "now" else None


def _since(name: str) -> str | None:
    """The start of a preset's window, whatever the bucket: 7 days with today begin with the day 6 days ago."""
    if name == "24h":
        return "-23h/h"
    return f"-{_PRESET_DAYS[name] - 1}d/d" if name in _PRESET_DAYS else None


def with_preset(query: AggregateQuery, name: str, now: datetime) -> AggregateQuery:
    """The query over a preset's window; "custom" keeps the window as absolute times."""
    if name == "custom":
        since, until = query.resolve(now).span
        return query.replace(window=None, since=since, until=until)
    if name != "24h" and name not in _PRESET_DAYS:
        return query.replace(window=name)
    if name == "24h" and query.bucket != "hour":
        query = query.replace(bucket="hour")
    return query.replace(window=None, since=_since(name), until=None)


def with_extent(query: AggregateQuery, first: datetime, last: datetime) -> AggregateQuery:
    """The query over the whole local days from the first to the last event."""
    zone = query.zone
    since = buckets.day_start(first.astimezone(zone).date(), zone)
    until = buckets.day_start(last.astimezone(zone).date() + timedelta(days=1), zone)
    bucket = "week" if until - since > timedelta(days=MAX_AGGREGATE_BUCKETS) else "day"
    return query.replace(window=None, since=since, until=until, bucket=bucket)


def events_of(query: Windowed) -> EventQuery:
    """The events of a resolved query in its window."""
    since, until = query.span
    return EventQuery(**query.shared_with(EventQuery) | {"occurred_after": since, "occurred_before": until})
