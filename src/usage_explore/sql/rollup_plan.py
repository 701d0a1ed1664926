"""The rollup's two tables, whether it answers a query exactly, and from which pieces. Built without a connection.

The answer to a question over `[since, until)` is the sum of

    slots     rollup rows of whole slots, ingested before `known`: of the summary where there is one, beside it of the
              dimension itself
    edges     events ingested before `known` in what the whole slots lack of the window, less those they have too much
    tail      events ingested at `known` or later, in the window

`known` is the watermark, or with `as_of` the end of the last slot of ingestion that lies wholly before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Interval,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    false,
)

from usage_explore.query.base import Query, Windowed
from usage_explore.query.filters import GROUPS, dimension_group
from usage_explore.query.queries import AggregateQuery, EventQuery

NONE = "none"
"""The dimension whose rows have no value: every event once."""

KEYS = "keys"
"""The dimension whose values are the dimension keys an event has: an event counts once for each."""

SUMMARY = "summary:"
"""What the name of a dimension's summary begins with."""

COLUMNS = tuple(name for name in GROUPS if name != "metric_key")
"""The columns that are dimensions; the metric key is part of every row."""

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
GRAINS = (timedelta(minutes=15), HOUR, DAY)
"""How long a slot may be. All begin at midnight UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Kept:
    """A dimension that is kept: slots of `grain`, holding what was ingested before `watermark`.

    The slots of ingestion are days before `days_until`, and hours from there on. With `summary` there are fewer rows
    beside these that say the same more coarsely, for the questions they suffice for: slots of a day where the dimension
    has shorter ones, else all metrics together.
    """

    dimension: str
    grain: timedelta
    watermark: datetime
    days_until: datetime
    summary: bool = False

    def known(self, as_of: datetime | None) -> datetime:
        """Up to where whole slots of ingestion tell what was known at `as_of`, default: all of them."""
        if as_of is None or as_of + INSTANT >= self.watermark:
            return self.watermark
        return self.ingestion_slot(as_of + INSTANT)

    def ingestion_slot(self, ingested: datetime) -> datetime:
        """The start of the slot of ingestion that holds the instant."""
        return floor(ingested, DAY if ingested < self.days_until else HOUR)


@dataclass(frozen=True, slots=True)
class Edge:
    """A part of a slot, `[since, until)`: its events are added (`sign` 1) or taken away (-1)."""

    since: datetime
    until: datetime
    sign: int


@dataclass(frozen=True, slots=True)
class Slots:
    """Whole slots: the rows of `dimension`, which may be a summary, in `[first, last)`; None where that is open."""

    dimension: str
    grain: timedelta
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True)
class Serving:
    """How the rollup answers: the rows of whole slots ingested before `known`, edges, and the tail.

    `together`: some of those rows hold all metrics together.
    """

    slots: tuple[Slots, ...]
    known: datetime
    edges: tuple[Edge, ...]
    together: bool = False


def serving(
    query: AggregateQuery,
    edges: tuple[datetime, ...],
    now: datetime,
    kept: Mapping[str, Kept],
    *,
    metrics: bool = False,
) -> Serving | str:
    """How the rollup answers the resolved question, else why it cannot, in words that follow "because".

    With `metrics` each metric by itself.
    """
    found = _kept(query, query.group_by, kept)
    if isinstance(found, str):
        return found
    if any(floor(edge, found.grain) != edge for edge in edges):
        return f"the edges of {query.bucket}s in {query.timezone} cut the rollup's slots of {span(found.grain)}"
    together = not metrics and "metric_key" not in _named(query, query.group_by)
    coarse = together if found.grain == DAY else all(floor(edge, DAY) == edge for edge in edges)
    return _pieces(query, *query.span, now, found, coarse)


def serving_choices(query: Query, group: str, now: datetime, kept: Mapping[str, Kept]) -> Serving | str:
    """The same for how many of the question's events have each value of a group, or each dimension key (`keys`)."""
    found = _kept(query, group, kept)
    if isinstance(found, str):
        return found
    coarse = found.grain < DAY or "metric_key" not in _named(query, group)
    match query:
        case Windowed():
            return _pieces(query, *query.span, now, found, coarse)
        case EventQuery():
            return _pieces(query, query.occurred_after, query.occurred_before, now, found, coarse)
        case _:
            return _pieces(query, None, None, now, found, coarse)


def _kept(query: Query, group: str, kept: Mapping[str, Kept]) -> Kept | str:
    named = dimensions(query, group)
    if len(named) > 1:
        return f"{' and '.join(named)} are asked for together, and the rollup keeps one dimension at a time"
    (dimension,) = named or (NONE,)
    return kept.get(dimension) or f"the rollup does not keep {dimension}"


def _pieces(
    query: Query, since: datetime | None, until: datetime | None, now: datetime, kept: Kept, coarse: bool
) -> Serving | str:
    """The pieces of a window; `coarse` where the summary suffices for the question."""
    known = kept.known(query.as_of)
    if since is not None and known <= since:
        return "the rollup ends before the window begins"
    first, head = _lower(since, kept.grain) if since else (None, ())
    last, foot = _upper(until, kept.grain, now) if until else (None, ())
    if first and last and first >= last:
        return f"the window holds no whole slot of {span(kept.grain)}"
    slots = Slots(kept.dimension, kept.grain, first, last)
    summarized = kept.summary and coarse
    together = summarized and kept.grain == DAY
    return Serving(_summarized(slots) if summarized else (slots,), known, (*head, *foot), together)


