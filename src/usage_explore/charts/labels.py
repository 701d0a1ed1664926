"""The texts of a chart: names of series, labels and states of buckets, notes, and the summary for screen readers."""

from __future__ import annotations

import textwrap
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from usage_explore.decimals import Number, decimal_context
from usage_explore.formatting import change as relative
from usage_explore.formatting import (
    date,
    date_and_time,
    exact,
    percent,
    printable,
    short_ids,
    shortened,
    signed,
    values_and_missing,
    without_fractions,
)
from usage_explore.query.describe import describe, filter_words
from usage_explore.query.queries import COST_METRICS, METRICS, RATIOS
from usage_explore.results.units import value_name

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData, Change, Point, PointChange, Series

DRAWABLE = Decimal("1e-290"), Decimal("1e290")
"""Least and largest absolute value that charts can draw: floats hold none beyond."""

NO_EVENTS = "No events in this window"
LOOK_NOTE = "Pale and dashed: unfinished"

_MAX_FILTER_CHARACTERS = 300
"""Characters of the filters in a caption."""

_MAX_LIVE_AGE = timedelta(minutes=1)
"""A window that ends at most this long before now is live: the app rounds now down to the minute."""

_JAVASCRIPT_PROPERTIES = {
    *("__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__", "__proto__", "constructor"),
    *("hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf"),
}
_RESERVED = {"All", "(empty)", "(missing)", "Other", "Total", "State", "title", "image", "", *_JAVASCRIPT_PROPERTIES}
"""Names with a meaning in tooltips, legends or JavaScript; a value from the data that equals one is quoted."""


def wrapped(text: str, max_characters: int, max_lines: int | None = None) -> list[str]:
    """The text in lines, broken at spaces only, as a title joins them with one; "…" ends a text that was cut."""
    return textwrap.wrap(text, max_characters, break_on_hyphens=False, max_lines=max_lines, placeholder=" …")


def unit(answer: AggregateData, value: Number | None = None, of: str | None = None) -> str:
    """What the values are: events, quantity or tokens, or cost in USD; their running total. See `value_name`."""
    words = value_name(answer, value, of)
    return f"{words}, running total" if answer.query.cumulative else words


def heading(answer: AggregateData) -> str:
    """The heading of a column of values: "Events", "Quantity, tokens", "Cost in USD, running total"."""
    words = unit(answer)
    if answer.unit is not None and answer.query.metric not in COST_METRICS:
        return f"Quantity, {words}"  # kWh begins with a small letter
    return f"{words[0].upper()}{words[1:]}"


def names(answer: AggregateData) -> tuple[str, ...]:
    """A distinct name for every series: the name of its id, else its label, if no other series has it."""
    result: list[str] = []
    for series in answer.series:
        known = answer.names.known(answer.query.group_by, series.key) if series.key else None
        name = known or series.label
        if series.kind == "value" and (known or series.key or "") in _RESERVED - {""}:
            name = f'"{name}"'
        result.append(name)
    seen = Counter(result)
    for index, series in enumerate(answer.series):
        while seen[result[index]] > 1:
            seen[result[index]] -= 1
            result[index] = f'"{result[index]}"' if series.kind == "value" else f"{result[index]} "
            seen[result[index]] += 1
    return tuple(result)


def bucket_label(answer: AggregateData, point: Point | PointChange) -> str:
    """The bucket in the question's zone: "Sun 25 Oct 2026, 02:00–03:00 (UTC+01:00), Europe/Berlin"."""
    zone = answer.query.zone
    start = point.start.astimezone(zone)
    if answer.query.bucket == "hour":
        wall = start.replace(tzinfo=None)
        end = wall + (point.end - point.start)
        ambiguous = start.replace(fold=0).utcoffset() != start.replace(fold=1).utcoffset()
        words = f"{_day(start)}, {wall:%H:%M}–{end:%H:%M}" + (f" (UTC{start.isoformat()[-6:]})" if ambiguous else "")
    elif answer.query.bucket == "day":
        words = _day(start)
    elif answer.query.bucket == "month":
        words = f"{start:%B %Y}"
    else:
        words = f"Week of {_day(start)}"
    return f"{words}, {answer.query.timezone}"


