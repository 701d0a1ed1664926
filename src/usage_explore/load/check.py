"""A look at a file before it is loaded, without a database: what it is, what its rows become, what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from usage_explore.console import ShowProgress, table
from usage_explore.db.schema import COLUMNS
from usage_explore.decimals import exact_sum
from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.files.exact_json import loads_object
from usage_explore.files.open import STANDARD_INPUT, StandardInput, likely_encoding
from usage_explore.files.sources import paths
from usage_explore.formatting import counted, in_sentence, listed, on_one_line, path_text
from usage_explore.load.column_check import dimension_columns, listed_columns
from usage_explore.load.command_line import command
from usage_explore.load.currency_columns import currency_warnings
from usage_explore.load.doubtful_ids import TotalLines
from usage_explore.load.fields import KINDS
from usage_explore.load.mapping import ID_COLUMNS, ColumnMapping, Preset
from usage_explore.load.paths import member
from usage_explore.load.prepared import MAX_PROFILED_ROWS, LoadOptions, Prepared, input_file, prepare, shown, value_of
from usage_explore.load.profiles import profiles
from usage_explore.load.proposals import Proposal, propose
from usage_explore.load.report import NO_ROW_LEFT_OUT, Fault, RejectedRows, fault_lines, future_from, future_warnings
from usage_explore.load.row_mapper import Row, RowMapper
from usage_explore.load.run import MAX_REJECTED_ROWS, absent_values, read_rows, scope_columns
from usage_explore.load.scopes import FileSources, replace_notes
from usage_explore.load.times import time_formats
from usage_explore.names import LOCAL_ORGANIZATION, kind_of

MAX_EXAMPLE_ROWS = 3
"""Rows of the file that are shown as the events they become."""

MAX_LISTED_METRICS = 10
"""Metrics whose total is shown."""

_PLACES = {column: place for place, column in enumerate(COLUMNS)}


@dataclass(frozen=True, slots=True)
class MappedColumn:
    """A column of the events, where its values come from ("User", "'local'"), and why."""

    column: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Total:
    """An amount: of the quantities of a metric, or of the costs in a currency (None: without one)."""

    name: str | None
    amount: Decimal
    events: int


@dataclass(frozen=True, kw_only=True)
class FileCheck:
    """What a file would become. `str()` is a report of several lines.

    `format` says what the file is. `options` are those given and, where columns or values needed more, proposed ones;
    `is_proposed` says so, `reasons` why by column or option, and `command` is the command line with them. `missing` are
    required columns that neither gives; `problem` is the error that keeps all rows from being read, "" for none;
    `alternatives` are then (condition, command line), such as ("the day is first", "… --time-format %d/%m/%Y").
    Without either, `examples` has the events of the first rows as (line, columns), and the numbers are those of the
    whole file: `read` rows, of which `rejected` cannot be loaded, for the reasons in `faults`; `events`, from `first`
    to `last`, `future` of them in the future; `customers` counts different ones; `totals` are the quantities by metric,
    `costs` the costs by currency. `is_cut` says that reading stopped at 10,000 rejected rows, as loading does without
    `skip_bad`: the numbers are then those of the rows up to there. With `skip_bad` the file is checked for a load
    without its rejected rows, which is refused of one that `replaces`.
    """

    path: Path
    format: str
    preset: Preset | None
    names: tuple[str, ...]
    mapping: tuple[MappedColumn, ...]
    dimensions: tuple[str, ...]
    options: LoadOptions
    reasons: Mapping[str, str]
    command: str
    missing: tuple[str, ...] = ()
    problem: str = ""
    examples: tuple[tuple[int, Mapping[str, str | None]], ...] = ()
    read: int = 0
    rejected: int = 0
    events: int = 0
    first: datetime | None = None
    last: datetime | None = None
    future: int = 0
    customers: int = 0
    totals: tuple[Total, ...] = ()
    costs: tuple[Total, ...] = ()
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    alternatives: tuple[tuple[str, str], ...] = ()
    is_cut: bool = False
    skip_bad: bool = False
    replaces: bool = False

    @property
    def is_loadable(self) -> bool:
        """Whether `command` loads the file, also one without rows: none is rejected; with `skip_bad`, not all are."""
        is_refused = self.rejected and not (self.skip_bad and self.events and not self.replaces)
        return not (self.missing or self.problem or is_refused)

    @property
    def is_proposed(self) -> bool:
        """Whether the options have proposed ones."""
        return bool(self.reasons)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def check_file(
    path: Path | str,
    options: LoadOptions | None = None,
    *,
    skip_bad: bool = False,
    proposals: bool = True,
    organization_id: UUID | None = None,
    replace: bool = False,
    replace_by: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    browser_timezone: str | None = None,
    show: ShowProgress = lambda *_: None,
) -> FileCheck:
    """Read a file as `load_files` would with the options, and with `proposals` propose more where columns are missing.

    As there, reading stops at 10,000 rejected rows, unless they are to be left out (`skip_bad`). `browser_timezone` is
    proposed for times without an offset, by default UTC. `show(done, total)` is called now and then. `settings` are
    values of other options for the command line, the rest are those of `load_files`. Raises `LoadError` for a file that
    cannot be read, and `ConfigurationError` for faulty options.
    """
    settings = {"organization_id": organization_id, **(settings or {})}
    look = _Look(
        given=options or LoadOptions(),
        skip_bad=skip_bad,
        proposals=proposals,
        zone=browser_timezone,
        organization_id=organization_id,
        replace_by=replace_by if replace or replace_by else None,
        command=partial(command, replace=replace, replace_by=replace_by, settings=settings),
    )
    with ExitStack() as inputs:
        return _checked(input_file(path, inputs), look, show)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """The options of a check, see `check_file`. `replace_by` is None for a load that does not replace."""

    given: LoadOptions
    skip_bad: bool
    proposals: bool
    zone: str | None
    organization_id: UUID | None
    replace_by: Sequence[str] | None
    command: Callable[..., str]

    def mapper(self, file: Prepared) -> RowMapper:
        """A new mapper for the file's columns."""
        return file.mapper(self.organization_id or LOCAL_ORGANIZATION, is_local=self.organization_id is None)


