"""Cursors round-trip, and nothing but the very cursor under the very filters is taken."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.query_oracle import utc
from usage_explore import EventQuery, QueryError
from usage_explore.query.queries import Position, decode_cursor, encode_cursor

QUERY = EventQuery(organization_id=UUID(int=1), metric_key="tokens_in")
positions = st.builds(
    Position,
    timestamp=st.integers(-(10**15), 7 * 10**15).map(lambda micros: utc(1970, 1, 1) + timedelta(microseconds=micros)),
    id=st.uuids(),
)


@given(positions, st.integers(1, 100))
def test_a_cursor_round_trips_under_any_limit(position: Position, limit: int) -> None:
    assert decode_cursor(encode_cursor(position, QUERY), QUERY.replace(limit=limit)) == position


@given(positions, st.integers(0, 48), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: Position, place: int, change: int) -> None:
    cursor = encode_cursor(position, QUERY)
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[place % len(raw)] ^= change
    damaged = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(QueryError, match="cursor: is damaged"):
        decode_cursor(damaged, QUERY)


@given(st.text(max_size=80))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="cursor: is damaged"):
        decode_cursor(text, QUERY)


@pytest.mark.parametrize("micros", [2**63 - 1, -(2**63)])
def test_a_cursor_beyond_the_calendar_is_damaged(micros: int) -> None:
    body = base64.urlsafe_b64decode(encode_cursor(Position(utc(2026, 1, 1), UUID(int=7)), QUERY) + "==")[:-4]
    body = body[:1] + micros.to_bytes(8, signed=True) + body[9:]
    forged = base64.urlsafe_b64encode(body + hashlib.blake2b(body, digest_size=4).digest()).rstrip(b"=").decode()
    with pytest.raises(QueryError, match="cursor: is damaged"):
        decode_cursor(forged, QUERY)


@pytest.mark.parametrize("tail", ["=", "==", " ", "\n", "A", "%"])
def test_a_cursor_has_one_spelling(tail: str) -> None:
    cursor = encode_cursor(Position(utc(2026, 1, 1), UUID(int=7)), QUERY)
    with pytest.raises(QueryError, match="cursor: is damaged"):
        decode_cursor(cursor + tail, QUERY)


@pytest.mark.parametrize(
    "change",
    [
        {"organization_id": UUID(int=2)},
        {"metric_key": None},
        {"price_key": "p"},
        {"dimensions": {"model": "x"}},
        {"missing": ["dim:model"]},
        {"exclude": {"metric_key": "y"}},
        {"as_of": utc(2026, 1, 1)},
        {"occurred_after": utc(2026, 1, 1)},
        {"id": UUID(int=7)},
        {"idempotency_key": "k"},
        {"ingested_after": utc(2026, 1, 1)},
        {"ingested_before": utc(2026, 1, 1)},
        {"quantity_min": 1},
        {"quantity_max": 1},
    ],
)
def test_a_cursor_belongs_to_its_filters(change: dict[str, object]) -> None:
    cursor = encode_cursor(Position(utc(2026, 1, 1), UUID(int=7)), QUERY)
    with pytest.raises(QueryError, match="cursor: belongs to other filters"):
        decode_cursor(cursor, QUERY.replace(**change))
