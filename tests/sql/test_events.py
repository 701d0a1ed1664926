"""Listing raw events: filters equal predicates, pages concatenate to the unpaged list, cursors hold."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import generated_events, query_oracle
from support.query_oracle import Row, utc
from support.random_filters import filters, with_filters
from support.thoroughness import cases
from usage_explore import Event, EventQuery, QueryError, Store, connect
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.errors import ScopeError
from usage_explore.query.queries import Position
from usage_explore.sql import filters as statements

ours = settings(max_examples=cases(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ids(events: Any) -> list[UUID]:
    return [event.id for event in events]


@ours
@given(
    chosen=filters(),
    scene=st.sampled_from(generated_events.SCENES),
    before=st.one_of(st.none(), st.integers(0, 200_000)),
    after=st.one_of(st.none(), st.integers(0, 200_000)),
    late=st.one_of(st.none(), st.just(0), st.integers(0, 400_000)),  # at 0 an event arrives in each scene
)
def test_every_filter_equals_its_predicate(
    store: Store,
    own: list[Row],
    chosen: dict[str, list[str]],
    scene: tuple[str, Any],
    before: int | None,
    after: int | None,
    late: int | None,
) -> None:
    centre = scene[1]
    occurred_after = centre - timedelta(seconds=before) if before is not None else None
    occurred_before = centre + timedelta(seconds=after, microseconds=1) if after is not None else None
    as_of = centre + timedelta(seconds=late) if late is not None else None
    query = with_filters(EventQuery, chosen).replace(
        occurred_after=occurred_after, occurred_before=occurred_before, as_of=as_of, limit=100
    )
    passes = query_oracle.predicate(chosen.items())
    expected = [
        row
        for row in query_oracle.newest_first(own)
        if passes(row)
        and (occurred_after is None or row.timestamp >= occurred_after)
        and (occurred_before is None or row.timestamp < occurred_before)
        and (as_of is None or row.ingested_at <= as_of)
    ]
    page = store.events(query)
    assert ids(page.events) == ids(expected[:100])
    assert (page.cursor is not None) == (len(expected) > 100)
    assert store.count(query) == len(expected)


@settings(ours, max_examples=cases(15))
@given(limits=st.lists(st.integers(1, 100), min_size=1, max_size=5), scene=st.sampled_from(generated_events.SCENES))
def test_pages_of_any_size_concatenate_to_the_whole(
    store: Store, own: list[Row], limits: list[int], scene: tuple[str, Any]
) -> None:
    start, end = scene[1] - timedelta(hours=9), scene[1] + timedelta(hours=9)
    query = EventQuery(occurred_after=start, occurred_before=end)
    seen: list[UUID] = []
    cursor: str | None = None
    for turn in range(10_000):
        page = store.events(query.replace(limit=limits[turn % len(limits)], cursor=cursor))
        seen += ids(page.events)
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == ids(row for row in query_oracle.newest_first(own) if start <= row.timestamp < end)


def test_previous_retraces_next(store: Store) -> None:
    page = store.events(EventQuery(limit=40, occurred_after=utc(2026, 10, 24)))
    pages = [page]
    while (following := pages[-1].next()) is not None:
        pages.append(following)
    assert len(pages) > 4
    back = pages[-1]
    for expected in reversed(pages[:-1]):
        previous = back.previous()
        assert previous is not None
        assert previous == expected
        back = previous
    assert back.previous() is None


@pytest.mark.parametrize("small", [1, 22, 49, 50])
def test_the_page_before_a_larger_page_repeats_none_of_its_events(store: Store, small: int) -> None:
    first = store.events(EventQuery(limit=small))
    larger = store.events(EventQuery(limit=50, cursor=first.cursor))
    before = larger.previous()
    assert before is not None
    assert before.events == first.events
    assert before.query == larger.query.replace(cursor=None)
    assert before.next() == larger
    assert before.previous() is None


def test_iterating_a_page_gives_every_event_from_there(store: Store, own: list[Row]) -> None:
    assert ids(store.events(EventQuery(limit=100))) == ids(query_oracle.newest_first(own))


def test_rows_ingested_meanwhile_neither_repeat_nor_hide_a_row(
    events_database_url: str, events_connection: ddl.Connection, own: list[Row]
) -> None:
    tied = [replace(row, id=uuid4(), timestamp=utc(2026, 5, 1)) for row in own[:40]]
    generated_events.insert(events_connection, tied)
    store = connect(events_database_url)
    page = store.events(EventQuery(limit=7))
    seen = ids(page.events)
    while page.cursor:
        generated_events.insert(events_connection, [replace(own[0], id=uuid4(), timestamp=utc(2026, 5, 2))])
        following = page.next()
        assert following is not None
        page = following
        seen += ids(page.events)
    assert sorted(seen) == sorted(row.id for row in tied)
    store.close()


def test_the_page_before_repeats_nothing_when_newer_events_arrive(
    events_database_url: str, events_connection: ddl.Connection, own: list[Row]
) -> None:
    generated_events.insert(events_connection, [replace(own[0], id=uuid4(), timestamp=utc(2026, 5, 1)) for _ in "abc"])
    with connect(events_database_url) as store:
        second = store.events(EventQuery(limit=2)).next()
        assert second is not None
        generated_events.insert(events_connection, [replace(own[0], id=uuid4(), timestamp=utc(2026, 5, 2))])
        newest = second.previous()
        assert newest is not None
        start = newest.previous()
        assert start is not None
        whole = store.events(EventQuery(limit=4)).events
        assert (*start.events, *newest.events, *second.events) == whole


def test_a_cursor_under_other_filters_or_another_organization_is_refused(store: Store, everyone: Store) -> None:
    cursor = store.events(EventQuery(metric_key="tokens_in")).cursor
    again = EventQuery(metric_key="tokens_in", limit=3, cursor=cursor)
    assert len(store.events(again).events) == 3
    for other in (
        again.replace(metric_key="Other"),
        again.replace(as_of=utc(2026, 11, 1)),
        again.replace(occurred_before=utc(2026, 11, 1)),
    ):
        with pytest.raises(QueryError, match="cursor: belongs to other filters"):
            store.events(other)
    with pytest.raises(QueryError, match="cursor: belongs to other filters"):
        everyone.events(again.replace(organization_id=generated_events.NEIGHBOUR))


def test_events_are_exact_and_complete(store: Store, own: list[Row]) -> None:
    by_id = {row.id: row for row in own}
    for event in store.events(EventQuery(limit=100)).events:
        row = by_id[event.id]
        assert isinstance(event, Event)
        assert event.quantity == row.quantity
        assert event.timestamp == row.timestamp
        assert event.dimensions == json.loads(row.dimensions, parse_float=Decimal)
        written = event.to_dict()
        assert Decimal(written["quantity"]) == row.quantity
        assert "E" not in written["quantity"]
        json.dumps(written)


@pytest.mark.parametrize(
    ("dimensions", "written"),
    [
        ('{"a": 1e5000}', {"a": "1" + 5000 * "0"}),
        ('{"a": 0.0000001, "b": 1.50, "c": 0.5}', {"a": "0.0000001", "b": "1.50", "c": 0.5}),
        ("[" * 3000 + "]" * 3000, "[" * 3000 + "]" * 3000),
        ('{"a": ' * 101 + "1" + "}" * 101, '{"a": ' * 101 + "1" + "}" * 101),
        ("null", None),
        ('["a"]', ["a"]),
    ],
    ids=["huge", "fractions", "deep", "nested", "null", "array"],
)
def test_no_event_s_dimensions_keep_the_page_from_being_shown(
    events_database_url: str, events_connection: ddl.Connection, own: list[Row], dimensions: str, written: Any
) -> None:
    generated_events.insert(events_connection, [replace(own[0], dimensions=dimensions)])
    with connect(events_database_url) as store:
        page = store.events()
    assert page.to_dict()["data"][0]["dimensions"] == written
    json.dumps(page.to_dict(), allow_nan=False)
    assert len(page.frame) == 1


def test_the_frame_has_every_column_typed_even_when_empty(store: Store) -> None:
    full = store.events(EventQuery(limit=5)).frame
    empty = store.events(EventQuery(metric_key="nothing")).frame
    assert len(empty) == 0
    assert (full.dtypes == empty.dtypes).all()
    assert str(full["timestamp"].dtype) == "datetime64[us, UTC]"
    assert all(isinstance(value, Decimal) for value in full["quantity"])


def test_the_answer_has_the_documented_envelope(store: Store) -> None:
    page = store.events(EventQuery(limit=2)).to_dict()
    assert page.keys() == {"data", "pagination", "hints"}
    assert page["pagination"].keys() == {"cursor", "has_more", "limit"}
    assert page["pagination"]["has_more"] is True
    last = store.events(EventQuery(metric_key="nothing")).to_dict()
    assert last == {"data": [], "pagination": {"cursor": None, "has_more": False, "limit": 25}, "hints": []}


def test_an_organization_is_never_guessed_nor_granted(store: Store, everyone: Store) -> None:
    assert set(everyone.organizations()) == {generated_events.ORGANIZATION, generated_events.NEIGHBOUR}
    assert store.organizations() == (generated_events.ORGANIZATION,)
    with pytest.raises(ScopeError, match="holds 2 organizations; choose one"):
        everyone.events()
    with pytest.raises(ScopeError) as foreign:
        store.events(EventQuery(organization_id=generated_events.NEIGHBOUR))
    with pytest.raises(ScopeError) as unknown:
        store.events(EventQuery(organization_id=uuid4()))
    assert str(foreign.value).split(" is ")[1] == str(unknown.value).split(" is ")[1]
    assert everyone.events(EventQuery(organization_id=generated_events.NEIGHBOUR)).events


def test_pickers_count_what_is_there(store: Store, own: list[Row]) -> None:
    from collections import Counter

    metrics = Counter(row.metric_key for row in own)
    assert {choice.value: choice.events for choice in store.metric_keys()} == metrics
    keys = Counter(key for row in own for key, value in json.loads(row.dimensions).items() if value is not None)
    assert {choice.value: choice.events for choice in store.dimension_keys()} == keys
    models = Counter(text for row in own if (text := query_oracle.group_text(row, "dim:model")) is not None)
    assert {choice.value: choice.events for choice in store.dimension_values("model")} == models
    volume = [choice.events for choice in store.customers(EventQuery(occurred_after=utc(2026, 1, 1)))]
    assert volume == sorted(volume, reverse=True)
    for wrong in ("custmer_id", "none"):
        with pytest.raises(QueryError, match="group_by"):
            store.values(wrong)


def test_every_dimension_key_that_can_be_picked_can_be_asked_for(
    events_database_url: str, events_connection: ddl.Connection, own: list[Row]
) -> None:
    generated_events.insert(
        events_connection, [replace(own[0], dimensions='{"": 1, " ": 2, "a:b": 3, "100%": 4, "k\\\\": 5}')]
    )
    with connect(events_database_url) as store:
        keys = [choice.value for choice in store.dimension_keys()]
        assert keys == [" ", "100%", "a:b", "k\\"]
        for key in keys:
            assert store.count(EventQuery(exclude={"missing": f"dim:{key}"})) == 1


def test_a_store_shows_no_password() -> None:
    shown = repr(connect("postgresql://me:secret@127.0.0.1/db?password=secret", generated_events.ORGANIZATION))
    assert "secret" not in shown
    assert "127.0.0.1/db" in shown


def test_the_extent_is_the_first_and_last_event(store: Store, own: list[Row]) -> None:
    assert store.extent() == (min(row.timestamp for row in own), max(row.timestamp for row in own))


def test_a_page_far_from_the_newest_event_reads_as_much_as_the_first(connection: ddl.Connection) -> None:
    """In both directions: the index is read from the cursor on, not from the newest or the oldest event."""
    table, organization_id = events_table(), uuid4()
    ddl.ensure_schema(connection, table.name)
    connection.execute(
        f"INSERT INTO {table.name} (id, organization_id, customer_id, metric_key, quantity, timestamp, ingested_at,"
        " idempotency_key, dimensions) SELECT gen_random_uuid(), %s, gen_random_uuid(), 'requests', 1, at, at, number,"
        " '{}' FROM generate_series(1, 20000) AS number, LATERAL (SELECT '2026-01-01Z'::timestamptz + number *"
        " interval '1 minute' AS at) AS moment",
        [organization_id],
    )
    connection.execute(f"ANALYZE {table.name}".encode())
    connection.execute("SET LOCAL enable_seqscan = off")
    connection.execute("SET LOCAL enable_sort = off")
    query = EventQuery(organization_id=organization_id)
    middle = Position(utc(2026, 1, 1) + timedelta(minutes=10_000), UUID(int=0))
    first, after, before = (
        _blocks(connection, statements.to_sql(statement))
        for statement in (
            statements.page(table, query, 100),
            statements.page(table, query, 100, middle),
            statements.page_before(table, query, 100, middle),
        )
    )
    assert after <= first + 10
    assert before <= first + 10


def _blocks(connection: ddl.Connection, statement: str) -> int:
    row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".encode()).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