def _checked(path: Path | StandardInput, look: _Look, show: ShowProgress) -> FileCheck:
    given, options, reasons = look.given, look.given, {}
    if look.proposals and given.encoding is None and (encoding := likely_encoding(path)):
        options = replace(given, encoding=encoding)
        reasons["encoding"] = (
            f"the file is not UTF-8; {encoding} (Windows, Western Europe) is a guess, check its letters"
        )
    file = prepare(path, options)
    mapper = look.mapper(file)
    has_no_row = file.missing(mapper) != mapper.missing()
    proposal = Proposal(options=options, reasons={})
    if look.proposals and not has_no_row:
        proposal = _proposal(file, mapper, look.zone)
    proposal = replace(proposal, reasons={**proposal.reasons, **reasons})
    if proposal.reasons:
        file = prepare(path, proposal.options)
        mapper = look.mapper(file)
    named = path if isinstance(path, Path) else STANDARD_INPUT
    missing = () if has_no_row else tuple(mapper.missing())
    checked = FileCheck(
        path=file.path,
        format=file.description,
        preset=file.preset,
        names=file.names,
        mapping=tuple(_mapped(file, mapper, given, proposal.reasons)),
        dimensions=dimension_columns(mapper),
        options=file.options,
        reasons=proposal.reasons,
        command=look.command(named, file.options, missing),
        missing=missing,
        notes=proposal.notes,
        skip_bad=look.skip_bad,
        replaces=look.replace_by is not None,
    )
    if missing:
        return checked
    try:
        file.ready(mapper, show)
    except LoadError as error:
        formats = time_formats(_times(file, mapper)) if file.mapping.time_format is None else {}
        return replace(
            checked,
            problem=str(error),
            alternatives=tuple(
                (f"the {first} is first", look.command(named, replace(file.options, time_format=format_)))
                for first, format_ in formats.items()
            ),
        )
    try:
        scope = () if look.replace_by is None else scope_columns(file, look.replace_by)
    except (LoadError, ConfigurationError) as error:
        return replace(checked, problem=str(error))
    count = _Count(file, mapper, scope)
    found = count.result(checked, show)
    events = sum(total.events for total in found.costs if total.name is None)
    notes = (*proposal.notes, *found.notes, *currency_warnings(events, file, mapper))
    notes += (*future_warnings(found.future, found.last), *replace_notes(count.sources))
    notes += (*count.total_lines.warnings({total.name: total.amount for total in found.totals}),)
    return replace(found, notes=notes)


