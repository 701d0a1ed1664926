"""Times without events, of customers and of their metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Silence:
    """A customer's, or its usage of a metric's: `last` event before, first event `back` (None: none yet), up to `end`.

    In `days` days before, `active` had events, together `usual`. `missing` events would have come within the period.
    """

    customer_id: UUID
    metric_key: str | None
    last: datetime
    back: datetime | None
    end: datetime
    days: int
    active: int
    usual: int
    missing: Decimal
    longest: timedelta = timedelta(0)
    """The longest pause in those days."""

    @property
    def length(self) -> timedelta:
        """How long it lasts, or has lasted."""
        return self.end - self.last


class Quiet(NamedTuple):
    """A time without events, of all customers or metrics if None: between the last event before and the first after."""

    customer_id: UUID | None
    metric_key: str | None
    since: datetime
    until: datetime

    def has_most_of(self, customer_id: UUID | None, metric_key: str, since: datetime, until: datetime) -> bool:
        """Whether at least half of a time of a customer's metric lies in it; customer None: of all customers."""
        if self.customer_id not in (None, customer_id) or self.metric_key not in (None, metric_key):
            return False
        return 2 * (min(self.until, until) - max(self.since, since)) >= until - since
