"""The rows of files without keys that were loaded again, so that a hash of the row, their key, does not tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Select,
    Table,
    Text,
    and_,
    case,
    cast,
    extract,
    func,
    literal,
    not_,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from usage_explore.load.other_zone import MAX_DISTANCE, MIN_ROWS, Loaded, zone_distances
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.batches import batch_columns, batched
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import surroundings

RESTATED, RELOADED, OTHER_ZONE = "restated", "reloaded", "other_zone"
"""Rows of an export that was loaded again with other amounts, of a file with other options or columns, and of a file
with its times in another zone."""


@dataclass(frozen=True, slots=True)
class Zones:
    """Loads, by their arrival, that overlap in time, and by what the times of some differ from an earlier one's.

    The differences are those of two zones, see `zone_distances`.
    """

    loads: Collection[datetime] = ()
    distances: Mapping[datetime, Collection[timedelta]] = field(default_factory=dict)


EXPORT_GRID_SECONDS = 900
"""Seconds; exports report usage by the quarter of an hour or longer, so other times are of no export."""

_ROW_HASH_PATTERN = r"^row:[0-9a-f]{32}(#[0-9]+)?$"
_NUMBER_PATTERN = r"^[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?$"
_DATE_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_AMOUNT_NAMES = "cost|price|quantity|amount|rate|fee|charge|tax|discount|usage|total"


def exported(table: Table) -> ColumnElement[bool]:
    """Whether an event is a row of an export: its key a hash of the row, its time on the grid."""
    c = table.c
    on_grid = func.mod(extract("epoch", c.timestamp), EXPORT_GRID_SECONDS) == 0
    return and_(c.idempotency_key.like("row:%"), c.idempotency_key.regexp_match(_ROW_HASH_PATTERN), on_grid)


def row_hash_times(table: Table, period: Period) -> Select[Any]:
    """The times of all events that may be rows of an export, by their keys."""
    c = table.c
    return select(c.timestamp).where(*conditions(table, period), c.idempotency_key.like("row:%")).distinct()


def _of_several_loads(table: Table, covered: Sequence[Column[Any]], within: Sequence[ColumnElement[bool]]) -> CTE:
    """What rows of different arrival times have in common, of the covered columns."""
    arrived = table.c.ingested_at
    common = select(*covered).where(*within).group_by(*covered).having(func.min(arrived) < func.max(arrived))
    return common.cte("loaded_again")


def restated_rows(table: Table, period: Period, but: Collection[datetime] = ()) -> Select[Any]:
    """The restated rows of a resolved period whose quantity or dimensions differ, see `batched`.

    Without what arrived at the times `but`. Those that differ in cost alone are look-alikes. Of each identity as many
    rows of a later load as the first load has are restated; further ones are new.
    """
    c = table.c
    within = [*conditions(table, period), exported(table), c.ingested_at.not_in(but)]
    covered = [c.timestamp, c.customer_id, c.metric_key]
    loaded_again = _of_several_loads(table, covered, within)
    identity = [*covered, c.product_id, c.subscription_id, c.price_key, c.external_cost_currency, c.wallet_currency]
    again = loaded_again.c
    candidates = (
        select(
            *batch_columns(table),
            *(c[name] for name in ("product_id", "subscription_id", "price_key", "wallet_currency", "id")),
            c.dimensions,
            _without_amounts(table).label("named"),
        )
        .join(
            loaded_again,
            and_(c.timestamp == again.timestamp, c.customer_id == again.customer_id, c.metric_key == again.metric_key),
        )
        .where(*within)
        .cte("each")
    )
    e = candidates.c
    identified = [*(e[column.name] for column in identity), e.named]
    first = func.min(e.ingested_at).over(partition_by=identified)
    placed = select(
        candidates,
        first.label("first_load"),
        func.row_number()
        .over(partition_by=[*identified, e.quantity, e.dimensions], order_by=[e.ingested_at, e.id])
        .label("of_content"),
        func.row_number().over(partition_by=[*identified, e.ingested_at], order_by=[e.id]).label("of_load"),
    ).cte("placed")
    m = placed.c
    sized = select(
        placed,
        func.count()
        .filter(m.ingested_at == m.first_load)
        .over(partition_by=[*(m[column.name] for column in identity), m.named])
        .label("size"),
    ).cte("sized")
    s = sized.c
    restated = (
        select(*(s[column.name] for column in batch_columns(table)), literal(RESTATED).label("kind"))
        .where(s.ingested_at > s.first_load, s.of_content == 1, s.of_load <= s.size)
        .cte("restated")
    )
    return batched(restated)


def reloaded_rows(table: Table, period: Period, but: Collection[datetime] = ()) -> Select[Any]:
    """The rows of files that were loaded again with other options or columns, see `batched`; not what arrived at `but`.

    Rows without a key of their own whose customer, metric, time and quantity an earlier load has, too, with dimensions
    that have all of the other's or the reverse; of loads of which they are at least half. Rows that are equal in all
    but amounts are restated or look alike.
    """
    c = table.c
    within = [*conditions(table, period), c.idempotency_key.like("row:%"), c.ingested_at.not_in(but)]
    covered = [c.timestamp, c.customer_id, c.metric_key, c.quantity]
    again = _of_several_loads(table, covered, within)
    others = [c.product_id, c.subscription_id, c.price_key, c.external_cost_currency, c.wallet_currency]
    comparable = _comparable(table)
    of_load: dict[str, Any] = {
        "partition_by": [*covered, c.ingested_at],
        "order_by": [cast(comparable, Text), c.id],
    }
    each = (
        select(
            *batch_columns(table),
            tuple_(*others, _without_amounts(table)).cast(Text).label("content"),
            comparable.label("comparable"),
            func.row_number().over(**of_load).label("place"),
        )
        .join(again, and_(*(column == again.c[column.name] for column in covered)))
        .where(*within)
        .cte("each")
    )
    e = each.c
    # rows with equal quantities in the order of their dimensions: no pair is compared, of thousands at one time
    alike = [*(e[column.name] for column in covered), e.place]
    by_load: dict[str, Any] = {"partition_by": alike, "order_by": e.ingested_at}
    placed = select(
        each,
        func.first_value(e.ingested_at).over(**by_load).label("first_load"),
        func.first_value(e.content).over(**by_load).label("first_content"),
        func.first_value(e.comparable, type_=JSONB).over(**by_load).label("first_comparable"),
    ).cte("placed")
    m = placed.c
    copies = (
        select(placed)
        .where(
            m.ingested_at > m.first_load,
            m.content != m.first_content,
            or_(m.first_comparable.contains(m.comparable), m.comparable.contains(m.first_comparable)),
        )
        .cte("copies")
    )
    loads = select(c.ingested_at, func.count().label("events")).where(*within).group_by(c.ingested_at).cte("loads")
    k = copies.c
    mostly = (
        select(k.ingested_at)
        .join(loads, loads.c.ingested_at == k.ingested_at)
        .group_by(k.ingested_at, loads.c.events)
        .having(2 * func.count() >= loads.c.events)
        .cte("mostly")
        .prefix_with("MATERIALIZED", dialect="postgresql")  # else it is made again for each row
    )
    kept = (k[column.name] for column in batch_columns(table))
    reloaded = (
        select(*kept, literal(RELOADED).label("kind"))
        .where(k.ingested_at.in_(select(mostly.c.ingested_at)))
        .cte("reloaded")
    )
    return batched(reloaded)


def zones(examination: Examination) -> Zones:
    """The loads of the period's organization whose rows without a key another load has in another time zone."""
    around = surroundings(examination.period, MAX_DISTANCE)
    table = examination.table
    spans = {load: (first, last) for load, first, last in examination.rows(_spans(table, around))}
    overlapping = set(_overlapping(spans))
    if not overlapping:
        return Zones()
    pairs, telling = _pairs(table, around, overlapping)
    loads = {load: Loaded(*spans[load], rows) for load, rows in examination.rows(telling)}
    apart: dict[tuple[datetime, datetime], dict[timedelta, int]] = defaultdict(dict)
    for load, earlier, distance, rows in examination.rows(pairs):
        apart[load, earlier][distance] = rows
    found: dict[datetime, set[timedelta]] = defaultdict(set)
    for (load, earlier), distances in apart.items():
        found[load] |= zone_distances(distances, loads[load], loads[earlier])
    return Zones(overlapping, {load: distances for load, distances in found.items() if distances})


