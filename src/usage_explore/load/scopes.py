"""Scopes of a file that replaces: the values of its scope columns in rows and events, its months, and their words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg import sql

from usage_explore.db.ddl import Connection
from usage_explore.db.schema import COLUMNS
from usage_explore.files.values import EARLIEST, LATEST, quoted
from usage_explore.formatting import counted, span_in
from usage_explore.query import buckets

PERIOD_COLUMNS = frozenset({"BillingPeriodStart", "bill/BillingPeriodStartDate", "bill_billing_period_start_date"})
"""Scope columns that name a period, so that the calendar month is not needed."""

EDGE = timedelta(hours=14)
"""Time at a month's border that other time zones may have in the neighbouring month."""

_MAX_MONTHS = 12 * (LATEST.year - EARLIEST.year) + 1
"""Calendar months that have events in any time zone."""

_MAX_LISTED = 3
"""Sources, their different months, and spans of months that a sentence lists."""

Source = tuple[Any, ...]
"""An organization, and the texts of the columns that name a source."""

Spans = dict[Source, dict[int, tuple[datetime, datetime]]]
"""Source -> number of a month, from 1 -> first and last time of its events in that month."""


def without_scope(connection: Connection, stage: sql.Identifier, columns: Sequence[str]) -> tuple[str, int] | None:
    """(column, number of rows) for the first scope column that is null in staged rows; None where none is."""
    for column in columns:
        statement = sql.SQL("SELECT count(*) FROM {} s WHERE {} IS NULL").format(stage, scope_value("s", column))
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
        sources[tuple(sorted(months_of[source]))].append(source_words(columns, source, months_of))
    parts = [f"{_first(names)}, {_first(_spans(each, zone))}" for each, names in sources.items()]
    others = sum(map(len, [*sources.values()][_MAX_LISTED:]))
    more = [f"{counted(others, 'source')} more in other months"] if others else []
    return f"of the same source: {'; '.join([*parts[:_MAX_LISTED], *more])} ({zone})"


def source_words(columns: Sequence[str], source: Source, sources: Collection[Source]) -> str:
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


def scope_value(alias: str, column: str) -> sql.Composable:
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
    return sql.SQL(", ").join(
        [sql.Identifier(alias, "organization_id"), *(scope_value(alias, each) for each in columns)]
    )
