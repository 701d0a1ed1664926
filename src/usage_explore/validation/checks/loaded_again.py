"""The rows of files that were loaded again, of which one has no keys: a hash of the row, then the key, differs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CTE,
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    Numeric,
    Select,
    Table,
    Text,
    and_,
    case,
    cast,
    extract,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, JSONPATH

from usage_explore.load.loaded_again import (
    AMOUNT_NAMES,
    EXPORT_GRID_SECONDS,
    IS_CORRECTION,
    IS_NEAR,
    MIN_EVIDENCE,
    MIN_FINE,
    MIN_SHARE,
    MIN_SHARE_OF_EVIDENCE,
    PATTERNS,
    corrects,
    evidence,
    folded,
    is_most,
)
from usage_explore.load.other_zone import COLUMNS, MAX_DISTANCE, Copies, Pair, copied_loads, copies
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.batches import batch_columns, batched
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import at_times, surroundings

RESTATED, RELOADED, OTHER_ZONE, CUT = "restated", "reloaded", "other_zone", "cut"
"""Rows of an export that was loaded again with other amounts, of a file with other options or columns, of a file with
its times in another zone, and of one with its times cut to seconds or the like."""

_SERIES = "ingested_at, customer_id, metric_key"
_OF_COPIES = ("with_all", "with_texts", "is_common", "has_cost")

_ROW_HASH_PATTERN = r"^row:[0-9a-f]{32}(#[0-9]+)?$"
_NUMBER_PATTERN = r"^[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?$"
_DATE_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"


def exported(table: Table) -> ColumnElement[bool]:
    """Whether an event is a row of an export: its key a hash of the row, its time on the grid."""
    c = table.c
    is_hash = and_(c.idempotency_key.like("row:%"), c.idempotency_key.regexp_match(_ROW_HASH_PATTERN))
    return and_(is_hash, on_grid(c.timestamp))


def on_grid(timestamp: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Whether the time is on the grid of exports, each quarter of an hour."""
    return func.mod(extract("epoch", timestamp), EXPORT_GRID_SECONDS) == 0


def _is_evidence(table: Table) -> ColumnElement[bool]:
    """Whether a row is one that two sources hardly have alike.

    Its time is not on the grid of exports, and at most half of the load's rows of the customer's metric have its
    quantity.
    """
    c = table.c
    of_metric = [c.ingested_at, c.customer_id, c.metric_key]
    equal = func.count().over(partition_by=[*of_metric, c.quantity])
    return and_(not_(on_grid(c.timestamp)), 2 * equal <= func.count().over(partition_by=of_metric))


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
    rows of a later load as the first load has are restated; further ones are new. Corrections are not, nor what is in a
    load that `corrects` as a whole.
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
        *_signs(e.quantity, e.external_cost_amount, identified, e.ingested_at),
    ).cte("placed")
    m = placed.c
    is_later = m.ingested_at > m.first_load
    sized = select(
        placed,
        func.count()
        .filter(m.ingested_at == m.first_load)
        .over(partition_by=[*(m[column.name] for column in identity), m.named])
        .label("size"),
        is_later.label("is_later"),
        and_(is_later, literal_column(IS_CORRECTION, Boolean())).label("is_correction"),
        literal_column(IS_NEAR, Boolean()).label("is_near"),
    ).cte("sized")
    of_load = literal_column(corrects(" OVER (PARTITION BY ingested_at, is_later)"), Boolean())
    judged = select(sized, of_load.label("corrects")).cte("judged")
    s = judged.c
    is_restated = and_(s.is_later, s.of_content == 1, s.of_load <= s.size)
    restated = (
        select(*(s[column.name] for column in batch_columns(table)), literal(RESTATED).label("kind"))
        .where(is_restated, not_(or_(s.corrects, s.is_correction)))
        .cte("restated")
    )
    return batched(restated)


