"""Bring an extract up to the watermark, step by step, and make good what changed behind it.

A step reads the events ingested in a span, in one snapshot of the database, and replaces the manifest when their files
are on disk: a refresh may stop anywhere, and the next one goes on. Only SELECT is needed.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow as pa
from psycopg import sql
from psycopg.errors import QueryCanceled
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.extract import changes, key_columns, segments, watermark
from usage_explore.extract import folder as folders
from usage_explore.extract import manifest as files
from usage_explore.extract.build import BEGINNING, MAX_ROWS_PER_READ, Events, within
from usage_explore.extract.changes import Change
from usage_explore.extract.connection import ExtractError, Resources, Unfit
from usage_explore.extract.manifest import DAY, HOUR, SLOT, Manifest, Segment, instant
from usage_explore.extract.segments import Totals

Progress = Callable[[datetime, datetime, datetime], object]
"""Called with where the reading began, how far it is now, and how far it shall go: times of ingestion."""

LOOKED_BACK = 7 * DAY
"""How far behind the watermark each refresh compares counts and sums with the events."""

RETRY_UNFIT = DAY
"""Time after which a refresh tries again what did not fit."""

_FIRST_STEP = DAY
_LONGEST_STEP = 365 * DAY
_ROWS_PER_STEP = MAX_ROWS_PER_READ * 9 // 10

_MAX_SPANS = 100
"""Spans that are read again one by one; where more differ, all between the first and the last is."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The extract of an organization's events: its table and its folder, from `folder.Source`."""

    table: Table
    organization_id: UUID
    folder: Path
    resources: Resources


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a refresh did.

    `rows` is the number of rows read from the database, `steps` the number of snapshots for those after the watermark.
    `corrected` is the number of hours of ingestion, and of days, that had changed behind the watermark and were read
    again. `rebuilt` says why the extract was built from nothing, blank if it was not; a first build has
    no reason. `safe` is the watermark that was aimed at; None where nothing was read.
    """

    manifest: Manifest
    rows: int = 0
    steps: int = 0
    corrected: int = 0
    rebuilt: str = ""
    safe: watermark.Safe | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """An hour of ingestion in which the extract differs from the events; with equal totals, in other columns."""

    hour: datetime
    events: Totals | None
    extract: Totals | None


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a comparison of the whole extract showed: hours compared, those that differ, and damaged files."""

    hours: int
    differences: tuple[Difference, ...] = field(repr=False)
    damaged: tuple[str, ...] = ()


def refresh(
    connection: Connection,
    target: Target,
    *,
    settle: timedelta,
    timeout: timedelta,
    progress: Progress | None = None,
    wait: float = 0.0,
    again: bool = False,
) -> Report:
    """Create the extract if it is missing, and bring it up to now. Safe to run at any time and to interrupt.

    Each statement is bounded by `timeout`. What did not fit is tried again after a day, or with `again`. The connection
    must not be in a transaction. Raises `ExtractBusy` if another process refreshes it for longer than `wait` seconds,
    `ExtractError` if the files cannot be written, `TableMismatch`.
    """
    with folders.writing(target.folder, wait), segments.engine(target.folder, target.resources) as engine:
        return _Writer(connection, target, engine, timeout, progress).refresh(settle, again)


def verify(
    connection: Connection, target: Target, *, timeout: timedelta, fix: bool = False, wait: float = 0.0
) -> Verified | None:
    """Compare counts, sums and checksums of every hour of ingestion with the events; None without an extract.

    With `fix`, hours that differ are read again, and an extract with damaged files is removed.
    """
    with folders.writing(target.folder, wait), segments.engine(target.folder, target.resources) as engine:
        return _Writer(connection, target, engine, timeout, None).verify(fix)


def find_removal(connection: Connection, target: Target, *, timeout: timedelta) -> bool:
    """Note in the manifest what was removed since the last refresh; False if the extract cannot be compared."""
    held = files.read(target.folder)
    if held is None or held.watermark is None:
        return True
    with folders.writing(target.folder), segments.engine(target.folder, target.resources) as engine:
        writer = _Writer(connection, target, engine, timeout, None)
        with suppress(duckdb.Error, QueryCanceled), writer.snapshot():
            if writer.events.relation() == held.relation:
                writer.put(writer.with_removal(held), held.segments)
            return True
    return False


