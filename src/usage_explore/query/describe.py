"""Queries in words, for titles, captions and reports: "Requests per day by model, 1–30 Sep 2026, Europe/Berlin"."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

from usage_explore.decimals import Number, rfc3339
from usage_explore.formatting import data_value, date_and_time, exact, printable, span, without_fractions
from usage_explore.query import buckets, validators
from usage_explore.query.base import EventFilters, Query, Windowed, expect
from usage_explore.query.filters import CURRENCY, DIMENSION, GROUPS, LOOKED_UP, dimension_group
from usage_explore.query.queries import COST_METRICS, METRICS, AggregateQuery, EventQuery, Period

_NAMED_GROUPS = {"metric_key": "metric", "price_key": "price", CURRENCY: "cost currency"}


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
            words += f"{_in_currency(query)} per {query.bucket}"
            if query.group_by != "none":
                words += f" by {group_name(query.group_by)}"
            parts = [words, shown(window_words(query)), query.timezone]
        case Windowed():
            parts = ["Usage", shown(window_words(query)), query.timezone]
        case EventQuery():
            parts = ["Events, newest first", shown(_occurred(query))]
        case _:
            parts = ["Events"]
    named = isinstance(query, AggregateQuery) and _in_currency(query)
    parts += filter_words(query.replace(external_cost_currency=None) if named else query)
    if isinstance(query, AggregateQuery):
        parts.append(shown(_compared(query)))
    if query.as_of:
        known = query.as_of.astimezone(query.zone) if isinstance(query, Windowed) else query.as_of
        parts.append(f"as known at {shown(date_and_time(known))}" + ("" if isinstance(query, Windowed) else " UTC"))
    return ", ".join(part for part in parts if part)


def _in_currency(query: AggregateQuery) -> str:
    """The currency of a cost, if the query filters to one: " in USD"."""
    named = query.external_cost_currency
    return f" in {data_value(named[0])}" if query.metric in COST_METRICS and len(named) == 1 else ""


def _compared(query: AggregateQuery) -> str:
    if query.compare is None:
        return ""
    named = {"previous": "the period before", "year": "the year before"}
    if query.compare in named:
        return f"compared with {named[query.compare]}"
    since, until = (validators.instant(edge).astimezone(query.zone) for edge in query.compare.split("/"))
    return f"compared with {span(since, until)}"


def measure_name(metric: str, value: Number | None) -> str:
    """The name of a measure after its value: `event` after 1, else `events`; `quantity`."""
    return "event" if metric == "count" and value == 1 else METRICS[metric]


def group_name(group: str) -> str:
    """The name of a group in text: model for `dim:model`, customer for `customer_id`, metric for `metric_key`."""
    if group.startswith(DIMENSION):
        return printable(group.removeprefix(DIMENSION))
    return _NAMED_GROUPS.get(group) or group.removesuffix("_id").replace("_", " ")


def filter_words(query: Query, zone: tzinfo | None = None, *, max_values: int | None = 3) -> list[str]:
    """The filters in words, such as "model is large or small"; times are on the clock of `own_bounds`.

    A filter of more than `max_values` values is written as "any of 5 values".
    """

    def any_of(values: tuple[str, ...]) -> str:
        if max_values is not None and len(values) > max_values:
            return f"any of {len(values):,} values"
        return " or ".join(data_value(value) for value in values)

    columns = ((name, value) for name in GROUPS if (value := getattr(query, name)))
    words = [
        f"{group_name(name)} is {any_of(value if isinstance(value, tuple) else (str(value),))}"
        for name, value in columns
    ]
    if isinstance(query, EventFilters):
        named = ((group_name(name), getattr(query, name)) for name in LOOKED_UP)
        words += [f"{name} is {any_of(values)}" for name, values in named if values]
        words += own_bounds(query, zone).values()
    words += [f"{group_name(dimension_group(key))} is {any_of(values)}" for key, values in query.dimensions]
    words += [f"{group_name(group)} is missing" for group in query.missing]
    for name, values in query.exclude:
        if name == "missing":
            words += [f"{group_name(group)} is not missing" for group in values]
        else:
            words.append(f"{group_name(name)} is not {any_of(values)}")
    return words


def own_bounds(query: EventFilters, zone: tzinfo | None = None) -> dict[str, str]:
    """The filters on arrival and quantity in words, by parameter: "quantity at least 5", "arrived before 1 Oct 2026".

    Times are on the clock of `zone`, by default that of the query, else of UTC.
    """
    clock = zone or (query.zone if isinstance(query, Windowed) else UTC)
    suffix = "" if zone or isinstance(query, Windowed) else " UTC"
    words = {}
    for name, word in (("ingested_after", "from"), ("ingested_before", "before")):
        if edge := getattr(query, name):
            words[name] = f"arrived {word} {date_and_time(edge.astimezone(clock))}{suffix}"
    for name, word in (("quantity_min", "at least"), ("quantity_max", "at most")):
        if (bound := getattr(query, name)) is not None:
            words[name] = f"quantity {word} {exact(bound)}"
    return words


def window_words(query: Windowed) -> str:
    """The window in words: "1–30 Sep 2026", "last 30 days", "this month"."""
    if query.window:
        return window_name(query.window)
    since, until = query.since, query.until
    if isinstance(since, datetime) and isinstance(until, datetime):
        return span(since.astimezone(query.zone), until.astimezone(query.zone))
    if isinstance(since, str) and until == "now" and since.startswith("-"):
        return _last(since)
    written = [
        date_and_time(end.astimezone(query.zone)) if isinstance(end, datetime) else str(end) for end in (since, until)
    ]
    return f"{written[0]} to {written[1]}"


def window_name(window: str) -> str:
    """A calendar window in words: "this quarter", "September 2026"."""
    if window in buckets.CALENDAR_WINDOWS:
        return window.replace("_", " ")
    return f"{buckets.month_of(window):%B %Y}"


def _last(since: str) -> str:
    """The window from a relative time to now.

    >>> _last("-30d"), _last("-29d/d"), _last("-29d/w")
    ('last 30 days', 'last 30 days', 'last 30 days in whole weeks')
    """
    distance, _, rounding = since.partition("/")
    letter, number = distance[-1], int(distance[1:-1])
    if rounding == letter or (letter == "d" and rounding in ("w", "M")):
        number += 1  # the hour, day or week that now is in counts, too
    unit = {"h": "hour", "d": "day", "w": "week"}[letter]
    words = f"last {unit}" if number == 1 else f"last {number} {unit}s"
    whole = {"h": "hours", "d": "days", "w": "weeks", "M": "months"}.get(rounding, "")
    return f"{words} in whole {whole}" if whole and rounding != letter else words


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


def period_document(period: Period, organization_name: str | None) -> dict[str, str | None]:
    """What JSON says of a result's period: organization, window in words and as instants, time zone, `as_of`."""
    since, until = period.span
    return {
        "organization_id": str(period.organization_id),
        "organization_name": organization_name,
        "period": describe(period),
        "since": rfc3339(since),
        "until": rfc3339(until),
        "timezone": period.timezone,
        "as_of": rfc3339(period.as_of) if period.as_of else None,
    }
