"""A cursor that was tampered with, or that belongs elsewhere, leads nowhere; a forged one never out of the question."""

from __future__ import annotations

import string
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from support import generated_events, query_oracle
from support.api_server import EVENTS, EXPORT
from support.query_oracle import Row, utc
from usage_explore import EventQuery, QueryError, Store
from usage_explore.query.queries import Position, decode_cursor, encode_cursor

ALPHABET = string.ascii_letters + string.digits + "-_"
FILTERED = EventQuery(organization_id=generated_events.ORGANIZATION, metric_key="tokens_in", limit=2)


@pytest.fixture(scope="module")
def cursor(store: Store) -> str:
    found = store.events(FILTERED).cursor
    assert found
    return found


def refused(door: httpx.Client, cursor: str, path: str = EVENTS, **filters: str) -> None:
    answer = door.get(path, params={"metric_key": "tokens_in", **filters, "cursor": cursor})
    assert answer.status_code == 400, cursor
    assert [fault["parameter"] for fault in answer.json()["errors"]] == ["cursor"]


def test_no_changed_letter_is_taken(cursor: str) -> None:
    for place, letter in enumerate(cursor):
        for other in set(ALPHABET + "+/=% ") - {letter}:
            with pytest.raises(QueryError, match="cursor: is damaged"):
                decode_cursor(cursor[:place] + other + cursor[place + 1 :], FILTERED)


def test_nor_over_http(client: httpx.Client, cursor: str) -> None:
    for place, letter in enumerate(cursor):
        other = ALPHABET[(ALPHABET.index(letter) + 1) % len(ALPHABET)]
        refused(client, cursor[:place] + other + cursor[place + 1 :])
    for place in range(0, len(cursor) - 1, 3):
        swapped = cursor[:place] + cursor[place + 1] + cursor[place] + cursor[place + 2 :]
        if swapped != cursor:
            refused(client, swapped)
    for wrong in (
        cursor[:-1],
        cursor[1:],
        cursor * 2,
        cursor.swapcase(),
        cursor[::-1],
        "A" * 60_000,
        "0",
        f"{cursor} ",
    ):
        refused(client, wrong)
        refused(client, wrong, EXPORT)


def test_a_cursor_of_another_question_is_refused(client: httpx.Client, everyone: Store, cursor: str) -> None:
    for changes in (
        {"metric_key": "Other"},
        {"metric_key": "tokens_in,Other"},
        {"as_of": "2026-11-20T00:00:00Z"},
        {"occurred_after": "2026-01-01T00:00:00Z"},
        {"occurred_before": "2027-01-01T00:00:00Z"},
        {"customer_id": str(generated_events.CUSTOMERS[0])},
        {"dim:model": "large"},
        {"not:dim:model": "large"},
        {"missing": "dim:model"},
    ):
        refused(client, cursor, **changes)
    theirs = everyone.events(FILTERED.replace(organization_id=generated_events.NEIGHBOUR)).cursor
    assert theirs
    refused(client, theirs)
    answer = client.get(
        EVENTS, params={"cursor": theirs, "metric_key": "tokens_in", "organization_id": generated_events.NEIGHBOUR}
    )
    assert answer.status_code == 403


def test_a_forged_place_never_leads_out_of_the_question(client: httpx.Client, own: list[Row]) -> None:
    """The checksum is no secret: whoever makes a cursor of their own sees their own rows from there on."""
    question = FILTERED.replace(occurred_after=utc(2026, 5, 1), occurred_before=utc(2026, 6, 3))
    expected = query_oracle.newest_first(
        row for row in own if row.metric_key == "tokens_in" and utc(2026, 5, 1) <= row.timestamp < utc(2026, 6, 3)
    )
    for moment in (utc(1, 1, 1), utc(1970, 1, 1), utc(2026, 5, 31), utc(2026, 6, 2), utc(9999, 12, 31)):
        for row_id in (UUID(int=0), expected[0].id, UUID(int=2**128 - 1)):
            forged = encode_cursor(Position(moment + timedelta(microseconds=1), row_id), question)
            answer = client.get(EVENTS, params=[*question.to_params(), ("cursor", forged)])
            rest = [
                row
                for row in expected
                if (row.timestamp, row.id.int) < (moment + timedelta(microseconds=1), row_id.int)
            ]
            assert [event["id"] for event in answer.json()["data"]] == [str(row.id) for row in rest[:2]]
