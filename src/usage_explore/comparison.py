"""How an answer compares with the period before it.

- A whole calendar month is compared with the month before, a whole quarter with the quarter before.
- A window that begins at local midnight is compared with as many local days before it, so that both cover the same
  hours of the day. An unfinished last day counts: `-6d/d` at 05:37 is seven days, compared with the seven days before.
- Any other window is compared with the same duration before it.

If the current window is unfinished, both are cut at the same elapsed time, at most the whole earlier period, and
the label says so: from the 29th of March on, the first 28 days are compared with February. A period that begins before
the organization's first event is not compared, because its total is not that of a whole period.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from usage_explore.answers import Aggregate, AggregateSource
from usage_explore.decimals import Number, difference, exact_sum, ratio
from usage_explore.errors import QueryError
from usage_explore.formatting import counted, date_and_time, duration
from usage_explore.query import buckets, validators
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
    return ratio(difference(now, before), before.copy_abs())


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
    query, zone = answer.query, answer.query.zone
    since, until = query.span
    before_since, before_until = buckets.previous(since, until, zone)
    if answer.closed_until <= since:
        return "nothing to compare: the window has not begun"
    name = _name(query)
    if before_since < validators.EARLIEST:
        return f"not compared with {name}: it reaches before 1970"
    first = store.first_event(query.as_of)
    if first is None or before_since < first:
        return f"not compared with {name}: " + (
            f"events begin on {date_and_time(first.astimezone(zone))}" if first else "no events"
        )
    now_until = min(until, answer.closed_until)
    label = f"vs {name}"
    if now_until < buckets.whole_days(since, until, zone)[1]:
        elapsed = min(now_until - since, before_until - before_since)
        now_until, before_until = since + elapsed, before_since + elapsed
        if name != f"the {duration(elapsed)} before":
            label += f", each up to {duration(elapsed)} in"
    try:
        then = _totals(store, query, before_since, before_until)
        now = _by_key(answer) if now_until == until else _totals(store, query, since, now_until)
    except QueryError:
        return f"not compared with {name}: too many series"
    return Comparison(
        label=label,
        since=before_since,
        until=before_until,
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
    """The name of the earlier period: "February 2026", "Q2 2026", "the 7 days before", "the 12 hours before"."""
    since, until = query.span
    earlier, _ = buckets.previous(since, until, query.zone)
    if buckets.whole_month(since, until, query.zone):
        return f"{earlier.astimezone(query.zone):%B %Y}"
    if earlier == since - (until - since):
        return f"the {duration(until - since)} before"
    if quarter := buckets.whole_quarter(since, until, query.zone):
        before = buckets.local_date(earlier, query.zone)
        return f"Q{(quarter.month - 1) // 3 or 4} {before.year}"
    days = buckets.local_date(since, query.zone) - buckets.local_date(earlier, query.zone)
    return f"the {counted(days.days, 'day')} before"
