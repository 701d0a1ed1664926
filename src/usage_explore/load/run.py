"""`load_files`: load files into the events table, each in its own transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace as replaced
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import sql
from sqlalchemy import Table

from usage_explore.console import ShowProgress, progress_bar
from usage_explore.db.catalog import organizations, relation
from usage_explore.db.ddl import ensure_schema
from usage_explore.db.names import own_names
from usage_explore.db.owners import refusal
from usage_explore.db.schema import COLUMNS, names_table
from usage_explore.errors import ConfigurationError, DatabaseError, LoadError
from usage_explore.files.csv_source import CsvSource
from usage_explore.files.sources import Record, Source
from usage_explore.files.values import InvalidValue
from usage_explore.formatting import counted, path_text
from usage_explore.load.aggregated import aggregated_rows
from usage_explore.load.batches import ROWS_PER_BATCH, BatchMapper, Values, copy_text
from usage_explore.load.currency_columns import currency_warnings
from usage_explore.load.doubtful_ids import staged_totals, stored_in_another_form
from usage_explore.load.fields import row_hash
from usage_explore.load.prepared import LoadOptions, Prepared, input_file, prepare
from usage_explore.load.repeated_hour import repeated_hour, repeated_hour_notes
from usage_explore.load.report import MAX_LISTED_ORGANIZATIONS, FileReport, RejectedRows, loaded_so_far
from usage_explore.load.row_mapper import Row, RowMapper
from usage_explore.load.scope_spelling import missed_source, without_source
from usage_explore.load.scopes import PERIOD_COLUMNS, without_scope
from usage_explore.load.signed import SignOffs, signed_warnings
from usage_explore.load.skipped_rows import skipped_rows
from usage_explore.load.staging import STAGE, Connection, Stage, mapped_errors
from usage_explore.names import LOCAL_ORGANIZATION
from usage_explore.sql.identifiers import identifier

_KEY = COLUMNS.index("idempotency_key")

MAX_REJECTED_ROWS = 10_000
"""Rejected rows after which a file is read no further, unless the others are loaded (`skip_bad`)."""

_MAX_LISTED_ORGANIZATIONS = 10
"""Organizations that an error names."""

_ANALYZE_FROM_ROWS = 1_000
"""Loaded rows from which the table's planner statistics are updated at once."""


def load_files(
    connection: Connection,
    table: Table,
    files: Iterable[Path | str],
    *,
    names_table_name: str | None = None,
    organization_id: UUID | None = None,
    skip_bad: bool = False,
    replace: bool = False,
    replace_by: Sequence[str] = (),
    progress: bool | ShowProgress = False,
    settle: timedelta = timedelta(minutes=5),
    home: Path | None = None,
    signoffs: SignOffs | None = None,
    accept: Callable[[FileReport], None] = lambda report: None,
    **options: Any,
) -> list[FileReport]:
    """Load files into the events table, which is made where it is missing; "-" is standard input.

    `options` are those of `LoadOptions`. `organization_id` is the organization of rows that name none; without it they
    belong to the organization "local", unless the table holds several others. `skip_bad` loads a file without its
    rejected rows, which otherwise refuse the file, and always one that replaces. `names_table_name` is the directory
    that keeps the texts and names of ids, by default `usage_names` beside the events table. `settle` is how far pinned
    links stay behind the clock. `home` is the folder whose extracts are to know of events that the file inserts or
    deletes behind their watermark. `signoffs` gives the sign-offs of an organization, newest first: the report warns of
    events in a signed period. `progress` draws a bar on stderr, or is called in its place; `accept` is called with the
    report of a file before it is committed. An exception that one of them raises undoes the file.

    `replace` deletes the stored events that an earlier export of the same scope left and this file no longer has, in
    the transaction that adds the others. The scope are the file's values in the columns `replace_by` (documented
    columns or dimensions; by default those of the preset) and, unless one of them names a billing period, the calendar
    months of its events in the time zone of `options`, else of the preset, else UTC.

    Returns a report for each file, in order. Each file is one transaction, committed when the file is done: the
    connection must not be in one. Raises `LoadError` for a file that cannot be loaded, of which nothing is written
    then; files before it stay loaded and are named; `TableMismatch` when the table cannot be written;
    `DatabaseUnavailable` when the connection breaks.
    """
    try:
        given = LoadOptions(**options)
    except TypeError as error:
        raise ConfigurationError(f"load: {error}") from None
    with ExitStack() as inputs:
        prepared = [prepare(input_file(path, inputs), given) for path in files]
        return _load_all(
            connection,
            table,
            prepared,
            names_table(names_table_name, table),
            organization_id=organization_id,
            skip_bad=skip_bad,
            replace=replace,
            replace_by=replace_by,
            progress=progress,
            settle=settle,
            home=home,
            signoffs=signoffs or (lambda _: ()),
            accept=accept,
        )


