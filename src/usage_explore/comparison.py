"""How an answer compares with the period before it.

A whole calendar month is compared with the month before, any other window with the same duration before it.
While the current window is unfinished both are cut at the same elapsed time, and the label says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from usage_explore import parse, windows
from usage_explore.answers import Aggregate, Series
from usage_explore.errors import QueryError
from usage_explore.numbers import Number, exact_sum, ratio
from usage_explore.query import AggregateQuery

if TYPE_CHECKING:
    from usage_explore.store import Store

_DAYS = timedelta(days=3)  # shorter durations are told to the minute

_Totals = dict[tuple[str, str | None], Number]


@dataclass(frozen=True, slots=True)
class Change:
    """A total now and before. `ratio` is (now - before) / |before|, None where there was nothing before."""

    now: Number
    before: Number

    @property
    def ratio(self) -> Decimal | None:
        """By how much of the earlier total the later one differs: 0.081 is 8.1 % more."""
        return None if self.before == 0 else _change(Decimal(self.now), Decimal(self.before))


def _change(now: Decimal, before: Decimal) -> Decimal:
    return ratio(exact_sum((now, before.copy_negate()), 0), before.copy_abs())


@dataclass(frozen=True, slots=True)
class Comparison:
    """The change of the whole and of each series, in the answer's order; `label` names the other period."""

    label: str
    since: datetime
    until: datetime
    total: Change
    series: tuple[Change, ...]


def compare(store: Store, answer: Aggregate) -> Comparison | None:
    """The answer beside the period before it; None where there is no such period.

    There is none when the window has not begun, when it would reach before 1970, or when it holds more keys
    than an answer may. Raises `DatabaseError`.
    """
    query = answer.query
    since, until = query.span
    before = windows.previous(since, until, query.zone)
    cut = until > answer.closed_until
    elapsed = min(until, answer.closed_until) - since
    if elapsed <= timedelta(0) or before[0] < parse.EARLIEST:
        return None
    if cut:
        before = before[0], min(before[1], before[0] + elapsed)
    try:
        then = _totals(store, query, *before)
        now = _totals(store, query, since, since + elapsed) if cut else _by_key(answer)
    except QueryError:
        return None
    return Comparison(
        label=_label(query, cut, elapsed),
        since=before[0],
        until=before[1],
        total=Change(_sum(query, now), _sum(query, then)),
        series=tuple(Change(_of(series, answer, now), _of(series, answer, then)) for series in answer.series),
    )


def _totals(store: Store, query: AggregateQuery, since: datetime, until: datetime) -> _Totals:
    return _by_key(store.aggregate(query.replace(since=since, until=until, bucket="week", top=0)))


def _by_key(answer: Aggregate) -> _Totals:
    return {(series.kind, series.key): series.total for series in answer.series}


def _of(series: Series, answer: Aggregate, totals: _Totals) -> Number:
    query = answer.query
    if series.kind != "other":
        return totals.get((series.kind, series.key), _zero(query))
    if ("other", None) in totals:
        return totals["other", None]
    kept = {(other.kind, other.key) for other in answer.series}
    return exact_sum((total for key, total in totals.items() if key not in kept), _zero(query))


def _sum(query: AggregateQuery, totals: _Totals) -> Number:
    return exact_sum(totals.values(), _zero(query))


def _zero(query: AggregateQuery) -> Number:
    return 0 if query.metric == "count" else Decimal(0)


def _label(query: AggregateQuery, cut: bool, elapsed: timedelta) -> str:
    since, until = query.span
    if windows.whole_month(since, until, query.zone):
        earlier, _ = windows.previous(since, until, query.zone)
        label = f"vs {earlier.astimezone(query.zone):%B %Y}"
    else:
        label = f"vs the {_duration(until - since)} before"
    return f"{label}, each up to {_duration(elapsed)} in" if cut else label


def _duration(length: timedelta) -> str:
    hours, minutes = divmod(round(length / timedelta(minutes=1)), 60)
    days = 0
    if length >= _DAYS or not (minutes or hours % 24):
        days, hours = divmod(hours, 24)
    parts = [(days, "day"), (hours, "hour"), (0 if days else minutes, "minute")]
    words = [f"{number} {unit}{'' if number == 1 else 's'}" for number, unit in parts if number]
    return " ".join(words) or "moment"
