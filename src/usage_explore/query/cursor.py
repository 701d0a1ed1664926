"""Cursors: the position of the last row of a page, and a fingerprint of the query that it belongs to.

A cursor is URL-safe base64 of a version byte, the row's `timestamp` in microseconds, its `id`, a fingerprint of
organization and every filter (`as_of` included, `limit` not), and a checksum. The checksum is not a secret: the
organization always comes from the query and is checked, never from a cursor.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from usage_explore.errors import Fault, QueryError
from usage_explore.query.queries import EventQuery

_VERSION = 1
_LAYOUT = struct.Struct(">Bq16s8s")
_CHECKSUM_BYTES = 4
_FINGERPRINT_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Position:
    """A row's position in the order of pages, by `timestamp` and `id`."""

    timestamp: datetime
    id: UUID


def encode(position: Position, query: EventQuery) -> str:
    """The cursor for the rows after `position` under `query`, which must name its organization."""
    micros = (position.timestamp - _EPOCH) // _MICROSECOND
    body = _LAYOUT.pack(_VERSION, micros, position.id.bytes, _fingerprint(query))
    return base64.urlsafe_b64encode(body + _digest(body, _CHECKSUM_BYTES)).rstrip(b"=").decode()


def decode(cursor: str, query: EventQuery) -> Position:
    """The position in a cursor.

    Raises `QueryError` if it is damaged, or belongs to another organization or other filters.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        body, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
        version, micros, row, fingerprint = _LAYOUT.unpack(body)
        position = Position(_EPOCH + micros * _MICROSECOND, UUID(bytes=row))
        canonical = base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == cursor
    except (binascii.Error, struct.error, ValueError, OverflowError):
        raise _fault("is damaged; start again without it") from None
    if checksum != _digest(body, _CHECKSUM_BYTES) or version != _VERSION or not canonical:
        raise _fault("is damaged; start again without it")
    if fingerprint != _fingerprint(query):
        raise _fault("belongs to other filters; repeat the filters it was made with, or start again without it")
    return position


def _fingerprint(query: EventQuery) -> bytes:
    filters = query.replace(limit=None, cursor=None)
    return _digest(repr(filters.to_params()).encode(), _FINGERPRINT_BYTES)


def _digest(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()


def _fault(message: str) -> QueryError:
    return QueryError([Fault("cursor", message)])
