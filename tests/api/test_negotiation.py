"""The forms of an answer: JSON, CSV, pictures, compressed or not, kept or asked again."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from datetime import UTC, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import openpyxl
import pytest

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT
from support.query_oracle import Row
from usage_explore import AggregateQuery, EventQuery, Store, charts
from usage_explore.api.problems import Problem
from usage_explore.api.responses import best_offer
from usage_explore.errors import ScopeError
from usage_explore.results import frames

WINDOW = "since=2026-05-01T00:00:00Z&until=2026-11-10T00:00:00Z"
JSON, CSV = "application/json", "text/csv"
AS_OF = "as_of=2026-10-20T00:00:00Z"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("text/csv", CSV),
        ("TEXT/CSV; charset=UTF-8", CSV),
        ("text/*", CSV),
        ("text/csv, application/json", JSON),
        ("text/csv, application/json;q=0.9", CSV),
        ("application/json;q=0.5, text/csv;q=0.6", CSV),
        ("*/*, application/json;q=0", CSV),
        ("*/*;q=0.1, text/csv", CSV),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("application/json;q=1.5, text/csv;q=0.1", CSV),
        ("application/*;q=0.2, text/csv;q=0.3, application/json;q=0.4", JSON),
        ("text/csv;header=absent, application/json;q=0.1", JSON),
    ],
)
def test_the_client_ranks_the_forms(accept: str | None, form: str) -> None:
    assert best_offer(accept, (JSON, CSV)) == form


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "*/*;q=0", "json", "text/csv;q=x", ",;"])
def test_no_form_is_acceptable(accept: str) -> None:
    with pytest.raises(Problem, match="takes none"):
        best_offer(accept, (JSON, CSV))


def test_a_page_as_csv_is_the_exports_page(client: httpx.Client, store: Store, tmp_path: Path) -> None:
    store.export(EventQuery(), tmp_path / "all.csv", progress=False)
    exported = (tmp_path / "all.csv").read_bytes()
    header, _, _ = exported.partition(b"\n")
    found = [header + b"\n"]
    address: str | None = f"{EVENTS}?limit=100"
    while address:
        answer = client.get(address, headers={"Accept": CSV})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        first, _, rest = answer.content.partition(b"\n")
        assert first == header
        found.append(rest)
        address = str(answer.url.join(answer.links["next"]["url"])) if "next" in answer.links else None
    assert b"".join(found) == exported


def test_a_page_as_csv_and_as_json_go_on_at_the_same_place(client: httpx.Client) -> None:
    address = f"{EVENTS}?limit=3&metric_key=a%5C,b"
    links = [client.get(address, headers={"Accept": form}).links["next"]["url"] for form in (JSON, CSV)]
    assert links[0] == links[1]
    assert client.get(f"{EVENTS}?metric_key=nothing", headers={"Accept": CSV}).text.count("\n") == 1


def test_an_aggregate_as_csv_is_its_frame(client: httpx.Client, store: Store) -> None:
    query = f"{WINDOW}&group_by=dim:model&metric=sum_quantity&timezone=Europe/Berlin&bucket=week"
    answer = client.get(f"{AGGREGATE}?{query}", headers={"Accept": CSV})
    assert answer.content == frames.to_csv(store.aggregate(AggregateQuery.from_params(query)))
    assert len(list(csv.DictReader(io.StringIO(answer.text)))) > 100


def test_an_aggregate_as_excel_has_its_numbers(client: httpx.Client, store: Store) -> None:
    query = f"{WINDOW}&group_by=metric_key&timezone=Europe/Berlin&bucket=week"
    answer = client.get(f"{AGGREGATE}?{query}", headers={"Accept": XLSX})
    assert answer.headers["content-type"] == XLSX
    book = openpyxl.load_workbook(io.BytesIO(answer.content))
    expected = store.aggregate(AggregateQuery.from_params(query))
    values = [row[-1] for row in book["Long"].iter_rows(min_row=2, values_only=True)]
    assert values == [point.value for series in expected.series for point in series.points]
    assert client.get(f"{AGGREGATE}?{query}&escape_formulas=true", headers={"Accept": XLSX}).status_code == 400


def test_a_picture_says_whose_and_as_of_when(client: httpx.Client, store: Store) -> None:
    svg = client.get(f"{AGGREGATE}.svg?{WINDOW}&{AS_OF}&metric_key=tokens_in").text
    assert str(store.organization_id) in svg
    assert "metric is tokens_in" in svg
    assert "as of 20 Oct 2026 00:00, UTC" in re.sub(r"<[^>]*>", " ", svg)


def test_pictures_and_charts_have_the_colours_of_the_app(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value has the colour of its place among the most frequent ones of all events, whatever is filtered."""
    query = AggregateQuery.from_params(f"{WINDOW}&group_by=metric_key&metric_key=tokens_in")
    frequent = tuple(choice.value for choice in store.values("metric_key", most=charts.MAX_COLORS))
    assert store.frequent_values(query) == frequent
    assert len(frequent) > 2
    assert store.frequent_values(query.replace(group_by="none")) == ()
    given = []
    drawn = charts.chart
    monkeypatch.setattr(charts, "chart", lambda *args, **options: given.append(options) or drawn(*args, **options))
    assert client.get(f"{AGGREGATE}.svg", params=query.to_params()).status_code == 200
    answer = store.aggregate(query)
    answer.chart()
    answer.chart(frequent=["x"])
    assert [options["frequent"] for options in given] == [frequent, frequent, ["x"]]
    dataclasses.replace(answer, store=None).chart()
    assert "frequent" not in given[-1]