def _times(file: Prepared, mapper: RowMapper) -> list[str]:
    """The texts of the first rows' timestamps."""
    field = next(field for field in mapper.fields if field.column == "timestamp")
    return [raw for record in file.first_records() if isinstance(raw := value_of(field, record), str) and raw]


def _proposal(file: Prepared, mapper: RowMapper, zone: str | None) -> Proposal:
    records = file.first_records()
    columns = profiles(file.names, records, file.mapping.null_text)
    unnamed = [] if file.preset else RowMapper(ColumnMapping(), file.names, None, sampled=file.sampled).missing()
    return propose(
        file.options, file.mapping, mapper.missing(), unnamed, mapper.taken(), columns, _lists(file, records), zone
    )


def _lists(file: Prepared, records: list[Mapping[str, Any]]) -> list[str]:
    """The paths to lists of objects, such as attributes.measurements; those whose items have times and numbers first.

    The lists of the first record count.
    """
    parents = dict.fromkeys(name.rpartition(".")[0] for name in file.names if "." in name)
    values = {parent: member(record, parent) for record in records[:1] for parent in parents}
    lists = {path: value for path, value in values.items() if isinstance(value, list) and value}
    return sorted(
        (path for path, items in lists.items() if all(isinstance(item, Mapping) for item in items)),
        key=lambda path: not _has_events(lists[path][:MAX_PROFILED_ROWS]),
    )


def _has_events(items: list[Mapping[str, Any]]) -> bool:
    """Whether the items have a column of times and one of numbers."""
    columns = profiles(paths(items), items, frozenset()).values()
    return any(one.is_time for one in columns) and any(one.is_number for one in columns)


def _mapped(
    file: Prepared, mapper: RowMapper, given: LoadOptions, reasons: Mapping[str, str]
) -> Iterator[MappedColumn]:
    by_preset = f"preset {file.preset.name}" if file.preset else ""
    for column in COLUMNS:
        reason = reasons.get(column, "")
        if column in mapper.mapping.constants:
            text = mapper.mapping.constants[column]
            by = reason or ("--set" if column in given.constants else by_preset)
            yield MappedColumn(column, repr(text), by)
        elif sources := [
            source
            for source in mapper.sources.get(column, ())
            if source in file.names or source in mapper.joined or "." in source
        ]:
            by = "--map" if column in given.mapping else by_preset if column in file.mapping.columns else "same name"
            yield MappedColumn(column, ", else ".join(sources), reason or by)
    for source, measure in mapper.measures.items():
        if source in file.names:
            reason = reasons.get("measures") or ("--measure" if given.measures else by_preset)
            yield MappedColumn("quantity", source, f"{reason}; metric {measure.metric_key}")
    yield from (MappedColumn(f"name of {column}", name, "same name") for column, name in mapper.own_names.items())
    for option in ("encoding", "timezone", "decimal", "null"):
        if option in reasons:
            value = getattr(file.options, option)
            text = value if isinstance(value, str) else " ".join(map(repr, value))
            yield MappedColumn(f"--{option}", text, reasons[option])


