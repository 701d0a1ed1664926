"""The filter picker: its fields, the values with their numbers of events, and the filters that it makes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from support.app_pages import Open
from support.demo_database import ACME, WINDOW
from usage_explore import AggregateQuery, EventQuery, Store, formatting
from usage_explore.app import query_edits
from usage_explore.errors import QueryError

LINK = {"organization_id": ACME, **WINDOW, "group_by": "metric_key"}
OWN = {"quantity", "arrived", "id", "idempotency_key"}


def shown(app: AppTest, field: str | None) -> Any:
    """What the open picker's list of values, or without a field that of fields, is drawn from."""
    app.session_state["add_filter 0"], app.session_state["filter_field"] = True, field
    app.run()
    assert not app.exception
    drawn = [each.proto for each in app.get("bidi_component")]
    lists = [json.loads(proto.json) for proto in drawn if proto.component_name == "usage_explore_picker"]
    assert [bool(data["field"]) for data in lists] == [False, True][: 1 if field is None else 2]
    return lists[-1]


@pytest.mark.parametrize("page", ["explore", "events", "validate"])
def test_every_field_of_a_filter_is_offered(request: pytest.FixtureRequest, store: Store, page: str) -> None:
    link = {"organization_id": ACME, **({"window": "2026-09"} if page == "validate" else {})}
    rows = shown(request.getfixturevalue(page)(**link), None)["rows"]
    dimensions = {f"dim:{key.value}" for key in store.scoped(ACME).dimension_keys()}
    columns = {name for name in EventQuery.model_fields if name.endswith(("_key", "_currency", "_id"))} | {"id"}
    columns -= {"organization_id"}
    # a billing period is validated whole: it has no filters on single events
    own = OWN if page != "validate" else set()
    assert {row["id"] for row in rows} == dimensions | (columns - OWN) | own
    assert len({row["name"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    "field",
    ["metric_key", "customer_id", "dim:region", pytest.param("external_cost_currency", marks=pytest.mark.thorough)],
)
def test_values_have_the_events_that_match_the_other_filters(explore: Open, store: Store, field: str) -> None:
    others = {"dim:model": "atlas-large"}
    picked = {"metric_key": "images"} if field == "metric_key" else {}
    data = shown(explore(**LINK, **others, **picked), field)
    values = store.scoped(ACME).values(field, AggregateQuery.from_params({**LINK, **others}))
    expected = {f"={value}": f"{events:,}" for value, events in values}
    if picked:
        expected.setdefault("=images", "")
        assert (data["ticked"], data["action"]) == (["=images"], "only")
    if field not in ("metric_key", "customer_id"):
        missing = AggregateQuery.from_params({**LINK, **others, "missing": field})
        expected["missing"] = f"{store.scoped(ACME).aggregate(missing).total:,}"
    assert {row["id"]: row["count"] for row in data["rows"]} == expected
    for choice in values if field == "customer_id" else ():
        row = next(row for row in data["rows"] if row["id"] == f"={choice.value}")
        assert row["name"] == choice.name
        assert choice.value in row["find"]
    assert {row["id"] for row in data["rows"] if row["alone"]} == (
        set(expected) if field == "customer_id" else set(expected) & {"missing"}
    )


@pytest.mark.parametrize(
    ("given", "action", "made"),
    [
        ({}, "only", {"metric_key": ["b", "c"]}),
        ({"metric_key": ["a"]}, "not", {"exclude": {"metric_key": ["b", "c"]}}),
        ({"exclude": {"metric_key": ["a", "b"]}}, "not", {"exclude": {"metric_key": ["b", "c"]}}),
        (
            {"exclude": {"metric_key": ["a"], "dim:x": ["y"]}},
            "only",
            {"metric_key": ["b", "c"], "exclude": {"dim:x": "y"}},
        ),
    ],
)
def test_several_values_replace_those_of_the_field(given: Any, action: Any, made: Any) -> None:
    query = EventQuery(quantity_min="2", **given)
    edited = query_edits.with_values(query, "metric_key", ("b", "c"), action)
    assert edited == EventQuery(quantity_min="2", **made)


@pytest.mark.parametrize(
    ("values", "action", "made"),
    [
        ((None,), "only", {"missing": ["dim:x"]}),
        ((None,), "not", {"exclude": {"missing": ["dim:x"]}}),
        ((None, "a"), "not", {"exclude": {"missing": ["dim:x"], "dim:x": ["a"]}}),
        ((), "not", {}),
    ],
)
def test_missing_is_a_value_of_the_field(values: Any, action: Any, made: Any) -> None:
    for before in ({"dim:x": "b"}, {"missing": "dim:x"}, {"not:missing": "dim:x", "not:dim:x": "c"}):
        edited = query_edits.with_values(EventQuery.from_params(before), "dim:x", values, action)
        assert edited == EventQuery(**made)
        if values:
            assert query_edits.values_of(edited, "dim:x") == (
                action,
                tuple(sorted(values, key=lambda value: not value)),
            )


def test_missing_together_with_values_is_no_filter() -> None:
    with pytest.raises(QueryError, match="together with values"):
        query_edits.with_values(EventQuery(), "dim:x", ("a", None), "only")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"metric_key": ["images", "requests"]}, "metric_key"),
        ({"quantity_max": "5"}, "quantity"),
        ({"ingested_after": "2026-09-02T00:00:00Z"}, "arrived"),
        ({"idempotency_key": ["a", "b"]}, "idempotency_key"),
    ],
)
def test_a_chip_opens_the_picker_at_its_field(explore: Open, given: dict[str, Any], field: str) -> None:
    app = explore(**LINK, **given)
    name = next(iter(given))
    app.button(key=f"edit {name} is").click().run()
    assert not app.exception
    assert app.session_state["filter_field"] == field
    if field == "quantity":
        assert [each.value for each in app.text_input if each.label in ("at least", "at most")] == ["", "5"]
    if field == "idempotency_key":
        assert app.text_area[0].value == "a\nb"


