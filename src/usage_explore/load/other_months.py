"""Whether the months of a file that replaces may be those of another time zone than of the stored loads."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.errors import LoadError
from usage_explore.formatting import counted, zoned
from usage_explore.load.scopes import EDGE, Source, Spans, months, source_texts, source_words
from usage_explore.sql.identifiers import identifier

_QUARTER = timedelta(minutes=15)
"""The offsets of time zones are multiples of it."""

_STORED_EDGES = """
SELECT {texts}, t.ingested_at, t.timestamp, count(*) FROM {table} t
WHERE t.organization_id = ANY (%(organizations)s) AND t.ingested_at = ANY (%(loads)s::timestamptz[])
  AND t.timestamp >= %(since)s - interval '31 days' AND t.timestamp < %(until)s + interval '31 days'
  AND width_bucket(t.timestamp, %(inner)s::timestamptz[]) IN (0, 2)
GROUP BY {texts}, t.ingested_at, t.timestamp
"""

_STAGED_EDGES = """
SELECT DISTINCT {texts}, s.timestamp FROM {stage} s WHERE width_bucket(s.timestamp, %(inner)s::timestamptz[]) IN (0, 2)
"""

Deleted = tuple[Source, datetime, datetime]
"""The source, the time and the arrival of a stored event."""


def check_edges(
    columns: Sequence[str],
    spans: Spans,
    starts: Sequence[datetime],
    deleted: Sequence[Deleted],
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
            if number + 1 in present and first >= end - EDGE:
                edges[source, number] = first, end
            elif number - 1 in present and last < start + EDGE:
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
                f"replace: of {source_words(columns, source, spans)} the file has only events of {month} ({zone})"
                f" {edge}, and {counted(events, 'stored event')} of that month would be deleted; nothing was loaded. If"
                f" the file's months are those of another time zone than {zone}, name it with --timezone{example}; else"
                f" leave the rows of {month} out of the file, or load them in a file of their own if they are all of"
                " that month"
            )


def doubt_of_months(
    connection: Connection,
    events: Table,
    columns: Sequence[str],
    spans: Spans,
    starts: Sequence[datetime],
    deleted: Sequence[Deleted],
    zone: ZoneInfo,
) -> str:
    """Why the file's months may be those of another time zone, by `deleted` events outside its first or last event.

    They are at the border to a month that the file does not have of their source, at one end of it alone, and of a load
    that goes on beyond it. In another zone that load ends (or begins) with the edge of a month, too, or the source has
    no events at the other border that the file would lack then.
    """
    outside: dict[tuple[Source, int, bool], list[Deleted]] = defaultdict(list)
    for source, at, load in deleted:
        number = bisect_right(starts, at)
        first, last = spans[source][number]
        if at < first and at < starts[number - 1] + EDGE and number - 1 not in spans[source]:
            outside[source, number, True].append((source, at, load))
        elif at > last and at >= starts[number] - EDGE and number + 1 not in spans[source]:
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
                f"{counted(len(rows), 'stored event')} of {source_words(columns, source, spans)} at the"
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
        if last < starts[-2] + EDGE if beside[0] >= border else first >= starts[1] - EDGE:
            return True
    return bool(across) and not any(at_beside for *_, at_beside in rows)


def left_of_months(
    connection: Connection,
    events: Table,
    stage: sql.Identifier,
    columns: Sequence[str],
    spans: Spans,
    deleted: Sequence[Deleted],
    starts: Sequence[datetime],
    zone: ZoneInfo,
) -> Iterator[str]:
    """The warning of stored events beside the months of a load in another zone, all of whose others are replaced.

    They are up to 14 hours before the file's months of the source, or after them, and near the borders the load has
    more times of the file's on the clock of a zone in which it is by these months than on that of `zone`.
    """
    loads: dict[tuple[Source, datetime], list[datetime]] = defaultdict(list)
    for source, at, load in deleted:
        loads[source, load].append(at)
    loads = {each: times for each, times in loads.items() if max(times) - min(times) > EDGE}
    if not loads:
        return
    bounds = {
        "organizations": [*{source[0] for source, _ in loads}],
        "loads": [*{load for _, load in loads}],
        "since": starts[0],
        "until": starts[-1],
        "inner": [starts[0] + EDGE, starts[-1] - EDGE],
    }
    stored: dict[tuple[Source, datetime], Counter[datetime]] = defaultdict(Counter)
    statement = sql.SQL(_STORED_EDGES).format(texts=source_texts("t", columns), table=identifier(events))
    for *texts, load, at, number in connection.execute(statement, bounds):
        stored[tuple(texts), load][at] = number
    staged: dict[Source, set[datetime]] = defaultdict(set)
    statement = sql.SQL(_STAGED_EDGES).format(texts=source_texts("s", columns), stage=stage)
    farther = {"inner": [starts[0] + 2 * EDGE, starts[-1] - 2 * EDGE]}  # on another clock
    for *texts, at in connection.execute(statement, farther):
        staged[tuple(texts)].add(at)
    for source, load in loads:
        since, until = starts[min(spans[source]) - 1], starts[max(spans[source])]
        beside = {at: number for at, number in stored[source, load].items() if not since <= at < until}
        if beside and _is_by_months_elsewhere(stored[source, load], staged[source], since, until, zone):
            is_before = min(beside) < since
            side = (
                f"from {zoned(min(beside), zone)} on, before"
                if is_before
                else f"until {zoned(max(beside), zone)}, after"
            )
            yield (
                f"warning: {counted(sum(beside.values()), 'stored event')} of {source_words(columns, source, spans)},"
                f" {side} the file's months ({zone}), stay beside them, and the load that brought them has these months"
                " in another time zone: they count twice. If the file's time zone is another, load it again in that one"
                " with --replace; else also the file of their month"
            )
            return


def _is_by_months_elsewhere(
    stored: Collection[datetime], staged: Collection[datetime], since: datetime, until: datetime, zone: ZoneInfo
) -> bool:
    """Whether the load has these months in another zone, on whose clock most, and more, of its times are the file's."""
    start, end = (each.astimezone(zone).replace(tzinfo=None) for each in (since, until))
    clock = {at.astimezone(zone).replace(tzinfo=None) for at in staged}
    same = max(sum(at in staged for at in stored), len(stored) // 2)
    first, last = min(stored), max(stored)
    every = map(ZoneInfo, sorted(available_timezones()))
    zones = {(start.replace(tzinfo=other), end.replace(tzinfo=other)): other for other in every}  # one of alike months
    return any(
        begins <= first
        and last < ends
        and sum(at.astimezone(other).replace(tzinfo=None) in clock for at in stored) > same
        for (begins, ends), other in zones.items()
    )
