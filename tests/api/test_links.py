"""Short links over HTTP: made, listed and revoked by who may read the organization, and by no other site's page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from support.api_server import asking
from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.hostile_values import WORST
from support.plain_events import beside, event
from support.record_places import as_role
from usage_explore import AggregateQuery, Store
from usage_explore.access.api_keys import Keyring
from usage_explore.api.auth import Access
from usage_explore.api.links import MAX_BODY_BYTES
from usage_explore.db import ddl
from usage_explore.errors import LinkGone

NOW = datetime.now(UTC).replace(microsecond=0)
EVENTS = [event(NOW - timedelta(days=day), dimensions='{"model": "a"}') for day in range(2, 6)]
LINKS = "/v1/links"
PARAMS = "group_by=dim:model&since=-29d/d&chart=lines"


@pytest.fixture
def store(events_connection: ddl.Connection, events_database_url: str, tmp_path: Path) -> Iterator[Store]:
    events = [*EVENTS, *beside(EVENTS[:3])]
    with as_role("table", events_connection, events_database_url, tmp_path, events) as opened:
        yield opened


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    with asking(store) as opened:
        yield opened


def test_a_link_is_made_listed_and_revoked(client: httpx.Client, store: Store) -> None:
    made = client.post(LINKS, json={"params": PARAMS, "without_sign_in": True, "expires": "2199-01-01T00:00:00Z"})
    assert made.status_code == 201, made.text
    link = made.json()
    assert made.headers["location"] == link["url"] == f"{store.app_url}/s/{link['token']}"
    assert (link["by"], link["page"], link["without_sign_in"]) == ("local", "explore", True)
    assert (link["expires_at"], link["opened_at"]) == ("2199-01-01T00:00:00Z", None)
    kept = store.link(link["token"])
    assert isinstance(kept.query, AggregateQuery)
    assert (kept.query.group_by, kept.query.as_of is not None) == ("dim:model", True)
    assert ("chart", "lines") in kept.pairs()
    assert client.get(LINKS).json() == {"data": [link]}
    assert client.delete(f"{LINKS}/{link['token']}").status_code == 204
    assert client.get(LINKS).json() == {"data": []}
    with pytest.raises(LinkGone):
        store.link(link["token"])
    for token in (link["token"], "A" * 22, "x", *WORST[2:8]):
        answer = client.delete(f"{LINKS}/{quote(token[:200], safe='')}")
        assert answer.status_code in (410, 404), token
    gone = client.delete(f"{LINKS}/{'A' * 22}")
    assert (gone.status_code, gone.json()["type"]) == (410, "urn:usage-explore:problem:gone")


@pytest.mark.parametrize(
    ("body", "parameters"),
    [
        ({"page": "load"}, {"page"}),
        ({"nonsense": 1}, {"nonsense"}),
        ({"without_sign_in": "true"}, {"without_sign_in"}),
        ({"params": None, "expires": 5}, {"params", "expires"}),
        ({"params": "group_by=nonsense&bucket=x"}, {"group_by", "bucket"}),
        ({"params": "a#b"}, {"params"}),
        ({"params": "chart=evil&rank=x"}, {"chart", "rank"}),
        ({"params": "chart=lines&chart=area"}, {"chart"}),
        ({"params": "tab=x&span=1/2&series=nonsense"}, {"tab", "span", "series"}),
        ({"page": "validate", "params": "severity=x&finding=y&state=z"}, {"severity", "finding", "state"}),
        ({"expires": "2020-01-01T00:00:00Z"}, {"expires"}),
        ({"page": "events", "without_sign_in": True}, {"without_sign_in"}),
        ([], {"body"}),
    ],
)
def test_faults_are_named_and_nothing_is_kept(
    client: httpx.Client, store: Store, body: Any, parameters: set[str]
) -> None:
    answer = client.post(LINKS, json=body)
    assert answer.status_code == 400, answer.text
    assert {fault["parameter"] for fault in answer.json()["errors"]} == parameters
    assert store.links() == []


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ('{"params": "window=last_month", "without_sign_in": false, "without_sign_in": true}', "without_sign_in"),
        ('{"params": "x", "params": "window=last_month"}', "params"),
        ('{"expires": {"a": 1, "a": 2}}', "a"),
    ],
)
def test_a_field_that_is_given_twice_is_refused(client: httpx.Client, store: Store, body: str, parameter: str) -> None:
    answer = client.post(LINKS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["errors"] == [{"parameter": parameter, "message": "is given twice in the body; give it once"}]
    assert store.links() == []


def test_where_a_parameter_belongs_is_said(client: httpx.Client) -> None:
    def detail(query: str, body: Any) -> str:
        (fault,) = client.post(f"{LINKS}{query}", json=body).json()["errors"]
        return str(fault["message"])

    of_page = "a parameter of the page, such as organization_id, belongs into params of the body"
    assert detail("?organization_id=x", {}) == f"unknown parameter here; {of_page}"
    assert detail("?params=x", {}) == "unknown parameter here; it belongs into the JSON of the body"
    assert detail("", {"organization_id": "x"}) == f"unknown in the body; {of_page}"


def test_every_hostile_string_is_a_fault_or_a_link_that_opens(client: httpx.Client, store: Store) -> None:
    for text in WORST:
        params = str(httpx.QueryParams({"dim:model": text[:2_000]}))
        for body in ({"params": params}, {"params": text[:2_000]}, {"expires": text[:2_000]}):
            answer = client.post(LINKS, json=body)
            assert answer.status_code in (201, 400), answer.text
            if answer.status_code == 201:
                assert store.link(answer.json()["token"]).query.as_of is not None


def test_a_page_of_another_site_makes_and_revokes_nothing(client: httpx.Client, store: Store) -> None:
    made = store.share(AggregateQuery())
    for origin in ("https://evil.example", "null", "http://[", f"http://127.0.0.1.evil:{client.base_url.port}"):
        headers = {"Origin": origin}
        assert client.post(LINKS, json={}, headers=headers).status_code == 421
        assert client.delete(f"{LINKS}/{made.token}", headers=headers).status_code == 421
    assert client.post(LINKS, json={}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 421
    for form in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert client.post(LINKS, content=b"{}", headers={"Content-Type": form}).status_code == 415
    assert client.options(LINKS, headers={"Origin": "https://evil.example"}).status_code == 405
    assert "access-control-allow-origin" not in client.get(LINKS).headers
    assert store.links() == [made]
    own = {"Origin": str(client.base_url).removesuffix("/api/").rstrip("/")}
    assert client.post(LINKS, json={}, headers=own).status_code == 201


def test_a_body_is_bounded(client: httpx.Client) -> None:
    content = b'{"params": "' + b"a" * MAX_BODY_BYTES + b'"}'
    assert client.post(LINKS, content=content, headers={"Content-Type": "application/json"}).status_code == 413
    for content in (b"", b"{", b"\xff", b"[" * 100_000):
        assert client.post(LINKS, content=content, headers={"Content-Type": "application/json"}).status_code == 400


def test_methods_that_are_not_there(client: httpx.Client) -> None:
    answer = client.put(LINKS)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    answer = client.get(f"{LINKS}/{'A' * 22}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE")


def test_a_key_has_its_own_organizations_links_alone(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = Keyring(tmp_path / "keys.json")
    ours, theirs = (
        {"Authorization": f"Bearer {keyring.create(organization, name)}"}
        for organization, name in ((ORGANIZATION, "ours"), (NEIGHBOUR, "theirs"))
    )
    everyone = replace(store, organization_id=None)
    with caplog.at_level("INFO"), asking(everyone, access=Access(keyring)) as client:
        assert client.post(LINKS, json={}).status_code == 401
        assert client.get(LINKS).status_code == 401
        link = client.post(LINKS, json={}, headers=ours).json()
        assert (link["by"], link["organization_id"]) == ("ours", str(ORGANIZATION))
        assert client.get(LINKS, headers=theirs).json() == {"data": []}
        assert client.delete(f"{LINKS}/{link['token']}", headers=theirs).status_code == 410
        assert client.get(f"{LINKS}?organization_id={ORGANIZATION}", headers=theirs).status_code == 403
        assert client.get(f"{LINKS}?organization_id={uuid4()}", headers=theirs).status_code == 403
        body = {"params": f"organization_id={ORGANIZATION}"}
        assert client.post(LINKS, json=body, headers=theirs).status_code == 403
        assert client.get(f"{LINKS}?limit=1", headers=ours).status_code == 400
        assert client.get(f"{LINKS}?organization_id={ORGANIZATION}", headers=ours).json() == {"data": [link]}
        assert client.delete(f"{LINKS}/{link['token']}", headers=ours).status_code == 204
    logged = [str(record.__dict__) for record in caplog.records if record.name.startswith("usage_explore")]
    assert len(logged) == 11
    assert link["token"] not in "".join(logged)