def _load_all(
    connection: Connection,
    table: Table,
    files: Sequence[Prepared],
    names: Table,
    *,
    organization_id: UUID | None,
    skip_bad: bool,
    replace: bool,
    replace_by: Sequence[str],
    progress: bool | ShowProgress,
    settle: timedelta,
    home: Path | None,
    signoffs: SignOffs,
    accept: Callable[[FileReport], None],
) -> list[FileReport]:
    scope: tuple[str, ...] = ()
    if replace or replace_by:
        check_single(files)
        for file in files:
            scope = scope_columns(file, replace_by)
    name = f"{table.schema}.{table.name}" if table.schema else table.name
    mappers = [_mapper(connection, table, names, name, file, organization_id, progress) for file in files]
    reports: list[FileReport] = []
    for file, mapper in zip(files, mappers, strict=True):
        try:
            with mapped_errors(file.path, name):
                if not reports:
                    ensure_schema(connection, name, names_table_name=names.fullname)
                    connection.commit()
                with file.options.open(file.file) as source, connection.transaction():
                    source.expect(mapper.kinds(), assume_utc=bool(file.mapping.timezone))
                    done, stage = _load(
                        connection, table, names, source, file, mapper, scope, skip_bad, progress, settle, home
                    )
                    in_signed = [
                        warning
                        for one in done.organizations[:MAX_LISTED_ORGANIZATIONS]
                        for warning in signed_warnings(signoffs(one), stage, replaces=one in stage.superseded.ingested)
                    ]
                    done = replaced(done, notes=(*done.notes, *in_signed))
                    accept(done)
                    reports.append(done)
                stage.announce_committed()
        except (LoadError, DatabaseError) as error:
            if len(files) > 1:
                raise type(error)(f"{error}\n{loaded_so_far(reports, [file.path for file in files])}") from error
            raise
    if sum(report.loaded for report in reports) >= _ANALYZE_FROM_ROWS:
        with mapped_errors(files[-1].path, name):
            connection.execute(sql.SQL("ANALYZE {}").format(identifier(table)))
            connection.commit()
    return reports


def _mapper(
    connection: Connection,
    table: Table,
    directory: Table,
    name: str,
    file: Prepared,
    organization: UUID | None,
    progress: bool | ShowProgress,
) -> RowMapper:
    """The mapper for a file. Rows without an organization belong to `organization`, else to the local one.

    Raises `LoadError` where that would be a guess, as the table holds several other organizations.
    """
    ready = partial(_ready, file, progress)
    if organization is not None:
        return ready(file.mapper(organization))
    mapper = file.mapper(LOCAL_ORGANIZATION, is_local=True)
    file.check_columns(mapper)
    with mapped_errors(file.path, name):
        there = organizations(connection, table) if relation(connection, name) is not None else []
        connection.rollback()
    if len(there) < 2 or LOCAL_ORGANIZATION in there:
        return ready(mapper)
    if mapper.names_organization:
        return ready(file.mapper(None))
    listed = there[:_MAX_LISTED_ORGANIZATIONS]
    with mapped_errors(file.path, name):
        names = own_names(connection, directory, listed)
        connection.rollback()
    ids = ", ".join(names.full("organization", one) for one in listed)
    more = f" and {len(there) - _MAX_LISTED_ORGANIZATIONS:,} more" if len(there) > _MAX_LISTED_ORGANIZATIONS else ""
    raise LoadError(
        f"{path_text(file.path)}: whose events are these? Give --organization-id UUID, a column organization_id or"
        f" --set organization_id=NAME; the table holds {counted(len(there), 'organization')}: {ids}{more}"
    )


def _ready(file: Prepared, progress: bool | ShowProgress, mapper: RowMapper) -> RowMapper:
    with progress_bar(f"{file.path.name}: looking for dates", shown=progress, transient=True) as show:
        return file.ready(mapper, show)


