"""`load_files`: load files into the events table, each in its own transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
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
from usage_explore.db.schema import COLUMNS, names_table
from usage_explore.errors import ConfigurationError, DatabaseError, LoadError
from usage_explore.files.csv_source import CsvSource
from usage_explore.files.open import STANDARD_INPUT, StandardInput, likely_encoding, open_source
from usage_explore.files.sources import Record, Source, paths
from usage_explore.files.text_sources import NOT_UTF_8
from usage_explore.files.values import InvalidValue
from usage_explore.formatting import counted, path_text
from usage_explore.load.batches import ROWS_PER_BATCH, BatchMapper, Values, copy_text
from usage_explore.load.column_check import check_columns, check_readable
from usage_explore.load.date_order import DateOrder
from usage_explore.load.decimal_marks import DecimalMarks
from usage_explore.load.fields import Field, row_hash
from usage_explore.load.mapping import ColumnMapping, Measure, Preset, preset_named, recognized
from usage_explore.load.paths import exploded, member
from usage_explore.load.replace import PERIOD_COLUMNS, without_scope
from usage_explore.load.report import MAX_LISTED_ORGANIZATIONS, FileReport, RejectedRows, loaded_so_far
from usage_explore.load.row_mapper import Row, RowMapper
from usage_explore.load.staging import STAGE, Connection, Stage, mapped_errors
from usage_explore.names import LOCAL_ORGANIZATION
from usage_explore.sql.identifiers import identifier

FORMATS = ("csv", "jsonl", "json", "parquet", "xlsx", "focus")

_KEY = COLUMNS.index("idempotency_key")
_SAMPLED_ROWS = 100
"""Rows of a file without a header whose members are taken for its columns."""

MAX_REJECTED_ROWS = 10_000
"""Rejected rows after which a file is read no further, unless the others are loaded (`skip_bad`)."""

_MAX_LISTED_ORGANIZATIONS = 10
"""Organizations that an error names."""

_ANALYZE_FROM_ROWS = 1_000
"""Loaded rows from which the table's planner statistics are updated at once."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How files are read, with the names of the options of `usage-explore load`.

    `format` is "csv", "jsonl", "json", "parquet" or "xlsx", or "focus" for the preset of that name; None goes by the
    content. `preset` names a preset or a TOML file; "none" uses none; None recognizes the file by its columns.
    `mapping` names the file's column, or a dotted path into its JSON, for a documented column; `constants` gives the
    text of a documented column. `measures` names number columns, as "column" or "column=metric_key", each of which
    becomes an event of its own. `delimiter`, `encoding` and `sheet` say how the file is written, where that is not
    detected. The other options are those of `ColumnMapping`.
    """

    format: str | None = None
    preset: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    measures: Sequence[str] = ()
    keep_zero: bool = False
    dimensions: bool = True
    timezone: str | None = None
    time_format: str | None = None
    decimal: str | None = None
    null: Sequence[str] = ()
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None

    def __post_init__(self) -> None:
        """Raise `ConfigurationError` for an unknown format and for options that exclude each other."""
        if self.format is not None and self.format not in FORMATS:
            raise ConfigurationError(f"format: {self.format!r} is none of {', '.join(FORMATS)}")
        self.applied_to(ColumnMapping())

    @property
    def kind(self) -> str | None:
        """The format of the file itself."""
        return None if self.format == "focus" else self.format

    def open(self, file: Path | StandardInput) -> Source:
        """The file as a stream of records."""
        return open_source(file, self.kind, delimiter=self.delimiter, encoding=self.encoding, sheet=self.sheet)

    def chosen_preset(self, names: Sequence[str]) -> Preset | None:
        """The preset that is named, or recognized by the file's columns where the mapping does not do without."""
        if name := self.preset or ("focus" if self.format == "focus" else None):
            return None if name == "none" else preset_named(name)
        given = {*self.mapping, *self.constants, *names, *(("quantity", "metric_key") if self.measures else ())}
        return None if given.issuperset(("customer_id", "metric_key", "quantity", "timestamp")) else recognized(names)

    def applied_to(self, mapping: ColumnMapping) -> ColumnMapping:
        """The mapping, with these options in place of its own."""
        measures = {text.partition("=")[0]: text.partition("=")[2] or text for text in self.measures}
        return mapping.with_options(
            columns={column: (source,) for column, source in self.mapping.items()},
            constants=self.constants,
            measures={source: Measure(metric_key=metric) for source, metric in measures.items()},
            keep_zero=self.keep_zero or None,
            dimensions=None if self.dimensions else False,
            timezone=self.timezone,
            time_format=self.time_format,
            decimal=self.decimal,
            null=self.null,
        )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A file that was looked into: its columns, the preset and the mapping that fit it.

    `description` is the file's format in words.
    """

    file: Path | StandardInput
    names: tuple[str, ...]
    sampled: bool
    preset: Preset | None
    mapping: ColumnMapping
    options: LoadOptions
    description: str
    delimiter: str | None = None

    @property
    def path(self) -> Path:
        """The file's name in messages."""
        return self.file if isinstance(self.file, Path) else self.file.path

    def mapper(self, organization: UUID | None, *, is_local: bool = False) -> RowMapper:
        """A new mapper for the file's columns, of which no row has been read yet."""
        return RowMapper(self.mapping, self.names, organization, is_local=is_local, sampled=self.sampled)

    def ready(self, mapper: RowMapper) -> RowMapper:
        """The mapper with the order of days and months in the rows. Raises `LoadError`, for open points too."""
        encoding = likely_encoding(self.file) if self.options.encoding is None and mapper.missing() else None
        check_columns(mapper, self.path, "; the file is not UTF-8 text" + NOT_UTF_8 if encoding else "")
        mapping = self.mapping
        orders = [
            (given, DateOrder(given.column, mapper.times[given.column]))
            for given in mapper.fields
            if given.column in mapper.times and mapping.time_format is None and mapping.day_first is None
        ]
        marks = [] if mapping.decimal else [DecimalMarks(mapper, self.delimiter)]
        open_orders, open_marks = orders, marks
        for line, record in self.records() if orders or marks else ():
            open_orders = [(given, order) for given, order in open_orders if order.sees(line, value_of(given, record))]
            open_marks = [mark for mark in open_marks if mark.sees(line, record)]
            if not open_orders and not open_marks:
                break
        for _, order in orders:
            order.decide(self.path)
        for mark in marks:
            mark.decide(self.path)
        return mapper

    def records(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """(line, record) for each row that can be read."""
        with self.options.open(self.file) as source:
            for line, record, _ in source:
                with suppress(InvalidValue):
                    for single in exploded(record or {}, self.mapping.explode):
                        yield line, single


def value_of(given: Field, record: Mapping[str, Any]) -> object:
    """The value of a documented column in a record, as the file has it; None where there is none."""
    with suppress(InvalidValue):
        value = given.first(record)
        return value[2] if value else None
    return None


def prepare(file: Path | StandardInput, options: LoadOptions) -> Prepared:
    """Look at a file's columns, by its header or its first rows. Raises `LoadError`, `ConfigurationError`."""
    with options.open(file) as source:
        names, sampled = source.sample_names(_SAMPLED_ROWS), source.names is None
        description, delimiter = source.description, source.delimiter
        if sampled and not names:
            check_readable(islice(source, _SAMPLED_ROWS), source)
    preset = options.chosen_preset(names)
    mapping = options.applied_to(preset.mapping if preset else ColumnMapping())
    if mapping.explode and not sampled and mapping.explode not in names:
        mapping = replace(mapping, explode="")  # a preset that fits CSV exports too
    if mapping.explode:
        with options.open(file) as source:
            first = [record for _, record, _ in islice(source, _SAMPLED_ROWS) if record]
        if not any(member(record, mapping.explode) is not None for record in first):
            raise LoadError(
                f"{path_text(source.path)}: has no list {mapping.explode!r}, whose items are the rows (preset"
                f" {preset.name if preset else 'none'})"
            )
        names, sampled = paths(_exploded(first, mapping.explode)), True
    return Prepared(
        file=file,
        names=names,
        sampled=sampled,
        preset=preset,
        mapping=mapping,
        options=options,
        description=description,
        delimiter=delimiter,
    )


def _exploded(records: Iterable[Mapping[str, Any]], path: str) -> Iterator[Mapping[str, Any]]:
    for record in records:
        with suppress(InvalidValue):
            yield from exploded(record, path)


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
    **options: Any,
) -> list[FileReport]:
    """Load files into the events table, which is made where it is missing; "-" is standard input.

    `options` are those of `LoadOptions`. `organization_id` is the organization of rows that name none; without it they
    belong to the organization "local", unless the table holds several others. `skip_bad` loads a file without its
    rejected rows, which otherwise refuse the file. `names_table_name` is the directory that keeps the texts and names
    of ids, by default `usage_names` beside the events table. `settle` is how far pinned links stay behind the clock.
    `home` is the folder whose extracts are to know of events that the file inserts or deletes behind their watermark.
    `progress` draws a bar on stderr, or is called in its place; an exception that it raises undoes the file.

    `replace` deletes the stored events that an earlier export of the same scope left and this file no longer has, in
    the transaction that adds the others. The scope are the file's values in the columns `replace_by` (documented
    columns or dimensions; by default those of the preset) and, unless one of them names a billing period, the calendar
    months of its events in UTC.

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
        )


def input_file(path: Path | str, inputs: ExitStack) -> Path | StandardInput:
    """The file of a path; for "-" standard input, which `inputs` closes."""
    return inputs.enter_context(StandardInput()) if Path(path) == STANDARD_INPUT else Path(path)


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
) -> list[FileReport]:
    scope: tuple[str, ...] = ()
    if replace or replace_by:
        for file in files:
            scope = _scope(file, replace_by, len(files))
    name = f"{table.schema}.{table.name}" if table.schema else table.name
    mappers = [_mapper(connection, table, names, name, file, organization_id) for file in files]
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
    connection: Connection, table: Table, directory: Table, name: str, file: Prepared, organization: UUID | None
) -> RowMapper:
    """The mapper for a file. Rows without an organization belong to `organization`, else to the local one.

    Raises `LoadError` where that would be a guess, as the table holds several other organizations.
    """
    if organization is not None:
        return file.ready(file.mapper(organization))
    mapper = file.mapper(LOCAL_ORGANIZATION, is_local=True)
    check_columns(mapper, file.path)
    with mapped_errors(file.path, name):
        there = organizations(connection, table) if relation(connection, name) is not None else []
        connection.rollback()
    if len(there) < 2 or LOCAL_ORGANIZATION in there:
        return file.ready(mapper)
    if mapper.names_organization:
        return file.ready(file.mapper(None))
    listed = there[:_MAX_LISTED_ORGANIZATIONS]
    with mapped_errors(file.path, name):
        names = own_names(connection, directory, listed)
        connection.rollback()
    ids = ", ".join(names.full("organization", one) for one in listed)
    more = f" and {len(there) - _MAX_LISTED_ORGANIZATIONS:,} more" if len(there) > _MAX_LISTED_ORGANIZATIONS else ""
    raise LoadError(
        f"{path_text(file.path)}: whose events are these? Give --organization-id UUID, a column organization_id"
        " or --set"
        f" organization_id=NAME; the table holds {counted(len(there), 'organization')}: {ids}{more}"
    )


def _scope(file: Prepared, replace_by: Sequence[str], files: int) -> tuple[str, ...]:
    """The columns that name source and period of a file that replaces. Raises `LoadError`, `ConfigurationError`."""
    if files > 1:
        raise ConfigurationError(
            "replace: takes one file, because each would supersede the rows of the one before; join the parts of an"
            " export"
        )
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
            raise rejected.error()
        show(source.position, source.length, f"{source.path.name}: writing")
        if scope and (absent := without_scope(connection, STAGE, scope)):
            raise LoadError(
                f"{path_text(source.path)}: {counted(absent[1], 'row')} without a value in {absent[0]}, which"
                " --replace needs in"
                " every row; nothing was loaded or replaced"
            )
        stage.keep_names(names, mapper.ids.texts, mapper.readable)
        superseded, already_there, changed = stage.settle_repeats(scope)
        taken, first_taken = stage.taken_ids(drop=skip_bad)
        for line, reason in first_taken:
            rejected.add(line, [("id", reason)])
        rejected.rows += taken - len(first_taken)
        if taken and not skip_bad:
            raise rejected.error()
        if rounded := stage.rounded():
            column, type_, values = rounded
            raise LoadError(
                f"{path_text(source.path)}: {counted(values, 'value')} of {column} would be rounded by the"
                " table, where the column"
                f" is {type_}; make it wide enough, or load into a table made by `usage-explore init`"
            )
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
        notes=(*source.notes, *_preset_note(file), *mapper.notes(), *stage.notes()),
        first=stage.first,
        last=stage.last,
        organizations=stage.organizations,
        customers=stage.customers,
        metric_key=stage.metric_key,
        names=own_names(connection, names, stage.organizations[:MAX_LISTED_ORGANIZATIONS]),
        restated=written.restated,
        changed=changed,
        superseded=superseded,
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
