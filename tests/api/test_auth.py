"""The HTTP door with keys: each opens one organization and nothing else, at every address, until it is revoked."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import schemathesis

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, asking
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.access import api_keys
from usage_explore.access.allow_list import People
from usage_explore.access.api_keys import Keyring
from usage_explore.api import endpoints
from usage_explore.api.auth import Access
from usage_explore.api.lookups import LOOKUPS
from usage_explore.remote import operations, wire

WINDOW = {"since": "2011-01-01T00:00:00Z", "until": "2026-12-01T00:00:00Z", "bucket": "week"}
PINNED = {**WINDOW, "as_of": "2026-11-04T00:00:00Z"}
NEEDED = {
    operations.CHOICES: {"group": "metric_key"},
    operations.EXPLANATION: {"since": "2026-03-01T00:00:00Z", "until": "2026-11-01T00:00:00Z"},
    operations.NAMES: {"text": "a"},
    operations.SEARCH: {"text": "a"},
}
QUESTIONS: dict[str, dict[str, str]] = {
    EVENTS: {},
    AGGREGATE: WINDOW,
    f"{AGGREGATE}.png": WINDOW,
    f"{AGGREGATE}.svg": WINDOW,
    EXPORT: {},
    **{lookup.path: NEEDED.get(lookup.path, {}) for lookup in LOOKUPS if lookup.path != operations.PREVIOUS},
}
OPEN = ("/healthz", "/readyz", "/openapi.json")
BOTH = (generated_events.ORGANIZATION, generated_events.NEIGHBOUR)


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys.json")


@pytest.fixture
def door(everyone: Store, ring: Keyring) -> Iterator[httpx.Client]:
    with asking(everyone, access=Access(ring)) as client:
        yield client


@pytest.fixture
def keys(ring: Keyring) -> dict[UUID, dict[str, str]]:
    """For each of two organizations the header that opens it."""
    return {each: bearer(ring.create(each, "test")) for each in BOTH}


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def refused(answer: httpx.Response) -> dict[str, Any]:
    """The 401's body without what differs from request to request."""
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert "Authorization" in answer.headers["vary"]
    return {name: value for name, value in answer.json().items() if name != "request_id"} if answer.content else {}


@pytest.mark.parametrize("path", QUESTIONS)
def test_absent_wrong_and_revoked_are_one_answer(door: httpx.Client, ring: Keyring, path: str) -> None:
    assert (
        door.get(path, params=QUESTIONS[path] | {"organization_id": str(generated_events.ORGANIZATION)}).status_code
        == 200
    )
    text, other = ring.create(generated_events.ORGANIZATION, "a"), ring.create(generated_events.NEIGHBOUR, "b")
    good = door.get(path, params=QUESTIONS[path], headers=bearer(text))
    assert good.status_code == 200
    ring.revoke(text.split("_")[1])
    offered: list[dict[str, str]] = [
        {},
        bearer(text),
        bearer(f"ue_{other.split('_')[1]}_{text.split('_', 2)[2]}"),
        bearer(other[:-1]),
        bearer(other + "x"),
        bearer("ue_" + "0" * 8 + "_nothing"),
        {"Authorization": "Bearer"},
        bearer("é" * 20),
        bearer("x" * 20_000),
        {"Authorization": f"Basic {other}"},
        {"Authorization": other},
        {"Cookie": f"key={other}"},
    ]
    said = [refused(door.get(path, params=QUESTIONS[path], headers=_latin(each))) for each in offered]
    assert all(each == said[0] for each in said)
    twice = [("Authorization", f"Bearer {other}"), ("Authorization", f"Bearer {other}")]
    assert refused(door.get(path, headers=twice)) == said[0]
    assert refused(door.get(path, params={"nonsense": "1"})) == said[0], "what is wrong with a question is not told"
    assert refused(door.get(path, params={"key": other})) == said[0]
    assert not refused(door.head(path))
    assert door.get(path, params=QUESTIONS[path], headers={"Authorization": f"bearer {other}"}).status_code == 200


def _latin(headers: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode("latin-1") for name, value in headers.items()}


def test_whether_the_process_is_well_is_told_without_a_key(door: httpx.Client, keys: Any) -> None:
    for path in OPEN:
        assert door.get(path).status_code == 200
    assert door.get("/nothing").status_code == 404
    assert str(generated_events.ORGANIZATION) not in door.get("/openapi.json").text


def test_each_key_sees_its_own_rows_and_no_others(
    door: httpx.Client, keys: dict[UUID, dict[str, str]], generated: list[Row]
) -> None:
    for organization_id, header in keys.items():
        own = {str(row.id) for row in generated if row.organization_id == organization_id}
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = door.get(EVENTS, params={"limit": "100", **cursor}, headers=header).json()
            seen += [each["id"] for each in page["data"]]
            if not page["pagination"]["has_more"]:
                break
            cursor = {"cursor": page["pagination"]["cursor"]}
        assert len(seen) == len(own)
        assert set(seen) == own
        total = door.get(AGGREGATE, params=WINDOW, headers=header).json()["series"][0]["total"]
        assert total == len(own)
        lines = door.get(EXPORT, headers=header).text.splitlines()
        assert {line.split(",", 1)[0].strip('"') for line in lines[1:]} == own
        named = door.get(AGGREGATE, params=WINDOW | {"organization_id": str(organization_id)}, headers=header)
        assert named.json()["series"][0]["total"] == total


