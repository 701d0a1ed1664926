"""`load --replace`: a restated export replaces the events loaded from an earlier export of the same scope.

A scope is an organization with one value in each of the columns that name source and period, such as
(ProviderName, BillingAccountId, BillingPeriodStart) of a FOCUS export. Columns that name no period are completed by the
calendar month of each event's timestamp, in the time zone of the file's times.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.db.schema import COLUMNS
from usage_explore.errors import LoadError
from usage_explore.extract import changes
from usage_explore.files.values import EARLIEST, LATEST, quoted
from usage_explore.formatting import counted, span_in, zoned
from usage_explore.load.moved_loads import MAX_APART, moved_loads
from usage_explore.load.superseded_sums import ALIKE, Event, Loads, absent, withdrawn
from usage_explore.query import buckets
from usage_explore.sql.identifiers import identifier

PERIOD_COLUMNS = frozenset({"BillingPeriodStart", "bill/BillingPeriodStartDate", "bill_billing_period_start_date"})
"""Scope columns that name a period, so that the calendar month is not needed."""

STORED_ID = (
    "coalesce({0}.id, md5(concat_ws(' ', {0}.organization_id, extract(epoch FROM {0}.timestamp), {0}.occurrence, "
    "{0}.idempotency_key))::uuid)"
)
"""SQL for the id of a staged row: its own, else a hash of (organization, time, key, occurrence)."""

_EDGE = timedelta(hours=14)
"""Time at a month's border that other time zones may have in the neighbouring month."""

_QUARTER = timedelta(minutes=15)
"""The offsets of time zones are multiples of it."""

_MAX_MONTHS = 12 * (LATEST.year - EARLIEST.year) + 1
"""Calendar months that have events in any time zone."""

_MAX_LISTED = 3
"""Sources, their different months, and spans of months that a sentence lists."""

Source = tuple[Any, ...]
"""An organization, and the texts of the columns that name a source."""

_Spans = dict[Source, dict[int, tuple[datetime, datetime]]]
"""Source -> number of a month, from 1 -> first and last time of its events in that month."""

_Deleted = tuple[Source, datetime, datetime]
"""The source, the time and the arrival of a stored event."""

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


def without_scope(connection: Connection, stage: sql.Identifier, columns: Sequence[str]) -> tuple[str, int] | None:
    """(column, number of rows) for the first scope column that is null in staged rows; None where none is."""
    for column in columns:
        statement = sql.SQL("SELECT count(*) FROM {} s WHERE {} IS NULL").format(stage, _value("s", column))
        row = connection.execute(statement).fetchone()
        if row and row[0]:
            return column, int(row[0])
    return None


def months(first: datetime, last: datetime, zone: ZoneInfo) -> list[datetime]:
    """The starts of the calendar months from that of the first instant to that of the last, and the end of the last."""
    return [*buckets.edges(first, last + timedelta(microseconds=1), "month", zone, _MAX_MONTHS)]


def replaced_words(columns: Sequence[str], months_of: Mapping[Source, Collection[date]], zone: ZoneInfo) -> str:
    """What a file with these scope columns replaces, by the first days of the months that it has of each source.

    "of the same source: acct 'A', 1–30 Sep 2026; acct 'B', 1–31 Aug 2026 (Europe/Berlin)".
    """
    if not PERIOD_COLUMNS.isdisjoint(columns):
        return "of the same source and period"
    sources: dict[tuple[date, ...], list[str]] = defaultdict(list)
    for source in sorted(months_of, key=str):
        sources[tuple(sorted(months_of[source]))].append(_named(columns, source, months_of))
    parts = [f"{_first(names)}, {_first(_spans(each, zone))}" for each, names in sources.items()]
    others = sum(map(len, [*sources.values()][_MAX_LISTED:]))
    more = [f"{counted(others, 'source')} more in other months"] if others else []
    return f"of the same source: {'; '.join([*parts[:_MAX_LISTED], *more])} ({zone})"


def _named(columns: Sequence[str], source: Source, sources: Collection[Source]) -> str:
    """The source by its texts; with its organization where there are several."""
    organization = [f"organization {source[0]}"] if len({organization for organization, *_ in sources}) > 1 else []
    named = (f"{column} {quoted(text)}" for column, text in zip(columns, source[1:], strict=True))
    return ", ".join([*organization, *named])


def _spans(first_days: Sequence[date], zone: ZoneInfo) -> list[str]:
    """Months that follow each other as one span: "1 Aug – 30 Sep 2026"."""
    spans: list[tuple[date, date]] = []
    for day in first_days:
        end = (day + timedelta(days=31)).replace(day=1)
        start = spans.pop()[0] if spans and spans[-1][1] == day else day
        spans.append((start, end))
    midnights = ([datetime(day.year, day.month, 1, tzinfo=zone) for day in each] for each in spans)
    return [span_in(since, until, zone) for since, until in midnights]