def state(answer: AggregateData, point: Point) -> str:
    """`complete`, or `unfinished: ` with the reasons."""
    if point.complete:
        return "complete"
    since, until = answer.query.span
    filling = point.end > answer.closed_until and until >= answer.closed_until - _MAX_LIVE_AGE
    reasons = []
    if point.start < since or (point.end > until and not filling):
        reasons.append("cut by the window's edge")
    removed = answer.served.exists_since
    if removed is not None and point.start < removed:
        reasons.append("older events have been removed")
    if filling:
        if point.start >= answer.closed_until:
            reasons.append("not begun yet")
        else:
            known = answer.query.as_of and answer.closed_until
            when = f" on {without_fractions(date_and_time(known.astimezone(answer.query.zone)))}" if known else ""
            reasons.append(f"still filling{when}")
    return "unfinished: " + " and ".join(reasons)


def cap_note(answer: AggregateData) -> str | None:
    """The cap of the window in words, None where the window is whole."""
    if not answer.capped:
        return None
    return f"Window shortened to the last {len(answer.edges) - 1:,} {answer.query.bucket}s"


def caption(answer: AggregateData, organization: str) -> str:
    """The organization, all filters in words and the time of the numbers, for a picture that leaves the app.

    A named id has its first eight digits beside its name: "customer is Acme (1a2b3c4d…)".
    """
    zone, query = answer.query.zone, answer.query
    filters = answer.names.in_text("; ".join(filter_words(query, max_values=None)), ids=True)
    for _, id_ in answer.names.by_id:
        filters = filters.replace(f"({id_})", f"({short_ids(id_)})")
    known = date_and_time((query.as_of or answer.now).astimezone(zone).replace(microsecond=0))
    parts = [organization, shortened(filters, _MAX_FILTER_CHARACTERS) or "no filters"]
    return " · ".join([*map(printable, parts), f"as of {known}, {query.timezone}"])


def no_costs_note(answer: AggregateData) -> str | None:
    """The note that no event has a cost, if a cost is measured."""
    if answer.query.metric not in COST_METRICS or answer.currencies:
        return None
    return "No event here has a cost"


def notes(answer: AggregateData) -> list[str]:
    """Notes on how to read the chart: the cap of the window, added metrics, and the look of unfinished buckets."""
    result = [note] if (note := cap_note(answer)) else []
    if removed := answer.served.exists_since:
        result.append(f"Events before {_day(removed.astimezone(answer.query.zone))} have been removed")
    if answer.adds:
        result.append(f"{answer.adds[0].upper()}{answer.adds[1:]}")
    if note := no_costs_note(answer):
        result.append(note)
    if unfinished(answer):
        result.append(LOOK_NOTE)
    if note := comparison_note(answer):
        result.append(note)
    return result


def comparison_note(answer: AggregateData) -> str:
    """The note on the other period's line in a chart, or that it has none, as nothing is known of it; "" without one.

    A period before the first event has no numbers.
    """
    compared = answer.comparison
    if compared is None or not compared.has_begun:
        return ""
    points = (point for series in compared.series for point in series.points)
    is_drawn = any(point is not None and point.before is not None for point in points)
    return f"{'Thin line' if is_drawn else 'Not drawn'}: {compared.label.removeprefix('vs ')}"


def unfinished(answer: AggregateData) -> list[Point]:
    """The buckets that have begun, or have a value, and are not complete."""
    if is_empty(answer):
        return []
    return [
        point
        for index, (point, total) in enumerate(zip(answer.series[0].points, bucket_totals(answer), strict=True))
        if not point.complete and not has_not_begun(answer, index, total)
    ]


def is_empty(answer: AggregateData) -> bool:
    """Whether the aggregate has no events."""
    if not answer.series:
        return True
    return (
        answer.query.metric == "count"
        and not any(point.value for point in answer.series[0].points)
        and len(answer.series) == 1
    )


