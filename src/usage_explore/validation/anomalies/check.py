"""Shifts: spikes, drops and new levels of a customer's usage, against a seasonal baseline with a band.

Series are by day for every customer and metric, and for each metric over all customers; by hour if there is enough
usage, since a few hours disappear in the sum of a busy day. Bands are estimates of the detector; actual usage is exact:
a finding has the exact numbers of its incident beside the band, the hours that it came in, and the query that shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import Select, Table

from usage_explore import formatting
from usage_explore.decimals import Number, exact_sum, plain, rfc3339, total
from usage_explore.detector.breaks import (
    HISTORY_DAYS,
    LONG_SILENCE_WEEKS,
    MIN_LEVEL_SCORE,
    MIN_SILENCE_DAYS,
    REGULAR_DAY_SHARE,
)
from usage_explore.detector.scoring import HALF_BAND_DEVIATIONS, SEASONS_LEARNED
from usage_explore.errors import NotExact
from usage_explore.formatting import counted, data_value, duration, exact, listed, percent
from usage_explore.query import buckets, validators
from usage_explore.query.buckets import Bucket
from usage_explore.query.queries import AggregateQuery, Metric, Period
from usage_explore.results.types import Series
from usage_explore.sql import filters
from usage_explore.validation.anomalies import bursts, dominance, levels, series, zero_days
from usage_explore.validation.anomalies.bursts import without_usual_bursts
from usage_explore.validation.anomalies.cut_days import of_the_period
from usage_explore.validation.anomalies.deviations import BOUNDS as DEVIATION_BOUNDS
from usage_explore.validation.anomalies.deviations import (
    HIGH_DROP_REST,
    HIGH_DROP_SHARE,
    HIGH_SPIKE_RATIO,
    HIGH_SPIKE_SHARE,
    MIN_CHANGE,
    MIN_EVENTS,
    MIN_HOURLY_EVENTS,
    MIN_METRIC_SHARE,
    MIN_OWN_SHARE,
    MIN_QUANTITY_EVENTS,
    REGULAR,
    SHORT_DAYS,
    Deviation,
    days_of_use,
    deviations,
    hourly,
    with_sums,
)
from usage_explore.validation.anomalies.dominance import UsualUsage, attributed
from usage_explore.validation.anomalies.incidents import Incident, incidents
from usage_explore.validation.anomalies.levels import level_changes, with_passing_levels, without_returns
from usage_explore.validation.anomalies.lost_hours import BOUNDS as LOST_HOURS_BOUNDS
from usage_explore.validation.anomalies.lost_hours import lost_hours
from usage_explore.validation.anomalies.outages import each_once
from usage_explore.validation.anomalies.series import HISTORY, Block, Grid, Step, exact_series
from usage_explore.validation.anomalies.zero_days import ZeroDays
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Check, Examination, Finding, Outcome, limited
from usage_explore.validation.checks import silence
from usage_explore.validation.usage_sums import metric_filter

NAME = "shifts"

BOUNDS = CheckBounds(NAME)

# fmt: off
MAX_INCIDENTS = BOUNDS.add("max_incidents", 60, "findings", 1, 10000,
    "Incidents that are findings of their own, the gravest; the note counts the others.")

MAX_HOURLY_CUSTOMERS = BOUNDS.add("max_hourly_customers", 20, "customers", 0, 1000,
    "Customers whose series are judged by the hour, those with the most events.")

MIN_CUSTOMER_EVENTS = BOUNDS.add("min_customer_events", 240, "events", 0, 1000000,
    "Events a day, on average, of a customer whose series are judged by the hour, at least.")
# fmt: on

_CHART_MARGIN: dict[Step, int] = {"day": 28, "hour": 4}
"""Days that a chart shows before and after, by its steps."""

_MEASURED: dict[Metric, str] = {"count": "events", "sum_quantity": "quantity"}
_NEARLY_ALL = Decimal("0.95")
_MAX_HOURS_SPAN, _MAX_HOURS = timedelta(days=3), 12
_OF_BAND = {
    (False, False): "",
    (False, True): " for the mean of these days",
    (True, False): " for the median of a week",
    (True, True): " for the mean of all days since",
}
"""What a band is of, by whether a deviation lasts, and is of means."""

_WEEK = timedelta(days=7)


def statement(table: Table, period: Period) -> Select[Any]:
    """The daily series of every customer and metric, see `series.statement`."""
    since, until = period.span
    edges = buckets.edges(max(since - HISTORY(), validators.EARLIEST), until, "day", period.zone, series.MAX_STEPS)
    given = period.shared_with(AggregateQuery)
    query = AggregateQuery(
        **{**given, "since": edges[0], "until": edges[-1], "metric": "sum_quantity", "group_by": "customer_id"}
    )
    return series.statement(table, query, edges)


def examine(examination: Examination) -> Outcome:
    """The incidents of the period."""
    deviating, zero, looked_at, sparse = _deviations(examination)
    deviating, zero = each_once(deviating, zero)
    days, more = limited(zero, "customers' days without events", lambda rest: f"about {_missing(rest)} events")
    findings = [zero_days.finding(examination, NAME, one) for one in days]
    shown, smaller = limited(
        incidents(examination, deviating, lambda: silence.reported(examination)),
        "incidents",
        lambda rest: f"of {listed({incident.lead.metric_key for incident in rest})}",
        MAX_INCIDENTS(),
    )
    for number, incident in enumerate(shown):
        findings.append(finding(examination, incident))
        examination.progress(0.8 + 0.2 * number / MAX_INCIDENTS())
    if not looked_at and examination.totals.events:
        sparse = sparse or "no series has usage on a whole day of the period that is over"
    notes = (smaller, more, sparse)
    return Outcome(
        findings=tuple(findings),
        looked_at=looked_at,
        note="; ".join(filter(None, notes)),
        is_partial=bool(sparse),
    )


def _is_of_all(days: ZeroDays) -> bool:
    return days.customer_id is None


def _missing(days: Iterable[ZeroDays]) -> str:
    return f"{sum(one.usual for one in days):,.0f}"


def _deviations(examination: Examination) -> tuple[list[Deviation], list[ZeroDays], int, str]:
    """Every deviation and every regular customer's days without events in the period, how many series were judged, and
    a note on those with too few events.
    """
    days, hours = series.grid(examination, "day"), series.grid(examination, "hour")
    if days is None or hours is None:
        return [], [], 0, ""
    result: list[Deviation] = []
    events: dict[UUID, float] = {}
    first = _first(days, examination)
    used = enough = dense = short = 0
    whole: Block | None = None
    usual = UsualUsage()
    counts_by_day: zero_days.Counts = {}
    for block in with_sums(series.blocks(examination, days, "customer_id"), days, first):
        in_period = np.nansum(block.values["count"][:, first:], axis=1) > 0
        counts = np.nansum(block.values["count"], axis=1)[in_period]
        used += len(counts)
        enough += int(np.count_nonzero(counts >= MIN_EVENTS()))
        days_used = days_of_use(block.values["count"])[in_period]
        short += int(np.count_nonzero((counts >= MIN_EVENTS()) & (days_used < SHORT_DAYS)))
        dense += int(np.count_nonzero(counts >= MIN_QUANTITY_EVENTS() * np.count_nonzero(~days.unknown)))
        mine = without_usual_bursts(block, days, first, deviations(block, days, first))
        levels = {(one.customer_id, one.metric_key, one.rises) for one in mine if one.lasts}
        mine += level_changes(block, days, first, levels)
        result += with_passing_levels(block, days, first, mine)
        whole = block
        if None not in block.customers:  # not the sums
            zero_days.add_counts(counts_by_day, block)
            usual.add(block, first)
        for customer, number in zip(block.customers, np.nansum(block.values["count"], axis=1).tolist(), strict=True):
            if customer is not None:
                events[customer] = events.get(customer, 0) + number
    if examination.period.customer_id is not None:
        counts_by_day.pop(None, None)
    zero = zero_days.zero_days(counts_by_day, days, first)
    result = list(of_the_period(examination, days, first, result))
    examination.progress(0.5)
    least = MIN_CUSTOMER_EVENTS() * int(np.count_nonzero(~days.unknown))
    large = sorted((one for one in events if events[one] >= max(least, 1)), key=lambda one: (-events[one], one))
    first = _first(hours, examination)
    if large:
        for block in series.blocks(examination, hours, "customer_id", large[: MAX_HOURLY_CUSTOMERS()]):
            judged = without_usual_bursts(block, hours, first, deviations(block, hours, first))
            result += without_returns(block, hours, judged, result)
    if whole is not None:
        together = list(series.blocks(examination, hours, "none"))
        for block in (hourly(block, hours, whole, days) for block in together):
            judged = without_usual_bursts(block, hours, first, deviations(block, hours, first))
            result += without_returns(block, hours, judged, result)
        if examination.period.customer_id is None:
            gone = lost_hours(together, hours, first, partial(_is_empty, examination))
            zero += [lost for lost in gone if not any(_is_of_all(one) and one.overlaps(*lost.span) for one in zero)]
    result = attributed(examination, result, usual, days, hours)
    examination.progress(0.8)
    return result, zero, enough, _sparse(used, enough, dense, short)


def _is_empty(examination: Examination, since: datetime, until: datetime) -> bool:
    """Whether the period's filters leave no event in a half-open span."""
    query = examination.events_question(occurred_after=since, occurred_before=until)
    return examination.connection.execute(filters.extent(examination.table, query)).one()[0] is None