class _Count:
    """The numbers of a file's events."""

    def __init__(self, file: Prepared, mapper: RowMapper, scope: Sequence[str]) -> None:
        self._file, self._mapper = file, mapper
        self.total_lines = TotalLines(mapper)
        self._sums: dict[tuple[str, str | None], tuple[Decimal, int]] = {}
        self._customers: set[tuple[str | None, str | None]] = set()
        self._first: str | None = None
        self._last: str | None = None
        self._events = self._future = 0
        self._future_from = future_from().isoformat()
        self.sources = FileSources(scope, file.zone)
        self._kept: dict[tuple[str | None, str], tuple[int, list[Row]]] = {}

    def result(self, checked: FileCheck, show: ShowProgress) -> FileCheck:
        """The check with the numbers of all rows."""
        examples: list[tuple[int, Mapping[str, str | None]]] = []
        exemplary: set[int] = set()
        with self._file.options.open(self._file.file) as source:
            source.expect(self._mapper.kinds(), assume_utc=bool(self._file.mapping.timezone))
            rejected = RejectedRows(source, None if checked.skip_bad else MAX_REJECTED_ROWS)
            for line, rows in read_rows(shown(source, show), self._mapper, rejected):
                if rows and len(exemplary) < MAX_EXAMPLE_ROWS:
                    exemplary.add(line)
                    examples += [(line, self._readable(row)) for row in rows]
                self._add(line, rows)
            show(source.length, source.length)
        for _, rows in self._kept.values():
            self._count(rows)
        return replace(
            checked,
            examples=tuple(examples),
            read=rejected.read,
            rejected=rejected.rows,
            is_cut=rejected.is_enough,
            events=self._events,
            problem=next((absent_values(checked.path, *item) for item in self.sources.absent.items() if item[1]), ""),
            first=datetime.fromisoformat(self._first) if self._first else None,
            last=datetime.fromisoformat(self._last) if self._last else None,
            future=self._future,
            customers=len(self._customers),
            totals=self._totals("quantity"),
            costs=self._totals("cost"),
            faults=rejected.faults,
            notes=(*(note for note in source.notes if note not in checked.format), *self._mapper.notes()),
        )

    def _readable(self, row: Row) -> Mapping[str, str | None]:
        """The columns of an event, ids by the text that the file has."""
        event = dict(zip(COLUMNS, row, strict=True))
        for column in ID_COLUMNS:
            if id_ := event[column]:
                event[column] = self._mapper.ids.texts.get((kind_of(column), id_), id_)
        return event

    def _add(self, line: int, rows: list[Row]) -> None:
        if not self._file.mapping.last_line_wins:
            self._count(rows)
            return
        for row in rows:
            key = row[_PLACES["idempotency_key"]]
            if key is None:
                self._count([row])
                continue
            if self._mapper.is_measured:
                key = key[: -1 - len(row[_PLACES["metric_key"]] or "")]
            place = row[_PLACES["organization_id"]], key
            if place not in self._kept or self._kept[place][0] != line:
                self._kept[place] = line, []
            self._kept[place][1].append(row)

    def _count(self, rows: list[Row]) -> None:
        for row in rows:
            self._events += 1
            if self.sources.columns:
                event = dict(zip(COLUMNS, row, strict=True))
                self.sources.add({**loads_object(event["dimensions"] or "{}"), **event})
            self._customers.add((row[_PLACES["organization_id"]], row[_PLACES["customer_id"]]))
            time = row[_PLACES["timestamp"]] or ""
            self._first = time if self._first is None else min(self._first, time)
            self._last = time if self._last is None else max(self._last, time)
            self._future += time > self._future_from
            self._sum("quantity", row[_PLACES["metric_key"]], row[_PLACES["quantity"]])
            self.total_lines.add(*(row[_PLACES[each]] for each in ("customer_id", "metric_key", "quantity")))
            self._sum("cost", row[_PLACES["external_cost_currency"]], row[_PLACES["external_cost_amount"]])

    def _sum(self, kind: str, name: str | None, text: str | None) -> None:
        if text is not None:
            amount, events = self._sums.get((kind, name), (Decimal(0), 0))
            self._sums[kind, name] = Decimal(exact_sum((amount, Decimal(text)), Decimal(0))), events + 1

    def _totals(self, kind: str) -> tuple[Total, ...]:
        totals = [Total(name, *sums) for (of, name), sums in self._sums.items() if of == kind]
        return tuple(sorted(totals, key=lambda total: -total.events))


def _lines(checked: FileCheck) -> Iterator[str]:
    yield f"{path_text(checked.path)}: {checked.format}, {counted(len(checked.names), 'column')}"
    if checked.preset:
        yield f"preset {checked.preset.name}: {checked.preset.title}"
    yield ""
    yield from table(
        [("column of the events", "left"), ("from", "left"), ("because", "left")],
        [(one.column, one.source, one.reason) for one in checked.mapping],
    )
    if checked.dimensions:
        yield f"dimensions: {listed_columns(checked.dimensions)}"
    yield ""
    if checked.missing:
        yield f"missing: {listed(checked.missing)}, which no column clearly is"
        yield f"the file has {listed_columns(checked.names)}"
        yield from checked.notes
    elif checked.problem:
        yield checked.problem
    else:
        yield from _numbers(checked)
    yield ""
    yield from _commands(checked)


