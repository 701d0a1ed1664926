"""Where the time axis has ticks and what they say, in the question's zone.

Marks lie at their real instants, in milliseconds, so no two buckets share a place, also when a wall clock
reads the same hour twice. The browser is never asked to format a time: every label is written here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData

MOST = 9
"""How many ticks an axis has at most."""

Rule = Callable[[datetime], bool]


def millis(moment: datetime) -> int:
    """The instant in milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def tick_labels(answer: AggregateData) -> dict[int, list[str]]:
    """At most nine ticks, instant in milliseconds to its lines of text; the second line tells the day or the year.

    An hour has its tick where it begins, a day or a week in its middle.
    """
    starts = [edge.astimezone(answer.query.zone) for edge in answer.edges[:-1]]
    chosen = _chosen(starts, answer.query.bucket)
    by_hour = answer.query.bucket == "hour" and any(start.hour for start in chosen)
    ends = {millis(start): millis(end) for start, end in pairwise(answer.edges)}
    found: dict[int, list[str]] = {}
    above = ""
    for start in chosen:
        first = f"{start:%H:%M}" if by_hour else f"{start.day} {start:%b}"
        second = f"{start.day} {start:%b %Y}" if by_hour else f"{start:%Y}"
        place = millis(start)
        if answer.query.bucket != "hour":
            place = (place + ends[place]) // 2
        found[place] = [first] if second == above else [first, second]
        above = second
    return found


def label_expression(labels: dict[int, list[str]]) -> str:
    """The Vega expression that gives a tick's lines of text."""
    return f"({json.dumps({str(place): lines for place, lines in labels.items()})})[toString(datum.value)]"


def _chosen(starts: list[datetime], bucket: str) -> list[datetime]:
    """The starts that the finest calendar rule with few enough ticks picks, else every n-th one."""
    if len(starts) <= MOST:
        return starts
    for rule in _rules(bucket):
        chosen = [start for start in starts if rule(start)]
        if 2 < len(chosen) <= MOST:
            return chosen
    return starts[:: -(-len(starts) // MOST)]


def _rules(bucket: str) -> Iterator[Rule]:
    if bucket == "week":
        return
    if bucket == "hour":
        for hours in (1, 2, 3, 6, 12):
            yield partial(_each_hours, hours)
    opens: Rule = _midnight if bucket == "hour" else _any
    for rule in (
        _any,
        partial(_each_days, 2),
        partial(_each_days, 5),
        _monday,
        partial(_each_months, 1),
        partial(_each_months, 3),
        partial(_each_months, 12),
    ):
        yield partial(_both, opens, rule)


def _both(first: Rule, second: Rule, start: datetime) -> bool:
    return first(start) and second(start)


def _any(start: datetime) -> bool:
    return True


def _midnight(start: datetime) -> bool:
    return not start.hour and not start.minute and not start.fold


def _each_hours(hours: int, start: datetime) -> bool:
    return start.hour % hours == 0 and not start.minute and not start.fold


def _each_days(days: int, start: datetime) -> bool:
    return (start.day - 1) % days == 0 and start.day <= 31 - days


def _monday(start: datetime) -> bool:
    return start.weekday() == 0


def _each_months(months: int, start: datetime) -> bool:
    return start.day == 1 and (start.month - 1) % months == 0
