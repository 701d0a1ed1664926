"""Stored events that a file which replaces supersedes: by sums that it ends, by what it lacks, and by their loads."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg import sql

from usage_explore.db.ddl import Connection
from usage_explore.errors import LoadError
from usage_explore.formatting import counted, data_value, in_sentence, zoned
from usage_explore.load.loaded_again import MIN_EVIDENCE

_TOTALS = """
SELECT organization_id, customer_id, metric_key, sum(quantity) FROM {stage}
GROUP BY organization_id, customer_id, metric_key
"""

_DAYS = """
SELECT s.customer_id, s.metric_key, date_trunc('day'::text, s.timestamp, %(zone)s::text) AS day, {source}
FROM {stage} s GROUP BY s.customer_id, s.metric_key, day, {source}
"""

_DAY_SUMS = """
SELECT organization_id, customer_id, metric_key, date_trunc('day'::text, timestamp, %(zone)s::text), sum(quantity)
FROM {stage} GROUP BY 1, 2, 3, 4
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
"""Loads, or metrics, that a sentence names."""

_Series = tuple[UUID, UUID | None, str]
"""An organization, a customer and a metric."""


class Event(NamedTuple):
    """A stored event that is superseded, of an organization and source, and whether the file has one `ALIKE`."""

    source: tuple[Any, ...]
    timestamp: datetime
    ingested_at: datetime
    customer_id: UUID | None
    metric_key: str
    quantity: Decimal | None
    is_alike: bool


def withdrawn(connection: Connection, stage: sql.Identifier, events: Iterable[Event]) -> Iterator[str]:
    """The warning of customers' metrics whose superseded events have more than 0 in all, and the file 0 or less.

    Raises `LoadError` where the file has more than 0 of no more customers' metrics: it is one of credits.
    """
    before: dict[_Series, Decimal] = defaultdict(Decimal)
    for event in events:
        before[event.source[0], event.customer_id, event.metric_key] += event.quantity or 0
    totals = {tuple(series): total for *series, total in connection.execute(sql.SQL(_TOTALS).format(stage=stage))}
    ended = [series for series, total in before.items() if total > 0 and series in totals and totals[series] <= 0]
    if not ended:
        return
    series = min(ended, key=lambda each: totals[each])
    words = (
        f"the file has 0 or less in all of {counted(len(ended), 'metric')} of customers, such as"
        f" {in_sentence(totals[series])} of {data_value(series[2])} in place of {in_sentence(before[series])}"
    )
    if len(ended) >= sum(total > 0 for total in totals.values()):
        raise LoadError(
            f"replace: {words}, and would delete the usage; nothing was loaded. Credits and corrections count beside"
            " the events that they correct: load the file without --replace"
        )
    yield f"warning: {words}, which its superseded events had: are they credits beside the usage?"


def absent(
    connection: Connection, stage: sql.Identifier, source: sql.Composable, events: Iterable[Event], zone: ZoneInfo
) -> Iterator[str]:
    """The warning of superseded events of metrics, customers and days of which the file has nothing.

    `source` is SQL for the source of a staged row. Days are those of the zone, in the months that the file has of the
    source: of loads in another zone the events are those of the file's months, at other times. Of fewer than
    `MIN_EVIDENCE` events of a metric, of a metric of a customer, or of a metric on such days it is silent.
    """
    of_file: set[tuple[Any, ...]] = set()
    statement = sql.SQL(_DAYS).format(stage=stage, source=source)
    for customer, metric, start, *columns in connection.execute(statement, {"zone": zone.key}):
        day = start.astimezone(zone).date()
        own = tuple(columns)
        of_file |= {(own, metric), (own, metric, customer), (own, metric, day), (own, day.replace(day=1))}
    found: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
    for event in events:
        own, metric = event.source, event.metric_key
        if (own, metric) not in of_file:
            found["", metric].append(event)
        elif (own, metric, event.customer_id) not in of_file:
            found["customer", metric, own, event.customer_id].append(event)
        else:
            day = event.timestamp.astimezone(zone).date()
            if (own, metric, day) not in of_file and (own, day.replace(day=1)) in of_file:
                found["day", metric].append(event)
    by_metric: dict[tuple[str, str], list[list[Event]]] = defaultdict(list)
    for (kind, metric, *_), each in found.items():
        if len(each) >= MIN_EVIDENCE:
            by_metric[kind, metric].append(each)
    parts = [(sum(map(len, each)), _absent_words(*of, each, zone)) for of, each in by_metric.items()]
    parts.sort(key=lambda part: (-part[0], part[1]))
    if parts:
        listed = "; of ".join(words for _, words in parts[:_MAX_LISTED])
        others = sum(events for events, _ in parts[_MAX_LISTED:])
        yield (
            f"warning: the file has nothing in place of superseded events of {listed}"
            f"{f'; and of {others:,} more' if others else ''}. If it neither withdraws nor renames them, it is a part"
            " of the export: load one that has all metrics, customers and days of the source with --replace;"
            " --replace-by metric_key beside the other columns keeps other metrics"
        )


def _absent_words(kind: str, metric: str, groups: Sequence[Sequence[Event]], zone: ZoneInfo) -> str:
    """What the file lacks: "storage (31 events, quantity 1,937,483)", "calls on 2 days from … to … (…)"."""
    events = [event for group in groups for event in group]
    of = ""
    if kind == "customer":
        of = f" of {counted(len({event.customer_id for event in events}), 'customer')}"
    elif kind:
        days: set[date] = {event.timestamp.astimezone(zone).date() for event in events}
        of = f" on {counted(len(days), 'day')} from {min(days)} to {max(days)}"
    quantity = in_sentence(sum((event.quantity or Decimal(0) for event in events), Decimal(0)))
    return f"{data_value(metric)}{of} ({counted(len(events), 'event')}, quantity {quantity})"


class Loads(NamedTuple):
    """By arrival: how many events were superseded, and to how many of these the file has nothing alike.

    It has events that are `ALIKE`, or the same sum of the customer's metric on a day: by the day instead of the hour.
    """

    events: Mapping[datetime, int]
    unlike: Mapping[datetime, int]

    @classmethod
    def of(cls, connection: Connection, stage: sql.Identifier, events: Sequence[Event], zone: ZoneInfo) -> Loads:
        """The loads of these events; days are those of the zone."""
        statement = sql.SQL(_DAY_SUMS).format(stage=stage)
        rows = connection.execute(statement, {"zone": zone.key}) if events else ()
        staged = {(*series, start.astimezone(zone).date()): total for *series, start, total in rows}
        of_day: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
        for event in events:
            day = event.timestamp.astimezone(zone).date()
            of_day[event.source[0], event.customer_id, event.metric_key, day].append(event)
        unlike: Counter[datetime] = Counter()
        for key, each in of_day.items():
            if staged.get(key) != sum((event.quantity or Decimal(0) for event in each), Decimal(0)):
                unlike.update(event.ingested_at for event in each if not event.is_alike)
        return cls(Counter(event.ingested_at for event in events), unlike)

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
