"""What moved together, and how grave: a customer's metrics that leave their bands at one time are one incident."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby

from usage_explore.validation.anomalies.deviations import Move
from usage_explore.validation.anomalies.series import Step
from usage_explore.validation.check import Examination
from usage_explore.validation.finding import SEVERITIES, Severity
from usage_explore.validation.totals import part

GRAVE_RISE, GRAVE_FACTOR = 0.2, 3.0
"""A spike is high that adds at least this part to the series' usage in the period, and is so many times the usual."""

GRAVE_DROP, GRAVE_REST = 0.1, 0.2
"""A drop is high that takes at least this part from the series' usage in the period, and leaves so little."""

REGULAR = 0.2
"""The part of the other days or hours in which the series was used, for a spike to be high: others come in bursts."""

WORTH = 0.01
"""The part of a series' usage in the period from which an incident is told."""

FLOOR = Decimal("0.001")
"""The part of what a metric came to in the period, over all customers, below which an incident is low."""

_APART: dict[Step, timedelta] = {"day": timedelta(0), "hour": timedelta(hours=2)}
_SAME_START = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Incident:
    """Movements of one customer, or of all together, to one side at one time.

    `lead` is the one that makes the largest `share` of what its metric came to in the period.
    """

    lead: Move
    moves: tuple[Move, ...]
    share: Decimal
    severity: Severity

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that moved."""
        return tuple(sorted({move.metric_key for move in self.moves}))

    @property
    def span(self) -> tuple[datetime, datetime]:
        """From the first to the last instant of the movements that are told in the lead's steps."""
        told = [move for move in self.moves if move.step == self.lead.step]
        return min(move.since for move in told), max(move.until for move in told)


def incidents(examination: Examination, found: Iterable[Move]) -> list[Incident]:
    """What moved together, the gravest first and within a severity the largest share."""
    worth = [move for move in found if move.part >= WORTH]
    made = [_incident(examination, group) for group in _groups(_without_echoes(worth))]
    return sorted(
        made, key=lambda each: (_GRAVITY[each.severity], -each.share, each.span, str(each.lead.customer_id or ""))
    )


_GRAVITY = {severity: place for place, severity in enumerate(SEVERITIES)}


def _incident(examination: Examination, group: tuple[Move, ...]) -> Incident:
    weighed = [(_share(examination, move), move) for move in group]
    share, lead = max(weighed, key=lambda each: (each[0], each[1].step, each[1].metric_key))
    severity = min((_severity(move, part) for part, move in weighed), key=_GRAVITY.__getitem__)
    return Incident(lead, group, share, severity)


def _share(examination: Examination, move: Move) -> Decimal:
    """By how much it differs, as a part of what the metric came to in the period."""
    events, quantity = examination.totals.metrics.get(move.metric_key, (0, Decimal(0)))
    return part(Decimal(move.excess), quantity if move.measure == "sum_quantity" else events)


def _severity(move: Move, share: Decimal) -> Severity:
    if share < FLOOR:
        return "low"
    if not move.lasts:
        grave_rise = move.part >= GRAVE_RISE and move.value >= GRAVE_FACTOR * move.expected and move.used >= REGULAR
        grave_drop = move.part >= GRAVE_DROP and move.value <= GRAVE_REST * move.expected
        if grave_rise if move.rises else grave_drop:
            return "high"
    return "medium"


def _without_echoes(found: list[Move]) -> list[Move]:
    """The movements without those that another one tells.

    A metric's movement over all customers is left out where one customer makes half of it. Else it is told, and the
    customers that only moved along, by no more than twice its part, are left out.
    """
    kept = [move for move in found if move.customer_id is not None]
    for whole in (move for move in found if move.customer_id is None):
        along = [move for move in kept if _alike(move, whole) and _near(move, whole)]
        if any(abs(move.excess) >= abs(whole.excess) / 2 for move in along):
            continue
        told = {id(move) for move in along if move.change <= 2 * whole.change}
        kept = [*(move for move in kept if id(move) not in told), whole]
    return kept


def _alike(one: Move, other: Move) -> bool:
    return (one.metric_key, one.measure, one.rises, one.lasts) == (
        other.metric_key,
        other.measure,
        other.rises,
        other.lasts,
    )


def _near(one: Move, other: Move) -> bool:
    """Whether they are at one time: new levels that begin together, others that overlap or touch, hours nearly."""
    if one.lasts:
        return abs(one.since - other.since) <= _SAME_START
    apart = min(_APART[one.step], _APART[other.step])
    return one.since <= other.until + apart and other.since <= one.until + apart


def _groups(found: Iterable[Move]) -> Iterator[tuple[Move, ...]]:
    """The same customer, to the same side, at the same time."""

    def who(move: Move) -> tuple[str, bool, bool]:
        return str(move.customer_id or ""), move.rises, move.lasts

    for _, mine in groupby(sorted(found, key=lambda move: (*who(move), move.since)), key=who):
        joined: list[list[Move]] = []
        for move in mine:
            near = [group for group in joined if any(_near(move, other) for other in group)]
            apart = [group for group in joined if group not in near]
            joined = [*apart, [move, *(one for group in near for one in group)]]
        yield from map(tuple, joined)