def other_zone_rows(table: Table, period: Period, found: Zones) -> Select[Any]:
    """The rows of a resolved period that an earlier load has in another time zone, see `batched`."""
    copies = _copies(table, surroundings(period, MAX_DISTANCE), found.loads)
    k = copies.c
    same = or_(*(and_(k.ingested_at == load, k.apart.in_(distances)) for load, distances in found.distances.items()))
    ids = select(k.timestamp, k.id).where(same).subquery()
    c = table.c
    rows = (
        select(*batch_columns(table), literal(OTHER_ZONE).label("kind"))
        .join(ids, and_(c.timestamp == ids.c.timestamp, c.id == ids.c.id))
        .where(*conditions(table, period))
        .cte(OTHER_ZONE)
    )
    return batched(rows)


def _spans(table: Table, period: Period) -> Select[Any]:
    """The loads by their first row: time of arrival, time of the first and the last row without a key."""
    c = table.c
    first = func.min(c.timestamp).label("first")
    return (
        select(c.ingested_at, first, func.max(c.timestamp))
        .where(*conditions(table, period), c.idempotency_key.like("row:%"))
        .group_by(c.ingested_at)
        .having(func.count() >= MIN_ROWS)
        .order_by(first)
    )


def _overlapping(spans: Mapping[datetime, tuple[datetime, datetime]]) -> Iterator[datetime]:
    """The loads that have time in common with another one, of those in the order of their first rows."""
    ordered = list(spans.items())
    for place, (load, (_, last)) in enumerate(ordered):
        for other, _ in takewhile(lambda each, last=last: each[1][0] < last, ordered[place + 1 :]):  # type: ignore[misc]
            yield from (load, other)


