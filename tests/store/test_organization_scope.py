"""A store for somebody who may see some organizations: nothing of the others, and no look at the database for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from support import generated_events
from support.query_oracle import Row
from usage_explore import AggregateQuery, EventQuery, Store, connect
from usage_explore.db import ddl
from usage_explore.errors import QueryError, ScopeError

WHOLE = {"since": datetime(2011, 1, 1, tzinfo=UTC), "until": datetime(2026, 12, 1, tzinfo=UTC), "bucket": "week"}
STRANGER = uuid4()

QUESTIONS: dict[str, Callable[[Store, UUID | None], Any]] = {
    "events": lambda store, claim: store.events(EventQuery(organization_id=claim)),
    "count": lambda store, claim: store.count(EventQuery(organization_id=claim)),
    "aggregate": lambda store, claim: store.aggregate(AggregateQuery(organization_id=claim, **WHOLE)),
    "sql": lambda store, claim: store.sql(EventQuery(organization_id=claim)),
    "values": lambda store, claim: store.values("metric_key", EventQuery(organization_id=claim)),
    "dimension_keys": lambda store, claim: store.dimension_keys(EventQuery(organization_id=claim)),
    "events_csv": lambda store, claim: store.events_csv(EventQuery(organization_id=claim)),
    "export_csv": lambda store, claim: list(store.export_csv(EventQuery(organization_id=claim))),
    "export": lambda store, claim: store.export(EventQuery(organization_id=claim), Path("never.csv"), progress=False),
    "scoped": lambda store, claim: store.scoped(claim or STRANGER),
}


@pytest.fixture(scope="module")
def generated() -> list[Row]:
    return generated_events.generate(per_scene=5)


@pytest.fixture
def everyone(events_database_url: str, events_connection: ddl.Connection, generated: list[Row]) -> Iterator[Store]:
    generated_events.insert(events_connection, generated)
    with connect(events_database_url) as store:
        yield store


@pytest.fixture
def statements(everyone: Store) -> list[str]:
    """Every statement that the store sends."""
    sent: list[str] = []
    event.listen(everyone.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    event.listen(everyone.engine, "checkout", lambda *given: sent.append("checkout"))
    return sent


def test_only_what_is_allowed_and_there_can_be_chosen(everyone: Store) -> None:
    assert set(everyone.organizations()) == {generated_events.ORGANIZATION, generated_events.NEIGHBOUR}
    assert everyone.restricted([generated_events.ORGANIZATION, STRANGER]).organizations() == (
        generated_events.ORGANIZATION,
    )
    assert everyone.restricted([STRANGER]).organizations() == ()
    assert everyone.restricted([]).organizations() == ()


def test_a_restriction_never_widens(everyone: Store) -> None:
    narrow = everyone.restricted([generated_events.ORGANIZATION])
    assert narrow.restricted([generated_events.NEIGHBOUR]).organizations() == ()
    assert narrow.restricted([generated_events.ORGANIZATION, generated_events.NEIGHBOUR]).organizations() == (
        generated_events.ORGANIZATION,
    )
    own = everyone.scoped(generated_events.ORGANIZATION)
    assert own.restricted([generated_events.NEIGHBOUR]).organizations() == ()
    with pytest.raises(ScopeError):
        own.restricted([generated_events.NEIGHBOUR]).events()


def test_one_of_several_is_taken_when_it_is_the_only_allowed(everyone: Store, generated: list[Row]) -> None:
    store = everyone.restricted([generated_events.NEIGHBOUR])
    own = sum(row.organization_id == generated_events.NEIGHBOUR for row in generated)
    assert store.count(EventQuery()) == own
    assert store.aggregate(AggregateQuery(**WHOLE)).total == own


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_not_yours_is_as_if_it_did_not_exist(everyone: Store, statements: list[str], name: str) -> None:
    store = everyone.restricted([generated_events.ORGANIZATION])
    said = {}
    for claim in (generated_events.NEIGHBOUR, STRANGER):
        with pytest.raises(ScopeError) as refused:
            QUESTIONS[name](store, claim)
        said[claim] = str(refused.value).replace(str(claim), "…")
    assert len(set(said.values())) == 1
    assert not statements


def test_nothing_allowed_tells_nothing(everyone: Store, statements: list[str]) -> None:
    with pytest.raises(ScopeError, match="no events here that you may see"):
        everyone.restricted([STRANGER]).events()
    assert not any(str(generated_events.ORGANIZATION) in sent for sent in statements)


def test_a_neighbours_cursor_is_refused(everyone: Store) -> None:
    page = everyone.restricted([generated_events.NEIGHBOUR]).events(EventQuery(limit=2))
    mine = everyone.restricted([generated_events.ORGANIZATION])
    with pytest.raises(QueryError, match="cursor"):
        mine.events(EventQuery(limit=2, cursor=page.cursor))
    second = page.next()
    assert second is not None
    with pytest.raises(ScopeError):
        mine.events_before(second)