def _sparse(used: int, enough: int, dense: int, short: int) -> str:
    """The note on series with too few events or days, and on which of their changes are not reported."""
    notes = []
    if enough < used:
        notes.append(
            f"of {counted(used, 'series', 'series')} {used - enough:,} with fewer than {MIN_EVENTS()} events were not"
            " judged"
        )
    if dense < enough:
        notes.append(
            f"of {counted(enough, 'series', 'series')} {enough - dense:,} with fewer than {MIN_QUANTITY_EVENTS()}"
            " events a day only the number of events was judged: neither a change of their quantity alone is reported,"
            f" nor one by fewer than {MIN_EVENTS()} events, but a day without events of a customer with"
            f" {zero_days.min_usual_events()} or more on every other day"
        )
    if short:
        notes.append(
            f"of {counted(enough, 'series', 'series')} {short:,} with usage on fewer than {SHORT_DAYS} days, from the"
            " first to the last, have days without three of the same weekday to judge them by: of these only a rise to"
            f" {HIGH_SPIKE_RATIO():g} times the largest other day is reported"
        )
    return "; ".join(notes)


def _first(grid: Grid, examination: Examination) -> int:
    """The first column in the period."""
    since = examination.period.span[0]
    return next((at for at, end in enumerate(grid.ends) if end is not None and end > since), len(grid.ends))


