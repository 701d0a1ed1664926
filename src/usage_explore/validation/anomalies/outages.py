"""Outages and drops: a time without any customer's events is reported as an outage, or as a part of a drop, once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from usage_explore.validation.anomalies import zero_days
from usage_explore.validation.anomalies.deviations import MIN_OWN_SHARE, Deviation
from usage_explore.validation.anomalies.lost_hours import MIN_LOST_EVENTS
from usage_explore.validation.anomalies.zero_days import ZeroDays

_MOST, _MAX_OUTAGES = 0.5, 2


def each_once(deviating: list[Deviation], zero: list[ZeroDays]) -> tuple[list[Deviation], list[ZeroDays]]:
    """The deviations and times without events, each time once, the most events first.

    Times without any customer's events are reported where one or two are most of a drop, and the drop where they are
    not: while usage is low there are hours without events by chance. A customer's days without events are reported
    where no drop is.
    """
    low = [one for one in deviating if not one.rises and one.part >= MIN_OWN_SHARE()]
    of_all = [times for times in zero if times.customer_id is None]
    lasting = [
        one
        for one in low
        if _share_without_events(one, of_all) < _MOST
        or sum(times.overlaps(*one.span) for times in of_all) > _MAX_OUTAGES
    ]
    whole = [times for times in of_all if not _is_chance(times, lasting)]
    kept = [one for one in deviating if one.shape != "drop" or _share_without_events(one, whole) < _MOST]
    drops = [one for one in kept if one.shape == "drop" and one.part >= MIN_OWN_SHARE()]
    remaining = whole + [
        times
        for times in zero
        if times.customer_id is not None
        and not any(
            drop.customer_id in (None, times.customer_id) and times.overlaps(drop.since, drop.until) for drop in drops
        )
    ]
    return kept, sorted(remaining, key=lambda times: (-times.usual, str(times.customer_id), times.since))


def _share_without_events(drop: Deviation, zero: Iterable[ZeroDays]) -> float:
    """The part of a drop that usually comes in the times without events that it has in common with them."""
    is_hourly = drop.step == "hour"
    step = timedelta(hours=1) if is_hourly else timedelta(days=1)
    parts = (_common(times, drop) / step * (1.0 if is_hourly else times.density) for times in zero)
    return sum(parts) * drop.expected / abs(drop.excess)


def _is_chance(times: ZeroDays, low: Iterable[Deviation]) -> bool:
    """Whether too few events would have come in the times without any customer's, as much as usage was low in them."""
    missing: dict[UUID | None, dict[str, float]] = {}
    for one in low:
        if one.measure == "count":
            own = missing.setdefault(one.customer_id, {})
            number = _common(times, one) / (one.until - one.since) * -one.excess
            own[one.metric_key] = max(number, own.get(one.metric_key, 0.0))
    together = sum(missing.pop(None, {}).values())
    single = sum(number for own in missing.values() for number in own.values())
    return times.usual - max(together, single) < (MIN_LOST_EVENTS() if times.hours else zero_days.min_usual_events())


def _common(times: ZeroDays, deviation: Deviation) -> timedelta:
    return max(min(times.until, deviation.until) - max(times.since, deviation.since), timedelta(0))
