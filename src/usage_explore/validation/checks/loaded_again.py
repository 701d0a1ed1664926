"""The rows of files without keys that were loaded again, so that a hash of the row, their key, does not tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    FromClause,
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

from usage_explore.load.other_zone import (
    MAX_DISTANCE,
    MIN_ROWS,
    ZONE_GRID_SECONDS,
    Apart,
    Loaded,
    zone_distances,
)
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.batches import batch_columns, batched
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import surroundings

RESTATED, RELOADED, OTHER_ZONE = "restated", "reloaded", "other_zone"
"""Rows of an export that was loaded again with other amounts, of a file with other options or columns, and of a file
with its times in another zone."""


Zones = Mapping[tuple[datetime, datetime], Collection[timedelta]]
"""By the arrivals of a load and of an earlier one: the distances of two zones by which their times differ."""

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


def other_columns(table: FromClause) -> list[Any]:
    """The columns of a row beside customer, metric, time, quantity and dimensions that a file may have or lack."""
    c = table.c
    return [c.product_id, c.subscription_id, c.price_key, c.external_cost_currency, c.wallet_currency]


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
    copies, loads = _reloaded(table, period, but)
    kept = (copies.c[column.name] for column in batch_columns(table))
    rows = select(*kept, literal(RELOADED).label("kind")).where(copies.c.ingested_at.in_(select(loads.c.ingested_at)))
    return batched(rows.cte("reloaded"))


def reloaded_loads(table: Table, period: Period, but: Collection[datetime] = ()) -> Select[Any]:
    """The arrivals of the loads of which `reloaded_rows` are half or more, as `ingested_at`."""
    return select(_reloaded(table, period, but)[1].c.ingested_at)


def _reloaded(table: Table, period: Period, but: Collection[datetime]) -> tuple[CTE, CTE]:
    """The rows that are like one of an earlier load, and the loads of which these are half or more."""
    c = table.c
    within = [*conditions(table, period), c.idempotency_key.like("row:%"), c.ingested_at.not_in(but)]
    covered = [c.timestamp, c.customer_id, c.metric_key, c.quantity]
    again = _of_several_loads(table, covered, within)
    others = other_columns(table)
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
    return copies, mostly


def zones(examination: Examination) -> Zones:
    """The loads of the period's organization whose rows without a key an earlier load has in another time zone."""
    around = surroundings(examination.period, MAX_DISTANCE)
    loads = {
        row.ingested_at: Loaded(row.first, row.last, row.rows)
        for row in examination.rows(_loads(examination.table, around))
    }
    apart: dict[tuple[datetime, datetime], dict[timedelta | None, Apart]] = defaultdict(dict)
    overlapping = list(_overlapping(loads))
    if overlapping:
        pairs = _pairs(examination.table, around, overlapping)
        distance = case((_is_of_zones(pairs.c.apart), pairs.c.apart)).label("distance")
        counted = select(pairs.c.load, pairs.c.earlier, distance, func.count(), func.count().filter(pairs.c.telling))
        for load, earlier, between, *counts in examination.rows(
            counted.group_by(pairs.c.load, pairs.c.earlier, distance)
        ):
            apart[load, earlier][between] = Apart(*counts)
    found = {pair: zone_distances(counts, loads[pair[0]], loads[pair[1]]) for pair, counts in apart.items()}
    return {pair: distances for pair, distances in found.items() if distances}


def other_zone_rows(table: Table, period: Period, found: Zones) -> Select[Any]:
    """The rows of a resolved period that an earlier load has in another time zone, see `batched`."""
    pairs = _pairs(table, surroundings(period, MAX_DISTANCE), found)
    p, c = pairs.c, table.c
    same = (
        and_(p.load == load, p.earlier == earlier, p.apart.in_(distances))
        for (load, earlier), distances in found.items()
    )
    copies = select(p.timestamp, p.id).where(or_(*same)).distinct().subquery()
    rows = (
        select(*batch_columns(table), literal(OTHER_ZONE).label("kind"))
        .join(copies, and_(c.timestamp == copies.c.timestamp, c.id == copies.c.id))
        .where(*conditions(table, period))
        .cte(OTHER_ZONE)
    )
    return batched(rows)


def _loads(table: Table, period: Period) -> Select[Any]:
    """The loads of rows without a key by their first row: arrival, time of the first and the last row, rows."""
    c = table.c
    first, rows = func.min(c.timestamp).label("first"), func.count().label("rows")
    return (
        select(c.ingested_at, first, func.max(c.timestamp).label("last"), rows)
        .where(*conditions(table, period), c.idempotency_key.like("row:%"))
        .group_by(c.ingested_at)
        .having(rows >= MIN_ROWS)
        .order_by(first, c.ingested_at)
    )


def _overlapping(loads: Mapping[datetime, Loaded]) -> Iterator[tuple[datetime, datetime]]:
    """The pairs of loads, the later arrival first, that `Loaded.overlaps`; `loads` are in the order of first rows."""
    ordered = list(loads.items())
    for place, (load, loaded) in enumerate(ordered):
        for other, beside in islice(ordered, place + 1, None):
            if beside.first >= loaded.last:
                break
            if loaded.overlaps(beside):
                yield max(load, other), min(load, other)


def _pairs(table: Table, period: Period, loads: Collection[tuple[datetime, datetime]]) -> CTE:
    """The rows without a key that two of these loads have at the same place: `id` and `timestamp` in the later one.

    A place is the number of a row in its load, of those with its customer, metric, quantity and dimensions, which are
    compared by a hash of 64 bits. `apart` is the distance in time, `telling` as `Apart` has it.
    """
    c = table.c
    within = [
        *conditions(table, period),
        c.idempotency_key.like("row:%"),
        c.ingested_at.in_({load for pair in loads for load in pair}),
    ]
    series = [c.customer_id, c.metric_key, c.ingested_at]
    telling = select(*series).where(*within).group_by(*series).having(func.min(c.quantity) < func.max(c.quantity))
    content = tuple_(c.customer_id, c.metric_key, func.trim_scale(c.quantity), c.dimensions)
    read = (
        select(
            *(c[name] for name in ("id", "timestamp", "ingested_at")),
            func.hashtextextended(cast(content, Text), 0).label("content"),
            or_(extract("second", c.timestamp) != 0, tuple_(*series).in_(telling)).label("telling"),
        )
        .where(*within)
        .cte("read")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    r = read.c
    place = func.row_number().over(partition_by=[r.content, r.ingested_at], order_by=[r.timestamp, r.id])
    several = select(r.content).group_by(r.content).having(func.min(r.ingested_at) < func.max(r.ingested_at))
    placed = select(read, place.label("place")).where(r.content.in_(several)).cte("placed")
    later, earlier = placed.alias("later"), placed.alias("earlier")
    return (
        select(
            *(later.c[name] for name in ("id", "timestamp", "telling")),
            later.c.ingested_at.label("load"),
            earlier.c.ingested_at.label("earlier"),
            (later.c.timestamp - earlier.c.timestamp).label("apart"),
        )
        .join(earlier, and_(later.c.content == earlier.c.content, later.c.place == earlier.c.place))
        .where(tuple_(later.c.ingested_at, earlier.c.ingested_at).in_(list(loads)))
        .cte("pairs")
    )


def _is_of_zones(apart: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether two zones may differ by a distance in time."""
    on_grid = func.mod(extract("epoch", apart), ZONE_GRID_SECONDS) == 0
    return and_(apart.between(literal(-MAX_DISTANCE), literal(MAX_DISTANCE)), on_grid)


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
