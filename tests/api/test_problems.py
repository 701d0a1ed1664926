"""Every error is problem+json that names what is wrong and how to mend it, and gives nothing else away."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from starlette.requests import Request

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, LEADERBOARDS, asking, raw
from support.query_oracle import Row
from usage_explore import Store, connect
from usage_explore.access.logs import JsonLines
from usage_explore.api.problems import ProblemType, from_error
from usage_explore.api.service import pairs
from usage_explore.db import ddl
from usage_explore.db.engine import translated
from usage_explore.errors import QueryError, SettingsMismatch, TableMismatch
from usage_explore.query.limits import MAX_QUERY_STRING_BYTES

PICTURE = f"{AGGREGATE}.svg"
QUESTIONS = [EVENTS, AGGREGATE, PICTURE, f"{AGGREGATE}.png", EXPORT]
AWAY = "postgresql://nobody:s3cret@127.0.0.1:1/nowhere"


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()
    assert (answer.status_code, found["type"]) == (status, f"urn:usage-explore:problem:{kind}"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"] == found["request_id"]
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    assert set(found) <= {"type", "title", "status", "detail", "request_id", "errors"}
    return found


def faults(answer: httpx.Response) -> dict[str, str]:
    found = problem(answer, 400, "query")
    assert all(set(fault) == {"parameter", "message"} for fault in found["errors"])
    return {fault["parameter"]: fault["message"] for fault in found["errors"]}


def test_all_faults_are_reported_together(client: httpx.Client) -> None:
    found = faults(client.get(f"{EVENTS}?limit=0&custmer_id=1&metric_key=&occurred_after=2026-01-01"))
    assert set(found) == {"limit", "custmer_id", "metric_key", "occurred_after"}
    assert found["custmer_id"] == "unknown parameter, did you mean customer_id?"


@pytest.mark.parametrize(
    ("path", "query_string", "parameter", "said"),
    [
        (EVENTS, "limit=1&limit=2", "limit", "more than once"),
        (EVENTS, "customer_id", "customer_id", "blank"),
        (EVENTS, "cursor=abc", "cursor", "damaged"),
        (EVENTS, "metric_key=a,,b", "metric_key", "empty item"),
        (EVENTS, "occurred_after=2026-01-01T00:00:00+01:00", "occurred_after", "%2B"),
        (EVENTS, "metric_key=%ff", "query string", "UTF-8"),
        (EVENTS, "metric_key=%00", "metric_key", "NUL"),
        (EVENTS, "/x?metric_key=a", "/x?metric_key", "unknown"),
        (EVENTS, "http://x/?metric_key=a", "http://x/?metric_key", "unknown"),
        (EVENTS, "occurred_after=2026-02-01T00:00:00Z&occurred_before=2026-01-01T00:00:00Z", "occurred_after", "swap"),
        (EVENTS, "chart=bars", "chart", "unknown"),
        (AGGREGATE, "since=now&until=-1d", "", "window"),
        (AGGREGATE, "window=this_month&since=-1d", "since", "window"),
        (AGGREGATE, "window=2026-13", "window", "01 to 12"),
        (AGGREGATE, "quantity_min=2&quantity_max=1", "quantity_min", "is more than quantity_max"),
        (LEADERBOARDS, "quantity_min=2&quantity_max=1", "quantity_max", "is less than quantity_min"),
        (EVENTS, "id=abc", "id", "UUID"),
        (EVENTS, "idempotency_key=", "idempotency_key", "empty=idempotency_key"),
        (EVENTS, "ingested_after=2026-02-01T00:00:00Z&ingested_before=2026-01-01T00:00:00Z", "ingested_before", "swap"),
        (AGGREGATE, "group_by=dim:", "group_by", "dim:model"),
        (AGGREGATE, "top=-1", "top", "0 to 1000"),
        (AGGREGATE, "timezone=Mars", "timezone", "IANA"),
        (AGGREGATE, "theme=dark", "theme", "unknown"),
        (PICTURE, "theme=blue", "theme", "light, dark"),
        (PICTURE, "chart=bars&chart=area", "chart", "more than once"),
        (EXPORT, "limit=5", "limit", "unknown parameter here"),
        (EXPORT, "cursor=abc", "cursor", "damaged"),
    ],
)
def test_a_wrong_question(client: httpx.Client, path: str, query_string: str, parameter: str, said: str) -> None:
    found = faults(client.get(f"{path}?{query_string}"))
    assert any(name.startswith(parameter) and said in message for name, message in found.items()), found


@pytest.mark.parametrize(("query_string", "said"), [(b"metric_key=\xff", "UTF-8"), (b"metric_key=a#x", "%23")])
def test_raw_bytes_are_read_strictly(query_string: bytes, said: str) -> None:
    with pytest.raises(QueryError, match=f"query string: .*{said}"):
        pairs(Request({"type": "http", "query_string": query_string}))


def test_a_question_may_be_long(client: httpx.Client) -> None:
    many = "&".join(f"not:dim:model=value-{number}" for number in range(1_000))
    assert client.get(f"{EVENTS}?limit=1&{many}").status_code == 200


def test_too_long_a_question_is_refused(store: Store) -> None:
    with asking(store, request_line=200_000) as client:
        status, headers, body = raw(client, b"/v1/usage-events?metric_key=" + b"x" * MAX_QUERY_STRING_BYTES)
        assert (status, headers["content-type"]) == (414, "application/problem+json")
        assert "65,536" in json.loads(body)["detail"]
        assert raw(client, b"/v1/usage-events?metric_key=" + b"x" * 60_000)[0] == 200


def test_a_cursor_of_other_filters_or_another_organization(client: httpx.Client, stranger: httpx.Client) -> None:
    cursor = client.get(f"{EVENTS}?limit=1").json()["pagination"]["cursor"]
    for door, filters in ((client, "metric_key=Other"), (stranger, f"organization_id={generated_events.NEIGHBOUR}")):
        assert "other filters" in faults(door.get(f"{EVENTS}?limit=1&cursor={cursor}&{filters}"))["cursor"]


@pytest.mark.parametrize("path", QUESTIONS)
def test_a_missing_organization_is_no_default(stranger: httpx.Client, path: str) -> None:
    said = faults(stranger.get(path))["organization_id"]
    assert "is missing" in said
    assert not re.search(r"\d", said), "not even how many there are"


@pytest.mark.parametrize("path", QUESTIONS)
def test_not_yours_and_not_there_are_the_same(client: httpx.Client, stranger: httpx.Client, path: str) -> None:
    def said(door: httpx.Client, organization: object) -> dict[str, Any]:
        found = problem(door.get(f"{path}?organization_id={organization}"), 403, "forbidden")
        return {name: value for name, value in found.items() if name != "request_id"}

    nowhere = uuid4()
    assert said(client, generated_events.NEIGHBOUR) == said(client, nowhere) == said(stranger, nowhere)
    assert str(generated_events.NEIGHBOUR) not in str(said(client, generated_events.NEIGHBOUR))


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/usage-events/", "/v2/usage-events", "/docs", "/redoc", "/../x"])
def test_nothing_there(client: httpx.Client, path: str) -> None:
    problem(client.get(path), 404, "not-found")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", [*QUESTIONS, "/healthz", "/readyz", "/openapi.json"])
def test_everything_is_only_read(client: httpx.Client, path: str, method: str) -> None:
    answer = client.request(method, path)
    problem(answer, 405, "method")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", [*QUESTIONS, "/healthz", "/readyz"])
def test_nothing_acceptable(client: httpx.Client, path: str) -> None:
    problem(client.get(path, headers={"Accept": "application/xml"}), 406, "not-acceptable")


def test_a_database_that_is_away() -> None:
    with connect(AWAY) as away, asking(away) as client:
        for path in [*QUESTIONS, "/readyz"]:
            answer = client.get(path)
            problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert "s3cret" not in answer.text
            assert "127.0.0.1" not in answer.text
        assert client.get("/healthz").json() == {"state": "ok"}


def test_a_missing_table(database_url: str) -> None:
    with connect(database_url) as empty, asking(empty) as client:
        for path in [*QUESTIONS, "/readyz"]:
            answer = client.get(path)
            assert "usage-explore doctor" in problem(answer, 503, "mismatch")["detail"]


def test_tables_that_are_being_made(database_url: str) -> None:
    """In the first seconds of the demo: "A table does not fit", and to ask `doctor`."""
    with connect(database_url) as empty, asking(empty) as client, ddl.connect(database_url) as session:
        session.execute("SELECT set_config('application_name', 'usage-explore demo first 12/93', false)")
        session.commit()
        for path in [*QUESTIONS, "/readyz"]:
            answer = client.get(path)
            detail = problem(answer, 503, "unavailable")["detail"]
            assert detail == "The tables are being made, with demo data (12 of 93 days); wait, then try again."
            assert int(answer.headers["retry-after"]) > 0


def test_a_table_of_another_shape_is_not_ready(events_database_url: str, events_connection: ddl.Connection) -> None:
    with connect(events_database_url) as misfit, asking(misfit) as client:
        assert client.get("/readyz").json() == {"state": "ok"}
        events_connection.execute("ALTER TABLE usage_events ALTER quantity TYPE float8")
        events_connection.commit()
        problem(client.get("/readyz"), 503, "mismatch")


def test_what_the_database_holds_or_is_set_to_is_no_fault_of_the_server() -> None:
    """Both were 500 "Internal error"."""
    unreadable = from_error(
        translated(psycopg.DataError("date too small (before year 1): '0044-03-15 BC'"), broken=False)
    )
    assert (unreadable.type, "usage-explore doctor" in unreadable.detail) == (ProblemType.MISMATCH, True)
    assert "0044" not in unreadable.detail
    prices = from_error(TableMismatch.unreadable("public.usage_prices", ("SELECT",)))
    said = "The server's database role may not read the table public.usage_prices; its owner can grant it."
    assert (prices.type, prices.detail) == (ProblemType.MISMATCH, said)
    settings = from_error(SettingsMismatch("The setting a.b hides rows; reset it."))
    assert (settings.type, settings.detail) == (ProblemType.MISMATCH, "The setting a.b hides rows; reset it.")


def test_an_empty_table_has_no_organization(events_database_url: str) -> None:
    with connect(events_database_url) as empty, asking(empty) as client:
        assert client.get("/readyz").status_code == 200
        assert "is missing" in faults(client.get(EVENTS))["organization_id"]


def test_a_statement_that_takes_too_long(events_database_url: str, slow: Callable[[str], None]) -> None:
    slow(events_database_url)
    store = connect(events_database_url, generated_events.ORGANIZATION, table="slow", statement_timeout=0.2)
    with store, asking(store) as client:
        for path in QUESTIONS:
            assert "narrow the window" in problem(client.get(path), 504, "timeout")["detail"]


def test_no_exact_sum(events_database_url: str, events_connection: ddl.Connection, own: list[Row]) -> None:
    infinite = replace(own[0], id=uuid4(), quantity=Decimal("Infinity"))
    generated_events.insert(events_connection, [infinite])
    since, until = (f"{own[0].timestamp + timedelta(days=days):%Y-%m-%dT00:00:00Z}" for days in (0, 1))
    window = f"since={since}&until={until}"
    with connect(events_database_url) as store, asking(store) as client:
        for path in (AGGREGATE, PICTURE):
            problem(client.get(f"{path}?{window}&metric=sum_quantity"), 409, "not-exact")
        assert client.get(f"{AGGREGATE}?{window}").status_code == 200
        assert client.get(EVENTS).json()["data"][0]["quantity"] == "Infinity"


def test_costs_in_several_currencies(
    events_database_url: str, events_connection: ddl.Connection, own: list[Row]
) -> None:
    made = [
        replace(
            own[0],
            id=uuid4(),
            external_cost_amount=Decimal(amount),
            external_cost_currency=currency,
            quantity=Decimal(4),
        )
        for amount, currency in (("1.50", "USD"), ("2", "EUR"), ("0.25", "USD"))
    ]
    generated_events.insert(events_connection, made)
    since, until = (f"{own[0].timestamp + timedelta(days=days):%Y-%m-%dT00:00:00Z}" for days in (0, 1))
    window = f"since={since}&until={until}"
    with connect(events_database_url) as store, asking(store) as client:
        for path in (AGGREGATE, PICTURE, LEADERBOARDS):
            found = faults(client.get(f"{path}?{window}&metric=sum_cost"))
            assert "USD (2 events) and EUR (1 event); choose one" in found["external_cost_currency"]
        assert "not one of" in faults(client.get(f"{LEADERBOARDS}?{window}&metric=unit_cost"))["metric"]
        assert set(faults(client.get(f"{AGGREGATE}?{window}&external_cost_currencies=USD"))) == {
            "external_cost_currencies"
        }
        answer = client.get(f"{AGGREGATE}?{window}&metric=unit_cost&external_cost_currency=USD").json()
        assert (answer["currency"], answer["filters"]) == ("USD", {"external_cost_currency": ["USD"]})
        assert answer["series"][0]["total"] == "0.21875"
        grouped = client.get(f"{AGGREGATE}?{window}&metric=sum_cost&group_by=external_cost_currency").json()
        assert grouped["currency"] is None
        assert [(series["key"], series["total"]) for series in grouped["series"]][:2] == [("EUR", "2"), ("USD", "1.75")]
        assert client.get(f"{PICTURE}?{window}&metric=sum_cost&group_by=external_cost_currency").status_code == 200


def test_a_fault_of_ours_shows_nothing_of_it(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def scope(*_: object) -> Store:
        raise RuntimeError("the secret inside")

    with asking(store, access=scope) as client:
        for path in QUESTIONS:
            answer = client.get(path, headers={"X-Request-ID": "find-me"})
            assert problem(answer, 500, "internal")["request_id"] == "find-me"
            assert "secret" not in answer.text
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.message == "request"]
    assert [line["request_id"] for line in lines] == ["find-me"] * len(QUESTIONS)
    assert all(line["level"] == "error" and "the secret inside" in line["trace"] for line in lines)


def test_too_many_points_for_a_picture(client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_explore.api.endpoints.MAX_PICTURE_POINTS", 10)
    assert "more than 10" in faults(client.get(f"{PICTURE}?since=2026-05-01T00:00:00Z"))["top"]


def test_an_export_wants_http_1_1(client: httpx.Client) -> None:
    status, _, body = raw(client, b"/v1/usage-events/export", version=b"1.0")
    assert (status, json.loads(body)["type"]) == (505, "urn:usage-explore:problem:http-version")
    assert raw(client, b"/v1/usage-events", version=b"1.0")[0] == 200
