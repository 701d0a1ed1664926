"""Stored events that a file which replaces supersedes: by sums that it turns below 0, and by the loads they came in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg import sql

from usage_explore.db.ddl import Connection
from usage_explore.errors import LoadError
from usage_explore.formatting import counted, data_value, in_sentence, zoned

_TOTALS = """
SELECT organization_id, customer_id, metric_key, sum(quantity) FROM {stage}
GROUP BY organization_id, customer_id, metric_key
"""

_KNOWN_LOADS = """
SELECT DISTINCT t.ingested_at FROM {table} t JOIN pg_temp.usage_explore_known k USING (organization_id, timestamp, id)
WHERE t.timestamp BETWEEN %(first)s AND %(last)s AND t.organization_id = ANY (%(organizations)s)
"""

ALIKE = """
EXISTS (SELECT FROM {stage} o WHERE o.organization_id = t.organization_id AND o.customer_id = t.customer_id
          AND o.metric_key = t.metric_key AND o.timestamp = t.timestamp)
OR EXISTS (SELECT FROM {stage} o WHERE o.organization_id = t.organization_id AND o.customer_id = t.customer_id
             AND o.metric_key = t.metric_key AND o.quantity = t.quantity)
"""
"""SQL for whether the file has the stored event's customer and metric with its time, or with its quantity."""

_MAX_LISTED = 3
"""Loads that a sentence names."""

_Series = tuple[UUID, UUID | None, str]
"""An organization, a customer and a metric."""


class Event(NamedTuple):
    """A stored event that is superseded, and whether the file has one that is `ALIKE`."""

    organization_id: UUID
    ingested_at: datetime
    customer_id: UUID | None
    metric_key: str
    quantity: Decimal | None
    is_alike: bool


def below_zero(connection: Connection, stage: sql.Identifier, events: Iterable[Event]) -> str:
    """The customers' metrics whose superseded events have more than 0 in all, and the file less; "" for none.

    Raises `LoadError` where they are half of those with superseded events above 0: the file is one of credits.
    """
    before: dict[_Series, Decimal] = defaultdict(Decimal)
    for event in events:
        before[event.organization_id, event.customer_id, event.metric_key] += event.quantity or 0
    usual = {series: total for series, total in before.items() if total > 0}
    if not usual:
        return ""
    totals = {tuple(series): total for *series, total in connection.execute(sql.SQL(_TOTALS).format(stage=stage))}
    below = [series for series in usual if (totals.get(series) or 0) < 0]
    if not below:
        return ""
    series = min(below, key=lambda each: totals[each])
    words = (
        f"the file has less than 0 in all of {counted(len(below), 'metric')} of customers, such as"
        f" {in_sentence(totals[series])} of {data_value(series[2])} in place of {in_sentence(usual[series])}"
    )
    if 2 * len(below) >= len(usual):
        raise LoadError(
            f"replace: {words}, and would delete the usage; nothing was loaded. Credits and corrections count beside"
            " the events that they correct: load the file without --replace"
        )
    return words


class Loads(NamedTuple):
    """By arrival: how many events were superseded, and to how many of these the file has none that is `ALIKE`."""

    events: Mapping[datetime, int]
    unlike: Mapping[datetime, int]

    @classmethod
    def of(cls, events: Iterable[Event]) -> Loads:
        """The loads of these events."""
        every = [(event.ingested_at, event.is_alike) for event in events]
        return cls(Counter(load for load, _ in every), Counter(load for load, is_alike in every if not is_alike))

    def words(self) -> str:
        """The loads where there are several: ", of 2 loads: 593 of 2026-12-01 04:20:00 +00:00 and 3 of …"."""
        if len(self.events) < 2:
            return ""
        first = sorted(self.events.items(), key=lambda item: (-item[1], item[0]))
        listed = [
            f"{number:,} of {zoned(load.replace(microsecond=0), ZoneInfo('UTC'))}"
            for load, number in first[:_MAX_LISTED]
        ]
        more = f" and {len(first) - _MAX_LISTED:,} more" if len(first) > _MAX_LISTED else ""
        return f", of {len(first):,} loads: {', '.join(listed)}{more}"

    def warnings(self, connection: Connection, table: sql.Identifier, span: Mapping[str, object]) -> Iterator[str]:
        """The warning of events in loads of which the file has no other event, such as late ones of another file."""
        others = {load for load, number in self.unlike.items() if 2 * number > self.events[load]}
        if not others:
            return
        known = {load for (load,) in connection.execute(sql.SQL(_KNOWN_LOADS).format(table=table), span)}
        others -= known
        if others and (known or len(self.events) > len(others)):
            events = sum(self.events[load] for load in others)
            yield (
                f"warning: {counted(events, 'superseded event')} came in other loads, and the file has none like it"
                " by customer, metric and time or quantity: if they were late events or corrections in a file of their"
                " own, load that one again"
            )
