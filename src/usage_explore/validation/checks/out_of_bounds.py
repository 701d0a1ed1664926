"""Events that no question finds, because a time of theirs lies outside 1970 to 2200: they are billed to nobody.

A sender that gives milliseconds to `to_timestamp`, for example, dates its events into the year 57837.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Select, Table, Text, and_, func, or_, select, true

from usage_explore.formatting import counted
from usage_explore.query.queries import Period
from usage_explore.sql.filters import expression, filters, outside_bounds, scope, within_bounds
from usage_explore.validation.check import Examination
from usage_explore.validation.finding import Finding

_SHOWN = 5
"""Events that are named, with their times."""


def statement(table: Table, period: Period) -> Select[Any]:
    """The first of them by id: `id`, `customer_id`, `timestamp` and `ingested_at` text, `events` bigint: how many.

    An event that may have occurred at any time concerns every period. One that occurred in another period does not
    concern this one, nor does one that arrived after `as_of`.
    """
    c = table.c
    occurred, arrived = (and_(*within_bounds(time)).is_not(true()) for time in (c.timestamp, c.ingested_at))
    concerned = [or_(occurred, and_(*within_bounds(c.timestamp, *period.span)))]
    if period.as_of is not None:
        concerned.append(or_(arrived, c.ingested_at <= period.as_of))
    return (
        select(
            c.id,
            c.customer_id,
            c.timestamp.cast(Text).label("timestamp"),
            c.ingested_at.cast(Text).label("ingested_at"),
            func.count().over().label("events"),
        )
        .where(scope(c.organization_id, period), *filters(partial(expression, table), period))
        .where(outside_bounds(table), *concerned)
        .order_by(c.id)
        .limit(_SHOWN)
    )


def findings(check: str, examination: Examination) -> tuple[Finding, ...]:
    """One finding of all of them, none where there are none."""
    rows = list(examination.rows(statement(examination.table, examination.period)))
    if not rows:
        return ()
    since, until = examination.period.span
    first, number = rows[0], rows[0].events
    return (
        Finding(
            check=check,
            severity="high",
            sentence=f"{counted(number, 'event')} cannot be billed: a time lies outside 1970 to 2200, so no total has"
            f" them, such as {first.id} (timestamp {first.timestamp}, ingested_at {first.ingested_at});"
            " `usage-explore doctor` says how to list them.",
            since=since,
            until=until,
            events=number,
            question=examination.events_question(),
            facts=tuple(
                (
                    f"event {row.id}",
                    f"customer {row.customer_id}, timestamp {row.timestamp}, ingested {row.ingested_at}",
                )
                for row in rows
            ),
        ),
    )
