"""Usage by customer and metric over even steps of time, for the detector: a period and the weeks before it.

The sums are made exact in the database and turned to float64 for the detector alone; what a finding reports is queried
again, as `Decimal`. Series come in blocks, so that memory does not grow with the number of customers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import chain, pairwise
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    ColumnElement,
    Double,
    Numeric,
    Select,
    Table,
    Text,
    any_,
    case,
    func,
    literal,
    select,
    true,
)

from usage_explore.extract.engine import ExtractUnusable
from usage_explore.query import buckets, validators
from usage_explore.query.buckets import Bucket
from usage_explore.query.queries import AggregateQuery, Metric
from usage_explore.results.types import Series
from usage_explore.sql import filters
from usage_explore.sql.aggregate import sums
from usage_explore.sql.filters import array
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.usage_sums import metric_filter

Floats = npt.NDArray[np.float64]
Step = Literal["hour", "day"]
Group = Literal["customer_id", "none"]

BOUNDS = CheckBounds("shifts")

# fmt: off
HISTORY = BOUNDS.add("history", timedelta(weeks=8), "weeks", 2, 52,
    "Time before a period whose usage says what was usual when it began.")
# fmt: on

MAX_STEPS = 10_000
"""Steps of a series that are read, the latest: more than a year of hours."""

MEASURES: tuple[Metric, ...] = ("sum_quantity", "count")
"""What is measured of each step."""

_MAX_BLOCK_CELLS: dict[Step, int] = {"day": 250_000, "hour": 80_000}
"""Steps of all series that are held and judged at a time, about: the detector takes some 2 kB for each hour."""

_MAX_FILTER_METRICS = 100
"""Metrics that a question names; of more it reads all."""

_MAX_FLOAT = Decimal(10) ** 150
"""A sum beyond this teaches nothing as a float64: it is unknown, as NaN is."""

_MIN_FLOAT = Decimal(10) ** -150
"""A sum below this is 0 as a float64: PostgreSQL refuses to cast what would underflow."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The steps of time that series are laid out on: a column for each hour of each local day, or for each local day.

    `edges` are those of the buckets (one more than there are), all complete; `column` says where each goes: -1 for an
    hour that is cut short, or whose clock time comes twice. `starts` and `ends` bound each column, None where nothing
    is known.
    """

    step: Step
    edges: tuple[datetime, ...]
    column: npt.NDArray[np.intp]
    starts: tuple[datetime | None, ...]
    ends: tuple[datetime | None, ...]

    @property
    def season(self) -> int:
        """Columns of a week."""
        return 7 if self.step == "day" else 168

    @property
    def unknown(self) -> npt.NDArray[np.bool_]:
        """The columns of which nothing is known."""
        return np.array([start is None for start in self.starts], dtype=np.bool_)

    def span(self, first: int, last: int) -> tuple[datetime, datetime]:
        """The half-open span that the known ones of the columns `[first, last)` lie in."""
        starts = [start for start in self.starts[first:last] if start is not None]
        ends = [end for end in self.ends[first:last] if end is not None]
        return starts[0], ends[-1]

    def lay_out(self, places: Sequence[int], values: Sequence[float | None]) -> Floats:
        """Values of some buckets, numbered from 1, by column: 0 where there are none, NaN where nothing is known."""
        row = np.zeros(len(self.starts))
        row[self.unknown] = np.nan
        at = self.column[np.array(places, np.intp) - 1]
        row[at[at >= 0]] = np.array(values, np.float64)[at >= 0]
        return row


@dataclass(frozen=True, slots=True)
class Block:
    """Some series: whose (None: all customers together) and of which metric, and their values, (series, column).

    `values` is float64 by what is measured, NaN where nothing is known. `learnt` is what is usual learnt from, where
    that is not the values without their own silences. `excess` takes what deviations lie beyond what was expected.
    """

    customers: tuple[UUID | None, ...]
    metrics: tuple[str, ...]
    values: dict[Metric, Floats]
    learnt: dict[Metric, Floats] = field(default_factory=dict)
    excess: dict[Metric, Floats] = field(default_factory=dict)


def grid(examination: Examination, step: Step) -> Grid | None:
    """The whole steps from `HISTORY` before the period, or the organization's first event, to where usage is complete.

    None where there are none.
    """
    period, until = examination.period, examination.closed_until
    since = max(period.span[0] - HISTORY(), validators.EARLIEST)
    query = examination.events_question(occurred_after=None, occurred_before=max(until, period.span[0]))
    first = examination.connection.execute(filters.extent(examination.table, query)).one()[0]
    if first is None:
        return None
    since = max(first, since)
    since = examination.paths.exists_since(query.replace(occurred_after=since)) or since
    if since >= until:
        return None
    edges = buckets.edges(since, until, step, period.zone, MAX_STEPS)
    whole = tuple(edge for edge in edges if since <= edge <= until)
    return grid_of_edges(step, whole, period.zone) if len(whole) > 1 else None


def grid_of_edges(step: Step, edges: tuple[datetime, ...], zone: ZoneInfo) -> Grid:
    """The grid of the buckets between these edges, all of them complete."""
    first = buckets.local_date(edges[0], zone)
    column = np.full(len(edges) - 1, -1, np.intp)
    bounds: dict[int, tuple[datetime | None, datetime | None]] = {}
    for number, (start, end) in enumerate(pairwise(edges)):
        day = (buckets.local_date(start, zone) - first).days
        place = day if step == "day" else day * 24 + start.astimezone(zone).hour
        if place not in bounds and (step == "day" or end - start == timedelta(hours=1)):
            column[number], bounds[place] = place, (start, end)
        else:
            column[column == place], bounds[place] = -1, (None, None)
    lead = min(bounds)
    column[column >= 0] -= lead
    ordered = [bounds.get(place, (None, None)) for place in range(lead, max(bounds) + 1)]
    return Grid(step, edges, column, tuple(start for start, _ in ordered), tuple(end for _, end in ordered))


def blocks(
    examination: Examination, grid: Grid, group: Group, customers: Sequence[UUID] | None = None
) -> Iterator[Block]:
    """Every series of the group on the grid, or those of some customers, a block at a time.

    From the extract where there is one, else from the events. A sum that is no number is unknown.
    """
    query = _query(examination, grid, group)
    size = max(1, _MAX_BLOCK_CELLS[grid.step] // len(grid.starts))
    rows_statement = statement(examination.table, query, grid.edges, customers)
    if group == "customer_id" and customers is None:  # many: through a cursor, for which no workers are started
        rows_statement = rows_statement.execution_options(yield_per=size)
    if customers is None:
        partitions = examination.paths.metric_series(query, grid.edges, size, rows_statement)
    else:
        partitions = _of_customers(examination, query, grid, size, customers) or examination.connection.execute(
            rows_statement
        ).partitions(size)
    for some in partitions:
        yield Block(
            customers=tuple(UUID(row.key) if group == "customer_id" else None for row in some),
            metrics=tuple(row.metric_key for row in some),
            values={
                "sum_quantity": np.stack([grid.lay_out(row.buckets, row.quantities) for row in some]),
                "count": np.stack([grid.lay_out(row.buckets, row.counts) for row in some]),
            },
        )


def exact_series(
    examination: Examination,
    customer_id: UUID | None,
    metrics: Sequence[str],
    measure: Metric,
    bucket: Bucket,
    since: datetime,
    until: datetime,
) -> list[Series]:
    """The metrics of a customer, or of all (None), in a window: exact numbers by bucket. Raises `NotExact`."""
    question = examination.aggregate_question(
        since=since,
        until=until,
        bucket=bucket,
        metric=measure,
        group_by="metric_key",
        top=0,
        **metric_filter(metrics, _MAX_FILTER_METRICS),
        **({} if customer_id is None else {"customer_id": customer_id}),
    )
    all_series, *_ = examination.paths.aggregate(question)
    return [one for one in all_series if one.key in metrics]


def _of_customers(
    examination: Examination, query: AggregateQuery, grid: Grid, size: int, customers: Sequence[UUID]
) -> Iterator[Sequence[Any]] | None:
    """The series of some customers from the extract, customer by customer; None without one."""
    try:
        examination.paths.held(query)
    except ExtractUnusable:
        return None
    queries = [query.replace(customer_id=customer) for customer in customers]
    return chain.from_iterable(
        examination.paths.metric_series(one, grid.edges, size, statement(examination.table, one, grid.edges))
        for one in queries
    )


def statement(
    table: Table,
    query: AggregateQuery,
    edges: tuple[datetime, ...],
    customers: Sequence[UUID] | None = None,
) -> Select[Any]:
    """One row for each series of the question's group and each metric key, only where there are events.

    Columns: `key` text (where grouped), `metric_key` text, `buckets` integer[] (from 1), `counts` bigint[],
    `quantities` double precision[] (NULL for a sum that is no number of a float's size).
    """
    only = true() if customers is None else table.c.customer_id.cast(Text) == any_(_texts(customers))
    points = sums(table, query, only, query.group_by, edges, metrics=True, sums=("quantity",)).cte("points")
    by = [points.c.key, points.c.metric_key] if query.group_by != "none" else [points.c.metric_key]
    return select(
        *by,
        func.array_agg(points.c.bucket).label("buckets"),
        func.array_agg(points.c.events).label("counts"),
        func.array_agg(as_float(points.c.quantity)).label("quantities"),
    ).group_by(*by)


def _query(examination: Examination, grid: Grid, group: Group) -> AggregateQuery:
    return examination.aggregate_question(
        since=grid.edges[0], until=grid.edges[-1], bucket=grid.step, metric="sum_quantity", group_by=group
    )


def _texts(customers: Sequence[UUID]) -> ColumnElement[Any]:
    """The customers as texts: the largest ones' events are read faster with all others than one by one by an index."""
    return array(map(str, customers), Text())


def as_float(exact: ColumnElement[Any]) -> ColumnElement[Any]:
    """As double precision; 0 and NULL where that would fail or say nothing, NaN too: here it is above any number."""
    size = func.abs(exact)
    return case(
        (size < literal(_MIN_FLOAT, Numeric), literal(0.0, Double)),
        (size < literal(_MAX_FLOAT, Numeric), exact.cast(Double)),
    )
