"""`load_files`: load files into the events table, each in its own transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Table

from usage_explore.console import ShowProgress, progress_bar
from usage_explore.db.ddl import ensure_schema
from usage_explore.db.schema import COLUMNS
from usage_explore.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailable,
    LoadError,
    TableMismatch,
    UsageExploreError,
)
from usage_explore.files.open import open_source
from usage_explore.files.sources import Source
from usage_explore.files.values import InvalidValue
from usage_explore.formatting import counted
from usage_explore.load.focus import FocusMapper, incomplete, looks_like_focus, missing_sources
from usage_explore.load.replace import FOCUS_SCOPE, PERIOD_COLUMNS, without_scope
from usage_explore.load.report import MAX_KEPT_REJECTIONS, FileReport, Rejection, rejection_lines
from usage_explore.load.row_mapper import DocumentedMapper, RowMapper, row_hash
from usage_explore.load.staging import STAGE, Connection, Stage
from usage_explore.sql.identifiers import identifier

FORMATS = ("csv", "jsonl", "parquet", "focus")

_KEY = COLUMNS.index("idempotency_key")
_PROGRESS_ROWS = 1_000
"""Rows between two updates of the progress bar."""

_MAX_REJECTED_ROWS = 10_000
"""Rejected rows after which a file is read no further, unless the others are loaded (`skip_bad`)."""

_ANALYZE_FROM_ROWS = 10_000
"""Loaded rows from which the table's planner statistics are updated at once."""


def load_files(
    connection: Connection,
    table: Table,
    paths: Iterable[Path | str],
    *,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    dimensions: bool = False,
    organization_id: UUID | None = None,
    skip_bad: bool = False,
    replace: bool = False,
    replace_by: Sequence[str] = (),
    progress: bool = False,
    settle: timedelta = timedelta(minutes=5),
) -> list[FileReport]:
    """Load CSV, JSON Lines and Parquet files into the events table, which is made where it is missing.

    `format` is "csv", "jsonl", "parquet" or "focus" (a FOCUS 1.0 export, CSV or Parquet); None goes by the file's name.
    `mapping` names the file's column for a documented column. `dimensions` loads unknown columns as dimensions, which
    are an error otherwise. `organization_id` is the organization of rows that name none. `skip_bad` loads a file
    without its rejected rows, which otherwise refuse the file. `settle` is how far pinned links stay behind the clock.

    `replace` deletes the stored events that an earlier export of the same scope left and this file no longer has, in
    the transaction that adds the others. The scope are the file's values in the columns `replace_by` (documented
    columns or dimensions; `FOCUS_SCOPE` by default in a FOCUS export) and, unless `BillingPeriodStart` is one of them,
    the calendar months of its events in UTC.

    Returns a report for each file, in order. Each file is one transaction, committed when the file is done: the
    connection must not be in one. Raises `LoadError` for a file that cannot be loaded, of which nothing is written
    then; files before it stay loaded and are named; `TableMismatch` when the table cannot be written;
    `DatabaseUnavailable` when the connection breaks.
    """
    if format is not None and format not in FORMATS:
        raise ConfigurationError(f"format: {format!r} is none of {', '.join(FORMATS)}")
    mapper: RowMapper = (
        FocusMapper(mapping or {}, organization_id=organization_id)
        if format == "focus"
        else DocumentedMapper(mapping or {}, dimensions=dimensions, organization_id=organization_id)
    )
    kind = None if format == "focus" else format
    files = [Path(path) for path in paths]
    scope: tuple[str, ...] = ()
    for path in files:
        with open_source(path, kind) as source:
            _check(source, mapper)
            if replace or replace_by:
                scope = _scope(source, replace_by, format, len(files))
    name = f"{table.schema}.{table.name}" if table.schema else table.name
    reports: list[FileReport] = []
    for path in files:
        try:
            with _mapped_errors(path, name):
                if not reports:
                    ensure_schema(connection, name)
                    connection.commit()
                with open_source(path, kind) as source, connection.transaction():
                    _check(source, mapper)
                    reports.append(_load(connection, table, source, mapper, scope, skip_bad, progress, settle))
        except (LoadError, DatabaseError) as error:
            if len(files) > 1:
                raise type(error)(f"{error}\n{_so_far(reports, files)}") from error
            raise
    if sum(report.loaded for report in reports) >= _ANALYZE_FROM_ROWS:
        with _mapped_errors(files[-1], name):
            connection.execute(sql.SQL("ANALYZE {}").format(identifier(table)))
            connection.commit()
    return reports


