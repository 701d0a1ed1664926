"""How an answer compares with another period.

- `previous`: as many calendar months before whole ones, as many local days before a window that begins at local
  midnight, so that both cover the same hours of the day, and else the same duration before. An unfinished last day
  counts: `-6d/d` at 05:37 is seven days, compared with the seven days before.
- `year`: the same months of the year before for whole calendar months, else the same window 364 days before, so that
  weekdays agree.
- Two instants: that window.

If either period is unfinished, both are cut at the same elapsed time, at most the whole shorter period, and the label
says so: from the 29th of March on, the first 28 days are compared with February. Buckets are aligned by their position.
A bucket has no counterpart if the other period has fewer, if it lies beyond the cut, or before the organization's first
event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from zoneinfo import ZoneInfo

from usage_explore.answers import Aggregate, ComparisonSource
from usage_explore.decimals import Number, difference, exact_product
from usage_explore.errors import Fault, QueryError
from usage_explore.extract import retention
from usage_explore.extract.routing import Paths
from usage_explore.formatting import change as formatted_change
from usage_explore.formatting import (
    counted,
    data_value,
    date_and_time,
    duration,
    exact,
    listed,
    span,
    without_fractions,
)
from usage_explore.query import buckets, validators
from usage_explore.query.filters import CURRENCY
from usage_explore.query.limits import MAX_AGGREGATE_BUCKETS
from usage_explore.query.queries import RATIOS, AggregateQuery
from usage_explore.results.currencies import Currencies
from usage_explore.results.types import Change, Comparison, PointChange, Series, SeriesChange, combined
from usage_explore.results.units import AddedMetrics, common_unit

Window = tuple[datetime, datetime]
"""A half-open span of time."""

PARTS_OF_A_PERIOD = 1_000
"""A period is compared, and marked partial, if its first event is in its first thousandth: 43 minutes of 30 days."""

_MICROSECOND = timedelta(microseconds=1)
_MAX_DAYS_BY_HOURS = 2


def compare(store: ComparisonSource, answer: Aggregate) -> Comparison | str:
    """The answer's comparison, by default with the period before, else the reason why there is none, in words.

    It is not compared if the earlier period begins before 1970, or before the organization's first event (of those
    known at `as_of`) by more than one of `PARTS_OF_A_PERIOD`: a change from part of a period would read as one from all
    of it. Raises `DatabaseError`.
    """
    result = answer.comparison
    query = answer.query if result else answer.query.replace(compare="previous")
    if result is None:
        if answer.closed_until <= query.span[0]:
            return "nothing to compare: the window has not begun"
        if other_span(query)[0] < validators.EARLIEST:
            return f"not compared with {_name(query)}: it reaches before 1970"
        try:
            result = store.compare(answer)
        except QueryError as error:
            if CURRENCY in str(error):
                return f"not compared with {_name(query)}: its costs are in other currencies"
            return f"not compared with {_name(query)}: too many buckets or series"
    if result.partial and result.since < answer.closed_until and not _is_nearly_whole(result):
        return f"not compared with {_name(query)}: {_beginning(query, result.first_event)}"
    if result.has_begun:
        return result
    window_has_begun = answer.closed_until > answer.query.span[0]
    return f"nothing to compare: the {'other period' if window_has_begun else 'window'} has not begun"


def compared(
    paths: Paths,
    query: AggregateQuery,
    series: Sequence[Series],
    currencies: Currencies,
    closed_until: datetime,
    unit: str | None,
    units_of: Callable[[AddedMetrics], Mapping[str, str]],
) -> Comparison:
    """The comparison of a resolved query's series, of quantities in a `unit`, with the period of its `compare`.

    Grouped by currency, costs in different currencies are not compared: the total has no change if they are in several,
    nor has Other if it would hold several, in both periods together.

    Raises `QueryError` for a period that begins before 1970 or has more than `MAX_AGGREGATE_BUCKETS`, and else for
    costs in other `currencies` than the query's, `NotExact`.
    """
    (since, until), (other_since, other_until) = query.span, other_span(query)
    if other_since < validators.EARLIEST:
        raise QueryError([Fault("compare", "reaches before 1970-01-01; compare with a later period")])
    name = _name(query)
    label = f"vs {name}"
    end = buckets.whole_days(since, until, query.zone)[1] if query.compare == "previous" else until
    now_until, before_until = min(until, closed_until), min(other_until, closed_until)
    if now_until < end or before_until < other_until:
        elapsed = max(min(now_until - since, before_until - other_since), timedelta(0))
        now_until, before_until = since + elapsed, other_since + elapsed
        if elapsed and name != f"the {duration(elapsed)} before":
            label += f", each up to {duration(elapsed)} in"
    first = retention.events_begin(paths.connection, paths.table, query, paths.exists_since)
    if partial := first is None or other_since < first:
        label += f" (partial: {_beginning(query, first)})"
    comparable = first is not None and max(other_since, first) < before_until  # else its sums are unknown, not 0
    now, before = _Side(query, (), (), ()), _Side(query, (), (), ())
    if comparable:
        kept = None if query.group_by == "none" else [item.key for item in series if item.kind != "other"]
        before = _read_other(paths, query.replace(since=other_since, until=before_until), kept, currencies)
        now = _Side(query, series, query.edges(), currencies)
        if now_until < until:
            now = _read(paths, query.replace(until=now_until), kept)
    all_currencies = {*currencies, *before.currencies}
    folded = all_currencies - {item.key for item in series if item.kind != "other"}
    one_currency = len(all_currencies) <= 1
    one_in_other = query.group_by != CURRENCY or len(folded) <= 1
    others = before.metrics
    if others.number and unit is not None and unit != common_unit(others.number, units_of(others)):
        unit = None
    return Comparison(
        label=label,
        since=other_since,
        until=before_until,
        now_until=now_until,
        partial=partial,
        first_event=first,
        total=Change(now.total, before.total) if comparable and one_currency else Change(None, None),
        series=_changes(query, series, now, before, first, comparable=comparable, one_in_other=one_in_other),
        currencies=before.currencies,
        unit=unit,
    )


def lengths(query: AggregateQuery, now: Window, before: Window) -> str:
    """How long two compared windows are if that differs, "31 days against 30"; else blank.

    A day of 23 or 25 hours counts as one of 24, unless it is all or half of a window: "1 day 1 hour against 1 day".
    """
    days, other = _whole_days(query, now, before)
    if days is not None and other is not None:
        return "" if days == other else f"{counted(days, 'day')} against {other:,}"
    elapsed, earlier = now[1] - now[0], before[1] - before[0]
    return "" if elapsed == earlier else f"{duration(elapsed)} against {duration(earlier)}"


def per_day(query: AggregateQuery, now: Window, before: Window, change: Change) -> str:
    """The change of the mean per day of windows whose `lengths` differ, "+1.4 % per day"; else blank.

    Blank for unit costs, which are no sums over time, and where nothing was before.
    """
    if query.metric in RATIOS or change.now is None or not change.before or not lengths(query, now, before):
        return ""
    days, other = _whole_days(query, now, before)
    if days is None or other is None:
        days, other = ((until - since) // _MICROSECOND for since, until in (now, before))
    # with both windows' lengths as factors, no mean is rounded
    means = Change(
        exact_product((Decimal(change.now), Decimal(other))), exact_product((Decimal(change.before), Decimal(days)))
    )
    return f"{formatted_change(means.ratio)} per day"


def length_note(query: AggregateQuery, comparison: Comparison, change: Change | None = None) -> str:
    """`lengths` and `per_day`, "31 days against 30, +1.4 % per day", of a comparison's total or another `change`.

    Blank if both periods are equally long. Of a comparison that is not partial.
    """
    now, before = (query.span[0], comparison.now_until), (comparison.since, comparison.until)
    parts = lengths(query, now, before), per_day(query, now, before, change or comparison.total)
    return ", ".join(filter(None, parts))


def change_note(answer: Aggregate, comparison: Comparison) -> str:
    """What the total has beyond the compared time, and `length_note`. Of a comparison that is not partial."""
    return "; ".join(filter(None, (_future_note(answer, comparison), length_note(answer.query, comparison))))


def _future_note(answer: Aggregate, comparison: Comparison) -> str:
    """What of an answer's total is later than its clock, where the comparison ends: "30 later than now, not compared".

    Blank if there is nothing, and where the comparison ends sooner, with the shorter period.
    """
    total, until_now = answer.total, comparison.total.now
    if answer.query.metric in RATIOS or total is None or until_now is None:
        return ""
    later = difference(total, until_now)
    if later <= 0 or comparison.now_until < answer.closed_until:
        return ""
    return f"{exact(later)} later than {'its time' if answer.query.as_of else 'now'}, not compared"


def _whole_days(query: AggregateQuery, now: Window, before: Window) -> tuple[int | None, int | None]:
    """The numbers of local days of both windows; None for windows that are compared by their duration in hours.

    These are windows of equally many days, at most 2: a day of 25 hours is 4 % longer than one of 24.
    """
    days, other = (_days(window, query.zone) for window in (now, before))
    if days == other and days is not None and days <= _MAX_DAYS_BY_HOURS:
        return None, None
    return days, other


def _days(window: Window, zone: ZoneInfo) -> int | None:
    """The number of local days of a window of whole ones; else None."""
    first, last = (buckets.local_date(edge, zone) for edge in window)
    is_whole = (buckets.day_start(first, zone), buckets.day_start(last, zone)) == window
    return (last - first).days if is_whole else None


@dataclass(frozen=True)
class _Side:
    """The series of one of two periods, and the edges of its buckets, without any if it has not begun."""

    query: AggregateQuery
    series: Sequence[Series]
    edges: tuple[datetime, ...]
    currencies: Currencies
    metrics: AddedMetrics = AddedMetrics(0)  # noqa: RUF009 - frozen

    @property
    def nothing(self) -> Number | None:
        """The value without events: 0, or None of a unit cost."""
        return combined((), self.query.metric)

    @property
    def total(self) -> Number | None:
        """All series as one; None of costs in several currencies."""
        return None if len(self.currencies) > 1 else combined(self.series, self.query.metric)

    @cached_property
    def _by_key(self) -> dict[tuple[str, str | None], Series]:
        return {(item.kind, item.key): item for item in self.series}

    def has(self, kind: str, key: str | None) -> bool:
        """Whether a series has events."""
        return (kind, key) in self._by_key

    def values(self, kind: str, key: str | None) -> tuple[Number | None, list[Number | None]]:
        """The total and the values of a series, `nothing` if it has no events."""
        item = self._by_key.get((kind, key))
        if item is None:
            return self.nothing, [self.nothing] * (len(self.edges) - 1)
        return item.total, [point.value for point in item.points]


def _read(paths: Paths, query: AggregateQuery, kept: Sequence[str | None] | None) -> _Side:
    edges = query.edges()
    if edges[0] > query.span[0]:
        message = f"covers more than {MAX_AGGREGATE_BUCKETS:,} {query.bucket}s; shorten it, or use a larger bucket"
        raise QueryError([Fault("compare", message)])
    series, metrics, currencies, _ = paths.aggregate(query, kept, one_currency=False)
    return _Side(query, series, edges, currencies, metrics)


def _read_other(
    paths: Paths, query: AggregateQuery, kept: Sequence[str | None] | None, currencies: Currencies
) -> _Side:
    """The other period. Raises `QueryError` if its costs are in other currencies than the window's."""
    before = _read(paths, query, kept)
    several = len(before.currencies) > 1 or (before.currencies and currencies not in ((), before.currencies))
    if query.group_by != CURRENCY and several:
        ours, theirs = (
            listed([data_value(currency) for currency in some]) or "no currency"
            for some in (currencies, before.currencies)
        )
        message = f"the costs of the other period are in {theirs}, those of the window in {ours}"
        raise QueryError([Fault("compare", f"{message}; filter to one {CURRENCY}, or group by it")])
    return before


