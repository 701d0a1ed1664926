"""Incidents: deviations of one customer, or of all together, to one side at one time, with their severity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from uuid import UUID

from usage_explore.validation.anomalies.deviations import (
    HIGH_DROP_REST,
    HIGH_DROP_SHARE,
    HIGH_SPIKE_RATIO,
    HIGH_SPIKE_SHARE,
    MIN_METRIC_SHARE,
    MIN_OWN_SHARE,
    REGULAR,
    Deviation,
    beside,
)
from usage_explore.validation.anomalies.series import Step
from usage_explore.validation.check import SEVERITIES, Examination, Severity
from usage_explore.validation.checks.quiet import Quiet
from usage_explore.validation.periods import part

_MAX_GAP: dict[Step, timedelta] = {"day": timedelta(0), "hour": timedelta(hours=2)}
_MAX_LEVEL_GAP = timedelta(days=2)

_GRAVITY = {severity: place for place, severity in enumerate(SEVERITIES)}


@dataclass(frozen=True, slots=True)
class Incident:
    """Deviations of one customer, or of all together, to one side at one time.

    `lead` is the one that makes the largest `share` of what its metric came to in the period.
    """

    lead: Deviation
    deviations: tuple[Deviation, ...]
    share: Decimal
    severity: Severity

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that deviate."""
        return tuple(sorted({deviation.metric_key for deviation in self.deviations}))

    @property
    def span(self) -> tuple[datetime, datetime]:
        """From the first to the last instant of the deviations in the lead's steps."""
        shown = [deviation for deviation in self.deviations if deviation.step == self.lead.step]
        return min(deviation.since for deviation in shown), max(deviation.until for deviation in shown)


def incidents(
    examination: Examination, candidates: Iterable[Deviation], silences: Callable[[], Iterable[Quiet]]
) -> list[Incident]:
    """The incidents, the gravest first and within a severity the largest share.

    `silences`, called if there are drops, are times that another check reports: drops in them are left out.
    """
    worth = [deviation for deviation in candidates if deviation.part >= MIN_OWN_SHARE()]
    remaining = _without_silences(_without_repeats(_without_echoes(worth)), silences)
    made = [_incident(examination, group) for group in _groups(remaining)]
    return sorted(
        made,
        key=lambda incident: (
            _GRAVITY[incident.severity],
            -incident.share,
            incident.span,
            str(incident.lead.customer_id or ""),
        ),
    )


def _without_echoes(candidates: list[Deviation]) -> list[Deviation]:
    """The deviations without spikes and drops in the time of a new level of the same series, to the same side."""
    levels = [deviation for deviation in candidates if deviation.lasts]

    def is_echo(deviation: Deviation) -> bool:
        return not deviation.lasts and any(
            (level.customer_id, level.metric_key) == (deviation.customer_id, deviation.metric_key)
            and beside(level, deviation)
            for level in levels
        )

    return [deviation for deviation in candidates if not is_echo(deviation)]


def _incident(examination: Examination, group: tuple[Deviation, ...]) -> Incident:
    weighed = [(_share(examination, deviation), deviation) for deviation in group]
    share, lead = max(weighed, key=lambda pair: (pair[0], pair[1].step, pair[1].metric_key))
    severity = min((_severity(deviation, part) for part, deviation in weighed), key=_GRAVITY.__getitem__)
    return Incident(lead, group, share, severity)


def _share(examination: Examination, deviation: Deviation) -> Decimal:
    """The difference in the period as a share of the metric's usage there."""
    events, quantity = examination.totals.metrics.get(deviation.metric_key, (0, Decimal(0)))
    return part(Decimal(deviation.in_period), quantity if deviation.measure == "sum_quantity" else events)


def _severity(deviation: Deviation, share: Decimal) -> Severity:
    if share < MIN_METRIC_SHARE():
        return "low"
    if not deviation.lasts and not deviation.is_sparse_sum:
        grave_rise = (
            deviation.part >= HIGH_SPIKE_SHARE()
            and deviation.value >= HIGH_SPIKE_RATIO() * deviation.expected
            and deviation.used >= REGULAR()
        )
        grave_drop = deviation.part >= HIGH_DROP_SHARE() and deviation.value <= HIGH_DROP_REST() * deviation.expected
        if grave_rise if deviation.rises else grave_drop:
            return "high"
    return "medium"


def _without_repeats(candidates: list[Deviation]) -> list[Deviation]:
    """The deviations without those that another one reports.

    A metric's deviation over all customers is left out if one customer makes half of it. Else it is reported, and the
    customers with the same deviation, by no more than twice its part, are left out.
    """
    kept = [deviation for deviation in candidates if deviation.customer_id is not None]
    for whole in (deviation for deviation in candidates if deviation.customer_id is None):
        along = [deviation for deviation in kept if _alike(deviation, whole) and _near(deviation, whole)]
        if any(abs(deviation.excess) >= abs(whole.excess) / 2 for deviation in along):
            continue
        repeated = {id(deviation) for deviation in along if deviation.change <= 2 * whole.change}
        kept = [*(deviation for deviation in kept if id(deviation) not in repeated), whole]
    return kept


def _without_silences(candidates: list[Deviation], silences: Callable[[], Iterable[Quiet]]) -> list[Deviation]:
    """The deviations without drops of which at least half the time lies in a silence of their customer, or of all."""
    if not any(deviation.shape == "drop" for deviation in candidates):
        return candidates
    quiet: dict[UUID | None, list[Quiet]] = {}
    for silence in silences():
        quiet.setdefault(silence.customer_id, []).append(silence)

    def is_silent(drop: Deviation) -> bool:
        whose = drop.customer_id, drop.metric_key, drop.since, drop.until
        return any(one.has_most_of(*whose) for owner in {None, drop.customer_id} for one in quiet.get(owner, ()))

    return [deviation for deviation in candidates if deviation.shape != "drop" or not is_silent(deviation)]


def _alike(one: Deviation, other: Deviation) -> bool:
    return (one.metric_key, one.measure, one.rises, one.lasts) == (
        other.metric_key,
        other.measure,
        other.rises,
        other.lasts,
    )


def _near(one: Deviation, other: Deviation) -> bool:
    """Whether they are at one time: new levels that begin together, others that overlap or touch, hours nearly."""
    if one.lasts:
        return abs(one.since - other.since) <= _MAX_LEVEL_GAP
    apart = min(_MAX_GAP[one.step], _MAX_GAP[other.step])
    return one.since <= other.until + apart and other.since <= one.until + apart


def _groups(candidates: Iterable[Deviation]) -> Iterator[tuple[Deviation, ...]]:
    """The same customer, to the same side, at the same time."""

    def who(deviation: Deviation) -> tuple[str, bool, bool]:
        return str(deviation.customer_id or ""), deviation.rises, deviation.lasts

    for _, mine in groupby(sorted(candidates, key=lambda deviation: (*who(deviation), deviation.since)), key=who):
        joined: list[list[Deviation]] = []
        for deviation in mine:
            near = [group for group in joined if any(_near(deviation, other) for other in group)]
            apart = [group for group in joined if group not in near]
            joined = [*apart, [deviation, *(one for group in near for one in group)]]
        yield from map(tuple, joined)
