"""The questions behind an opened finding: what its chart asks, and which events are listed."""

from __future__ import annotations

from datetime import timedelta

from usage_explore.app.page_state import shared_filters
from usage_explore.query import buckets
from usage_explore.query.buckets import Bucket
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.query.validators import EARLIEST
from usage_explore.validation import Finding, Validation

_HOURLY = timedelta(days=4)
_AROUND = timedelta(days=14)


def charted(validation: Validation, finding: Finding) -> AggregateQuery:
    """What the finding's chart asks: its own question, else how much of its events there was around it."""
    asked = finding.question
    if isinstance(asked, AggregateQuery):
        return asked
    period = validation.period
    known = period.as_of or validation.now
    hourly = finding.until - finding.since <= _HOURLY
    bucket: Bucket = "hour" if hourly else "day"
    around = timedelta(days=1) if hourly else _AROUND
    since = buckets.floor(max(finding.since - around, EARLIEST), bucket, period.zone)
    until = buckets.floor(min(finding.until + around, known), bucket, period.zone)
    return AggregateQuery(
        **shared_filters(asked),
        since=since,
        until=max(until, buckets.following(since, bucket, period.zone)),
        timezone=period.timezone,
        bucket=bucket,
        metric="count" if finding.quantity is None else "sum_quantity",
    )


def listing(finding: Finding) -> EventQuery:
    """The events that are listed: the finding's own question, else those that its chart counts within its window."""
    asked = finding.question
    if isinstance(asked, EventQuery):
        return asked
    return EventQuery(**shared_filters(asked), occurred_after=finding.since, occurred_before=finding.until)
