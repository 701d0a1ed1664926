"""`load --replace`: a restated export replaces the events loaded from an earlier export of the same scope.

A scope is an organization with one value in each of the columns that name source and period, such as
(ProviderName, BillingAccountId, BillingPeriodStart) of a FOCUS export. Columns that name no period are completed by the
calendar month of each event's timestamp, in the time zone of the file's times.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.db.schema import COLUMNS
from usage_explore.extract import changes
from usage_explore.formatting import counted
from usage_explore.load.moved_loads import MAX_APART, moved_loads
from usage_explore.load.other_months import check_edges, doubt_of_months, left_of_months
from usage_explore.load.scopes import (
    PERIOD_COLUMNS,
    Spans,
    months,
    replaced_words,
    scope_value,
    source_texts,
)
from usage_explore.load.superseded_sums import ALIKE, Event, Loads, absent, withdrawn
from usage_explore.sql.identifiers import identifier

STORED_ID = (
    "coalesce({0}.id, md5(concat_ws(' ', {0}.organization_id, extract(epoch FROM {0}.timestamp), {0}.occurrence, "
    "{0}.idempotency_key))::uuid)"
)
"""SQL for the id of a staged row: its own, else a hash of (organization, time, key, occurrence)."""

_MAX_EVENTS_PER_DELETE = 50_000
"""Events that one DELETE statement removes, which bounds the size of its parameters."""

_SUPERSEDED = """
WITH scope AS MATERIALIZED (SELECT DISTINCT s.organization_id, {staged} FROM {stage} s)
SELECT t.organization_id, t.timestamp, t.id, t.ingested_at, t.customer_id, t.metric_key, t.quantity, ({alike}), {scope}
FROM {table} t
JOIN scope ON t.organization_id = scope.organization_id AND {same_scope}
LEFT JOIN {stage} s ON s.organization_id = t.organization_id AND s.timestamp = t.timestamp
     AND {stored_id} = t.id AND {same_content}
WHERE t.organization_id = ANY (%(organizations)s) AND t.timestamp >= %(since)s AND t.timestamp < %(until)s
  AND t.ingested_at >= '1970-01-01Z' AND t.ingested_at < '2200-01-01Z' AND s.line IS NULL