def finding(examination: Examination, incident: Incident) -> Finding:
    """What there is to say about an incident.

    `facts` holds `actual`, `expected`, `low` and `high` of the `bucket` (its start) that lies farthest out, in steps of
    `step`, of the `measure` (events, quantity) of the `metric`: what the question's chart shows there. Of a new level,
    which begins with that bucket, they are the usual ones after and before. `excess` is by how much all of it differs
    from what was expected, negative for less, without what lies before the period.
    """
    lead, (since, until) = incident.lead, _in_period(examination, incident)
    sums = _sums(examination, incident)
    facts = {
        "metric": data_value(lead.metric_key),
        "measure": _MEASURED[lead.measure],
        "actual": "not a number" if sums.actual is None else plain(sums.actual),
        "expected": _about(lead.expected),
        "low": _about(lead.low),
        "high": _about(lead.high),
        "excess": _about(lead.in_period),
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


def _in_period(examination: Examination, incident: Incident) -> tuple[datetime, datetime]:
    """The incident's span without what lies before the period, which belongs to the one before."""
    since, until = incident.span
    return max(since, examination.period.span[0]), until


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
    since, until = _in_period(examination, incident)
    # by weeks, of which even the longest period has no more than an answer may have
    events = exact_sum((item.number for item in _series(examination, incident, "count", "week", since, until)), 0)
    quantity: Decimal | None = None
    if len(incident.metrics) == 1:
        with suppress(NotExact):
            sums = _series(examination, incident, "sum_quantity", "week", since, until)
            quantity = total(Decimal(item.number) for item in sums)
    return _Sums(_actual(examination, incident), int(events), quantity)


def _actual(examination: Examination, incident: Incident) -> Number | None:
    lead, zone = incident.lead, examination.period.zone
    if lead.is_mean:
        return Decimal(_about(lead.value))
    end = min(lead.bucket + _WEEK, lead.until) if lead.lasts else buckets.following(lead.bucket, lead.step, zone)
    try:
        series_list = _series(examination, incident, lead.measure, lead.step, lead.bucket, end)
    except NotExact:
        return None
    values = sorted(point.number for one in series_list if one.key == lead.metric_key for point in one.points)
    return values[(len(values) - 1) // 2] if values else 0


def _series(
    examination: Examination, incident: Incident, metric: Metric, bucket: Bucket, since: datetime, until: datetime
) -> list[Series]:
    """The incident's metrics in the window, exact."""
    return exact_series(examination, incident.lead.customer_id, incident.metrics, metric, bucket, since, until)


def _whose(incident: Incident) -> dict[str, Any]:
    return {} if incident.lead.customer_id is None else {"customer_id": incident.lead.customer_id}


def _question(examination: Examination, incident: Incident) -> AggregateQuery:
    """The lead's metric around the incident, in its steps."""
    lead, (since, until) = incident.lead, incident.span
    around, zone = _CHART_MARGIN[lead.step], examination.period.zone
    return examination.aggregate_question(
        since=max(buckets.days_before(since, around, zone), validators.EARLIEST),
        until=max(min(buckets.days_before(until, -around, zone), examination.closed_until), until),
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
    elif lead.is_mean:
        there = f"{exact(Decimal(sums.actual))} events"
    elif lead.measure == "count":
        there = counted(int(sums.actual), "event")
    else:
        there = f"a quantity of {exact(Decimal(sums.actual))}"
    low, high, expected = (exact(Decimal(_about(value))) for value in (lead.low, lead.high, lead.expected))
    against = f"against about {expected} expected"
    is_outside = sums.actual is None or not lead.low <= float(sums.actual) <= lead.high
    if is_outside:  # the median of a new level's first week may lie in the band of its days
        against += f", in a band from {low} to {high}" + _OF_BAND[lead.lasts, lead.is_mean]
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
    if lead.is_mean:
        return f"{what} {verb}, {window}: {there} a day {against}{moved}."
    farthest = "" if window == day else f"farthest {day}, with "
    return f"{what} {verb}, {window}: {farthest}{there} {against}{moved}."


def _hours(examination: Examination, incident: Incident, events: int) -> str:
    """The few hours that hold nearly all of a spike of days, in words; empty where there are none."""
    lead, (since, until) = incident.lead, _in_period(examination, incident)
    if lead.step != "day" or lead.lasts or not lead.rises or until - since > _MAX_HOURS_SPAN:
        return ""
    counts = _series(examination, incident, "count", "hour", since, until)
    sums = [sum(int(point.value) for point in points) for points in zip(*(one.points for one in counts), strict=True)]
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


CHECK = Check(
    name=NAME,
    title="Spikes, drops and new levels",
    means="Usage that leaves its usual band is billed like any other: a runaway client is billed in full, a metering "
    "outage not at all.",
    parameters=lambda: {
        "baseline": f"the median of up to {SEASONS_LEARNED} same weekdays, or hours of the week, before and after, "
        f"read from {duration(HISTORY())} before the period on; of three at least, before, after, or both together",
        "short usage": f"of a customer with usage on fewer than {SHORT_DAYS} days, from the first to the last, the days"
        f" without three of the same weekday are judged by all its days: a spike is {HIGH_SPIKE_RATIO():g} times the"
        " largest other day, at least",
        "band": f"{HALF_BAND_DEVIATIONS:g} robust deviations to either side of it",
        "complete": "days and hours that were not over, or were cut by the period, are neither judged nor learnt from",
        "silent": f"nothing is learnt from {MIN_SILENCE_DAYS} days or more without usage where there was usage on"
        f" {REGULAR_DAY_SHARE:.0%} of the {HISTORY_DAYS} days before, nor from the time before the first usage; a"
        f" drop of which half or more lies in what the check of silences reports, or after the end of all data, and any"
        f" silence of {LONG_SILENCE_WEEKS} weeks or more, is left to that check",
        "reported": f"differences of at least {MIN_CHANGE():.0%} of what was expected, of {MIN_EVENTS()} events, and of"
        f" {MIN_OWN_SHARE():.0%} of the customer's usage of the metric in the period",
        "quantity": f"judged from {MIN_QUANTITY_EVENTS()} events a day, or hour, on average, and where the number of"
        f" events left its band; that is judged from {MIN_EVENTS()} events in all",
        "hours": f"for all customers together, and for the {MAX_HOURLY_CUSTOMERS()} largest customers of at least"
        f" {MIN_CUSTOMER_EVENTS()} events a day, in metrics of at least {MIN_HOURLY_EVENTS()} events an hour",
        "days without events": zero_days.parameter(),
        "new levels": f"a week whose median differs by {MIN_LEVEL_SCORE:g} of half the band from that before and after,"
        " or days outside of it; days only; usage that begins or ends altogether is left to the check of silences",
        "high": f"a spike of {HIGH_SPIKE_RATIO():g} times the expected or more that adds {HIGH_SPIKE_SHARE():.0%} to"
        f" the customer's usage of the metric in the period, or a drop to {HIGH_DROP_REST():.0%} or less that takes"
        f" {HIGH_DROP_SHARE():.0%} of it, if it is at least {percent(MIN_METRIC_SHARE())} of the metric's usage by all"
        f" customers; a spike only of usage on at least {REGULAR():.0%} of the other days; of fewer than"
        f" {MIN_QUANTITY_EVENTS()} events a day, or hour, by the number of events alone",
        "medium": f"another incident of at least {percent(MIN_METRIC_SHARE())} of the metric's usage by all customers",
    },
    unit="series",
    bounds=(
        *BOUNDS,
        *series.BOUNDS,
        *DEVIATION_BOUNDS,
        *bursts.BOUNDS,
        *dominance.BOUNDS,
        *levels.BOUNDS,
        *LOST_HOURS_BOUNDS,
        *zero_days.BOUNDS,
    ),
    statement=statement,
    examine=examine,
)
