"""The questions behind an opened finding: what its chart asks, which events are listed, what was expected."""

from __future__ import annotations

from datetime import timedelta

from usage_explore.answers import Aggregate
from usage_explore.app.data import Source
from usage_explore.app.views import shared_filters
from usage_explore.charts.expected import Expected
from usage_explore.checks import Finding, Validation
from usage_explore.parse import EARLIEST
from usage_explore.query import AggregateQuery, EventQuery

_HOURLY = timedelta(days=4)
_AROUND = timedelta(days=14)


def charted(validation: Validation, finding: Finding) -> AggregateQuery:
    """What the finding's chart asks: its own question, else how much of its events there was around it."""
    asked = finding.question
    if isinstance(asked, AggregateQuery):
        return asked
    period = validation.period
    hourly = finding.until - finding.since <= _HOURLY
    around = timedelta(days=1) if hourly else _AROUND
    since = max(finding.since - around, EARLIEST)
    until = min(finding.until + around, period.as_of or validation.now)
    return AggregateQuery(
        **shared_filters(asked),
        since=since,
        until=max(until, since + timedelta(hours=1)),
        timezone=period.timezone,
        bucket="hour" if until - since <= timedelta(days=6) else "day",
        metric="count" if finding.quantity is None else "sum_quantity",
    )


def listing(finding: Finding) -> EventQuery:
    """The events that are listed: the finding's own question, else those that its chart counts within its window."""
    asked = finding.question
    if isinstance(asked, EventQuery):
        return asked
    return EventQuery(**shared_filters(asked), occurred_after=finding.since, occurred_before=finding.until)


def expectation(source: Source, validation: Validation, finding: Finding, answer: Aggregate) -> Expected | None:
    """What was expected of the buckets of the finding's chart, None where its check expects nothing of them."""
    return None
