"""Incidents planted in the demo's events, for the checks to find.

Every `CYCLE_DAYS` days each kind happens once, on a working day fixed by the calendar; the customer or metric is drawn.
Any seven weeks have all kinds, and a day is a pure function of (seed, day).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import numpy as np
import numpy.typing as npt

from usage_explore.demo import business
from usage_explore.demo.business import Draws, customers
from usage_explore.demo.events import ABSENT, DAY, EVENTS_PER_DAY, HOUR, Rows, day_start, events, ordinary_day

CYCLE_DAYS = 42
"""Days in which every kind of incident happens once."""

MAX_LATENESS = timedelta(days=6)
"""Time after a day's end by which all its events have arrived and its incidents have ended."""

_CHOICE = 1001
"""Key of the random stream that chooses customers and metrics."""

MAIN = 0
"""Index in `TENANTS` of the organization that has incidents."""

SILENT = "silent_customer"

_COPIES, _RUNAWAY, _FUTURE = 1002, 1, 2
"""Keys of random streams."""

_DAYS_LATE, _DAYS_AHEAD, _COST_FACTOR = 4, 3, 100


@dataclass(frozen=True, kw_only=True)
class IncidentPlan:
    """One incident to plant: its customer or metric (indexes) and its half-open time in microseconds since 1970."""

    kind: IncidentKind
    seed: int
    day: date
    customer: int | None
    metric: int | None
    starts: int
    ends: int

    def concerns(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which events are of this customer or metric and occur within the incident."""
        concerned = (rows["timestamp"] >= self.starts) & (rows["timestamp"] < self.ends)
        if self.customer is not None:
            concerned &= rows["customer"] == self.customer
        if self.metric is not None:
            concerned &= rows["metric"] == self.metric
        return np.asarray(concerned)


@dataclass(frozen=True, kw_only=True)
class IncidentKind:
    """A kind of incident.

    `offset` is its first day in the cycle, `days` their number; `starts` and `ends` are hours from the start of the
    first. `ranks` are the first and last rank of the customers it may concern (1 is the largest), `metrics` the
    metrics. `change(rows, plan, day, per_day)` gives the events of a day with the incident.
    """

    name: str
    offset: int
    starts: int
    ends: int
    change: Callable[[Rows, IncidentPlan, date, int], Rows]
    sentence: str
    days: int = 1
    ranks: tuple[int, int] | None = None
    metrics: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """The kind's number in the column `incident` of its events, from 1."""
        return KINDS.index(self) + 1


def _extra(plan: IncidentPlan, day: date, count: int, stream: int) -> Rows:
    """More events of the plan's customer, a day of them pressed into the incident; none of those read by the clock."""
    who = np.full(count, plan.customer, dtype=np.int64)
    drawn = events(plan.seed, day, MAIN, who, stream)
    rows: Rows = drawn[np.array([metric.keyed for metric in business.METRICS])[drawn["metric"]]]
    lag = rows["ingested_at"] - rows["timestamp"]
    rows["timestamp"] = plan.starts + (rows["timestamp"] - day_start(day)) // (DAY // (plan.ends - plan.starts))
    rows["ingested_at"] = rows["timestamp"] + lag
    rows["incident"] = plan.kind.number
    return rows


def _runaway(rows: Rows, plan: IncidentPlan, day: date, per_day: int) -> Rows:
    extra = _extra(plan, day, per_day * 3 // 10, _RUNAWAY)
    extra["api_key"] = 0
    return np.concatenate((rows, extra))


def _silent(rows: Rows, plan: IncidentPlan, day: date, per_day: int) -> Rows:
    return rows[~plan.concerns(rows)]


def _duplicated(rows: Rows, plan: IncidentPlan, day: date, per_day: int) -> Rows:
    copies = rows[plan.concerns(rows)]
    draws = Draws(plan.seed, day.toordinal(), _COPIES)
    copies["id"][:, 0] ^= draws.words(len(copies)) & np.uint64(0xFFFF_FFFF_FFFF_0FFF)
    copies["ingested_at"] += 90_000_000 + draws.below(30_000_000, len(copies))
    copies["incident"] = plan.kind.number
    return np.concatenate((rows, copies))


def _backfilled(rows: Rows, plan: IncidentPlan, day: date, per_day: int) -> Rows:
    late = plan.concerns(rows)
    arrival = day_start(day) + _DAYS_LATE * DAY + 2 * HOUR
    rows["ingested_at"][late] = arrival + (rows["timestamp"][late] - plan.starts) // 60
    rows["incident"][late] = plan.kind.number
    return rows


def _mispriced(rows: Rows, plan: IncidentPlan, day: date, per_day: int) -> Rows:
    wrong = plan.concerns(rows) & (rows["currency"] != ABSENT)
    rows["cost"][wrong] *= _COST_FACTOR
    rows["incident"][wrong] = plan.kind.number
    return rows


def _future(rows: Rows, plan: IncidentPlan, day: date, per_day: int) -> Rows:
    extra = _extra(plan, day, max(per_day // 60, 12), _FUTURE)
    extra["ingested_at"] = extra["timestamp"] - _DAYS_AHEAD * DAY + 2_000_000
    return np.concatenate((rows, extra))


KINDS = (
    IncidentKind(
        name="runaway_customer",
        offset=3,
        starts=9,
        ends=15,
        ranks=(25, 59),
        change=_runaway,
        sentence="Customer {customer} sends many times its usual volume for six hours, all with one API key.",
    ),
    IncidentKind(
        name=SILENT,
        offset=9,
        days=4,
        starts=0,
        ends=96,
        ranks=(3, 12),
        change=_silent,
        sentence="Customer {customer}, busy every day, sends nothing at all for four days.",
    ),
    IncidentKind(
        name="duplicated_batch",
        offset=18,
        starts=8,
        ends=20,
        ranks=(1, 4),
        change=_duplicated,
        sentence="A batch of customer {customer} is sent twice: the same idempotency keys under other ids,"
        " about two minutes later.",
    ),
    IncidentKind(
        name="late_backfill",
        offset=23,
        starts=6,
        ends=20,
        ranks=(2, 8),
        change=_backfilled,
        sentence=f"Usage of customer {{customer}} is held back and arrives {_DAYS_LATE} days late, all at once.",
    ),
    IncidentKind(
        name="mispriced_cost",
        offset=31,
        starts=8,
        ends=20,
        metrics=("tokens_out", "images", "audio_seconds"),
        change=_mispriced,
        sentence=f"The external cost of {{metric}} is {_COST_FACTOR} times too high for twelve hours.",
    ),
    IncidentKind(
        name="future_batch",
        offset=38,
        starts=24 * _DAYS_AHEAD + 11,
        ends=24 * _DAYS_AHEAD + 12,
        ranks=(10, 40),
        change=_future,
        sentence=f"Customer {{customer}} sends a batch from a clock {_DAYS_AHEAD} days ahead:"
        " its events occur after they arrived.",
    ),
)
"""The kinds of incidents, in the order of the cycle."""


@dataclass(frozen=True, kw_only=True)
class Incident:
    """A planted incident, of which events have arrived.

    `customer_id` or `metric_key` is None where it concerns many; `starts` and `ends` are the half-open bounds of its
    events' `timestamp`; `events` is their number so far (0 for a silence); `day` is its first day in UTC.
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


def plans(seed: int, day: date) -> Iterator[IncidentPlan]:
    """The incidents that happen on the day, those included that began on an earlier one."""
    for kind in KINDS:
        cycle, since = divmod(day.toordinal() - kind.offset, CYCLE_DAYS)
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
            metric = next(at for at, definition in enumerate(business.METRICS) if definition.key == name)
        start = day_start(first)
        yield IncidentPlan(
            kind=kind,
            seed=seed,
            day=first,
            customer=customer,
            metric=metric,
            starts=start + kind.starts * HOUR,
            ends=start + kind.ends * HOUR,
        )


def planted(seed: int, day: date, arrived: Rows, until: datetime) -> list[Incident]:
    """The incidents that begin on the day and have events among those `arrived` in the main organization.

    A silence, which has no events, is reported once it is over.
    """
    incidents = []
    for plan in plans(seed, day):
        marked = int((arrived["incident"] == plan.kind.number).sum())
        if plan.day != day or not (marked or (plan.kind.name == SILENT and _instant(plan.ends) <= until)):
            continue
        who = customers(MAIN)
        customer = None if plan.customer is None else UUID(who.ids[plan.customer])
        metric = None if plan.metric is None else business.METRICS[plan.metric].key
        incidents.append(
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
    return incidents


def _instant(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
