"""The report of a load: how many rows were loaded, skipped and rejected, what was decided for them, and faults."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID
from zoneinfo import ZoneInfo

from usage_explore.db.schema import COLUMNS
from usage_explore.errors import LoadError
from usage_explore.files.sources import Source
from usage_explore.formatting import counted, duration, listed, path_text, zoned
from usage_explore.names import LOCAL_NAME, NO_NAMES, Names
from usage_explore.query import buckets
from usage_explore.query.queries import AggregateQuery
from usage_explore.query.url_params import link

if TYPE_CHECKING:
    from usage_explore.load.row_mapper import RowMapper


MAX_LISTED_ORGANIZATIONS = 3
"""Organizations that a report names."""

_UTC = ZoneInfo("UTC")

_CLOCK_DIFFERENCE = timedelta(minutes=5)
"""How far a source's clock may be ahead: events up to there are not in the future."""

_IF_SAME = (
    "If it is the same usage, it is counted twice: load the file again with --replace, which deletes what other files"
    " brought of its source and months, too; where no preset names the columns of its source, with --replace-by COLUMN"
)
"""What to do about rows that may be loaded again."""

MAX_KEPT_REJECTIONS = 1_000
"""Rejected values that `FileReport.rejections` holds; the rows of further ones are counted."""


def future_from() -> datetime:
    """The instant after which the time of an event is in the future."""
    return datetime.now(UTC) + _CLOCK_DIFFERENCE


def future_warnings(events: int, last: datetime | None) -> Iterator[str]:
    """The warning of events in the future, the last of which is at `last`."""
    if events and last:
        ahead = duration(last - datetime.now(UTC))
        yield (
            f"warning: 1 event is {ahead} in the future: is the time zone right?"
            if events == 1
            else f"warning: {events:,} events are up to {ahead} in the future: is the time zone right?"
        )


