"""A whole day with its planted incidents, and what there is to say about them.

Every `CYCLE` days each kind happens once, on a working day fixed by the calendar; whom it hits is drawn. So
any seven weeks hold them all, and a day stays a pure function of (seed, day).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import numpy as np

from usage_explore.demo import business
from usage_explore.demo.customers import customers
from usage_explore.demo.draws import Draws
from usage_explore.demo.events import EVENTS_PER_DAY, HOUR, day_start, ordinary_day
from usage_explore.demo.kinds import KINDS, MAIN, SILENT, Plan
from usage_explore.demo.rows import Rows

CYCLE = 42

MAX_LATENESS = timedelta(days=6)
"""No row of a day arrives later than this after the day's end, and no incident of it ends later."""

_CHOICE = 1001


@dataclass(frozen=True, kw_only=True)
class Incident:
    """A planted incident as far as it has arrived.

    `customer_id` or `metric_key` is None where it concerns many; `starts` and `ends` bound the `timestamp` of
    the events concerned, half-open; `events` counts them (0 for a silence); `day` is the day it belongs to.
    """

    kind: str
    day: date
    organization_id: UUID
    customer_id: UUID | None
    metric_key: str | None
    starts: datetime
    ends: datetime
    events: int
    sentence: str


def whole_day(seed: int, day: date, tenant: int, per_day: int = EVENTS_PER_DAY) -> Rows:
    """All events of organization `tenant` that belong to `day`, incidents included, in the order they arrive.

    None arrives before the day begins; all have arrived by `complete_at(day)`.
    """
    rows = ordinary_day(seed, day, tenant, per_day)
    if tenant == MAIN:
        for plan in plans(seed, day):
            rows = plan.kind.change(rows, plan, day, per_day)
    return rows[np.lexsort((rows["id"][:, 1], rows["id"][:, 0], rows["ingested_at"]))]


def complete_at(day: date) -> datetime:
    """The instant by which every row of the day has arrived."""
    return datetime.combine(day, time(), UTC) + timedelta(days=1) + MAX_LATENESS


def plans(seed: int, day: date) -> Iterator[Plan]:
    """The incidents that happen on the day, those included that began on an earlier one."""
    for kind in KINDS:
        cycle, since = divmod(day.toordinal() - kind.offset, CYCLE)
        if since >= kind.days:
            continue
        first = day - timedelta(days=since)
        draws = Draws(seed, cycle, _CHOICE, kind.number)
        customer = metric = None
        if kind.ranks:
            low, high = kind.ranks
            customer = low - 1 + int(draws.below(high - low + 1, 1)[0])
        if kind.metrics:
            name = kind.metrics[int(draws.below(len(kind.metrics), 1)[0])]
            metric = next(at for at, each in enumerate(business.METRICS) if each.key == name)
        start = day_start(first)
        yield Plan(
            kind=kind,
            seed=seed,
            day=first,
            customer=customer,
            metric=metric,
            starts=start + kind.starts * HOUR,
            ends=start + kind.ends * HOUR,
        )


def planted(seed: int, day: date, arrived: Rows, until: datetime) -> list[Incident]:
    """The incidents that belong to the day, as far as the `arrived` rows of the main organization show them.

    A silence is reported once it is over, any other incident with its first event.
    """
    found = []
    for plan in plans(seed, day):
        marked = int((arrived["incident"] == plan.kind.number).sum())
        if plan.day != day or not (marked or (plan.kind.name == SILENT and _instant(plan.ends) <= until)):
            continue
        who = customers(MAIN)
        customer = None if plan.customer is None else UUID(who.ids[plan.customer])
        metric = None if plan.metric is None else business.METRICS[plan.metric].key
        found.append(
            Incident(
                kind=plan.kind.name,
                day=day,
                organization_id=UUID(who.organization_id),
                customer_id=customer,
                metric_key=metric,
                starts=_instant(plan.starts),
                ends=_instant(plan.ends),
                events=marked,
                sentence=plan.kind.sentence.format(customer=customer, metric=metric),
            )
        )
    return found


def _instant(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