def _summarized(slots: Slots) -> tuple[Slots, ...]:
    """The same slots: whole days of the summary, the rest of the dimension itself."""
    days = replace(
        slots,
        dimension=SUMMARY + slots.dimension,
        grain=DAY,
        first=slots.first and _ceil(slots.first, DAY),
        last=slots.last and floor(slots.last, DAY),
    )
    if days.first and days.last and days.first >= days.last:
        return (slots,)
    rest = (replace(slots, last=days.first), replace(slots, first=days.last))
    return (days, *(each for each in rest if each.first != each.last))


def dimensions(query: Query, group: str) -> tuple[str, ...]:
    """What the question filters by, and a group; without the metric key, which is part of every row."""
    return tuple(sorted(_named(query, group) - {"metric_key", NONE}))


def _named(query: Query, group: str) -> set[str]:
    named = {group, *query.missing}
    named |= {name for name in GROUPS if getattr(query, name)}
    named |= {dimension_group(key) for key, _ in query.dimensions}
    for name, values in query.exclude:
        named |= set(values) if name == "missing" else {name}
    return named


def _ceil(instant: datetime, grain: timedelta) -> datetime:
    """The start of the first slot that does not begin before `instant`."""
    return instant + (_EPOCH - instant) % grain


def floor(instant: datetime, grain: timedelta) -> datetime:
    """The start of the slot that holds `instant`."""
    return instant - (instant - _EPOCH) % grain


def span(grain: timedelta) -> str:
    """A grain in words."""
    return {HOUR: "an hour", DAY: "a day"}.get(grain, f"{grain // timedelta(minutes=1)} minutes")


def _lower(since: datetime, grain: timedelta) -> tuple[datetime, tuple[Edge, ...]]:
    """The first whole slot, and what mends the window's lower edge: the shorter way round."""
    start = floor(since, grain)
    if start == since:
        return start, ()
    if since - start <= grain / 2:
        return start, (Edge(start, since, -1),)
    return start + grain, (Edge(since, start + grain, 1),)


def _upper(until: datetime, grain: timedelta, now: datetime) -> tuple[datetime, tuple[Edge, ...]]:
    """The end of the last whole slot, and what mends the upper edge; hardly any events lie in the future."""
    start = floor(until, grain)
    if start == until:
        return until, ()
    end = start + grain
    if min(end, max(now, until)) - until <= until - start:
        return end, (Edge(until, end, -1),)
    return start, (Edge(start, until, 1),)


@lru_cache  # SQLAlchemy knows a statement again by its very tables, and need not compile it
def rollup_table(events: Table) -> Table:
    """The rows, `<events>_rollup`.

    `organization_id` uuid, `dimension` text (`none`, `keys`, a column, `dim:<key>`, or `summary:` and one of these),
    `value` text (NULL where the event has none), `metric_key` text ('' where a summary adds all metrics up), `slot`
    timestamptz (start of the slot of `timestamp`), `ingested` timestamptz (start of the slot of `ingested_at`),
    `events` bigint, `quantity` numeric (their exact sum).
    """
    return Table(
        f"{events.name}_rollup",
        MetaData(schema=events.schema),
        Column("organization_id", Uuid[UUID](), nullable=False),
        Column("dimension", Text, nullable=False),
        Column("value", Text),
        Column("metric_key", Text, nullable=False),
        Column("slot", DateTime(timezone=True), nullable=False),
        Column("ingested", DateTime(timezone=True), nullable=False),
        Column("events", BigInteger, nullable=False),
        Column("quantity", Numeric, nullable=False),
    )


def rollup_index(rows: Table) -> Index:
    """The one index: a window of a dimension's slots, or the probes of one value in each of them."""
    c = rows.c
    return Index(
        f"{rows.name}_answer",
        c.organization_id,
        c.dimension,
        c.slot,
        c.value,
        postgresql_include=["ingested", "metric_key", "events", "quantity"],
    )


@lru_cache
def kept_table(events: Table) -> Table:
    """The catalogue, `<events>_rollup_kept`: one row for each dimension that is kept, or was left out.

    `organization_id` uuid, `dimension` text, `grain` interval (of the slots; NULL where it is left out), `watermark`
    timestamptz (what was ingested before is in the rows; NULL before the first refresh), `days_until` timestamptz
    (slots of ingestion are days before it, hours after), `summary` boolean (whether its rows are summarized
    beside it, see `serving.Kept`), `by_hand` boolean (set by a person, else measured), `share`
    numeric (rollup rows per event when it was measured), `reason` text (why it is left out), `chosen_at` timestamptz.
    """
    return Table(
        f"{events.name}_rollup_kept",
        MetaData(schema=events.schema),
        Column("organization_id", Uuid[UUID](), nullable=False),
        Column("dimension", Text, nullable=False),
        Column("grain", Interval),
        Column("watermark", DateTime(timezone=True)),
        Column("days_until", DateTime(timezone=True)),
        Column("summary", Boolean, nullable=False, server_default=false()),
        Column("by_hand", Boolean, nullable=False),
        Column("share", Numeric),
        Column("reason", Text),
        Column("chosen_at", DateTime(timezone=True), nullable=False),
        PrimaryKeyConstraint("organization_id", "dimension"),
    )
