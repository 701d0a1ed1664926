"""The events of a period that arrived after its `as_of`, and what to do to have them counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, func, select

from usage_explore.decimals import rfc3339
from usage_explore.formatting import counted, duration, zoned
from usage_explore.query import validators
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexamined:
    """Events of the period that arrived after its `as_of`.

    `latest` is the last `ingested_at` of them. `settled_at` is the time from which a validation or a rating includes
    them all without an `as_of` of its own; None where it was made as of a given time.
    """

    events: int
    latest: datetime
    settled_at: datetime | None

    def to_dict(self) -> dict[str, Any]:
        """The number and the times as JSON carries them."""
        return {
            "events": self.events,
            "latest_ingested_at": rfc3339(self.latest),
            "settled_at": rfc3339(self.settled_at) if self.settled_at else None,
        }

    def has_settled(self, now: datetime) -> bool:
        """Whether a new validation or rating without an `as_of` includes them all."""
        return self.settled_at is not None and self.settled_at < now

    def sentence(self, period: Period, now: datetime, done: str = "examined", option: str = "as_of=") -> str:
        """How many they are, and how to have them `done` with, "examined" or "rated".

        `period` has the `as_of`. `option` is the parameter as the reader writes it, such as `--as-of `; "" where
        none can be given, as on the page.
        """
        zone, as_of = period.zone, period.as_of or now
        events = f"{counted(self.events, 'event')} of the period"
        are = "is" if self.events == 1 else "are"
        if self.settled_at is None:
            return f"{events} arrived after {zoned(as_of, zone)} and {are} not {done}."
        if self.latest > now:
            return (
                f"{events} arrived after {zoned(as_of, zone)} or {are} dated to arrive later, until"
                f" {zoned(self.latest, zone)}, and {are} not {done};"
                f" correct ingested_at where it lies in the future."
            )
        given = f" or pass {option}{rfc3339(self.latest)}" if option else ""
        return (
            f"{events} arrived in the last {duration(self.settled_at - self.latest)} and {are} not {done}; wait until"
            f" {zoned(self.settled_at.replace(microsecond=0) + _SECOND, zone)}{given}."
        )


def unexamined(connection: Connection, table: Table, period: Period, settle: timedelta | None) -> Unexamined | None:
    """What arrived after the resolved period's `as_of`, None for nothing. `settle` is None where `as_of` was given."""
    if period.as_of is None:
        return None
    c = table.c
    statement = select(func.count(), func.max(c.ingested_at)).where(
        *conditions(table, period.replace(as_of=None)), c.ingested_at > period.as_of, c.ingested_at < validators.LATEST
    )
    events, latest = connection.execute(statement).one()
    settled_at = latest + settle if events and settle is not None else None
    return Unexamined(events=events, latest=latest, settled_at=settled_at) if events else None
