"""Days of a customer's metric with more zero, negative, NaN or infinite quantities than are usual, as a statement."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Double,
    Numeric,
    Select,
    Table,
    and_,
    case,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    union_all,
)

from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.checks.zero_hours import HISTORY, MIN_HISTORY_EVENTS, chance_bound
from usage_explore.validation.periods import INSTANT, day_edges, day_number, preceding

BOUNDS = CheckBounds("quantities")

# fmt: off
MIN_OTHER_EVENTS = BOUNDS.add("min_other_events", 1_000, "events", 1, 100000000,
    "Events of other customers, at least, that say that a kind does not occur if none of them is of it.")

SURELY_NEGATIVE_SHARE = BOUNDS.add("surely_negative_share", Decimal("0.5"), "share", 0, 1,
    "A day's negative quantity, as a share of the customer's positive quantity of the metric in the period, from which "
    "it is unusual whatever other customers have, if it is also `SURELY_NEGATIVE_RATIO`.")

FIRST_NEGATIVE_SHARE = BOUNDS.add("first_negative_share", Decimal("0.05"), "share", 0, 1,
    "The same where none of these customers had a negative quantity of the metric in the weeks before.")

SURELY_NEGATIVE_WHOLE = BOUNDS.add("surely_negative_whole", Decimal("0.5"), "share", 0, 1,
    "The same of all days together; those are unusual whose events are `SURELY_NEGATIVE_RATIO` times as large as the "
    "customer's negative ones before, on average.")

SURELY_NEGATIVE_RATIO = BOUNDS.add("surely_negative_ratio", 3, "factor", 1, 1000000,
    "Such a negative quantity as a multiple of what the customer had in the weeks before in as long a time, at least.")
# fmt: on

_MIN_PERIOD_SHARE = Decimal("0.5")  # of the history: a period of a day may have the credit of a month

ZERO, NEGATIVE, UNCOUNTABLE = "zero", "negative", "uncountable"


def kinds(table: Table) -> dict[str, ColumnElement[bool]]:
    """What makes a quantity of each kind, the first that holds."""
    quantity = table.c.quantity
    odd = quantity.in_([literal(Decimal(special), Numeric) for special in ("NaN", "Infinity", "-Infinity")])
    return {
        UNCOUNTABLE: odd,
        NEGATIVE: and_(quantity < 0, ~odd),
        ZERO: quantity == 0,
    }


def statement(table: Table, period: Period) -> Select[Any]:
    """The unusual days of a resolved period.

    Columns: `kind`, `customer_id`, `metric_key`, `day` integer (of `day_edges`), `events` bigint and `quantity` numeric
    of that kind, `expected` double precision. Ordered by kind, customer, metric and day.
    """
    c = table.c
    day = day_number(c.timestamp, day_edges(period)).label("day")
    measured = [
        column
        for kind, holds in kinds(table).items()
        for column in (
            func.count().filter(holds).label(kind),
            func.coalesce(func.sum(c.quantity).filter(holds), 0).label(f"{kind}_quantity"),
        )
    ]
    positive = func.coalesce(func.sum(c.quantity).filter(and_(c.quantity > 0, ~kinds(table)[UNCOUNTABLE])), 0)
    cells = (
        select(c.customer_id, c.metric_key, day, func.count().label("events"), positive.label("positive"), *measured)
        .where(*conditions(table, period))
        .group_by(c.customer_id, c.metric_key, day)
        .cte("cells")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    is_of_a_kind = or_(*(cells.c[kind] > 0 for kind in kinds(table)))
    suspects = select(cells.c.customer_id).where(is_of_a_kind)
    before = preceding(period, HISTORY())
    history = (
        select(
            c.customer_id,
            c.metric_key,
            func.count().label("events"),
            *(func.count().filter(holds).label(kind) for kind, holds in kinds(table).items()),
            func.coalesce(func.sum(c.quantity).filter(kinds(table)[NEGATIVE]), 0).label("taken_off"),
            *(
                func.sum(func.count().filter(holds))
                .over(partition_by=c.metric_key)
                .cast(Double)
                .label(f"metric_{kind}")
                for kind, holds in kinds(table).items()
            ),
        )
        .where(*(conditions(table, before) if before else [false()]), c.customer_id.in_(suspects))
        .group_by(c.customer_id, c.metric_key)
        .cte("history")
    )
    # of all customers: among those alone that have some now, the usual zeros of one would hide another's new ones
    everyone = (
        select(
            c.metric_key,
            func.count().cast(Double).label("events"),
            *(func.count().filter(holds).cast(Double).label(kind) for kind, holds in kinds(table).items()),
        )
        .where(*(conditions(table, before) if before else [false()]))
        .where(c.metric_key.in_(select(cells.c.metric_key).where(is_of_a_kind)))
        .group_by(c.metric_key)
        .cte("everyone")
    )
    since, until = period.span
    share = max(_MIN_PERIOD_SHARE, Decimal((until - since) // INSTANT) / (HISTORY() // INSTANT))
    query = union_all(*(_unusual(cells, history, everyone, kind, share) for kind in kinds(table))).subquery("found")
    f = query.c
    return select(query).order_by(f.kind, f.customer_id, f.metric_key, f.day)


def _unusual(cells: CTE, history: CTE, everyone: CTE, kind: str, share: Decimal) -> Select[Any]:
    """`share` is the length of the period as a part of that of the history."""
    c = cells.c
    metric, own = [c.metric_key], [c.metric_key, c.customer_id]
    known = select(
        c.customer_id,
        c.metric_key,
        c.day,
        c.events.label("all_events"),
        c[kind].label("events"),
        c[f"{kind}_quantity"].label("quantity"),
        (func.sum(c.events).over(partition_by=own) - c.events).cast(Double).label("own_events"),
        (func.sum(c[kind]).over(partition_by=own) - c[kind]).cast(Double).label("own"),
        (func.sum(c.events).over(partition_by=metric) - func.sum(c.events).over(partition_by=own))
        .cast(Double)
        .label("other_events"),
        (func.sum(c[kind]).over(partition_by=metric) - func.sum(c[kind]).over(partition_by=own))
        .cast(Double)
        .label("others"),
        func.sum(c.events).over(partition_by=own).cast(Double).label("whole_events"),
        func.sum(c.positive).over(partition_by=own).label("whole_positive"),
        func.sum(c[kind]).over(partition_by=own).cast(Double).label("whole"),
        func.sum(c[f"{kind}_quantity"]).over(partition_by=own).label("whole_quantity"),
    ).subquery(f"known_{kind}")
    k, h = known.c, history.c
    other_rate = func.coalesce(k.others / func.nullif(k.other_events, 0), 0.0)
    rate = func.greatest(func.coalesce(k.own / func.nullif(k.own_events, 0), 0.0), other_rate)
    # credits as in the customer's weeks before, in number and size, are usual for it
    own_rate_before = (h[kind].cast(Double) + 1) / (h.events + 2)
    most_before = -func.coalesce(h.taken_off, 0) * literal(SURELY_NEGATIVE_RATIO() * share, Numeric)
    is_as_before = and_(
        literal(kind == NEGATIVE),
        func.coalesce(h[kind], 0) > 0,
        k.whole <= chance_bound(k.whole_events * own_rate_before),
        -k.whole_quantity <= most_before,
    )
    usual_before = k.all_events * own_rate_before
    # as few zeros as before are usual for the customer, though others have none; as many on a single day are not
    is_as_few = and_(literal(kind == ZERO), func.coalesce(h[kind], 0) > 0, k.whole <= k.whole_events * own_rate_before)
    is_own = or_(is_as_before, is_as_few)
    nowhere = or_(literal(kind == UNCOUNTABLE), and_(k.others == 0, k.other_events >= MIN_OTHER_EVENTS(), not_(is_own)))
    expected = case((nowhere, 0.0), else_=k.all_events * rate).cast(Double)
    is_more = k.events > case((expected == 0, 0.0), else_=chance_bound(expected))
    is_unusual_day = and_(is_more, not_(and_(expected == 0, is_as_before)))
    # of others too before the period: a fault of all customers is not taken for usual
    other_rate_before = (everyone.c[kind] - h[kind]) / func.nullif(everyone.c.events - h.events, 0)
    before_rate = func.greatest(own_rate_before, func.coalesce(other_rate_before, 0.0))
    is_unusual_period = and_(h.events >= MIN_HISTORY_EVENTS(), k.whole > chance_bound(k.whole_events * before_rate))
    is_first = and_(h.events >= MIN_HISTORY_EVENTS(), h[f"metric_{kind}"] == 0)
    least_share = case(
        (is_first, literal(FIRST_NEGATIVE_SHARE(), Numeric)), else_=literal(SURELY_NEGATIVE_SHARE(), Numeric)
    )
    is_large = and_(
        literal(kind == NEGATIVE),
        k.whole_positive > 0,
        or_(
            and_(
                -k.quantity >= k.whole_positive * least_share,
                -k.quantity >= most_before,
            ),
            and_(
                -k.whole_quantity >= k.whole_positive * literal(SURELY_NEGATIVE_WHOLE(), Numeric),
                -k.whole_quantity >= most_before,
                -k.quantity * func.greatest(h[kind], 1) >= most_before * k.events,
            ),
        ),
    )
    return (
        select(
            literal(kind).label("kind"),
            k.customer_id,
            k.metric_key,
            k.day,
            k.events,
            k.quantity,
            case(
                (or_(is_unusual_day, is_large), func.greatest(expected, case((h[kind] > 0, usual_before), else_=0.0))),
                else_=k.all_events * before_rate,
            ).label("expected"),
        )
        .select_from(
            known.outerjoin(history, and_(h.customer_id == k.customer_id, h.metric_key == k.metric_key)).outerjoin(
                everyone, everyone.c.metric_key == k.metric_key
            ),
        )
        .where(k.events > 0, or_(is_unusual_day, is_unusual_period, is_large))
    )