def check_single(files: Sequence[object]) -> None:
    """Raise `ConfigurationError` for several files that replace."""
    if len(files) > 1:
        raise ConfigurationError(
            "replace: takes one file, because each would supersede the rows of the one before; join the parts of an"
            " export"
        )


def scope_columns(file: Prepared, replace_by: Sequence[str]) -> tuple[str, ...]:
    """The columns that name source and period of a file that replaces. Raises `LoadError`, `ConfigurationError`."""
    columns = tuple(dict.fromkeys(replace_by))
    for column in columns:
        if not file.sampled and column not in file.names and column not in COLUMNS:
            raise LoadError(f"{path_text(file.path)}: has no column {column!r} to replace by")
    if not columns:
        columns = tuple(column for column in file.mapping.scope if file.sampled or column in file.names)
    if PERIOD_COLUMNS.issuperset(columns):
        raise ConfigurationError(
            "replace: which stored events does the file supersede? Name the columns whose values identify its source"
            " with --replace-by COLUMN, such as --replace-by BillingAccountId; events of the same months and values are"
            " replaced"
        )
    return columns


def absent_values(path: Path, column: str, rows: int) -> str:
    """Why rows without a value in a scope column do not replace others."""
    return f"{path_text(path)}: {counted(rows, 'row')} without a value in {column}, which --replace needs in every row"


def _load(
    connection: Connection,
    table: Table,
    names: Table,
    source: Source,
    file: Prepared,
    mapper: RowMapper,
    scope: Sequence[str],
    skip_bad: bool,
    progress: bool | ShowProgress,
    settle: timedelta,
    home: Path | None,
) -> tuple[FileReport, Stage]:
    skip_bad = skip_bad and not scope
    rejected = RejectedRows(source, None if skip_bad else MAX_REJECTED_ROWS)
    stage = Stage(connection, table, last_line_wins=file.mapping.last_line_wins, measured=mapper.is_measured, home=home)
    with progress_bar(source.path.name, source.unit_of_length, shown=progress) as show:
        with connection.cursor() as cursor, cursor.copy(stage.copy_statement()) as copy:
            ordinal = 0
            for lines, columns in _batches(source, mapper, rejected, show):
                if lines and (skip_bad or not rejected.rows):
                    keyed = [key is not None for key in columns[_KEY]]
                    if not all(keyed):
                        rows = zip(*columns, strict=True)
                        columns[_KEY] = [row_hash(row) if row[_KEY] is None else row[_KEY] for row in rows]
                    copy.write(copy_text(ordinal, lines, keyed, columns))
                    ordinal += len(lines)
        if rejected.rows and not skip_bad:
            raise rejected.error(replaces=bool(scope))
        show(source.position, source.length, f"{source.path.name}: writing")
        if scope and (absent := without_scope(connection, STAGE, scope)):
            raise LoadError(f"{absent_values(source.path, *absent)}; nothing was loaded or replaced")
        stored = identifier(table)
        if scope and (missed := missed_source(connection, STAGE, stored, scope)):
            raise LoadError(f"{path_text(source.path)}: replace: {missed}; nothing was loaded")
        if why := refusal(connection, table, table):
            raise LoadError(f"{path_text(source.path)}: {why}; nothing was loaded")
        stage.keep_names(names, mapper.ids.texts, mapper.readable)
        doubtful = staged_totals(connection, STAGE, mapper)
        already_there, changed, changed_columns = stage.settle_repeats(scope, file.zone)
        if (doubt := stage.superseded.doubt) and file.mapping.timezone is None:
            raise LoadError(
                f"{path_text(source.path)}: replace: {doubt}; nothing was loaded. Name the time zone of the file's"
                " months with --timezone, such as --timezone America/Los_Angeles, or --timezone UTC"
            )
        taken, first_taken = stage.taken_ids(drop=skip_bad)
        for line, reason in first_taken:
            rejected.add(line, [("id", reason)])
        rejected.rows += taken - len(first_taken)
        if taken and not skip_bad:
            raise rejected.error(replaces=bool(scope))
        if rounded := stage.rounded():
            column, type_, values = rounded
            raise LoadError(
                f"{path_text(source.path)}: {counted(values, 'value')} of {column} would be rounded by the"
                " table, where the column"
                f" is {type_}; make it wide enough, or load into a table made by `usage-explore init`"
            )
        if scope and not (stage.superseded.events or already_there):
            doubtful += without_source(connection, STAGE, stored, scope)
        hour = 0
        if stage.first and stage.last:
            doubtful += stored_in_another_form(connection, table, names, stage.span, mapper)
            doubtful += aggregated_rows(connection, STAGE, stored, stage.span, file.zone)
            if already_there:
                hour = repeated_hour(connection, STAGE, stored, stage.span)
                doubtful += () if scope else skipped_rows(connection, STAGE, stored, stage.span)
        written = stage.write(settle)
        show(source.length, source.length, source.path.name)
    report = FileReport(
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
        faults=rejected.faults,
        read=rejected.read,
        notes=(
            *(*source.notes, *_preset_note(file), *mapper.notes(), *stage.notes()),
            *([f"no names were kept: {why}"] if (why := refusal(connection, names.info["events"], names)) else ()),
            *doubtful,
            *repeated_hour_notes(hour),
            *currency_warnings(stage.without_currency, file, mapper),
        ),
        first=stage.first,
        last=stage.last,
        month_end=stage.month_end(),
        future=stage.future,
        organizations=stage.organizations,
        customers=stage.customers,
        metric_key=stage.metric_key,
        names=own_names(connection, names, stage.organizations[:MAX_LISTED_ORGANIZATIONS]),
        restated=written.restated,
        credits=written.credits,
        loaded_again=written.loaded_again,
        other_zone=written.other_zone,
        cut_times=written.cut_times,
        changed=changed,
        changed_columns=changed_columns,
        superseded=stage.superseded.events,
        superseded_settled=written.superseded_settled,
        replaced=stage.superseded.words + stage.superseded.loads.words(),
    )
    return report, stage


