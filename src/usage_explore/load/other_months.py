"""Whether the months of a file that replaces may be those of another time zone than of the stored loads."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.errors import LoadError
from usage_explore.formatting import counted, zoned
from usage_explore.load.scopes import EDGE, Source, Spans, months, source_texts, source_words
from usage_explore.sql.identifiers import identifier

_QUARTER = timedelta(minutes=15)
"""The offsets of time zones are multiples of it."""

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
