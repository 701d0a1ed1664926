"""Customers without any invoice line, told as one finding where they are most: the lines are not all of the lines."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from uuid import UUID

from usage_explore.formatting import counted, listed, percent, span_in
from usage_explore.validation.check import Examination
from usage_explore.validation.finding import Finding, Severity
from usage_explore.validation.reconciliation.compare import Row
from usage_explore.validation.totals import part

CROWD = 10
"""So many customers without any line are told one by one."""

MOSTLY = Decimal("0.5")
"""From this part of the customers with usage on, more than `CROWD` without any line are told together."""

_EXCLUDED = 900
"""Customers a question leaves out at most; it may have 1,000 values."""


def uninvoiced(rows: Iterable[Row]) -> list[Row]:
    """The rows to tell together: unexplained usage of customers without any line; none where these are few."""
    rows = list(rows)
    using = {row.key[0] for row in rows if row.used is not None}
    absent = using - {row.key[0] for row in rows if row.lines}
    found = [row for row in rows if row.key[0] in absent and row.status == "missing" and not row.explained_by]
    customers = {row.key[0] for row in found}
    return found if len(customers) > CROWD and part(len(customers), len(using)) >= MOSTLY else []


def finding(
    examination: Examination,
    check: str,
    rows: Iterable[Row],
    absent: list[Row],
    severity: Severity,
    numbers: dict[str, Any],
) -> Finding:
    """One finding about the rows of `uninvoiced`; `numbers` are its quantity, amounts, share and metric."""
    since, until = examination.period.span
    customers = {row.key[0] for row in absent}
    using = {row.key[0] for row in rows if row.used is not None}
    events = sum(row.events for row in absent)
    share = percent(part(events, examination.totals.events))
    return Finding(
        check=check,
        severity=severity,
        sentence=f"{len(customers):,} of {counted(len(using), 'customer')} with usage,"
        f" {span_in(since, until, examination.period.zone)}, have no invoice line at all:"
        f" {counted(events, 'event')} in {counted(len(absent), 'total')}, {share} of all;"
        " the invoices may be incomplete.",
        since=since,
        until=until,
        events=events,
        question=examination.aggregate_question(
            metric="sum_quantity", group_by="customer_id", exclude=_excluded(examination, using - customers)
        ),
        facts=(("customers without a line", listed(map(str, customers), most=20)),),
        **numbers,
    )


def _excluded(examination: Examination, others: set[UUID]) -> dict[str, list[str]]:
    """The period's exclusions with the other customers, where they can be named."""
    excluded = {name: list(values) for name, values in examination.period.exclude}
    if 0 < len(others) <= _EXCLUDED:
        excluded["customer_id"] = sorted({*excluded.get("customer_id", ()), *map(str, others)})
    return excluded
