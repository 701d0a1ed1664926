"""Duplicates: events whose idempotency key arrived before in the organization.

The first event of a key to arrive counts; each further one in the period is superfluous. Keys are compared by a 64-bit
hash first, which takes a quarter less time over 10 million events, then by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import CTE, ColumnElement, Integer, Label, Select, Table, and_, case, func, literal, select

from usage_explore.formatting import duration, percent
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation import batches, usage_sums
from usage_explore.validation.batches import (
    BATCH_GAP,
    STEADY_GAP,
    Batch,
    BatchWording,
    batch_columns,
    batched,
    outcome,
    small_batches,
)
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Check, Examination, Finding, Outcome, Severity
from usage_explore.validation.periods import at_times, surroundings

BOUNDS = CheckBounds("duplicates")

# fmt: off
KEY_MARGIN = BOUNDS.add("key_margin", timedelta(days=7), "days", 0, 400,
    "Time before and after the period in which other events of a key are looked for.")

HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.001"), "share", 0, 1,
    "Share of a customer's own usage from which copies are high.")
# fmt: on

NAME = "duplicates"
COPY, MOVED, REUSE = "copy", "moved", "reuse"
KIND_FACT = "kind of duplicate"
"""The fact of a finding that says which of these its events are."""


def statement(table: Table, period: Period, times: Sequence[datetime] | None = None) -> Select[Any]:
    """The superfluous events of a resolved period, see `batched`; of events at these times alone, if they are given.

    `kind` is `copy` where all is as in the first event of the key, `moved` where all but the time is, else `reuse`.
    `times` counts the events of the key with the content of the first, that one included.
    """
    return batched(superfluous(table, period, times))


def _beside_the_first(table: Table) -> list[Label[Any]]:
    """Each event beside the one of its key that arrived first, which counts.

    `arrival` from 1 in order of arrival, `same`: with its content, `at_once`: at its time.
    """
    c = table.c
    by_key: dict[str, Any] = {
        "partition_by": c.idempotency_key,
        "order_by": [c.ingested_at, c.timestamp, c.id],
    }
    content = [c.customer_id, c.metric_key, c.quantity]
    return [
        func.row_number().over(**by_key).label("arrival"),
        and_(*(column == func.first_value(column).over(**by_key) for column in content)).label("same"),
        (c.timestamp == func.first_value(c.timestamp).over(**by_key)).label("at_once"),
    ]


def _kind(arrived: Any) -> ColumnElement[str]:
    """The kind of a superfluous event, from the columns of `_beside_the_first`."""
    return case((and_(arrived.same, arrived.at_once), COPY), (arrived.same, MOVED), else_=REUSE)


def repeated_times(table: Table, period: Period) -> Select[Any]:
    """The times of all events whose key, or its hash, occurs again."""
    near, digest, shared = _shared(table, period, None)
    return select(table.c.timestamp).where(near, digest.in_(select(shared.c.digest))).distinct()


def _shared(
    table: Table, period: Period, times: Sequence[datetime] | None
) -> tuple[ColumnElement[bool], ColumnElement[int], CTE]:
    """The condition on events around the period, the hash of a key, and the hashes that occur again."""
    c = table.c
    near = and_(*conditions(table, surroundings(period, KEY_MARGIN())), *at_times(c.timestamp, times))
    digest = func.hashtextextended(c.idempotency_key, literal(0, Integer))
    return (
        near,
        digest,
        select(digest.label("digest")).where(near).group_by(digest).having(func.count() > 1).cte("shared"),
    )


def superfluous(table: Table, period: Period, times: Sequence[datetime] | None = None) -> CTE:
    """The superfluous events of a resolved period, with the `batch_columns`, `kind` and `times`.

    `times`, if given, are those of all events of `repeated_times`.
    """
    near, digest, shared = _shared(table, period, times)
    c = table.c
    arrived = (
        select(
            *batch_columns(table),
            c.idempotency_key,
            and_(*conditions(table, period)).label("concerned"),
            *_beside_the_first(table),
        )
        .where(near, digest.in_(select(shared.c.digest)))
        .cte("arrived")
    )
    a = arrived.c
    kind = _kind(a).label("kind")
    sent = func.count().filter(a.same).over(partition_by=a.idempotency_key).label("times")
    counted = select(arrived, kind, sent).cte("counted")
    n, helpers = counted.c, ("idempotency_key", "concerned", "arrival", "same", "at_once")
    return (
        select(*(column for column in n if column.name not in helpers))
        .where(n.concerned, n.arrival > 1)
        .cte("superfluous")
    )


PAIR_COLUMNS = (
    "id",
    "customer_id",
    "metric_key",
    "timestamp",
    "ingested_at",
    "quantity",
    "external_cost_amount",
    "external_cost_currency",
)
"""The columns of both events of a pair."""


def pairs(table: Table, period: Period, finding: Finding, most: int) -> Select[Any]:
    """At most `most` superfluous events of a finding, each beside the event of its key that counts.

    Columns: `idempotency_key`, then `kept_<column>` and `copy_<column>` for each of `PAIR_COLUMNS`; ordered by the
    time, key and id of the copy. `period` is the resolved period of the validation.
    """
    c = table.c
    near = and_(*conditions(table, surroundings(period, KEY_MARGIN())))
    concerned = and_(*conditions(table, finding.question))
    keys = select(c.idempotency_key).where(concerned)
    arrived = (
        select(
            c.idempotency_key,
            *(c[name] for name in PAIR_COLUMNS),
            concerned.label("concerned"),
            *_beside_the_first(table),
        )
        .where(near, c.idempotency_key.in_(keys))
        .cte("arrived")
    )
    kept, copy = arrived.alias("kept"), arrived.alias("copy")
    kind = dict(finding.facts).get(KIND_FACT)
    return (
        select(
            copy.c.idempotency_key,
            *(kept.c[name].label(f"kept_{name}") for name in PAIR_COLUMNS),
            *(copy.c[name].label(f"copy_{name}") for name in PAIR_COLUMNS),
        )
        .join_from(copy, kept, and_(copy.c.idempotency_key == kept.c.idempotency_key, kept.c.arrival == 1))
        .where(copy.c.concerned, copy.c.arrival > 1, *([_kind(copy.c) == kind] if kind else []))
        .order_by(copy.c.timestamp, copy.c.idempotency_key.collate("C"), copy.c.id)
        .limit(most)
    )


def _severity(batch: Batch, own: Decimal) -> Severity:
    return "high" if batch.kind != REUSE and own >= HIGH_SHARE() else "medium"


def _predicate(batch: Batch) -> str:
    fewest, most = batch.times
    times = "twice" if most == 2 else f"{most:,} times" if fewest == most else f"up to {most:,} times"
    again = {
        COPY: f"with the same content: sent {times}, billed {times}",
        MOVED: f"with the same content at another time: sent again with a new time, billed {times}",
        REUSE: "with an event of other content: a correction, or a key used again",
    }
    return f": their idempotency keys had arrived before {again[batch.kind]}"


_WORDING = BatchWording(
    check=NAME,
    severity=_severity,
    predicate=_predicate,
    stray_severity=_severity,
    facts=lambda batch: ((KIND_FACT, batch.kind),),
)


def examine(examination: Examination) -> Outcome:
    """The batches of superfluous events by customer."""
    table, period = examination.table, examination.period
    times = examination.times(repeated_times(table, period))
    rows = () if times == [] else examination.rows(statement(table, period, times))
    return outcome(examination, rows, _WORDING, examination.totals.events)


CHECK = Check(
    name=NAME,
    title="Duplicate events",
    means="The customer is billed for each event that was sent again; a correct invoice counts one of each key.",
    parameters=lambda: {
        "margin": f"keys are compared over the period and {duration(KEY_MARGIN())} before and after it",
        "superfluous": "of the events with one key the first to arrive counts; those after it are the ones affected",
        "batch": f"events of one customer less than {duration(BATCH_GAP())} apart are one batch, and batches of"
        f" a metric within {duration(STEADY_GAP())}; {small_batches()}",
        "high": f"copies, with the same time or another, that make {percent(HIGH_SHARE())} or more of the customer's"
        " usage in the period, be it one event",
    },
    unit="events",
    one="event",
    bounds=(*BOUNDS, *batches.BOUNDS, *usage_sums.BOUNDS),
    statement=statement,
    examine=examine,
)