def _check(source: Source, mapper: RowMapper) -> None:
    if source.names is not None:
        _check_names(source, mapper, source.names)
        source.expect(mapper.sources(source.names), assume_utc=mapper.assume_utc)


def _check_names(source: Source, mapper: RowMapper, names: Sequence[str]) -> None:
    if isinstance(mapper, DocumentedMapper) and not mapper.mapping and looks_like_focus(names):
        if missing := missing_sources(names):
            raise LoadError(f"{source.path}: {incomplete(missing)}")
        raise LoadError(f"{source.path}: this looks like a FOCUS export; load it with --format focus")
    mapper.check(source.path, names)


def _scope(source: Source, replace_by: Sequence[str], format: str | None, files: int) -> tuple[str, ...]:
    """The columns that name source and period of a file that replaces. Raises `LoadError`, `ConfigurationError`."""
    if files > 1:
        raise ConfigurationError(
            "replace: takes one file, because each would supersede the rows of the one before; join the parts of an"
            " export"
        )
    names = source.names
    columns = tuple(dict.fromkeys(replace_by))
    for column in columns:
        if names is not None and column not in names and column not in COLUMNS:
            raise LoadError(f"{source.path}: has no column {column!r} to replace by")
    if not columns and format == "focus":
        columns = tuple(column for column in FOCUS_SCOPE if names is None or column in names)
    if PERIOD_COLUMNS.issuperset(columns):
        raise ConfigurationError(
            "replace: which stored events does the file supersede? Name the columns whose values identify its source"
            " with --replace-by COLUMN, such as --replace-by BillingAccountId; events of the same months and values are"
            " replaced"
        )
    return columns


def _load(
    connection: Connection,
    table: Table,
    source: Source,
    mapper: RowMapper,
    scope: Sequence[str],
    skip_bad: bool,
    progress: bool,
    settle: timedelta,
) -> FileReport:
    rejected = _Rejected(source, None if skip_bad else _MAX_REJECTED_ROWS)
    stage = Stage(connection, table)
    with progress_bar(source.path.name, source.unit_of_length, shown=progress) as show:
        with connection.cursor() as cursor, cursor.copy(stage.copy_statement()) as copy:
            for line, row in _rows(source, mapper, rejected, show):
                if skip_bad or not rejected.rows:
                    keyed = row[_KEY] is not None
                    if not keyed:
                        row[_KEY] = row_hash(row)
                    copy.write_row((line, keyed, *row))
        if rejected.rows and not skip_bad:
            raise rejected.error()
        show(source.position, source.length, f"{source.path.name}: writing")
        if scope and (absent := without_scope(connection, STAGE, scope)):
            raise LoadError(
                f"{source.path}: {counted(absent[1], 'row')} without a value in {absent[0]}, which --replace needs in"
                " every row; nothing was loaded or replaced"
            )
        superseded, already_there, changed = stage.settle_repeats(scope)
        taken, first_taken = stage.taken_ids(drop=skip_bad)
        for line, reason in first_taken:
            rejected.add(line, [("id", reason)])
        rejected.rows += taken - len(first_taken)
        if taken and not skip_bad:
            raise rejected.error()
        if rounded := stage.rounded():
            column, type_, rows = rounded
            raise LoadError(
                f"{source.path}: {counted(rows, 'value')} of {column} would be rounded by the table, where the column "
                f"is {type_}; make it wide enough, or load into a table made by `usage-explore init`"
            )
        written = stage.write(settle)
        show(source.length, source.length, source.path.name)
    return FileReport(
        path=source.path,
        loaded=written.loaded,
        already_there=already_there,
        rejected=rejected.rows,
        repeats=written.repeats,
        identical=written.identical,
        other_times=written.other_times,
        backdated=written.backdated,
        generated_keys=written.generated_keys,
        settle=settle,
        writing=written.writing,
        rejections=tuple(rejected.first),
        notes=tuple(mapper.notes()),
        restated=written.restated,
        changed=changed,
        superseded=superseded,
    )