def test_keys_one_a_line_become_a_filter(events: Open, store: Store) -> None:
    first, second = store.events(EventQuery(organization_id=ACME)).events[:2]
    app = events(organization_id=ACME)
    app.session_state["add_filter 0"], app.session_state["filter_field"] = True, "idempotency_key"
    app.run()
    app.text_area[0].set_value(f" {first.idempotency_key}\n\n{second.idempotency_key} ")
    next(button for button in app.button if button.label == "Apply").click().run()
    assert not app.exception
    query = EventQuery(organization_id=ACME, idempotency_key=[first.idempotency_key, second.idempotency_key])
    assert app.dataframe[0].value["Id"].tolist() == [str(event.id) for event in store.events(query).events]


def test_keys_one_a_line_are_excluded_and_their_chip_opens_them_again(events: Open, store: Store) -> None:
    first, second, third = store.events(EventQuery(organization_id=ACME)).events[:3]
    app = events(organization_id=ACME)
    app.session_state["add_filter 0"], app.session_state["filter_field"] = True, "id"
    app.run()
    app.text_area[0].set_value(f"{first.id}\n{second.id}")
    next(button for button in app.button if button.label == "Exclude").click().run()
    assert not app.exception
    assert app.dataframe[0].value["Id"].tolist()[0] == str(third.id)
    app.button(key="edit id is not").click().run()
    assert sorted(app.text_area[0].value.split()) == sorted([str(first.id), str(second.id)])
    app.text_area[0].set_value(str(first.id))
    next(button for button in app.button if button.label == "Exclude").click().run()
    assert app.dataframe[0].value["Id"].tolist()[0] == str(second.id)
    app.button(key="chip id is not").click().run()
    assert app.dataframe[0].value["Id"].tolist()[0] == str(first.id)


def test_quantities_are_bounded_exactly_and_a_wrong_one_is_explained(explore: Open, store: Store) -> None:
    app = explore(**LINK)
    app.session_state["add_filter 0"], app.session_state["filter_field"] = True, "quantity"
    app.run()

    def applied(**bounds: str) -> None:
        for label, value in bounds.items():
            next(each for each in app.text_input if each.label == label.replace("_", " ")).set_value(value)
        next(button for button in app.button if button.label == "Apply").click().run()
        assert not app.exception

    applied(at_least="1,5")
    assert any("is not a decimal such as 2.5" in each.value.replace("\\", "") for each in app.warning)
    assert "quantity_min" not in app.query_params
    applied(at_least="0.000000000000000001", at_most="12")
    bounds = {"quantity_min": "0.000000000000000001", "quantity_max": "12"}
    assert {name: app.query_params[name] for name in bounds} == bounds
    total = store.aggregate(AggregateQuery(**LINK, **bounds)).total
    assert any(formatting.counted(total, "event") in each.value for each in (*app.markdown, *app.caption))
    app.button(key="edit quantity_min is").click().run()
    applied(at_most="")
    assert "quantity_max" not in app.query_params
    assert app.query_params["quantity_min"] == bounds["quantity_min"]
