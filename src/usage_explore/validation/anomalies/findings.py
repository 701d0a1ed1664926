"""An incident as a finding: its exact numbers beside the band, the hours it came in, and the question that shows it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from usage_explore import formatting
from usage_explore.decimals import Number, exact_sum, plain, rfc3339, total
from usage_explore.errors import NotExact
from usage_explore.formatting import counted, data_value, exact, listed
from usage_explore.query import buckets, validators
from usage_explore.query.buckets import Bucket
from usage_explore.query.queries import AggregateQuery, Metric
from usage_explore.results.types import Series
from usage_explore.validation.anomalies.incidents import Incident
from usage_explore.validation.anomalies.series import Step
from usage_explore.validation.check import Examination
from usage_explore.validation.finding import Finding
from usage_explore.validation.usage_sums import metric_filter

NAME = "shifts"

_CHART_MARGIN: dict[Step, timedelta] = {"day": timedelta(days=28), "hour": timedelta(days=4)}
_MEASURED: dict[Metric, str] = {"count": "events", "sum_quantity": "quantity"}
_NEARLY_ALL = Decimal("0.95")
_MAX_HOURS_SPAN, _MAX_HOURS = timedelta(days=3), 12
_MAX_FILTER_METRICS = 100
_WEEK = timedelta(days=7)


def finding(examination: Examination, incident: Incident) -> Finding:
    """What there is to say about an incident.

    `facts` holds `actual`, `expected`, `low` and `high` of the `bucket` (its start) that lies farthest out, in steps of
    `step`, of the `measure` (events, quantity) of the `metric`: what the question's chart shows there. Of a new level,
    which begins with that bucket, they are the usual ones after and before.
    """
    lead, (since, until) = incident.lead, incident.span
    sums = _sums(examination, incident)
    facts = {
        "metric": data_value(lead.metric_key),
        "measure": _MEASURED[lead.measure],
        "actual": "not a number" if sums.actual is None else plain(sums.actual),
        "expected": _about(lead.expected),
        "low": _about(lead.low),
        "high": _about(lead.high),
        "bucket": rfc3339(lead.bucket),
        "step": lead.step,
        "reason": lead.reason,
    }
    if len(incident.metrics) > 1:
        facts["metrics"] = ", ".join(map(data_value, incident.metrics))
    sentence = _sentence(examination, incident, sums)
    if hours := _hours(examination, incident, sums.events):
        facts["hours"] = hours
        sentence = f"{sentence[:-1]}; nearly all of it {hours}."
    return Finding(
        check=NAME,
        severity=incident.severity,
        sentence=sentence,
        since=since,
        until=until,
        events=sums.events,
        question=_question(examination, incident),
        quantity=sums.quantity,
        share=incident.share,
        share_of=f"{_MEASURED[lead.measure]} of {data_value(lead.metric_key)}",
        customer_id=lead.customer_id,
        metric_key=lead.metric_key if len(incident.metrics) == 1 else None,
        facts=tuple(facts.items()),
    )


@dataclass(frozen=True, slots=True)
class _Sums:
    """What there was in an incident.

    `actual` in the lead's farthest bucket (None where it holds quantities that are no numbers; of a new level the
    middle one of its first week), `events` and `quantity` (None where metrics differ) in all of it.
    """

    actual: Number | None
    events: int
    quantity: Decimal | None


def _sums(examination: Examination, incident: Incident) -> _Sums:
    since, until = incident.span
    # by weeks, of which even the longest period has no more than an answer may have
    events = exact_sum((each.total for each in _series(examination, incident, "count", "week", since, until)), 0)
    quantity: Decimal | None = None
    if len(incident.metrics) == 1:
        with suppress(NotExact):
            sums = _series(examination, incident, "sum_quantity", "week", since, until)
            quantity = total(Decimal(each.total) for each in sums)
    return _Sums(_actual(examination, incident), int(events), quantity)


def _actual(examination: Examination, incident: Incident) -> Number | None:
    lead, zone = incident.lead, examination.period.zone
    end = min(lead.bucket + _WEEK, lead.until) if lead.lasts else buckets.following(lead.bucket, lead.step, zone)
    try:
        found = _series(examination, incident, lead.measure, lead.step, lead.bucket, end)
    except NotExact:
        return None
    values = sorted(point.value for each in found if each.key == lead.metric_key for point in each.points)
    return values[(len(values) - 1) // 2] if values else 0


def _series(
    examination: Examination, incident: Incident, metric: Metric, bucket: Bucket, since: datetime, until: datetime
) -> list[Series]:
    """The incident's metrics in the window, exact."""
    found, *_ = examination.paths.aggregate(
        examination.aggregate_question(
            since=since,
            until=until,
            bucket=bucket,
            metric=metric,
            group_by="metric_key",
            top=0,
            **metric_filter(incident.metrics, _MAX_FILTER_METRICS),
            **_whose(incident),
        )
    )
    return [each for each in found if each.key in incident.metrics]


