"""The rows of files that were loaded again, of which one has no keys: a hash of the row, then the key, differs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
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
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, JSONPATH

from usage_explore.load.other_zone import COLUMNS, MAX_DISTANCE, Copies, Pair, copied_loads, copies
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.batches import batch_columns, batched
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import at_times, surroundings

RESTATED, RELOADED, OTHER_ZONE, CUT = "restated", "reloaded", "other_zone", "cut"
"""Rows of an export that was loaded again with other amounts, of a file with other options or columns, of a file with
its times in another zone, and of one with its times cut to seconds or the like."""

EXPORT_GRID_SECONDS = 900
"""Seconds; exports report usage by the quarter of an hour or longer, so other times are of no export."""

_ROW_HASH_PATTERN = r"^row:[0-9a-f]{32}(#[0-9]+)?$"
_NUMBER_PATTERN = r"^[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?$"
_DATE_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_AMOUNT_NAMES = "cost|price|quantity|amount|rate|fee|charge|tax|discount|usage|total"


def exported(table: Table) -> ColumnElement[bool]:
    """Whether an event is a row of an export: its key a hash of the row, its time on the grid."""
    c = table.c
    is_hash = and_(c.idempotency_key.like("row:%"), c.idempotency_key.regexp_match(_ROW_HASH_PATTERN))
    return and_(is_hash, _on_grid(c.timestamp))


def _on_grid(timestamp: ColumnElement[datetime]) -> ColumnElement[bool]:
    return func.mod(extract("epoch", timestamp), EXPORT_GRID_SECONDS) == 0


def other_columns(table: FromClause) -> list[Any]:
    """The columns of a row beside customer, metric, time, quantity and dimensions that a file may have or lack."""
    c = table.c
    return [c.product_id, c.subscription_id, c.price_key, c.external_cost_currency, c.wallet_currency]


def row_hash_times(table: Table, period: Period) -> Select[Any]:
    """The times of all events that may be rows of an export, by their keys."""
    c = table.c
    return select(c.timestamp).where(*conditions(table, period), c.idempotency_key.like("row:%")).distinct()


def _of_several_loads(table: Table, covered: Sequence[Column[Any]], within: Sequence[ColumnElement[bool]]) -> CTE:
    """What rows of different arrival times, one of them without a key, have in common, of the covered columns."""
    arrived = table.c.ingested_at
    has_hash = func.bool_or(table.c.idempotency_key.like("row:%"))
    common = select(*covered).where(*within).group_by(*covered).having(func.min(arrived) < func.max(arrived), has_hash)
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


def reloaded_rows(
    table: Table, period: Period, but: Collection[datetime] = (), times: Sequence[datetime] | None = None
) -> Select[Any]:
    """The rows of files that were loaded again with other options or columns, see `batched`; not what arrived at `but`.

    Rows whose customer, metric, time and quantity an earlier load has, too, with no other value of a dimension that
    both have, and one with all values of the other's dimensions, under any name, where neither has a key of its own; or
    one has, which is a dimension of the other, or their time is not on the grid of exports. Of loads of which they are
    at least half. Rows without keys that are equal in all but amounts are restated or look alike. `times` are those of
    `row_hash_times`.
    """
    copies, loads = _reloaded(table, period, but, times)
    kept = (copies.c[column.name] for column in batch_columns(table))
    rows = select(*kept, literal(RELOADED).label("kind")).where(copies.c.ingested_at.in_(select(loads.c.ingested_at)))
    return batched(rows.cte("reloaded"))


def reloaded_loads(
    table: Table, period: Period, but: Collection[datetime] = (), times: Sequence[datetime] | None = None
) -> Select[Any]:
    """The arrivals of the loads of which `reloaded_rows` are half or more, as `ingested_at`."""
    return select(_reloaded(table, period, but, times)[1].c.ingested_at)


def _reloaded(
    table: Table, period: Period, but: Collection[datetime], times: Sequence[datetime] | None
) -> tuple[CTE, CTE]:
    """The rows that are like one of an earlier load, and the loads of which these are half or more."""
    c = table.c
    every = [*conditions(table, period), c.ingested_at.not_in(but)]
    within = [*every, *at_times(c.timestamp, times)]
    covered = [c.timestamp, c.customer_id, c.metric_key, c.quantity]
    again = _of_several_loads(table, covered, within)
    others = other_columns(table)
    comparable, unnamed = _comparable(table)
    of_load: dict[str, Any] = {"partition_by": [*covered, c.ingested_at], "order_by": [unnamed, c.id]}
    each = (
        select(
            *batch_columns(table),
            tuple_(*others, _without_amounts(table)).cast(Text).label("content"),
            comparable.label("comparable"),
            unnamed.label("unnamed"),
            c.dimensions,
            c.idempotency_key.label("key"),
            c.idempotency_key.like("row:%").label("without_key"),
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
        func.first_value(e.unnamed, type_=ARRAY(Text)).over(**by_load).label("first_unnamed"),
        func.first_value(e.without_key).over(**by_load).label("first_without_key"),
        func.first_value(e.key).over(**by_load).label("first_key"),
        func.first_value(e.dimensions, type_=JSONB).over(**by_load).label("first_dimensions"),
    ).cte("placed")
    m = placed.c
    is_one_keyed = m.without_key != m.first_without_key
    keys = case((m.without_key, m.first_key), else_=m.key)
    beside = case((m.without_key, m.dimensions), else_=m.first_dimensions)
    has_key = func.jsonb_path_exists(beside, cast("$.* ? (@ == $key)", JSONPATH), func.jsonb_build_object("key", keys))
    copies = (
        select(placed)
        .where(
            m.ingested_at > m.first_load,
            or_(and_(m.without_key, m.content != m.first_content), is_one_keyed),
            or_(not_(is_one_keyed), has_key, not_(_on_grid(m.timestamp))),
            m.comparable.concat(m.first_comparable) == m.first_comparable.concat(m.comparable),
            or_(m.first_unnamed.contains(m.unnamed), m.unnamed.contains(m.first_unnamed)),
        )
        .cte("copies")
    )
    k = copies.c
    loads = (
        select(c.ingested_at, func.count().label("events"))
        .where(*every, c.ingested_at.in_(select(k.ingested_at)))
        .group_by(c.ingested_at)
        .cte("loads")
    )
    mostly = (
        select(k.ingested_at)
        .join(loads, loads.c.ingested_at == k.ingested_at)
        .group_by(k.ingested_at, loads.c.events)
        .having(2 * func.count() >= loads.c.events)
        .cte("mostly")
        .prefix_with("MATERIALIZED", dialect="postgresql")  # else it is made again for each row
    )
    return copies, mostly


def copied(examination: Examination) -> Mapping[Pair, Copies]:
    """The loads of the period's organization whose rows an earlier load has at other times; one has no keys."""
    # of common table expressions few rows are expected: the rows of two loads would be compared one by one
    examination.connection.execute(text("SET LOCAL enable_nestloop = off"))
    found = copied_loads(_around(examination.table, examination.period), examination.rows)
    examination.connection.execute(text("SET LOCAL enable_nestloop TO DEFAULT"))
    return found


