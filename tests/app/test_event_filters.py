"""Filters by an event's own values match the event, and their "not" does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from support import generated_events
from support.app_pages import Open
from support.billing_events import SINCE, event, store_of
from support.demo_database import ACME, WINDOW
from usage_explore import EventQuery, Store
from usage_explore.app import event_filters, grid, query_edits
from usage_explore.decimals import dimension_text, rfc3339
from usage_explore.names import NO_NAMES
from usage_explore.query.filters import GROUPS


def matches(store: Store, query: EventQuery, identity: Any) -> bool:
    return any(item.id == identity for item in store.events(query.replace(limit=100)))


def test_only_a_value_keeps_its_event_and_not_drops_it(store: Store) -> None:
    query = EventQuery(organization_id=ACME, occurred_after=datetime(2026, 9, 29, 20, tzinfo=UTC))
    (*_, last) = store.events(query)
    shown = event_filters.pairs(last)
    assert {group for group, _ in shown} == {*GROUPS, *(f"dim:{key}" for key in last.dimensions)}
    near = query.replace(occurred_after=last.timestamp, occurred_before=None)
    for group, value in shown:
        assert matches(store, query_edits.only(near, group, value).replace(id=last.id), last.id), group
        assert not matches(store, query_edits.without_value(near, group, value).replace(id=last.id), last.id), group


DIMENSIONS = '{"dim:model": "x", "text": "8", "number": 1.50, "zero": -0.0, "large": 123456789012345678901234567890,\
 "tiny": 1e-9, "flag": true, "null": null, "empty": "", "list": [1.50, "\\u0001\\n\\"é"], \
 "object": {"b": 1e-9, "a": {}}, "a,b": "c,d", "": "no key"}'


def test_values_of_every_json_type_match(events_database_url: str) -> None:
    with store_of(events_database_url, [event(0, SINCE, dimensions=DIMENSIONS)]) as store:
        query = EventQuery(organization_id=generated_events.ORGANIZATION)
        (one,) = store.events(query)
        shown = dict(event_filters.pairs(one))
        assert {"dim:number", "dim:null", "dim:a,b", "dim:empty"} < shown.keys()
        assert not {"dim:list", "dim:object", "dim:"} & shown.keys()
        for group, value in shown.items():
            assert store.count(query_edits.only(query, group, value)) == 1, group
            assert store.count(query_edits.without_value(query, group, value)) == 0, group


def test_cells_and_json_have_the_text_that_filters_compare(
    events_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "draw", lambda columns, **_: columns)
    compared = text("SELECT key, dimensions ->> key FROM usage_events, jsonb_object_keys(dimensions) AS key")
    with store_of(events_database_url, [event(0, SINCE, dimensions=DIMENSIONS)]) as store:
        (one,) = store.events(EventQuery(organization_id=generated_events.ORGANIZATION))
        with store.engine.connect() as connection:
            texts = dict(connection.execute(compared).all())
    written = json.loads(json.dumps(one.to_dict()["dimensions"]))
    assert (texts["number"], texts["zero"], texts["list"][:6]) == ("1.50", "0.0", "[1.50,")
    for key, value in texts.items():
        assert dimension_text(one.dimensions[key]) == value
        assert (written[key] if isinstance(written[key], str | None) else json.dumps(written[key])) == value, key
    columns = grid.events_table([one], "UTC", NO_NAMES)
    shown = {name.removeprefix("dim:"): column for name, column in columns.items() if name.startswith("dim:")}
    assert len(shown) == grid.MAX_DIMENSION_COLUMNS
    assert [shown["number"].values[0], shown["zero"].values[0], shown["text"].values[0]] == ["1.50", "0.0", "8"]


@pytest.mark.parametrize("document", ["[1, 2]", '"t"', "5", "null", '{"deep": ' + "[" * 120 + "]" * 120 + "}"])
def test_a_document_that_is_no_object_is_shown_as_text(
    events_database_url: str, monkeypatch: pytest.MonkeyPatch, document: str
) -> None:
    monkeypatch.setattr(grid, "draw", lambda columns, **_: columns)
    rows = [event(0, SINCE, dimensions=document), event(1, SINCE, dimensions='{"model": "x"}')]
    with store_of(events_database_url, rows) as store:
        (one, odd) = sorted(
            store.events(EventQuery(organization_id=generated_events.ORGANIZATION)),
            key=lambda each: each.id == rows[0].id,
        )
    columns = grid.events_table([one, odd], "UTC", NO_NAMES)
    assert [*columns["dim:model"].values] == ["x", None]
    shown = columns["Other dimensions"].values[1] if "Other dimensions" in columns else "null"
    assert shown == document.strip('"')
    assert {group for group, _ in event_filters.pairs(odd)} == {*GROUPS}


@pytest.mark.parametrize("page", ["events", "explore"])
def test_every_column_of_the_table_that_is_a_filter_offers_it(
    request: pytest.FixtureRequest, store: Store, page: str
) -> None:
    link = {"organization_id": ACME} | ({"group_by": "metric_key", **WINDOW} if page == "explore" else {})
    table = next(frame.value for frame in request.getfixturevalue(page)(**link).dataframe if "Id" in frame.value)
    one = next(iter(store.events(EventQuery(organization_id=ACME))))
    offered = {pair for column in table.columns for pair in event_filters.pairs_of_column(one, column)}
    assert offered == {*event_filters.pairs(one)}
    for column in ("Id", "Quantity", "Cost", "Ingested", "Idempotency key", "#"):
        assert event_filters.pairs_of_column(one, column) == []
    assert grid.group_of_column("Customer id") == grid.group_of_column("Customer") == "customer_id"


def test_an_open_event_lists_its_values(events: Open, store: Store) -> None:
    one = next(iter(store.events(EventQuery(organization_id=ACME))))
    app = events(organization_id=ACME, event=f"{rfc3339(one.timestamp)}/{one.id}")
    (table,) = boards(app)
    names = [row["name"] for row in table["rows"]]
    assert f"customer {one.customer_name}" in names
    assert f"metric {one.metric_key}" in names
    assert len(names) == len(event_filters.pairs(one))


def boards(app: AppTest) -> Any:
    drawn = [item.proto for item in app.get("bidi_component")]
    (one,) = (proto for proto in drawn if proto.component_name == "usage_explore_boards")
    return json.loads(one.json)["tables"]
