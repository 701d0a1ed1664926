"""The two windows that an explanation compares, and their names.

Both are whole buckets, months or windows first. If the first is unfinished, or lies in part outside the query's window,
the part of it is compared with the part of the other that is as long and begins equally late after its start.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from usage_explore import formatting
from usage_explore.errors import Fault, QueryError
from usage_explore.query import buckets, validators
from usage_explore.query.base import parsed_instant
from usage_explore.query.queries import AggregateQuery

Baseline = Literal["week", "before"]
"""`week`: the same hours of the same weekdays one week before. `before`: the bucket before a bucket, the month or
quarter before a whole one, as many local days before a window that begins at local midnight, else the same
duration before."""

_WEEK, _MICROSECOND = timedelta(weeks=1), timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open window `[since, until)`, in UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Spans:
    """The window to explain, `after`, and the one it is compared with; `cut` if both are parts of whole ones."""

    after: Span
    before: Span
    cut: bool


def spans(
    query: AggregateQuery, now: datetime, bucket: datetime | None, baseline: Baseline | tuple[datetime, datetime] | None
) -> Spans:
    """The windows of a resolved query: of its bucket that holds the instant `bucket`, else of the whole query.

    Without a `baseline` an hour or a day is compared with the same one a week before, as usage follows the week, any
    other window as by `before`. A window that is unfinished at `now` is compared with equally much elapsed time.

    Raises `QueryError` for a bucket outside the window, and where there is nothing to compare with.
    """
    since, until = query.span
    if bucket is None:
        whole = Span(*buckets.whole_days(since, until, query.zone))
    else:
        whole = _bucket(query, parsed_instant("bucket", bucket))
    after = Span(max(since, whole.since), min(until, whole.until, query.closed_until(now)))
    if after.since >= after.until:
        name = "since" if bucket is None else "bucket"
        raise QueryError([Fault(name, "has not begun yet, so nothing can be said about it")])
    if isinstance(baseline, tuple):
        return Spans(after, _given(baseline), cut=False)
    before = _before(query, whole, baseline, is_bucket=bucket is not None)
    cut = after != whole
    if cut:
        length = min(after.until - after.since, before.until - before.since)  # February is over before March is
        start = min(before.since + (after.since - whole.since), before.until - length)
        after, before = Span(after.since, after.since + length), Span(start, start + length)
    if before.since < validators.EARLIEST:
        raise QueryError([Fault("baseline", "would reach before 1970-01-01; name a later window")])
    return Spans(after, before, cut)


def words(span: Span, query: AggregateQuery, exists_since: datetime | None = None) -> str:
    """The window in the query's time zone: "on Wed 16 Sep 2026", "in 1–30 Sep 2026"; with times "from … to …".

    Fractions of seconds are left out. If it begins before `exists_since`, it says that earlier events were removed.
    """
    if exists_since is not None and span.since < exists_since:
        begin = formatting.date_and_time(exists_since.astimezone(query.zone))
        return f"{words(span, query)} (events before {begin} were removed)"
    since, until = (edge.astimezone(query.zone) for edge in (span.since, span.until))
    text = formatting.without_fractions(formatting.span(since, until))
    if (until - _MICROSECOND).date() == since.date():
        return f"on {since:%a} {text}"
    return f"{'from' if ' to ' in text else 'in'} {text}"


def _bucket(query: AggregateQuery, instant: datetime) -> Span:
    since, until = query.span
    if not since <= instant < until:
        edges = f"{since.astimezone(query.zone).isoformat()} to {until.astimezone(query.zone).isoformat()}"
        there = instant.astimezone(query.zone).isoformat()
        raise QueryError([Fault("bucket", f"{there} lies outside the window {edges}; widen it")])
    start = buckets.floor(instant, query.bucket, query.zone)
    return Span(start, buckets.following(start, query.bucket, query.zone))


def _given(baseline: tuple[datetime, ...]) -> Span:
    if len(baseline) != 2:
        raise QueryError([Fault("baseline", "is not a pair of times (since, until)")])
    try:
        since, until = validators.instants(baseline)
    except ValueError as error:
        raise QueryError([Fault("baseline", str(error))]) from None
    if since >= until:
        raise QueryError([Fault("baseline", "is empty: its first time is not before its second")])
    if since < validators.EARLIEST:
        raise QueryError([Fault("baseline", "would reach before 1970-01-01; name a later window")])
    return Span(since, until)


def _before(query: AggregateQuery, whole: Span, baseline: object, *, is_bucket: bool) -> Span:
    """The whole window to compare with. Raises `QueryError` for an unknown `baseline` and for one that overlaps."""
    if baseline is None:
        baseline = "week" if is_bucket and query.bucket in ("hour", "day") else "before"
    try:
        kind = validators.choice(baseline, ("week", "before"))
    except ValueError as error:
        raise QueryError([Fault("baseline", f"{error}; or two times, (since, until)")]) from None
    if kind == "before":
        if is_bucket:
            return Span(buckets.floor(whole.since - _MICROSECOND, query.bucket, query.zone), whole.since)
        return Span(*buckets.previous(*query.span, query.zone))
    since, until = _week_before(whole.since, query), _week_before(whole.until, query)
    if until > whole.since and whole.until - whole.since > _WEEK:
        raise QueryError([Fault("baseline", "week needs a window of no more than a week; take before")])
    # a day that the zone left out has no length: its hours lie exactly a week before
    return Span(since, until) if since < until else Span(whole.since - _WEEK, whole.until - _WEEK)


def _week_before(instant: datetime, query: AggregateQuery) -> datetime:
    wall = instant.astimezone(query.zone).replace(tzinfo=None, fold=0)
    return (wall - _WEEK).replace(tzinfo=query.zone).astimezone(UTC)