"""

_DELETE = """
DELETE FROM {table} t USING unnest(%s::uuid[], %s::timestamptz[], %s::uuid[]) AS gone (organization_id, timestamp, id)
WHERE t.organization_id = gone.organization_id AND t.timestamp = gone.timestamp AND t.id = gone.id
"""


class Superseded(NamedTuple):
    """How many stored events were deleted, the first and last `ingested_at` of them by organization, and which.

    `kept` is the number of those of the months that are not, as they were loaded in another zone and are of others.
    `doubt` says why the months may be those of another zone than the file's, where no option names that. `loads` are
    those of the deleted events, `slots` their numbers by `changes.slot`; `warnings` name totals that are now 0 or less,
    and what the file has nothing of.
    """

    events: int
    ingested: dict[UUID, tuple[datetime, datetime]]
    words: str
    kept: int
    doubt: str = ""
    loads: Loads = Loads({}, {})
    warnings: tuple[str, ...] = ()
    slots: Mapping[UUID, Mapping[int, int]] = {}

    def notes(self, connection: Connection, table: sql.Identifier, span: Mapping[str, Any]) -> Iterator[str]:
        """The `warnings`, and those of events that came in other loads, and of the kept events."""
        yield from self.warnings
        yield from self.loads.warnings(connection, table, span)
        if self.kept:
            yield (
                f"warning: {counted(self.kept, 'stored event')} of these months, loaded in another time zone, would be"
                " of others in the file's: kept; load those months again with --replace, too"
            )


def supersede(
    connection: Connection,
    events: Table,
    stage: sql.Identifier,
    columns: Sequence[str],
    span: Mapping[str, Any],
    zone: ZoneInfo,
) -> Superseded:
    """Delete the stored events of the staged rows' scopes that equal no staged row; nothing without scope columns.

    Runs in the transaction that loads the file: other sessions see the old events or the new ones. `span` has the
    staged rows' `organizations`, and the `first` and `last` of their times. Of loads that have the file's rows in
    another time zone the times are those of the file. Raises `LoadError` where the file has only
    an edge of a month of which other events of the source would be deleted.
    """
    if not columns:
        return Superseded(0, {}, "", 0)
    values = {f"c{index}": (scope_value("s", column), scope_value("t", column)) for index, column in enumerate(columns)}
    bounds: dict[str, Any] = {"since": "1970-01-01Z", "until": "2200-01-01Z"}  # no query reads events outside
    starts: list[datetime] = []
    spans: Spans = {}
    kept = 0
    if PERIOD_COLUMNS.isdisjoint(columns):
        starts = months(span["first"], span["last"], zone)
        bounds = {"since": starts[0], "until": starts[-1], "months": starts}
        month = _month("t")
        if moved := moved_loads(connection, identifier(events), stage, span, zone):
            bounds["clock"] = [start.astimezone(zone).replace(tzinfo=None) for start in starts]
            moved |= _beside(connection, events, stage, columns, moved, {**span, **bounds})
            month = _moved_month(moved)
            bounds |= {"since": starts[0] - MAX_APART, "until": starts[-1] + MAX_APART, "loads": [*moved]}
        values["month"] = (_month("s"), month)
        spans = _months_of(connection, stage, columns, starts)
        kept = _kept(connection, events, columns, month, spans, {**span, **bounds}) if moved else 0
    months_of = {source: [starts[at - 1].astimezone(zone).date() for at in each] for source, each in spans.items()}
    words = replaced_words(columns, months_of, zone)
    content = [name for name in COLUMNS if name not in ("id", "organization_id", "timestamp", "ingested_at")]
    superseded = connection.execute(
        sql.SQL(_SUPERSEDED).format(
            stage=stage,
            table=identifier(events),
            staged=sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(staged, sql.Identifier(name)) for name, (staged, _) in values.items()
            ),
            same_scope=sql.SQL(" AND ").join(
                sql.SQL("{} = scope.{}").format(stored, sql.Identifier(name)) for name, (_, stored) in values.items()
            ),
            scope=sql.SQL(", ").join(sql.Identifier("scope", name) for name in values if name != "month"),
            alike=sql.SQL(ALIKE).format(stage=stage),
            stored_id=sql.SQL(STORED_ID.format("s")),
            same_content=sql.SQL(" AND ").join(
                sql.SQL("s.{0} IS NOT DISTINCT FROM t.{0}").format(sql.Identifier(name)) for name in content
            ),
        ),
        {**span, **bounds},
    ).fetchall()
    deleted = [((row[0], *row[8:]), row[1], row[3]) for row in superseded]
    if len(starts) > 2:
        check_edges(columns, spans, starts, deleted, zone)
    doubt = "" if not starts or moved else doubt_of_months(connection, events, columns, spans, starts, deleted, zone)
    gone = [Event((row[0], *row[8:]), row[1], *row[3:8]) for row in superseded]
    source = source_texts("s", columns)
    warnings = [*withdrawn(connection, stage, gone), *absent(connection, stage, source, gone, zone)]
    if starts and not moved:
        warnings += left_of_months(connection, events, stage, columns, spans, deleted, starts, zone)
    delete = sql.SQL(_DELETE).format(table=identifier(events))
    ingested: dict[UUID, tuple[datetime, datetime]] = {}
    slots: dict[UUID, Counter[int]] = defaultdict(Counter)
    for start in range(0, len(superseded), _MAX_EVENTS_PER_DELETE):
        part = superseded[start : start + _MAX_EVENTS_PER_DELETE]
        connection.execute(delete, [list(column) for column in zip(*(row[:3] for row in part), strict=True)])
        for organization_id, timestamp, _, at, *_ in part:
            slots[organization_id][changes.slot(timestamp)] += 1
            first, last = ingested.get(organization_id, (at, at))
            ingested[organization_id] = min(first, at), max(last, at)
    loads = Loads.of(connection, stage, gone, zone)
    return Superseded(len(superseded), ingested, words, kept, doubt, loads, tuple(warnings), slots)


def _month(alias: str) -> sql.Composable:
    """SQL for the number of the month of an event."""
    return sql.SQL("width_bucket({}, %(months)s::timestamptz[])").format(sql.Identifier(alias, "timestamp"))


def _moved_month(moved: Mapping[datetime, str]) -> sql.Composable:
    """SQL for the number of the month of a stored event on the file's clock, for loads in other zones."""
    zones = sql.SQL(" ").join(
        sql.SQL("WHEN {}::timestamptz THEN {}").format(sql.Literal(load), sql.Literal(zone))
        for load, zone in moved.items()
    )
    return sql.SQL("coalesce({}, {})").format(
        _month_in(sql.SQL("(CASE t.ingested_at {} END)").format(zones)), _month("t")
    )


