"""The files of an extract that a query reads: of each segment the smallest summaries that suffice, else its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from usage_explore.extract.manifest import DAY, HOUR, SLOT, Layout, Segment, Summary, micros
from usage_explore.query.base import EventFilters, Query, Windowed
from usage_explore.query.filters import ID_COLUMNS, LOOKED_UP, TEXT_COLUMNS, dimension_group
from usage_explore.query.queries import EventQuery

_FEW_ROWS = 20_000
"""Rows of a summary that take about as long to read as planning another scan takes."""

_ROWS_OF_A_SCAN = 40_000
"""Rows that take about as long to read as another scan of several files, which is planned, opened and ended."""


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open span of microseconds; None where it is open."""

    since: int | None
    until: int | None

    def condition(self, column: str, unit: int = 1, bind: Callable[[int], str] = str) -> str:
        """The span as a condition on a column that counts units of `unit` microseconds since 1970; blank if open.

        `bind` writes a bound.
        """
        bounds = ((">=", self.since), ("<", self.until))
        return " AND ".join(
            f"{column} {operator} {bind(bound // unit)}" for operator, bound in bounds if bound is not None
        )


@dataclass(frozen=True, slots=True)
class Scan:
    """Files of one layout that one part of the statement reads: summaries by time in units of `unit` microseconds, or
    the events themselves, without a `unit`.

    `rows` is about their number in the spans, which do not overlap. `as_of` is a bound on
    `ing`, None where all rows of the files were ingested by then.
    """

    files: tuple[str, ...]
    rows: int
    layout: Layout
    spans: tuple[Span, ...]
    unit: int | None
    as_of: int | None
    keys: frozenset[str]

    def within(self, column: str, unit: int = 1, bind: Callable[[int], str] = str) -> list[str]:
        """The spans as at most one condition on a column that counts units of `unit` microseconds since 1970.

        DuckDB skips row groups outside of all spans.
        """
        if any(span == Span(None, None) for span in self.spans):
            return []
        conditions = [span.condition(column, unit, bind) for span in self.spans]
        return conditions if len(conditions) == 1 else [f"({' OR '.join(f'({each})' for each in conditions)})"]


def planned_scans(
    segments: Iterable[Segment], query: Query, span: Span, unit: int, named: Iterable[str], path: Callable[[str], str]
) -> list[Scan]:
    """The scans that answer a query over a span: of each segment the smallest summaries that suffice, else rows.

    The finest of small summaries come first. Where that makes several scans of summaries, those of the longest unit may
    come first, or be read alone, with rows where they are cut, which reads more rows in fewer scans: the least work.

    `unit` is the longest of a day, an hour, a slot and a microsecond that divides all bucket edges; `named` are the
    groups that the query filters and groups by.
    """
    as_of = None if query.as_of is None else micros(query.as_of)
    needed = set(named)
    segments = list(segments)
    span = _within_events(segments, span)
    read: list[tuple[Segment, int | None]] = []
    arrived = arrival(query) if isinstance(query, EventFilters) else Span(None, None)
    for segment in segments:
        if not overlaps(segment, span) or (as_of is not None and segment.first_ingested > as_of):
            continue
        if arrived.until is not None and segment.first_ingested >= arrived.until:
            continue
        if arrived.since is not None and segment.last_ingested < arrived.since:
            continue
        read.append((segment, as_of if as_of is not None and segment.last_ingested > as_of else None))
    fitting = [[] if bound is not None else fitting_summaries(segment, unit, needed) for segment, bound in read]
    plans = [_planned(read, [_used(each) for each in fitting], span, path)]
    if sum(scan.unit is not None for scan in plans[0]) > 1:
        longest = [_used(sorted(each, key=lambda summary: (-summary.unit, summary.file.rows))) for each in fitting]
        plans += [_planned(read, way, span, path) for way in (longest, [each[:1] for each in longest])]
    return min(plans, key=lambda scans: sum(scan.rows + _ROWS_OF_A_SCAN for scan in scans))


def _used(summaries: Iterable[Summary]) -> list[Summary]:
    """The first of some summaries, and those after it that are finer than all before."""
    used: list[Summary] = []
    for summary in summaries:
        if not used or summary.unit < used[-1].unit:
            used.append(summary)
    return used


def _planned(
    read: Iterable[tuple[Segment, int | None]],
    fitting: Iterable[Sequence[Summary]],
    span: Span,
    path: Callable[[str], str],
) -> list[Scan]:
    """The scans of segments, each with a bound on `ing` and summaries, the first one cut by finer ones."""
    parts: list[_Part] = []
    for (segment, bound), summaries in zip(read, fitting, strict=True):
        pieces: defaultdict[Summary | None, list[Span]] = defaultdict(list)
        for piece, summary in _covered(span, summaries):
            pieces[summary].append(piece)
        parts += [_Part(segment, tuple(spans), summary, bound) for summary, spans in pieces.items()]
    result = []
    for _, group in groupby(sorted(parts, key=_kind), _kind):
        same = [part for part in group if any(overlaps(part.segment, piece) for piece in part.spans)]
        if not same:
            continue
        segment, pieces_, summary, bound = same[0]
        files = [part.summary.file if part.summary else part.segment.rows for part in same]
        result.append(
            Scan(
                files=tuple(path(file.name) for file in files),
                rows=sum(round(file.rows * _share(part)) for file, part in zip(files, same, strict=True)),
                layout=segment.layout,
                spans=tuple(piece for piece in pieces_ if any(overlaps(part.segment, piece) for part in same)),
                unit=summary.unit if summary else None,
                as_of=bound,
                keys=frozenset(key for part in same for key in part.segment.keys),
            )
        )
    return result