def _batches(
    source: Source, mapper: RowMapper, rejected: RejectedRows, show: ShowProgress
) -> Iterator[tuple[list[int], list[Values]]]:
    """The lines and columns of the events that can be loaded, many at a time.

    The rows of the file that cannot be loaded are added to `rejected`.
    """
    batch_mapper = BatchMapper(mapper) if isinstance(source, CsvSource) else None
    if batch_mapper and batch_mapper.is_possible and isinstance(source, CsvSource):
        batches = _csv_batches(source, batch_mapper)
    else:
        records = iter(source)
        batches = ((batch, None) for batch in iter(lambda: list(islice(records, ROWS_PER_BATCH)), []))
    for batch, columns in batches:
        show(source.position, source.length)
        if columns is not None:
            rejected.read += len(batch)
            yield [line for line, _, _ in batch], columns
            continue
        events = [(line, row) for line, rows in read_rows(batch, mapper, rejected) for row in rows]
        yield [line for line, _ in events], list(zip(*(row for _, row in events), strict=True))
        if rejected.is_enough:
            return
    show(source.position, source.length)


def _csv_batches(source: CsvSource, mapper: BatchMapper) -> Iterator[tuple[list[Record], list[Values] | None]]:
    """Records and, where the batch mapper can read them all, the columns of their events; their values are left out."""
    rows = source.rows()
    while batch := list(islice(rows, ROWS_PER_BATCH)):
        values = [row for _, row, _ in batch if row is not None]
        is_whole = len(values) == len(batch)
        columns = mapper.columns(source.columns(values), partial(map, source.record, values)) if is_whole else None
        if columns is not None:
            yield [(line, None, None) for line, _, _ in batch], columns
        else:
            yield [(line, None if row is None else source.record(row), reason) for line, row, reason in batch], None


def read_rows(records: Iterable[Record], mapper: RowMapper, rejected: RejectedRows) -> Iterator[tuple[int, list[Row]]]:
    """(line, events) of each row of the file that can be loaded; the others are added to `rejected`."""
    for line, record, reason in records:
        rejected.read += 1
        if record is None:
            rejected.add(line, [("", reason or "cannot be read")])
        else:
            try:
                rows = mapper.rows(record)
            except InvalidValue as error:
                rejected.add(line, mapper.problems(record) or [("", str(error))])
            else:
                yield line, rows
                continue
        if rejected.is_enough:
            return


def _preset_note(file: Prepared) -> Iterator[str]:
    if file.preset is not None:
        named = file.options.preset or file.options.format == "focus"
        yield f"preset {file.preset.name} ({file.preset.title})" + ("" if named else ", recognized by its columns")
