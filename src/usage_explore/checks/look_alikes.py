"""Check: the same event under another key: same customer, metric, time, quantity and dimensions.

Of the events that look alike the first to arrive counts; each further one with a key of its own may be a copy. (One
with the same key is a duplicate, which is another check.) Busy senders of small equal quantities have some by chance.
Events are compared by their columns first, which an index covers, and by their dimensions where those agree.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import CTE, Select, Table, and_, func, literal, select

from usage_explore.checks.affected import Affected, shown_by
from usage_explore.checks.batches import GAP, Telling, batched, few, outcome
from usage_explore.checks.check import Check, Examination, Outcome
from usage_explore.checks.finding import Severity
from usage_explore.checks.own_usage import part
from usage_explore.checks.phrases import counted, duration, percent
from usage_explore.query import Period
from usage_explore.statements import conditions, count

MASSIVE = 100
"""Look-alikes in one batch from which they may be high."""

SENT_AGAIN = Decimal("0.25")
"""The part of what the customer sent meanwhile from which they are high: of a batch sent again they are half."""

NAME = "look_alikes"


def statement(table: Table, period: Period) -> Select[Any]:
    """The look-alikes of a resolved period, see `batched`."""
    return batched(_alike(table, period))


def _alike(table: Table, period: Period) -> CTE:
    c = table.c
    within = and_(*conditions(table, period))
    covered = [c.timestamp, c.customer_id, c.metric_key, c.quantity]
    repeated = (
        select(*covered)
        .where(*conditions(table, period.replace(as_of=None)))  # the index has no ingested_at; `within` decides
        .group_by(*covered)
        .having(func.count() > 1)
        .cte("repeated")
        .prefix_with("MATERIALIZED", dialect="postgresql")  # else each worker of the join makes it again
    )
    content = [*covered, c.dimensions]
    r = repeated.c
    by_key: dict[str, Any] = {"partition_by": [*content, c.idempotency_key], "order_by": [c.ingested_at, c.id]}
    each = (
        select(*content, c.id, c.ingested_at, c.external_cost_amount, c.external_cost_currency)
        .add_columns(func.row_number().over(**by_key).label("of_key"))
        .join_from(
            table,
            repeated,
            and_(
                c.timestamp == r.timestamp,
                c.customer_id == r.customer_id,
                c.metric_key == r.metric_key,
                c.quantity == r.quantity,
            ),
        )
        .where(within)
        .cte("each")
    )
    e = each.c
    arrival = func.row_number().over(
        partition_by=[e.timestamp, e.customer_id, e.metric_key, e.quantity, e.dimensions],
        order_by=[e.ingested_at, e.id],
    )
    arrived = select(each, arrival.label("arrival")).where(e.of_key == 1).cte("arrived")
    kept = [column for column in arrived.c if column.name not in ("id", "dimensions", "of_key", "arrival")]
    return select(*kept, literal(NAME).label("kind")).where(arrived.c.arrival > 1).cte("alike")


def examine(examination: Examination) -> Outcome:
    """The batches of look-alikes by customer."""

    def severity(batch: Affected, own: Decimal) -> Severity:
        if batch.events < MASSIVE:
            return "medium"
        question = shown_by(
            examination,
            batch.metrics,
            customer_id=batch.customer_id,
            occurred_after=batch.since,
            occurred_before=batch.until,
        )
        around = examination.connection.execute(count(examination.table, question)).scalar_one()
        return "high" if part(batch.events, around) >= SENT_AGAIN else "medium"

    def sentence(batch: Affected, own: Decimal, when: str) -> str:
        return (
            f"{counted(batch.events, 'event')} of customer {batch.customer_id}, {batch.metric_words}, {when}: each is"
            " like an earlier arrival in time, quantity and dimensions, under another idempotency key; up to"
            f" {percent(own)} of the customer's usage of a metric."
        )

    def stray_sentence(stray: Affected, when: str) -> str:
        return (
            f"{counted(stray.events, 'event')} of {stray.metric_words}, {when}, {stray.scattered}: each is like an"
            " earlier arrival under another idempotency key, as may happen by chance."
        )

    telling = Telling(check=NAME, severity=severity, sentence=sentence, stray_sentence=stray_sentence, own=SENT_AGAIN)
    rows = examination.rows(statement(examination.table, examination.period))
    return outcome(examination, rows, telling, examination.totals.events)


CHECK = Check(
    name=NAME,
    title="Look-alike events",
    means="Events sent again under new idempotency keys are billed again, and nothing but their content tells.",
    parameters={
        "alike": "customer, metric, quantity, dimensions and time to the microsecond; the first to arrive counts",
        "batch": f"events of one customer less than {duration(GAP)} apart are one batch; {few(SENT_AGAIN)}",
        "high": f"a batch of {MASSIVE} or more that makes {percent(SENT_AGAIN)} or more of what the customer sent"
        " meanwhile of its metrics",
    },
    unit="events",
    statement=statement,
    examine=examine,
)
