"""Text that a spreadsheet would run leaves every door exactly, or escaped where that was wanted."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from support.api_server import AGGREGATE, EVENTS, EXPORT, asking
from usage_explore import AggregateQuery, EventQuery, Store, connect
from usage_explore.cli.main import main
from usage_explore.db import ddl
from usage_explore.errors import ConfigurationError
from usage_explore.results import formulas, frames

ORGANIZATION = "0e0e0e0e-0000-4000-8000-000000000001"
ESCAPED = {
    '=HYPERLINK("http://example.com")': '\'=HYPERLINK("http://example.com")',
    "+cmd|' /C calc'!A0": "'+cmd|' /C calc'!A0",
    "@SUM(A1)": "'@SUM(A1)",
    "-1+1": "'-1+1",
    "\ttab": "'\ttab",
    "\rreturn": "'\rreturn",
    "'tis": "''tis",
    "-60": "-60",
    "a\rb": "a\rb",
    "plain": "plain",
    "plain;;=1;-60;'tis": "plain;;'=1;-60;''tis",
    "x\n=1\r\n-60\n\n+y;z": "x\n'=1\r\n-60\n\n'+y;z",
    'x;"=1+1;y\n" "@z': 'x;\'"=1+1;y\n\'" "@z',
    'x;"y"': 'x;"y"',
}
WINDOW = {"since": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z", "top": "100"}


@pytest.fixture
def store(events_connection: ddl.Connection, events_database_url: str) -> Iterator[Store]:
    for second, key in enumerate(ESCAPED):
        events_connection.execute(
            "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp,"
            " idempotency_key, dimensions) VALUES (gen_random_uuid(), %s, gen_random_uuid(), %s, -60, %s, %s, %s)",
            [ORGANIZATION, key, f"2026-03-01T00:00:{second:02d}Z", key, json.dumps({"model": key})],
        )
    events_connection.commit()
    with connect(events_database_url, organization_id=ORGANIZATION) as opened:
        yield opened


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    with asking(store) as opened:
        opened.headers["Accept"] = "text/csv"
        yield opened


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def expected(escaped: bool) -> list[str]:
    return [text if escaped else key for key, text in reversed(ESCAPED.items())]


@pytest.mark.parametrize("escaped", [False, True])
def test_events_in_python_over_http_and_on_the_command_line(
    store: Store, client: httpx.Client, events_database_url: str, tmp_path: Path, escaped: bool
) -> None:
    query = EventQuery()
    store.export(query, tmp_path / "python.csv", progress=False, escape_formulas=escaped)
    line = ["--database-url", events_database_url, "export", str(tmp_path / "line.csv")]
    result = CliRunner().invoke(main, line + ["--escape-formulas"] * escaped)
    assert result.exit_code == 0, result.output
    parameters = {"escape_formulas": "true"} if escaped else {}
    files = [
        (tmp_path / "python.csv").read_bytes(),
        (tmp_path / "line.csv").read_bytes(),
        store.events_csv(query, escape_formulas=escaped)[0],
        client.get(EVENTS, params=parameters).content,
        client.get(EXPORT, params=parameters).content,
    ]
    for content in files:
        found = read(content)
        assert [row["metric_key"] for row in found] == expected(escaped)
        assert [row["idempotency_key"] for row in found] == expected(escaped)
        assert {row["quantity"] for row in found} == {"-60"}
        if escaped:
            assert [formulas.original(row["metric_key"]) for row in found] == expected(False)


@pytest.mark.parametrize("escaped", [False, True])
def test_aggregates_in_python_and_over_http(store: Store, client: httpx.Client, escaped: bool) -> None:
    query = AggregateQuery(**WINDOW, group_by="dim:model", metric="sum_quantity", bucket="day")
    parameters = dict(query.to_params()) | ({"escape_formulas": "true"} if escaped else {})
    answer = client.get(AGGREGATE, params=parameters)
    assert answer.content == frames.to_csv(store.aggregate(query), escape_formulas=escaped)
    found = read(answer.content)
    for name in ("key", "label"):
        assert sorted(row[name] for row in found) == sorted(expected(escaped))
    assert {(row["value"], row["kind"]) for row in found} == {("-60", "value")}


def test_the_next_page_is_escaped_as_the_first(client: httpx.Client) -> None:
    answer = client.get(EVENTS, params={"escape_formulas": "true", "limit": "4"})
    found = read(answer.content)
    while "next" in answer.links:
        answer = client.get(str(answer.url.join(answer.links["next"]["url"])))
        found += read(answer.content)
    assert [row["metric_key"] for row in found] == expected(True)


@pytest.mark.parametrize("address", [EVENTS, AGGREGATE, f"{AGGREGATE}.png"])
def test_json_and_pictures_cannot_be_escaped(client: httpx.Client, address: str) -> None:
    answer = client.get(address, params={"escape_formulas": "true"}, headers={"Accept": "*/*"})
    assert answer.status_code == 400
    assert [each["parameter"] for each in answer.json()["errors"]] == ["escape_formulas"]


def test_another_word_is_an_error_beside_the_others(client: httpx.Client) -> None:
    answer = client.get(EXPORT, params={"escape_formulas": "yes", "limit": "5", "metric_ky": "x"})
    assert {each["parameter"] for each in answer.json()["errors"]} == {"escape_formulas", "limit", "metric_ky"}


def test_parquet_holds_no_formulas(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"escape_formulas: is for \.csv"):
        store.export(EventQuery(), tmp_path / "events.parquet", progress=False, escape_formulas=True)
    assert not list(tmp_path.iterdir())