class _Rejected:
    """The rejected rows of a file: their number, and the first values. At `max_rows` reading stops."""

    def __init__(self, source: Source, max_rows: int | None) -> None:
        self._max_rows = max_rows
        self._path = source.path
        self._unit = source.unit
        self.rows = 0
        self.first: list[Rejection] = []

    def add(self, line: int, reasons: Sequence[tuple[str, str]]) -> None:
        self.rows += 1
        for column, reason in reasons:
            if len(self.first) < MAX_KEPT_REJECTIONS:
                self.first.append(Rejection(self._path, self._unit, line, column, reason))

    @property
    def is_enough(self) -> bool:
        """Whether reading stops: nothing of the file is going to be loaded."""
        return self._max_rows is not None and self.rows >= self._max_rows

    def error(self) -> LoadError:
        lines = "\n".join(rejection_lines(self.first, self.rows))
        stopped = " and the rest not read" if self.is_enough else ""
        return LoadError(
            f"{lines}\n{self._path}: {counted(self.rows, 'row')} rejected{stopped}, so nothing of the file was loaded; "
            "correct them, or load the others with --skip-bad"
        )


def _rows(
    source: Source, mapper: RowMapper, rejected: _Rejected, show: ShowProgress
) -> Iterator[tuple[int, list[str | None]]]:
    """(line, row) of each row that can be loaded; the others are added to `rejected`."""
    seen: set[str] = set(source.names or ())
    for number, (line, record, reason) in enumerate(source, 1):
        if number % _PROGRESS_ROWS == 0:
            show(source.position, source.length)
        if record is None:
            rejected.add(line, [("", reason or "cannot be read")])
            if rejected.is_enough:
                return
            continue
        if source.names is None and not seen.issuperset(record):
            seen.update(record)
        try:
            row = mapper.row(record)
        except InvalidValue as error:
            rejected.add(line, mapper.problems(record) or [("", str(error))])
            if rejected.is_enough:
                return
            continue
        yield line, row
    show(source.position, source.length)
    if source.names is None and seen:
        _check_names(source, mapper, sorted(seen))


@contextmanager
def _mapped_errors(path: Path, table_name: str) -> Iterator[None]:
    """Raise the database's errors as the project's own, each a sentence that says what happened to the file."""
    try:
        yield
    except UsageExploreError:
        raise
    except psycopg.errors.InsufficientPrivilege as error:
        raise TableMismatch(
            f"{table_name}: this role may not load into it ({error.diag.message_primary}); it needs SELECT and INSERT "
            "on the table (DELETE to --replace), TEMPORARY on the database and, where there is a rollup, SELECT, "
            "INSERT, UPDATE and DELETE on its two tables"
        ) from error
    except psycopg.errors.DiskFull as error:
        raise LoadError(
            f"{path}: the database server's disk is full, so nothing of the file was loaded "
            f"({error.diag.message_primary}); make room there, then load it again"
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if error.sqlstate and not error.sqlstate.startswith(("08", "57P")):
            raise _refused(path, error) from error
        raise DatabaseUnavailable(
            f"{path}: the connection to the database broke, so nothing of the file was loaded; load it again"
        ) from error
    except psycopg.Error as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: psycopg.Error) -> LoadError:
    message = error.diag.message_primary or str(error)
    where = f" ({error.diag.context.splitlines()[0]})" if error.diag.context else ""
    return LoadError(f"{path}: the database refused it, so nothing of the file was loaded: {message}{where}")


def _so_far(reports: Sequence[FileReport], files: Sequence[Path]) -> str:
    """Which files are loaded and which were not tried, when one of several fails."""
    rest = [str(path) for path in files[len(reports) + 1 :]]
    lines = ["Loaded before and kept:", *map(str, reports)] if reports else ["No file was loaded before."]
    return "\n".join([*lines, f"Not tried: {', '.join(rest)}"] if rest else lines)