@pytest.mark.parametrize("path", QUESTIONS)
def test_not_yours_and_not_existing_are_one_answer(
    door: httpx.Client, keys: dict[UUID, dict[str, str]], path: str
) -> None:
    said = []
    for claim in (generated_events.NEIGHBOUR, uuid4()):
        answer = door.get(
            path, params=QUESTIONS[path] | {"organization_id": str(claim)}, headers=keys[generated_events.ORGANIZATION]
        )
        assert answer.status_code == 403
        assert str(claim) not in answer.text
        said.append(
            (
                {name: value for name, value in answer.json().items() if name != "request_id"},
                {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")},
            )
        )
    assert json.dumps(said[0][0]) == json.dumps(said[1][0])
    assert said[0][1] == said[1][1]


def test_a_neighbours_cursor_and_ids_find_nothing(
    door: httpx.Client, keys: dict[UUID, dict[str, str]], generated: list[Row]
) -> None:
    theirs = door.get(EVENTS, params={"limit": "2"}, headers=keys[generated_events.NEIGHBOUR]).json()
    cursor = theirs["pagination"]["cursor"]
    for path in (EVENTS, EXPORT):
        answer = door.get(path, params={"cursor": cursor}, headers=keys[generated_events.ORGANIZATION])
        assert answer.status_code == 400
        assert [each["parameter"] for each in answer.json()["errors"]] == ["cursor"]
        assert not any(each["id"] in answer.text for each in theirs["data"])


def test_a_pinned_answer_is_its_askers_alone(door: httpx.Client, keys: dict[UUID, dict[str, str]]) -> None:
    mine = door.get(AGGREGATE, params=PINNED, headers=keys[generated_events.ORGANIZATION])
    theirs = door.get(AGGREGATE, params=PINNED, headers=keys[generated_events.NEIGHBOUR])
    assert mine.headers["etag"] != theirs.headers["etag"]
    for answer in (mine, theirs):
        assert answer.headers["cache-control"].startswith("private")
        assert "Authorization" in answer.headers["vary"]
    tag = {"If-None-Match": mine.headers["etag"]}
    assert door.get(AGGREGATE, params=PINNED, headers=keys[generated_events.ORGANIZATION] | tag).status_code == 304
    assert door.get(AGGREGATE, params=PINNED, headers=keys[generated_events.NEIGHBOUR] | tag).status_code == 200
    refused(door.get(AGGREGATE, params=PINNED, headers=tag))


def test_two_organizations_at_once_never_meet(
    door: httpx.Client, keys: dict[UUID, dict[str, str]], generated: list[Row]
) -> None:
    own = {each: {str(row.id) for row in generated if row.organization_id == each} for each in BOTH}
    as_of = datetime.fromisoformat(PINNED["as_of"])
    known = {each: sum(row.organization_id == each and row.ingested_at <= as_of for row in generated) for each in BOTH}

    def ask(number: int) -> None:
        organization_id = BOTH[number % 2]
        if number % 3:
            page = door.get(EVENTS, params={"limit": "50"}, headers=keys[organization_id]).json()
            assert {each["id"] for each in page["data"]} <= own[organization_id]
            assert {each["organization_id"] for each in page["data"]} == {str(organization_id)}
        else:
            found = door.get(AGGREGATE, params=PINNED, headers=keys[organization_id]).json()
            assert found["series"][0]["total"] == known[organization_id] > 0

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(60)))


def test_revoking_takes_effect_at_the_next_request(door: httpx.Client, ring: Keyring) -> None:
    text, other = ring.create(generated_events.ORGANIZATION, "a"), ring.create(generated_events.ORGANIZATION, "b")
    assert door.get(EVENTS, headers=bearer(text)).status_code == 200
    ring.revoke(text.split("_")[1])
    refused(door.get(EVENTS, headers=bearer(text)))
    assert door.get(EVENTS, headers=bearer(other)).status_code == 200
    ring.revoke(other.split("_")[1])
    refused(door.get(EVENTS, headers=bearer(other)))
    refused(door.get(EVENTS))


