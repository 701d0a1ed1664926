"""Numbers beyond what the database holds: as a filter value a text like any other, as a sum an error in words."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from support.api_server import AGGREGATE, EVENTS, asking
from support.extracts import ORGANIZATION, add
from support.query_oracle import utc
from usage_explore import AggregateQuery, EventQuery, Store, connect
from usage_explore.db import ddl
from usage_explore.errors import NotExact


@pytest.mark.parametrize("text", ["0." + "1" * 20_000, "9" * 60_000])
def test_it_is_found_as_text(events_connection: ddl.Connection, events_database_url: str, text: str) -> None:
    add(events_connection, utc(2026, 3, 1), dimensions={"k": text})
    with connect(events_database_url, organization_id=ORGANIZATION) as store:
        assert store.count(EventQuery(dimensions={"k": text})) == 1
        assert store.count(EventQuery(dimensions={"k": text[:-1]})) == 0


@pytest.fixture
def enormous(events_connection: ddl.Connection, events_database_url: str) -> Iterator[Store]:
    """A store with two quantities that the database holds, and whose sum it does not."""
    add(events_connection, *(utc(2026, 3, day) for day in (1, 2)), quantity=Decimal("9e131071"))
    with connect(events_database_url, organization_id=ORGANIZATION) as store:
        yield store


def test_a_sum_that_the_database_cannot_hold_is_said_to_be_none(enormous: Store) -> None:
    month = AggregateQuery(since=utc(2026, 3, 1), until=utc(2026, 4, 1))
    assert enormous.aggregate(month).total == 2
    with pytest.raises(NotExact, match=r"more than the database can hold .* counting still works"):
        enormous.aggregate(month.replace(metric="sum_quantity"))
    day = month.replace(metric="sum_quantity", until=utc(2026, 3, 2))
    assert enormous.aggregate(day).total == Decimal("9e131071")


def test_over_http_that_is_no_fault_of_the_server(enormous: Store) -> None:
    with asking(enormous) as client:
        question = "since=2026-03-01T00:00:00Z&until=2026-04-01T00:00:00Z&metric=sum_quantity"
        answer = client.get(f"{AGGREGATE}?{question}")
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:usage-explore:problem:not-exact")
        assert client.get(f"{EVENTS}?limit=1").json()["data"][0]["quantity"] == "9" + "0" * 131_071
