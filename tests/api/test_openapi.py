"""The OpenAPI document says what the questions declare and what the answers are, no more and no less."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, LEADERBOARDS, VALIDATIONS, asking
from support.thoroughness import THOROUGH, cases
from usage_explore import AggregateQuery, EventQuery, LeaderboardQuery, QueryError, Store
from usage_explore.api import openapi
from usage_explore.api.endpoints import Csv, View
from usage_explore.api.lookups import LOOKUPS
from usage_explore.query import buckets, validators
from usage_explore.query.base import Query
from usage_explore.query.filters import GROUPS
from usage_explore.remote import operations
from usage_explore.results.types import json_value

METHODS = {
    VALIDATIONS: {"get", "post"},
    f"{VALIDATIONS}/{{id}}": {"get", "delete"},
    operations.RATINGS: {"get", "post"},
    f"{operations.RATINGS}/{{id}}": {"get", "delete"},
    "/v1/links": {"get", "post"},
    "/v1/links/{token}": {"delete"},
}
PATHS = {EVENTS, AGGREGATE, f"{AGGREGATE}.png", f"{AGGREGATE}.svg", EXPORT, "/healthz", "/readyz", "/metrics", *METHODS}
QUESTIONS = {
    operations.CHOICES: "group=customer_id",
    operations.EXPLANATION: "since=2026-05-01T00:00:00Z&until=2026-11-10T00:00:00Z",
    operations.SEARCH: "text=a&since=2011-01-01T00:00:00Z",
    operations.NAMES: "text=a",
}
"""Parameters without which an operation has no answer."""

SPREAD = {"dimensions": "dim", "exclude": "not"}


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def parameters(document: dict[str, Any], path: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in document["paths"][path]["get"].get("parameters", [])}


def validator(document: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def test_the_document_is_openapi_3_1_and_complete(document: dict[str, Any], client: httpx.Client) -> None:
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == PATHS | {lookup.path for lookup in LOOKUPS}
    assert all(set(operations) == METHODS.get(path, {"get"}) for path, operations in document["paths"].items())
    assert document["servers"] == [{"url": "/api"}]
    schemathesis.openapi.from_dict(document).validate()


@pytest.mark.parametrize(
    ("path", "models", "without"),
    [
        (EVENTS, [EventQuery, Csv], set()),
        (AGGREGATE, [AggregateQuery, Csv], set()),
        (f"{AGGREGATE}.png", [AggregateQuery, View], set()),
        (f"{AGGREGATE}.svg", [AggregateQuery, View], set()),
        *((lookup.path, [lookup.query], set(lookup.without)) for lookup in LOOKUPS),
        (EXPORT, [EventQuery, Csv], {"limit"}),
    ],
)
def test_the_parameters_are_the_declared_fields(
    document: dict[str, Any], path: str, models: list[type[Query]], without: set[str]
) -> None:
    fields = {
        SPREAD.get(name, name): field
        for model in models
        for name, field in model.model_fields.items()
        if name not in without
    }
    found = parameters(document, path)
    assert set(found) == {*fields, *(["empty"] if "price_key" in fields else [])}
    for name, field in fields.items():
        parameter, schema = found[name], found[name]["schema"]
        assert (parameter["in"], parameter["required"]) == (
            "query",
            name == "group" or (path == operations.SEARCH and name == "text"),
        )
        assert parameter["description"] == field.description
        assert schema.get("default") == (json_value(field.default) or None if field.default != 0 else 0)
        bounds = {bound for each in field.metadata for bound in (getattr(each, "ge", None), getattr(each, "le", None))}
        assert {schema.get("minimum"), schema.get("maximum")} - {None} == bounds - {None}
        # a cursor cannot be made up
        assert ("examples" in schema) == (name != "cursor")
        for example in schema.get("examples", []):
            jsonschema.validate(example, schema, format_checker=jsonschema.FormatChecker())


def test_many_values_and_free_names(document: dict[str, Any]) -> None:
    found = parameters(document, EVENTS)
    for name in ("metric_key", "price_key", "wallet_currency", "external_cost_currency", "missing"):
        assert (found[name]["schema"]["type"], found[name]["explode"]) == ("array", True)
    for name, good, bad in (
        ("dim", {"dim:model": "large", "dim:a b": ""}, {"model": "large"}),
        ("not", {"not:missing": "dim:model", "not:dim:x": "", "not:customer_id": "…"}, {"not:limit": "5"}),
    ):
        schema = found[name]["schema"]
        assert (schema["type"], schema["additionalProperties"], found[name]["explode"]) == ("object", False, True)
        jsonschema.validate(good, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
        EventQuery.from_params(good if name == "dim" else {"not:missing": "dim:model", "not:dim:x": ""})


@given(
    st.from_regex(r"(now|-\d{0,7}[hdwm]?)(/[hdwmM])?", fullmatch=True)
    | st.sampled_from(["now/d", "-1h/h", "+1d", "-0d", "-30d/d/d", "NOW"])
)
def test_the_document_takes_the_relative_times_that_are_read(text: str) -> None:
    (schema,) = (each["schema"] for each in openapi.parameters(AggregateQuery) if each["name"] == "since")
    pattern = {"type": "string", "pattern": schema["anyOf"][1]["pattern"]}
    try:
        known = isinstance(validators.moment(text), str)
    except ValueError:
        known = False
    assert jsonschema.Draft202012Validator(pattern).is_valid(text) == known


@given(
    st.from_regex(r"(19[67]|2[012][09])\d-\d{1,2}", fullmatch=True)
    | st.sampled_from([*buckets.CALENDAR_WINDOWS, "next_week", "this_year", "2026", "2026-09-01", ""])
)
def test_the_document_takes_the_windows_that_are_read(text: str) -> None:
    (schema,) = (each["schema"] for each in openapi.parameters(LeaderboardQuery) if each["name"] == "window")
    assert jsonschema.Draft202012Validator(schema).is_valid(text) == accepts(LeaderboardQuery, window=text)


@given(
    st.from_regex(r"[+-]?\d{0,3}\.?\d{0,3}(e\d)?", fullmatch=True) | st.sampled_from(["NaN", "1,5", "-0", "Infinity"])
)
def test_the_document_takes_the_decimals_that_are_read(text: str) -> None:
    (schema,) = (each["schema"] for each in openapi.parameters(EventQuery) if each["name"] == "quantity_max")
    text = "".join(letter for letter in text if letter.isascii())
    assert jsonschema.Draft202012Validator(schema).is_valid(text) == accepts(EventQuery, quantity_max=text)


def accepts(model: type[Query], **given: str) -> bool:
    try:
        model(**given)
    except QueryError:
        return False
    return True


@pytest.mark.parametrize("group", ["none", *GROUPS, "dim:model", "dim:a b", "dim:", "Model", "metric", ""])
def test_the_document_takes_the_groups_that_are_read(group: str) -> None:
    (schema,) = (each["schema"] for each in openapi.parameters(AggregateQuery) if each["name"] == "group_by")
    try:
        known = bool(AggregateQuery(group_by=group))
    except ValueError:
        known = False
    except Exception:
        known = False
    assert jsonschema.Draft202012Validator(schema).is_valid(group) == known


def strict(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(map(strict, schema))
    if not isinstance(schema, dict):
        return True
    if "properties" in schema and not (schema.get("additionalProperties") is False and schema.get("required")):
        return False
    return all(map(strict, schema.values()))


def test_the_answers_are_described_strictly(document: dict[str, Any], client: httpx.Client) -> None:
    assert strict(document["components"]["schemas"])
    window = "since=2026-05-01T00:00:00Z&until=2026-11-10T00:00:00Z"
    for name, path in (
        ("EventPage", f"{EVENTS}?limit=100"),
        ("Aggregate", f"{AGGREGATE}?{window}&group_by=dim:model&top=2&as_of=2026-11-20T00:00:00Z"),
        ("Aggregate", f"{AGGREGATE}?{window}&metric=sum_quantity&missing=dim:region"),
        ("Aggregate", f"{AGGREGATE}?{window}&metric=sum_cost&external_cost_currency=USD"),
        ("Aggregate", f"{AGGREGATE}?{window}&metric=unit_cost&group_by=external_cost_currency"),
        ("Leaderboards", f"{LEADERBOARDS}?{window}&metric=sum_cost"),
        ("Aggregate", f"{AGGREGATE}?{window}&group_by=customer_id&compare=previous&cumulative=true"),
        ("Aggregate", f"{AGGREGATE}?since=2150-01-01T00:00:00Z&until=2150-02-01T00:00:00Z&compare=year"),
        ("Leaderboards", f"{LEADERBOARDS}?{window}&as_of=2026-11-20T00:00:00Z"),
        ("Leaderboards", f"{LEADERBOARDS}?{window}&metric=sum_quantity&dim:region=eu&top=1"),
        ("Leaderboards", f"{LEADERBOARDS}?metric_key=nothing"),
        ("Links", "/v1/links"),
        *(
            (lookup.schema, f"{lookup.path}?{QUESTIONS.get(lookup.path, '')}")
            for lookup in LOOKUPS
            if lookup.schema != "PreviousPage"
        ),
        ("Explanation", f"{operations.EXPLANATION}?{window}&expected=5&metric=sum_quantity"),
        ("Currencies", f"{operations.CURRENCIES}?metric_key=nothing"),
        ("Extent", f"{operations.EXTENT}?metric_key=nothing"),
        ("ValidationJobs", VALIDATIONS),
        ("State", "/healthz"),
        ("Problem", f"{EVENTS}?limit=0"),
        ("Problem", "/nothing"),
        ("Problem", f"{EVENTS}?organization_id={generated_events.NEIGHBOUR}"),
    ):
        answer = client.get(path).json()
        validator(document, name).validate(answer)
        assert not validator(document, name).is_valid({**answer, "more": 1})


def test_schemathesis_finds_nothing(store: Store, tmp_path: Path) -> None:
    """All checks but one, which cannot know which cursors and windows go together.

    The edges of each parameter, five sixths of the CPU, are left to a thorough run: tests/hostile tries parameters one
    by one, and the tests above compare them with the document.
    """
    command = [sys.executable, "-m", "schemathesis.cli", "run"]
    options = [
        "--checks=all",
        "--exclude-checks=positive_data_acceptance",
        f"--max-examples={cases(15)}",
        f"--phases=examples,fuzzing,stateful{',coverage' if THOROUGH else ''}",
        "--seed=1",
        "--no-color",
    ]
    with asking(store, request_line=4_194_304) as client:
        address = f"{client.base_url}openapi.json"
        done = subprocess.run([*command, address, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
