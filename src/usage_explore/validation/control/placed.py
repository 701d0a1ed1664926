"""Control totals by their day and subject, and which of them cannot be compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from usage_explore.decimals import difference, plain, total
from usage_explore.query import buckets
from usage_explore.query.queries import Period
from usage_explore.validation.control.totals import ControlLine
from usage_explore.validation.periods import INSTANT, day_edges
from usage_explore.validation.reconciliation.invoices import decimals_of, last_decimal


class Subject(NamedTuple):
    """What a total is of: None for all customers, all metrics; a cost has a currency."""

    metric_key: str | None
    customer_id: UUID | None
    currency: str | None

    @property
    def grain(self) -> tuple[bool, bool, bool]:
        """Whether it is of one metric, of one customer, and of one currency."""
        return self.metric_key is not None, self.customer_id is not None, self.currency is not None


@dataclass(slots=True)
class Amounts:
    """Sums of lines or usage; None for what the lines leave blank."""

    events: int | None = None
    quantity: Decimal | None = None
    cost: Decimal | None = None

    def add(self, events: int | None, quantity: Decimal | None, cost: Decimal | None) -> None:
        """Add what is not None."""
        self.events = self.events if events is None else (self.events or 0) + events
        self.quantity = self.quantity if quantity is None else total((self.quantity or Decimal(0), quantity))
        self.cost = self.cost if cost is None else total((self.cost or Decimal(0), cost))


@dataclass(slots=True)
class Control(Amounts):
    """The lines of one day and subject.

    `rounding` is the sum of one unit of the last decimal of their costs, a cent or finer; `decimals` are the most that
    one is written with: 0 for 72, 2 for 72.00; `is_whole` that no cost of the file in their currency has decimals.
    """

    lines: int = 0
    rounding: Decimal = Decimal(0)
    decimals: int = 0
    is_whole: bool = False

    def is_cost_of(self, used: Decimal) -> bool:
        """Whether the cost of usage is that of the lines, as they are rounded.

        72 may be 71.67, which was rounded; it is not 71, which would have been written so. 0 is nothing, but among
        costs in whole units.
        """
        off = Decimal(difference(self.cost or Decimal(0), used)).copy_abs()
        was_rounded = (self.is_whole or bool(self.cost)) and decimals_of(Decimal(plain(used))) > self.decimals
        return off <= self.rounding or (was_rounded and off < Decimal(self.lines).scaleb(-self.decimals))


@dataclass(slots=True)
class Placed:
    """The lines by day and subject; the numbers of lines of other days, of days that are not wholly examined (partly
    outside the period, or not over), and of those whose span is not within one day of the zone.
    """

    controls: dict[tuple[date, Subject], Control] = field(default_factory=dict)
    days: set[date] = field(default_factory=set)
    outside: int = 0
    partial: dict[date, int] = field(default_factory=dict)
    unplaceable: int = 0


def place(lines: Iterable[ControlLine], period: Period, since: datetime, closed_until: datetime) -> Placed:
    """The lines that can be compared, by day and subject, and the others counted.

    A day is compared if all of it lies in the resolved period, it begins at `since` or later, and is over at
    `closed_until`.
    """
    edges, zone = day_edges(period), period.zone
    touched = {buckets.local_date(start, zone): (start, end) for start, end in pairwise(edges)}
    placed = Placed()
    placed.days = {day for day, (start, end) in touched.items() if start >= since and end <= closed_until}
    for line in lines:
        day = day_of(line, zone)
        if day is None:
            placed.unplaceable += 1
        elif day not in touched:
            placed.outside += 1
        elif day not in placed.days:
            placed.partial[day] = placed.partial.get(day, 0) + 1
        else:
            _add(placed.controls, day, line)
    decimals: dict[str | None, set[int]] = {}
    for (_, subject), control in placed.controls.items():
        if control.cost:
            decimals.setdefault(subject.currency, set()).add(control.decimals)
    for (_, subject), control in placed.controls.items():
        control.is_whole = control.cost is not None and decimals.get(subject.currency) == {0}
    return placed


def day_of(line: ControlLine, zone: ZoneInfo) -> date | None:
    """The local day of a line; None for several days, and for a time that is no local midnight and has no end."""
    start, until = line.day, line.until
    if not isinstance(start, datetime):
        is_one = until is None or until in (start, start + timedelta(days=1))
        return start if is_one else None
    day = buckets.local_date(start, zone)
    if isinstance(until, datetime):
        return day if buckets.local_date(until - INSTANT, zone) == day else None
    return day if buckets.day_start(day, zone) == start else None


def _add(controls: dict[tuple[date, Subject], Control], day: date, line: ControlLine) -> None:
    if line.events is not None or line.quantity is not None:
        usage = controls.setdefault((day, Subject(line.metric_key, line.customer_id, None)), Control())
        usage.add(line.events, line.quantity, None)
        usage.lines += 1
    if line.cost is not None and line.currency is not None:
        cost = controls.setdefault((day, Subject(line.metric_key, line.customer_id, line.currency)), Control())
        cost.add(None, None, line.cost)
        cost.rounding = total((cost.rounding, last_decimal(line.cost, line.currency)))
        cost.decimals = max(cost.decimals, decimals_of(line.cost))
        cost.lines += 1