def _changes(
    query: AggregateQuery,
    series: Sequence[Series],
    now: _Side,
    before: _Side,
    first: datetime | None,
    *,
    comparable: bool,
    one_in_other: bool,
) -> tuple[SeriesChange, ...]:
    """The changes of the answer's series, then of Other if only the other period has it."""
    result = []
    items = [(item.kind, item.key, item.name) for item in series]
    if before.has("other", None) and "other" not in (item.kind for item in series):
        items.append(("other", None, None))
    for kind, key, name in items:
        if not comparable or (kind == "other" and not one_in_other):
            result.append(SeriesChange(None, None, kind, key, (None,) * (len(query.edges()) - 1), name))
            continue
        now_total, now_values = now.values(kind, key)
        before_total, before_values = before.values(kind, key)
        points: list[PointChange | None] = []
        for index in range(len(query.edges()) - 1):
            start, end = before.edges[index : index + 2] if index < len(before_values) else (None, None)
            if index >= len(now_values) or start is None or end is None or first is None or end <= first:
                points.append(None)
                continue
            since, until = before.query.span
            complete = max(since, first) <= start and end <= until
            points.append(PointChange(now_values[index], before_values[index], start, end, complete))
        result.append(SeriesChange(now_total, before_total, kind, key, tuple(points), name))
    return tuple(result)


