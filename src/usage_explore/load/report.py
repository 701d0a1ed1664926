"""What a load has to say for itself: the rows it refused and what became of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

SHOWN = 20
"""Rejected values an error message lists."""

KEPT = 1_000
"""Rejected values a report keeps; further ones are only counted."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One value that cannot be loaded. `line` is the physical line a row starts on (Parquet: the row, from 1)."""

    path: Path
    unit: str
    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        column = f", {self.column}" if self.column else ""
        return f"{self.path}, {self.unit} {self.line:,}{column}: {self.reason}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileReport:
    """What became of one file's rows. Every row is in exactly one of `loaded`, `already_there`, `rejected`.

    `repeats` rows carry the organization, time and idempotency key of an earlier row of the file, and were loaded;
    `identical` rows have no key and equal an earlier row, and were loaded; `other_times` idempotency keys of loaded
    rows are now in the table at more than one time; `backdated` loaded rows say they were ingested longer ago than
    the settle time; `generated_keys` loaded rows got a hash as their key; `restated` rows equal a stored event in
    everything but key and amounts, where one of both has no key of its own; `changed` rows that were already there
    have other amounts than the stored event; `superseded` stored events were deleted because the file no longer holds
    them (`replace`). `rejections` holds the first 1,000 only; `notes` are sentences about values that the file lacks.
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
    changed: int = 0
    superseded: int = 0

    @property
    def rows(self) -> int:
        """Rows read from the file."""
        return self.loaded + self.already_there + self.rejected

    def __str__(self) -> str:
        return "\n".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        yield (
            f"{self.path}: loaded {count(self.loaded, 'event')} "
            f"({self.already_there:,} already there, {self.rejected:,} rejected)"
        )
        if not self.rows:
            yield "  the file has no rows"
        elif self.already_there == self.rows:
            yield "  every row was in the table already; nothing was added"
        if self.repeats:
            yield f"  {_rows(self.repeats, 'repeat')} an idempotency key and time of the same file; loaded"
        if self.other_times:
            yield f"  {count(self.other_times, 'idempotency key')} also at another time; loaded"
        if self.identical:
            yield f"  {_rows(self.identical, 'equal')} an earlier row of the file, without a key; loaded"
        if self.generated_keys:
            yield f"  {count(self.generated_keys, 'row')} without an idempotency key got a hash of the row as one"
        yield from (f"  {note}" for note in self.notes)
        if self.superseded:
            yield f"  superseded {count(self.superseded, 'stored event')} of the same source and period"
            yield "  warning: links pinned before this load (as_of) no longer show them"
        if self.restated:
            yield (
                f"  warning: {_rows(self.restated, 'equal')} a stored event in everything but key and amounts; loaded"
                " beside it, so a restated export is counted twice: load the file again with --replace"
            )
        if self.changed:
            yield (
                f"  warning: {_rows(self.changed, 'repeat')} the key and time of a stored event with other amounts; not"
                " loaded: load the file again with --replace if it restates an earlier export"
            )
        if self.rejected:
            yield from (f"  {line}" for line in listed(self.rejections, self.rejected))
        if self.backdated:
            yield (
                f"  warning: {_rows(self.backdated, 'say')} ingested_at more than {_length(self.settle)} ago: "
                "links pinned before this load (as_of) will show them too"
            )
        if self.loaded and self.writing > self.settle:
            yield (
                f"  warning: writing took longer than the settle time of {_length(self.settle)}: "
                "links pinned meanwhile (as_of) will show these rows too; load smaller files or raise the settle time"
            )


def count(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _rows(number: int, verb: str) -> str:
    return f"1 row {verb}s" if number == 1 else f"{number:,} rows {verb}"


def listed(rejections: tuple[Rejection, ...], rows: int) -> Iterator[str]:
    """The first rejections, one per line, and how many rows they are part of."""
    yield from map(str, rejections[:SHOWN])
    if rows > SHOWN or len(rejections) > SHOWN:
        yield f"… the first {min(SHOWN, len(rejections))} are shown; {rows:,} rows are rejected in all"


def _length(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