def _first(texts: Sequence[str]) -> str:
    """The first of the texts, and how many more there are."""
    shown = [*texts[:_MAX_LISTED], *[f"{len(texts) - _MAX_LISTED:,} more"] * (len(texts) > _MAX_LISTED)]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


class FileSources:
    """The sources of a file that replaces: the first days of their months, and by scope column the events without."""

    def __init__(self, columns: Sequence[str], zone: ZoneInfo) -> None:
        self.columns = columns
        self.zone = zone
        self.absent = dict.fromkeys(columns, 0)
        self.months_of: dict[Source, set[date]] = defaultdict(set)

    def add(self, event: Mapping[str, Any]) -> None:
        """Count an event, given as its columns and dimensions."""
        texts = [event.get(column) for column in self.columns]
        for column, text in zip(self.columns, texts, strict=True):
            self.absent[column] += text is None
        day = datetime.fromisoformat(event["timestamp"]).astimezone(self.zone).date()
        self.months_of[event["organization_id"], *texts].add(day.replace(day=1))


def replace_notes(sources: FileSources) -> Iterator[str]:
    """The note on what a load with these sources deletes; none without them."""
    if sources.months_of:
        words = replaced_words(sources.columns, sources.months_of, sources.zone)
        of_others = "also of metrics and days that it lacks, and those that other files brought, such as late ones"
        yield f"--replace deletes the stored events that the file does not have, {words}; {of_others}"


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
    values = {f"c{index}": (_value("s", column), _value("t", column)) for index, column in enumerate(columns)}
    bounds: dict[str, Any] = {"since": "1970-01-01Z", "until": "2200-01-01Z"}  # no query reads events outside
    starts: list[datetime] = []
    spans: _Spans = {}
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
        _check_edges(columns, spans, starts, deleted, zone)
    doubt = "" if not starts or moved else _doubt(connection, events, columns, spans, starts, deleted, zone)
    gone = [Event((row[0], *row[8:]), row[1], *row[3:8]) for row in superseded]
    source = source_texts("s", columns)
    warnings = *withdrawn(connection, stage, gone), *absent(connection, stage, source, gone, zone)
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
    return Superseded(len(superseded), ingested, words, kept, doubt, loads, warnings, slots)


def _value(alias: str, column: str) -> sql.Composable:
    """SQL for the column as text: a documented column, else the dimension of that name.

    A billing period's start is the same in any spelling of its instant, which is in UTC without an offset.
    """
    name = sql.Identifier(alias, column if column in COLUMNS else "dimensions")
    if column in COLUMNS:
        return sql.SQL("{}::text").format(name)
    text = sql.SQL("({} ->> {}::text)").format(name, column)
    if column not in PERIOD_COLUMNS:
        return text
    # days up to the 28th are in any month, so no text fails
    time = r"[12]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?)?"
    offset = r" ?(Z|UTC|[+-](0\d|1[0-4])(:?[0-5]\d)?)"
    return sql.SQL(
        "CASE WHEN {text} ~ {local} THEN extract(epoch FROM {text}::timestamp)::text"
        " WHEN {text} ~ {zoned} THEN extract(epoch FROM {text}::timestamptz)::text ELSE {text} END"
    ).format(text=text, local=f"^{time}$", zoned=f"^{time}{offset}$")


def source_texts(alias: str, columns: Sequence[str]) -> sql.Composable:
    """SQL for the columns of a row's `Source`."""
    return sql.SQL(", ").join([sql.Identifier(alias, "organization_id"), *(_value(alias, each) for each in columns)])


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
    spans: _Spans,
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
) -> _Spans:
    """The staged rows by source and month."""
    source = source_texts("s", columns)
    statement = sql.SQL(
        "SELECT min(s.timestamp), max(s.timestamp), {month}, {source} FROM {stage} s GROUP BY {month}, {source}"
    ).format(month=_month("s"), source=source, stage=stage)
    spans: _Spans = defaultdict(dict)
    for first, last, number, *texts in connection.execute(statement, {"months": starts}):
        spans[tuple(texts)][number] = first, last
    return spans