class _Writer:
    """A refresh, which holds the folder's lock."""

    def __init__(
        self,
        connection: Connection,
        target: Target,
        engine: duckdb.DuckDBPyConnection,
        timeout: timedelta,
        progress: Progress | None,
    ) -> None:
        self.connection, self.target, self.engine = connection, target, engine
        self.timeout, self.progress = timeout, progress
        self.folder = target.folder
        self.events = Events(connection, target.table, target.organization_id)
        self.rows = self.steps = self.corrected = 0
        self.keys: list[str] = []

    def refresh(self, settle: timedelta, again: bool) -> Report:
        with self.snapshot():
            relation, now = self.events.relation(), self.events.now()
            fingerprint, transaction = self.events.fingerprint(relation), self.events.transaction()
        damaged = changes.announced(self.folder)[1]
        held, rebuilt = (
            (None, "an announcement of changes was damaged")
            if damaged
            else self.usable(relation, fingerprint, transaction)
        )
        if held and held.unfit and not again and now - held.refreshed < RETRY_UNFIT:
            return Report(manifest=held)
        if held is None or held.unfit:  # written before anything is read, so that loads announce what they change
            held = self.put(self.empty(relation, fingerprint, now), (), transaction=transaction)
        announced = changes.announced(self.folder)[0]  # before the open transactions are looked at
        safe = watermark.safe(self.connection, settle)
        done = [change for change in announced if safe.has_ended(change.at)]
        try:
            self.take_keys(held)
            if held.watermark is not None:
                held = self.correct(held, done)
            if safe.until is not None:
                held = self.advance(held, files.micros(safe.until))
            with self.snapshot():
                transaction = self.events.transaction()
            held = self.put(self.with_restored(held), self.compacted(held), refreshed=now, transaction=transaction)
        except Unfit as error:
            held = self.leave_out(held, error, now)
        changes.forget(self.folder, [*done, *(change for change in damaged if safe.has_ended(change.at))])
        return Report(
            manifest=held, rows=self.rows, steps=self.steps, corrected=self.corrected, rebuilt=rebuilt, safe=safe
        )

    def leave_out(self, held: Manifest, error: Unfit, now: int) -> Manifest:
        """Answer from the events from now on, and say why."""
        return self.put(held, (), watermark=None, refreshed=now, unfit=str(error))

    def verify(self, fix: bool) -> Verified | None:
        held = files.read(self.folder)
        if held is None and files.is_unreadable(self.folder):
            if fix:
                folders.forget(self.folder)
            return Verified(hours=0, differences=(), damaged=(files.NAME,))
        if held is None or held.watermark is None:
            return None
        broken = folders.damaged(self.folder, held)
        if broken:
            if fix:
                self.put(held, (), watermark=None)
            return Verified(hours=0, differences=(), damaged=tuple(broken))
        self.take_keys(held)
        with self.snapshot():
            before = within("ingested_at", None, held.watermark)
            there, here = self.events.totals("ingested_at", before), self.totals(held.segments, f"ing // {HOUR}")
            contents = segments.contents(self.engine, self.folder, held.segments, f"ing // {HOUR}")
            hours = sorted({*_differing(there, here), *_differing(self.events.contents(before), contents)})
            if fix and hours:
                try:
                    self.reread(self.with_removal(held), "ing", _spans(hours, HOUR, held.watermark))
                except Unfit as error:
                    self.leave_out(held, error, held.refreshed)
        return Verified(
            hours=len(there.keys() | here.keys()),
            differences=tuple(
                Difference(hour=instant(hour * HOUR), events=there.get(hour), extract=here.get(hour)) for hour in hours
            ),
        )

    def usable(self, relation: int, fingerprint: str, transaction: int) -> tuple[Manifest | None, str]:
        """The extract, None if it has to be built; and why an existing one has to."""
        held = files.read(self.folder)
        if held is None:
            return None, "; ".join(files.unreadable(self.folder))
        if held.relation != relation:
            return None, "the table was made anew"
        if held.fingerprint != fingerprint:
            return None, "the table, its definition, privileges or row-level security was changed"
        if 0 < transaction < held.transaction:
            return None, "the database was put back to an earlier time"
        broken = folders.damaged(self.folder, held)
        if broken:
            return None, f"files were missing or damaged: {', '.join(broken)}"
        return held, ""

    def empty(self, relation: int, fingerprint: str, now: int) -> Manifest:
        """A manifest without events, which still says what was removed from the same table."""
        before = files.removal(self.folder, relation)
        return Manifest(
            organization_id=self.target.organization_id,
            table=self.target.table.fullname,
            relation=relation,
            watermark=None,
            refreshed=now,
            removed_before=before.removed_before if before else None,
            removed_rows=before.removed_rows if before else 0,
            fingerprint=fingerprint,
        )

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A transaction that only reads, and sees the table as it was at its beginning."""
        milliseconds = int(self.timeout.total_seconds() * 1000)
        with self.connection.transaction():
            self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            self.connection.execute(
                "SELECT set_config('statement_timeout', %s, true), set_config('TimeZone', 'UTC', true),"
                " set_config('DateStyle', 'ISO, MDY', true)",
                [str(milliseconds)],
            )
            yield

    def put(self, held: Manifest, kept: Sequence[Segment], **changes: object) -> Manifest:
        """Write the manifest with other segments."""
        after = dataclasses.replace(held, segments=tuple(kept), **changes)  # type: ignore[arg-type]
        folders.replace(self.folder, files.read(self.folder), after)
        return after

    def advance(self, held: Manifest, target: int) -> Manifest:
        """Add what was ingested from the watermark on, before `target`."""
        step, began = _FIRST_STEP, None
        while held.watermark is None or held.watermark < target:
            since = BEGINNING if held.watermark is None else held.watermark
            before = self.rows
            with self.snapshot():
                if self.events.relation() != held.relation:
                    raise ExtractError(f"{held.table}: the table was made anew meanwhile; run it again")
                if self.events.fingerprint(held.relation) != held.fingerprint:
                    raise ExtractError(
                        f"{held.table}: its definition or row-level security was changed meanwhile; run it again"
                    )
                first = self.events.next_ingested(since, target)
                until = target if first is None else min(first + step, target)
                added = [] if first is None else self.read(held, "ingested_at", since, until)
            held = self.put(held, [*held.segments, *added], watermark=until)
            self.steps += 1
            step = _paced(step, self.rows - before)
            if self.progress and first is not None:
                began = first if began is None else began
                self.progress(instant(began), instant(until), instant(target))
        return held

    def read(self, held: Manifest, column: str, since: int, until: int, *, before: int | None = None) -> list[Segment]:
        """Write segments of the events whose time is in a span, and which were ingested `before` a time."""
        if not self.keys and column == "ingested_at":
            self.keys = self.events.sample_keys(since, until)
        condition = within(column, since, until)
        if before is not None:
            condition = sql.SQL("{} AND {}").format(condition, within("ingested_at", None, before))
        written: list[Segment] = []
        keys = list(self.keys)
        known = list(reversed(held.segments))
        with closing(self.events.read(keys, condition)) as tables, ThreadPoolExecutor(1) as pool:
            pending: Future[Segment | None] | None = None
            for rows in chain(tables, (None,)):  # one part is written while the next one is read
                if pending and (segment := pending.result()):
                    written.append(segment)
                    known.insert(0, segment)
                    self.keys = list(segment.layout.dimensions)
                if rows is not None:
                    pending = pool.submit(self.write, rows, keys, list(known))
                    self.rows += rows.num_rows
        if written:
            self.choose_keys(written[-1])
        return written

    def write(self, rows: pa.Table, keys: Sequence[str], known: Sequence[Segment]) -> Segment | None:
        self.engine.register("rows_read", rows)
        try:
            return segments.write(self.engine, self.folder, "rows_read", keys, known, self.keys)
        finally:
            self.engine.unregister("rows_read")

    def take_keys(self, held: Manifest) -> None:
        """Go on with the columns of the newest segment."""
        if held.segments:
            self.keys = list(held.segments[-1].layout.dimensions)
            self.choose_keys(held.segments[-1])

    def choose_keys(self, newest: Segment) -> None:
        """Where the columns are used up and further keys are frequent, choose anew by the rows of a segment."""
        if len(self.keys) >= key_columns.MAX_COLUMNS_OF_KEYS:
            self.keys = key_columns.most_frequent_keys(self.engine, self.folder, newest)

    def correct(self, held: Manifest, announced: Sequence[Change]) -> Manifest:
        """Read again what changed: what loads announced, hours of the last days, and all days if the oldest changed."""
        assert held.watermark is not None  # noqa: S101 - called with a watermark only
        since = max((held.watermark - LOOKED_BACK) // HOUR * HOUR, BEGINNING)
        with self.snapshot():
            spans = _joined((change.first, min(change.last + 1, held.watermark)) for change in announced)
            known, held = held.removed_rows, self.with_removal(held)  # before late events are in the extract
            if spans:
                held = self.reread(held, "ing", spans)
            there = self.events.totals("ingested_at", within("ingested_at", since, held.watermark))
            recent = [segment for segment in held.segments if segment.last_ingested >= since]
            hours = _differing(there, self.totals(recent, f"ing // {HOUR}", f"ing >= {since}"))
            if hours:
                held = self.reread(held, "ing", _spans(hours, HOUR, held.watermark))
            held, days = self.follow_removal(held, has_removal=held.removed_rows > known)
        self.corrected += len(hours) + len(days)
        return held

    def follow_removal(self, held: Manifest, *, has_removal: bool) -> tuple[Manifest, list[int]]:
        """Compare the oldest day with the table, and if it differs, or old events were removed, all days."""
        if not held.segments or held.watermark is None:
            return held, []
        until = (min(segment.first for segment in held.segments) // DAY + 1) * DAY
        before = within("ingested_at", None, held.watermark)
        there = self.events.totals("timestamp", sql.SQL("{} AND {}").format(within("timestamp", None, until), before))
        if not has_removal and there == self.before(held, until, DAY):
            return held, []
        there = self.events.totals("timestamp", before)
        days = _differing(there, self.totals(held.segments, f"ts // {DAY}"))
        return self.reread(held, "ts", _spans(days, DAY, None)), days

    def with_removal(self, held: Manifest) -> Manifest:
        """The manifest with the time before which the table's events were removed, while the extract still has them.

        Events that were moved to later times are as many as before, and others were superseded: they are not removed.
        """
        assert held.watermark is not None  # noqa: S101 - called with a watermark only
        first, oldest = self.events.first(held.watermark), min((segment.first for segment in held.segments), default=0)
        if held.segments and first not in (None, oldest):  # the extract has no event that came late
            with closing(self.events.in_order(held.watermark)) as events:
                first = segments.first_of(self.engine, self.folder, held.segments, events)
        if not held.segments or first == oldest:
            return held
        end = max(segment.last for segment in held.segments) + 1 if first is None else first
        superseded = changes.superseded(self.folder)  # read in the snapshot: a load announces before it commits
        if not (slots := self.slots_before(held, end) - superseded):
            return held
        since = max(held.removed_before or 0, min(end, (max(slots) * SLOT // DAY + 1) * DAY))
        removed = (self.slots_before(held, since) - superseded).total()
        there = self.events.totals("timestamp", within("ingested_at", None, held.watermark))
        if 2 * (held.rows - sum(day.events for day in there.values())) < removed:
            return held
        return dataclasses.replace(held, removed_before=since, removed_rows=held.removed_rows + removed)

    def with_restored(self, held: Manifest) -> Manifest:
        """Forget that events were removed where half as many came back: a loaded history, not a few late events."""
        if held.removed_before is None or 2 * self.slots_before(held, held.removed_before).total() < held.removed_rows:
            return held
        if held.removed_rows == 0:  # unknown: all before the first one
            first = min((segment.first for segment in held.segments), default=0)
            return dataclasses.replace(held, removed_before=max(held.removed_before, first))
        return dataclasses.replace(held, removed_before=None, removed_rows=0)

    def slots_before(self, held: Manifest, end: int) -> Counter[int]:
        """The numbers of the extract's events before a time by 15-minute slot."""
        return Counter({slot: each.events for slot, each in self.before(held, end, SLOT).items()})

    def before(self, held: Manifest, end: int, unit: int) -> dict[int, Totals]:
        """The totals by unit of time of the extract's events before a time, from the segments that begin before it."""
        chosen = [segment for segment in held.segments if segment.first < end]
        return self.totals(chosen, f"ts // {unit}", f"ts < {end}")

    def reread(self, held: Manifest, column: str, spans: Sequence[tuple[int, int]]) -> Manifest:
        """Replace the rows of spans of `ing` or `ts` by what the events are now."""
        if len(spans) > _MAX_SPANS:
            spans = [(spans[0][0], spans[-1][1])]
        condition = " OR ".join(f"{column} >= {since} AND {column} < {until}" for since, until in spans)
        result: list[Segment] = []
        for segment in held.segments:
            rest: Segment | None = segment
            if _touches(segment, column, spans):
                rest = segments.without(self.engine, self.folder, segment, condition, [segment])
            result += [rest] if rest else []
        name = {"ing": "ingested_at", "ts": "timestamp"}[column]
        for since, until in spans:
            result += self.read(
                dataclasses.replace(held, segments=tuple(result)), name, since, until, before=held.watermark
            )
        return self.put(held, result)

    def totals(self, chosen: Sequence[Segment], key: str, condition: str = "true") -> dict[int, Totals]:
        return segments.totals(self.engine, self.folder, chosen, key, condition)

    def compacted(self, held: Manifest) -> list[Segment]:
        """The segments, the newest ones merged as long as the one before is less than twice as large."""
        result = list(held.segments)
        while len(result) > 1:
            count, rows = 1, result[-1].rows.rows
            columns = result[-1].layout.dimensions
            for segment in result[-2::-1]:
                own = segment.layout.dimensions
                if (
                    not _is_small(result[-1])
                    or not _is_small(segment)
                    or segment.rows.rows >= 2 * rows
                    or segment.rows.rows + rows > segments.MAX_SEGMENT_ROWS
                    or own[: len(columns)] != columns[: len(own)]
                ):
                    break
                count, rows, columns = count + 1, rows + segment.rows.rows, max(columns, own, key=len)
            if count == 1:
                break
            rest, last = result[:-count], result[-count:]
            try:
                one = segments.merged(self.engine, self.folder, last, rest[::-1])
            except Unfit:  # digits before and after the decimal point that only together are too many
                break
            result = [*rest, *([one] if one else [])]
        return result