def _within_events(segments: Iterable[Segment], span: Span) -> Span:
    """The span, open at an end beyond which no segment has an event: it cuts no summary there."""
    since, until = span.since, span.until
    if since is not None and all(segment.first >= since for segment in segments):
        since = None
    if until is not None and all(segment.last < until for segment in segments):
        until = None
    return Span(since, until)


class _Part(NamedTuple):
    """Spans of a segment that one scan reads: of a summary, or of the rows."""

    segment: Segment
    spans: tuple[Span, ...]
    summary: Summary | None
    as_of: int | None


def _kind(part: _Part) -> tuple[Any, ...]:
    """What parts have in common that one scan reads."""
    layout = part.segment.layout
    return (
        (layout.dimensions, layout.quantity, layout.cost),
        part.summary.unit if part.summary else 0,
        [
            (piece.since is not None, piece.since or 0, piece.until is not None, piece.until or 0)
            for piece in part.spans
        ],
        (part.as_of is not None, part.as_of or 0),
    )


def _share(part: _Part) -> float:
    """The share of its segment's time that a part reads."""
    first, end = part.segment.first, part.segment.last + 1
    ends = (
        (first if span.since is None else span.since, end if span.until is None else span.until) for span in part.spans
    )
    return sum(max(min(until, end) - max(since, first), 0) for since, until in ends) / (end - first)


def fitting_summaries(segment: Segment, unit: int, groups: Iterable[str]) -> list[Summary]:
    """The summaries of a segment that have the columns of groups and whose times divide a unit, the smallest first.

    Of small ones the finest is first: it leaves less of a window to others, and each scan costs as much as many rows.
    """
    columns = {segment.layout.column(name) for name in groups}
    fitting = [each for each in segment.summaries if unit % each.unit == 0 and columns <= set(each.columns)]
    return sorted(fitting, key=lambda each: (each.file.rows // _FEW_ROWS, each.unit, each.file.rows))


def _covered(span: Span, summaries: Sequence[Summary]) -> Iterator[tuple[Span, Summary | None]]:
    """A span in pieces: whole units of the first summary, what remains of the finer ones after it, then of rows."""
    if not summaries:
        yield span, None
        return
    summary, *finer = summaries
    whole = Span(
        None if span.since is None else -(-span.since // summary.unit) * summary.unit,
        None if span.until is None else span.until // summary.unit * summary.unit,
    )
    if whole.since is not None and whole.until is not None and whole.since >= whole.until:
        yield from _covered(span, finer)
        return
    yield whole, summary
    if whole.since != span.since:
        yield from _covered(Span(span.since, whole.since), finer)
    if whole.until != span.until:
        yield from _covered(Span(whole.until, span.until), finer)


def overlaps(segment: Segment, span: Span) -> bool:
    """Whether a segment may have events in the span."""
    return (span.until is None or segment.first < span.until) and (span.since is None or segment.last >= span.since)


def named_groups(query: Query, group: str) -> set[str]:
    """The groups and other columns that a query filters by, and a group, without `none`."""
    named = {group, *query.missing}
    named |= {name for name in (*ID_COLUMNS, *TEXT_COLUMNS) if getattr(query, name)}
    if isinstance(query, EventFilters):
        named |= {name for name in LOOKED_UP if getattr(query, name)}
        named |= {"quantity"} if query.quantity_min is not None or query.quantity_max is not None else set()
        named |= {"ingested_at"} if query.ingested_after or query.ingested_before else set()
    named |= {dimension_group(key) for key, _ in query.dimensions}
    for name, values in query.exclude:
        named |= set(values) if name == "missing" else {name}
    return named - {"none"}


@lru_cache(maxsize=32)  # needed by the plan of a query and by its statement
def instants_of(edges: tuple[datetime, ...]) -> tuple[int, ...]:
    """The edges in microseconds since 1970."""
    return tuple(map(micros, edges))


@lru_cache(maxsize=32)
def unit_of(edges: tuple[datetime, ...]) -> int:
    """The longest unit, a day, an hour, a slot or a microsecond, that divides all edges."""
    return longest_unit(instants_of(edges))


def longest_unit(instants: Sequence[int]) -> int:
    """The longest unit of a day, an hour, a slot and a microsecond that divides all instants."""
    return next((unit for unit in (DAY, HOUR, SLOT) if all(instant % unit == 0 for instant in instants)), 1)


def arrival(query: EventFilters) -> Span:
    """The span of `ingested_at` that a query filters by."""
    after, before = query.ingested_after, query.ingested_before
    return Span(None if after is None else micros(after), None if before is None else micros(before))


def span_of(query: Query) -> Span:
    """The window of a resolved query, open where it has none."""
    since: datetime | None
    until: datetime | None
    match query:
        case Windowed():
            since, until = query.span
        case EventQuery():
            since, until = query.occurred_after, query.occurred_before
        case _:
            since, until = None, None
    return Span(None if since is None else micros(since), None if until is None else micros(until))
