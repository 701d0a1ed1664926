"""Queries in words, for titles, captions and reports: "Requests per day by model, 1–30 Sep 2026, Europe/Berlin"."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from usage_explore.decimals import Number
from usage_explore.formatting import data_value, date_and_time, printable, span, without_fractions
from usage_explore.query import validators
from usage_explore.query.base import Query, Windowed, expect
from usage_explore.query.filters import DIMENSION, GROUPS, dimension_group
from usage_explore.query.queries import METRICS, AggregateQuery, EventQuery

_KEYED_GROUPS = {"metric_key": "metric", "price_key": "price"}


def describe(query: Query, *, whole_seconds: bool = False) -> str:
    """The query in words: "Quantity per day by model, 1–30 Sep 2026, Europe/Berlin".

    `whole_seconds` leaves out fractions of seconds, for a title. Raises `QueryError` for anything but a query.
    """
    expect(Query, query)
    shown: Callable[[str], str] = without_fractions if whole_seconds else str
    match query:
        case AggregateQuery():
            measure = METRICS[query.metric]
            words = f"Running total of {measure}" if query.cumulative else measure.capitalize()
            words += f" per {query.bucket}"
            if query.group_by != "none":
                words += f" by {group_name(query.group_by)}"
            parts = [words, shown(window_words(query)), query.timezone]
        case Windowed():
            parts = ["Usage", shown(window_words(query)), query.timezone]
        case EventQuery():
            parts = ["Events, newest first", shown(_occurred(query))]
        case _:
            parts = ["Events"]
    parts += filter_words(query)
    if isinstance(query, AggregateQuery):
        parts.append(shown(_compared(query)))
    if query.as_of:
        known = query.as_of.astimezone(query.zone) if isinstance(query, Windowed) else query.as_of
        parts.append(f"as known at {shown(date_and_time(known))}" + ("" if isinstance(query, Windowed) else " UTC"))
    return ", ".join(part for part in parts if part)


def _compared(query: AggregateQuery) -> str:
    if query.compare is None:
        return ""
    named = {"previous": "the period before", "year": "the year before"}
    if query.compare in named:
        return f"compared with {named[query.compare]}"
    since, until = (validators.instant(edge).astimezone(query.zone) for edge in query.compare.split("/"))
    return f"compared with {span(since, until)}"


def measure_name(metric: str, value: Number) -> str:
    """The name of a measure after its value: `event` after 1, else `events`; `quantity`."""
    return "event" if metric == "count" and value == 1 else METRICS[metric]


def group_name(group: str) -> str:
    """The name of a group in text: model for `dim:model`, customer for `customer_id`, metric for `metric_key`."""
    if group.startswith(DIMENSION):
        return printable(group.removeprefix(DIMENSION))
    return _KEYED_GROUPS.get(group) or group.removesuffix("_id").replace("_", " ")


def filter_words(query: Query) -> list[str]:
    """The filters in words, such as "model is large or small"."""
    columns = ((name, value) for name in GROUPS if (value := getattr(query, name)))
    words = [
        f"{group_name(name)} is {_any_of(value if isinstance(value, tuple) else (str(value),))}"
        for name, value in columns
    ]
    words += [f"{group_name(dimension_group(key))} is {_any_of(values)}" for key, values in query.dimensions]
    words += [f"{group_name(group)} is missing" for group in query.missing]
    for name, values in query.exclude:
        if name == "missing":
            words += [f"{group_name(group)} is not missing" for group in values]
        else:
            words.append(f"{group_name(name)} is not {_any_of(values)}")
    return words


def window_words(query: Windowed) -> str:
    """The window in words: "1–30 Sep 2026", "last 30 days", "this month"."""
    if query.window:
        return query.window.replace("_", " ")
    since, until = query.since, query.until
    if isinstance(since, datetime) and isinstance(until, datetime):
        return span(since.astimezone(query.zone), until.astimezone(query.zone))
    if isinstance(since, str) and until == "now" and since.startswith("-"):
        distance = since.partition("/")[0]
        number, unit = distance[1:-1], {"h": "hour", "d": "day", "w": "week"}[distance[-1]]
        return f"last {unit}" if number == "1" else f"last {number} {unit}s"
    written = [
        date_and_time(end.astimezone(query.zone)) if isinstance(end, datetime) else str(end) for end in (since, until)
    ]
    return f"{written[0]} to {written[1]}"


def file_dates(query: Windowed) -> str:
    """The first and the last day of a resolved window on the query's clock, for file names: `2026-10-01-2026-10-31`."""
    since, until = query.span
    first, last = (edge.astimezone(query.zone).date() for edge in (since, until - timedelta(microseconds=1)))
    return f"{first}-{last}" if first != last else f"{first}"


def _occurred(query: EventQuery) -> str:
    after, before = query.occurred_after, query.occurred_before
    if after and before:
        return f"{span(after, before)} UTC"
    if after:
        return f"since {date_and_time(after)} UTC"
    return f"before {date_and_time(before)} UTC" if before else ""


def _any_of(values: tuple[str, ...]) -> str:
    if len(values) > 3:
        return f"any of {len(values):,} values"
    return " or ".join(data_value(value) for value in values)