def _whose(incident: Incident) -> dict[str, Any]:
    return {} if incident.lead.customer_id is None else {"customer_id": incident.lead.customer_id}


def _question(examination: Examination, incident: Incident) -> AggregateQuery:
    """The lead's metric around the incident, in its steps."""
    lead, (since, until) = incident.lead, incident.span
    around = _CHART_MARGIN[lead.step]
    return examination.aggregate_question(
        since=max(since - around, validators.EARLIEST),
        until=max(min(until + around, examination.closed_until), until),
        bucket=lead.step,
        metric=lead.measure,
        **metric_filter([lead.metric_key]) or {"group_by": "metric_key"},
        **_whose(incident),
    )


def _sentence(examination: Examination, incident: Incident, sums: _Sums) -> str:
    lead, (since, until) = incident.lead, incident.span
    zone = examination.period.zone
    others = [metric for metric in incident.metrics if metric != lead.metric_key]
    moved = f"; {listed(others)} moved with it" if others else ""
    who = f"customer {lead.customer_id}" if lead.customer_id else "all customers together"
    if sums.actual is None:
        there = "a quantity that is no number"
    elif lead.measure == "count":
        there = counted(int(sums.actual), "event")
    else:
        there = f"a quantity of {exact(Decimal(sums.actual))}"
    low, high, expected = (exact(Decimal(_about(value))) for value in (lead.low, lead.high, lead.expected))
    against = f"against about {expected} expected, in a band from {low} to {high}"
    day = formatting.span(lead.bucket.astimezone(zone), (lead.bucket + timedelta(hours=1)).astimezone(zone))
    if lead.step == "day":
        end = buckets.following(lead.bucket, "day", zone)
        day = formatting.span(lead.bucket.astimezone(zone), end.astimezone(zone))
    what = f"{data_value(lead.metric_key)} of {who}"
    if lead.lasts:
        verb = "rose" if lead.rises else "fell"
        return f"{what} {verb} to a new level on {day}: {there} a day {against}{moved}."
    verb = "spiked" if lead.rises else "dropped"
    window = formatting.span(since.astimezone(zone), until.astimezone(zone))
    farthest = "" if window == day else f"farthest {day}, with "
    return f"{what} {verb}, {window}: {farthest}{there} {against}{moved}."


def _hours(examination: Examination, incident: Incident, events: int) -> str:
    """The few hours that hold nearly all of a spike of days, in words; empty where there are none."""
    lead, (since, until) = incident.lead, incident.span
    if lead.step != "day" or lead.lasts or not lead.rises or until - since > _MAX_HOURS_SPAN:
        return ""
    counts = _series(examination, incident, "count", "hour", since, until)
    sums = [sum(int(point.value) for point in points) for points in zip(*(each.points for each in counts), strict=True)]
    first, last = _shortest(sums, events * _NEARLY_ALL)
    if not counts or last - first > _MAX_HOURS:
        return ""
    points, zone = counts[0].points, examination.period.zone
    return formatting.span(points[first].start.astimezone(zone), points[last - 1].end.astimezone(zone))


def _shortest(sums: Iterable[int], least: Decimal) -> tuple[int, int]:
    """The shortest run that sums to at least so much, as a half-open range; the first of equals."""
    values = list(sums)
    best, first, held = (0, len(values)), 0, 0
    for last, value in enumerate(values, 1):
        held += value
        while held - values[first] >= least and first < last - 1:
            held -= values[first]
            first += 1
        if held >= least and last - first < best[1] - best[0]:
            best = first, last
    return best


def _about(value: float) -> str:
    """An estimate: four digits that count, written plainly."""
    return plain(Decimal(format(value, ".4g")))
