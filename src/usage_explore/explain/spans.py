"""Which two windows are compared, and what to call them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from usage_explore import formatting
from usage_explore.errors import Fault, QueryError
from usage_explore.query import buckets, relative_time, validators
from usage_explore.query.base import at
from usage_explore.query.queries import AggregateQuery

Baseline = Literal["week", "before"]
"""`week`: the same hours of the same weekdays one week before. `before`: as long as the window and right before it."""

_WEEK, _INSTANT = timedelta(weeks=1), timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open window `[since, until)`, in UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Spans:
    """The window to explain and the one it is compared with; `cut` when both end early, as the first is unfinished."""

    after: Span
    before: Span
    cut: bool


def spans(
    query: AggregateQuery, now: datetime, bucket: datetime | None, baseline: Baseline | tuple[datetime, datetime] | None
) -> Spans:
    """The windows of a resolved question: of its bucket that holds an instant, else of all of it.

    Without a `baseline` an hour or a day is compared with the same one a week before, as usage follows the week, any
    other window with the one before: a whole calendar month with the month before, else of the same length. While the
    window is unfinished at `now`, both end after the same time.

    Raises `QueryError` for a bucket outside the window, and where there is nothing to compare with.
    """
    whole = Span(*query.span) if bucket is None else _bucket(query, at("bucket", bucket))
    known = min(now, query.as_of or now)
    after = Span(whole.since, min(whole.until, known))
    if after.since >= after.until:
        name = "since" if bucket is None else "bucket"
        raise QueryError([Fault(name, "has not begun yet, so nothing can be said about it")])
    if baseline is None:
        baseline = "week" if bucket is not None and query.bucket != "week" else "before"
    before = _before(query, whole, baseline)
    cut = after.until < whole.until and not isinstance(baseline, tuple)
    if cut:
        length = min(after.until - after.since, before.until - before.since)  # February is over before March is
        after, before = Span(after.since, after.since + length), Span(before.since, before.since + length)
    if before.since < validators.EARLIEST:
        raise QueryError([Fault("baseline", "would reach before 1970-01-01; name a later window")])
    return Spans(after, before, cut)


def words(span: Span, query: AggregateQuery) -> str:
    """The window on the question's clock: "on Wed 16 Sep 2026", "in 1–30 Sep 2026"."""
    since, until = (edge.astimezone(query.zone) for edge in (span.since, span.until))
    said = formatting.span(since, until)
    return f"on {since:%a} {said}" if (until - _INSTANT).date() == since.date() else f"in {said}"


def _bucket(query: AggregateQuery, instant: datetime) -> Span:
    since, until = query.span
    if not since <= instant < until:
        edges = f"{since.astimezone(query.zone).isoformat()} to {until.astimezone(query.zone).isoformat()}"
        there = instant.astimezone(query.zone).isoformat()
        raise QueryError([Fault("bucket", f"{there} lies outside the window {edges}; widen it")])
    start = buckets.floor(instant, query.bucket, query.zone)
    end = buckets.following(start, query.bucket, query.zone)
    return Span(max(since, start), min(until, end))


def _before(query: AggregateQuery, span: Span, baseline: Baseline | tuple[datetime, datetime]) -> Span:
    if isinstance(baseline, tuple):
        if len(baseline) != 2:
            raise QueryError([Fault("baseline", "is not a pair of times (since, until)")])
        since, until = at("baseline", baseline[0]), at("baseline", baseline[1])
        if since >= until:
            raise QueryError([Fault("baseline", "is empty: its first time is not before its second")])
        return Span(since, until)
    try:
        kind = validators.choice(baseline, ("week", "before"))
    except ValueError as error:
        raise QueryError([Fault("baseline", str(error))]) from None
    if kind == "before":
        return Span(*relative_time.previous(span.since, span.until, query.zone))
    if span.until - span.since > _WEEK:
        raise QueryError([Fault("baseline", "week needs a window of no more than a week; take before")])
    since, until = _week_before(span.since, query), _week_before(span.until, query)
    # a day that the zone left out has no length: its hours lie exactly a week before
    return Span(since, until) if since < until else Span(span.since - _WEEK, span.until - _WEEK)


def _week_before(instant: datetime, query: AggregateQuery) -> datetime:
    wall = instant.astimezone(query.zone).replace(tzinfo=None, fold=0)
    return (wall - _WEEK).replace(tzinfo=query.zone).astimezone(UTC)
