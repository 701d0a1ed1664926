"""How an answer compares with the period before it.

A whole calendar month is compared with the month before, any other window with the same duration before it.
While the current window is unfinished both are cut at the same elapsed time, at most the whole earlier period, and
the label says so: from the 29th of March on, the first 28 days are compared with February. A period that begins before
the organization's first event is not compared: its total is not a month's or a week's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from usage_explore.answers import Aggregate, AggregateSource
from usage_explore.decimals import Number, exact_sum, ratio
from usage_explore.errors import QueryError
from usage_explore.formatting import date_and_time, duration
from usage_explore.query import relative_time, validators
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import Series

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
    """The change of the whole and of each series, in the answer's order; `label` names the other period.

    The other period is `[since, until)`. Of the answer's own window the part before `now_until` is compared.
    """

    label: str
    since: datetime
    until: datetime
    now_until: datetime
    total: Change
    series: tuple[Change, ...]


def compare(store: AggregateSource, answer: Aggregate) -> Comparison | str:
    """The answer beside the period before it, else the reason why it is not compared, in words.

    It is not when the window has not begun, when the earlier period reaches before 1970 or before the organization's
    first event (of those known at `as_of`), and when it holds more keys than an answer may. Raises `DatabaseError`.
    """
    query = answer.query
    since, until = query.span
    before = relative_time.previous(since, until, query.zone)
    if answer.closed_until <= since:
        return "nothing to compare: the window has not begun"
    name = _name(query)
    if before[0] < validators.EARLIEST:
        return f"not compared with {name}: it reaches before 1970"
    first = store.first_event(query.as_of)
    if first is None or before[0] < first:
        return f"not compared with {name}: " + (
            f"events begin on {date_and_time(first.astimezone(query.zone))}" if first else "no events"
        )
    elapsed = min(until, answer.closed_until) - since
    cut = elapsed < until - since
    if cut:
        elapsed = min(elapsed, before[1] - before[0])
        before = before[0], before[0] + elapsed
    now_until = since + elapsed if cut else until
    try:
        then = _totals(store, query, *before)
        now = _totals(store, query, since, now_until) if cut else _by_key(answer)
    except QueryError:
        return f"not compared with {name}: too many series"
    return Comparison(
        label=f"vs {name}, each up to {duration(elapsed)} in" if cut else f"vs {name}",
        since=before[0],
        until=before[1],
        now_until=now_until,
        total=Change(_sum(query, now), _sum(query, then)),
        series=tuple(Change(_of(series, answer, now), _of(series, answer, then)) for series in answer.series),
    )


def _totals(store: AggregateSource, query: AggregateQuery, since: datetime, until: datetime) -> _Totals:
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


def _name(query: AggregateQuery) -> str:
    """What the period before is called: "February 2026", "the 7 days before"."""
    since, until = query.span
    if relative_time.whole_month(since, until, query.zone):
        earlier, _ = relative_time.previous(since, until, query.zone)
        return f"{earlier.astimezone(query.zone):%B %Y}"
    return f"the {duration(until - since)} before"