def undrawable(answer: AggregateData) -> str | None:
    """The reason why the values cannot be drawn, with a hint; None if they can."""
    if answer.query.metric == "count":
        return None
    drawn = [point.value for series in answer.series for point in series.points]
    if answer.comparison:
        drawn += [point.before for series in answer.comparison.series for point in series.points if point]
    values = (Decimal(value).copy_abs() for value in drawn if value is not None)
    largest = max(values, default=Decimal(0))
    least, most = DRAWABLE
    if not largest or least <= largest <= most:
        return None
    return (
        f"the values are too {'large' if largest > most else 'small'} to draw, as no chart goes beyond 1E±290; "
        "the table, CSV and JSON have them exactly, and metric=count can be drawn"
    )


@decimal_context()
def summary(answer: AggregateData) -> str:
    """The aggregate in a few sentences, for screen readers: total, largest series, peak, unfinished buckets."""
    parts = [answer.names.in_text(describe(answer.query, whole_seconds=True))]
    if note := cap_note(answer):
        parts.append(note)
    if is_empty(answer):
        return ". ".join([*parts, NO_EVENTS]) + "."
    measure = METRICS[answer.query.metric]
    if answer.total is None:
        several = "costs in several currencies are not added"
        parts.append(f"No total {measure}" + (f": {several}" if len(answer.currencies) > 1 else ""))
    else:
        total = f"Total {exact(answer.total)} {value_name(answer, answer.total)}"
        parts.append(total + (f", {answer.adds}" if answer.adds else ""))
    if answer.query.group_by != "none":
        parts.append(_largest(answer))
    totals = bucket_totals(answer)
    if compared := answer.comparison:
        parts.append(f"{compared.label}: {change_words(compared.total)}")
    points = answer.series[0].points
    values = [(value, -index) for index, value in enumerate(totals) if value is not None]
    if not values:
        parts += [note for note in [no_costs_note(answer)] if note]
    elif not answer.query.cumulative:  # the peak of a running total says nothing
        value, place = max(values)
        label = bucket_label(answer, points[-place])
        when = {"month": "in ", "week": "in the "}.get(answer.query.bucket, "on ")
        parts.append(f"Peak {exact(value)} {when}{label.replace('Week', 'week', 1)}")
    if open_buckets := unfinished(answer):
        parts.append("Unfinished: " + "; ".join(_unfinished(answer, point) for point in open_buckets))
    return ". ".join(parts) + "."


def bucket_totals(answer: AggregateData) -> list[Number | None]:
    """The series as one, bucket by bucket; see `AggregateData.add`."""
    return [answer.add(column) for column in zip(*(series.points for series in answer.series), strict=True)]


def has_not_begun(answer: AggregateData, index: int, value: Number | None) -> bool:
    """Whether a bucket has not begun and has no value: it is not drawn, rather than drawn as zero.

    A running total has its last value for ever: it ends with the last bucket that has begun or has events.
    """
    if answer.query.cumulative:
        return index >= answer.begun
    return not value and answer.edges[index] >= answer.closed_until


def change_words(change: Change) -> str:
    """A change in words: "1,200 before, +300 (+25.0 %)"."""
    words = f"{exact(change.before)} before"
    if change.absolute is not None:
        words += f", {signed(change.absolute)}"
    return words if change.ratio is None else f"{words} ({relative(change.ratio)})"


def _largest(answer: AggregateData) -> str:
    kept: list[tuple[str, Series]] = list(zip(names(answer), answer.series, strict=True))
    name, first = kept[0]
    largest = "that of the largest cost" if answer.query.metric in RATIOS else "largest"
    if largest == "largest" and any((series.total or 0) < 0 for series in answer.series):
        largest = "first by signed total"  # of credits alone, it is the smallest
    words = f"{len(kept)} series, {largest} {name} with {exact(first.total)}"
    total = answer.total if answer.adds_up else None
    if total is not None and total > 0 and all(series.number >= 0 for series in answer.series):
        words += f" ({percent(first.number, total)} of the total)"
    if answer.folded or answer.folded_missing:
        words += f", {values_and_missing(answer.folded, answer.folded_missing)} folded into Other"
    return words


def _unfinished(answer: AggregateData, point: Point) -> str:
    return f"{bucket_label(answer, point)}, {state(answer, point).removeprefix('unfinished: ')}"


def _day(moment: datetime) -> str:
    return f"{moment:%a} {date(moment)}"