@dataclass(frozen=True, slots=True)
class Rejection:
    """One value that cannot be loaded. `line` is the line that the row starts on, from 1 (Parquet: the row's number).

    `unit` is "line" or "row"; `column` is empty where the whole row cannot be read. `str()` is one sentence.
    """

    path: Path
    unit: str
    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        column = f", {self.column}" if self.column else ""
        return f"{path_text(self.path)}, {self.unit} {self.line:,}{column}: {self.reason}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileReport:
    """The result of loading one file. Every event is in exactly one of `loaded` and `already_there`.

    A row is an event, or several with measures; `read` counts the rows of the file, `rejected` those that cannot be
    loaded; `notes` has those that are no usage. Of the loaded events:
    `repeats` have the organization, time and idempotency key of an earlier row of the file;
    `identical` have no key and equal an earlier row;
    `generated_keys` had no key and got a hash of the row as one;
    `backdated` have an `ingested_at` that is longer ago than the settle time;
    `restated` equal a stored event in everything but key and amounts, and one of the two has no key of its own;
    `credits` of them correct it by quantities of the other sign, a tenth of them or more in a file of corrections;
    `loaded_again` have its customer, metric, time and quantity, and dimensions that may be of the same row, one of the
    two has no key, and they are enough of the rows (of those without a key, if there are any) for a repeated file, or
    of what an earlier load has in the file's time; or other values or keys, and quantities that are no coincidence;
    `other_zone` have its customer, metric, quantity and common dimensions, and their times differ from those of nine
    tenths of an earlier load by the distance of two time zones, once both are cut or rounded alike, or their keys are
    stored at such times and they are half of the loaded rows;
    `cut_times` have these, too, and their times are those of an earlier load cut or rounded to seconds or the like, or
    the reverse.

    `other_times` counts idempotency keys of loaded rows that the table has at more than one time. `changed` counts rows
    already there that differ from the stored event, or whose stored event is of another source or period than
    the file replaces, and `changed_columns` names the columns and dimensions in which they differ. `superseded` counts
    stored events that were deleted because the file no longer has them (`replace`), `replaced` says of which source,
    period and loads; `superseded_settled` says whether a pinned link can have shown one of them. `rejections` has the
    first 1,000 rejected values, `faults` their kinds. `notes` are sentences about what was decided for the rows.
    `first`, `last`, written in `zone`, `organizations` and `customers` (their number) are those of all events of the
    file, `month_end` is the last time of the month, of UTC, with most of those loaded, `future` the number of those in
    the future when they were loaded; `metric_key` is their metric, None if they have several, and `names` has the
    organizations' names. `writing` is how long the table was written. `str()` has one line for each of these.
    """

    path: Path
    loaded: int
    already_there: int
    rejected: int
    repeats: int
    identical: int
    other_times: int
    backdated: int
    generated_keys: int
    settle: timedelta
    writing: timedelta
    rejections: tuple[Rejection, ...]
    notes: tuple[str, ...] = ()
    restated: int = 0
    credits: int = 0
    loaded_again: int = 0
    other_zone: int = 0
    cut_times: int = 0
    changed: int = 0
    changed_columns: tuple[str, ...] = ()
    superseded: int = 0
    superseded_settled: bool = False
    replaced: str = ""
    first: datetime | None = None
    last: datetime | None = None
    month_end: datetime | None = None
    zone: ZoneInfo = _UTC
    future: int = 0
    organizations: tuple[UUID, ...] = ()
    customers: int = 0
    metric_key: str | None = None
    names: Names = NO_NAMES
    read: int = 0
    faults: tuple[Fault, ...] = ()

    @property
    def rows(self) -> int:
        """Events of the file, and rejected rows."""
        return self.loaded + self.already_there + self.rejected

    def __str__(self) -> str:
        return "\n".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        yield (
            f"{path_text(self.path)}: loaded {counted(self.loaded, 'event')} "
            f"({self.already_there:,} already there, {self.rejected:,} rejected)"
        )
        if self.first and self.last:
            listed_ones = self.organizations[:MAX_LISTED_ORGANIZATIONS]
            organizations = ", ".join(self.names.full("organization", one) for one in listed_ones)
            yield (
                f"  from {zoned(self.first, self.zone)} to {zoned(self.last, self.zone)}, "
                f"{counted(self.customers, 'customer')}, {_plural(len(self.organizations), 'organization')} "
                f"{organizations}{' …' * (len(self.organizations) > MAX_LISTED_ORGANIZATIONS)}"
            )
        if not self.read:
            yield "  the file has no rows"
        elif self.rows and self.already_there == self.rows and not (self.changed and self.replaced):
            what = "the key and time of every row were" if self.changed else "every row was"
            yield f"  {what} in the table already; nothing was added"
        if self.repeats:
            yield f"  {_rows(self.repeats, 'repeat')} an idempotency key and time of the same file; loaded"
        if self.other_times:
            yield f"  {counted(self.other_times, 'idempotency key')} also at another time; loaded"
        if self.identical:
            yield f"  {_rows(self.identical, 'equal')} an earlier row of the file, without a key; loaded"
        if self.generated_keys:
            yield f"  {counted(self.generated_keys, 'row')} without an idempotency key got a hash of the row as one"
        yield from (f"  {note}" for note in self.notes)
        yield from (f"  {warning}" for warning in future_warnings(self.future, self.last))
        if self.replaced:
            yield f"  superseded {counted(self.superseded, 'stored event')} {self.replaced}"
        if self.superseded_settled:
            yield "  warning: links pinned before this load (as_of) no longer show them"
        if self.credits:
            yield (
                f"  {_rows(self.credits, 'correct')} a stored event by quantities or costs of the other sign, as"
                " credits, reversals and deltas do; both count"
            )
        if self.restated > self.credits:
            yield (
                f"  warning: {_rows(self.restated - self.credits, 'equal')} a stored event in everything but key and"
                " amounts; loaded beside it, so a restated export is counted twice: load the file again with --replace"
            )
        if self.loaded_again:
            yield (
                f"  warning: {_rows(self.loaded_again, 'repeat')} the customer, metric, time and quantity of a stored"
                " event with other columns, values or keys, as when a file is loaded again with other options; loaded"
                f" beside it. {_IF_SAME}"
            )
        zone, cut = " at times that another time zone gives", ", and one of the two has its times cut or rounded"
        for rows, how in ((self.other_zone, zone), (self.cut_times, f"{cut}, such as to seconds")):
            if rows:
                yield (
                    f"  warning: {_rows(rows, 'repeat')} an earlier load's customers, metrics, quantities and common"
                    f" dimensions{how}; loaded beside it. {_IF_SAME}"
                )
        if self.changed and self.replaced:
            yield (
                f"  warning: {_rows(self.changed, 'repeat')} the key and time of a stored event of another source or"
                " period, which stays; not loaded: replace the events of that one first, by a file without such rows"
            )
        elif self.changed:
            yield (
                f"  warning: {_rows(self.changed, 'repeat')} the key and time of a stored event with other values in"
                f" {listed(self.changed_columns)}; not loaded: load the file again with --replace if it restates an"
                " earlier export"
            )
        if self.rejected:
            yield from (f"  {line}" for line in fault_lines(self.faults, self.rejected))
        if self.backdated:
            yield (
                f"  warning: {_rows(self.backdated, 'say')} ingested_at more than {duration(self.settle)} ago: "
                "links pinned before this load (as_of) will show them too"
            )
        if self.loaded and self.writing > self.settle:
            yield (
                f"  warning: writing took longer than the settle time of {duration(self.settle)}: "
                "links pinned meanwhile (as_of) will show these rows too; load smaller files or raise the settle time"
            )