def _month_in(zone: sql.Composable) -> sql.Composable:
    """SQL for the number of the month on the file's clock of a stored event that was loaded in the zone."""
    return sql.SQL("width_bucket(t.timestamp AT TIME ZONE {}, %(clock)s::timestamp[])").format(zone)


def _beside(
    connection: Connection,
    events: Table,
    stage: sql.Identifier,
    columns: Sequence[str],
    moved: Mapping[datetime, str],
    bounds: Mapping[str, Any],
) -> dict[datetime, str]:
    """Loads of neighbouring months that are in the zone of a moved load, with its name.

    They have events of the file's sources before or after its months, and in these only such as that zone moves there.
    """
    found: dict[datetime, str] = {}
    for zone in set(moved.values()):
        statement = sql.SQL(
            "SELECT ingested_at FROM ("
            "SELECT t.ingested_at, {now} BETWEEN 1 AND %(number)s AS inside, {right} BETWEEN 1 AND %(number)s AS stays"
            " FROM {table} t WHERE t.organization_id = ANY (%(organizations)s) AND t.ingested_at <> ALL (%(moved)s)"
            " AND t.timestamp BETWEEN %(since)s - interval '31 days' AND %(until)s + interval '31 days'"
            " AND ({texts}) IN (SELECT {staged} FROM {stage} s)) AS t"
            " GROUP BY ingested_at HAVING bool_or(inside) AND NOT bool_and(inside) AND NOT bool_or(inside AND stays)"
        ).format(
            now=_month("t"),
            right=_month_in(sql.Literal(zone)),
            table=identifier(events),
            texts=source_texts("t", columns),
            staged=source_texts("s", columns),
            stage=stage,
        )
        rows = connection.execute(statement, {**bounds, "moved": [*moved], "number": len(bounds["months"]) - 1})
        found |= dict.fromkeys((load for (load,) in rows), zone)
    return found


def _kept(
    connection: Connection,
    events: Table,
    columns: Sequence[str],
    month: sql.Composable,
    spans: Spans,
    bounds: Mapping[str, Any],
) -> int:
    """The number of stored events that are in a replaced month of their source, and in none by the `month`."""
    source = source_texts("t", columns)
    statement = sql.SQL(
        "SELECT count(*), {now} AS now, {month} AS month, {source} FROM {table} t WHERE t.ingested_at = ANY (%(loads)s)"
        " AND t.organization_id = ANY (%(organizations)s) AND t.timestamp >= %(since)s AND t.timestamp < %(until)s"
        " AND {now} <> {month} GROUP BY now, month, {source}"
    ).format(now=_month("t"), month=month, source=source, table=identifier(events))
    counts = connection.execute(statement, bounds).fetchall()
    return sum(
        events
        for events, now, right, *texts in counts
        if now in (months := spans.get(tuple(texts), {})) and right not in months
    )


def _months_of(
    connection: Connection, stage: sql.Identifier, columns: Sequence[str], starts: Sequence[datetime]
) -> Spans:
    """The staged rows by source and month."""
    source = source_texts("s", columns)
    statement = sql.SQL(
        "SELECT min(s.timestamp), max(s.timestamp), {month}, {source} FROM {stage} s GROUP BY {month}, {source}"
    ).format(month=_month("s"), source=source, stage=stage)
    spans: Spans = defaultdict(dict)
    for first, last, number, *texts in connection.execute(statement, {"months": starts}):
        spans[tuple(texts)][number] = first, last
    return spans
