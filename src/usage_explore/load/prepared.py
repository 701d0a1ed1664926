"""What is loaded, and how: the options of a load, and a file opened with its mapping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from usage_explore.console import ShowProgress
from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.files.open import STANDARD_INPUT, StandardInput, likely_encoding, open_source
from usage_explore.files.sources import BlankRows, Record, Source, paths
from usage_explore.files.text_sources import NOT_UTF_8
from usage_explore.files.values import InvalidValue, is_blank
from usage_explore.formatting import path_text
from usage_explore.load.column_check import check_columns, check_readable, listed_columns
from usage_explore.load.fields import Field
from usage_explore.load.mapping import ColumnMapping, Measure, Preset, preset_named, recognized, zone
from usage_explore.load.notation import DateOrder, DecimalMarks
from usage_explore.load.paths import exploded, member
from usage_explore.load.row_mapper import RowMapper

FORMATS = ("csv", "jsonl", "json", "parquet", "xlsx", "focus")


_SAMPLED_ROWS = 100
"""Rows of a file without a header whose members are taken for its columns."""

MAX_PROFILED_ROWS = 1_000
"""First rows of a file whose values show what a column is."""

_PROGRESS_ROWS = 1_000


def _unseen(done: float, total: float, step: str = "") -> None:
    """Show no progress."""


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

    `description` is the file's format in words, `why_thousands` that of its `Source`.
    """

    file: Path | StandardInput
    names: tuple[str, ...]
    sampled: bool
    preset: Preset | None
    mapping: ColumnMapping
    options: LoadOptions
    description: str
    why_thousands: str = ""

    @property
    def path(self) -> Path:
        """The file's name in messages."""
        return self.file if isinstance(self.file, Path) else self.file.path

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of times without one, and of the months that the file replaces."""
        return zone(self.mapping.timezone or "UTC")

    def mapper(self, organization: UUID | None, *, is_local: bool = False) -> RowMapper:
        """A new mapper for the file's columns, of which no row has been read yet."""
        return RowMapper(self.mapping, self.names, organization, is_local=is_local, sampled=self.sampled)

    def missing(self, mapper: RowMapper) -> list[str]:
        """The columns that the file lacks; none of JSON without a row, which names no columns.

        Raises `LoadError` for a header without a row that lacks columns: what its columns are, values would show.
        """
        missing = mapper.missing()
        if missing and next(iter(self.records()), None) is None:
            if not self.names:
                return []
            what = f"a header and no rows; its columns are {listed_columns(self.names)}"
            raise LoadError(f"{path_text(self.path)}: the file has {what}; there is nothing to load")
        return missing

    def check_columns(self, mapper: RowMapper) -> None:
        """Raise `LoadError`, with a hint, where the file lacks columns."""
        missing = self.missing(mapper)
        if not self.names and not missing:
            return
        encoding = likely_encoding(self.file) if self.options.encoding is None and missing else None
        check_columns(mapper, self.path, "; the file is not UTF-8 text" + NOT_UTF_8 if encoding else "")

    def ready(self, mapper: RowMapper, show: ShowProgress = _unseen) -> RowMapper:
        """The mapper with the order of days and months in the rows, which may be those of the whole file.

        Raises `LoadError`, for open points too.
        """
        self.check_columns(mapper)
        mapping = self.mapping
        orders = [
            (given, DateOrder(given.column, mapper.times[given.column]))
            for given in mapper.fields
            if given.column in mapper.times and mapping.time_format is None and mapping.day_first is None
        ]
        marks = [] if mapping.decimal else [DecimalMarks(mapper, self.why_thousands)]
        open_orders, open_marks = orders, marks
        for line, record in self.records(show) if orders or marks else ():
            open_orders = [(given, order) for given, order in open_orders if order.sees(line, value_of(given, record))]
            open_marks = [mark for mark in open_marks if mark.sees(line, record)]
            if not open_orders and not open_marks:
                break
        for _, order in orders:
            order.decide(self.path)
        for mark in marks:
            mark.decide(self.path)
        return mapper

    def records(self, show: ShowProgress = _unseen) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """(line, record) for each row that can be read. Raises `LoadError` where 100,000 in a row cannot."""
        with self.options.open(self.file) as source:
            blank = BlankRows(self.path, "rows that are blank or cannot be read")
            for line, record, _ in shown(source, show):
                blank.see(not record or all(map(is_blank, record.values())), source.unit, line)
                with suppress(InvalidValue):
                    for single in exploded(record or {}, self.mapping.explode):
                        yield line, single

    def first_records(self) -> list[Mapping[str, Any]]:
        """The first `MAX_PROFILED_ROWS` records. Raises as `records`."""
        return [record for _, record in islice(self.records(), MAX_PROFILED_ROWS)]


def shown(source: Source, show: ShowProgress) -> Iterator[Record]:
    """The records of a file, with the progress every `_PROGRESS_ROWS` of them."""
    for number, record in enumerate(source, 1):
        if number % _PROGRESS_ROWS == 0:
            show(source.position, source.length)
        yield record


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
        description, why_thousands = source.description, source.why_thousands
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
        why_thousands=why_thousands,
    )


def _exploded(records: Iterable[Mapping[str, Any]], path: str) -> Iterator[Mapping[str, Any]]:
    for record in records:
        with suppress(InvalidValue):
            yield from exploded(record, path)


def input_file(path: Path | str, inputs: ExitStack) -> Path | StandardInput:
    """The file of a path; for "-" standard input, which `inputs` closes."""
    return inputs.enter_context(StandardInput()) if Path(path) == STANDARD_INPUT else Path(path)