def _check_edges(
    columns: Sequence[str],
    spans: _Spans,
    starts: Sequence[datetime],
    deleted: Sequence[_Deleted],
    zone: ZoneInfo,
) -> None:
    """Raise `LoadError` where a source's events of a month are all at its border, and `deleted` has others farther in.

    The file is then one of the neighbouring month in another time zone, or has some rows of a month too many.
    """
    present = {number for each in spans.values() for number in each}
    edges: dict[tuple[Source, int], tuple[datetime, datetime]] = {}
    for source, each in spans.items():
        for number, (first, last) in each.items():
            start, end = starts[number - 1], starts[number]
            if number + 1 in present and first >= end - _EDGE:
                edges[source, number] = first, end
            elif number - 1 in present and last < start + _EDGE:
                edges[source, number] = start, last
    others: Counter[tuple[Source, int]] = Counter()
    for source, at, _ in deleted if edges else ():
        number = bisect_right(starts, at)
        since, until = edges.get((source, number), (at, at))
        others[source, number] += not since <= at <= until
    for (source, number), events in others.items():
        if events:
            first, last = spans[source][number]
            is_end = edges[source, number][1] == starts[number]
            month = f"{starts[number - 1].astimezone(zone):%B %Y}"
            edge = f"from {zoned(first, zone)} on" if is_end else f"until {zoned(last, zone)}"
            example = ", such as --timezone Europe/Berlin" if zone.key == "UTC" else ""
            raise LoadError(
                f"replace: of {_named(columns, source, spans)} the file has only events of {month} ({zone}) {edge}, and"
                f" {counted(events, 'stored event')} of that month would be deleted; nothing was loaded. If the file's"
                f" months are those of another time zone than {zone}, name it with --timezone{example}; else leave the"
                f" rows of {month} out of the file, or load them in a file of their own if they are all of that month"
            )


def _doubt(
    connection: Connection,
    events: Table,
    columns: Sequence[str],
    spans: _Spans,
    starts: Sequence[datetime],
    deleted: Sequence[_Deleted],
    zone: ZoneInfo,
) -> str:
    """Why the file's months may be those of another time zone, by `deleted` events outside its first or last event.

    They are at the border to a month that the file does not have of their source, at one end of it alone, and of a load
    that goes on beyond it. In another zone that load ends (or begins) with the edge of a month, too, or the source has
    no events at the other border that the file would lack then.
    """
    outside: dict[tuple[Source, int, bool], list[_Deleted]] = defaultdict(list)
    for source, at, load in deleted:
        number = bisect_right(starts, at)
        first, last = spans[source][number]
        if at < first and at < starts[number - 1] + _EDGE and number - 1 not in spans[source]:
            outside[source, number, True].append((source, at, load))
        elif at > last and at >= starts[number] - _EDGE and number + 1 not in spans[source]:
            outside[source, number, False].append((source, at, load))
    for (source, number, is_first), rows in outside.items():
        if any(key[0] == source and key[2] != is_first for key in outside):
            continue  # the file has less at both ends
        border, times = starts[number - 1 if is_first else number], [at for _, at, _ in rows]
        apart = max(times) - border if is_first else border - min(times)
        apart += _QUARTER - apart % _QUARTER
        other = number  # the month of the file's source at the other end of those that follow each other
        while other + (1 if is_first else -1) in spans[source]:
            other += 1 if is_first else -1
        opposite = starts[other if is_first else other - 1]
        beside = (opposite, opposite + apart) if is_first else (opposite - apart, opposite - timedelta(microseconds=1))
        if _has_other_months(connection, events, columns, source, border, beside, {load for _, _, load in rows}, zone):
            first, last = spans[source][number]
            end = f"before the file's first, {zoned(first, zone)}," if is_first else ""
            end = end or f"after the file's last, {zoned(last, zone)},"
            month = starts[number - 1].astimezone(zone)
            return (
                f"{counted(len(rows), 'stored event')} of {_named(columns, source, spans)} at the"
                f" {'start' if is_first else 'end'} of {month:%B %Y} ({zone}), {end} would be deleted, and an earlier"
                " load has them together with the neighbouring month, as one by the months of another time zone has"
            )
    return ""


def _has_other_months(
    connection: Connection,
    events: Table,
    columns: Sequence[str],
    source: Source,
    border: datetime,
    beside: tuple[datetime, datetime],
    loads: Collection[datetime],
    zone: ZoneInfo,
) -> bool:
    """Whether one of the loads has events of the source on both sides of the border, in months of another zone.

    One of them ends, or begins where the others do, at an edge; or no load has events at the times `beside`.
    """
    statement = sql.SQL(
        "SELECT t.ingested_at, min(t.timestamp), max(t.timestamp), bool_or(t.timestamp BETWEEN %(since)s AND %(until)s)"
        " FROM {table} t WHERE t.organization_id = %(organization)s AND ({texts}) = ({values})"
        " AND t.timestamp >= '1970-01-01Z' AND t.timestamp < '2200-01-01Z' GROUP BY t.ingested_at"
    ).format(
        table=identifier(events),
        texts=source_texts("t", columns),
        values=sql.SQL(", ").join([sql.Literal(source[0]), *map(sql.Literal, source[1:])]),
    )
    rows = connection.execute(statement, {"since": beside[0], "until": beside[1], "organization": source[0]}).fetchall()
    across = [(first, last) for load, first, last, _ in rows if load in loads and first < border <= last]
    for first, last in across:
        starts = months(first, last, zone)
        if last < starts[-2] + _EDGE if beside[0] >= border else first >= starts[1] - _EDGE:
            return True
    return bool(across) and not any(at_beside for *_, at_beside in rows)
