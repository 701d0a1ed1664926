"""Checks and findings of the tests' own, over the generated rows, so that what is to be reported is known."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
from sqlalchemy import Select, Table, func, select

from support import generated_events
from support.query_oracle import utc
from usage_explore import EventQuery
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation import Finding
from usage_explore.validation.check import Check, Examination, Outcome

SINCE, UNTIL = utc(2026, 3, 1), utc(2026, 11, 10)
PERIOD = Period(since=SINCE, until=UNTIL, timezone="Europe/Berlin")


def statement(table: Table, period: Period) -> Select[Any]:
    return select(func.count()).where(*conditions(table, period))


def check(name: str, *findings: Finding, sheet: pd.DataFrame | None = None, needs: str | None = None) -> Check:
    """A check that finds these."""

    def examine(examination: Examination, /) -> Outcome:
        ((events,),) = examination.rows(statement(examination.table, examination.period))
        return Outcome(findings=findings, looked_at=events, sheet=sheet)

    return Check(
        name=name,
        title=f"Title of {name}",
        means=f"Meaning of {name}.",
        parameters={"bound": "more than 3 <of> them"},
        unit="events",
        statement=statement,
        examine=examine,
        needs=needs,
    )


def finding(severity: Any = "high", check: str = "own", **changes: Any) -> Finding:
    since = utc(2026, 6, 1, 3)
    given: dict[str, Any] = {
        "sentence": "12 events were sent twice.",
        "since": since,
        "until": since + timedelta(minutes=90),
        "events": 12,
        "quantity": Decimal("1234567.50"),
        "share": Decimal("0.031"),
        "question": EventQuery(
            organization_id=generated_events.ORGANIZATION, occurred_after=SINCE, occurred_before=UNTIL
        ),
    }
    return Finding(check=check, severity=severity, **(given | changes))


def wallets(*lines: Iterable[object]) -> pd.DataFrame:
    """A preview as the check `wallets` makes it."""
    columns = ["customer_id", "wallet", "how", "metric_key", "events", "quantity"]
    return pd.DataFrame([list(line) for line in lines], columns=columns).astype({"quantity": "object"})