def _commands(checked: FileCheck) -> Iterator[str]:
    """The command that loads the file, or why none does, with those that come nearest."""
    proposed = " (proposed; check the columns above)" if checked.is_proposed else ""
    skipping = f"{checked.command} --skip-bad"
    if checked.is_loadable and not checked.events:
        no_event = "its row becomes no event" if checked.read == 1 else "its rows become no event"
        yield f"Loading it would add nothing: {no_event if checked.read else 'the file has no rows'}."
    elif checked.is_loadable:
        left_out = f" without {counted(checked.rejected, 'rejected row')}" if checked.rejected else ""
        yield f"Load it{left_out} with{proposed}:"
        yield f"  {skipping if checked.rejected else checked.command}"
    elif checked.missing:
        yield f"It cannot be loaded yet: put the file's columns in place of COLUMN{proposed}:"
        yield f"  {checked.command}"
    elif checked.alternatives:
        yield f"It cannot be loaded until the order of day and month is named{proposed}."
        for meaning, line in checked.alternatives:
            yield f"If {meaning}:"
            yield f"  {line}"
    elif checked.problem:
        yield f"It cannot be loaded until this is corrected; the options so far{proposed}:"
        yield f"  {checked.command}"
    elif checked.events:
        yield (
            f"It is not loaded as it is: {checked.rejected:,} of {counted(checked.read, 'row')} "
            f"{'is' if checked.rejected == 1 else 'are'} rejected. Correct them or the options{proposed}:"
        )
        yield f"  {checked.command}"
        if checked.replaces:
            yield f"{NO_ROW_LEFT_OUT}."
            return
        rows = "all rejected rows" if checked.is_cut else counted(checked.rejected, "rejected row")
        yield f"Or leave {rows} out:"
        yield f"  {skipping}"
    else:
        yield (
            f"It cannot be loaded: {counted(checked.rejected, 'row')} of {checked.read:,} rejected, none becomes an"
            f" event. Correct the file or the options{proposed}:"
        )
        yield f"  {checked.command}"


def _cell(column: str, text: str | None) -> str:
    if text is None:
        return ""
    return in_sentence(Decimal(text)) if KINDS[column] == "number" else text


def _numbers(checked: FileCheck) -> Iterator[str]:
    shown = ["timestamp", "customer_id", "metric_key", "quantity"]
    shown += [
        column
        for column in ("external_cost_amount", "external_cost_currency")
        if any(event[column] for _, event in checked.examples)
    ]
    yield from table(
        [("line", "right"), *((column, "right" if column == "quantity" else "left") for column in shown)],
        [(f"{line:,}", *(_cell(column, event[column]) for column in shown)) for line, event in checked.examples],
    )
    yield ""
    if checked.is_cut:
        yield (
            f"The rest of the file is not read after {counted(checked.rejected, 'rejected row')}; the numbers are those"
            " of the rows before. --check --skip-bad reads all."
        )
    yield (
        f"{counted(checked.read, 'row')}, {counted(checked.events, 'event')}, {checked.rejected:,} rejected"
        + (f"; {checked.first.isoformat()} to {checked.last.isoformat()}" if checked.first and checked.last else "")
    )
    yield f"{counted(checked.customers, 'customer')}, {counted(len(checked.totals), 'metric')}"
    for total in checked.totals[:MAX_LISTED_METRICS]:
        yield f"  {on_one_line(total.name or '')}: {in_sentence(total.amount)} in {counted(total.events, 'event')}"
    if len(checked.totals) > MAX_LISTED_METRICS:
        yield f"  … and {len(checked.totals) - MAX_LISTED_METRICS:,} more metrics"
    for total in checked.costs:
        yield f"  cost: {in_sentence(total.amount)} {on_one_line(total.name or 'without a currency')}"
    yield from (f"  {note}" for note in checked.notes)
    yield from fault_lines(checked.faults, checked.rejected)