def app_links(reports: Sequence[FileReport], app_url: str, timezone: str) -> list[str]:
    """The app's links to the events of the files, one for each of the first few organizations."""
    return [link(app_url, "", query) for query in loaded_queries(reports, timezone)]


def loaded_queries(reports: Sequence[FileReport], timezone: str) -> list[AggregateQuery]:
    """The query of exactly the minutes of the files' events, one for each of the first few organizations.

    It is by hour where they span up to four days, by day up to a year, and by week or month beyond.
    It adds up quantities where the files have one metric; different metrics have different units, so of several the
    events are counted by metric.
    """
    queries = []
    for organization in dict.fromkeys(one for report in reports for one in report.organizations):
        spans = [report for report in reports if organization in report.organizations]
        first = min(report.first for report in spans if report.first).replace(second=0, microsecond=0)
        last = max(report.last for report in spans if report.last).replace(second=0, microsecond=0)
        query = AggregateQuery(
            organization_id=organization,
            bucket=buckets.fitting(last - first),
            since=first,
            until=last + timedelta(minutes=1),
            timezone=timezone,
            group_by="metric_key",
        )
        metrics = {report.metric_key for report in spans}
        if (metric_key := metrics.pop()) is not None and not metrics:
            query = query.replace(group_by="none", metric="sum_quantity", metric_key=(metric_key,))
        queries.append(query)
    return queries[:MAX_LISTED_ORGANIZATIONS]


def _plural(number: int, noun: str) -> str:
    return noun if number == 1 else f"{number:,} {noun}s"


def _rows(number: int, verb: str) -> str:
    return f"1 row {verb}s" if number == 1 else f"{number:,} rows {verb}"


_CLOCK_COLUMNS = ("time", "hour", "uhrzeit", "stunde", "time of day")
"""Names, in lower case, of columns that may have the time of day of a date in another column."""


def notes(mapper: RowMapper) -> Iterator[str]:
    """The sentences, after the rows were read."""
    counts, mapping = mapper.counts, mapper.mapping
    for column, times in mapper.times.items():
        if times.decided_by:
            first = "month" if times.day_first is False else "day"
            years = "; years of two digits are 2000 to 2099" if times.has_short_years else ""
            yield f"{column}: the {first} is first, by {times.decided_by}{years}"
        if number := times.counts["dates"]:
            yield f"{counted(number, 'date')} in {column} read as midnight in {times.timezone}"
            free = [name for name in mapper.names if name not in mapper.taken()]
            source = mapper.sources[column][0]
            if clock := next((name for name in free if name.strip().lower() in _CLOCK_COLUMNS), None):
                yield (
                    f"the column {clock!r} may have the time of day of {column}, but is not read; join it with --map"
                    f" {shlex.quote(f'{column}={source}+{clock}')}"
                )
        if number := times.counts["months"]:
            yield f"{counted(number, 'whole month')} in {column} read as midnight of its first day in {times.timezone}"
        if number := times.counts["local_times"]:
            yield f"{counted(number, 'time')} in {column} without an offset read in {times.timezone}"
        if number := times.counts["ambiguous"]:
            yield (
                f"{counted(number, 'time')} in {column} that the clock of {times.timezone} shows twice or skips, read"
                " with the offset before the change"
            )
        if number := times.counts["truncated"]:
            yield f"{counted(number, 'time')} in {column} finer than a microsecond; further digits are left out"
    for column, text in mapping.defaults.items():
        if column in ("product_id", "metric_key") and not mapper.sources.get(column):
            continue  # the same for all rows of the file
        if rows := counts[f"default {column}"]:
            sources = " or ".join(mapping.columns.get(column, (column,)))
            yield f"{counted(rows, 'row')} without a value in {sources}: {column} {text}"
    yield from _unused_columns(mapper)
    if rows := counts["skipped"]:
        yield f"{counted(rows, 'row')} without {listed(mapping.only_with)} skipped, as no usage"
    if rows := counts["nothing measured"]:
        yield f"{counted(rows, 'row')} in which every measure is empty or zero"
    if rows := counts["without organization"]:
        yield (
            f"{counted(rows, 'row')} without an organization belong to the organization {LOCAL_NAME!r}; name another"
            " with --organization-id UUID or --set organization_id=NAME"
        )
    if rows := counts["without customer"]:
        yield (
            f"{counted(rows, 'row')} without a customer belong to the customer {LOCAL_NAME!r}; name a column with"
            " --map customer_id=COLUMN"
        )


