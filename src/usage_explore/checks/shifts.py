"""Check: spikes, drops and new levels of a customer's usage, against a seasonal baseline with a band.

By days for every customer and metric, and for each metric over all customers; by hours where there is enough usage,
since a few hours disappear in the sum of a busy day. Bands are the detector's and estimates; what there was is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import Select, Table

from usage_explore import buckets, parse
from usage_explore.answers import Series
from usage_explore.checks import series
from usage_explore.checks.check import Check, Examination, Outcome
from usage_explore.checks.finding import Finding
from usage_explore.checks.incidents import (
    FLOOR,
    GRAVE_DROP,
    GRAVE_FACTOR,
    GRAVE_REST,
    GRAVE_RISE,
    WORTH,
    Incident,
    incidents,
)
from usage_explore.checks.moves import LEAST_CHANGE, LEAST_EVENTS, LEAST_HOURLY, LEAST_SUMMED, Move, moves, together
from usage_explore.checks.phrases import counted, duration, listed, named, percent
from usage_explore.checks.series import HISTORY, Grid
from usage_explore.describe import span_words
from usage_explore.detector import Settings
from usage_explore.errors import NotExact
from usage_explore.numbers import Number, exact_sum, plain, rfc3339
from usage_explore.query import AggregateQuery, Metric, Period

NAME = "shifts"

MOST = 60
"""Incidents that are findings of their own, the gravest; the note counts the others."""

HOURLY = 20
"""Customers that are looked at by the hour, those with the most events."""

HOURLY_EVENTS = 240
"""Events a day, on average, that such a customer has at least."""

_CONTEXT = {"day": timedelta(days=28), "hour": timedelta(days=4)}
_MEASURED: dict[Metric, str] = {"count": "events", "sum_quantity": "quantity"}
_NAMED_HOURS = timedelta(days=3)
_MOST_OF_IT = Decimal("0.95")
_LONGEST_KEY = 1_000
_WEEK = timedelta(days=7)


def statement(table: Table, period: Period) -> Select[Any]:
    """The daily series of every customer and metric, see `series.statement`."""
    since, until = period.span
    edges = buckets.edges(max(since - HISTORY, parse.EARLIEST), until, "day", period.zone, series.MOST_STEPS)
    given = {name: value for name, value in period.given().items() if name in AggregateQuery.model_fields}
    asked = AggregateQuery(
        **{**given, "since": edges[0], "until": edges[-1], "metric": "sum_quantity", "group_by": "customer_id"}
    )
    return series.statement(table, asked, edges)


def examine(examination: Examination) -> Outcome:
    """The incidents of the period."""
    found, looked_at = _moves(examination)
    told = incidents(examination, found)
    findings = []
    for number, incident in enumerate(told[:MOST]):
        findings.append(_finding(examination, incident))
        examination.progress(0.8 + 0.2 * number / MOST)
    left = told[MOST:]
    note = f"{counted(len(left), 'smaller incident')} more of {listed({one.lead.metric_key for one in left})}"
    return Outcome(findings=tuple(findings), looked_at=looked_at, note=note if left else "")


def _moves(examination: Examination) -> tuple[list[Move], int]:
    """Every movement in the period, and how many series were looked at."""
    days, hours = series.grid(examination, "day"), series.grid(examination, "hour")
    if days is None or hours is None:
        return [], 0
    found: list[Move] = []
    events: dict[UUID, float] = {}
    looked_at, first = 0, _first(days, examination)
    for block in together(series.blocks(examination, days, "customer_id")):
        looked_at += len(block.metrics)
        found += moves(block, days, first)
        for customer, number in zip(block.customers, np.nansum(block.values["count"], axis=1).tolist(), strict=True):
            if customer is not None:
                events[customer] = events.get(customer, 0) + number
    examination.progress(0.5)
    least = HOURLY_EVENTS * int(np.count_nonzero(~days.unknown))
    large = sorted((one for one in events if events[one] >= max(least, 1)), key=lambda one: (-events[one], one))
    first = _first(hours, examination)
    if large:
        for block in series.blocks(examination, hours, "customer_id", large[:HOURLY]):
            found += moves(block, hours, first)
    for block in series.blocks(examination, hours, "none"):
        found += moves(block, hours, first)
    examination.progress(0.8)
    return found, looked_at


def _first(grid: Grid, examination: Examination) -> int:
    """The first column in the period."""
    since = examination.period.span[0]
    return next((at for at, end in enumerate(grid.ends) if end is not None and end > since), len(grid.ends))


@dataclass(frozen=True, slots=True)
class _Exact:
    """What there was in an incident.

    `actual` in the lead's farthest bucket (None where it holds quantities that are no numbers; of a new level the
    middle one of its first week), `events` and `quantity` (None where metrics differ) in all of it.
    """

    actual: Number | None
    events: int
    quantity: Decimal | None


def _finding(examination: Examination, incident: Incident) -> Finding:
    lead, (since, until) = incident.lead, incident.span
    exact = _exact(examination, incident)
    facts = {
        "metric": named(lead.metric_key),
        "measure": _MEASURED[lead.measure],
        "actual": "not a number" if exact.actual is None else plain(exact.actual),
        "expected": _about(lead.expected),
        "low": _about(lead.low),
        "high": _about(lead.high),
        "bucket": rfc3339(lead.bucket),
        "step": lead.step,
        "reason": lead.reason,
    }
    if len(incident.metrics) > 1:
        facts["metrics"] = ", ".join(map(named, incident.metrics))
    sentence = _sentence(examination, incident, exact)
    if hours := _hours(examination, incident, exact.events):
        facts["hours"] = hours
        sentence = f"{sentence[:-1]}; nearly all of it {hours}."
    return Finding(
        check=NAME,
        severity=incident.severity,
        sentence=sentence,
        since=since,
        until=until,
        events=exact.events,
        question=_question(examination, incident),
        quantity=exact.quantity,
        share=incident.share,
        customer_id=lead.customer_id,
        metric_key=lead.metric_key if len(incident.metrics) == 1 else None,
        facts=tuple(facts.items()),
    )


def _exact(examination: Examination, incident: Incident) -> _Exact:
    lead, (since, until) = incident.lead, incident.span
    counts = _series(examination, incident, "count", lead.step, since, until)
    events = exact_sum((each.total for each in counts), 0)
    try:
        quantities = _series(examination, incident, "sum_quantity", lead.step, since, until)
    except NotExact:
        quantities = []
    quantity = Decimal(quantities[0].total) if quantities and len(incident.metrics) == 1 else None
    if not counts:
        return _Exact(0, 0, Decimal(0) if len(incident.metrics) == 1 else None)
    asked = counts if lead.measure == "count" else quantities
    points = [point for each in asked if each.key == lead.metric_key for point in each.points]
    if lead.lasts:
        week = [point.value for point in points if lead.since <= point.start < lead.since + _WEEK]
        actual: Number | None = sorted(week)[(len(week) - 1) // 2] if week else None
    else:
        actual = next((point.value for point in points if point.start == lead.bucket), None if asked == [] else 0)
    return _Exact(actual, int(events), quantity)


def _series(
    examination: Examination, incident: Incident, metric: Metric, step: str, since: datetime, until: datetime
) -> list[Series]:
    """The incident's metrics in the window, exact."""
    found, _ = examination.paths.aggregate(
        examination.aggregate_question(
            since=since,
            until=until,
            bucket=step,
            metric=metric,
            group_by="metric_key",
            top=0,
            **_whose(incident),
        )
    )
    return [each for each in found if each.key in incident.metrics]


