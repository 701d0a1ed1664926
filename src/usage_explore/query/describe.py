"""A question as a sentence: the chart's title, the report's line, the same words everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from usage_explore.query.base import Question, Windowed, expect
from usage_explore.query.filters import DIMENSION, dimension_group
from usage_explore.query.queries import METRICS, AggregateQuery, EventQuery

_LONGEST = 60
"""How many characters of a value a sentence shows."""

_FRACTION = re.compile(r"(?<=:\d\d:\d\d)\.\d+")
_INSTANT = timedelta(microseconds=1)


def describe(query: Question, *, whole_seconds: bool = False) -> str:
    """The question in words: "Quantity per day by model, 1–30 Sep 2026, Europe/Berlin".

    `whole_seconds` leaves out fractions of seconds, for a title.

    Raises `QueryError` for what is no question.
    """
    expect(Question, query)
    shown: Callable[[str], str] = partial(_FRACTION.sub, "") if whole_seconds else str
    match query:
        case AggregateQuery():
            words = f"{METRICS[query.metric].capitalize()} per {query.bucket}"
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
    if query.as_of:
        known = query.as_of.astimezone(query.zone) if isinstance(query, Windowed) else query.as_of
        parts.append(f"as known at {shown(_moment(known))}" + ("" if isinstance(query, Windowed) else " UTC"))
    return ", ".join(part for part in parts if part)


def group_name(group: str) -> str:
    """A group as people say it: `dim:model` is model, `customer_id` is customer."""
    if group.startswith(DIMENSION):
        return _printable(group.removeprefix(DIMENSION))
    return group.removesuffix("_id").replace("_", " ")


def filter_words(query: Question) -> list[str]:
    """Each filter as words: "model is large or small"."""
    found = []
    for name in (
        "customer_id",
        "product_id",
        "subscription_id",
        "metric_key",
        "price_key",
        "wallet_currency",
    ):
        value = getattr(query, name)
        if value:
            found.append(f"{group_name(name)} is {_any_of(value if isinstance(value, tuple) else (str(value),))}")
    found += [f"{group_name(dimension_group(key))} is {_any_of(values)}" for key, values in query.dimensions]
    found += [f"{group_name(group)} is missing" for group in query.missing]
    for name, values in query.exclude:
        if name == "missing":
            found += [f"{group_name(group)} is there" for group in values]
        else:
            found.append(f"{group_name(name)} is not {_any_of(values)}")
    return found


def window_words(query: Windowed) -> str:
    """The window as words: "1–30 Sep 2026", "last 30 days", "this month"."""
    if query.window:
        return query.window.replace("_", " ")
    since, until = query.since, query.until
    if isinstance(since, datetime) and isinstance(until, datetime):
        return span_words(since.astimezone(query.zone), until.astimezone(query.zone))
    if isinstance(since, str) and until == "now" and since.startswith("-"):
        number, unit = (
            since.partition("/")[0][1:-1],
            {"h": "hour", "d": "day", "w": "week"}[since.partition("/")[0][-1]],
        )
        return f"last {unit}" if number == "1" else f"last {number} {unit}s"
    written = [_moment(end.astimezone(query.zone)) if isinstance(end, datetime) else str(end) for end in (since, until)]
    return f"{written[0]} to {written[1]}"


def span_words(since: datetime, until: datetime) -> str:
    """A half-open span of wall-clock times; whole days are named by their first and last date."""
    if any((end.hour, end.minute, end.second, end.microsecond) != (0, 0, 0, 0) for end in (since, until)):
        return f"{_moment(since)} to {_moment(until)}"
    last = until - _INSTANT
    if since.date() == last.date():
        return _date(since)
    if (since.year, since.month) == (last.year, last.month):
        return f"{since.day}–{_date(last)}"
    if since.year == last.year:
        return f"{since.day} {since:%b} – {_date(last)}"
    return f"{_date(since)} – {_date(last)}"


def _occurred(query: EventQuery) -> str:
    after, before = query.occurred_after, query.occurred_before
    if after and before:
        return f"{span_words(after, before)} UTC"
    if after:
        return f"since {_moment(after)} UTC"
    return f"before {_moment(before)} UTC" if before else ""


def _any_of(values: tuple[str, ...]) -> str:
    if len(values) > 3:
        return f"any of {len(values):,} values"
    return " or ".join(_short(value) or "(empty)" for value in values)


def _short(value: str) -> str:
    return _printable(value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…")


def _printable(text: str) -> str:
    """Text from data or a link without what moves a terminal's cursor or turns the writing round."""
    return text if text.isprintable() else repr(text)[1:-1]


def _date(day: datetime) -> str:
    return f"{day.day} {day:%b %Y}"


def _moment(moment: datetime) -> str:
    """A time on its zone's clock, with its offset where that clock shows it twice."""
    clock = f"{moment:%H:%M}" if not (moment.second or moment.microsecond) else f"{moment:%H:%M:%S}"
    if moment.microsecond:
        clock += f".{moment.microsecond:06d}".rstrip("0")
    if moment.utcoffset() != moment.replace(fold=1 - moment.fold).utcoffset():
        clock += f" {moment:%z}"
    return f"{_date(moment)} {clock}"
