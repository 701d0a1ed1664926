"""All events of a query, newest first, from the extract and the tail; or from the events, with the same values.

They are read in slices of time with few events each, so that memory stays bounded. A file that cannot be read after
some slices were given is no loss: the events after the last one come from the database, whose order is the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import pyarrow as pa

from usage_explore.extract import statement
from usage_explore.extract.engine import ExtractUnusable
from usage_explore.extract.manifest import IDS, SLOT, micros
from usage_explore.extract.routing import Held, Paths
from usage_explore.extract.scans import Scan, Span, named_groups, span_of
from usage_explore.extract.segments import decimal_text
from usage_explore.extract.statement import Statement
from usage_explore.query.queries import EventQuery, Position
from usage_explore.results import arrow
from usage_explore.results.arrow import DECIMALS
from usage_explore.results.frames import DecimalSpan, integer_digits
from usage_explore.sql import filters
from usage_explore.sql import filters as statements

_SLICE_EVENTS = 50_000
"""Events of a slice, if no slot of 15 minutes alone has more."""

_MAX_TAIL_EVENTS = 200_000
"""Events of the tail, which are kept in memory; for more of them the events are read from the database."""

_PAGE_EVENTS = 20_000

_CONSTANT = "organization_id"
_INSTANTS = {"timestamp": "ts", "ingested_at": "ing"}


class Events(Protocol):
    """The reader of the events' path; see `usage_explore.export.EventPages`."""

    def measure(self) -> tuple[int, dict[str, DecimalSpan]]:
        """The number of events, and the digits of their decimals."""
        ...

    def tables(self, schema: pa.Schema, after: Position | None = None) -> Iterator[pa.Table]:
        """The events, some at a time; `after` replaces the position."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is read from an extract: slices of time, newest first, and the tail.

    `tail` is ordered as the events; `times` are its timestamps in microseconds, negative, so ascending.
    """

    held: Held
    slices: list[Span]
    total: int
    spans: dict[str, DecimalSpan]
    tail: pa.Table
    times: list[int]


