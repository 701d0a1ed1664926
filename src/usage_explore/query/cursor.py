"""Where a page of events begins: the last row already seen, and which question it belongs to.

A cursor is URL-safe text over a version byte, the row's `timestamp` in microseconds, its `id`, a fingerprint of
organization and every filter (`as_of` included, `limit` not), and a checksum. It is a checksum, not a secret:
the organization always comes from who asks, never from a cursor.
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
_CHECKSUM = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Position:
    """A row's place in the order of pages."""

    timestamp: datetime
    id: UUID


def encode(position: Position, query: EventQuery) -> str:
    """The cursor for the rows after `position` under `query`, which must name its organization."""
    micros = (position.timestamp - _EPOCH) // _MICROSECOND
    body = _LAYOUT.pack(_VERSION, micros, position.id.bytes, _fingerprint(query))
    return base64.urlsafe_b64encode(body + _digest(body, _CHECKSUM)).rstrip(b"=").decode()


def decode(cursor: str, query: EventQuery) -> Position:
    """The position a cursor carries.

    Raises `QueryError` when it is damaged, or was made under another organization or other filters.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        body, checksum = raw[:-_CHECKSUM], raw[-_CHECKSUM:]
        version, micros, row, fingerprint = _LAYOUT.unpack(body)
        position = Position(_EPOCH + micros * _MICROSECOND, UUID(bytes=row))
        canonical = base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == cursor
    except (binascii.Error, struct.error, ValueError, OverflowError):
        raise _fault("is damaged; start again without it") from None
    if checksum != _digest(body, _CHECKSUM) or version != _VERSION or not canonical:
        raise _fault("is damaged; start again without it")
    if fingerprint != _fingerprint(query):
        raise _fault("belongs to other filters; repeat the filters it was made with, or start again without it")
    return position


def _fingerprint(query: EventQuery) -> bytes:
    filters = query.replace(limit=None, cursor=None)
    return _digest(repr(filters.to_params()).encode(), 8)


def _digest(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()


def _fault(message: str) -> QueryError:
    return QueryError([Fault("cursor", message)])
