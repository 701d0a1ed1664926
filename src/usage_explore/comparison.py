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
from usage_explore.decimals import Number, difference, ratio
from usage_explore.errors import QueryError
from usage_explore.formatting import counted, data_value, date_and_time, duration
from usage_explore.query import buckets, validators
from usage_explore.query.filters import CURRENCY
from usage_explore.query.queries import COST_METRICS, AggregateQuery
from usage_explore.results.types import Series, SeriesKind, combined

_Totals = dict[tuple[SeriesKind, str | None], Series]


@dataclass(frozen=True, slots=True)
class Change:
    """A total now and before, None of a unit cost without a value, and of costs in several currencies.

    `ratio` is (now - before) / |before|, None where there was nothing before.
    """

    now: Number | None
    before: Number | None

    @property
    def ratio(self) -> Decimal | None:
        """By how much of the earlier total the later one differs: 0.081 is 8.1 % more."""
        if self.now is None or not self.before:
            return None
        return _change(Decimal(self.now), Decimal(self.before))


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
    first event (of those known at `as_of`), when it holds more keys than an answer may, and when its costs are in other
    currencies. Raises `DatabaseError`.
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
        earlier = _whole(store, query, before_since, before_until)
        later = answer if now_until == until else _whole(store, query, since, now_until)
    except QueryError as error:
        if any(fault.parameter == CURRENCY for fault in error.faults):
            return f"not compared with {name}: its costs are in several currencies"
        return f"not compared with {name}: too many series"
    if query.group_by != CURRENCY and earlier.currencies and later.currencies not in ((), earlier.currencies):
        return f"not compared with {name}: its costs are in {data_value(earlier.currencies[0])}"
    then, now = _by_key(earlier), _by_key(later)
    return Comparison(
        label=label,
        since=before_since,
        until=before_until,
        now_until=now_until,
        total=Change(later.total, earlier.total),
        series=tuple(Change(_of(series, answer, now), _of(series, answer, then)) for series in answer.series),
    )


def _whole(store: AggregateSource, query: AggregateQuery, since: datetime, until: datetime) -> Aggregate:
    return store.aggregate(query.replace(since=since, until=until, bucket="week", top=0))


def _by_key(answer: Aggregate) -> _Totals:
    return {(series.kind, series.key): series for series in answer.series}


def _of(series: Series, answer: Aggregate, totals: _Totals) -> Number | None:
    keys = {(series.kind, series.key)}
    if series.kind == "other" and ("other", None) not in totals:
        keys = totals.keys() - {(other.kind, other.key) for other in answer.series}
    if answer.query.metric in COST_METRICS and answer.query.group_by == CURRENCY and len(keys) > 1:
        return None  # they do not add up
    return combined((total for key, total in totals.items() if key in keys), answer.query.metric)


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