@dataclass(slots=True)
class ExtractReader:
    """The events of a query after a position, typed or as the text of CSV; `events` is the reader to fall back to.

    `because` is the reason for which events were read from it, None so far.
    """

    paths: Paths
    query: EventQuery
    after: Position | None
    as_csv: bool
    events: Events
    because: str | None = field(default=None, init=False)
    _plan: _Plan | None = field(default=None, init=False)
    _constant: pa.Array[Any] = field(default_factory=lambda: pa.array([], pa.string()), init=False)

    @property
    def columns(self) -> list[str]:
        """The names of the table's columns."""
        return [column.name for column in self.paths.table.columns]

    def measure(self) -> tuple[int, dict[str, DecimalSpan]]:
        """The number of events, and the digits of their decimals."""
        plan = self._planned()
        return (plan.total, plan.spans) if plan else self.events.measure()

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """The events, a slice at a time."""
        after = self.after
        if plan := self._planned():
            try:
                for span in plan.slices:
                    table = self._slice(plan, span, schema)
                    if table.num_rows:
                        yield table
                        after = _last(table)
                return
            except ExtractUnusable as error:
                self.because = str(error)
        yield from self.events.tables(schema, after)

    def parts(self) -> tuple[list[Scan], pa.Table, dict[str, DecimalSpan]]:
        """The scans of rows of all events, the tail with the types of Parquet, and the digits of the decimals.

        Raises `ExtractUnusable`.
        """
        plan = self._make_plan()
        scans = self._scans(plan.held, span_of(self.query))
        return scans, plan.tail.cast(arrow.schema(self.columns, plan.spans)), plan.spans

    def _planned(self) -> _Plan | None:
        if self._plan is None and self.because is None:
            try:
                self._plan = self._make_plan()
            except ExtractUnusable as error:
                self.because = str(error)
        return self._plan

    def _make_plan(self) -> _Plan:
        """Count the events by slot, and read the tail. Raises `ExtractUnusable`."""
        held = self.paths.held(self.query)
        self.paths.check(held, self.query)
        span = span_of(self.query)
        if self.after is not None:
            until = micros(self.after.timestamp) + 1
            span = Span(span.since, until if span.until is None else min(span.until, until))
        tail, times = self._tail(held)
        slots: Counter[int] = Counter(-time_ // SLOT for time_ in times)
        spans = {name: _digits(tail[name].to_pylist()) for name in DECIMALS}
        made = Statement()
        scans = self._scans(held, span)
        if scans:
            counted = " UNION ALL ".join(self._counts(made, scan) for scan in scans)
            for slot, events, *measures in self.paths.run(held, counted, made.parameters):
                slots[slot] += events
                for name, scale, most in zip(DECIMALS, measures[::2], measures[1::2], strict=True):
                    spans[name] |= DecimalSpan(scale or 0, integer_digits(Decimal(most or 0)))
        if not all(digits.fits for digits in spans.values()):
            raise ExtractUnusable("some decimals have more than 38 digits")
        slices = [_intersection(span, since, until) for since, until in _slices(slots)]
        return _Plan(held=held, slices=slices, total=slots.total(), spans=spans, tail=tail, times=times)

    def _scans(self, held: Held, span: Span) -> list[Scan]:
        """Scans of rows, never of summaries."""
        named = named_groups(self.query, "none")
        return held.scans_of(held.manifest.segments, self.query, span, 1, named)

    def _where(self, made: Statement, scan: Scan) -> str:
        conditions = statement.conditions(made, scan, self.query)
        if self.after is not None:
            at, id_ = micros(self.after.timestamp), made.bind(str(self.after.id), "UUID")
            conditions.append(f"(ts < {at} OR (ts = {at} AND id < {id_}))")
        return " AND ".join(conditions) or "true"

    def _counts(self, made: Statement, scan: Scan) -> str:
        """`slot`, `events`, then the scale and the largest amount of each decimal."""
        measures = []
        for name, (_, scale) in zip(DECIMALS, (scan.layout.quantity, scan.layout.cost), strict=True):
            fraction = f"length(rtrim(split_part({name}::VARCHAR, '.', 2), '0'))" if scale else "0"
            measures += [f"max({fraction})", f"max(abs({name}))::DECIMAL(38, {scale})::VARCHAR"]
        where = self._where(made, scan)
        return f"SELECT slot, count(*), {', '.join(measures)} FROM {statement.source(scan)} WHERE {where} GROUP BY slot"

    def _slice(self, plan: _Plan, span: Span, schema: pa.Schema) -> pa.Table:
        """The events of a slice, newest first."""
        first, last = (bisect_right(plan.times, -bound) for bound in (_until(span), _since(span)))
        late = plan.tail.slice(first, last - first).cast(schema)
        scans = self._scans(plan.held, span)
        if not scans:
            return late
        assert self.paths.extracts is not None  # noqa: S101 - `held` raises without
        made = Statement()
        parts = [self._rows(made, scan, plan.spans) for scan in scans]
        selected = ", ".join(self._column(name) for name in self.columns if name != _CONSTANT)
        text = f"SELECT {selected} FROM ({' UNION ALL '.join(parts)}) AS r ORDER BY r.ts DESC, r.id DESC"
        table = self.paths.extracts.arrow(text, made.parameters, plan.held.timeout)
        constant = self._organization_ids(table.num_rows)
        table = table.add_column(self.columns.index(_CONSTANT), _CONSTANT, constant).cast(schema)
        if not late.num_rows:
            return table
        return pa.concat_tables([table, late]).sort_by([("timestamp", "descending"), ("id", "descending")])

    def _rows(self, made: Statement, scan: Scan, spans: dict[str, DecimalSpan]) -> str:
        """The columns of a segment without those of dimensions, with decimals as they are written."""
        selected = []
        for name in self.columns:
            if name in DECIMALS:
                layout = scan.layout.quantity if name == "quantity" else scan.layout.cost
                if self.as_csv:
                    text = decimal_text(name) if layout[0] == layout[1] else f"{name}::VARCHAR"
                    written = f"rtrim(rtrim({text}, '0'), '.')" if layout[1] else text
                else:
                    written = f"{name}::DECIMAL(38, {spans[name].scale})"  # of at least as many digits as any value
                selected.append(f"{written} AS {name}")
            elif name != _CONSTANT:
                selected.append(_INSTANTS.get(name, name))
        return f"SELECT {', '.join(selected)} FROM {statement.source(scan)} WHERE {self._where(made, scan)}"

    def _organization_ids(self, size: int) -> pa.Array[Any]:
        """The organization's id, as often as that; all slices share its memory."""
        if len(self._constant) < size:
            self._constant = pa.array([str(self.query.organization_id)] * size, pa.string())
        return self._constant.slice(0, size)

    def _column(self, name: str) -> str:
        if name in IDS:
            return f"r.{name}::VARCHAR AS {name}"
        if column := _INSTANTS.get(name):
            written = f"strftime(make_timestamp(r.{column}), '%Y-%m-%dT%H:%M:%S.%fZ')" if self.as_csv else f"r.{column}"
            return f"{written} AS {name}"
        return f"r.{name} AS {name}"

    def _tail(self, held: Held) -> tuple[pa.Table, list[int]]:
        """What was ingested at the watermark or later, decimals as text, and the timestamps, negative."""
        tables, times = [arrow.from_rows([], self.columns)], list[int]()
        late = self.paths.late(held, self.query, self.columns)
        if late is None:
            return tables[0], times
        page = filters.page(late, self.query, _MAX_TAIL_EVENTS + 1, self.after)
        selected = statements.exported_texts(page, as_csv=self.as_csv).execution_options(yield_per=_PAGE_EVENTS)
        for rows in self.paths.connection.execute(selected).partitions():
            tables.append(arrow.from_rows([row[2:] for row in rows], self.columns))
            times += [-micros(row.at) for row in rows]
        if len(times) > _MAX_TAIL_EVENTS:
            raise ExtractUnusable(f"more than {_MAX_TAIL_EVENTS:,} events arrived since its refresh")
        return pa.concat_tables(tables[1:] or tables), times


def _slices(slots: Counter[int]) -> Iterator[tuple[int, int]]:
    """Half-open slices of time, newest first, in microseconds, that hold all slots."""
    events, until, since = 0, None, 0
    for slot in sorted(slots, reverse=True):
        until = slot + 1 if until is None else until
        since, events = slot, events + slots[slot]
        if events >= _SLICE_EVENTS:
            yield since * SLOT, until * SLOT
            events, until = 0, None
    if until is not None:
        yield since * SLOT, until * SLOT


def _intersection(span: Span, since: int, until: int) -> Span:
    return Span(
        since if span.since is None else max(span.since, since), until if span.until is None else min(span.until, until)
    )


def _since(span: Span) -> int:
    assert span.since is not None  # noqa: S101 - a slice has both ends
    return span.since


def _until(span: Span) -> int:
    assert span.until is not None  # noqa: S101 - a slice has both ends
    return span.until


def _digits(texts: list[str | None]) -> DecimalSpan:
    """The digits of decimals that are plain text."""
    span = DecimalSpan(0, 0)
    for value in {Decimal(text) for text in texts if text is not None}:
        finite = value.is_finite()
        exponent = value.as_tuple().exponent
        span |= DecimalSpan(max(-exponent, 0) if isinstance(exponent, int) else 0, integer_digits(value), finite)
    return span


def _last(table: pa.Table) -> Position:
    """The position of the last event."""
    row = table.slice(table.num_rows - 1).select(["timestamp", "id"]).to_pylist()[0]
    at = row["timestamp"]
    return Position(at if isinstance(at, datetime) else datetime.fromisoformat(at), UUID(row["id"]))
