"""What invoice lines are compared with: usage by customer and whatever the lines tell apart, recomputed in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, Integer, Select, Table, Uuid, and_, any_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.errors import Fault, QueryError
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.check import Examination
from usage_explore.validation.checks.duplicates import KEY_MARGIN
from usage_explore.validation.periods import surroundings
from usage_explore.validation.reconciliation.compare import Key, Repeats, Used

MAX_KEYS = 250_000
"""How many keys the usage of a period may have."""

_NAMED = 1_000
"""Customers that are named where duplicates are looked for; with more of them all customers' are."""


def statement(table: Table, period: Period, columns: Iterable[str] = ("metric_key",)) -> Select[Any]:
    """Usage of a resolved period by customer and the columns.

    Columns: `customer_id`, the given ones, `events` bigint, `quantity` numeric, and `late_events`, `late`: those that
    arrived after the period was finalized, NULL or 0 where it was not.
    """
    c = table.c
    keys = [c.customer_id, *(c[name] for name in columns)]
    return (
        select(
            *keys,
            func.count().label("events"),
            func.sum(c.quantity).label("quantity"),
            func.count().filter(_late(c.ingested_at, period)).label("late_events"),
            func.sum(c.quantity).filter(_late(c.ingested_at, period)).label("late"),
        )
        .where(*conditions(table, period))
        .group_by(*keys)
    )


def usage(examination: Examination, columns: tuple[str, ...]) -> dict[Key, Used]:
    """The usage by key, with the wallets it names. Raises `QueryError` for more than 250,000 keys."""
    found: dict[Key, Used] = {}
    by = tuple(dict.fromkeys((*columns, "wallet_currency")))
    for row in examination.rows(statement(examination.table, examination.period, by)):
        key, wallet = _key(examination, row, columns)
        if key not in found and len(found) == MAX_KEYS:
            said = f"tell apart more than {MAX_KEYS:,} totals of usage; validate by customer_id or metric_key"
            raise QueryError([Fault("invoices", said)])
        found.setdefault(key, Used()).add(row.events, row.quantity, row.late_events, row.late or Decimal(0), wallet)
    return found


def repeats(examination: Examination, columns: tuple[str, ...], customers: set[UUID]) -> Mapping[Key, Repeats]:
    """The superfluous events of these customers by key: of one customer's with one idempotency key all but the first
    to arrive, looked for in the period and around it.
    """
    found: dict[Key, Repeats] = {}
    if not customers:
        return found
    for row in examination.rows(_repeated(examination.table, examination.period, columns, customers)):
        key, _ = _key(examination, row, columns)
        before = found.get(key, Repeats())
        found[key] = before.and_more(row.events, row.quantity, row.early_events, row.early or Decimal(0))
    return found


def _repeated(table: Table, period: Period, columns: tuple[str, ...], customers: set[UUID]) -> Select[Any]:
    c = table.c
    near = [*conditions(table, surroundings(period, KEY_MARGIN))]
    if len(customers) <= _NAMED:
        whose = literal(sorted(customers), ARRAY(Uuid[UUID]())).cast(ARRAY(Uuid[UUID]()))
        near.append(c.customer_id == any_(whose))
    digest = func.hashtextextended(c.idempotency_key, literal(0, Integer))
    shared = select(c.customer_id, digest.label("digest")).where(*near).group_by(c.customer_id, digest)
    again = shared.having(func.count() > 1).cte("again")
    ranked = _ranked(table, columns, near, and_(*conditions(table, period)), digest, again)
    r = ranked.c
    keys = [r.customer_id, *(r[name] for name in columns)]
    return (
        select(
            *keys,
            func.count().label("events"),
            func.sum(r.quantity).label("quantity"),
            func.count().filter(~_late(r.ingested_at, period)).label("early_events"),
            func.sum(r.quantity).filter(~_late(r.ingested_at, period)).label("early"),
        )
        .where(r.arrival > 1, r.concerned)
        .group_by(*keys)
    )


def _ranked(
    table: Table,
    columns: tuple[str, ...],
    near: list[ColumnElement[bool]],
    concerned: ColumnElement[bool],
    digest: ColumnElement[int],
    again: CTE,
) -> CTE:
    """The events whose key's hash is there again, in the order in which those of a key arrived."""
    c = table.c
    arrival = func.row_number().over(
        partition_by=[c.customer_id, c.idempotency_key], order_by=[c.ingested_at, c.timestamp, c.id]
    )
    return (
        select(
            c.customer_id,
            *(c[name] for name in columns),
            c.quantity,
            c.ingested_at,
            concerned.label("concerned"),
            arrival.label("arrival"),
        )
        .join(again, and_(again.c.customer_id == c.customer_id, again.c.digest == digest))
        .where(*near)
        .cte("ranked")
    )


def _late(ingested_at: ColumnElement[Any], period: Period) -> ColumnElement[bool]:
    return literal(False) if period.finalized_at is None else ingested_at > period.finalized_at


def _key(examination: Examination, row: Any, columns: tuple[str, ...]) -> tuple[Key, str | None]:
    """The key of a row, its wallet the one that usage goes to, and the wallet that its events name, where read."""
    values = {name: getattr(row, name) for name in columns}
    pinned: str | None = getattr(row, "wallet_currency", None)
    if "wallet_currency" in values and examination.preferences is not None:
        values["wallet_currency"], _ = examination.preferences.wallet(row.customer_id, pinned)
    return (row.customer_id, *values.values()), pinned