def test_frequent_values_are_counted_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    query = AggregateQuery.from_params(f"{WINDOW}&group_by=metric_key")
    expected = store.frequent_values(query)
    monkeypatch.setattr(type(store), "values", None)  # a second count would fail
    assert store.frequent_values(query) == expected
    with pytest.raises(ScopeError):
        store.restricted([uuid4()]).frequent_values(query)


@pytest.mark.parametrize("chart", ["bars", "lines", "area"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_link_can_be_a_picture(client: httpx.Client, chart: str, theme: str) -> None:
    query = f"{WINDOW}&group_by=metric_key&bucket=week&chart={chart}&theme={theme}"
    png, svg = client.get(f"{AGGREGATE}.png?{query}"), client.get(f"{AGGREGATE}.svg?{query}")
    assert png.headers["content-type"] == "image/png"
    assert png.content.startswith(b"\x89PNG")
    assert svg.headers["content-type"] == "image/svg+xml"
    assert svg.text.startswith("<svg")
    assert "tokens_in" in svg.text
    assert "sandbox" in svg.headers["content-security-policy"]
    assert ("#0e1117" in svg.text) == (theme == "dark")


def test_long_answers_are_compressed_for_those_who_take_it(client: httpx.Client) -> None:
    for path in (f"{EVENTS}?limit=100", f"{AGGREGATE}?{WINDOW}", f"{AGGREGATE}.svg?{WINDOW}&{AS_OF}", EXPORT):
        plain = client.get(path, headers={"Accept-Encoding": "identity"})
        packed = client.get(path, headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content
        for answer in (plain, packed):
            assert {"accept", "authorization", "accept-encoding"} <= {
                name.strip().lower() for name in answer.headers["vary"].split(",")
            }


@pytest.mark.parametrize(
    ("taken", "compressed"),
    [
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("*;q=0", False),
        ("*, gzip;q=0", False),
        ("", False),
        ("br", False),
        ("gzip;q=0.001", True),
        ("br, gzip", True),
        ("GZIP", True),
        ("*", True),
    ],
)
def test_who_refuses_gzip_gets_none(client: httpx.Client, taken: str, compressed: bool) -> None:
    for path in (f"{EVENTS}?limit=100&as_of={SETTLED}", EXPORT):
        answer = client.get(path, headers={"Accept-Encoding": taken})
        assert (answer.headers.get("content-encoding") == "gzip") == compressed
        assert answer.headers.get("etag", "-gzip" if compressed else "").rstrip('"').endswith("-gzip") == compressed


SETTLED = "2026-11-04T00:00:00Z"
"""A time after which events arrived."""


@pytest.mark.parametrize("query", [f"as_of={SETTLED}", f"as_of={SETTLED}&limit=100&metric_key=Other"])
def test_a_pinned_page_is_kept_for_ever(client: httpx.Client, query: str) -> None:
    for form in (JSON, CSV):
        _kept(client, f"{EVENTS}?{query}", form)


def test_a_pinned_aggregate_is_kept_for_ever(client: httpx.Client) -> None:
    for path, form in ((AGGREGATE, JSON), (AGGREGATE, CSV), (f"{AGGREGATE}.png", "*/*"), (f"{AGGREGATE}.svg", "*/*")):
        _kept(client, f"{path}?{WINDOW}&as_of={SETTLED}", form)


def _kept(client: httpx.Client, address: str, form: str) -> None:
    answer = client.get(address, headers={"Accept": form})
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    tag = answer.headers["etag"]
    assert tag.startswith('"')
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get(address, headers={"Accept": form, "If-None-Match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert (again.headers["etag"], again.headers["cache-control"]) == (tag, answer.headers["cache-control"])
        assert "authorization" in again.headers["vary"].lower()
    assert client.get(address, headers={"Accept": form, "If-None-Match": '"other"'}).content == answer.content


def test_other_bytes_have_another_tag(client: httpx.Client) -> None:
    address = f"{EVENTS}?as_of={SETTLED}"
    tags = {
        client.get(address, headers={"Accept": form, "Accept-Encoding": coding}).headers["etag"]
        for form in (JSON, CSV)
        for coding in ("gzip", "identity")
    }
    assert len(tags) == 4


@pytest.mark.parametrize(
    "address",
    [
        EVENTS,
        AGGREGATE,
        f"{AGGREGATE}?{WINDOW}",
        f"{AGGREGATE}?since=-30d&as_of={SETTLED}",
        f"{AGGREGATE}?since=2026-05-01T00:00:00Z&as_of={SETTLED}",
        f"{AGGREGATE}?window=last_month&as_of={SETTLED}",
        f"{EVENTS}?as_of=2199-01-01T00:00:00Z",
        f"{AGGREGATE}?{WINDOW}&as_of=2199-01-01T00:00:00Z",
        "/healthz",
        "/readyz",
    ],
)
def test_everything_else_is_asked_again(client: httpx.Client, address: str) -> None:
    answer = client.get(address, headers={"If-None-Match": "*"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


def test_what_has_not_settled_is_asked_again(client: httpx.Client, store: Store, own: list[Row]) -> None:
    last, now = max(row.ingested_at for row in own), store.now()
    for as_of, kept in (
        (last, True),
        (last + timedelta(microseconds=1), False),  # rows with times from then on may yet be written
        (now - store.settle - timedelta(seconds=5), False),
        (now - timedelta(seconds=60), False),
    ):
        word = as_of.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for address in (
            f"{EVENTS}?as_of={word}",
            f"{AGGREGATE}?{WINDOW}&as_of={word}",
            f"{AGGREGATE}.svg?{WINDOW}&as_of={word}",
        ):
            assert ("etag" in client.get(address).headers) == kept


def test_the_packages_pinned_link_is_kept_for_ever(client: httpx.Client, store: Store) -> None:
    query = store.aggregate(AggregateQuery.from_params("since=-30d")).url(pinned=True).partition("?")[2]
    assert "etag" in client.get(f"{AGGREGATE}?{query}").headers


def test_without_an_organization_nothing_is_kept(everyone: Store, stranger: httpx.Client, client: httpx.Client) -> None:
    address = f"{EVENTS}?as_of={SETTLED}"
    assert "etag" in stranger.get(f"{address}&organization_id={generated_events.ORGANIZATION}").headers
    assert "etag" in client.get(address).headers
    assert "etag" not in stranger.get(address).headers


def test_every_answer_has_a_request_id(client: httpx.Client) -> None:
    for path in (EVENTS, "/nothing", "/healthz", f"{EVENTS}?x=1"):
        given = client.get(path, headers={"X-Request-ID": "abc-1.2_3"})
        assert given.headers["x-request-id"] == "abc-1.2_3"
        for wrong in ("", "a b", "x" * 65, "a/b"):
            made = client.get(path, headers={"X-Request-ID": wrong}).headers["x-request-id"]
            assert made not in ("", wrong)
        assert given.headers["x-content-type-options"] == "nosniff"
