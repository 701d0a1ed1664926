"""What `usage-explore init` was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """None is not asked: a new table gets the default, an existing one keeps what it has.

    `events_per_day` is the volume that the chunk interval is made to fit; `columnstore_after` is how old events are
    when they move to TimescaleDB's columnstore, zero for never; `migrate` makes a hypertable of a plain table that
    holds rows; `distribute` spreads the table over Citus's workers.
    """

    events_per_day: int | None = None
    columnstore_after: timedelta | None = None
    migrate: bool = False
    distribute: bool = False


NONE_ASKED = Wishes()
"""What `load`, `demo` and the app make a table with."""