def _paced(step: int, rows: int) -> int:
    """The length of the next step, after one that read some rows: so that it reads about one segment's."""
    wanted = step * _ROWS_PER_STEP // max(rows, 1)
    return max(min(wanted, 4 * step, _LONGEST_STEP), HOUR)


def _is_small(segment: Segment) -> bool:
    return segment.rows.rows < segments.MAX_SEGMENT_ROWS // 2


def _touches(segment: Segment, column: str, spans: Sequence[tuple[int, int]]) -> bool:
    first, last = (segment.first_ingested, segment.last_ingested) if column == "ing" else (segment.first, segment.last)
    return any(since <= last and first < until for since, until in spans)


def _differing(there: Mapping[int, object], here: Mapping[int, object]) -> list[int]:
    return sorted(number for number in there.keys() | here.keys() if there.get(number) != here.get(number))


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, none empty, no two of them overlapping."""
    result: list[tuple[int, int]] = []
    for since, until in sorted(span for span in spans if span[0] < span[1]):
        if result and since <= result[-1][1]:
            result[-1] = result[-1][0], max(until, result[-1][1])
        else:
            result.append((since, until))
    return result


def _spans(numbers: Iterable[int], width: int, end: int | None) -> list[tuple[int, int]]:
    """Numbered hours or days as spans of microseconds; neighbours are one span."""
    found = ((number * width, (number + 1) * width) for number in numbers)
    return _joined((since, until if end is None else min(until, end)) for since, until in found)