@pytest.mark.parametrize("media_type", ["text/csv", wire.ARROW])
def test_revoking_ends_an_export_that_runs(
    door: httpx.Client, ring: Keyring, monkeypatch: pytest.MonkeyPatch, media_type: str
) -> None:
    """It went on to its end, of 388 MB, which a slow reader reaches after hours."""

    def pages(*_: object, **__: object) -> Iterator[bytes]:
        yield from [b"x" * 100_000] * 1_000

    monkeypatch.setattr(Store, "export_csv", pages)
    monkeypatch.setattr(Store, "export_arrow", pages)
    monkeypatch.setattr(endpoints, "_ACCESS_CHECK_SECONDS", 0.0)
    plain = {"Accept": media_type, "Accept-Encoding": "identity"}
    other, text = ring.create(generated_events.NEIGHBOUR, "b"), ring.create(generated_events.ORGANIZATION, "a")
    with door.stream("GET", EXPORT, headers={**bearer(text), **plain}) as answer:
        received = answer.iter_raw()
        chunks = [next(received)]
        ring.revoke(text.split("_")[1])
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            chunks.extend(received)
    assert (b"# error: " in chunks[-1]) == (media_type == "text/csv")
    assert door.get(EVENTS, headers=bearer(other)).status_code == 200, "it counts as no wrong key"
    with door.stream("GET", EXPORT, headers={**bearer(other), **plain}) as answer:
        assert sum(map(len, answer.iter_raw())) == 100_000_000


def test_a_key_never_widens_what_the_server_shows(everyone: Store, ring: Keyring) -> None:
    text = ring.create(generated_events.NEIGHBOUR, "b")
    with asking(everyone.scoped(generated_events.ORGANIZATION), access=Access(ring)) as client:
        for path, parameters in QUESTIONS.items():
            answer = client.get(path, params=parameters, headers=bearer(text))
            assert answer.status_code == 403
            assert str(generated_events.ORGANIZATION) not in answer.text


def test_a_damaged_keyring_lets_nobody_in(door: httpx.Client, ring: Keyring) -> None:
    text = ring.create(generated_events.ORGANIZATION, "a")
    ring.path.write_text("{")
    for headers in ({}, bearer(text)):
        answer = door.get(EVENTS, headers=headers)
        assert answer.status_code == 500
        assert "The server's configuration is invalid" in answer.text
        assert str(ring.path) not in answer.text
    assert door.get("/healthz").status_code == 200


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_server_without_free_files_is_busy_not_wrongly_configured(
    door: httpx.Client, keys: dict[UUID, dict[str, str]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A right key got 500 "The server's configuration is invalid"; a wrong one is not let in either."""

    def opened(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(api_keys, "open", opened, raising=False)
    for headers in (keys[generated_events.ORGANIZATION], {}, {"Authorization": "Bearer ue_0a1b2c3d_wrong"}):
        answer = door.get(EVENTS, headers=headers)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["detail"] == "The server has too many open files; try again shortly."


def test_where_people_sign_in_the_door_needs_a_key(everyone: Store, ring: Keyring, tmp_path: Path) -> None:
    table = tmp_path / "people.toml"
    with asking(everyone, access=Access(ring, People(table))) as client:
        assert client.get(EVENTS, params={"organization_id": str(generated_events.ORGANIZATION)}).status_code == 200
        table.write_text("")
        refused(client.get(EVENTS, params={"organization_id": str(generated_events.ORGANIZATION)}))
        assert client.get(EVENTS, headers=bearer(ring.create(generated_events.ORGANIZATION, "a"))).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "127.0.0.1@evil", "", "10.0.0.1", "[::2]"],
)
def test_without_keys_a_name_made_to_lead_here_is_turned_away(door: httpx.Client, ring: Keyring, host: str) -> None:
    question = {"organization_id": str(generated_events.ORGANIZATION)}
    for path, parameters in QUESTIONS.items():
        answer = door.get(path, params=parameters | question, headers={"Host": host})
        assert answer.status_code == 421
        assert answer.headers["content-type"] == "application/problem+json"
    key = bearer(ring.create(generated_events.ORGANIZATION, "a"))
    assert door.get(EVENTS, headers=key | {"Host": "usage.example"}).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8600", "LOCALHOST", "[::1]:8600"])
def test_without_keys_this_machine_is_answered(door: httpx.Client, host: str) -> None:
    question = {"organization_id": str(generated_events.ORGANIZATION)}
    assert door.get(EVENTS, params=question, headers={"Host": host}).status_code == 200


def test_without_keys_who_comes_through_a_proxy_is_turned_away(door: httpx.Client) -> None:
    question = {"organization_id": str(generated_events.ORGANIZATION)}
    answer = door.get(EVENTS, params=question, headers={"X-Forwarded-For": "203.0.113.9"})
    assert answer.status_code == 421


def test_the_document_says_whether_keys_are_needed(door: httpx.Client, ring: Keyring) -> None:
    before = door.get("/openapi.json").json()
    assert before["security"] == [{"key": []}, {}]
    ring.create(generated_events.ORGANIZATION, "a")
    document = door.get("/openapi.json").json()
    schemathesis.openapi.from_dict(document).validate()
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, by_method in document["paths"].items():
        for operation in by_method.values():
            own = [{"metrics_key": []}, {}] if path == "/metrics" else None
            assert operation.get("security") == ([] if path in OPEN else own)
            assert ("401" in operation["responses"]) == (path not in OPEN)