def _whose(incident: Incident) -> dict[str, Any]:
    return {} if incident.lead.customer_id is None else {"customer_id": incident.lead.customer_id}


def _question(examination: Examination, incident: Incident) -> AggregateQuery:
    """The lead's metric around the incident, in its steps."""
    lead, (since, until) = incident.lead, incident.span
    around = _CONTEXT[lead.step]
    grouped = not 0 < len(lead.metric_key) <= _LONGEST_KEY  # a key that no filter can name
    return examination.aggregate_question(
        since=max(since - around, parse.EARLIEST),
        until=max(min(until + around, examination.closed_until), until),
        bucket=lead.step,
        metric=lead.measure,
        **{"group_by": "metric_key"} if grouped else {"metric_key": [lead.metric_key]},
        **_whose(incident),
    )


def _sentence(examination: Examination, incident: Incident, exact: _Exact) -> str:
    lead, (since, until) = incident.lead, incident.span
    zone = examination.period.zone
    others = [metric for metric in incident.metrics if metric != lead.metric_key]
    moved = f"; {listed(others)} moved with it" if others else ""
    who = f"customer {lead.customer_id}" if lead.customer_id else "all customers together"
    if exact.actual is None:
        there = "a quantity that is no number"
    elif lead.measure == "count":
        there = counted(int(exact.actual), "event")
    else:
        there = f"a quantity of {plain(exact.actual)}"
    band = f"a band from {_about(lead.low)} to {_about(lead.high)}"
    against = f"against about {_about(lead.expected)} expected, in {band}"
    day = span_words(lead.bucket.astimezone(zone), (lead.bucket + timedelta(hours=1)).astimezone(zone))
    if lead.step == "day":
        end = buckets.following(lead.bucket, "day", zone)
        day = span_words(lead.bucket.astimezone(zone), end.astimezone(zone))
    what = f"{named(lead.metric_key)} of {who}"
    if lead.lasts:
        verb = "rose" if lead.rises else "fell"
        return f"{what} {verb} to a new level on {day}: {there} a day {against}{moved}."
    verb = "spiked" if lead.rises else "dropped"
    window = span_words(since.astimezone(zone), until.astimezone(zone))
    farthest = "" if window == day else f"farthest {day}, with "
    return f"{what} {verb}, {window}: {farthest}{there} {against}{moved}."


