"""Shifts: spikes, drops and new levels of a customer's usage, against a seasonal baseline with a band.

Series are by day for every customer and metric, and for each metric over all customers; by hour if there is enough
usage, since a few hours disappear in the sum of a busy day. Bands are estimates of the detector; actual usage is exact.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import Select, Table

from usage_explore.detector.breaks import HISTORY_DAYS, LONG_SILENCE_WEEKS, MIN_SILENCE_DAYS, REGULAR_DAY_SHARE
from usage_explore.detector.scoring import HALF_BAND_DEVIATIONS, SEASONS_LEARNED
from usage_explore.formatting import counted, duration, listed, percent
from usage_explore.query import buckets, validators
from usage_explore.query.queries import AggregateQuery, Period
from usage_explore.validation.anomalies import series
from usage_explore.validation.anomalies.deviations import (
    MIN_CHANGE,
    MIN_EVENTS,
    MIN_HOURLY_EVENTS,
    MIN_QUANTITY_EVENTS,
    Deviation,
    deviations,
    hourly,
    with_sums,
)
from usage_explore.validation.anomalies.findings import NAME, finding
from usage_explore.validation.anomalies.incidents import (
    HIGH_DROP_REST,
    HIGH_DROP_SHARE,
    HIGH_SPIKE_RATIO,
    HIGH_SPIKE_SHARE,
    MIN_METRIC_SHARE,
    MIN_OWN_SHARE,
    REGULAR,
    incidents,
)
from usage_explore.validation.anomalies.series import HISTORY, Block, Grid
from usage_explore.validation.check import Check, Examination, Outcome
from usage_explore.validation.finding import limited

MAX_INCIDENTS = 60
"""Incidents that are findings of their own, the gravest; the note counts the others."""

MAX_HOURLY_CUSTOMERS = 20
"""Customers whose series are judged by the hour, those with the most events."""

MIN_CUSTOMER_EVENTS = 240
"""Events a day, on average, of a customer whose series are judged by the hour, at least."""


def statement(table: Table, period: Period) -> Select[Any]:
    """The daily series of every customer and metric, see `series.statement`."""
    since, until = period.span
    edges = buckets.edges(max(since - HISTORY, validators.EARLIEST), until, "day", period.zone, series.MAX_STEPS)
    given = period.shared_with(AggregateQuery)
    query = AggregateQuery(
        **{**given, "since": edges[0], "until": edges[-1], "metric": "sum_quantity", "group_by": "customer_id"}
    )
    return series.statement(table, query, edges)


def examine(examination: Examination) -> Outcome:
    """The incidents of the period."""
    found, looked_at, sparse = _deviations(examination)
    found_incidents = incidents(examination, found)
    findings = []
    shown, smaller = limited(
        found_incidents,
        "incidents",
        lambda rest: f"of {listed({incident.lead.metric_key for incident in rest})}",
        MAX_INCIDENTS,
    )
    for number, incident in enumerate(shown):
        findings.append(finding(examination, incident))
        examination.progress(0.8 + 0.2 * number / MAX_INCIDENTS)
    notes = (smaller, sparse)
    return Outcome(
        findings=tuple(findings),
        looked_at=looked_at,
        note="; ".join(filter(None, notes)),
        is_partial=bool(sparse),
    )


def _deviations(examination: Examination) -> tuple[list[Deviation], int, str]:
    """Every deviation in the period, how many series were judged, and a note on those with too few events."""
    days, hours = series.grid(examination, "day"), series.grid(examination, "hour")
    if days is None or hours is None:
        return [], 0, ""
    found: list[Deviation] = []
    events: dict[UUID, float] = {}
    first = _first(days, examination)
    used = enough = dense = 0
    whole: Block | None = None
    for block in with_sums(series.blocks(examination, days, "customer_id"), days):
        in_period = np.nansum(block.values["count"][:, first:], axis=1) > 0
        counts = np.nansum(block.values["count"], axis=1)[in_period]
        used += len(counts)
        enough += int(np.count_nonzero(counts >= MIN_EVENTS))
        dense += int(np.count_nonzero(counts >= MIN_QUANTITY_EVENTS * np.count_nonzero(~days.unknown)))
        found += deviations(block, days, first)
        whole = block
        for customer, number in zip(block.customers, np.nansum(block.values["count"], axis=1).tolist(), strict=True):
            if customer is not None:
                events[customer] = events.get(customer, 0) + number
    examination.progress(0.5)
    least = MIN_CUSTOMER_EVENTS * int(np.count_nonzero(~days.unknown))
    large = sorted((one for one in events if events[one] >= max(least, 1)), key=lambda one: (-events[one], one))
    first = _first(hours, examination)
    if large:
        for block in series.blocks(examination, hours, "customer_id", large[:MAX_HOURLY_CUSTOMERS]):
            found += deviations(block, hours, first)
    if whole is not None:
        for block in series.blocks(examination, hours, "none"):
            found += deviations(hourly(block, hours, whole, days), hours, first)
    examination.progress(0.8)
    sparse = (
        f"of {counted(used, 'series', 'series')} {used - enough:,} with fewer than {MIN_EVENTS} events were not"
        f" judged, and of {enough - dense:,} with fewer than {MIN_QUANTITY_EVENTS} events a day only the number of"
        " events was"
    )
    return found, enough, sparse if dense < used else ""


def _first(grid: Grid, examination: Examination) -> int:
    """The first column in the period."""
    since = examination.period.span[0]
    return next((at for at, end in enumerate(grid.ends) if end is not None and end > since), len(grid.ends))


CHECK = Check(
    name=NAME,
    title="Spikes, drops and new levels",
    means="Usage that leaves its usual band is billed like any other: a runaway client is billed in full, a metering "
    "outage not at all.",
    parameters={
        "baseline": f"the median of up to {SEASONS_LEARNED} same weekdays, or hours of the week, before and after, "
        f"read from {duration(HISTORY)} before the period on",
        "band": f"{HALF_BAND_DEVIATIONS:g} robust deviations to either side of it",
        "complete": "days and hours that were not over, or were cut by the period, are neither judged nor learnt from",
        "silent": f"nothing is learnt from {MIN_SILENCE_DAYS} days or more without usage where there was usage on"
        f" {REGULAR_DAY_SHARE:.0%} of the {HISTORY_DAYS} days before, nor from the time before the first usage; a"
        f" silence of {LONG_SILENCE_WEEKS} weeks or more is left to the check of silences",
        "reported": f"differences of at least {MIN_CHANGE:.0%} of what was expected, of {MIN_EVENTS} events, and of "
        f"{MIN_OWN_SHARE:.0%} of the customer's usage of the metric in the period",
        "quantity": f"judged from {MIN_QUANTITY_EVENTS} events a day, or hour, on average, and where the number of"
        f" events left its band; that is judged from {MIN_EVENTS} events in all",
        "hours": f"for all customers together, and for the {MAX_HOURLY_CUSTOMERS} largest customers of at least"
        f" {MIN_CUSTOMER_EVENTS} events a day, in metrics of at least {MIN_HOURLY_EVENTS} events an hour",
        "new levels": "days only; usage that begins or ends altogether is left to the check of silences",
        "high": f"a spike of {HIGH_SPIKE_RATIO:g} times the expected or more that adds {HIGH_SPIKE_SHARE:.0%} to the"
        f" customer's usage of the metric in the period, or a drop to {HIGH_DROP_REST:.0%} or less that takes"
        f" {HIGH_DROP_SHARE:.0%} of it, if it is at least {percent(MIN_METRIC_SHARE)} of the metric's usage by all"
        f" customers; a spike only of usage on at least {REGULAR:.0%} of the other days",
        "medium": f"another incident of at least {percent(MIN_METRIC_SHARE)} of the metric's usage by all customers",
    },
    unit="series",
    statement=statement,
    examine=examine,
)
