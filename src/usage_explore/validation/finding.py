"""What a check finds: who and what it concerns, how much of it, in one sentence, and the question that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeVar
from uuid import UUID

from usage_explore.decimals import plain, rfc3339
from usage_explore.formatting import counted
from usage_explore.query import buckets
from usage_explore.query.base import Query
from usage_explore.query.buckets import Bucket
from usage_explore.query.describe import describe
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.query.url_params import link
from usage_explore.query.validators import EARLIEST, LATEST

Severity = Literal["high", "medium", "low"]

SEVERITIES: dict[Severity, str] = {
    "high": "the invoice is wrong, or very probably so: do not finalize before this is explained",
    "medium": "probably harmless for the total, but somebody should look",
    "low": "good to know",
}
"""What each severity asks of who signs off, the gravest first."""


_MAX_HOURLY = timedelta(days=4)
"""Length of a finding up to which its chart has hours."""

_MIN_HOURLY_MARGIN, _MIN_MARGIN, _MAX_MARGIN = timedelta(days=1), timedelta(days=7), timedelta(days=400)
"""Time that a chart shows before and after the finding: at least, with hours and with days; at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is, or may be, wrong with a period.

    `since` and `until` bound the events concerned, half-open; `events` counts them, `quantity` is how much of what is
    metered is affected (None where units differ or nothing was metered, as in a silence), `amounts` what that costs by
    currency where a cost is known. `share` is the affected part of what `share_of` names ("quantity of calls", "all
    events", "cost in EUR", "lines of price p1", "invoice lines") came to in the period: 0.02 is two per cent; it may
    pass 1. `question` shows it; `facts` are further things to know, by name.
    `is_general` is true of what concerns the data as a whole, such as its end: it ranks first within its severity.
    """

    check: str
    severity: Severity
    sentence: str
    since: datetime
    until: datetime
    events: int
    question: EventQuery | AggregateQuery
    quantity: Decimal | None = None
    amounts: tuple[tuple[str, Decimal], ...] = ()
    share: Decimal = Decimal(0)
    share_of: str = ""
    customer_id: UUID | None = None
    product_id: UUID | None = None
    subscription_id: UUID | None = None
    metric_key: str | None = None
    price_key: str | None = None
    wallet_currency: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    is_general: bool = False

    def url(self, app_url: str) -> str:
        """The link that opens what it shows in the app."""
        return link(app_url, "events" if isinstance(self.question, EventQuery) else "", self.question)

    def chart_query(self, period: Period, now: datetime) -> AggregateQuery:
        """The query of its chart in the app and the report: its own, else the count or quantity of its events.

        Around a finding of up to four days the chart has hours, and as long again on either side, at least one day;
        else days, and half as long again on either side, at least 7 and at most 400 days. `period` is the resolved
        period of the validation, `now` its clock.
        """
        if isinstance(self.question, AggregateQuery):
            return self.question
        length = self.until - self.since
        bucket: Bucket = "hour" if length <= _MAX_HOURLY else "day"
        margin = max(length, _MIN_HOURLY_MARGIN) if bucket == "hour" else min(max(length / 2, _MIN_MARGIN), _MAX_MARGIN)
        since = buckets.floor(max(self.since - margin, EARLIEST), bucket, period.zone)
        end = min(self.until + margin, max(self.until, period.as_of or now), LATEST)
        whole = buckets.floor(end, bucket, period.zone)
        return AggregateQuery(
            **self.question.shared_with(Query),
            since=since,
            until=whole if whole >= self.until else end,
            timezone=period.timezone,
            bucket=bucket,
            metric="count" if self.quantity is None else "sum_quantity",
        )

    def to_dict(self, app_url: str) -> dict[str, Any]:
        """The finding as JSON carries it: ids, times and decimals as text, nulls kept."""
        return {
            "check": self.check,
            "severity": self.severity,
            "sentence": self.sentence,
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "events": self.events,
            "quantity": None if self.quantity is None else plain(self.quantity),
            "amounts": {currency: plain(amount) for currency, amount in self.amounts},
            "share": plain(self.share),
            "share_of": self.share_of or None,
            **{name: _text(getattr(self, name)) for name in SUBJECTS},
            "facts": dict(self.facts),
            "question": describe(self.question),
            "url": self.url(app_url),
        }


SUBJECTS = ("customer_id", "product_id", "subscription_id", "metric_key", "price_key", "wallet_currency")
"""The fields that say whom and what a finding concerns."""

_RANK = {severity: place for place, severity in enumerate(SEVERITIES)}


MAX_FINDINGS_PER_CHECK = 100
"""Findings of one check, or of one kind of it; its note counts the others."""

_Item = TypeVar("_Item")


def limited(
    items: Sequence[_Item],
    plural: str,
    size: Callable[[Sequence[_Item]], str],
    most: int = MAX_FINDINGS_PER_CHECK,
) -> tuple[Sequence[_Item], str]:
    """The first `most` items, and a note with the number and size of the others: `12 more findings, 840 events`."""
    rest = items[most:]
    return items[:most], f"{len(rest):,} more {plural}, {size(rest)}" if rest else ""


def limited_findings(findings: Iterable[Finding], plural: str) -> tuple[Sequence[Finding], str]:
    """The gravest findings of one kind, see `limited`."""
    ranked = sorted(findings, key=lambda finding: (_RANK[finding.severity], -finding.events))
    return limited(ranked, plural, lambda rest: counted(sum(finding.events for finding in rest), "event"))


def by_impact(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first, within a severity what concerns all data, the largest affected share, the most events."""

    def rank(finding: Finding) -> tuple[Any, ...]:
        subjects = tuple(_text(getattr(finding, name)) or "" for name in SUBJECTS)
        size = not finding.is_general, finding.share.copy_negate(), -finding.events
        return _RANK[finding.severity], *size, finding.check, finding.since, subjects

    return tuple(sorted(findings, key=rank))


def _text(value: UUID | str | None) -> str | None:
    return None if value is None else str(value)
