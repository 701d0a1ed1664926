"""All events of a query from a server: the Arrow stream of its export, and a reader of it for files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import IOBase
from typing import Any, cast

import pyarrow as pa

from usage_explore.errors import ConfigurationError, DatabaseUnavailable
from usage_explore.query.queries import EventQuery
from usage_explore.query.url_params import Pairs
from usage_explore.remote import operations, wire
from usage_explore.remote.client import Client
from usage_explore.results import arrow
from usage_explore.results.arrow import DECIMALS
from usage_explore.results.frames import MAX_DECIMAL128_DIGITS, DecimalSpan


@dataclass(frozen=True, slots=True)
class Stream:
    """The batches of events of one export, newest first, and what the server said of them before the first one.

    It is an `EventReader` of `usage_explore.export`; names are columns of the stream.
    """

    reader: pa.RecordBatchReader
    schema: pa.Schema
    query: EventQuery
    total: int
    hints: tuple[str, ...]
    because: str | None
    exists_since: datetime | None

    @property
    def as_csv(self) -> bool:
        """Whether all values are text."""
        return False

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.schema.names)

    def measure(self) -> tuple[int, dict[str, DecimalSpan]]:
        """The number of events, and the digits of their decimals."""
        return self.total, {name: _span(self.schema.field(name)) for name in DECIMALS}

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """The events, some at a time."""
        return (pa.Table.from_batches([batch], self.schema).cast(schema) for batch in self.batches())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The batches. Raises `DatabaseUnavailable` if there are fewer than announced: the stream broke off."""
        read = 0
        try:
            for batch in self.reader:
                read += batch.num_rows
                yield batch.replace_schema_metadata(self.schema.metadata)
        except (pa.ArrowInvalid, OSError):
            raise _broken_off() from None
        if read != self.total:
            raise _broken_off()


@contextmanager
def opened_stream(client: Client, pairs: Pairs, query: EventQuery) -> Iterator[Stream]:
    """The stream of a query's events. Raises the exceptions of a local store, and `ConfigurationError`."""
    with client.stream(operations.EXPORT, pairs, wire.ARROW) as chunks:
        file = pa.PythonFile(cast("IOBase", _Chunks(chunks)), mode="r")
        try:
            reader = pa.ipc.open_stream(file)
            schema, facts = arrow.facts(reader.schema)
            since = facts["exists_since"]
            stream = Stream(
                reader=reader,
                schema=schema,
                query=EventQuery.from_params("?" + facts["query"]).replace(limit=query.limit),
                total=facts["total"],
                hints=tuple(facts["hints"]),
                because=facts["because"],
                exists_since=None if since is None else datetime.fromisoformat(since),
            )
        except (pa.ArrowInvalid, ValueError, KeyError, TypeError):
            raise ConfigurationError(
                "url: the server's export is no Arrow stream of events; install the same version on both"
            ) from None
        yield stream


class _Chunks:
    """Chunks of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b""
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """At most this many bytes; fewer only at the end."""
        parts, missing = [], size
        while missing:
            if not self._held and not (chunk := next(self._chunks, b"")):
                break
            held = self._held or chunk
            parts.append(held[:missing])
            self._held = held[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Nothing is left to close: the client closes the response."""
        self.closed = True


def _span(field: pa.Field[Any]) -> DecimalSpan:
    """The digits with which a column of decimals was written."""
    if pa.types.is_decimal(field.type):
        return DecimalSpan(field.type.scale, MAX_DECIMAL128_DIGITS - field.type.scale)
    finite = b"NaN" not in (field.metadata or {}).get(b"usage-explore", b"")
    return DecimalSpan(MAX_DECIMAL128_DIGITS, 1, finite)


def _broken_off() -> DatabaseUnavailable:
    return DatabaseUnavailable("the server ended its export before the last event; read it again")