def _hours(examination: Examination, incident: Incident, events: int) -> str:
    """The few hours that hold nearly all of a spike of days, in words; empty where there are none."""
    lead, (since, until) = incident.lead, incident.span
    if lead.step != "day" or lead.lasts or not lead.rises or until - since > _NAMED_HOURS:
        return ""
    counts = _series(examination, incident, "count", "hour", since, until)
    sums = [sum(int(point.value) for point in points) for points in zip(*(each.points for each in counts), strict=True)]
    first, last = _shortest(sums, events * _MOST_OF_IT)
    if not counts or last - first > 12:
        return ""
    points, zone = counts[0].points, examination.period.zone
    return span_words(points[first].start.astimezone(zone), points[last - 1].end.astimezone(zone))


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


_SETTINGS = Settings()

CHECK = Check(
    name=NAME,
    title="Spikes, drops and new levels",
    means="Usage that leaves its usual band is billed like any other: a runaway client is billed in full, a metering "
    "outage not at all.",
    parameters={
        "baseline": f"the median of up to {_SETTINGS.seasons} same weekdays, or hours of the week, before and after, "
        f"read from {duration(HISTORY)} before the period on",
        "band": f"{_SETTINGS.width:g} robust deviations to either side of it",
        "complete": "days and hours that were not over, or were cut by the period, are neither judged nor learnt from",
        "told": f"differences of at least {LEAST_CHANGE:.0%} of what was expected, of {LEAST_EVENTS} events, and of "
        f"{WORTH:.0%} of the customer's usage of the metric in the period",
        "quantity": f"judged from {LEAST_SUMMED} events a day, or hour, on average, and where the number of events "
        f"left its band; that is judged from {LEAST_EVENTS} events in all",
        "hours": f"for all customers together, and for the {HOURLY} largest customers of at least {HOURLY_EVENTS} "
        f"events a day, in metrics of at least {LEAST_HOURLY} events an hour",
        "new levels": "days only; usage that begins or ends altogether is left to the check of silences",
        "high": f"a spike of {GRAVE_FACTOR:g} times the expected or more that adds {GRAVE_RISE:.0%} to the customer's "
        f"usage of the metric in the period, or a drop to {GRAVE_REST:.0%} or less that takes {GRAVE_DROP:.0%} of it, "
        f"if it is at least {percent(FLOOR)} of the metric's usage by all customers",
        "medium": f"another incident of at least {percent(FLOOR)} of the metric's usage by all customers",
    },
    unit="series",
    statement=statement,
    examine=examine,
)
