"""Customers in a file of whom nothing is known, and the customer whose id was perhaps mistyped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from sqlalchemy import Uuid, exists, func, select

from usage_explore.sql.filters import array, conditions
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import organization_period

MAX_EDITS = 2
"""Digits that were replaced, or left out and added, up to which an id may be a mistyped one; two that were swapped
are two."""

_MAX_LOOKED_UP = 1_000
"""Customers without usage in the period that are looked for in all events and names, and compared with others."""


def unknown_customers(
    examination: Examination, given: Collection[UUID], used: Collection[UUID]
) -> Mapping[UUID, UUID | None]:
    """The customers of a file without any event of the organization, at any time, and without a name.

    `given` are those in the file, `used` those with usage in the period. To each unknown one belongs the nearest of
    these, None if none is within `MAX_EDITS`.
    """
    without = sorted({*given} - {*used})[:_MAX_LOOKED_UP]
    if not without:
        return {}
    c, period = examination.table.c, organization_period(examination.period)
    wanted = func.unnest(array(without, Uuid())).column_valued("wanted")
    statement = select(wanted).where(exists().where(*conditions(examination.table, period), c.customer_id == wanted))
    known = {UUID(str(id_)) for (id_,) in examination.rows(statement)}
    names = examination.names_of(("customer_id", id_) for id_ in without)
    return {id_: _nearest(id_, used) for id_ in without if id_ not in known and names.name("customer_id", id_) is None}


def unknown_words(customer: UUID | None, unknown: Mapping[UUID, UUID | None]) -> str:
    """For a customer of whom nothing is known, the end of a sentence: so, and whose id may have been meant; else ""."""
    if customer is None or customer not in unknown:
        return ""
    near = unknown[customer]
    meant = f" of customer {near}" if near else ""
    return f"; customer {customer} is not known: no event and no name; a typing error{meant}?"


def _nearest(id_: UUID, others: Iterable[UUID]) -> UUID | None:
    near = ((edits, other) for other in others if (edits := edits_between(id_, other)) is not None)
    return min(near, default=(0, None))[1]


def edits_between(one: UUID, other: UUID) -> int | None:
    """The digits to replace, remove or add that make one id of another; None for more than `MAX_EDITS`.

    >>> edits_between(UUID(int=0x123456), UUID(int=0x124356)), edits_between(UUID(int=0x123456), UUID(int=0x654321))
    (2, None)
    """
    differing = one.int ^ other.int
    replaced = 0
    while differing and replaced <= MAX_EDITS:
        replaced, differing = replaced + bool(differing & 0xF), differing >> 4
    if replaced <= MAX_EDITS and not differing:
        return replaced
    left, right = one.hex, other.hex
    start = next(index for index, (a, b) in enumerate(zip(left, right, strict=True)) if a != b)
    end = len(left) - next(i for i, (a, b) in enumerate(zip(reversed(left), reversed(right), strict=True)) if a != b)
    is_moved = left[start + 1 : end] == right[start : end - 1] or left[start : end - 1] == right[start + 1 : end]
    return 2 if is_moved else None
