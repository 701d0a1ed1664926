"""The kinds of incident the demo plants: when, where, what each does to a day's events, and how to say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from usage_explore.demo import business
from usage_explore.demo.draws import Draws
from usage_explore.demo.events import DAY, HOUR, day_start, events
from usage_explore.demo.rows import ABSENT, Rows

MAIN = 0
"""The organization that has incidents: the main one."""

SILENT = "silent_customer"

_COPIES, _RUNAWAY, _FUTURE = 1002, 1, 2
_DAYS_LATE, _DAYS_AHEAD, _COST_FACTOR = 4, 3, 100


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One planted incident: whom it hits and when the events concerned occur (microseconds, half-open)."""

    kind: Kind
    seed: int
    day: date
    customer: int | None
    metric: int | None
    starts: int
    ends: int

    def concerns(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which rows are of this customer or metric and occur within the incident."""
        mine = (rows["timestamp"] >= self.starts) & (rows["timestamp"] < self.ends)
        if self.customer is not None:
            mine &= rows["customer"] == self.customer
        if self.metric is not None:
            mine &= rows["metric"] == self.metric
        return np.asarray(mine)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of incident: when in the cycle, what it does to a day's rows and how to say it.

    `offset` is the day in the cycle and `days` how many days it lasts; `starts` and `ends` are hours from the
    first day's start. `ranks` are the customers it may hit (the largest is 1), `metrics` the metrics, if it
    hits one. `change` is given a day's rows, the plan, the day and the size of an average day.
    """

    name: str
    offset: int
    starts: int
    ends: int
    change: Callable[[Rows, Plan, date, int], Rows]
    sentence: str
    days: int = 1
    ranks: tuple[int, int] | None = None
    metrics: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """What marks this kind's rows in `EVENT.incident`."""
        return KINDS.index(self) + 1


def _extra(plan: Plan, day: date, count: int, stream: int) -> Rows:
    """More events of the plan's customer, a day of them pressed into the incident; none of those read by the clock."""
    who = np.full(count, plan.customer, dtype=np.int64)
    drawn = events(plan.seed, day, MAIN, who, stream)
    rows: Rows = drawn[np.array([metric.keyed for metric in business.METRICS])[drawn["metric"]]]
    lag = rows["ingested_at"] - rows["timestamp"]
    rows["timestamp"] = plan.starts + (rows["timestamp"] - day_start(day)) // (DAY // (plan.ends - plan.starts))
    rows["ingested_at"] = rows["timestamp"] + lag
    rows["incident"] = plan.kind.number
    return rows


def _runaway(rows: Rows, plan: Plan, day: date, per_day: int) -> Rows:
    extra = _extra(plan, day, per_day * 3 // 10, _RUNAWAY)
    extra["api_key"] = 0
    return np.concatenate((rows, extra))


def _silent(rows: Rows, plan: Plan, day: date, per_day: int) -> Rows:
    return rows[~plan.concerns(rows)]


def _duplicated(rows: Rows, plan: Plan, day: date, per_day: int) -> Rows:
    copies = rows[plan.concerns(rows)]
    draws = Draws(plan.seed, day.toordinal(), _COPIES)
    copies["id"][:, 0] ^= draws.words(len(copies)) & np.uint64(0xFFFF_FFFF_FFFF_0FFF)
    copies["ingested_at"] += 90_000_000 + draws.below(30_000_000, len(copies))
    copies["incident"] = plan.kind.number
    return np.concatenate((rows, copies))


def _backfilled(rows: Rows, plan: Plan, day: date, per_day: int) -> Rows:
    late = plan.concerns(rows)
    arrival = day_start(day) + _DAYS_LATE * DAY + 2 * HOUR
    rows["ingested_at"][late] = arrival + (rows["timestamp"][late] - plan.starts) // 60
    rows["incident"][late] = plan.kind.number
    return rows


def _mispriced(rows: Rows, plan: Plan, day: date, per_day: int) -> Rows:
    wrong = plan.concerns(rows) & (rows["currency"] != ABSENT)
    rows["cost"][wrong] *= _COST_FACTOR
    rows["incident"][wrong] = plan.kind.number
    return rows


def _future(rows: Rows, plan: Plan, day: date, per_day: int) -> Rows:
    extra = _extra(plan, day, max(per_day // 60, 12), _FUTURE)
    extra["ingested_at"] = extra["timestamp"] - _DAYS_AHEAD * DAY + 2_000_000
    return np.concatenate((rows, extra))


KINDS = (
    Kind(
        name="runaway_customer",
        offset=3,
        starts=9,
        ends=15,
        ranks=(25, 59),
        change=_runaway,
        sentence="Customer {customer} sends many times its usual volume for six hours, all with one API key.",
    ),
    Kind(
        name=SILENT,
        offset=9,
        days=4,
        starts=0,
        ends=96,
        ranks=(3, 12),
        change=_silent,
        sentence="Customer {customer}, busy every day, sends nothing at all for four days.",
    ),
    Kind(
        name="duplicated_batch",
        offset=18,
        starts=8,
        ends=20,
        ranks=(1, 4),
        change=_duplicated,
        sentence="A batch of customer {customer} is sent twice: the same idempotency keys under other ids,"
        " about two minutes later.",
    ),
    Kind(
        name="late_backfill",
        offset=23,
        starts=6,
        ends=20,
        ranks=(2, 8),
        change=_backfilled,
        sentence=f"Usage of customer {{customer}} is held back and arrives {_DAYS_LATE} days late, all at once.",
    ),
    Kind(
        name="mispriced_cost",
        offset=31,
        starts=8,
        ends=20,
        metrics=("tokens_out", "images", "audio_seconds"),
        change=_mispriced,
        sentence=f"The external cost of {{metric}} is {_COST_FACTOR} times too high for twelve hours.",
    ),
    Kind(
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
"""Every kind of incident, in the order of the cycle."""