def copied_rows(table: Table, period: Period, found: Mapping[Pair, Copies]) -> Select[Any]:
    """The rows of a resolved period that an earlier load has in another time zone, or with times cut, see `batched`."""
    e = copies(_around(table, period), found).subquery().c
    kind = case((func.bool_or(e.in_zones), OTHER_ZONE), else_=CUT).label("kind")
    copied = select(e.timestamp, e.id, kind).group_by(e.timestamp, e.id).subquery()
    c, k = table.c, copied.c
    rows = (
        select(*batch_columns(table), k.kind)
        .join(copied, and_(c.timestamp == k.timestamp, c.id == k.id))
        .where(*conditions(table, period))
        .cte("copied")
    )
    return batched(rows)


def _around(table: Table, period: Period) -> FromClause:
    """The rows in the period and around it, as `copied_loads` compares them."""
    around = surroundings(period, MAX_DISTANCE)
    return select(*(table.c[name] for name in COLUMNS)).where(*conditions(table, around)).subquery("around")


def _comparable(table: Table) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The dimensions that are neither numbers nor dates, keys in lower case, values without spaces around them.

    Also these values alone, in their order.
    """
    pair = func.jsonb_each_text(table.c.dimensions).table_valued("key", "value").render_derived(name="each")
    value = func.btrim(pair.c.value.cast(Text))
    is_compared = not_(or_(value.regexp_match(_NUMBER_PATTERN), value.regexp_match(_DATE_PATTERN)))
    kept = select(func.jsonb_object_agg(func.lower(pair.c.key), value, type_=JSONB)).where(is_compared)
    named = func.coalesce(kept.scalar_subquery(), literal({}, JSONB), type_=JSONB)
    values = select(value).where(is_compared).order_by(value)
    return named, func.array(values.scalar_subquery(), type_=ARRAY(Text))


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
