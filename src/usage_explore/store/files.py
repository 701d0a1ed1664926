"""All events of a query at once: as an Arrow table, as files, as CSV."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
from sqlalchemy import Connection

from usage_explore.console import progress_bar
from usage_explore.errors import ConfigurationError, Fault, QueryError
from usage_explore.event_pages import Events
from usage_explore.export import EventPages, ExportReport, Progress, csv_page, csv_pages, export, file_kind
from usage_explore.extract.engine import ExtractUnusable
from usage_explore.extract.read import ExtractReader
from usage_explore.names import Names
from usage_explore.query import validators
from usage_explore.query.base import expect
from usage_explore.query.describe import describe
from usage_explore.query.queries import (
    EventQuery,
    encode_cursor,
)
from usage_explore.query.url_params import link
from usage_explore.results import arrow
from usage_explore.results.types import Served, json_value
from usage_explore.results.workbook import About, query_facts
from usage_explore.store.base import StoreBase, current_time, position_of

_MAX_READ_EVENTS = 10_000_000
"""Events that `Store.read` keeps in memory, about 300 bytes each."""


class Files(StoreBase):
    """The methods of `Store` that read and write all events of a query."""

    def read(self, query: EventQuery | None = None) -> Events:
        """All events of the query as an Arrow table, newest first, from its cursor on if it has one.

        They are held in memory, about 300 bytes each: more than 10,000,000 are an error, `export` writes any number.
        Raises `QueryError`, `ScopeError`, `DatabaseError`.

        >>> store.read(EventQuery(metric_key="tokens_in")).to_pandas()  # doctest: +SKIP
        """
        requested = expect(EventQuery, EventQuery() if query is None else query)
        with self._transaction(requested, snapshot=True, empty=False) as (connection, scoped):
            began = time.perf_counter()
            reader = self._reader(connection, scoped, as_csv=False)
            total, spans = reader.measure()
            check_memory(total)
            schema = arrow.schema(reader.columns, spans)
            names_of = self._directory(connection, scoped).reader()
            empty = arrow.with_names(schema.empty_table(), names_of)
            table = arrow.collected(empty, (arrow.with_names(table, names_of) for table in reader.tables(schema)))
            took = timedelta(seconds=time.perf_counter() - began)
            since = reader.paths.exists_since(scoped)
            self._hint(connection, scoped, empty=not total, exists_since=since)
        return Events(query=scoped, table=table, served=Served(reader.because, took, since))

    def relation(self) -> duckdb.DuckDBPyRelation:
        """The organization's events as a relation of DuckDB, for SQL of one's own; `usage_events` is its view.

        It has every event of this moment, with the table's columns: ids UUID, `quantity` and `external_cost_amount`
        DECIMAL(38, s), times TIMESTAMPTZ, `dimensions` JSON. They are read from the extract and the events that arrived
        since; without an extract, all events are held in memory, as by `read`. Its DuckDB has nothing else: no other
        organization, no files, no network, no extensions. Raises `QueryError`, `ScopeError`, `DatabaseError`.

        >>> store.relation().query("e", "SELECT metric_key, sum(quantity) FROM e GROUP BY 1")  # doctest: +SKIP
        """
        from usage_explore.extract import relation

        with self._transaction(EventQuery(), snapshot=True) as (connection, scoped):
            reader = self._reader(connection, scoped, as_csv=False)
            if self.extracts is not None:
                with contextlib.suppress(ExtractUnusable):
                    return relation.of_extract(reader, self.extracts.resources)
        return relation.of_table(self.read(EventQuery()).table)

    def export(
        self,
        query: EventQuery,
        path: Path | str,
        progress: bool | Progress = True,
        *,
        escape_formulas: bool = False,
        timezone: str | None = None,
    ) -> ExportReport:
        """Write every event of the query to a `.csv`, `.parquet` or `.xlsx` file, newest first, in bounded memory.

        All pages are written, from its cursor on if it has one. `progress` shows a bar, or is called with (written,
        total). `escape_formulas`, for `.csv`, puts an apostrophe before text that a spreadsheet would run. `timezone`,
        for `.xlsx`, is the clock of its times, by default UTC; such a file has at most 50,000 events, and a sheet on
        the query. The file gets its name when it is complete. Raises `ConfigurationError` for a path that cannot be
        written, `QueryError`, `ScopeError`, `DatabaseError`.
        """
        transaction = self._transaction(expect(EventQuery, query), snapshot=True)
        kind = file_kind(path)
        zone = workbook_zone(timezone, kind)
        with (
            progress_bar("export", "events", shown=bool(progress) and not callable(progress)) as show,
            transaction as (connection, scoped),
        ):
            report = progress if callable(progress) else show
            names_of = self._directory(connection, scoped).reader()
            reader = self._reader(connection, scoped, as_csv=kind == ".csv")
            about = self._about(connection, scoped, zone) if kind == ".xlsx" else None
            written = export(reader, path, report, escape_formulas, names_of, about)
            since = reader.paths.exists_since(scoped)
            self._hint(connection, scoped, empty=not written.events, exists_since=since)
            return written

    def export_csv(self, query: EventQuery, *, escape_formulas: bool = False) -> Generator[bytes]:
        """The CSV of `export` in chunks; holds a connection until the generator ends or is closed.

        Raises `QueryError`, `ScopeError` and `DatabaseError` while it is iterated.
        """
        with self._transaction(expect(EventQuery, query), snapshot=True) as (connection, scoped):
            names_of = self._directory(connection, scoped).reader()
            yield from csv_pages(self._reader(connection, scoped, as_csv=True), escape_formulas, names_of)

    def export_arrow(self, query: EventQuery) -> Generator[bytes]:
        """The rows of `read`, text as strings, as an Arrow stream in chunks of any size; see `arrow.facts`.

        Holds a connection until the generator ends or is closed. Raises as `export_csv`.
        """
        with self._transaction(expect(EventQuery, query), snapshot=True, empty=False) as (connection, scoped):
            names_of = self._directory(connection, scoped).reader()
            reader = self._reader(connection, scoped, as_csv=False)
            total, spans = reader.measure()
            since = reader.paths.exists_since(scoped)
            hints = self._hint(connection, scoped, empty=not total, exists_since=since)
            schema = arrow.schema(reader.columns, spans)
            empty = arrow.with_names(schema.empty_table(), names_of)
            facts = {"total": total, "hints": hints, "because": reader.because, "exists_since": json_value(since)}
            facts |= {"query": scoped.query_string()}
            yield from arrow.stream(
                empty, facts, (arrow.with_names(table, names_of) for table in reader.tables(schema))
            )

    def events_csv(self, query: EventQuery, *, escape_formulas: bool = False) -> tuple[bytes, str | None]:
        """The page of `events` as the CSV of `export`, and the cursor of the next page."""
        with self._transaction(expect(EventQuery, query)) as (connection, scoped):
            names_of = self._directory(connection, scoped).reader()
            pages = EventPages(connection, self.table, scoped, position_of(scoped), as_csv=True)
            page, following = csv_page(pages, escape_formulas, names_of)
        return page, encode_cursor(following, scoped) if following else None

    def _reader(self, connection: Connection, query: EventQuery, *, as_csv: bool) -> ExtractReader:
        after = position_of(query)
        pages = EventPages(connection, self.table, query, after, as_csv)
        return ExtractReader(self._paths(connection), query, after, as_csv, pages)

    def _about(self, connection: Connection, query: EventQuery, zone: ZoneInfo) -> About:
        """The sheet "Query" of a workbook of events."""
        names = self._directory(connection, query).names(())
        organization = self._organization_name(connection, query)
        return about(query, organization, current_time(connection), names, zone, self.app_url)


def about(query: EventQuery, organization: str, now: datetime, names: Names, zone: ZoneInfo, app_url: str) -> About:
    """The sheet "Query" of a workbook of events."""
    facts = query_facts(query, organization, query.as_of or now, names, zone)
    words = names.in_text(describe(query.replace(as_of=None)), ids=True)
    return About(zone, [("Query", words), *facts, ("Link", link(app_url, "events", query))])


def check_memory(events: int) -> None:
    """Raise `QueryError` for more events than `read` keeps in memory."""
    if events > _MAX_READ_EVENTS:
        message = f"has {events:,} events, more than {_MAX_READ_EVENTS:,}; narrow it, or use store.export"
        raise QueryError([Fault("query", message)])


def workbook_zone(timezone: str | None, kind: str) -> ZoneInfo:
    """The zone of the times of a workbook. Raises `ConfigurationError` for files of another kind."""
    if timezone is None:
        return ZoneInfo("UTC")
    if kind != ".xlsx":
        raise ConfigurationError(f"timezone: is for .xlsx; leave it out for {kind}, whose times are in UTC")
    try:
        return ZoneInfo(validators.zone_name(timezone))
    except ValueError as error:
        raise QueryError([Fault("timezone", str(error))]) from None