_MIN_SIMILARITY = 0.85
"""Similarity, from 0 to 1, of a column's name to that of a column of the events, from which it may be meant."""


def _unused_columns(mapper: RowMapper) -> Iterator[str]:
    """Columns that become dimensions and may be meant for a column of the events, and a currency without an amount."""
    mapping = mapper.mapping
    given = {column for column, sources in mapper.sources.items() if sources} | {*mapping.constants, *mapping.defaults}
    given |= {"external_cost_amount"} if mapping.cost_factors or mapping.cost_plus else set()
    free = [column for column in COLUMNS if column not in given and column != "dimensions"]
    if mapping.dimensions and not mapping.keep:
        taken = mapper.taken().union(mapper.resolved(mapping.ignore))
        for name in mapper.names:
            meant = next((column for column in free if name not in taken and _may_mean(name.lower(), column)), None)
            if meant is not None:
                yield (
                    f"the column {name!r} becomes a dimension; if it is {meant}, load it with --map"
                    f" {shlex.quote(f'{meant}={name}')}"
                )
    for name in mapping.constants:
        if name in mapper.names:
            yield f"the column {name!r} is left out: {name} is set for all rows"
    if "external_cost_currency" in given and "external_cost_amount" in free:
        yield "no column has external_cost_amount, so the events have a currency and no cost"


def _may_mean(name: str, column: str) -> bool:
    """Whether a column's name is a column of the events without its last word, or resembles one."""
    cut = name == column.rpartition("_")[0]
    return cut or SequenceMatcher(None, name, column).ratio() >= _MIN_SIMILARITY


MAX_EXAMPLES_PER_FAULT = 3
"""Values that a fault shows."""

MAX_KEPT_FAULTS = 200
"""Kinds of faults of a file that are kept apart; further ones count as rejected rows only."""

MAX_LISTED_FAULTS = 20
"""Kinds of faults that a report or an error message lists."""

_VALUE = re.compile(r"""'(?:\\.|[^'\\])*(?:'|…)|"(?:\\.|[^"\\])*(?:"|…)|-?\d[\d.eE+-]*""")
"""The value at the start of a reason, as `files.values.quoted` writes it."""


_OTHER_NUMBERS = re.compile(r"(?<!has a value in column )\b\d[\d,]*\b(?! fields?\b)")
"""Numbers in a reason that do not make it another fault, such as the place of a letter; those of fields do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: `rows` of the `read` rows have it. `examples` are (line, reason), one for each of a few values.

    `unit` is "line" or "row"; `column` is empty where a whole row cannot be read. `str()` is one sentence.
    """

    path: Path
    unit: str
    column: str
    rows: int
    read: int
    examples: tuple[tuple[int, str], ...]

    def __str__(self) -> str:
        line, reason = self.examples[0]
        column = f", {self.column}" if self.column else ""
        if self.rows == 1:
            return f"{path_text(self.path)}, {self.unit} {line:,}{column}: {reason}"
        amount = f"all {self.rows:,}" if self.rows == self.read else f"{self.rows:,} of {self.read:,}"
        values = [(line, value[0]) for line, reason in self.examples[1:] if (value := _VALUE.match(reason))]
        also = f", {', '.join(f'{value} ({self.unit} {line:,})' for line, value in values)}" if values else ""
        return f"{path_text(self.path)}{column}, {amount} rows: {reason} ({self.unit} {line:,}){also}"


