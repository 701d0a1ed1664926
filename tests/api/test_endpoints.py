"""The HTTP answer is the package's answer, for any question."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import generated_events, query_oracle
from support.api_server import AGGREGATE, EVENTS, EXPORT, LEADERBOARDS
from support.query_oracle import Row, utc
from support.random_filters import filters, with_filters
from support.thoroughness import cases
from usage_explore import AggregateQuery, EventQuery, LeaderboardQuery, Store

few = settings(max_examples=cases(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def got(client: httpx.Client, path: str, query_string: str = "") -> dict[str, Any]:
    answer = client.get(f"{path}?{query_string}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


@few
@given(chosen=filters(), limit=st.integers(1, 100))
def test_a_page_is_the_packages_page(
    client: httpx.Client, store: Store, chosen: dict[str, list[str]], limit: int
) -> None:
    query = with_filters(EventQuery, chosen).replace(limit=limit)
    assert got(client, EVENTS, query.query_string()) == store.events(query).to_dict()


@few
@given(
    chosen=filters(),
    bucket=st.sampled_from(["hour", "day", "week", "month"]),
    metric=st.sampled_from(["count", "sum_quantity"]),
    group_by=st.sampled_from(["none", "metric_key", "dim:model", "customer_id", "wallet_currency"]),
    top=st.integers(0, 5),
    scene=st.sampled_from(generated_events.SCENES),
    as_of=st.none() | st.just(utc(2026, 6, 3)),
    cumulative=st.booleans(),
    compare=st.sampled_from([None, "previous", "year", "2026-03-01T00:00:00Z/2026-03-04T00:00:00Z"]),
)
def test_an_aggregate_is_the_packages_aggregate(
    client: httpx.Client, store: Store, chosen: dict[str, list[str]], scene: tuple[str, datetime], **rest: Any
) -> None:
    zone, centre = scene
    window = {"since": centre - timedelta(days=2), "until": centre + timedelta(days=2), "timezone": zone}
    query = with_filters(AggregateQuery, chosen).replace(**window, **rest)
    assert got(client, AGGREGATE, query.query_string()) == store.aggregate(query).to_dict()


@pytest.mark.parametrize(
    "given", [{"metric": "count", "top": 1}, {"dimensions": {"region": "eu"}, "as_of": utc(2026, 6, 3)}]
)
def test_leaderboards_are_the_packages_leaderboards(client: httpx.Client, store: Store, given: dict[str, Any]) -> None:
    window = {"since": utc(2026, 5, 1), "until": utc(2026, 11, 10), "metric": "sum_quantity"}
    query = LeaderboardQuery(**{**window, **given})
    answer = got(client, LEADERBOARDS, query.query_string())
    assert answer == store.leaderboards(query).to_dict()
    boards = {board["group"]: board for board in answer["leaderboards"]}
    assert {"customer_id", "wallet_currency", "dim:model", "dim:region"} <= boards.keys()
    for board in boards.values():
        total = sum(Fraction(leader["total"]) for leader in board["leaders"])
        assert total == Fraction(answer["total"])
        assert len([leader for leader in board["leaders"] if leader["kind"] != "other"]) <= query.top


@pytest.mark.parametrize("parameter", ["bucket=day", "group_by=dim:model", "top=0", "top=51", "limit=5", "chart=bars"])
def test_a_leaderboard_refuses_other_parameters(client: httpx.Client, parameter: str) -> None:
    answer = client.get(f"{LEADERBOARDS}?{parameter}")
    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter.partition("=")[0]]


def test_an_aggregate_says_which_path_answered(client: httpx.Client) -> None:
    answer = client.get(AGGREGATE)
    assert re.fullmatch(r"(extract|events);dur=\d+\.\d", answer.headers["Server-Timing"])
    assert "Server-Timing" not in client.get(EVENTS).headers


@pytest.mark.parametrize("limit", [7, 100])
def test_pages_concatenate_to_the_unpaged_list(client: httpx.Client, own: list[Row], limit: int) -> None:
    found: list[str] = []
    address: str | None = f"{EVENTS}?limit={limit}"
    while address:
        answer = client.get(address)
        page = answer.json()
        found += [event["id"] for event in page["data"]]
        pagination = page["pagination"]
        assert pagination["limit"] == limit
        assert pagination["has_more"] == (pagination["cursor"] is not None)
        assert pagination["has_more"] == ("next" in answer.links)
        # the link is relative to the page it came with
        address = str(answer.url.join(answer.links["next"]["url"])) if pagination["has_more"] else None
    assert found == [str(row.id) for row in query_oracle.newest_first(own)]


def test_an_event_has_every_column_as_the_contract_says(client: httpx.Client, own: list[Row]) -> None:
    (event,) = got(client, EVENTS, "limit=1")["data"]
    row = query_oracle.newest_first(own)[0]
    assert event == {
        "id": str(row.id),
        "organization_id": str(generated_events.ORGANIZATION),
        "customer_id": str(row.customer_id),
        "product_id": row.product_id and str(row.product_id),
        "subscription_id": None,
        "metric_key": row.metric_key,
        "price_key": row.price_key,
        "quantity": event["quantity"],
        "timestamp": row.timestamp.isoformat().replace("+00:00", "Z"),
        "ingested_at": row.ingested_at.isoformat().replace("+00:00", "Z"),
        "idempotency_key": row.idempotency_key,
        "external_cost_amount": None,
        "external_cost_currency": None,
        "wallet_currency": row.wallet_currency,
        **dict.fromkeys(("customer_name", "product_name", "subscription_name", "organization_name")),
        "dimensions": json.loads(row.dimensions),
    }
    assert isinstance(event["quantity"], str)
    assert Decimal(event["quantity"]) == row.quantity
    UUID(event["id"])


def test_an_aggregate_echoes_the_question_as_it_took_effect(client: httpx.Client) -> None:
    answer = got(client, AGGREGATE, "metric_key=Other&metric_key=tokens_in&not:dim:model=large&since=-2d&top=3")
    assert set(answer) == {
        *("bucket", "group_by", "metric", "since", "until", "series"),
        *("timezone", "top", "as_of", "capped", "exists_since", "metrics", "unit", "filters", "hints"),
        *("cumulative", "compare", "comparison", "currency"),
    }
    assert (answer["bucket"], answer["group_by"], answer["metric"]) == ("day", "none", "count")
    assert (answer["timezone"], answer["top"], answer["as_of"], answer["capped"]) == ("UTC", 3, None, False)
    assert answer["filters"] == {"metric_key": ["Other", "tokens_in"], "not:dim:model": ["large"]}
    since, until = (datetime.fromisoformat(answer[name]) for name in ("since", "until"))
    assert until - since == timedelta(days=2)
    (series,) = answer["series"]
    assert set(series) == {"key", "kind", "label", "name", "total", "points"}
    assert (series["key"], series["kind"], series["label"]) == (None, "all", "All")
    point = series["points"][-1]
    assert set(point) == {"start", "end", "value", "complete"}
    assert point["complete"] is False
    assert datetime.fromisoformat(point["end"]) > datetime.now(UTC)


def test_a_comparison_is_in_the_answer_and_in_the_csv(client: httpx.Client) -> None:
    window = "since=2026-03-28T00:00:00Z&until=2026-03-31T00:00:00Z&metric=sum_quantity"
    answer = got(client, AGGREGATE, f"{window}&compare=2026-03-25T00:00:00Z/2026-03-27T00:00:00Z&cumulative=true")
    assert (answer["cumulative"], answer["compare"]) == (True, "2026-03-25T00:00:00Z/2026-03-27T00:00:00Z")
    found = answer["comparison"]
    assert (found["since"], found["until"]) == ("2026-03-25T00:00:00Z", "2026-03-27T00:00:00Z")
    (series,), (change,) = answer["series"], found["series"]
    assert change["points"][2] is None
    for point, other in zip(series["points"][:2], change["points"], strict=False):
        assert Fraction(point["value"]) - Fraction(other["value"]) == Fraction(other["change"])
    assert Fraction(series["total"]) - Fraction(change["total"]) == Fraction(change["change"])
    assert series["points"][-1]["value"] == series["total"]
    lines = client.get(f"{AGGREGATE}?{window}&compare=previous", headers={"Accept": "text/csv"}).text.splitlines()
    assert lines[0].endswith('"value","earlier_start","earlier","change"')
    refused = client.get(f"{AGGREGATE}?{window}&compare=yesterday&cumulative=1").json()
    assert {error["parameter"] for error in refused["errors"]} == {"compare", "cumulative"}


def test_a_capped_window_says_so(client: httpx.Client) -> None:
    answer = got(client, AGGREGATE, "bucket=hour&since=2026-01-01T00:00:00Z&until=2026-11-01T00:00:00Z")
    assert answer["capped"] is True
    assert len(answer["series"][0]["points"]) == 2_400
    assert answer["since"] == "2026-07-24T00:00:00Z"


def test_sums_are_exact_text_and_counts_are_integers(client: httpx.Client, store: Store) -> None:
    window = "since=2026-05-01T00:00:00Z&until=2026-11-10T00:00:00Z"
    summed = got(client, AGGREGATE, f"{window}&metric=sum_quantity")["series"][0]
    counted = got(client, AGGREGATE, window)["series"][0]
    exact = store.aggregate(AggregateQuery.from_params(f"{window}&metric=sum_quantity")).total
    assert Decimal(summed["total"]) == exact
    assert all(isinstance(point["value"], str) and "e" not in point["value"].lower() for point in summed["points"])
    assert all(isinstance(point["value"], int) for point in counted["points"])


def test_an_open_door_takes_the_organization_from_the_question(stranger: httpx.Client, everyone: Store) -> None:
    for organization in (generated_events.ORGANIZATION, generated_events.NEIGHBOUR):
        found = got(stranger, EVENTS, f"organization_id={organization}&limit=100")
        assert {event["organization_id"] for event in found["data"]} == {str(organization)}
        assert found == everyone.events(EventQuery(organization_id=organization, limit=100)).to_dict()


def test_head_answers_without_a_body(client: httpx.Client) -> None:
    for path in (EVENTS, AGGREGATE, EXPORT, "/healthz", "/readyz", "/openapi.json"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