def other_span(query: AggregateQuery) -> tuple[datetime, datetime]:
    """The other window of a resolved query, before unfinished time is cut."""
    since, until = query.span
    if query.compare == "previous":
        return buckets.previous(since, until, query.zone)
    if query.compare == "year":
        return buckets.year_before(since, until, query.zone)
    other_since, other_until = map(validators.instant, str(query.compare).split("/"))
    return other_since, other_until


def _name(query: AggregateQuery) -> str:
    """The name of the other period: "February 2026", "Q2 2026", "the 7 days before", "1–7 Sep 2025"."""
    (since, until), zone = query.span, query.zone
    other_since, other_until = other_span(query)
    if buckets.whole_month(other_since, other_until, zone):
        return f"{other_since.astimezone(zone):%B %Y}"
    if quarter := buckets.whole_quarter(other_since, other_until, zone):
        return f"Q{quarter.month // 3 + 1} {quarter.year}"
    if query.compare != "previous" or buckets.whole_month(since, until, zone):
        return without_fractions(span(other_since.astimezone(zone), other_until.astimezone(zone)))
    if other_since == since - (until - since):
        return f"the {duration(until - since)} before"
    days = buckets.local_date(since, zone) - buckets.local_date(other_since, zone)
    return f"the {counted(days.days, 'day')} before"


def _is_nearly_whole(comparison: Comparison) -> bool:
    """Whether the first event, usual some minutes after midnight, is at the very beginning of the other period."""
    first, length = comparison.first_event, comparison.until - comparison.since
    return first is not None and (first - comparison.since) * PARTS_OF_A_PERIOD <= length


def _beginning(query: AggregateQuery, first: datetime | None) -> str:
    if first is None:
        return "no events"
    return f"events begin on {without_fractions(date_and_time(first.astimezone(query.zone)))}"