def _signs(quantity: Any, cost: Any, identified: Sequence[Any], load: ColumnElement[Any]) -> list[Any]:
    """The columns that `IS_CORRECTION` reads: of the rows of one load and identity, and of the earlier loads'.

    Of `low` and `high` it reads the signs alone.
    """
    of_load = [*identified, load]
    sums: list[Any] = []
    for name, before, each in (
        ("total", "before", func.coalesce(quantity, 0)),
        ("charged", "paid", func.coalesce(cost, 0)),
        ("", "low", func.least(func.sign(quantity), 0)),
        ("", "high", func.greatest(func.sign(quantity), 0)),
    ):
        own = func.sum(each).over(partition_by=of_load)
        sums += [own.label(name)] if name else []
        sums.append((func.sum(each).over(partition_by=identified, order_by=load) - own).label(before))
    return [
        *sums,
        func.coalesce(func.min(quantity).over(partition_by=of_load), 0).label("lowest"),
        func.coalesce(func.max(quantity).over(partition_by=of_load), 0).label("highest"),
    ]


def reloaded_rows(
    table: Table, period: Period, but: Collection[datetime] = (), times: Sequence[datetime] | None = None
) -> Select[Any]:
    """The rows of files that were loaded again with other options or columns, see `batched`; not what arrived at `but`.

    Rows whose customer, metric, time and quantity an earlier load has, too, with no other value of a dimension or
    column that both have, and one with all values of the other's dimensions, under any name, where neither has a key of
    its own; or one has, which is a dimension of the other, or their time is not on the grid of exports. Of loads of
    which they are at least half; or nine tenths, each whatever its dimensions of other names, where a third have no
    time on the grid of exports and no usual quantity. Or, whatever their keys, times and values, of pairs of loads of
    which they are most of the rows that one of the two has in the later one's time, see `is_most`. Rows without keys
    that are equal in all but amounts are restated or look alike, unless the amounts are equal, too, and `folded`; rows
    with keys that have equal dimensions look alike. `times` are those of events with equal columns.
    """
    copies, repeated = _reloaded(table, period, but, times)
    k, r = copies.c, repeated.c
    is_of = or_(
        r.rows == "every",
        and_(r.rows == "is_common", k.is_common),
        and_(r.rows == "with_texts", k.with_texts),
        k.with_all,
    )
    of_loads = and_(r.ingested_at == k.ingested_at, r.earlier == k.earlier, is_of)
    kept = (k[column.name] for column in batch_columns(table))
    rows = select(*kept, literal(RELOADED).label("kind")).join(repeated, of_loads).cte("reloaded")
    loads = select(func.array_agg(r.ingested_at.distinct())).scalar_subquery()
    return batched(rows).add_columns(loads.label("loads"))


def _reloaded(
    table: Table, period: Period, but: Collection[datetime], times: Sequence[datetime] | None
) -> tuple[CTE, CTE]:
    """The rows that are like one of an earlier load, and the pairs of loads of which the later repeats the earlier one.

    Both have `ingested_at` and `earlier`, the arrival of the earlier load; of those that have few of the rows, and
    are taken together, `ingested_at` again.
    """
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
            _labels(table).label("labels"),
            c.external_cost_amount.label("cost"),
            c.dimensions,
            c.idempotency_key.label("key"),
            c.idempotency_key.like("row:%").label("without_key"),
            func.row_number().over(**of_load).label("place"),
            _is_evidence(table).label("evidence"),
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
        func.first_value(e.labels, type_=JSONB).over(**by_load).label("first_labels"),
        func.first_value(e.cost).over(**by_load).label("first_cost"),
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
    is_written_otherwise = and_(
        not_(on_grid(m.timestamp)),
        m.dimensions != m.first_dimensions,
        folded(m.dimensions) == folded(m.first_dimensions),
    )
    is_without_key = or_(m.without_key, m.first_without_key)
    has_texts = m.comparable.concat(m.first_comparable) == m.first_comparable.concat(m.comparable)
    has_labels = m.labels.concat(m.first_labels) == m.first_labels.concat(m.labels)
    is_common = and_(has_texts, is_without_key)
    with_texts = and_(has_texts, or_(m.first_unnamed.contains(m.unnamed), m.unnamed.contains(m.first_unnamed)))
    # at times that a live source has, too, keys apart: no sign of a repeated load but by most of the earlier one's rows
    is_weak = or_(and_(is_one_keyed, not_(has_key), on_grid(m.timestamp)), not_(is_common))
    repeated = (
        select(placed, with_texts.label("with_texts"), is_common.label("is_common"), is_weak.label("is_weak"))
        .add_columns(and_(with_texts, has_labels, is_without_key).label("with_all"))
        .add_columns(func.coalesce(m.cost == m.first_cost, false()).label("has_cost"))
        .where(
            m.ingested_at > m.first_load,
            or_(
                and_(m.without_key, or_(m.content != m.first_content, is_written_otherwise)),
                and_(is_one_keyed, or_(not_(is_weak), m.content != m.first_content)),
                and_(not_(is_without_key), m.dimensions != m.first_dimensions),
            ),
        )
        .cte("again")
    )
    a = repeated.c
    pair = (a.ingested_at, a.first_load)
    large = select(*pair).group_by(*pair).having(func.count() >= MIN_EVIDENCE).cte("large")
    of_large = and_(large.c.ingested_at == a.ingested_at, large.c.first_load == a.first_load)
    earlier = func.coalesce(large.c.first_load, a.ingested_at).label("earlier")
    copies = select(repeated, earlier).select_from(repeated.outerjoin(large, of_large)).cte("copies")
    mostly = _mostly(table, copies, every)
    k = copies.c
    pairs = (
        select(k.ingested_at, k.earlier, case((mostly.c.is_whole, "is_common"), else_="with_all").label("rows"))
        .join(mostly, mostly.c.ingested_at == k.ingested_at)
        .distinct()
        .union_all(select(_of_common_time(table, copies, large, mostly, every)))
        .cte("repeated")
        .prefix_with("MATERIALIZED", dialect="postgresql")  # else it is made again for each row
    )
    return copies, pairs


