"""What accounts for a finding: for one on duplicates, that its events are copies."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from support.billing_events import SEPTEMBER, SINCE, UNTIL, steady, store_of
from support.query_oracle import utc
from usage_explore.app.cache import Source
from usage_explore.app.validate import explanation

BATCH = utc(2026, 9, 16, 12)


@pytest.mark.parametrize(
    ("again", "words"),
    [
        ({}, " are copies: they were sent again, and a correct invoice counts each key once."),
        ({"quantity": Decimal(3)}, " came with the idempotency key of an earlier event that has other content."),
    ],
)
def test_what_accounts_for_duplicates_is_that_they_are_copies(
    events_database_url: str, monkeypatch: pytest.MonkeyPatch, again: dict[str, Any], words: str
) -> None:
    events = steady(0, SINCE - timedelta(days=14), UNTIL, timedelta(hours=1), quantity=Decimal(2))
    batch = [event for event in events if BATCH <= event.timestamp < BATCH + timedelta(hours=20)]
    later = timedelta(minutes=2)
    copies = [
        replace(event, id=UUID(int=10**6 + number), ingested_at=event.ingested_at + later, **again)
        for number, event in enumerate(batch)
    ]
    drawn: list[str] = []
    monkeypatch.setattr(explanation.st, "markdown", drawn.append)
    with store_of(events_database_url, [*events, *copies]) as store:
        validation = store.validate(SEPTEMBER, checks=["duplicates"])
        (finding,) = validation.findings
        explanation.explained(Source(store, store.now()), validation, finding)
    explanation.st.cache_resource.clear()
    (said,) = drawn
    quantity = 20 * again.get("quantity", 2)
    assert f"20 events, {quantity} of the quantity,{words} " in said.replace("\\", "")


def test_what_accounts_for_a_unit_cost_is_a_cost(events_database_url: str) -> None:
    """A customer's usage stayed as it was, and cost 100 times as much for twelve hours."""
    costs = {"external_cost_amount": Decimal("0.01"), "external_cost_currency": "USD"}
    events = [
        replace(event, external_cost_amount=event.external_cost_amount * 100)
        if BATCH <= event.timestamp < BATCH + timedelta(hours=12) and customer == 0
        else event
        for customer in range(3)
        for event in steady(customer, SINCE - timedelta(days=30), UNTIL, timedelta(minutes=30), **costs)
    ]
    with store_of(events_database_url, events) as store:
        validation = store.validate(SEPTEMBER, checks=["unit_costs"])
        (finding,) = validation.findings
        compared = explanation.change(validation, finding)
        assert compared is not None
        explained = store.explain(compared.query, **dict(compared.options))
    assert (explained.query.metric, explained.currency) == ("sum_cost", "USD")
    assert explained.change == 24 * (Decimal(1) - Decimal("0.01"))