def _pairs(table: Table, period: Period, loads: Collection[datetime]) -> tuple[Select[Any], Select[Any]]:
    """Numbers of telling rows by load, earlier load and what their times differ by; and by load."""
    copies = _copies(table, period, loads)
    k = copies.c
    pairs = select(k.ingested_at, k.earlier, k.apart, func.count()).where(k.telling, k.earlier.is_not(None))
    telling = select(k.ingested_at, func.count().filter(k.telling)).group_by(k.ingested_at)
    return pairs.group_by(k.ingested_at, k.earlier, k.apart), telling


def _copies(table: Table, period: Period, loads: Collection[datetime]) -> CTE:
    """The rows without a key of these loads: the next row in time that an earlier load has at the same place.

    A place is the number of a row in its load, of those with its customer, metric, quantity and dimensions. `apart` is
    the distance in time, NULL without such a row, `telling` as `Loaded` has it.
    """
    c = table.c
    series = [c.customer_id, c.metric_key, c.ingested_at]
    alike = [c.customer_id, c.metric_key, c.quantity, c.dimensions]
    differ = func.min(c.quantity).over(partition_by=series) < func.max(c.quantity).over(partition_by=series)
    placed = (
        select(
            *(column for column in (c.id, c.timestamp, c.ingested_at, *alike)),
            func.row_number().over(partition_by=[*alike, c.ingested_at], order_by=[c.timestamp, c.id]).label("place"),
            or_(differ, extract("second", c.timestamp) != 0).label("telling"),
        )
        .where(*conditions(table, period), c.idempotency_key.like("row:%"), c.ingested_at.in_(loads))
        .cte("placed")
    )
    p = placed.c
    beside: dict[str, Any] = {
        "partition_by": [p.customer_id, p.metric_key, p.quantity, p.dimensions, p.place],
        "order_by": [p.timestamp, p.ingested_at],
    }
    neighbours = select(
        placed,
        *(
            each(column).over(**beside).label(f"{name}_{column.name}")
            for name, each in (("before", func.lag), ("after", func.lead))
            for column in (p.timestamp, p.ingested_at)
        ),
    ).cte("neighbours")
    n = neighbours.c
    is_before, is_after = n.before_ingested_at < n.ingested_at, n.after_ingested_at < n.ingested_at
    return select(
        *(n[name] for name in ("id", "timestamp", "ingested_at", "telling")),
        case((is_before, n.before_ingested_at), (is_after, n.after_ingested_at)).label("earlier"),
        case((is_before, n.timestamp - n.before_timestamp), (is_after, n.timestamp - n.after_timestamp)).label("apart"),
    ).cte("copies")


def _comparable(table: Table) -> ColumnElement[Any]:
    """The dimensions that are neither numbers nor dates, keys in lower case, values without spaces around them."""
    pair = func.jsonb_each_text(table.c.dimensions).table_valued("key", "value").render_derived(name="each")
    value = pair.c.value.cast(Text)
    kept = select(func.jsonb_object_agg(func.lower(pair.c.key), func.btrim(value), type_=JSONB)).where(
        not_(value.regexp_match(_NUMBER_PATTERN)), not_(value.regexp_match(_DATE_PATTERN))
    )
    return func.coalesce(kept.scalar_subquery(), literal({}, JSONB), type_=JSONB)


def _without_amounts(table: Table) -> ColumnElement[Any]:
    """The dimensions of an event that are no amounts; NULL where none is left."""
    pair = func.jsonb_each_text(table.c.dimensions).table_valued("key", "value").render_derived(name="each")
    number = pair.c.value.cast(Text).regexp_match(_NUMBER_PATTERN)
    amount = and_(
        number, or_(pair.c.value.cast(Text).contains("."), pair.c.key.cast(Text).regexp_match(_AMOUNT_NAMES, flags="i"))
    )
    kept = select(func.jsonb_object_agg(pair.c.key, pair.c.value, type_=JSONB)).where(
        or_(pair.c.value.is_(None), not_(amount))
    )
    return kept.scalar_subquery()