def _mostly(table: Table, copies: CTE, every: Sequence[ColumnElement[bool]]) -> CTE:
    """The loads of which the copies are half or more; those of a load that `is_whole` lack values of dimensions."""
    c, k = table.c, copies.c
    loads = (
        select(c.ingested_at, func.count().label("events"))
        .where(*every, c.ingested_at.in_(select(k.ingested_at).where(not_(k.is_weak))))
        .group_by(c.ingested_at)
        .cte("loads")
    )
    events, evidence = loads.c.events, func.count().filter(k.evidence)
    is_sure = and_(evidence >= MIN_EVIDENCE, evidence >= MIN_SHARE_OF_EVIDENCE * func.count())
    is_whole = and_(is_sure, func.count() >= MIN_SHARE * events)
    return (
        select(k.ingested_at, is_whole.label("is_whole"))
        .join(loads, loads.c.ingested_at == k.ingested_at)
        .where(not_(k.is_weak))
        .group_by(k.ingested_at, events)
        .having(or_(2 * func.count().filter(k.with_all) >= events, is_whole))
        .cte("mostly")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


def _of_common_time(table: Table, copies: CTE, large: CTE, mostly: CTE, every: Sequence[ColumnElement[bool]]) -> CTE:
    """The pairs of loads of which the later, not `mostly` copies, has most rows of the earlier one in its own time.

    Of the customers' metrics that the later one has: it may have a part of the customers.
    """
    c, k = table.c, copies.c
    series = [k.ingested_at, k.customer_id, k.metric_key]
    after = k.timestamp - func.lag(k.timestamp).over(partition_by=series, order_by=k.timestamp)
    enough = select(k.ingested_at).group_by(k.ingested_at).having(func.count() >= MIN_FINE)
    spaced = (
        select(*series, k.earlier, k.timestamp, k.quantity, *(k[name] for name in _OF_COPIES), after.label("after"))
        .where(k.ingested_at.in_(enough), k.ingested_at.not_in(select(mostly.c.ingested_at)))
        .cte("spaced")
    )
    e = spaced.c
    kept = (e[name] for name in ("ingested_at", "earlier", "metric_key", "quantity", *_OF_COPIES))
    judged = select(*kept, literal_column(evidence(_SERIES))).cte("judged")
    of_load = [c.ingested_at, c.customer_id, c.metric_key]
    metrics = (
        select(*of_load, func.min(c.timestamp).label("first"), func.max(c.timestamp).label("last"))
        .add_columns(func.count().label("rows"))
        .where(*every, c.ingested_at.in_(select(judged.c.ingested_at)))
        .group_by(*of_load)
        .cte("metrics")
    )
    m = metrics.c
    spans = (
        select(m.ingested_at, func.min(m.first).label("first"), func.max(m.last).label("last"))
        .add_columns(func.sum(m.rows).label("rows"))
        .group_by(m.ingested_at)
        .cte("spans")
    )
    s = spans.c
    of_large = and_(large.c.ingested_at == s.ingested_at, large.c.first_load == c.ingested_at)
    earlier = func.coalesce(large.c.first_load, s.ingested_at)
    there = (
        select(s.ingested_at, earlier.label("earlier"), func.least(func.count(), s.rows).label("events"))
        .select_from(
            table.join(metrics, and_(m.customer_id == c.customer_id, m.metric_key == c.metric_key))
            .join(spans, s.ingested_at == m.ingested_at)
            .outerjoin(large, of_large)
        )
        .where(*every, c.timestamp.between(s.first, s.last), c.ingested_at < s.ingested_at)
        .group_by(s.ingested_at, s.rows, earlier)
        .cte("there")
    )
    j, t = judged.c, there.c
    with_all, with_texts, of_all = (
        literal_column(is_most(of, events="events"), Boolean()) for of in ("with_all", "with_texts", "every")
    )
    return (
        select(j.ingested_at, j.earlier)
        .add_columns(case((of_all, "every"), (with_texts, "with_texts"), else_="with_all").label("rows"))
        .join(there, and_(t.ingested_at == j.ingested_at, t.earlier == j.earlier))
        .group_by(j.ingested_at, j.earlier, t.events)
        .having(or_(with_all, with_texts, of_all))
        .cte("of_common_time")
    )


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
    """The dimensions that are neither numbers nor dates, in lower case, values without spaces around them.

    Also these values alone, in their order.
    """
    pair = func.jsonb_each_text(table.c.dimensions).table_valued("key", "value").render_derived(name="each")
    value = func.lower(func.btrim(pair.c.value.cast(Text)))
    is_compared = not_(or_(value.regexp_match(_NUMBER_PATTERN), value.regexp_match(_DATE_PATTERN)))
    kept = select(func.jsonb_object_agg(func.lower(pair.c.key), value, type_=JSONB)).where(is_compared)
    named = func.coalesce(kept.scalar_subquery(), literal({}, JSONB), type_=JSONB)
    values = select(value).where(is_compared).order_by(value)
    return named, func.array(values.scalar_subquery(), type_=ARRAY(Text))


def _labels(table: Table) -> ColumnElement[Any]:
    """The documented columns of a row, and its dimensions that are dates, or numbers not named like amounts.

    They are a JSON object; the SQL of `load` has the same under the name `labels`.
    """
    pair = func.jsonb_each_text(table.c.dimensions).table_valued("key", "value").render_derived(name="each")
    value, number = pair.c.value.cast(Text), cast(literal(PATTERNS["number"]), Text)
    is_label = or_(
        and_(value.regexp_match(_NUMBER_PATTERN), not_(pair.c.key.cast(Text).regexp_match(AMOUNT_NAMES, flags="i"))),
        value.regexp_match(_DATE_PATTERN),
    )
    folded_value = case(
        (value.regexp_match(number), cast(func.trim_scale(cast(value, Numeric)), Text)),
        else_=func.rtrim(func.replace(value, "T", " "), "Z"),
    )
    named = select(func.jsonb_object_agg(func.lower(pair.c.key), folded_value, type_=JSONB)).where(is_label)
    columns = (each for column in other_columns(table) for each in (f"{column.name} ", func.upper(cast(column, Text))))
    of_columns = func.jsonb_strip_nulls(func.jsonb_build_object(*columns), type_=JSONB)
    return func.coalesce(named.scalar_subquery(), literal({}, JSONB), type_=JSONB).concat(of_columns)


def _without_amounts(table: Table) -> ColumnElement[Any]:
    """The dimensions of an event that are no amounts; NULL where none is left."""
    pair = func.jsonb_each_text(table.c.dimensions).table_valued("key", "value").render_derived(name="each")
    amount = and_(
        pair.c.value.cast(Text).regexp_match(_NUMBER_PATTERN),
        pair.c.key.cast(Text).regexp_match(AMOUNT_NAMES, flags="i"),
    )
    kept = select(func.jsonb_object_agg(pair.c.key, pair.c.value, type_=JSONB)).where(
        or_(pair.c.value.is_(None), not_(amount))
    )
    return kept.scalar_subquery()