class FaultCounter:
    """Counts the faults of a file by column and kind of reason."""

    def __init__(self, path: Path, unit: str) -> None:
        self._path = path
        self._unit = unit
        self._rows: dict[tuple[str, str], int] = {}
        self._examples: dict[tuple[str, str], dict[str, int]] = {}

    def add(self, line: int, column: str, reason: str) -> None:
        """Count a fault of a row."""
        value = _VALUE.match(reason)
        kind = column, _OTHER_NUMBERS.sub("0", reason[value.end() :] if value else reason)
        if kind not in self._rows and len(self._rows) >= MAX_KEPT_FAULTS:
            return
        self._rows[kind] = self._rows.get(kind, 0) + 1
        examples = self._examples.setdefault(kind, {})
        if len(examples) < MAX_EXAMPLES_PER_FAULT:
            examples.setdefault(reason, line)

    def faults(self, read: int) -> tuple[Fault, ...]:
        """The faults in the order of their first rows; `read` is the number of rows that were read."""
        return tuple(
            Fault(
                self._path,
                self._unit,
                column,
                rows,
                read,
                tuple((line, reason) for reason, line in self._examples[column, kind].items()),
            )
            for (column, kind), rows in self._rows.items()
        )


def fault_lines(faults: Sequence[Fault], rows: int) -> Iterator[str]:
    """The first faults, one in a line, and how many `rows` are rejected where not all faults are listed."""
    yield from map(str, faults[:MAX_LISTED_FAULTS])
    if len(faults) > MAX_LISTED_FAULTS:
        yield f"… the first {MAX_LISTED_FAULTS} kinds of faults are shown; {rows:,} rows are rejected in all"


def loaded_so_far(reports: Sequence[FileReport], files: Sequence[Path]) -> str:
    """Which files are loaded and which were not tried, when one of several fails."""
    rest = [str(path) for path in files[len(reports) + 1 :]]
    lines = ["Loaded before and kept:", *map(str, reports)] if reports else ["No file was loaded before."]
    return "\n".join([*lines, f"Not tried: {', '.join(rest)}"] if rest else lines)


NO_ROW_LEFT_OUT = "--replace would delete the stored events of rejected rows that are left out"


class RejectedRows:
    """The rejected rows of a file: their number, and the first values. At `max_rows` reading stops.

    `read` is the number of rows that were read.
    """

    def __init__(self, source: Source, max_rows: int | None) -> None:
        self._max_rows = max_rows
        self._path = source.path
        self._unit = source.unit
        self._counter = FaultCounter(source.path, source.unit)
        self.rows = 0
        self.read = 0
        self.first: list[Rejection] = []

    def add(self, line: int, reasons: Sequence[tuple[str, str]]) -> None:
        """Count a rejected row with the (column, reason) of its values."""
        self.rows += 1
        for column, reason in reasons:
            self._counter.add(line, column, reason)
            if len(self.first) < MAX_KEPT_REJECTIONS:
                self.first.append(Rejection(self._path, self._unit, line, column, reason))

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults, each column and reason once."""
        return self._counter.faults(self.read)

    @property
    def is_enough(self) -> bool:
        """Whether reading stops: nothing of the file is going to be loaded."""
        return self._max_rows is not None and self.rows >= self._max_rows

    def error(self, *, replaces: bool) -> LoadError:
        """The error of a file whose rejected rows are not to be left out; where it `replaces`, they cannot be."""
        lines = "\n".join(fault_lines(self.faults, self.rows))
        stopped = " and the rest not read" if self.is_enough else ""
        return LoadError(
            f"{lines}\n{path_text(self._path)}: {counted(self.rows, 'row')} rejected{stopped}, so nothing of"
            " the file was loaded; "
            f"correct them{f'; {NO_ROW_LEFT_OUT}' if replaces else ', or load the others with --skip-bad'}"
        )
